/** Checks and loads of CS that all far transfers share (SDM volume 3, "Privilege Level Checking When Transferring Program Control"). */
import { Status } from "../../ir/index.ts";
import { Vector } from "../definition.ts";
import type { Processor } from "../processor.ts";
import * as layout from "../state.ts";
import {
  fetchDescriptor, isNullSelector, markAccessed, parseAccessed, selectorErrorCode,
} from "./descriptor-tables.ts";
import { SegmentAttribute, SegmentIndex, isCanonical, isLongMode, isVirtual8086 } from "./mode.ts";
import {
  descriptorPrivilege, isCode, isConforming, isPresent, isWithinLimit, loadSegmentCache, parseDescriptor,
  readSegmentCache, setRealModeSegment, setVirtual8086Segment, type RawDescriptor, type SegmentCache,
} from "./segments.ts";

/** A checked code segment, its selector already with the RPL it is going to have. */
export interface CodeSegment {
  readonly selector: number;
  readonly segment: SegmentCache;
  readonly cpl: number;
}

/** Raises `vector` and answers undefined, for functions that have no result after a fault. */
export function refuse(p: Processor, vector: number, errorCode: number): undefined {
  p.raise(vector, errorCode);
  return undefined;
}

/** Whether code in the segment runs in 64-bit mode. */
export function is64BitCode(p: Processor, segment: SegmentCache): boolean {
  return isLongMode(p.state) && (segment.attributes & SegmentAttribute.long) !== 0;
}

/** Checks shared by all: a present code segment, whose L and D bits are not both set in IA-32e mode. */
function checkCode(p: Processor, selector: number, descriptor: RawDescriptor, isAllowed: (privilege: number, isConforming: boolean) => boolean): SegmentCache | undefined {
  const { attributes } = parseDescriptor(descriptor);
  const errorCode = selectorErrorCode(selector);
  const isDoubleSized = isLongMode(p.state) && (attributes & SegmentAttribute.long) !== 0 && (attributes & SegmentAttribute.big) !== 0;
  if (!isCode(attributes) || isDoubleSized || !isAllowed(descriptorPrivilege(attributes), isConforming(attributes))) {
    return refuse(p, Vector.GP, errorCode);
  }
  if (!isPresent(attributes)) return refuse(p, Vector.NP, errorCode);
  return markAccessed(p, descriptor) ? parseAccessed(descriptor) : undefined;
}

/** Target of a far JMP or CALL that names a code segment: the privilege level stays. */
export function checkDirectTarget(p: Processor, selector: number, descriptor: RawDescriptor): CodeSegment | undefined {
  const cpl = p.state.get32(layout.cpl);
  const segment = checkCode(p, selector, descriptor, (privilege, conforming) =>
    conforming ? privilege <= cpl : privilege === cpl && (selector & 3) <= cpl);
  return segment && { selector: (selector & ~3) | cpl, segment, cpl };
}

/** Target of a call gate. Only a CALL enters a more privileged, non-conforming segment at its own level. */
export function checkGateTarget(p: Processor, selector: number, isCall: boolean): CodeSegment | undefined {
  const { state } = p;
  if (isNullSelector(selector)) return refuse(p, Vector.GP, 0);
  const descriptor = fetchDescriptor(p, selector, Vector.GP);
  if (descriptor === undefined) return undefined;
  const cpl = state.get32(layout.cpl);
  const { attributes } = parseDescriptor(descriptor);
  if (isLongMode(state) && (attributes & SegmentAttribute.long) === 0) return refuse(p, Vector.GP, selectorErrorCode(selector));
  const segment = checkCode(p, selector, descriptor, (privilege, conforming) =>
    conforming || isCall ? privilege <= cpl : privilege === cpl);
  if (segment === undefined) return undefined;
  const newCpl = isConforming(attributes) ? cpl : descriptorPrivilege(attributes);
  return { selector: (selector & ~3) | newCpl, segment, cpl: newCpl };
}

/** CS popped by RET or IRET: the privilege level becomes the selector's RPL. */
export function checkReturnTarget(p: Processor, selector: number): CodeSegment | undefined {
  const rpl = selector & 3;
  if (isNullSelector(selector)) return refuse(p, Vector.GP, 0);
  const descriptor = fetchDescriptor(p, selector, Vector.GP);
  if (descriptor === undefined) return undefined;
  if (rpl < p.state.get32(layout.cpl)) return refuse(p, Vector.GP, selectorErrorCode(selector));
  const segment = checkCode(p, selector, descriptor, (privilege, conforming) =>
    conforming ? privilege <= rpl : privilege === rpl);
  return segment && { selector, segment, cpl: rpl };
}

/** #GP(0) and false when `offset` is outside of the segment, or not canonical in 64-bit mode. */
export function checkTargetOffset(p: Processor, code: CodeSegment, offset: bigint): boolean {
  const isValid = is64BitCode(p, code.segment)
    ? isCanonical(p.state, offset)
    : offset <= 0xffff_ffffn && isWithinLimit(code.segment, Number(offset), 1);
  if (!isValid) p.raise(Vector.GP, 0);
  return isValid;
}

/** Loads CS, CPL and RIP. `modeChanged` is left to the caller, who may have more to load. */
export function enterCode({ state }: Processor, code: CodeSegment, offset: bigint): void {
  loadSegmentCache(state, SegmentIndex.CS, code.selector, code.segment);
  state.set32(layout.cpl, code.cpl);
  state.set64(layout.rip, offset);
}

/** Far transfer in real-address or virtual-8086 mode; false after #GP(0) beyond the limit. */
export function checkRealModeOffset(p: Processor, offset: bigint): boolean {
  const limit = isVirtual8086(p.state) ? 0xffff : readSegmentCache(p.state, SegmentIndex.CS).limit;
  const isValid = offset <= BigInt(limit);
  if (!isValid) p.raise(Vector.GP, 0);
  return isValid;
}

export function enterRealModeCode(p: Processor, selector: number, offset: bigint): Status {
  const { state } = p;
  const load = isVirtual8086(state) ? setVirtual8086Segment : setRealModeSegment;
  load(state, SegmentIndex.CS, selector);
  state.set64(layout.rip, offset);
  p.modeChanged();
  return Status.Branch;
}
