/** What the contents of a disk say of its size (MBR; GPT: UEFI specification, chapter 5; ext2 to ext4 superblock), to tell an image that was cut off. */
import type { DiskBackend } from "../../devices/disk/contract.ts";
import { whenDone } from "../../devices/disk/contract.ts";
import { UserError } from "../../base/errors.ts";

/** A structure on a disk that reaches behind the disk's end. */
export interface SizeClaim {
  readonly what: string;
  readonly neededBytes: number;
}

const sectorBytes = 512;
const headBytes = 4096;
const partitionTableOffset = 446;
const partitionEntryBytes = 16;
const protectivePartition = 0xee;
const gptHeaderOffset = sectorBytes;
const extSuperblockOffset = 1024;
const extMagic = 0xef53;

function partitionClaims(view: DataView): SizeClaim[] {
  if (view.getUint16(510, true) !== 0xaa55) return [];
  const entries = [0, 1, 2, 3].map((index) => partitionTableOffset + index * partitionEntryBytes);
  // Boot sectors of file systems end in the same signature and have code here.
  if (entries.some((at) => (view.getUint8(at) & 0x7f) !== 0)) return [];
  return entries.flatMap((at, index) => {
    const type = view.getUint8(at + 4), start = view.getUint32(at + 8, true), sectors = view.getUint32(at + 12, true);
    if (type === 0 || type === protectivePartition || start === 0) return [];
    return [{ what: `partition ${index + 1}`, neededBytes: (start + sectors) * sectorBytes }];
  });
}

function gptClaims(view: DataView): SizeClaim[] {
  // "EFI PART"
  if (view.getBigUint64(gptHeaderOffset, true) !== 0x5452_4150_2049_4645n) return [];
  return [{ what: "the GUID partition table", neededBytes: (Number(view.getBigUint64(gptHeaderOffset + 32, true)) + 1) * sectorBytes }];
}

function fileSystemClaims(view: DataView): SizeClaim[] {
  if (view.getUint16(extSuperblockOffset + 56, true) !== extMagic) return [];
  const blocks = view.getUint32(extSuperblockOffset + 4, true);
  const blockBytes = 1024 << (view.getUint32(extSuperblockOffset + 24, true) & 7);
  return [{ what: "the ext file system", neededBytes: blocks * blockBytes }];
}

/** The furthest claim in the first 4 KiB of a disk that goes beyond `sizeBytes`; undefined when there is none. */
export function findBrokenClaim(head: Uint8Array, sizeBytes: number): SizeClaim | undefined {
  if (head.length < headBytes) return undefined;
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  return [...partitionClaims(view), ...gptClaims(view), ...fileSystemClaims(view)]
    .filter(({ neededBytes }) => neededBytes > sizeBytes)
    .toSorted((left, right) => right.neededBytes - left.neededBytes)[0];
}

/**
 * Checks that an image is as long as what it holds.
 * @throws UserError DISK_SHORT.
 */
export async function checkDiskClaims(path: string, disk: DiskBackend): Promise<void> {
  const head = new Uint8Array(headBytes);
  if (disk.sizeBytes < headBytes) return;
  if (await whenDone(disk.read(0, head), (failure) => failure) !== undefined) return;
  const claim = findBrokenClaim(head, disk.sizeBytes);
  if (claim === undefined) return;
  throw new UserError("DISK_SHORT", `The disk image ${path} has ${disk.sizeBytes} bytes, but ${claim.what} on it ends at ${claim.neededBytes}: the file was cut off; restore it, or extend it with: truncate -s ${claim.neededBytes} ${path}`);
}
