/** Page tables for the start in 64-bit mode: the first 4 GiB mapped to themselves by 2 MiB pages (SDM, "4-Level Paging"). */
import { dataView, gibibyte, pageSizeBytes } from "./bytes.ts";

const entriesPerTable = 512;
const mappedGibibytes = 4;
const presentWritable = 0x3n;
const pageSizeMask = 0x80n;
const largePageSizeBytes = 0x20_0000;

export const identityTablesSizeBytes: number = (2 + mappedGibibytes) * pageSizeBytes;

/** The tables, to be placed at `address`, which is also the value for CR3. */
export function createIdentityTables(address: number): Uint8Array {
  const bytes = new Uint8Array(identityTablesSizeBytes);
  const view = dataView(bytes);
  const setEntry = (table: number, index: number, value: bigint): void => view.setBigUint64(table * pageSizeBytes + index * 8, value, true);
  setEntry(0, 0, BigInt(address + pageSizeBytes) | presentWritable);
  for (let gib = 0; gib < mappedGibibytes; gib++) {
    setEntry(1, gib, BigInt(address + (2 + gib) * pageSizeBytes) | presentWritable);
    for (let i = 0; i < entriesPerTable; i++) {
      setEntry(2 + gib, i, BigInt(gib * gibibyte + i * largePageSizeBytes) | presentWritable | pageSizeMask);
    }
  }
  return bytes;
}
