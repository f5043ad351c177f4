/**
 * Interrupt and exception delivery in legacy protected mode where nothing is out of the ordinary: to flat 32-bit code at level 0
 * through a 32-bit gate, with tables and a flat stack that are plain memory (SDM volume 3, "Exception- or Interrupt-Handler
 * Procedures"). All is done in numbers, as in `long-mode-delivery.ts`; what is not ordinary is left to `deliver`.
 */
import { FlagMask, writeFlags } from "../flags.ts";
import type { Processor } from "../processor.ts";
import type { StateView } from "../state-view.ts";
import * as layout from "../state.ts";
import { locateInTable } from "./descriptor-tables.ts";
import type { ProcessorEvent } from "./exceptions.ts";
import { isByProgram } from "./exceptions.ts";
import { flagsImage } from "./interrupt-delivery.ts";
import { gateAttributes, gateFlagsMask } from "./long-mode-delivery.ts";
import { SegmentAttribute, SegmentIndex } from "./mode.ts";
import {
  SystemType, descriptorAttributes, descriptorBase, descriptorLimit, loadSegmentFields,
} from "./segments.ts";

const gateBytes = 8;
const stackPointer = layout.gpr[4];
const flatLimit = 0xffff_ffff;
const segmentMask = SegmentAttribute.present | SegmentAttribute.dplMask | SegmentAttribute.codeOrData | SegmentAttribute.code |
  SegmentAttribute.expandDownOrConforming | SegmentAttribute.accessed | SegmentAttribute.big;
/** Present 32-bit code, not conforming, of level 0, accessed; readable or not. */
const kernelCode = SegmentAttribute.present | SegmentAttribute.codeOrData | SegmentAttribute.code | SegmentAttribute.accessed | SegmentAttribute.big;
/** Present data with 32-bit offsets, expand-up, of level 0, accessed, writable. */
const kernelStackMask = segmentMask | SegmentAttribute.writableOrReadable;
const kernelStack = SegmentAttribute.present | SegmentAttribute.codeOrData | SegmentAttribute.writableOrReadable | SegmentAttribute.accessed |
  SegmentAttribute.big;
const busyTask = SegmentAttribute.present | SystemType.busyTss32;

/** Place of the descriptor that a selector names in the GDT, when it is that of a flat segment with attributes `expected` of those in `mask`; else 0. */
function locateFlatSegment(p: Processor, selector: number, mask: number, expected: number): number {
  const { state } = p;
  const isInGdt = (selector & 4) === 0 && selector >= 8 && (selector | 7) <= state.get32(layout.gdtrLimit);
  const at = isInGdt ? locateInTable(p, layout.gdtrBase, selector & 0xfff8, 8) : 0;
  if (at === 0) return 0;
  const low = state.u32[at >>> 2], high = state.u32[(at >>> 2) + 1];
  const isExpected = (descriptorAttributes(high) & mask) === expected && descriptorBase(low, high) === 0 && descriptorLimit(low, high) === flatLimit;
  return isExpected ? at : 0;
}

/** Whether the running code's stack is flat. */
function hasFlatStack(state: StateView): boolean {
  const { base, attributes, writeEnd } = layout.segments[SegmentIndex.SS];
  return state.get32(base) === 0 && (state.get32(attributes) & SegmentAttribute.big) !== 0 &&
    state.get32(writeEnd) === 0 && state.getHigh32(writeEnd) === 1;
}

function loadFlatSegment(state: StateView, index: number, selector: number, descriptor: number): void {
  loadSegmentFields(state, index, selector, 0, flatLimit, descriptorAttributes(state.u32[(descriptor >>> 2) + 1]));
}

/** Delivers `event` in legacy protected mode, or answers false with nothing changed but accessed and dirty bits of page tables. */
export function deliverToFlatCode(p: Processor, event: ProcessorEvent): boolean {
  const { state, memory } = p;
  if (memory.locate === undefined || isByProgram(event) || event.instructionLength !== undefined) return false;
  if ((state.get32(layout.systemFlags) & FlagMask.VM) !== 0) return false;
  const { u32 } = state;
  const entry = event.vector * gateBytes;
  if (entry + gateBytes - 1 > state.get32(layout.idtrLimit)) return false;
  const gate = locateInTable(p, layout.idtrBase, entry, gateBytes);
  if (gate === 0) return false;
  const gateLow = u32[gate >>> 2], gateHigh = u32[(gate >>> 2) + 1];
  const type = gateAttributes(gateHigh);
  const isInterruptGate = type === (SegmentAttribute.present | SystemType.interruptGate32);
  if (!isInterruptGate && type !== (SegmentAttribute.present | SystemType.trapGate32)) return false;
  const selector = gateLow >>> 16;
  const code = locateFlatSegment(p, selector, segmentMask, kernelCode);
  if (code === 0) return false;

  const isInward = state.get32(layout.cpl) !== 0;
  let top = state.get32(stackPointer), stackSelector = 0, stack = 0;
  if (isInward) {
    const task = layout.segments[SegmentIndex.TR];
    const isTask32 = (state.get32(task.attributes) & 0xff) === busyTask && state.get32(task.limit) >= 11;
    const pointer = isTask32 ? locateInTable(p, task.base, 4, 8) : 0;
    if (pointer === 0) return false;
    top = u32[pointer >>> 2];
    stackSelector = u32[(pointer >>> 2) + 1] & 0xffff;
    stack = (stackSelector & 3) === 0 ? locateFlatSegment(p, stackSelector, kernelStackMask, kernelStack) : 0;
    if (stack === 0) return false;
  } else if (!hasFlatStack(state)) return false;
  const hasErrorCode = event.errorCode !== undefined && event.kind === "exception";
  const frameBytes = (isInward ? 20 : 12) + (hasErrorCode ? 4 : 0);
  const bottom = top - frameBytes;
  const frame = bottom < 0 ? 0 : memory.locate(bottom, 0, frameBytes, true, "supervisor");
  if (frame === 0 || (frame & 3) !== 0) return false;

  let at = frame >>> 2;
  if (hasErrorCode) u32[at++] = event.errorCode!;
  u32[at++] = state.get32(layout.rip);
  u32[at++] = state.get16(layout.segments[SegmentIndex.CS].selector);
  u32[at++] = flagsImage(state, event);
  if (isInward) {
    u32[at++] = state.get32(stackPointer);
    u32[at++] = state.get16(layout.segments[SegmentIndex.SS].selector);
    loadFlatSegment(state, SegmentIndex.SS, stackSelector, stack);
  }
  state.setHalves(stackPointer, bottom, 0);
  loadFlatSegment(state, SegmentIndex.CS, selector & ~3, code);
  state.set32(layout.cpl, 0);
  state.setHalves(layout.rip, ((gateLow & 0xffff) | (gateHigh & 0xffff_0000)) >>> 0, 0);
  writeFlags(state, 0, gateFlagsMask(isInterruptGate));
  return true;
}
