/** Far JMP, CALL and RET in every mode, with call gates and task switches (SDM volume 2, "CALL", "JMP", "RET"). */
import { Status } from "../../ir/index.ts";
import { Vector } from "../definition.ts";
import { readFlags } from "../flags.ts";
import type { Processor } from "../processor.ts";
import * as layout from "../state.ts";
import {
  checkDirectTarget, checkGateTarget, checkRealModeOffset, checkReturnTarget, checkTargetOffset, enterCode,
  enterRealModeCode, is64BitCode, type CodeSegment,
} from "./code-segment.ts";
import {
  fetchDescriptor, isNullSelector, locateDescriptor, readDescriptor, selectorErrorCode,
} from "./descriptor-tables.ts";
import { isIntercepted } from "../virtualization.ts";
import { deliverRecordedException } from "./exceptions.ts";
import { SegmentIndex, hasRealModeSegments, isLongMode } from "./mode.ts";
import { checkStackSegment, commitSegment, dropInaccessibleSegments } from "./segment-load.ts";
import {
  SystemType, descriptorPrivilege, isPresent, loadNullSegment, loadSegmentCache, readSegmentCache, systemType,
  type RawDescriptor,
} from "./segments.ts";
import { Stack, currentStack, stackSizeOfSegment, writeStackPointer } from "./stack.ts";
import { fetchInnerStack, fetchLongStack } from "./task-state.ts";
import { fetchTaskDescriptor, switchTask, type TaskSwitchReason } from "./task-switch.ts";

type Size = 16 | 32 | 64;
type Bytes = 2 | 4 | 8;

const stackPointer = layout.gpr[4];

/** Far JMP (`isCall` false) or CALL to `selector`:`offset`. */
export function farTransfer(p: Processor, selector: number, offset: bigint, operandSize: Size, isCall: boolean): Status {
  if (hasRealModeSegments(p.state)) {
    if (!checkRealModeOffset(p, offset)) return Status.Fault;
    if (isCall && !pushReturn(p, currentStack(p), operandSize)) return Status.Fault;
    return enterRealModeCode(p, selector, offset);
  }
  if (isNullSelector(selector)) return p.raise(Vector.GP, 0);
  const descriptor = fetchDescriptor(p, selector, Vector.GP);
  if (descriptor === undefined) return Status.Fault;
  const type = systemType((descriptor.high >>> 8) & 0xff);
  if (type !== undefined) return transferToSystem(p, selector, descriptor, type, isCall);
  const code = checkDirectTarget(p, selector, descriptor);
  if (code === undefined) return Status.Fault;
  if (isCall) {
    if (!pushReturn(p, stackFor(p, code), operandSize, () => checkTargetOffset(p, code, offset))) return Status.Fault;
  } else if (!checkTargetOffset(p, code, offset)) return Status.Fault;
  enterCode(p, code, offset);
  p.modeChanged();
  return Status.Branch;
}

/** The stack as the mode of the code that is called sees it: so AMD's processors push (APM volume 3, "CALL (Far)"). */
function stackFor(p: Processor, code: CodeSegment): Stack {
  const segment = readSegmentCache(p.state, SegmentIndex.SS);
  const sizeBits = is64BitCode(p, code.segment) ? 64 : stackSizeOfSegment(segment);
  return new Stack(p, segment, sizeBits, p.state.get64(stackPointer), "current", 0);
}

/**
 * Pushes CS and the address of the next instruction; commits the stack pointer if `check` allows. What was pushed
 * before that lies below the stack pointer.
 */
function pushReturn(p: Processor, stack: Stack, operandSize: Size, check: () => boolean = () => true): boolean {
  const selector = p.state.get16(layout.segments[SegmentIndex.CS].selector);
  if (!stack.pushAll([selector, p.nextRip()], (operandSize / 8) as Bytes) || !check()) return false;
  stack.commit();
  return true;
}

function transferToSystem(p: Processor, selector: number, descriptor: RawDescriptor, type: number, isCall: boolean): Status {
  const { state } = p;
  const errorCode = selectorErrorCode(selector);
  const access = (descriptor.high >>> 8) & 0xff;
  const privilege = descriptorPrivilege(access);
  const isLong = isLongMode(state);
  const isCallGate = type === SystemType.callGate32 || (type === SystemType.callGate16 && !isLong);
  const isTask = !isLong && (type === SystemType.availableTss16 || type === SystemType.availableTss32);
  const isTaskGate = !isLong && type === SystemType.taskGate;
  const isAccessible = privilege >= state.get32(layout.cpl) && privilege >= (selector & 3);
  if (!(isCallGate || isTask || isTaskGate) || !isAccessible) return p.raise(Vector.GP, errorCode);
  if (isTask && (selector & 4) !== 0) return p.raise(Vector.GP, errorCode);
  if (!isPresent(access)) return p.raise(Vector.NP, errorCode);
  if (isTask) return runTask(p, selector, descriptor, isCall ? "call" : "jump", readFlags(state));
  if (isTaskGate) {
    const taskSelector = descriptor.low >>> 16;
    const task = fetchTaskDescriptor(p, taskSelector, Vector.GP);
    return task === undefined ? Status.Fault : runTask(p, taskSelector, task, isCall ? "call" : "jump", readFlags(state));
  }
  return transferThroughGate(p, selector, descriptor, isCall);
}

/** Switches tasks on behalf of an instruction; exceptions in the new task's context are delivered there. */
export function runTask(p: Processor, selector: number, descriptor: RawDescriptor, reason: TaskSwitchReason, flags: number): Status {
  if (isIntercepted(p, { kind: "task switch", selector, reason, errorCode: undefined, event: undefined })) return Status.Fault;
  const result = switchTask(p, selector, descriptor, reason, { rip: p.nextRip(), flags });
  if (result === "fault") return Status.Fault;
  if (result === "fault in new task" && !deliverRecordedException(p)) return Status.Exit;
  return Status.Branch;
}

function transferThroughGate(p: Processor, selector: number, gate: RawDescriptor, isCall: boolean): Status {
  const { state } = p;
  const isLong = isLongMode(state);
  const isWide = (((gate.high >>> 8) & 8) !== 0);
  let offset = BigInt(isWide ? ((gate.low & 0xffff) | (gate.high & 0xffff_0000)) >>> 0 : gate.low & 0xffff);
  if (isLong) {
    const upper = fetchUpperHalf(p, selector, gate);
    if (upper === undefined) return Status.Fault;
    offset |= BigInt(upper.low) << 32n;
  }
  const code = checkGateTarget(p, gate.low >>> 16, isCall);
  if (code === undefined || !checkTargetOffset(p, code, offset)) return Status.Fault;
  if (isCall) {
    const isInward = code.cpl < state.get32(layout.cpl);
    const sizeBytes: Bytes = isLong ? 8 : isWide ? 4 : 2;
    const isPushed = isInward
      ? isLong ? pushLongFrame(p, code) : pushInnerFrame(p, code, sizeBytes, gate.high & 0x1f)
      : pushReturn(p, currentStack(p), (sizeBytes * 8) as Size);
    if (!isPushed) return Status.Fault;
  }
  enterCode(p, code, offset);
  p.modeChanged();
  return Status.Branch;
}

/** Upper eight bytes of a 64-bit call gate, whose type field must be zero. */
function fetchUpperHalf(p: Processor, selector: number, gate: RawDescriptor): RawDescriptor | undefined {
  if (locateDescriptor(p, selector, 16) !== undefined) {
    const upper = readDescriptor(p, BigInt.asUintN(64, gate.linear + 8n));
    if (upper === undefined || (upper.high & 0x1f00) === 0) return upper;
  }
  p.raise(Vector.GP, selectorErrorCode(selector));
  return undefined;
}

/** Switches to the stack of the inner level and pushes SS, ESP, the parameters, CS and EIP. */
function pushInnerFrame(p: Processor, code: CodeSegment, sizeBytes: Bytes, parameters: number): boolean {
  const { state } = p;
  const inner = fetchInnerStack(p, code.cpl);
  if (inner === undefined) return false;
  const old = currentStack(p);
  const copied = old.popAll(parameters, sizeBytes);
  if (copied === undefined) return false;
  const frame = [
    state.get16(layout.segments[SegmentIndex.SS].selector), state.get64(stackPointer), ...copied.toReversed(),
    state.get16(layout.segments[SegmentIndex.CS].selector), p.nextRip(),
  ];
  const sizeBits = stackSizeOfSegment(inner.segment);
  const stack = new Stack(p, inner.segment, sizeBits, inner.pointer, "supervisor", selectorErrorCode(inner.selector));
  if (!stack.pushAll(frame, sizeBytes)) return false;
  loadSegmentCache(state, SegmentIndex.SS, inner.selector, inner.segment);
  stack.commit();
  return true;
}

function pushLongFrame(p: Processor, code: CodeSegment): boolean {
  const { state } = p;
  const pointer = fetchLongStack(p, code.cpl, 0);
  if (pointer === undefined) return false;
  const stack = new Stack(p, readSegmentCache(state, SegmentIndex.SS), 64, pointer, "supervisor", 0);
  const frame = [
    state.get16(layout.segments[SegmentIndex.SS].selector), state.get64(stackPointer),
    state.get16(layout.segments[SegmentIndex.CS].selector), p.nextRip(),
  ];
  if (!stack.pushAll(frame, 8)) return false;
  loadNullSegment(state, SegmentIndex.SS, code.cpl);
  stack.commit();
  return true;
}

/** Far RET that releases `releaseBytes` of parameters from the caller's stack, and from its own. */
export function farReturn(p: Processor, operandSize: Size, releaseBytes: number): Status {
  const { state } = p;
  const sizeBytes = (operandSize / 8) as Bytes;
  const stack = currentStack(p);
  const frame = stack.popAll(2, sizeBytes);
  if (frame === undefined) return Status.Fault;
  const offset = frame[0];
  const selector = Number(frame[1] & 0xffffn);
  stack.skip(releaseBytes);
  if (hasRealModeSegments(state)) {
    if (!checkRealModeOffset(p, offset)) return Status.Fault;
    stack.commit();
    return enterRealModeCode(p, selector, offset);
  }
  // The outer stack pointer is popped before the selector is looked at (AMD APM volume 3, "RET (Far)").
  const isOutward = (selector & 3) !== state.get32(layout.cpl);
  const outer = isOutward ? stack.popAll(2, sizeBytes) : [];
  const code = outer === undefined ? undefined : checkReturnTarget(p, selector);
  if (outer === undefined || code === undefined) return Status.Fault;
  if (isOutward) {
    if (!returnOutward(p, code, offset, outer, releaseBytes)) return Status.Fault;
  } else {
    if (!checkTargetOffset(p, code, offset)) return Status.Fault;
    stack.commit();
    enterCode(p, code, offset);
  }
  p.modeChanged();
  return Status.Branch;
}

/** Commits a return to CS:offset and to the stack `[pointer, selector]` of its level; false after a fault. */
export function returnOutward(
  p: Processor, code: CodeSegment, offset: bigint, [pointer, stackSelector]: readonly bigint[], releaseBytes: number,
): boolean {
  const { state } = p;
  const isWide = is64BitCode(p, code.segment);
  if (!checkTargetOffset(p, code, offset)) return false;
  const stack = checkStackSegment(p, Number(stackSelector & 0xffffn), code.cpl, Vector.GP, isWide);
  if (stack === undefined) return false;
  const isOutward = code.cpl > state.get32(layout.cpl);
  const sizeBits = isWide || stack.segment === undefined ? 64 : stackSizeOfSegment(stack.segment);
  commitSegment(p, SegmentIndex.SS, stack);
  writeStackPointer(p, sizeBits, pointer + BigInt(releaseBytes));
  enterCode(p, code, offset);
  if (isOutward) dropInaccessibleSegments(p, code.cpl);
  return true;
}
