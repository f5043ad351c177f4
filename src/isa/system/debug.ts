/** Debug registers: breakpoint matching and the reports in DR6 (SDM volume 3, "Debug, Branch Profile, TSC, …"). */
import { Status } from "../../ir/index.ts";
import { Vector } from "../definition.ts";
import { FlagMask, hasSystemFlag } from "../flags.ts";
import type { Processor } from "../processor.ts";
import type { StateView } from "../state-view.ts";
import * as layout from "../state.ts";
import { Cr4Mask, hasCr4 } from "./mode.ts";

/** Bits of DR6. */
export const DebugStatusMask = {
  breakpoints: 0xf, generalDetect: 0x2000, singleStep: 0x4000, taskSwitch: 0x8000,
} as const;

/** Values after reset; the ones are fixed. */
export const debugStatusReset = 0xffff_0ff0n;
export const debugControlReset = 0x400n;
const debugStatusWritable = 0xe00fn;
const debugControlWritable = 0xffff_2bffn;
/** L0 to G3. */
const enableMask = 0xff;
const generalDetectEnableMask = 1 << 13;

/** R/W field of DR7 per breakpoint. */
const BreakpointType = { instruction: 0, write: 1, port: 2, access: 3 } as const;

export function normalizeDebugStatus(value: bigint): bigint {
  return debugStatusReset | (value & debugStatusWritable);
}

export function normalizeDebugControl(value: bigint): bigint {
  return debugControlReset | (value & debugControlWritable);
}

function control(state: StateView): number {
  return state.get32(layout.dr[7]);
}

function isEnabled(dr7: number, index: number): boolean {
  return (dr7 & (3 << (index * 2))) !== 0;
}

function typeOf(dr7: number, index: number): number {
  return (dr7 >>> (16 + index * 4)) & 3;
}

function sizeBytesOf(dr7: number, index: number): number {
  return [1, 2, 8, 4][(dr7 >>> (18 + index * 4)) & 3];
}

/** Whether any breakpoint is enabled at all. */
export function hasBreakpoints(state: StateView): boolean {
  return (control(state) & enableMask) !== 0;
}

/** Whether any breakpoint of the kind is enabled: the engine asks before it takes its slower path. */
export function hasInstructionBreakpoints(state: StateView): boolean {
  const dr7 = control(state);
  return hasBreakpoints(state) && [0, 1, 2, 3].some((index) => isEnabled(dr7, index) && typeOf(dr7, index) === BreakpointType.instruction);
}

export function hasDataBreakpoints(state: StateView): boolean {
  const dr7 = control(state);
  return hasBreakpoints(state) && [0, 1, 2, 3].some((index) => {
    const type = typeOf(dr7, index);
    return isEnabled(dr7, index) && (type === BreakpointType.write || type === BreakpointType.access);
  });
}

export function hasPortBreakpoints(state: StateView): boolean {
  const dr7 = control(state);
  return hasBreakpoints(state) && hasCr4(state, Cr4Mask.DE) && [0, 1, 2, 3].some((index) => isEnabled(dr7, index) && typeOf(dr7, index) === BreakpointType.port);
}

/** Bits B0..B3 of the breakpoints on the instruction at `linear`; 0 when none, or when RF suppresses them. */
export function matchInstruction(state: StateView, linear: bigint): number {
  if (hasSystemFlag(state, FlagMask.RF)) return 0;
  return match(state, linear, 1, (type) => type === BreakpointType.instruction);
}

/** Bits B0..B3 of the breakpoints that an access hits. */
export function matchData(state: StateView, linear: bigint, sizeBytes: number, intent: "read" | "write"): number {
  return match(state, linear, sizeBytes, (type) =>
    type === BreakpointType.access || (type === BreakpointType.write && intent === "write"));
}

/** Bits B0..B3 of the breakpoints on ports. */
export function matchPort(state: StateView, port: number, sizeBytes: number): number {
  if (!hasCr4(state, Cr4Mask.DE)) return 0;
  return match(state, BigInt(port), sizeBytes, (type) => type === BreakpointType.port);
}

function match(state: StateView, linear: bigint, sizeBytes: number, wants: (type: number) => boolean): number {
  const dr7 = control(state);
  let matched = 0;
  for (let index = 0; index < 4; index++) {
    if (!isEnabled(dr7, index) || !wants(typeOf(dr7, index))) continue;
    const breakBytes = BigInt(sizeBytesOf(dr7, index));
    const start = state.get64(layout.dr[index]) & ~(breakBytes - 1n);
    if (linear < start + breakBytes && start < linear + BigInt(sizeBytes)) matched |= 1 << index;
  }
  return matched;
}

/** Records `conditions` (B0..B3, BD, BS, BT) in DR6 and raises #DB; the caller delivers it. */
export function raiseDebugStatus(p: Processor, conditions: number): Status {
  const { state, virtualization } = p;
  if (virtualization?.isGuest === true && virtualization.takesDebugConditions(conditions)) return p.raise(Vector.DB);
  // B0..B3 say what happened this time; the other bits accumulate until software clears them.
  const kept = state.get64(layout.dr[6]) & ~BigInt(DebugStatusMask.breakpoints);
  state.set64(layout.dr[6], normalizeDebugStatus(kept | BigInt(conditions)));
  return p.raise(Vector.DB);
}

/** Whether an access to a debug register must raise #DB (DR7.GD). */
export function detectsDebugRegisterAccess(state: StateView): boolean {
  return (control(state) & generalDetectEnableMask) !== 0;
}
