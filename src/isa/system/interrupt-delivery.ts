/** Delivery of one interrupt or exception through the IVT or IDT (SDM volume 3, "Interrupt and Exception Handling"). */
import { Vector } from "../definition.ts";
import { FlagMask, ioPrivilegeLevel, readFlags, writeFlags } from "../flags.ts";
import type { Processor } from "../processor.ts";
import type { StateView } from "../state-view.ts";
import * as layout from "../state.ts";
import { isIntercepted } from "../virtualization.ts";
import { checkGateTarget, enterCode, refuse, type CodeSegment } from "./code-segment.ts";
import { selectorErrorCode } from "./descriptor-tables.ts";
import { isByProgram, type ProcessorEvent } from "./exceptions.ts";
import { deliverToFlatCode } from "./flat-delivery.ts";
import { deliverOrdinarily, gateFlagsMask } from "./long-mode-delivery.ts";
import { SegmentIndex, isCanonical, isLongMode, isProtectedMode, isVirtual8086, linearSum } from "./mode.ts";
import {
  SystemType, descriptorPrivilege, isPresent, isWithinLimit, loadNullSegment, loadSegmentCache, readSegmentCache,
  setRealModeSegment, setVirtual8086Segment, systemType,
} from "./segments.ts";
import { Stack, currentStack, stackSizeOfSegment } from "./stack.ts";
import { fetchInnerStack, fetchLongStack } from "./task-state.ts";
import { switchTaskByGate } from "./task-switch.ts";

const stackPointer = layout.gpr[4];

/** Delivers `event`; false after a fault, which is then recorded in the state while nothing else has changed. */
export function deliver(p: Processor, event: ProcessorEvent): boolean {
  if (!isProtectedMode(p.state)) return deliverReal(p, event);
  if (isLongMode(p.state)) return deliverOrdinarily(p, event) || deliverLong(p, event);
  return deliverToFlatCode(p, event) || deliverProtected(p, event);
}

/** RIP that the handler's IRET comes back to. */
function returnRip(state: StateView, event: ProcessorEvent): bigint {
  return state.get64(layout.rip) + BigInt(event.instructionLength ?? 0);
}

/** RFLAGS as pushed: faults set RF, so that a breakpoint on the instruction is not hit again when it is restarted. */
export function flagsImage(state: StateView, event: ProcessorEvent): number {
  const isFault = event.kind === "exception" && event.vector !== Vector.DB && event.vector !== Vector.DF &&
    event.vector !== Vector.MC;
  return readFlags(state) | (isFault ? FlagMask.RF : 0);
}

function idtErrorCode(vector: number): number {
  return vector * 8 + 2;
}

function deliverReal(p: Processor, event: ProcessorEvent): boolean {
  const { state } = p;
  const entry = event.vector * 4;
  if (entry + 3 > state.get32(layout.idtrLimit)) return refuse(p, Vector.GP, 0) ?? false;
  const target = p.memory.load(linearSum(state, state.get64(layout.idtrBase), BigInt(entry)), 4, "supervisor");
  if (target === undefined) return false;
  return enterRealModeHandler(p, event, Number(target), readFlags(state), FlagMask.IF | FlagMask.TF | FlagMask.AC);
}

/** An INT n of a virtual-8086 task that the redirection bitmap sends to the task's own 8086 handler (SDM volume 3, "Class 3"). */
export function deliverToVirtual8086Handler(p: Processor, event: ProcessorEvent): boolean {
  const { state } = p;
  const target = p.memory.load(BigInt(event.vector * 4), 4, "current");
  if (target === undefined) return false;
  const flags = readFlags(state);
  if (ioPrivilegeLevel(state) === 3) {
    return enterRealModeHandler(p, event, Number(target), flags, FlagMask.IF | FlagMask.TF);
  }
  // The program sees VIF in the place of IF, and an IOPL that lets it use IF.
  const image = (flags & ~FlagMask.IF) | FlagMask.IOPL | ((flags & FlagMask.VIF) !== 0 ? FlagMask.IF : 0);
  return enterRealModeHandler(p, event, Number(target), image, FlagMask.VIF | FlagMask.TF);
}

function enterRealModeHandler(p: Processor, event: ProcessorEvent, target: number, image: number, cleared: number): boolean {
  const { state } = p;
  const offset = target & 0xffff;
  const code = readSegmentCache(state, SegmentIndex.CS);
  if (!isVirtual8086(state) && offset > code.limit) return refuse(p, Vector.GP, 0) ?? false;
  const stack = currentStack(p);
  const selector = state.get16(layout.segments[SegmentIndex.CS].selector);
  if (!stack.pushAll([image, selector, returnRip(state, event)], 2)) return false;
  stack.commit();
  const load = isVirtual8086(state) ? setVirtual8086Segment : setRealModeSegment;
  load(state, SegmentIndex.CS, target >>> 16);
  state.set64(layout.rip, BigInt(offset));
  writeFlags(state, 0, cleared | FlagMask.RF);
  return true;
}

/** A gate after the checks that concern the gate alone. */
interface Gate {
  readonly type: number;
  readonly selector: number;
  readonly offset: bigint;
  readonly interruptStack: number;
}

function fetchGate(p: Processor, event: ProcessorEvent): Gate | undefined {
  const { state, memory } = p;
  const isLong = isLongMode(state);
  const sizeBytes = isLong ? 16 : 8;
  const errorCode = idtErrorCode(event.vector);
  const entry = event.vector * sizeBytes;
  if (entry + sizeBytes - 1 > state.get32(layout.idtrLimit)) return refuse(p, Vector.GP, errorCode);
  const linear = linearSum(state, state.get64(layout.idtrBase), BigInt(entry));
  const descriptor = memory.load(linear, 8, "supervisor");
  if (descriptor === undefined) return undefined;
  const low = Number(descriptor & 0xffff_ffffn);
  const high = Number(descriptor >> 32n);
  const attributes = (high >>> 8) & 0xff;
  const type = systemType(attributes);
  if (type === undefined || !isGateType(type, isLong)) return refuse(p, Vector.GP, errorCode);
  if (isByProgram(event) && descriptorPrivilege(attributes) < state.get32(layout.cpl)) {
    return refuse(p, Vector.GP, errorCode);
  }
  if (!isPresent(attributes)) return refuse(p, Vector.NP, errorCode);
  const gate = { type, selector: low >>> 16, interruptStack: high & 7 };
  const offset = (low & 0xffff) | (high & 0xffff_0000);
  if (!isLong) return { ...gate, offset: BigInt(isWideGate(type) ? offset >>> 0 : low & 0xffff) };
  const upper = memory.load(linearSum(state, linear, 8n), 4, "supervisor");
  return upper === undefined ? undefined : { ...gate, offset: (upper << 32n) | BigInt(offset >>> 0) };
}

function isGateType(type: number, isLong: boolean): boolean {
  if (type === SystemType.interruptGate32 || type === SystemType.trapGate32) return true;
  return !isLong &&
    (type === SystemType.taskGate || type === SystemType.interruptGate16 || type === SystemType.trapGate16);
}

function isWideGate(type: number): boolean {
  return (type & 8) !== 0;
}

function pushesErrorCode(event: ProcessorEvent): boolean {
  return event.errorCode !== undefined && event.kind === "exception";
}

function deliverProtected(p: Processor, event: ProcessorEvent): boolean {
  const { state } = p;
  const gate = fetchGate(p, event);
  if (gate === undefined) return false;
  if (gate.type === SystemType.taskGate) {
    const errorCode = pushesErrorCode(event) ? event.errorCode : undefined;
    if (isIntercepted(p, { kind: "task switch", selector: gate.selector, reason: "gate", errorCode, event })) return false;
    return switchTaskByGate(p, gate.selector, returnRip(state, event), flagsImage(state, event), errorCode);
  }
  const handler = checkGateTarget(p, gate.selector, true);
  if (handler === undefined) return false;
  if (!isWithinLimit(handler.segment, Number(gate.offset), 1)) return refuse(p, Vector.GP, 0) ?? false;

  const wasVirtual8086 = isVirtual8086(state);
  const isInward = handler.cpl < state.get32(layout.cpl);
  // From virtual-8086 mode only level 0 can be entered.
  if (wasVirtual8086 && (!isInward || handler.cpl !== 0)) {
    return refuse(p, Vector.GP, selectorErrorCode(handler.selector)) ?? false;
  }
  const frame: (bigint | number)[] = [];
  const selectorOf = (index: number): number => state.get16(layout.segments[index].selector);
  if (wasVirtual8086) {
    frame.push(...[SegmentIndex.GS, SegmentIndex.FS, SegmentIndex.DS, SegmentIndex.ES].map(selectorOf));
  }
  const inner = isInward ? fetchInnerStack(p, handler.cpl) : undefined;
  if (isInward && inner === undefined) return false;
  if (isInward) frame.push(selectorOf(SegmentIndex.SS), state.get64(stackPointer));
  frame.push(flagsImage(state, event), selectorOf(SegmentIndex.CS), returnRip(state, event));
  if (pushesErrorCode(event)) frame.push(event.errorCode!);

  const stack = inner === undefined
    ? currentStack(p)
    : new Stack(p, inner.segment, stackSizeOfSegment(inner.segment), inner.pointer, "supervisor", selectorErrorCode(inner.selector));
  if (!stack.pushAll(frame, isWideGate(gate.type) ? 4 : 2)) return false;

  if (inner !== undefined) loadSegmentCache(state, SegmentIndex.SS, inner.selector, inner.segment);
  stack.commit();
  if (wasVirtual8086) {
    for (const index of [SegmentIndex.ES, SegmentIndex.DS, SegmentIndex.FS, SegmentIndex.GS]) loadNullSegment(state, index, 0);
  }
  enterHandler(p, handler, gate);
  return true;
}

function enterHandler(p: Processor, handler: CodeSegment, gate: Gate): void {
  enterCode(p, handler, gate.offset);
  const isInterruptGate = (gate.type & 1) === 0;
  writeFlags(p.state, 0, gateFlagsMask(isInterruptGate));
}

function deliverLong(p: Processor, event: ProcessorEvent): boolean {
  const { state } = p;
  const gate = fetchGate(p, event);
  if (gate === undefined) return false;
  const handler = checkGateTarget(p, gate.selector, true);
  if (handler === undefined) return false;
  if (!isCanonical(state, gate.offset)) return refuse(p, Vector.GP, 0) ?? false;

  const isInward = handler.cpl < state.get32(layout.cpl);
  const oldPointer = state.get64(stackPointer);
  const pointer = isInward || gate.interruptStack !== 0 ? fetchLongStack(p, handler.cpl, gate.interruptStack) : oldPointer;
  if (pointer === undefined) return false;

  const segment = readSegmentCache(state, SegmentIndex.SS);
  const stack = new Stack(p, segment, 64, pointer & ~0xfn, handler.cpl === 3 ? "current" : "supervisor", 0);
  const frame: (bigint | number)[] = [
    state.get16(layout.segments[SegmentIndex.SS].selector), oldPointer, flagsImage(state, event),
    state.get16(layout.segments[SegmentIndex.CS].selector), returnRip(state, event),
  ];
  if (pushesErrorCode(event)) frame.push(event.errorCode!);
  if (!stack.pushAll(frame, 8)) return false;

  if (isInward) loadNullSegment(state, SegmentIndex.SS, handler.cpl);
  stack.commit();
  enterHandler(p, handler, gate);
  return true;
}
