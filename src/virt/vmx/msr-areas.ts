/** Lists of model-specific registers that transitions load and store (SDM volume 3, "Loading MSRs" and "Saving MSRs"). */
import type { PhysicalMemory } from "../../engine/physical-memory.ts";
import type { Processor } from "../../isa/processor.ts";
import { Msr, readMsr, writeMsr } from "../../isa/system/model-specific.ts";

const entryBytes = 16;
/** The recommended maximum, as IA32_VMX_MISC tells it; what lies beyond fails. */
const maximumEntries = 512;
const firstX2ApicMsr = 0x800, lastX2ApicMsr = 0x8ff;
const managementMsrs: readonly number[] = [0x9b, 0x9e];
const microcodeMsrs: readonly number[] = [0x79, 0x8b];

function isX2Apic(index: number): boolean {
  return index >= firstX2ApicMsr && index <= lastX2ApicMsr;
}

interface Entry {
  readonly index: number;
  readonly reserved: number;
  readonly value: bigint;
}

function readEntry(memory: PhysicalMemory, address: number): Entry {
  const bytes = new Uint8Array(entryBytes);
  memory.readRange(address, bytes);
  const view = new DataView(bytes.buffer);
  return { index: view.getUint32(0, true), reserved: view.getUint32(4, true), value: view.getBigUint64(8, true) };
}

function isLoadable({ index, reserved }: Entry): boolean {
  return reserved === 0 && index !== Msr.FS_BASE && index !== Msr.GS_BASE && !isX2Apic(index) &&
    !managementMsrs.includes(index) && !microcodeMsrs.includes(index);
}

/** Loads `count` registers; the number of the first entry that fails, counted from 1, or 0. */
export function loadMsrArea(p: Processor, memory: PhysicalMemory, address: number, count: number): number {
  for (let number = 0; number < Math.min(count, maximumEntries); number++) {
    const entry = readEntry(memory, address + number * entryBytes);
    if (!isLoadable(entry) || !writeMsr(p, entry.index, entry.value)) return number + 1;
  }
  return count > maximumEntries ? maximumEntries + 1 : 0;
}

/** Stores `count` registers into the entries that name them; false when one cannot be. */
export function storeMsrArea(p: Processor, memory: PhysicalMemory, address: number, count: number): boolean {
  if (count > maximumEntries) return false;
  for (let number = 0; number < count; number++) {
    const at = address + number * entryBytes;
    const { index, reserved } = readEntry(memory, at);
    const value = reserved !== 0 || isX2Apic(index) || managementMsrs.includes(index) ? undefined : readMsr(p, index);
    if (value === undefined) return false;
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    memory.writeRange(at + 8, bytes);
  }
  return true;
}
