/** Loads of segment registers by instructions: MOV, POP, LDS … LSS and the data segments of IRET (SDM volume 2, "MOV"). */
import { Status } from "../../ir/index.ts";
import { Vector } from "../definition.ts";
import type { Processor } from "../processor.ts";
import * as layout from "../state.ts";
import {
  fetchDescriptor, isNullSelector, markAccessed, parseAccessed, selectorErrorCode,
} from "./descriptor-tables.ts";
import { SegmentIndex, is64BitMode, isProtectedMode, isVirtual8086 } from "./mode.ts";
import {
  descriptorPrivilege, isCode, isConforming, isPresent, isReadable, isWritableData, loadNullSegment, loadSegmentCache,
  parseDescriptor, setRealModeSegment, setVirtual8086Segment, type SegmentCache,
} from "./segments.ts";

/** A checked segment, not yet loaded. `segment` undefined: a null selector. */
export interface CheckedSegment {
  readonly selector: number;
  readonly segment: SegmentCache | undefined;
}

/** Loads ES, SS, DS, FS or GS as MOV does; after a fault nothing has changed. */
export function loadSegmentRegister(p: Processor, index: number, selector: number): Status {
  const { state } = p;
  if (!isProtectedMode(state)) {
    setRealModeSegment(state, index, selector);
  } else if (isVirtual8086(state)) {
    setVirtual8086Segment(state, index, selector);
  } else {
    const checked = index === SegmentIndex.SS
      ? checkStackSegment(p, selector, state.get32(layout.cpl), Vector.GP)
      : checkDataSegment(p, selector);
    if (checked === undefined) return Status.Fault;
    commitSegment(p, index, checked);
  }
  if (index === SegmentIndex.SS) p.modeChanged();
  return Status.Next;
}

export function commitSegment(p: Processor, index: number, { selector, segment }: CheckedSegment): void {
  if (segment === undefined) loadNullSegment(p.state, index, selector);
  else loadSegmentCache(p.state, index, selector, segment);
}

/** Protected-mode checks for DS, ES, FS and GS; undefined after a fault. */
export function checkDataSegment(p: Processor, selector: number, vector: number = Vector.GP): CheckedSegment | undefined {
  if (isNullSelector(selector)) return { selector, segment: undefined };
  const descriptor = fetchDescriptor(p, selector, vector);
  if (descriptor === undefined) return undefined;
  const { attributes } = parseDescriptor(descriptor);
  const privilege = descriptorPrivilege(attributes);
  const isTooPrivileged = !isConforming(attributes) &&
    (privilege < (selector & 3) || privilege < p.state.get32(layout.cpl));
  if (!isReadable(attributes) || isTooPrivileged) {
    p.raise(vector, selectorErrorCode(selector));
    return undefined;
  }
  if (!isPresent(attributes)) {
    p.raise(Vector.NP, selectorErrorCode(selector));
    return undefined;
  }
  return markAccessed(p, descriptor) ? { selector, segment: parseAccessed(descriptor) } : undefined;
}

/**
 * Checks for SS at privilege level `cpl`; undefined after a fault. `vector` is #GP for instructions and #TS where the
 * selector comes from a TSS. Null is allowed only when 64-bit code is to run (`isFor64BitMode`) below level 3.
 */
export function checkStackSegment(
  p: Processor, selector: number, cpl: number, vector: number, isFor64BitMode: boolean = is64BitMode(p.state),
): CheckedSegment | undefined {
  if (isNullSelector(selector)) {
    if (isFor64BitMode && cpl !== 3 && (selector & 3) === cpl) return { selector, segment: undefined };
    p.raise(vector, 0);
    return undefined;
  }
  const descriptor = fetchDescriptor(p, selector, vector);
  if (descriptor === undefined) return undefined;
  const { attributes } = parseDescriptor(descriptor);
  if ((selector & 3) !== cpl || !isWritableData(attributes) || descriptorPrivilege(attributes) !== cpl) {
    p.raise(vector, selectorErrorCode(selector));
    return undefined;
  }
  if (!isPresent(attributes)) {
    p.raise(Vector.SS, selectorErrorCode(selector));
    return undefined;
  }
  return markAccessed(p, descriptor) ? { selector, segment: parseAccessed(descriptor) } : undefined;
}

/**
 * After a return to an outer level: a data segment register that the new level could not have loaded becomes null
 * (SDM volume 2, "RET").
 */
export function dropInaccessibleSegments(p: Processor, cpl: number): void {
  for (const index of [SegmentIndex.ES, SegmentIndex.DS, SegmentIndex.FS, SegmentIndex.GS]) {
    const fields = layout.segments[index];
    const attributes = p.state.get32(fields.attributes);
    const isOpenToAll = isCode(attributes) && isConforming(attributes);
    const isNull = isNullSelector(p.state.get16(fields.selector));
    // The base of a null FS or GS may have been written by WRMSR or WRFSBASE and stays.
    if (!isNull && !isOpenToAll && descriptorPrivilege(attributes) < cpl) loadNullSegment(p.state, index, 0);
  }
}
