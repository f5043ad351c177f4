/**
 * Where RAM lies on a q35-like board, and the memory map that firmware would report (ACPI specification, "System
 * Address Map Interfaces": INT 15h E820).
 */
import { UserError } from "../base/errors.ts";
import { gibibyte, inMebibytes, mebibyte } from "./bytes.ts";

export type MemoryKind = "ram" | "reserved" | "acpi-reclaimable" | "acpi-nvs";

/** Type numbers of E820 entries, which PVH and multiboot share. */
export const memoryTypeNumbers: Readonly<Record<MemoryKind, number>> = { ram: 1, reserved: 2, "acpi-reclaimable": 3, "acpi-nvs": 4 };

export interface MemoryRegion {
  readonly address: number;
  readonly sizeBytes: number;
  readonly kind: MemoryKind;
}

/** Part of guest RAM as the processor sees it. */
export interface RamRange {
  readonly address: number;
  readonly sizeBytes: number;
  /** Where it begins in RAM counted from zero without holes. */
  readonly ramOffset: number;
}

/** RAM below 4 GiB ends here at the latest: above it is the PCI hole. */
export const lowRamEndMaximum = 0x8000_0000;
export const highRamStart: number = 4 * gibibyte;
/** 52 bits of physical address less what a JavaScript number would not hold. */
export const ramSizeMaximum: number = 2 ** 40;

/** Conventional memory ends with the extended BIOS data area, as on every PC. */
export const conventionalMemoryEnd = 0x9_fc00;
export const biosAreaStart = 0xa_0000;
export const biosAreaEnd: number = mebibyte;

export const ecamBase = 0xb000_0000;
export const ecamSizeBytes = 0x1000_0000;
export const ioApicBase = 0xfec0_0000;
export const hpetBase = 0xfed0_0000;
export const localApicBase = 0xfee0_0000;
/** Read-only memory with the generation ID. */
export const generationIdBase = 0xfef0_0000;
export const flashBase = 0xfffc_0000;

const fixedReservations: readonly MemoryRegion[] = [
  { address: ecamBase, sizeBytes: ecamSizeBytes, kind: "reserved" },
  { address: ioApicBase, sizeBytes: 0x1000, kind: "reserved" },
  { address: 0xfed1_c000, sizeBytes: 0x4000, kind: "reserved" },
  { address: localApicBase, sizeBytes: 0x1000, kind: "reserved" },
  { address: generationIdBase, sizeBytes: 0x1000, kind: "reserved" },
  { address: flashBase, sizeBytes: 0x4_0000, kind: "reserved" },
];

export interface MemoryMap {
  readonly ramSizeBytes: number;
  readonly ram: readonly RamRange[];
  /** Sorted by address, without overlaps. */
  readonly regions: readonly MemoryRegion[];
}

/**
 * The map of a board with `ramSizeBytes` of RAM.
 * @throws UserError BAD_MEMORY_SIZE unless it is a whole number of MiB from 1 MiB to 1 TiB.
 */
export function createMemoryMap(ramSizeBytes: number): MemoryMap {
  if (!Number.isSafeInteger(ramSizeBytes) || ramSizeBytes < mebibyte || ramSizeBytes > ramSizeMaximum || ramSizeBytes % mebibyte !== 0) {
    throw new UserError("BAD_MEMORY_SIZE", `${ramSizeBytes} bytes of memory are not possible: give a whole number of MiB between 1 MiB and ${ramSizeMaximum / gibibyte} GiB`);
  }
  const lowEnd = Math.min(ramSizeBytes, lowRamEndMaximum);
  const highSizeBytes = ramSizeBytes - lowEnd;
  const ram: RamRange[] = [{ address: 0, sizeBytes: lowEnd, ramOffset: 0 }];
  if (highSizeBytes > 0) ram.push({ address: highRamStart, sizeBytes: highSizeBytes, ramOffset: lowEnd });
  const regions: MemoryRegion[] = [
    { address: 0, sizeBytes: conventionalMemoryEnd, kind: "ram" },
    { address: conventionalMemoryEnd, sizeBytes: biosAreaStart - conventionalMemoryEnd, kind: "reserved" },
    { address: biosAreaStart, sizeBytes: biosAreaEnd - biosAreaStart, kind: "reserved" },
  ];
  if (lowEnd > biosAreaEnd) regions.push({ address: biosAreaEnd, sizeBytes: lowEnd - biosAreaEnd, kind: "ram" });
  regions.push(...fixedReservations);
  if (highSizeBytes > 0) regions.push({ address: highRamStart, sizeBytes: highSizeBytes, kind: "ram" });
  return { ramSizeBytes, ram, regions };
}

export const e820EntrySizeBytes = 20;

/** Entries in the layout of INT 15h E820: base, length, type. The same serves fw_cfg `etc/e820`. */
export function encodeE820(regions: readonly MemoryRegion[]): Uint8Array {
  const bytes = new Uint8Array(regions.length * e820EntrySizeBytes);
  const view = new DataView(bytes.buffer);
  regions.forEach((region, index) => {
    const offset = index * e820EntrySizeBytes;
    view.setBigUint64(offset, BigInt(region.address), true);
    view.setBigUint64(offset + 8, BigInt(region.sizeBytes), true);
    view.setUint32(offset + 16, memoryTypeNumbers[region.kind], true);
  });
  return bytes;
}

/** The message for a guest that does not fit. */
export function tooLittleMemory(what: string, neededBytes: number, memory: MemoryMap): UserError {
  return new UserError("BAD_MEMORY_SIZE", `${what} needs at least ${inMebibytes(neededBytes)} of memory, the machine has ${inMebibytes(memory.ramSizeBytes)}; ask for more with --memory`);
}
