/**
 * The snapshot file, format 1: header, frames of memory, one index for each region, manifest, trailer.
 * `docs/architecture/snapshot-format.md` describes it.
 */
import { createHash } from "node:crypto";
import { UserError } from "../../../base/errors.ts";

/** Readers refuse a newer major version, and ignore what a newer minor version has added. */
export const formatVersion = { major: 1, minor: 0 } as const;

export const pageBytes = 4096;
/** Memory is stored by granules; one frame holds the stored pages of one granule. */
export const pagesPerGranule = 16;
export const granuleBytes: number = pageBytes * pagesPerGranule;
export const allPagesMask = 0xffff;

/** The line feeds show a file that was copied as text. */
const fileMagic = "RMSNAP\r\n";
const trailerMagic = "RMSNEND\n";
export const headerBytes = 16;
export const trailerBytes = 64;
const digestBytes = 32;

/** A compressed granule is never longer than this. */
export const maximumFrameBytes: number = granuleBytes + 1024;
/** Compressed and not. */
export const maximumManifestBytes: number = 64 << 20;

export function badSnapshot(path: string, what: string, cause?: unknown): UserError {
  return new UserError("BAD_SNAPSHOT", `The snapshot ${path} cannot be used: ${what}.`, { cause });
}

export function encodeHeader(): Uint8Array {
  const bytes = new Uint8Array(headerBytes);
  bytes.set(Buffer.from(fileMagic, "latin1"));
  const view = new DataView(bytes.buffer);
  view.setUint16(8, formatVersion.major, true);
  view.setUint16(10, formatVersion.minor, true);
  return bytes;
}

/** @throws UserError BAD_SNAPSHOT, SNAPSHOT_NEWER. */
export function checkHeader(path: string, bytes: Uint8Array): void {
  if (bytes.length < headerBytes || Buffer.from(bytes.subarray(0, fileMagic.length)).toString("latin1") !== fileMagic) {
    throw badSnapshot(path, "the file is not a snapshot");
  }
  const major = new DataView(bytes.buffer, bytes.byteOffset).getUint16(8, true);
  if (major === 0) throw badSnapshot(path, "its version is 0, which there never was");
  if (major > formatVersion.major) {
    throw new UserError("SNAPSHOT_NEWER", `The snapshot ${path} has format ${major}, and this Ringmaster reads up to format ${formatVersion.major}: use a newer Ringmaster.`);
  }
}

/** Where the manifest is, with a digest of its compressed bytes. */
export interface Trailer {
  readonly manifestOffset: number;
  readonly manifestBytes: number;
  readonly manifestDigest: Uint8Array;
}

export function digest(bytes: Uint8Array): Uint8Array {
  return createHash("sha256").update(bytes).digest();
}

export function encodeTrailer({ manifestOffset, manifestBytes, manifestDigest }: Trailer): Uint8Array {
  const bytes = new Uint8Array(trailerBytes);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(manifestOffset), true);
  view.setBigUint64(8, BigInt(manifestBytes), true);
  bytes.set(manifestDigest, 16);
  bytes.set(Buffer.from(trailerMagic, "latin1"), trailerBytes - trailerMagic.length);
  return bytes;
}

/** @throws UserError BAD_SNAPSHOT. */
export function decodeTrailer(path: string, bytes: Uint8Array, fileBytes: number): Trailer {
  const magic = Buffer.from(bytes.subarray(trailerBytes - trailerMagic.length)).toString("latin1");
  if (magic !== trailerMagic) throw badSnapshot(path, "its end is missing: the file was cut off, or something was added to it");
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const manifestOffset = Number(view.getBigUint64(0, true)), manifestBytes = Number(view.getBigUint64(8, true));
  if (manifestBytes > maximumManifestBytes || manifestOffset < headerBytes || manifestOffset + manifestBytes > fileBytes - trailerBytes) {
    throw badSnapshot(path, "its trailer is damaged");
  }
  return { manifestOffset, manifestBytes, manifestDigest: bytes.slice(16, 16 + digestBytes) };
}

// --- index of a region ---------------------------------------------------------------------------------------------

/** Words of an entry: granule; stored pages | zero pages << 16; length and offset of the frame, low and high. */
const entryWords = 5;
export const entryBytes: number = entryWords * 4;

/**
 * What the file says of one granule. Pages that are neither stored nor zero are the parent's; without a parent they are the
 * region's background. An entry with neither kind of page says that the granule is background whatever the parent has.
 */
export interface GranuleEntry {
  readonly granule: number;
  readonly storedPages: number;
  readonly zeroPages: number;
  readonly frameOffset: number;
  readonly frameBytes: number;
}

export function encodeIndex(entries: readonly GranuleEntry[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(entries.length * entryBytes));
  entries.forEach(({ granule, storedPages, zeroPages, frameOffset, frameBytes }, index) => {
    const at = index * entryBytes;
    view.setUint32(at, granule, true);
    view.setUint32(at + 4, (storedPages | (zeroPages << 16)) >>> 0, true);
    view.setUint32(at + 8, frameBytes, true);
    view.setUint32(at + 12, frameOffset % 2 ** 32, true);
    view.setUint32(at + 16, Math.floor(frameOffset / 2 ** 32), true);
  });
  return new Uint8Array(view.buffer);
}

/**
 * Entries by granule; all of them name frames that lie in the file before `framesEnd`.
 * @throws UserError BAD_SNAPSHOT.
 */
export function decodeIndex(path: string, bytes: Uint8Array, granuleCount: number, framesEnd: number): Map<number, GranuleEntry> {
  const entries = new Map<number, GranuleEntry>();
  if (bytes.length % entryBytes !== 0) throw badSnapshot(path, "an index is damaged");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let previous = -1;
  for (let at = 0; at < bytes.length; at += entryBytes) {
    const granule = view.getUint32(at, true), masks = view.getUint32(at + 4, true), frameBytes = view.getUint32(at + 8, true);
    const frameOffset = view.getUint32(at + 16, true) * 2 ** 32 + view.getUint32(at + 12, true);
    const storedPages = masks & allPagesMask, zeroPages = masks >>> 16;
    const isFrameSound = storedPages === 0
      ? frameBytes === 0
      : frameBytes > 0 && frameBytes <= maximumFrameBytes && frameOffset >= headerBytes && frameOffset + frameBytes <= framesEnd;
    if (granule <= previous || granule >= granuleCount || (storedPages & zeroPages) !== 0 || !isFrameSound) {
      throw badSnapshot(path, "an index is damaged");
    }
    entries.set(granule, { granule, storedPages, zeroPages, frameOffset, frameBytes });
    previous = granule;
  }
  return entries;
}

export function pageCount(mask: number): number {
  let count = 0;
  for (let bits = mask; bits !== 0; bits &= bits - 1) count++;
  return count;
}
