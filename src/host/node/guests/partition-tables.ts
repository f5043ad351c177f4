/** Writes partition tables: MBR (the classic PC layout) and GPT (UEFI specification 2.10, chapter 5). */
import { crc32 } from "node:zlib";

export const sectorSizeBytes = 512;
const partitionTableOffset = 446;
const signatureOffset = 510;
const diskSignatureOffset = 440;
const gptEntryCount = 128;
const gptEntrySizeBytes = 128;
const gptTableSectors: number = (gptEntryCount * gptEntrySizeBytes) / sectorSizeBytes;
/** Sectors at each end of a disk that GPT takes: header and table, and before them the protective MBR. */
export const gptHeadSectors: number = 2 + gptTableSectors;
export const gptTailSectors: number = 1 + gptTableSectors;

export const gptTypes = {
  efiSystem: "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
  linuxFilesystem: "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
} as const;

export interface PartitionPlace {
  readonly firstSector: number;
  readonly sectorCount: number;
}

function mbrEntry(place: PartitionPlace, type: number, isActive: boolean): Buffer {
  const entry = Buffer.alloc(16);
  entry[0] = isActive ? 0x80 : 0;
  // Cylinder, head and sector of ends beyond their reach: the sector numbers below count.
  entry.set([0xfe, 0xff, 0xff], 1);
  entry[4] = type;
  entry.set([0xfe, 0xff, 0xff], 5);
  entry.writeUInt32LE(place.firstSector, 8);
  entry.writeUInt32LE(Math.min(place.sectorCount, 0xffff_ffff), 12);
  return entry;
}

/** A boot sector with `code` (at most 440 bytes of it) and one partition. */
export function createMbr(code: Uint8Array, place: PartitionPlace, type: number, diskSignature: number): Buffer {
  const sector = Buffer.alloc(sectorSizeBytes);
  sector.set(code.subarray(0, diskSignatureOffset));
  sector.writeUInt32LE(diskSignature, diskSignatureOffset);
  mbrEntry(place, type, true).copy(sector, partitionTableOffset);
  sector.writeUInt16LE(0xaa55, signatureOffset);
  return sector;
}

function uuidBytes(text: string): Buffer {
  const [timeLow, timeMiddle, timeHigh, clock, node] = text.split("-").map((group) => Buffer.from(group, "hex"));
  return Buffer.concat([timeLow.reverse(), timeMiddle.reverse(), timeHigh.reverse(), clock, node]);
}

export interface GptPartition extends PartitionPlace {
  readonly type: string;
  readonly id: string;
  readonly name: string;
}

/** The first {@link gptHeadSectors} and the last {@link gptTailSectors} of a disk. */
export function createGpt(partitions: readonly GptPartition[], diskSectors: number, diskId: string): { readonly head: Buffer; readonly tail: Buffer } {
  const table = Buffer.alloc(gptEntryCount * gptEntrySizeBytes);
  partitions.forEach((partition, i) => {
    const at = i * gptEntrySizeBytes;
    uuidBytes(partition.type).copy(table, at);
    uuidBytes(partition.id).copy(table, at + 16);
    table.writeBigUInt64LE(BigInt(partition.firstSector), at + 32);
    table.writeBigUInt64LE(BigInt(partition.firstSector + partition.sectorCount - 1), at + 40);
    table.write(partition.name, at + 56, "utf16le");
  });
  const header = (isPrimary: boolean): Buffer => {
    const sector = Buffer.alloc(sectorSizeBytes);
    const last = diskSectors - 1;
    sector.write("EFI PART", 0, "latin1");
    sector.writeUInt32LE(0x0001_0000, 8);
    sector.writeUInt32LE(92, 12);
    sector.writeBigUInt64LE(BigInt(isPrimary ? 1 : last), 24);
    sector.writeBigUInt64LE(BigInt(isPrimary ? last : 1), 32);
    sector.writeBigUInt64LE(BigInt(gptHeadSectors), 40);
    sector.writeBigUInt64LE(BigInt(diskSectors - gptTailSectors - 1), 48);
    uuidBytes(diskId).copy(sector, 56);
    sector.writeBigUInt64LE(BigInt(isPrimary ? 2 : diskSectors - gptTailSectors), 72);
    sector.writeUInt32LE(gptEntryCount, 80);
    sector.writeUInt32LE(gptEntrySizeBytes, 84);
    sector.writeUInt32LE(crc32(table), 88);
    sector.writeUInt32LE(crc32(sector.subarray(0, 92)), 16);
    return sector;
  };
  const protective = createMbr(new Uint8Array(0), { firstSector: 1, sectorCount: diskSectors - 1 }, 0xee, 0);
  protective[partitionTableOffset] = 0;
  return { head: Buffer.concat([protective, header(true), table]), tail: Buffer.concat([table, header(false)]) };
}
