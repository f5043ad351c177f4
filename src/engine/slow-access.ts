/** What generated code and the slow paths of memory agree on. */
import type { SegmentReference } from "../ir/index.ts";
import * as state from "../isa/state.ts";

/** What a slow path is told of an access. */
export const AccessFlag = { write: 1, stackSegment: 2, operandSegment: 4 } as const;

export function accessFlags(segment: SegmentReference, forWrite: boolean): number {
  return (forWrite ? AccessFlag.write : 0) | (segment === 2 ? AccessFlag.stackSegment : 0) |
    (segment === "operand" ? AccessFlag.operandSegment : 0);
}

export const scratchValue: state.StateField = state.scratch[15];
