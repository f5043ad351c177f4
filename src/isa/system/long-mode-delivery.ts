/**
 * Interrupt and exception delivery in IA-32e mode where nothing is out of the ordinary: to 64-bit code at level 0, through
 * tables and to a stack that are plain memory (SDM volume 3, "Exception and Interrupt Handling in 64-bit Mode"). Page faults
 * come here by the ten thousand, so all is done in numbers; what is not ordinary is left to `deliver`.
 */
import { FlagMask, writeFlags } from "../flags.ts";
import type { Processor } from "../processor.ts";
import * as layout from "../state.ts";
import type { ProcessorEvent } from "./exceptions.ts";
import { isByProgram } from "./exceptions.ts";
import { flagsImage } from "./interrupt-delivery.ts";
import { locateInTable } from "./descriptor-tables.ts";
import { SegmentAttribute, SegmentIndex, isCanonicalHigh } from "./mode.ts";
import {
  SystemType, descriptorAttributes, descriptorBase, descriptorLimit, loadNullSegment, loadSegmentFields,
} from "./segments.ts";

const gateBytes = 16;
const stackPointer = layout.gpr[4];
/** Present 64-bit code, not conforming, of level 0, accessed; readable or not. */
const kernelCodeMask = SegmentAttribute.present | SegmentAttribute.dplMask | SegmentAttribute.codeOrData | SegmentAttribute.code |
  SegmentAttribute.expandDownOrConforming | SegmentAttribute.accessed | SegmentAttribute.long | SegmentAttribute.big;
const kernelCode = SegmentAttribute.present | SegmentAttribute.codeOrData | SegmentAttribute.code | SegmentAttribute.accessed |
  SegmentAttribute.long;

/** Type of a gate, whether it is a system descriptor, and whether it is present, from its second word. */
export function gateAttributes(high: number): number {
  return (high >>> 8) & (SegmentAttribute.typeMask | SegmentAttribute.codeOrData | SegmentAttribute.present);
}

/** Flags that delivery through a gate clears. */
export function gateFlagsMask(isInterruptGate: boolean): number {
  return FlagMask.TF | FlagMask.NT | FlagMask.VM | FlagMask.RF | (isInterruptGate ? FlagMask.IF : 0);
}

/** Delivers `event` in IA-32e mode, or answers false with nothing changed but accessed and dirty bits of page tables. */
export function deliverOrdinarily(p: Processor, event: ProcessorEvent): boolean {
  const { state, memory } = p;
  if (memory.locate === undefined || isByProgram(event) || event.instructionLength !== undefined) return false;
  const { u32 } = state;
  const entry = event.vector * gateBytes;
  if (entry + gateBytes - 1 > state.get32(layout.idtrLimit)) return false;
  const gate = locateInTable(p, layout.idtrBase, entry, gateBytes);
  if (gate === 0) return false;
  const gateLow = u32[gate >>> 2], gateHigh = u32[(gate >>> 2) + 1], offsetHigh = u32[(gate >>> 2) + 2];
  const type = gateAttributes(gateHigh);
  const isInterruptGate = type === (SegmentAttribute.present | SystemType.interruptGate32);
  if (!isInterruptGate && type !== (SegmentAttribute.present | SystemType.trapGate32)) return false;
  if (!isCanonicalHigh(state, offsetHigh)) return false;

  const selector = gateLow >>> 16;
  const isInGdt = (selector & 4) === 0 && selector >= 8 && (selector | 7) <= state.get32(layout.gdtrLimit);
  const descriptor = isInGdt ? locateInTable(p, layout.gdtrBase, selector & 0xfff8, 8) : 0;
  if (descriptor === 0) return false;
  const low = u32[descriptor >>> 2], high = u32[(descriptor >>> 2) + 1];
  if ((descriptorAttributes(high) & kernelCodeMask) !== kernelCode) return false;

  const isInward = state.get32(layout.cpl) !== 0;
  const interruptStack = gateHigh & 7;
  let top = state.get32(stackPointer), topHigh = state.getHigh32(stackPointer);
  if (isInward || interruptStack !== 0) {
    const task = layout.segments[SegmentIndex.TR];
    const offset = interruptStack === 0 ? 4 : 0x1c + 8 * interruptStack;
    const pointer = offset + 7 <= state.get32(task.limit) ? locateInTable(p, task.base, offset, 8) : 0;
    if (pointer === 0) return false;
    top = u32[pointer >>> 2];
    topHigh = u32[(pointer >>> 2) + 1];
    if (!isCanonicalHigh(state, topHigh)) return false;
  }
  const hasErrorCode = event.errorCode !== undefined && event.kind === "exception";
  const frameBytes = hasErrorCode ? 48 : 40;
  const aligned = (top & ~0xf) >>> 0;
  const bottom = aligned - frameBytes;
  // A frame across the end of the lower half would have its own upper half.
  const frame = bottom < 0 ? 0 : memory.locate(bottom, topHigh, frameBytes, true, "supervisor");
  if (frame === 0) return false;

  let at = frame >>> 2;
  const push = (word: number, upper: number): void => {
    u32[at++] = word;
    u32[at++] = upper;
  };
  if (hasErrorCode) push(event.errorCode!, 0);
  push(state.get32(layout.rip), state.getHigh32(layout.rip));
  push(state.get16(layout.segments[SegmentIndex.CS].selector), 0);
  push(flagsImage(state, event), 0);
  push(state.get32(stackPointer), state.getHigh32(stackPointer));
  push(state.get16(layout.segments[SegmentIndex.SS].selector), 0);

  if (isInward) loadNullSegment(state, SegmentIndex.SS, 0);
  state.setHalves(stackPointer, bottom, topHigh);
  loadSegmentFields(state, SegmentIndex.CS, selector & ~3, descriptorBase(low, high), descriptorLimit(low, high), descriptorAttributes(high));
  state.set32(layout.cpl, 0);
  state.setHalves(layout.rip, ((gateLow & 0xffff) | (gateHigh & 0xffff_0000)) >>> 0, offsetHigh);
  writeFlags(state, 0, gateFlagsMask(isInterruptGate));
  return true;
}
