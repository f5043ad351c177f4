/** Initial processor states that the boot protocols ask for. */
import { dataView } from "./bytes.ts";
import { generalRegisterNames, type BootRegisters, type GeneralRegisterName, type SegmentState } from "./contract.ts";

/** RFLAGS bit 1 is always set. */
const rflagsReset = 0x2;
const cr0 = { protectionEnableMask: 0x1, extensionTypeMask: 0x10, numericErrorMask: 0x20, pagingMask: 0x8000_0000 } as const;
const cr4PhysicalAddressExtensionMask = 0x20;
const efer = { longModeEnableMask: 0x100, longModeActiveMask: 0x400 } as const;
const flatLimit = 0xffff_ffff;
const attributes = {
  /** Execute/read, accessed, code, present, 64-bit, 4 KiB granularity. */
  code64: 0xa09b,
  code32: 0xc09b,
  data: 0xc093,
  busyTaskState32: 0x008b,
  unusable: 0x1_0000,
} as const;

const taskStateLimit = 0x67;

export const codeSelector = 0x10;
export const dataSelector = 0x18;
const taskSelector = 0x20;

type InitialGeneral = Readonly<Partial<Record<GeneralRegisterName, number>>>;

function generalRegisters(given: InitialGeneral): Record<GeneralRegisterName, number> {
  return Object.fromEntries(generalRegisterNames.map((name) => [name, given[name] ?? 0])) as Record<GeneralRegisterName, number>;
}

const flatData: SegmentState = { selector: dataSelector, base: 0, limit: flatLimit, attributes: attributes.data };

/** A descriptor table with flat code at {@link codeSelector}, flat data at {@link dataSelector} and a task state segment. */
export function createDescriptorTable(codeAttributes: number): Uint8Array {
  const bytes = new Uint8Array(0x28);
  const view = dataView(bytes);
  const put = (selector: number, descriptorAttributes: number, isFlat: boolean): void => {
    view.setUint32(selector, isFlat ? 0x0000_ffff : taskStateLimit, true);
    view.setUint32(selector + 4, ((descriptorAttributes << 8) | (isFlat ? 0x000f_0000 : 0)) >>> 0, true);
  };
  put(codeSelector, codeAttributes, true);
  put(dataSelector, attributes.data, true);
  put(taskSelector, attributes.busyTaskState32, false);
  return bytes;
}

export const descriptorTable64: Uint8Array = createDescriptorTable(attributes.code64);
export const descriptorTable32: Uint8Array = createDescriptorTable(attributes.code32);

interface Entry {
  readonly rip: number;
  readonly general: InitialGeneral;
  /** Where a descriptor table of this module has been placed. */
  readonly descriptorTable: number;
}

function common(entry: Entry, codeAttributes: number): Omit<BootRegisters, "cr0" | "cr3" | "cr4" | "efer"> {
  return {
    rip: entry.rip,
    rflags: rflagsReset,
    general: generalRegisters(entry.general),
    cs: { selector: codeSelector, base: 0, limit: flatLimit, attributes: codeAttributes },
    ds: flatData,
    es: flatData,
    ss: flatData,
    fs: flatData,
    gs: flatData,
    ldtr: { selector: 0, base: 0, limit: 0, attributes: attributes.unusable },
    tr: { selector: taskSelector, base: 0, limit: taskStateLimit, attributes: attributes.busyTaskState32 },
    gdtr: { base: entry.descriptorTable, limit: descriptorTable64.length - 1 },
    idtr: { base: 0, limit: 0 },
  };
}

/** Flat 32-bit protected mode, paging off, interrupts off. */
export function protectedModeRegisters(entry: Entry): BootRegisters {
  return { ...common(entry, attributes.code32), cr0: cr0.protectionEnableMask | cr0.extensionTypeMask, cr3: 0, cr4: 0, efer: 0 };
}

/** 64-bit mode with the page tables at `pageTables`, interrupts off. */
export function longModeRegisters(entry: Entry & { readonly pageTables: number }): BootRegisters {
  return {
    ...common(entry, attributes.code64),
    cr0: cr0.pagingMask + (cr0.protectionEnableMask | cr0.extensionTypeMask | cr0.numericErrorMask),
    cr3: entry.pageTables,
    cr4: cr4PhysicalAddressExtensionMask,
    efer: efer.longModeEnableMask | efer.longModeActiveMask,
  };
}
