/** RFLAGS as one value: the lazy status flags and the system flags of the state area (SDM volume 1, "EFLAGS Register"). */
import type { StateView } from "./state-view.ts";
import * as layout from "./state.ts";

/** Masks of the flags in RFLAGS. */
export const FlagMask = {
  CF: 1, fixed: 2, PF: 4, AF: 0x10, ZF: 0x40, SF: 0x80, TF: 0x100, IF: 0x200, DF: 0x400,
  OF: 0x800, IOPL: 0x3000, NT: 0x4000, RF: 0x1_0000, VM: 0x2_0000, AC: 0x4_0000, VIF: 0x8_0000, VIP: 0x10_0000,
  ID: 0x20_0000,
} as const;

/** CF, PF, AF, ZF, SF and OF. */
export const statusFlagsMask: number =
  FlagMask.CF | FlagMask.PF | FlagMask.AF | FlagMask.ZF | FlagMask.SF | FlagMask.OF;

/** Every flag that is not fixed. */
export const allFlagsMask: number =
  statusFlagsMask | FlagMask.TF | FlagMask.IF | FlagMask.DF | FlagMask.IOPL | FlagMask.NT | FlagMask.RF | FlagMask.VM |
  FlagMask.AC | FlagMask.VIF | FlagMask.VIP | FlagMask.ID;

const ioplShift = 12;

/** Whether the byte has an even number of ones. */
function hasEvenParity(byte: number): boolean {
  const folded = byte ^ (byte >>> 4);
  return ((0x9669 >>> (folded & 15)) & 1) !== 0;
}

function readStatusFlags(state: StateView): number {
  const aux = state.get32(layout.flagsAux);
  const low = state.get32(layout.flagsResult);
  const high = state.getHigh32(layout.flagsResult);
  let flags = (aux & (1 << 3)) !== 0 ? FlagMask.AF : 0;
  const carry = aux >>> 31;
  if (carry !== 0) flags |= FlagMask.CF;
  if ((carry ^ ((aux >>> 30) & 1)) !== 0) flags |= FlagMask.OF;
  if ((low | high) === 0) flags |= FlagMask.ZF;
  if (((high >>> 31) ^ (aux & 1)) !== 0) flags |= FlagMask.SF;
  if (hasEvenParity((low ^ (aux >>> 8)) & 0xff)) flags |= FlagMask.PF;
  return flags;
}

function writeStatusFlags(state: StateView, flags: number): void {
  const carry = flags & FlagMask.CF;
  const overflow = (flags & FlagMask.OF) !== 0 ? 1 : 0;
  let aux = (carry << 31) | ((carry ^ overflow) << 30);
  if ((flags & FlagMask.AF) !== 0) aux |= 1 << 3;
  if ((flags & FlagMask.SF) !== 0) aux |= 1;
  if ((flags & FlagMask.PF) === 0) aux |= 1 << 8;
  state.set32(layout.flagsAux, aux >>> 0);
  // A result whose low byte is zero has even parity and no sign: `aux` alone says the rest.
  state.setHalves(layout.flagsResult, (flags & FlagMask.ZF) !== 0 ? 0 : 0x100, 0);
}

/** All of RFLAGS, the fixed bit 1 included. */
export function readFlags(state: StateView): number {
  return (readStatusFlags(state) | state.get32(layout.systemFlags) | FlagMask.fixed) >>> 0;
}

/** Replaces the flags in `mask` by those of `value`. Whoever changes TF, VM or AC tells the processor by `modeChanged`. */
export function writeFlags(state: StateView, value: number, mask: number): void {
  if ((mask & statusFlagsMask) === statusFlagsMask) writeStatusFlags(state, value);
  else if ((mask & statusFlagsMask) !== 0) writeStatusFlags(state, (readStatusFlags(state) & ~mask) | (value & mask));
  const systemMask = mask & allFlagsMask & ~statusFlagsMask;
  if (systemMask === 0) return;
  state.set32(layout.systemFlags, (state.get32(layout.systemFlags) & ~systemMask) | (value & systemMask));
}

/** I/O privilege level, 0..3. */
export function ioPrivilegeLevel(state: StateView): number {
  return (state.get32(layout.systemFlags) >>> ioplShift) & 3;
}

export function hasSystemFlag(state: StateView, mask: number): boolean {
  return (state.get32(layout.systemFlags) & mask) !== 0;
}
