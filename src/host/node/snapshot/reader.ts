/** Opens snapshot files: checks them, and reads memory granule by granule, through the chain of parents. */
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { dirname, isAbsolute, join, resolve } from "node:path";
import { constants as zlibConstants, zstdDecompressSync } from "node:zlib";
import { UserError } from "../../../base/errors.ts";
import { type Json, noRegions, ShapeError } from "../../../base/shape.ts";
import {
  badSnapshot, checkHeader, decodeIndex, decodeTrailer, digest, entryBytes, type GranuleEntry, granuleBytes, headerBytes,
  maximumManifestBytes, pageBytes, pageCount, pagesPerGranule, trailerBytes,
} from "./layout.ts";
import { type Manifest, manifestShape, type RegionReference } from "./manifest.ts";

/** Longer chains are refused: each link costs time when memory is read. */
const maximumChainLength = 100;
/** The largest region is a disk of 16 TiB. */
const maximumGranules = 2 ** 28;
/** An index has at most so many granules of 64 KiB: 256 GiB of stored memory. */
const maximumEntries = 2 ** 22;

/** One region of one file. */
export class SnapshotRegion {
  readonly name: string;
  readonly sizeBytes: number;
  readonly entries: ReadonlyMap<number, GranuleEntry>;
  readonly parent: SnapshotRegion | undefined;
  readonly #file: OpenFile;

  constructor(file: OpenFile, { name, sizeBytes }: RegionReference, entries: ReadonlyMap<number, GranuleEntry>, parent: SnapshotRegion | undefined) {
    this.#file = file;
    this.name = name;
    this.sizeBytes = sizeBytes;
    this.entries = entries;
    this.parent = parent;
  }

  get granuleCount(): number {
    return Math.ceil(this.sizeBytes / granuleBytes);
  }

  /** Bit n: page n of the granule is zero or stored somewhere in the chain, rather than background. */
  definedPages(granule: number): number {
    const entry = this.entries.get(granule);
    if (entry === undefined) return this.parent?.definedPages(granule) ?? 0;
    const own = entry.storedPages | entry.zeroPages;
    return own === 0 ? 0 : own | (this.parent?.definedPages(granule) ?? 0);
  }

  /** Whether some file of the chain holds pages of this granule; the others are zero or background. */
  hasStoredPages(granule: number): boolean {
    const entry = this.entries.get(granule);
    if (entry === undefined) return this.parent?.hasStoredPages(granule) ?? false;
    if (entry.storedPages !== 0) return true;
    return entry.zeroPages !== 0 && (this.parent?.hasStoredPages(granule) ?? false);
  }

  /** Whether both take a granule from the same place of the same file; when not, it can be the same all the same. */
  isSame(granule: number, other: SnapshotRegion): boolean {
    const mine = this.#owner(granule), others = other.#owner(granule);
    return mine !== undefined && others !== undefined && mine.#file.isSame(others.#file) &&
      mine.entries.get(granule)?.frameOffset === others.entries.get(granule)?.frameOffset;
  }

  /** The youngest of the chain that has something of the granule. */
  #owner(granule: number): SnapshotRegion | undefined {
    if (this.entries.has(granule) || this.parent === undefined) return this.entries.has(granule) ? this : undefined;
    return this.parent.#owner(granule);
  }

  /** Granules that any file of the chain says something of, in no particular order. */
  granules(): Set<number> {
    return new Set([...this.entries.keys(), ...(this.parent?.granules() ?? [])]);
  }

  /**
   * Fills the pages of `target`, a whole granule, that are stored or zero; background is left as it is.
   * @throws UserError BAD_SNAPSHOT.
   */
  read(granule: number, target: Uint8Array): void {
    const entry = this.entries.get(granule);
    if (entry === undefined) {
      this.parent?.read(granule, target);
      return;
    }
    const { storedPages, zeroPages } = entry;
    if ((storedPages | zeroPages) === 0) return;
    // Pages of the parents' first: those of this file lie on top.
    if ((storedPages | zeroPages) !== 2 ** pagesPerGranule - 1) this.parent?.read(granule, target);
    const frame = storedPages === 0 ? undefined : this.#file.frame(entry);
    let at = 0;
    for (let page = 0; page < pagesPerGranule; page++) {
      const start = page * pageBytes;
      if ((storedPages >> page) & 1 && frame !== undefined) {
        target.set(frame.subarray(at, at + pageBytes), start);
        at += pageBytes;
      } else if ((zeroPages >> page) & 1) {
        target.fill(0, start, start + pageBytes);
      }
    }
  }

  /** The whole region; background is zero. */
  readAll(): Uint8Array {
    const bytes = new Uint8Array(this.sizeBytes);
    for (const granule of this.granules()) {
      if (!this.hasStoredPages(granule)) continue;
      const start = granule * granuleBytes;
      const whole = bytes.subarray(start, start + granuleBytes);
      if (whole.length === granuleBytes) {
        this.read(granule, whole);
        continue;
      }
      const last = new Uint8Array(granuleBytes);
      this.read(granule, last);
      whole.set(last.subarray(0, whole.length));
    }
    return bytes;
  }

  /** Reads every frame of this file, so that damage is found. */
  verify(): void {
    for (const entry of this.entries.values()) if (entry.storedPages !== 0) this.#file.frame(entry);
  }
}

/** A file of which bytes and frames are read. */
class OpenFile {
  readonly path: string;
  readonly sizeBytes: number;
  readonly #descriptor: number;
  readonly #identity: string;
  #isOpen = true;

  constructor(path: string) {
    this.path = path;
    this.#descriptor = openFile(path);
    const stats = fstatSync(this.#descriptor);
    this.sizeBytes = stats.size;
    this.#identity = `${stats.dev}:${stats.ino}`;
    if (!stats.isFile()) {
      this.close();
      throw badSnapshot(path, "it is not a file");
    }
  }

  isSame(other: OpenFile): boolean {
    return this.#identity === other.#identity;
  }

  close(): void {
    if (this.#isOpen) closeSync(this.#descriptor);
    this.#isOpen = false;
  }

  read(offset: number, sizeBytes: number): Uint8Array {
    const bytes = Buffer.allocUnsafe(sizeBytes);
    if (!this.#isOpen) throw badSnapshot(this.path, "it was closed");
    try {
      for (let done = 0; done < sizeBytes;) {
        const count = readSync(this.#descriptor, bytes, done, sizeBytes - done, offset + done);
        if (count === 0) throw badSnapshot(this.path, "the file was cut off");
        done += count;
      }
    } catch (cause) {
      if (cause instanceof UserError) throw cause;
      throw badSnapshot(this.path, `it cannot be read (${errorCode(cause)})`, cause);
    }
    return bytes;
  }

  /** The stored pages of a granule, one after the other. */
  frame({ granule, storedPages, frameOffset, frameBytes }: GranuleEntry): Uint8Array {
    const expectedBytes = pageCount(storedPages) * pageBytes;
    const pages = decompress(this.path, this.read(frameOffset, frameBytes), expectedBytes, `memory at granule ${granule}`);
    if (pages.length !== expectedBytes) throw badSnapshot(this.path, `memory at granule ${granule} is damaged`);
    return pages;
  }
}

/** An open snapshot with its parents. Memory is read when it is asked for, so it stays open for as long as a machine may need it. */
export class Snapshot implements Disposable {
  readonly path: string;
  readonly sizeBytes: number;
  readonly manifest: Manifest;
  readonly parent: Snapshot | undefined;
  readonly #file: OpenFile;
  readonly #regions: ReadonlyMap<string, SnapshotRegion>;

  private constructor(file: OpenFile, manifest: Manifest, parent: Snapshot | undefined) {
    this.path = file.path;
    this.sizeBytes = file.sizeBytes;
    this.manifest = manifest;
    this.parent = parent;
    this.#file = file;
    this.#regions = new Map(manifest.regions.map((reference) => [reference.name, readRegion(file, reference, parent?.region(reference.name))]));
  }

  /**
   * Opens and checks a snapshot and its parents; memory is checked when it is read.
   * @throws UserError FILE_NOT_FOUND, FILE_NOT_READABLE, BAD_SNAPSHOT, SNAPSHOT_NEWER.
   */
  static open(path: string): Snapshot {
    return openChain(path, [], (file, manifest, parent) => new Snapshot(file, manifest, parent));
  }

  region(name: string): SnapshotRegion | undefined {
    return this.#regions.get(name);
  }

  get regions(): SnapshotRegion[] {
    return [...this.#regions.values()];
  }

  /** Reads all of it, parents included, so that damage is found. */
  verify(): void {
    for (const region of this.regions) region.verify();
    this.parent?.verify();
  }

  close(): void {
    this.#file.close();
    this.parent?.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

type Create = (file: OpenFile, manifest: Manifest, parent: Snapshot | undefined) => Snapshot;

function openChain(path: string, children: readonly { readonly id: string; readonly path: string }[], create: Create): Snapshot {
  const file = new OpenFile(path);
  let parent: Snapshot | undefined;
  try {
    const manifest = readManifest(file);
    const { parent: reference, id } = manifest;
    const wanted = children.at(-1);
    if (wanted !== undefined && wanted.id !== id) {
      throw badSnapshot(path, "it was made anew since another one was based on it: of what that one had, a part is lost");
    }
    if (reference !== undefined) {
      const chain = [...children, reference];
      if (chain.length > maximumChainLength) throw badSnapshot(path, `its chain of parents is longer than ${maximumChainLength}`);
      const parentPath = isAbsolute(reference.path) ? reference.path : join(dirname(resolve(path)), reference.path);
      parent = openParent(path, parentPath, () => openChain(parentPath, chain, create));
    }
    return create(file, manifest, parent);
  } catch (error) {
    file.close();
    parent?.close();
    throw error;
  }
}

function openParent(path: string, parentPath: string, open: () => Snapshot): Snapshot {
  try {
    return open();
  } catch (error) {
    if (error instanceof UserError && error.code === "FILE_NOT_FOUND") {
      throw badSnapshot(path, `it is based on ${parentPath}, which is not there: put that one back`, error);
    }
    throw error;
  }
}

function openFile(path: string): number {
  try {
    // Not blocking, or a named pipe would hang us here.
    return openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    const code = errorCode(cause);
    if (code === "ENOENT" || code === "ENOTDIR") throw new UserError("FILE_NOT_FOUND", `There is no snapshot ${path}: check the path.`, { cause });
    throw new UserError("FILE_NOT_READABLE", `The snapshot ${path} cannot be read (${code}): check its permissions.`, { cause });
  }
}

function readManifest(file: OpenFile): Manifest {
  const { path, sizeBytes } = file;
  checkHeader(path, file.read(0, Math.min(headerBytes, sizeBytes)));
  if (sizeBytes < headerBytes + trailerBytes) throw badSnapshot(path, "the file was cut off");
  const trailer = decodeTrailer(path, file.read(sizeBytes - trailerBytes, trailerBytes), sizeBytes);
  const compressed = file.read(trailer.manifestOffset, trailer.manifestBytes);
  if (!Buffer.from(digest(compressed)).equals(trailer.manifestDigest)) throw badSnapshot(path, "its manifest is damaged");
  const text = decompress(path, compressed, maximumManifestBytes, "its manifest");
  try {
    return manifestShape.decode(JSON.parse(Buffer.from(text).toString("utf8")) as Json, "", noRegions);
  } catch (cause) {
    if (cause instanceof ShapeError) throw badSnapshot(path, `its manifest is wrong: ${cause.message}`, cause);
    throw badSnapshot(path, "its manifest is damaged", cause);
  }
}

function readRegion(file: OpenFile, reference: RegionReference, parent: SnapshotRegion | undefined): SnapshotRegion {
  const { name, sizeBytes, entries, indexOffset, indexBytes, indexDigest } = reference;
  const granuleCount = Math.ceil(sizeBytes / granuleBytes);
  const isSound = granuleCount <= maximumGranules && entries <= Math.min(granuleCount, maximumEntries) && indexOffset >= headerBytes && indexOffset + indexBytes <= file.sizeBytes;
  if (!isSound) throw badSnapshot(file.path, `the index of ${name} is damaged`);
  const compressed = file.read(indexOffset, indexBytes);
  if (!Buffer.from(digest(compressed)).equals(indexDigest)) throw badSnapshot(file.path, `the index of ${name} is damaged`);
  const index = decompress(file.path, compressed, entries * entryBytes, `the index of ${name}`);
  if (index.length !== entries * entryBytes) throw badSnapshot(file.path, `the index of ${name} is damaged`);
  const base = parent?.sizeBytes === sizeBytes ? parent : undefined;
  return new SnapshotRegion(file, reference, decodeIndex(file.path, index, granuleCount, indexOffset), base);
}

function decompress(path: string, bytes: Uint8Array, maximumBytes: number, what: string): Uint8Array {
  try {
    return zstdDecompressSync(bytes, {
      maxOutputLength: Math.max(maximumBytes, 1), chunkSize: granuleBytes, params: { [zlibConstants.ZSTD_d_windowLogMax]: maximumWindowLog },
    });
  } catch (cause) {
    throw badSnapshot(path, `${what} is damaged`, cause);
  }
}

/** Frames that want more memory than this to be decompressed are not ours. */
const maximumWindowLog = 27;

function errorCode(cause: unknown): string {
  return cause instanceof Error && "code" in cause ? String(cause.code) : "unknown error";
}
