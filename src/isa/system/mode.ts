/** Control bits of CR0, CR4 and EFER and the operating modes that follow from them (SDM volume 3, "System Architecture Overview"). */
import { FlagMask } from "../flags.ts";
import type { StateView } from "../state-view.ts";
import * as layout from "../state.ts";

export const Cr0Mask = {
  PE: 1, MP: 2, EM: 4, TS: 8, ET: 0x10, NE: 0x20, WP: 0x1_0000, AM: 0x4_0000, NW: 0x2000_0000,
  CD: 0x4000_0000, PG: 0x8000_0000,
} as const;

export const Cr4Mask = {
  VME: 1, PVI: 2, TSD: 4, DE: 8, PSE: 0x10, PAE: 0x20, MCE: 0x40, PGE: 0x80, PCE: 0x100,
  OSFXSR: 0x200, OSXMMEXCPT: 0x400, UMIP: 0x800, LA57: 0x1000, FSGSBASE: 0x1_0000, PCIDE: 0x2_0000,
  OSXSAVE: 0x4_0000, SMEP: 0x10_0000, SMAP: 0x20_0000, PKE: 0x40_0000,
} as const;

export const EferMask = { SCE: 1, LME: 0x100, LMA: 0x400, NXE: 0x800, SVME: 0x1000, FFXSR: 0x4000 } as const;

/** Attribute bits of a segment as the state area keeps them. */
export const SegmentAttribute = {
  typeMask: 0xf, accessed: 1, writableOrReadable: 2, expandDownOrConforming: 4, code: 8,
  codeOrData: 0x10, dplMask: 0x60, dplShift: 5, present: 0x80, available: 0x1000, long: 0x2000, big: 0x4000,
  granularity: 0x8000, unusable: 0x1_0000,
} as const;

export const SegmentIndex = { ES: 0, CS: 1, SS: 2, DS: 3, FS: 4, GS: 5, LDTR: 6, TR: 7 } as const;

/** Values of the state's `activity`. */
export const Activity = { active: 0, halted: 1, shutdown: 2, waitingForSipi: 3 } as const;

/** CR0.PE, whatever VM says. */
export function isProtectedMode(state: StateView): boolean {
  return (state.get32(layout.cr0) & Cr0Mask.PE) !== 0;
}

export function isVirtual8086(state: StateView): boolean {
  return (state.get32(layout.systemFlags) & FlagMask.VM) !== 0;
}

/** Real-address or virtual-8086 mode: a segment's base is its selector times 16. */
export function hasRealModeSegments(state: StateView): boolean {
  return !isProtectedMode(state) || isVirtual8086(state);
}

/** IA-32e mode: compatibility or 64-bit mode. */
export function isLongMode(state: StateView): boolean {
  return (state.get32(layout.efer) & EferMask.LMA) !== 0;
}

export function is64BitMode(state: StateView): boolean {
  return isLongMode(state) && (state.get32(layout.segments[SegmentIndex.CS].attributes) & SegmentAttribute.long) !== 0;
}

export function hasCr4(state: StateView, mask: number): boolean {
  return (state.get32(layout.cr4) & mask) !== 0;
}

/** Whether the upper bits of a linear address repeat its topmost implemented one. */
export function isCanonical(state: StateView, address: bigint): boolean {
  return isCanonicalFor(hasCr4(state, Cr4Mask.LA57) ? 57 : 48, address);
}

/** The same for the address `high:low`, of which the upper half tells. */
export function isCanonicalHigh(state: StateView, high: number): boolean {
  const top = (high | 0) >> (hasCr4(state, Cr4Mask.LA57) ? 24 : 15);
  return top === 0 || top === -1;
}

function isCanonicalFor(bits: 48 | 57, address: bigint): boolean {
  return BigInt.asUintN(64, BigInt.asIntN(bits, address)) === address;
}

/** The sum of a base and an offset as linear address: 64 bits in IA-32e mode, else 32. */
export function linearSum(state: StateView, base: bigint, offset: bigint): bigint {
  return BigInt.asUintN(isLongMode(state) ? 64 : 32, base + offset);
}

/** Width of the stack pointer: 64 in 64-bit mode, else by SS.B. */
export function stackSizeOf(state: StateView): 16 | 32 | 64 {
  if (is64BitMode(state)) return 64;
  return (state.get32(layout.segments[SegmentIndex.SS].attributes) & SegmentAttribute.big) !== 0 ? 32 : 16;
}
