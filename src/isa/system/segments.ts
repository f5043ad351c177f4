/** Segment descriptors and the hidden part of segment registers (SDM volume 3, "Segmentation"). */
import type { StateView } from "../state-view.ts";
import * as layout from "../state.ts";
import { SegmentAttribute, SegmentIndex, isProtectedMode } from "./mode.ts";

/** What a segment register holds beside its selector. */
export interface SegmentCache {
  readonly base: bigint;
  /** Last valid offset, granularity applied. */
  readonly limit: number;
  /** As in the state area: see `SegmentAttribute`. */
  readonly attributes: number;
}

/** A descriptor as it lies in memory, two words of 32 bits, and where it lies. */
export interface RawDescriptor {
  readonly linear: bigint;
  readonly low: number;
  readonly high: number;
}

/** Types of system descriptors (S = 0). */
export const SystemType = {
  availableTss16: 1, ldt: 2, busyTss16: 3, callGate16: 4, taskGate: 5, interruptGate16: 6, trapGate16: 7,
  availableTss32: 9, busyTss32: 11, callGate32: 12, interruptGate32: 14, trapGate32: 15,
} as const;

/** Attributes of an ordinary data segment in real-address mode: present, writable, accessed. */
const realModeAttributes = 0x93;
const virtual8086Attributes = 0xf3;

/** Base, limit and attributes of a code, data or 8-byte system descriptor. */
export function parseDescriptor({ low, high }: { low: number; high: number }): SegmentCache {
  return { base: BigInt(descriptorBase(low, high)), limit: descriptorLimit(low, high), attributes: descriptorAttributes(high) };
}

/** Base of a descriptor from its two words. */
export function descriptorBase(low: number, high: number): number {
  return ((low >>> 16) | ((high & 0xff) << 16) | (high & 0xff00_0000)) >>> 0;
}

/** Its limit in bytes. */
export function descriptorLimit(low: number, high: number): number {
  const limit = (low & 0xffff) | (high & 0xf_0000);
  const isInPages = (descriptorAttributes(high) & SegmentAttribute.granularity) !== 0;
  return isInPages ? ((limit << 12) | 0xfff) >>> 0 : limit;
}

/** Its attributes as the state area keeps them. */
export function descriptorAttributes(high: number): number {
  return (high >>> 8) & 0xf0ff;
}

export function descriptorPrivilege(attributes: number): number {
  return (attributes & SegmentAttribute.dplMask) >>> SegmentAttribute.dplShift;
}

export function isPresent(attributes: number): boolean {
  return (attributes & SegmentAttribute.present) !== 0;
}

/** Code or data, not a system descriptor. */
function isCodeOrData(attributes: number): boolean {
  return (attributes & SegmentAttribute.codeOrData) !== 0;
}

export function isCode(attributes: number): boolean {
  return isCodeOrData(attributes) && (attributes & SegmentAttribute.code) !== 0;
}

export function isConforming(attributes: number): boolean {
  return isCode(attributes) && (attributes & SegmentAttribute.expandDownOrConforming) !== 0;
}

export function isReadable(attributes: number): boolean {
  return isCodeOrData(attributes) && (!isCode(attributes) || (attributes & SegmentAttribute.writableOrReadable) !== 0);
}

export function isWritableData(attributes: number): boolean {
  return isCodeOrData(attributes) && !isCode(attributes) && (attributes & SegmentAttribute.writableOrReadable) !== 0;
}

function isExpandDown(attributes: number): boolean {
  return isCodeOrData(attributes) && !isCode(attributes) && (attributes & SegmentAttribute.expandDownOrConforming) !== 0;
}

/** Type field of a system descriptor, or undefined for code and data. */
export function systemType(attributes: number): number | undefined {
  return isCodeOrData(attributes) ? undefined : attributes & SegmentAttribute.typeMask;
}

/** Whether `sizeBytes` at `offset` lie within the limit; `offset` has at most 32 bits. */
export function isWithinLimit(segment: SegmentCache, offset: number, sizeBytes: number): boolean {
  const last = offset + sizeBytes - 1;
  if (!isExpandDown(segment.attributes)) return last <= segment.limit;
  const top = (segment.attributes & SegmentAttribute.big) !== 0 ? 0xffff_ffff : 0xffff;
  return offset > segment.limit && last <= top;
}

export function readSegmentCache(state: StateView, index: number): SegmentCache {
  const fields = layout.segments[index];
  return {
    base: state.get64(fields.base), limit: state.get32(fields.limit), attributes: state.get32(fields.attributes),
  };
}

/** Fills segment register `index`, the fast ends of its range included. */
export function loadSegmentCache(state: StateView, index: number, selector: number, segment: SegmentCache): void {
  loadSegmentFields(state, index, selector, 0, segment.limit, segment.attributes);
  state.set64(layout.segments[index].base, segment.base);
}

/** The same for a base of 32 bits, all in numbers: system calls and interrupts come here. */
export function loadSegmentFields(state: StateView, index: number, selector: number, base: number, limit: number, attributes: number): void {
  const fields = layout.segments[index];
  state.set16(fields.selector, selector);
  state.setHalves(fields.base, base, 0);
  state.set32(fields.limit, limit);
  state.set32(fields.attributes, attributes);
  refreshSegmentEnds(state, index);
}

/** A null selector: accesses through the register fault outside of 64-bit mode. SS keeps the privilege level as its DPL. */
export function loadNullSegment(state: StateView, index: number, selector: number): void {
  const privilege = index === SegmentIndex.SS ? (selector & 3) << SegmentAttribute.dplShift : 0;
  loadSegmentFields(state, index, selector, 0, 0, SegmentAttribute.unusable | privilege);
}

/** Recomputes readEnd and writeEnd; needed for all registers when CR0.PE changes, since real mode ignores the type. */
export function refreshSegmentEnds(state: StateView, index: number): void {
  const fields = layout.segments[index];
  const attributes = state.get32(fields.attributes);
  const limit = state.get32(fields.limit);
  const isUsable = (attributes & SegmentAttribute.unusable) === 0 && !isExpandDown(attributes);
  const isChecked = isProtectedMode(state);
  setEnd(state, fields.readEnd, limit, isUsable && (!isChecked || isReadable(attributes)));
  setEnd(state, fields.writeEnd, limit, isUsable && (!isChecked || isWritableData(attributes)));
}

/** One more than the limit, or 0. */
function setEnd(state: StateView, field: layout.StateField, limit: number, isAllowed: boolean): void {
  state.setHalves(field, isAllowed ? limit + 1 : 0, isAllowed && limit === 0xffff_ffff ? 1 : 0);
}

/**
 * Loads a segment register in real-address mode. Limit and attributes stay as they are, which is what makes "big real
 * mode" work.
 */
export function setRealModeSegment(state: StateView, index: number, selector: number): void {
  const { limit, attributes } = readSegmentCache(state, index);
  const isUnusable = (attributes & SegmentAttribute.unusable) !== 0;
  loadSegmentCache(state, index, selector, {
    base: BigInt((selector & 0xffff) << 4),
    limit: isUnusable ? 0xffff : limit,
    attributes: isUnusable ? realModeAttributes : attributes,
  });
}

/** Loads a segment register in virtual-8086 mode: 64 KiB, writable, DPL 3. */
export function setVirtual8086Segment(state: StateView, index: number, selector: number): void {
  loadSegmentCache(state, index, selector, {
    base: BigInt((selector & 0xffff) << 4), limit: 0xffff, attributes: virtual8086Attributes,
  });
}
