/** ACPI tables as bytes with unresolved pointers, so that either we or firmware can place them (ACPI specification 6.5, section 5.2). */
import { ascii, concatBytes } from "../bytes.ts";

const headerSizeBytes = 36;
const checksumOffset = 9;
const creatorRevision = 1;

/** A place in a table that holds the address of another one. */
export interface TablePointer {
  readonly offset: number;
  readonly sizeBytes: 4 | 8;
  readonly target: string;
}

/** A sum over `start … start + length` that makes all its bytes add up to zero. */
export interface TableChecksum {
  readonly offset: number;
  readonly start: number;
  readonly length: number;
}

export interface AcpiTable {
  /** Unique among the tables of a set; pointers refer to it. */
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly alignment: number;
  readonly pointers: readonly TablePointer[];
  readonly checksums: readonly TableChecksum[];
}

/** A table with the standard header. Pointer offsets count from the start of `body`. */
export function systemTable(signature: string, revision: number, body: readonly Uint8Array[], pointers: readonly TablePointer[] = []): AcpiTable {
  const content = concatBytes(body);
  const length = headerSizeBytes + content.length;
  const header = new Uint8Array(headerSizeBytes);
  const view = new DataView(header.buffer);
  header.set(ascii(signature), 0);
  view.setUint32(4, length, true);
  header[8] = revision;
  header.set(ascii("RINGMS"), 10);
  header.set(ascii(`RM${signature}`.padEnd(8)), 16);
  view.setUint32(24, 1, true);
  header.set(ascii("RMST"), 28);
  view.setUint32(32, creatorRevision, true);
  return {
    name: signature,
    bytes: concatBytes([header, content]),
    alignment: 16,
    pointers: pointers.map((pointer) => ({ ...pointer, offset: pointer.offset + headerSizeBytes })),
    checksums: [{ offset: checksumOffset, start: 0, length }],
  };
}

/** The byte that brings the sum of `bytes` to zero, when the byte itself is zero now. */
export function checksum(bytes: Uint8Array): number {
  return -bytes.reduce((sum, byte) => sum + byte, 0) & 0xff;
}

/** Fills in pointers and then checksums; `addresses` are by table name. */
export function resolveTable(table: AcpiTable, addresses: ReadonlyMap<string, number>): Uint8Array {
  const bytes = table.bytes.slice();
  const view = new DataView(bytes.buffer);
  for (const { offset, sizeBytes, target } of table.pointers) {
    const address = addresses.get(target) ?? 0;
    if (sizeBytes === 8) view.setBigUint64(offset, BigInt(address), true);
    else view.setUint32(offset, address, true);
  }
  for (const { offset, start, length } of table.checksums) bytes[offset] = checksum(bytes.subarray(start, start + length));
  return bytes;
}
