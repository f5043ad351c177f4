/** Writes cpio archives of the "newc" form, the format of initial RAM file systems (Linux: Documentation/driver-api/early-userspace/buffer-format.rst). */
import { invariant } from "../base/errors.ts";
import { alignUp, encodeUtf8 } from "./bytes.ts";

/** One entry of an archive. `path` is relative to the root, without a leading slash. */
export type CpioEntry =
  | { readonly kind: "directory"; readonly path: string; readonly permissions?: number }
  | { readonly kind: "file"; readonly path: string; readonly permissions?: number; readonly bytes: Uint8Array }
  | { readonly kind: "symlink"; readonly path: string; readonly target: string }
  | { readonly kind: "character-device"; readonly path: string; readonly permissions?: number; readonly major: number; readonly minor: number };

const headerSizeBytes = 110;
const alignmentBytes = 4;

const fileTypeBits: Record<CpioEntry["kind"], number> = {
  directory: 0o040000,
  file: 0o100000,
  symlink: 0o120000,
  "character-device": 0o020000,
};

interface ArchiveRecord {
  readonly name: Uint8Array;
  readonly mode: number;
  readonly linkCount: number;
  readonly device: { readonly major: number; readonly minor: number };
  readonly body: Uint8Array;
}

function toRecord(entry: CpioEntry): ArchiveRecord {
  const name = encodeUtf8(entry.path);
  const type = fileTypeBits[entry.kind];
  const device = { major: 0, minor: 0 };
  const body = new Uint8Array(0);
  switch (entry.kind) {
    case "directory":
      return { name, mode: type | (entry.permissions ?? 0o755), linkCount: 2, device, body };
    case "file":
      return { name, mode: type | (entry.permissions ?? 0o644), linkCount: 1, device, body: entry.bytes };
    case "symlink":
      return { name, mode: type | 0o777, linkCount: 1, device, body: encodeUtf8(entry.target) };
    case "character-device":
      return { name, mode: type | (entry.permissions ?? 0o600), linkCount: 1, device: entry, body };
  }
}

function recordSizeBytes(record: ArchiveRecord): number {
  return alignUp(headerSizeBytes + record.name.length + 1, alignmentBytes) + alignUp(record.body.length, alignmentBytes);
}

/**
 * An archive of `entries` in their order; parents must come before children. Times and owners are zero, so equal
 * input gives equal bytes. The length is a multiple of 4, so that archives can be appended to each other.
 */
export function writeCpio(entries: readonly CpioEntry[]): Uint8Array {
  const trailer: ArchiveRecord = { name: encodeUtf8("TRAILER!!!"), mode: 0, linkCount: 1, device: { major: 0, minor: 0 }, body: new Uint8Array(0) };
  const records = [...entries.map(toRecord), trailer];
  const archive = new Uint8Array(records.reduce((sum, record) => sum + recordSizeBytes(record), 0));
  let offset = 0;
  records.forEach((record, index) => {
    invariant(record.body.length <= 0xffff_ffff, "a cpio entry is smaller than 4 GiB");
    const isTrailer = record === trailer;
    const fields = [
      isTrailer ? 0 : index + 1, record.mode, 0, 0, record.linkCount, 0, record.body.length,
      0, 0, record.device.major, record.device.minor, record.name.length + 1, 0,
    ];
    const header = `070701${fields.map((field) => field.toString(16).toUpperCase().padStart(8, "0")).join("")}`;
    for (let i = 0; i < headerSizeBytes; i++) archive[offset + i] = header.charCodeAt(i);
    archive.set(record.name, offset + headerSizeBytes);
    const bodyOffset = offset + alignUp(headerSizeBytes + record.name.length + 1, alignmentBytes);
    archive.set(record.body, bodyOffset);
    offset += recordSizeBytes(record);
  });
  return archive;
}
