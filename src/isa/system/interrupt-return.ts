/** IRET in every mode (SDM volume 2, "IRET/IRETD/IRETQ"). */
import { Status } from "../../ir/index.ts";
import { Vector } from "../definition.ts";
import { FlagMask, hasSystemFlag, ioPrivilegeLevel, readFlags, statusFlagsMask, writeFlags } from "../flags.ts";
import type { Processor } from "../processor.ts";
import * as layout from "../state.ts";
import {
  checkRealModeOffset, checkReturnTarget, checkTargetOffset, enterCode, enterRealModeCode,
} from "./code-segment.ts";
import { fetchDescriptor, selectorErrorCode } from "./descriptor-tables.ts";
import { returnOutward, runTask } from "./far-transfer.ts";
import {
  Cr4Mask, SegmentIndex, hasCr4, is64BitMode, isLongMode, isProtectedMode, isVirtual8086, linearSum,
} from "./mode.ts";
import { SystemType, isPresent, readSegmentCache, setVirtual8086Segment, systemType } from "./segments.ts";
import { currentStack, writeStackPointer, type Stack } from "./stack.ts";

type Size = 16 | 32 | 64;
type Bytes = 2 | 4 | 8;

/** Flags that a program at any level restores. */
export const userFlagsMask: number = statusFlagsMask | FlagMask.TF | FlagMask.DF | FlagMask.NT;
/** And with an operand of 32 or 64 bits. */
export const wideFlagsMask: number = FlagMask.RF | FlagMask.AC | FlagMask.ID;

/** Flags that IRET (or POPF without RF) at level `cpl` and the given operand size may change. */
export function restorableFlagsMask(p: Processor, cpl: number, operandSize: Size): number {
  let mask = userFlagsMask | (operandSize === 16 ? 0 : wideFlagsMask);
  if (cpl <= ioPrivilegeLevel(p.state)) mask |= FlagMask.IF;
  if (cpl === 0) mask |= FlagMask.IOPL | (operandSize === 16 ? 0 : FlagMask.VIF | FlagMask.VIP);
  return mask;
}

export function interruptReturn(p: Processor, operandSize: Size): Status {
  const { state } = p;
  // NMIs are unblocked even if IRET itself faults.
  if (p.virtualization?.isGuest === true) p.virtualization.unblockNmi();
  else state.set32(layout.nmiBlocked, 0);
  if (!isProtectedMode(state)) return returnInRealMode(p, operandSize);
  if (isVirtual8086(state)) return returnInVirtual8086Mode(p, operandSize);
  if (hasSystemFlag(state, FlagMask.NT)) {
    return isLongMode(state) ? p.raise(Vector.GP, 0) : returnFromTask(p);
  }
  return returnInProtectedMode(p, operandSize);
}

function returnInRealMode(p: Processor, operandSize: Size): Status {
  const stack = currentStack(p);
  const frame = stack.popAll(3, (operandSize / 8) as Bytes);
  if (frame === undefined || !checkRealModeOffset(p, frame[0])) return Status.Fault;
  stack.commit();
  const mask = restorableFlagsMask(p, 0, operandSize) & ~(FlagMask.VIF | FlagMask.VIP);
  writeFlags(p.state, Number(frame[2]), mask);
  return enterRealModeCode(p, Number(frame[1] & 0xffffn), frame[0]);
}

function returnInVirtual8086Mode(p: Processor, operandSize: Size): Status {
  const { state } = p;
  const hasPrivilege = ioPrivilegeLevel(state) === 3;
  const isVirtualized = !hasPrivilege && hasCr4(state, Cr4Mask.VME) && operandSize === 16;
  if (!hasPrivilege && !isVirtualized) return p.raise(Vector.GP, 0);
  const stack = currentStack(p);
  const frame = stack.popAll(3, (operandSize / 8) as Bytes);
  if (frame === undefined || !checkRealModeOffset(p, frame[0])) return Status.Fault;
  const flags = Number(frame[2]);
  if (isVirtualized && !writeVirtualInterruptFlag(p, flags)) return p.raise(Vector.GP, 0);
  stack.commit();
  const mask = userFlagsMask | (operandSize === 16 ? 0 : wideFlagsMask) | (hasPrivilege ? FlagMask.IF : 0);
  writeFlags(state, flags, mask);
  return enterRealModeCode(p, Number(frame[1] & 0xffffn), frame[0]);
}

/** Puts the IF of a virtual-8086 program into VIF; false when that needs the monitor (pending interrupt, or TF). */
export function writeVirtualInterruptFlag({ state }: Processor, flags: number): boolean {
  const enables = (flags & FlagMask.IF) !== 0;
  if ((flags & FlagMask.TF) !== 0 || (enables && hasSystemFlag(state, FlagMask.VIP))) return false;
  writeFlags(state, enables ? FlagMask.VIF : 0, FlagMask.VIF);
  return true;
}

function returnFromTask(p: Processor): Status {
  const { state } = p;
  const task = readSegmentCache(state, SegmentIndex.TR);
  const link = p.memory.load(linearSum(state, task.base, 0n), 2, "supervisor");
  if (link === undefined) return Status.Fault;
  const selector = Number(link);
  const errorCode = selectorErrorCode(selector);
  if ((selector & 4) !== 0) return p.raise(Vector.TS, errorCode);
  const descriptor = fetchDescriptor(p, selector, Vector.TS);
  if (descriptor === undefined) return Status.Fault;
  const access = (descriptor.high >>> 8) & 0xff;
  const type = systemType(access);
  if (type !== SystemType.busyTss16 && type !== SystemType.busyTss32) return p.raise(Vector.TS, errorCode);
  if (!isPresent(access)) return p.raise(Vector.NP, errorCode);
  return runTask(p, selector, descriptor, "return", readFlags(state));
}

function returnInProtectedMode(p: Processor, operandSize: Size): Status {
  const { state } = p;
  const sizeBytes = (operandSize / 8) as Bytes;
  const cpl = state.get32(layout.cpl);
  const stack = currentStack(p);
  const frame = stack.popAll(3, sizeBytes);
  if (frame === undefined) return Status.Fault;
  const flags = Number(frame[2] & 0xffff_ffffn);
  if (!isLongMode(state) && operandSize === 32 && (flags & FlagMask.VM) !== 0 && cpl === 0) {
    return returnToVirtual8086Mode(p, stack, frame, flags);
  }
  const code = checkReturnTarget(p, Number(frame[1] & 0xffffn));
  if (code === undefined) return Status.Fault;
  const mask = restorableFlagsMask(p, cpl, operandSize);
  if (code.cpl > cpl || is64BitMode(state)) {
    const outer = stack.popAll(2, sizeBytes);
    if (outer === undefined || !returnOutward(p, code, frame[0], outer, 0)) return Status.Fault;
  } else {
    if (!checkTargetOffset(p, code, frame[0])) return Status.Fault;
    stack.commit();
    enterCode(p, code, frame[0]);
  }
  writeFlags(state, flags, mask);
  p.modeChanged();
  return Status.Branch;
}

function returnToVirtual8086Mode(p: Processor, stack: Stack, frame: readonly bigint[], flags: number): Status {
  const { state } = p;
  const rest = stack.popAll(6, 4);
  if (rest === undefined) return Status.Fault;
  if (frame[0] > 0xffffn) return p.raise(Vector.GP, 0);
  const [pointer, ...selectors] = rest;
  writeFlags(state, flags, restorableFlagsMask(p, 0, 32) | FlagMask.VM);
  setVirtual8086Segment(state, SegmentIndex.CS, Number(frame[1] & 0xffffn));
  const order = [SegmentIndex.SS, SegmentIndex.ES, SegmentIndex.DS, SegmentIndex.FS, SegmentIndex.GS];
  for (const [position, index] of order.entries()) setVirtual8086Segment(state, index, Number(selectors[position] & 0xffffn));
  writeStackPointer(p, 32, pointer);
  state.set64(layout.rip, frame[0]);
  state.set32(layout.cpl, 3);
  p.modeChanged();
  return Status.Branch;
}
