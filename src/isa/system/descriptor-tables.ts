/** Reads of the GDT, LDT and TSS by the processor itself (SDM volume 3, "System Descriptor Types" and "Task Management"). */
import type { Processor } from "../processor.ts";
import * as layout from "../state.ts";
import { SegmentAttribute, SegmentIndex, isLongMode, linearSum } from "./mode.ts";
import { parseDescriptor, readSegmentCache, type RawDescriptor, type SegmentCache } from "./segments.ts";

/** Selector as it appears in error codes: without its RPL. */
export function selectorErrorCode(selector: number): number {
  return selector & 0xfffc;
}

export function isNullSelector(selector: number): boolean {
  return (selector & 0xfffc) === 0;
}

interface Table {
  readonly base: bigint;
  readonly limit: number;
}

function tableOf(p: Processor, selector: number): Table | undefined {
  const { state } = p;
  if ((selector & 4) === 0) return { base: state.get64(layout.gdtrBase), limit: state.get32(layout.gdtrLimit) };
  const ldt = readSegmentCache(state, SegmentIndex.LDTR);
  return (ldt.attributes & SegmentAttribute.unusable) !== 0 ? undefined : ldt;
}

/** Address of the descriptor of `sizeBytes` that `selector` names, or undefined beyond the table's limit. */
export function locateDescriptor(p: Processor, selector: number, sizeBytes: 8 | 16): bigint | undefined {
  const table = tableOf(p, selector);
  const offset = selector & 0xfff8;
  if (table === undefined || offset + sizeBytes - 1 > table.limit) return undefined;
  return linearSum(p.state, table.base, BigInt(offset));
}

/** The descriptor that `selector` names; undefined after a fault: `vector` with the selector, or a page fault. */
export function fetchDescriptor(p: Processor, selector: number, vector: number): RawDescriptor | undefined {
  const linear = locateDescriptor(p, selector, 8);
  if (linear === undefined) {
    p.raise(vector, selectorErrorCode(selector));
    return undefined;
  }
  return readDescriptor(p, linear);
}

export function readDescriptor(p: Processor, linear: bigint): RawDescriptor | undefined {
  const value = p.memory.load(linear, 8, "supervisor");
  if (value === undefined) return undefined;
  return { linear, low: Number(value & 0xffff_ffffn), high: Number(value >> 32n) };
}

/**
 * Base, limit and attributes of an LDT or TSS descriptor, which takes 16 bytes in IA-32e mode; undefined after a fault,
 * which is `vector` with the selector when the upper half is beyond the table or not a descriptor's upper half.
 */
export function fetchSystemSegment(
  p: Processor, selector: number, descriptor: RawDescriptor, vector: number,
): SegmentCache | undefined {
  const segment = parseDescriptor(descriptor);
  if (!isLongMode(p.state)) return segment;
  if (locateDescriptor(p, selector, 16) === undefined) {
    p.raise(vector, selectorErrorCode(selector));
    return undefined;
  }
  const upper = readDescriptor(p, BigInt.asUintN(64, descriptor.linear + 8n));
  if (upper === undefined) return undefined;
  if ((upper.high & 0x1f00) !== 0) {
    p.raise(vector, selectorErrorCode(selector));
    return undefined;
  }
  return { ...segment, base: segment.base | (BigInt(upper.low) << 32n) };
}

/** Sets the accessed bit of a code or data descriptor in memory; false after a fault. */
export function markAccessed(p: Processor, descriptor: RawDescriptor): boolean {
  const typeByte = (descriptor.high >>> 8) & 0xff;
  if ((typeByte & SegmentAttribute.accessed) !== 0) return true;
  return storeTypeByte(p, descriptor, typeByte | SegmentAttribute.accessed);
}

/** Replaces the byte that holds P, DPL, S and type; false after a fault. */
export function storeTypeByte(p: Processor, descriptor: RawDescriptor, value: number): boolean {
  const linear = linearSum(p.state, descriptor.linear, 5n);
  return p.memory.store(linear, 1, BigInt(value), "supervisor");
}

/** Parses a code or data descriptor whose accessed bit is, or has just been, set. */
export function parseAccessed(descriptor: RawDescriptor): SegmentCache {
  const segment = parseDescriptor(descriptor);
  return { ...segment, attributes: segment.attributes | SegmentAttribute.accessed };
}

/**
 * Place in linear memory of bytes of a table, for those that read it in numbers; 0 when they are not plain memory or not aligned to
 * words. Only where `ProcessorMemory.locate` is.
 */
export function locateInTable(p: Processor, base: layout.StateField, offset: number, sizeBytes: number, isWrite: boolean = false): number {
  const { state, memory } = p;
  const sum = state.get32(base) + offset;
  const high = (state.getHigh32(base) + (sum > 0xffff_ffff ? 1 : 0)) >>> 0;
  const at = memory.locate!(sum >>> 0, high, sizeBytes, isWrite, "supervisor");
  return (at & 3) === 0 ? at : 0;
}
