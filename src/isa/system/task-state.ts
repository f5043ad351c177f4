/** The task-state segment as a source of stacks (SDM volume 3, "Task-State Segment" and "64-Bit Task State Segment"). */
import { Vector } from "../definition.ts";
import type { Processor } from "../processor.ts";
import * as layout from "../state.ts";
import { selectorErrorCode } from "./descriptor-tables.ts";
import { SegmentAttribute, SegmentIndex, isCanonical, isLongMode, linearSum } from "./mode.ts";
import { checkStackSegment } from "./segment-load.ts";
import { readSegmentCache, type SegmentCache } from "./segments.ts";

export interface InnerStack {
  readonly selector: number;
  readonly segment: SegmentCache;
  readonly pointer: bigint;
}

/** Whether TR holds a 32-bit (or 64-bit) TSS. */
export function isWideTaskState(attributes: number): boolean {
  return (attributes & SegmentAttribute.code) !== 0;
}

/** SS:ESP for privilege level `cpl` outside of IA-32e mode; undefined after #TS, #SS or #PF. */
export function fetchInnerStack(p: Processor, cpl: number): InnerStack | undefined {
  const { state, memory } = p;
  const task = readSegmentCache(state, SegmentIndex.TR);
  const pointerBytes = isWideTaskState(task.attributes) ? 4 : 2;
  const offset = pointerBytes * (1 + 2 * cpl);
  if (offset + pointerBytes + 1 > task.limit) {
    p.raise(Vector.TS, taskErrorCode(p));
    return undefined;
  }
  const pointer = memory.load(linearSum(state, task.base, BigInt(offset)), pointerBytes, "supervisor");
  if (pointer === undefined) return undefined;
  const selector = memory.load(linearSum(state, task.base, BigInt(offset + pointerBytes)), 2, "supervisor");
  if (selector === undefined) return undefined;
  const checked = checkStackSegment(p, Number(selector), cpl, Vector.TS);
  if (checked?.segment === undefined) return undefined;
  return { selector: checked.selector, segment: checked.segment, pointer };
}

/** RSP of the interrupt stack `ist` (1..7), or of privilege level `cpl` when `ist` is 0; undefined after a fault. */
export function fetchLongStack(p: Processor, cpl: number, ist: number): bigint | undefined {
  const { state } = p;
  const task = readSegmentCache(state, SegmentIndex.TR);
  const offset = ist === 0 ? 4 + 8 * cpl : 0x24 + 8 * (ist - 1);
  if (offset + 7 > task.limit) {
    p.raise(Vector.TS, taskErrorCode(p));
    return undefined;
  }
  const pointer = p.memory.load(linearSum(state, task.base, BigInt(offset)), 8, "supervisor");
  if (pointer === undefined) return undefined;
  if (isCanonical(state, pointer)) return pointer;
  p.raise(Vector.SS, 0);
  return undefined;
}

/** Whether the I/O permission bitmap allows all of the ports; undefined after a page fault (SDM volume 1, "I/O Permission Bit Map"). */
export function allowsPorts(p: Processor, port: number, sizeBytes: number): boolean | undefined {
  const { state, memory } = p;
  const task = readSegmentCache(state, SegmentIndex.TR);
  const isUnusable = (task.attributes & SegmentAttribute.unusable) !== 0;
  if (isUnusable || !(isLongMode(state) || isWideTaskState(task.attributes)) || task.limit < 0x67) return false;
  const map = memory.load(linearSum(state, task.base, 0x66n), 2, "supervisor");
  if (map === undefined) return undefined;
  // The processor always reads two bytes, so that ports across a byte boundary are covered.
  const offset = Number(map) + (port >>> 3);
  if (offset + 1 > task.limit) return false;
  const bits = memory.load(linearSum(state, task.base, BigInt(offset)), 2, "supervisor");
  if (bits === undefined) return undefined;
  const mask = ((1 << sizeBytes) - 1) << (port & 7);
  return (Number(bits) & mask) === 0;
}

/** The interrupt redirection bit of a virtual-8086 task for INT `vector`; undefined after a page fault. */
export function isRedirected(p: Processor, vector: number): boolean | undefined {
  const { state, memory } = p;
  const task = readSegmentCache(state, SegmentIndex.TR);
  if (!isWideTaskState(task.attributes) || task.limit < 0x67) return false;
  const map = memory.load(linearSum(state, task.base, 0x66n), 2, "supervisor");
  if (map === undefined) return undefined;
  const offset = Number(map) - 32 + (vector >>> 3);
  if (offset < 0 || offset > task.limit) return false;
  const bits = memory.load(linearSum(state, task.base, BigInt(offset)), 1, "supervisor");
  return bits === undefined ? undefined : (Number(bits) & (1 << (vector & 7))) === 0;
}

function taskErrorCode({ state }: Processor): number {
  return selectorErrorCode(state.get16(layout.segments[SegmentIndex.TR].selector));
}
