/** SYSCALL, SYSRET, SYSENTER and SYSEXIT (SDM volume 3, "Fast System Calls"; AMD APM volume 2, "Fast System Call and Return"). */
import { Status } from "../../ir/index.ts";
import { Vector } from "../definition.ts";
import { FlagMask, allFlagsMask, readFlags, writeFlags } from "../flags.ts";
import type { Processor } from "../processor.ts";
import * as layout from "../state.ts";
import { EferMask, SegmentIndex, is64BitMode, isCanonical, isLongMode, isProtectedMode } from "./mode.ts";
import { loadSegmentCache } from "./segments.ts";

/** Attributes of the flat segments these instructions load without looking at the descriptor tables, DPL 0. */
const code64Attributes = 0xa09b;
const code32Attributes = 0xc09b;
const dataAttributes = 0xc093;
const userPrivilege = 3 << 5;
const flatLimit = 0xffff_ffff;

const rcx = layout.gpr[1];
const rdx = layout.gpr[2];
const rsp = layout.gpr[4];
const r11 = layout.gpr[11];

function loadFlatSegments({ state }: Processor, codeSelector: number, stackSelector: number, is64Bit: boolean, cpl: 0 | 3): void {
  const privilege = cpl === 3 ? userPrivilege : 0;
  const code = is64Bit ? code64Attributes : code32Attributes;
  loadSegmentCache(state, SegmentIndex.CS, codeSelector | cpl, { base: 0n, limit: flatLimit, attributes: code | privilege });
  loadSegmentCache(state, SegmentIndex.SS, stackSelector | cpl, { base: 0n, limit: flatLimit, attributes: dataAttributes | privilege });
  state.set32(layout.cpl, cpl);
}

/** AMD's processors have SYSCALL in legacy and compatibility mode too; others only in 64-bit mode. */
function hasSystemCall(p: Processor): boolean {
  const { state } = p;
  if ((state.get32(layout.efer) & EferMask.SCE) === 0 || !isProtectedMode(state)) return false;
  return is64BitMode(state) || p.model.vendor === "amd";
}

export function systemCall(p: Processor): Status {
  const { state } = p;
  if (!hasSystemCall(p)) return p.raise(Vector.UD);
  const selectors = state.getHigh32(layout.star);
  const codeSelector = selectors & 0xfffc;
  const stackSelector = ((selectors & 0xffff) + 8) & 0xfffc;
  const flags = readFlags(state) & ~FlagMask.RF;
  const isLong = isLongMode(state);
  if (isLong) {
    const target = is64BitMode(state) ? layout.lstar : layout.cstar;
    state.set64(rcx, p.nextRip());
    state.set64(r11, BigInt(flags));
    state.set64(layout.rip, state.get64(target));
    writeFlags(state, flags & ~state.get32(layout.fmask), allFlagsMask);
  } else {
    state.set64(rcx, BigInt.asUintN(32, p.nextRip()));
    state.set64(layout.rip, BigInt(state.get32(layout.star)));
    writeFlags(state, 0, FlagMask.VM | FlagMask.IF | FlagMask.RF);
  }
  loadFlatSegments(p, codeSelector, stackSelector, isLong, 0);
  p.modeChanged();
  p.singleStepByNewFlags();
  return Status.Branch;
}

export function systemReturn(p: Processor, operandSize: 16 | 32 | 64): Status {
  const { state } = p;
  if (!hasSystemCall(p)) return p.raise(Vector.UD);
  if (state.get32(layout.cpl) !== 0) return p.raise(Vector.GP, 0);
  const isTo64BitMode = operandSize === 64;
  const target = isTo64BitMode ? state.get64(rcx) : BigInt(state.get32(rcx));
  // AMD's processors fault only after the return, at the target and at privilege level 3.
  if (isTo64BitMode && p.model.vendor !== "amd" && !isCanonical(state, target)) return p.raise(Vector.GP, 0);
  const selectors = state.getHigh32(layout.star) >>> 16;
  if (isLongMode(state)) writeFlags(state, state.get32(r11), allFlagsMask & ~(FlagMask.RF | FlagMask.VM));
  else writeFlags(state, FlagMask.IF, FlagMask.IF);
  state.set64(layout.rip, target);
  loadFlatSegments(p, (selectors + (isTo64BitMode ? 16 : 0)) & 0xffff, (selectors + 8) & 0xffff, isTo64BitMode, 3);
  p.modeChanged();
  p.singleStepByNewFlags();
  return Status.Branch;
}

export function systemEnter(p: Processor): Status {
  const { state } = p;
  const isLong = isLongMode(state);
  if (isLong && p.model.vendor === "amd") return p.raise(Vector.UD);
  const selector = state.get32(layout.sysenterCs) & 0xfffc;
  if (!isProtectedMode(state) || selector === 0) return p.raise(Vector.GP, 0);
  const width = isLong ? 64 : 32;
  writeFlags(state, 0, FlagMask.VM | FlagMask.IF | FlagMask.RF);
  state.set64(layout.rip, BigInt.asUintN(width, state.get64(layout.sysenterEip)));
  state.set64(rsp, BigInt.asUintN(width, state.get64(layout.sysenterEsp)));
  loadFlatSegments(p, selector, (selector + 8) & 0xffff, isLong, 0);
  p.modeChanged();
  return Status.Branch;
}

export function systemExit(p: Processor, operandSize: 16 | 32 | 64): Status {
  const { state } = p;
  if (isProtectedMode(state) && state.get32(layout.cpl) !== 0) return p.raise(Vector.GP, 0);
  if (isLongMode(state) && p.model.vendor === "amd") return p.raise(Vector.UD);
  const selector = state.get32(layout.sysenterCs) & 0xfffc;
  if (!isProtectedMode(state) || selector === 0) return p.raise(Vector.GP, 0);
  const isTo64BitMode = operandSize === 64;
  const width = isTo64BitMode ? 64 : 32;
  const target = BigInt.asUintN(width, state.get64(rdx));
  const pointer = BigInt.asUintN(width, state.get64(rcx));
  if (isTo64BitMode && !(isCanonical(state, target) && isCanonical(state, pointer))) return p.raise(Vector.GP, 0);
  const distance = isTo64BitMode ? 32 : 16;
  state.set64(layout.rip, target);
  state.set64(rsp, pointer);
  loadFlatSegments(p, (selector + distance) & 0xffff, (selector + distance + 8) & 0xffff, isTo64BitMode, 3);
  p.modeChanged();
  return Status.Branch;
}
