/** LAR, LSL, VERR and VERW, and the loads of LDTR and TR (SDM volume 3, "Protection"). */
import { Status } from "../../ir/index.ts";
import { Vector } from "../definition.ts";
import type { Processor } from "../processor.ts";
import * as layout from "../state.ts";
import {
  fetchDescriptor, fetchSystemSegment, isNullSelector, locateDescriptor, locateInTable, readDescriptor, selectorErrorCode,
  storeTypeByte,
} from "./descriptor-tables.ts";
import { SegmentIndex, isCanonical, isCanonicalHigh, isLongMode } from "./mode.ts";
import {
  SystemType, descriptorAttributes, descriptorBase, descriptorLimit, descriptorPrivilege, isCode, isConforming, isPresent, isReadable,
  isWritableData, loadNullSegment, loadSegmentCache, loadSegmentFields, parseDescriptor, systemType, type RawDescriptor,
} from "./segments.ts";

/** The descriptor, undefined when there is none, or "fault" after a page fault. */
function lookUp(p: Processor, selector: number): RawDescriptor | undefined | "fault" {
  if (isNullSelector(selector)) return undefined;
  const linear = locateDescriptor(p, selector, 8);
  return linear === undefined ? undefined : readDescriptor(p, linear) ?? "fault";
}

function isVisible(p: Processor, selector: number, attributes: number): boolean {
  if (isConforming(attributes)) return true;
  const privilege = descriptorPrivilege(attributes);
  return privilege >= p.state.get32(layout.cpl) && privilege >= (selector & 3);
}

/** System descriptor types that LAR accepts outside of and in IA-32e mode; LSL accepts those that have a limit. */
const legacyTypes: ReadonlySet<number> = new Set([
  SystemType.availableTss16, SystemType.ldt, SystemType.busyTss16, SystemType.callGate16, SystemType.taskGate,
  SystemType.availableTss32, SystemType.busyTss32, SystemType.callGate32,
]);
const longTypes: ReadonlySet<number> = new Set([
  SystemType.ldt, SystemType.availableTss32, SystemType.busyTss32, SystemType.callGate32,
]);
const gateTypes: ReadonlySet<number> = new Set([SystemType.callGate16, SystemType.taskGate, SystemType.callGate32]);

function isAcceptable(p: Processor, selector: number, attributes: number, allowsGates: boolean): boolean {
  const type = systemType(attributes);
  if (type !== undefined) {
    if (!(isLongMode(p.state) ? longTypes : legacyTypes).has(type) || (!allowsGates && gateTypes.has(type))) return false;
  }
  return isVisible(p, selector, attributes);
}

/** Result 0 is whether the selector is acceptable, result 1 the answer. */
function answer(p: Processor, value: bigint | undefined): Status {
  p.state.result32(0, value === undefined ? 0 : 1);
  p.state.result64(1, value ?? 0n);
  return Status.Next;
}

export function loadAccessRights(p: Processor, selector: number): Status {
  const descriptor = lookUp(p, selector);
  if (descriptor === "fault") return Status.Fault;
  if (descriptor === undefined) return answer(p, undefined);
  const { attributes } = parseDescriptor(descriptor);
  const accessRightsMask = 0x00ff_ff00;
  return answer(p, isAcceptable(p, selector, attributes, true) ? BigInt(descriptor.high & accessRightsMask) : undefined);
}

export function loadSegmentLimit(p: Processor, selector: number): Status {
  const descriptor = lookUp(p, selector);
  if (descriptor === "fault") return Status.Fault;
  if (descriptor === undefined) return answer(p, undefined);
  const { attributes, limit } = parseDescriptor(descriptor);
  return answer(p, isAcceptable(p, selector, attributes, false) ? BigInt(limit) : undefined);
}

/** VERR or VERW: result 0 is 1 when the segment may be read or written at this level. */
export function verifySegment(p: Processor, selector: number, isForWriting: boolean): Status {
  const descriptor = lookUp(p, selector);
  if (descriptor === "fault") return Status.Fault;
  let isAllowed = false;
  if (descriptor !== undefined) {
    const { attributes } = parseDescriptor(descriptor);
    const hasRight = isForWriting ? isWritableData(attributes) : isReadable(attributes);
    isAllowed = hasRight && (isVisible(p, selector, attributes) || (isCode(attributes) && isConforming(attributes)));
  }
  p.state.result32(0, isAllowed ? 1 : 0);
  return Status.Next;
}

function isOutsideGlobalTable(selector: number): boolean {
  return (selector & 4) !== 0;
}

export function loadLocalTableRegister(p: Processor, selector: number): Status {
  const { state } = p;
  if (isNullSelector(selector)) {
    loadNullSegment(state, SegmentIndex.LDTR, selector);
    return Status.Next;
  }
  const errorCode = selectorErrorCode(selector);
  if (isOutsideGlobalTable(selector)) return p.raise(Vector.GP, errorCode);
  const descriptor = fetchDescriptor(p, selector, Vector.GP);
  if (descriptor === undefined) return Status.Fault;
  const { attributes } = parseDescriptor(descriptor);
  if (systemType(attributes) !== SystemType.ldt) return p.raise(Vector.GP, errorCode);
  if (!isPresent(attributes)) return p.raise(Vector.NP, errorCode);
  const segment = fetchSystemSegment(p, selector, descriptor, Vector.GP);
  if (segment === undefined) return Status.Fault;
  if (isLongMode(state) && !isCanonical(state, segment.base)) return p.raise(Vector.GP, errorCode);
  loadSegmentCache(state, SegmentIndex.LDTR, selector, segment);
  return Status.Next;
}

const busyMask = 2;

/**
 * LTR in IA-32e mode where nothing is out of the ordinary, which KVM does after every exit; in numbers. False: nothing has changed
 * but accessed bits of page tables.
 */
function loadOrdinaryTaskRegister(p: Processor, selector: number): boolean {
  const { state } = p;
  const offset = selector & 0xfff8;
  const isInGdt = !isOutsideGlobalTable(selector) && offset !== 0 && offset + 15 <= state.get32(layout.gdtrLimit);
  if (p.memory.locate === undefined || !isLongMode(state) || !isInGdt) return false;
  const at = locateInTable(p, layout.gdtrBase, offset, 16);
  if (at === 0) return false;
  const { u32 } = state;
  const word = at >>> 2;
  const low = u32[word], high = u32[word + 1], baseHigh = u32[word + 2];
  const attributes = descriptorAttributes(high);
  const isAvailable = systemType(attributes) === SystemType.availableTss32 && isPresent(attributes) && (u32[word + 3] & 0x1f00) === 0;
  // It is written, and its page dirty, only when it is taken.
  if (!isAvailable || !isCanonicalHigh(state, baseHigh) || locateInTable(p, layout.gdtrBase, offset, 16, true) === 0) return false;
  u32[word + 1] = high | busyMask << 8;
  const base = descriptorBase(low, high);
  loadSegmentFields(state, SegmentIndex.TR, selector, base, descriptorLimit(low, high), attributes | busyMask);
  state.setHalves(layout.segments[SegmentIndex.TR].base, base, baseHigh);
  return true;
}

export function loadTaskRegister(p: Processor, selector: number): Status {
  if (loadOrdinaryTaskRegister(p, selector)) return Status.Next;
  const { state } = p;
  const errorCode = selectorErrorCode(selector);
  if (isNullSelector(selector)) return p.raise(Vector.GP, 0);
  if (isOutsideGlobalTable(selector)) return p.raise(Vector.GP, errorCode);
  const descriptor = fetchDescriptor(p, selector, Vector.GP);
  if (descriptor === undefined) return Status.Fault;
  const { attributes } = parseDescriptor(descriptor);
  const type = systemType(attributes);
  const isTask = type === SystemType.availableTss32 || (type === SystemType.availableTss16 && !isLongMode(state));
  if (!isTask) return p.raise(Vector.GP, errorCode);
  if (!isPresent(attributes)) return p.raise(Vector.NP, errorCode);
  const segment = fetchSystemSegment(p, selector, descriptor, Vector.GP);
  if (segment === undefined) return Status.Fault;
  if (isLongMode(state) && !isCanonical(state, segment.base)) return p.raise(Vector.GP, errorCode);
  if (!storeTypeByte(p, descriptor, (attributes & 0xff) | busyMask)) return Status.Fault;
  loadSegmentCache(state, SegmentIndex.TR, selector, { ...segment, attributes: segment.attributes | busyMask });
  return Status.Next;
}
