/** Hardware task switches between 16- and 32-bit TSSs (SDM volume 3, "Task Switching"). */
import { Vector } from "../definition.ts";
import { FlagMask, allFlagsMask, writeFlags } from "../flags.ts";
import type { Processor } from "../processor.ts";
import * as layout from "../state.ts";
import {
  fetchDescriptor, isNullSelector, markAccessed, parseAccessed, readDescriptor, selectorErrorCode, storeTypeByte,
} from "./descriptor-tables.ts";
import { raiseDebugStatus } from "./debug.ts";
import { Cr0Mask, SegmentAttribute, SegmentIndex } from "./mode.ts";
import { checkDataSegment, checkStackSegment, commitSegment } from "./segment-load.ts";
import {
  SystemType, descriptorPrivilege, isCode, isConforming, isPresent, isWithinLimit, loadNullSegment, loadSegmentCache,
  parseDescriptor, readSegmentCache, setVirtual8086Segment, systemType, type RawDescriptor,
} from "./segments.ts";
import { currentStack } from "./stack.ts";
import { isWideTaskState } from "./task-state.ts";

export type TaskSwitchReason = "jump" | "call" | "return";

/** What the outgoing task saves as its own. */
export interface OutgoingTask {
  readonly rip: bigint;
  readonly flags: number;
}

/**
 * "fault": before the switch, nothing has changed. "fault in new task": the switch is complete, state.rip is the new
 * task's, and the recorded exception belongs to it.
 */
export type TaskSwitchResult = "switched" | "fault" | "fault in new task";

const busyBit = 2;
const debugTrapMask = 1n;

/** Offsets of a TSS's fields. Registers are in the order EAX ECX EDX EBX ESP EBP ESI EDI, segments ES CS SS DS [FS GS]. */
interface TaskLayout {
  readonly fieldBytes: 2 | 4;
  readonly minimumLimit: number;
  readonly instructionPointer: number;
  readonly flags: number;
  readonly registers: number;
  readonly segments: number;
  readonly segmentCount: 4 | 6;
  readonly localTable: number;
}

const layout32: TaskLayout = {
  fieldBytes: 4, minimumLimit: 0x67, instructionPointer: 0x20, flags: 0x24, registers: 0x28, segments: 0x48,
  segmentCount: 6, localTable: 0x60,
};
const layout16: TaskLayout = {
  fieldBytes: 2, minimumLimit: 0x2b, instructionPointer: 0x0e, flags: 0x10, registers: 0x12, segments: 0x22,
  segmentCount: 4, localTable: 0x2a,
};
const controlTable32 = 0x1c;
const debugTrap32 = 0x64;

function layoutOf(attributes: number): TaskLayout {
  return isWideTaskState(attributes) ? layout32 : layout16;
}

function linearIn(base: bigint, offset: number): bigint {
  return BigInt.asUintN(32, base + BigInt(offset));
}

/** Task switch by a task gate of the IDT, which pushes the event's error code in the new task; false after a fault. */
export function switchTaskByGate(
  p: Processor, selector: number, rip: bigint, flags: number, errorCode: number | undefined,
): boolean {
  const descriptor = fetchTaskDescriptor(p, selector, Vector.GP);
  if (descriptor === undefined) return false;
  if (switchTask(p, selector, descriptor, "call", { rip, flags }) !== "switched") return false;
  if (errorCode === undefined) return true;
  const { attributes } = readSegmentCache(p.state, SegmentIndex.TR);
  const stack = currentStack(p);
  if (!stack.push(errorCode, isWideTaskState(attributes) ? 4 : 2)) return false;
  stack.commit();
  return true;
}

/** Descriptor of an available TSS in the GDT; undefined after `vector` with the selector. */
export function fetchTaskDescriptor(p: Processor, selector: number, vector: number): RawDescriptor | undefined {
  const isInGlobalTable = (selector & 4) === 0 && !isNullSelector(selector);
  const descriptor = isInGlobalTable ? fetchDescriptor(p, selector, vector) : undefined;
  if (isInGlobalTable && descriptor === undefined) return undefined;
  const type = descriptor && systemType((descriptor.high >>> 8) & 0xff);
  if (type === SystemType.availableTss16 || type === SystemType.availableTss32) return descriptor;
  p.raise(vector, selectorErrorCode(selector));
  return undefined;
}

/** Switches to the task of `descriptor`, whose type and privilege the caller has checked. */
export function switchTask(
  p: Processor, selector: number, descriptor: RawDescriptor, reason: TaskSwitchReason, outgoing: OutgoingTask,
): TaskSwitchResult {
  const { state, memory } = p;
  const incoming = parseDescriptor(descriptor);
  const errorCode = selectorErrorCode(selector);
  const incomingLayout = layoutOf(incoming.attributes);
  if (!isPresent(incoming.attributes)) return fault(p, Vector.NP, errorCode);
  if (incoming.limit < incomingLayout.minimumLimit) return fault(p, Vector.TS, errorCode);
  const old = readSegmentCache(state, SegmentIndex.TR);
  const oldLayout = layoutOf(old.attributes);
  const oldSelector = state.get16(layout.segments[SegmentIndex.TR].selector);
  if ((old.attributes & SegmentAttribute.unusable) !== 0 || old.limit < oldLayout.minimumLimit) {
    return fault(p, Vector.TS, selectorErrorCode(oldSelector));
  }
  // Everything that can page-fault is touched before anything changes.
  const isReachable = memory.probe(linearIn(old.base, 0), oldLayout.minimumLimit + 1, "write", "supervisor") &&
    memory.probe(linearIn(incoming.base, 0), incomingLayout.minimumLimit + 1, reason === "call" ? "write" : "read", "supervisor") &&
    memory.probe(descriptor.linear, 8, "write", "supervisor");
  if (!isReachable) return "fault";
  const image = readTaskImage(p, incoming.base, incomingLayout);
  if (image === undefined) return "fault";

  if (reason !== "call" && !clearBusy(p, oldSelector)) return "fault";
  const savedFlags = reason === "return" ? outgoing.flags & ~FlagMask.NT : outgoing.flags;
  if (!saveTask(p, old.base, oldLayout, { rip: outgoing.rip, flags: savedFlags })) return "fault";
  if (reason === "call" && !memory.store(linearIn(incoming.base, 0), 2, BigInt(oldSelector), "supervisor")) return "fault";
  if (reason !== "return" && !storeTypeByte(p, descriptor, ((descriptor.high >>> 8) & 0xff) | busyBit)) return "fault";

  loadSegmentCache(state, SegmentIndex.TR, selector, { ...incoming, attributes: incoming.attributes | busyBit });
  state.set64(layout.cr0, state.get64(layout.cr0) | BigInt(Cr0Mask.TS));
  const localBreakpointsMask = 0x155n;
  state.set64(layout.dr[7], state.get64(layout.dr[7]) & ~localBreakpointsMask);
  return loadTask(p, image, reason === "call") ? "switched" : "fault in new task";
}

function fault(p: Processor, vector: number, errorCode: number): TaskSwitchResult {
  p.raise(vector, errorCode);
  return "fault";
}

/** Marks the outgoing task available again. */
function clearBusy(p: Processor, selector: number): boolean {
  const linear = linearIn(p.state.get64(layout.gdtrBase), selector & 0xfff8);
  const descriptor = readDescriptor(p, linear);
  return descriptor !== undefined && storeTypeByte(p, descriptor, ((descriptor.high >>> 8) & 0xff) & ~busyBit);
}

function saveTask({ state, memory }: Processor, base: bigint, tss: TaskLayout, outgoing: OutgoingTask): boolean {
  const { fieldBytes } = tss;
  const store = (offset: number, value: bigint, sizeBytes: 2 | 4): boolean =>
    memory.store(linearIn(base, offset), sizeBytes, BigInt.asUintN(sizeBytes * 8, value), "supervisor");
  let isStored = store(tss.instructionPointer, outgoing.rip, fieldBytes) && store(tss.flags, BigInt(outgoing.flags), fieldBytes);
  for (let index = 0; index < 8 && isStored; index++) {
    isStored = store(tss.registers + index * fieldBytes, state.get64(layout.gpr[index]), fieldBytes);
  }
  for (let index = 0; index < tss.segmentCount && isStored; index++) {
    isStored = store(tss.segments + index * fieldBytes, BigInt(state.get16(layout.segments[index].selector)), 2);
  }
  return isStored;
}

/** The new task's state as its TSS has it. */
interface TaskImage {
  readonly rip: bigint;
  readonly flags: number;
  readonly registers: readonly bigint[];
  readonly selectors: readonly number[];
  readonly localTable: number;
  readonly cr3: bigint | undefined;
  readonly trapsOnEntry: boolean;
  readonly isWide: boolean;
}

function readTaskImage({ memory }: Processor, base: bigint, tss: TaskLayout): TaskImage | undefined {
  const { fieldBytes } = tss;
  const isWide = tss === layout32;
  let failed = false;
  const load = (offset: number, sizeBytes: 2 | 4): bigint => {
    const value = failed ? undefined : memory.load(linearIn(base, offset), sizeBytes, "supervisor");
    failed ||= value === undefined;
    return value ?? 0n;
  };
  const image: TaskImage = {
    rip: load(tss.instructionPointer, fieldBytes),
    flags: Number(load(tss.flags, fieldBytes)),
    registers: Array.from({ length: 8 }, (_, index) => load(tss.registers + index * fieldBytes, fieldBytes)),
    selectors: Array.from({ length: tss.segmentCount }, (_, index) => Number(load(tss.segments + index * fieldBytes, 2))),
    localTable: Number(load(tss.localTable, 2)),
    cr3: isWide ? load(controlTable32, 4) : undefined,
    trapsOnEntry: isWide && (load(debugTrap32, 2) & debugTrapMask) !== 0n,
    isWide,
  };
  return failed ? undefined : image;
}

/** Loads the new task's state; false when a fault in its context is recorded. */
function loadTask(p: Processor, image: TaskImage, isNested: boolean): boolean {
  const { state } = p;
  const hasPaging = (state.get32(layout.cr0) & Cr0Mask.PG) !== 0;
  if (hasPaging && image.cr3 !== undefined && image.cr3 !== state.get64(layout.cr3)) {
    state.set64(layout.cr3, image.cr3);
    p.modeChanged();
    p.memory.switchAddressSpace(undefined, false);
  }
  state.set64(layout.rip, image.rip);
  const narrowFlagsMask = 0xffff;
  writeFlags(state, image.flags, image.isWide ? allFlagsMask : allFlagsMask & narrowFlagsMask);
  if (!image.isWide) writeFlags(state, 0, FlagMask.VM);
  if (isNested) writeFlags(state, FlagMask.NT, FlagMask.NT);
  for (const [index, value] of image.registers.entries()) {
    // The upper half of EAX … EDI does not exist in a 16-bit TSS and reads as ones on the 80386 and its successors.
    state.set64(layout.gpr[index], image.isWide ? value : value | 0xffff_0000n);
  }
  const { selectors } = image;
  const isVirtual8086Task = image.isWide && (image.flags & FlagMask.VM) !== 0;
  // Selectors are visible to a handler even if loading one of them faults.
  for (let index = 0; index < 6; index++) loadNullSegment(state, index, selectors[index] ?? 0);
  loadNullSegment(state, SegmentIndex.LDTR, image.localTable);
  state.set32(layout.cpl, isVirtual8086Task ? 3 : selectors[SegmentIndex.CS] & 3);
  p.modeChanged();

  if (!loadLocalTable(p, image.localTable)) return false;
  if (isVirtual8086Task) {
    for (const [index, selector] of selectors.entries()) setVirtual8086Segment(state, index, selector);
  } else if (!loadTaskSegments(p, selectors)) {
    return false;
  }
  p.modeChanged();
  if (!isWithinLimit(readSegmentCache(state, SegmentIndex.CS), Number(image.rip), 1)) {
    p.raise(Vector.GP, 0);
    return false;
  }
  if (!image.trapsOnEntry) return true;
  const taskSwitchMask = 1 << 15;
  raiseDebugStatus(p, taskSwitchMask);
  return false;
}

function loadLocalTable(p: Processor, selector: number): boolean {
  if (isNullSelector(selector)) return true;
  const errorCode = selectorErrorCode(selector);
  if ((selector & 4) !== 0) return refuse(p, Vector.TS, errorCode);
  const descriptor = fetchDescriptor(p, selector, Vector.TS);
  if (descriptor === undefined) return false;
  const segment = parseDescriptor(descriptor);
  if (systemType(segment.attributes) !== SystemType.ldt || !isPresent(segment.attributes)) return refuse(p, Vector.TS, errorCode);
  loadSegmentCache(p.state, SegmentIndex.LDTR, selector, segment);
  return true;
}

function loadTaskSegments(p: Processor, selectors: readonly number[]): boolean {
  const { state } = p;
  const codeSelector = selectors[SegmentIndex.CS];
  const cpl = codeSelector & 3;
  const stack = checkStackSegment(p, selectors[SegmentIndex.SS], cpl, Vector.TS);
  if (stack === undefined) return false;
  commitSegment(p, SegmentIndex.SS, stack);
  for (const index of [SegmentIndex.ES, SegmentIndex.DS, SegmentIndex.FS, SegmentIndex.GS]) {
    const checked = checkDataSegment(p, selectors[index] ?? 0, Vector.TS);
    if (checked === undefined) return false;
    commitSegment(p, index, checked);
  }
  if (isNullSelector(codeSelector)) return refuse(p, Vector.TS, 0);
  const errorCode = selectorErrorCode(codeSelector);
  const descriptor = fetchDescriptor(p, codeSelector, Vector.TS);
  if (descriptor === undefined) return false;
  const { attributes } = parseDescriptor(descriptor);
  const privilege = descriptorPrivilege(attributes);
  const isAllowed = isCode(attributes) && (isConforming(attributes) ? privilege <= cpl : privilege === cpl);
  if (!isAllowed) return refuse(p, Vector.TS, errorCode);
  if (!isPresent(attributes)) return refuse(p, Vector.NP, errorCode);
  if (!markAccessed(p, descriptor)) return false;
  loadSegmentCache(state, SegmentIndex.CS, codeSelector, parseAccessed(descriptor));
  return true;
}

function refuse(p: Processor, vector: number, errorCode: number): false {
  p.raise(vector, errorCode);
  return false;
}
