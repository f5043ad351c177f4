/** A stack that a transfer of control pushes to or pops from before it is committed to SS and RSP. */
import { Vector } from "../definition.ts";
import type { Privilege, Processor } from "../processor.ts";
import * as layout from "../state.ts";
import { SegmentAttribute, SegmentIndex, isCanonical, linearSum, stackSizeOf } from "./mode.ts";
import { isWithinLimit, readSegmentCache, type SegmentCache } from "./segments.ts";

const stackPointer = layout.gpr[4];

/** Width of the stack pointer that a stack segment outside of 64-bit mode asks for. */
export function stackSizeOfSegment(segment: SegmentCache): 16 | 32 {
  return (segment.attributes & SegmentAttribute.big) !== 0 ? 32 : 16;
}

/** Cursor over a stack: pushes and pops move `pointer` only. All faults are #SS with `errorCode`, or page faults. */
export class Stack {
  readonly #processor: Processor;
  readonly #segment: SegmentCache;
  readonly #sizeBits: 16 | 32 | 64;
  readonly #privilege: Privilege;
  readonly #errorCode: number;
  /** Stack pointer, `sizeBits` wide. */
  pointer: bigint;

  constructor(
    processor: Processor, segment: SegmentCache, sizeBits: 16 | 32 | 64, pointer: bigint, privilege: Privilege,
    errorCode: number,
  ) {
    this.#processor = processor;
    this.#segment = segment;
    this.#sizeBits = sizeBits;
    this.#privilege = privilege;
    this.#errorCode = errorCode;
    this.pointer = BigInt.asUintN(sizeBits, pointer);
  }

  #linear(offset: bigint, sizeBytes: number): bigint | undefined {
    const { state } = this.#processor;
    if (this.#sizeBits === 64) {
      if (isCanonical(state, offset) && isCanonical(state, BigInt.asUintN(64, offset + BigInt(sizeBytes - 1)))) return offset;
    } else if (isWithinLimit(this.#segment, Number(offset), sizeBytes)) {
      return linearSum(state, this.#segment.base, offset) & 0xffff_ffffn;
    }
    this.#processor.raise(Vector.SS, this.#errorCode);
    return undefined;
  }

  /** Pushes the low `sizeBytes` of `value`; false after a fault. */
  push(value: bigint | number, sizeBytes: 2 | 4 | 8): boolean {
    const offset = BigInt.asUintN(this.#sizeBits, this.pointer - BigInt(sizeBytes));
    const linear = this.#linear(offset, sizeBytes);
    if (linear === undefined) return false;
    const bits = BigInt.asUintN(sizeBytes * 8, BigInt(value));
    if (!this.#processor.memory.store(linear, sizeBytes, bits, this.#privilege)) return false;
    this.pointer = offset;
    return true;
  }

  /** Pushes in order; false after a fault. */
  pushAll(values: readonly (bigint | number)[], sizeBytes: 2 | 4 | 8): boolean {
    return values.every((value) => this.push(value, sizeBytes));
  }

  /** Value of `sizeBytes`, or undefined after a fault. */
  pop(sizeBytes: 2 | 4 | 8): bigint | undefined {
    const linear = this.#linear(this.pointer, sizeBytes);
    if (linear === undefined) return undefined;
    const value = this.#processor.memory.load(linear, sizeBytes, this.#privilege);
    if (value !== undefined) this.skip(sizeBytes);
    return value;
  }

  /** `count` values of `sizeBytes`, or undefined after a fault. */
  popAll(count: number, sizeBytes: 2 | 4 | 8): bigint[] | undefined {
    const values: bigint[] = [];
    for (let index = 0; index < count; index++) {
      const value = this.pop(sizeBytes);
      if (value === undefined) return undefined;
      values.push(value);
    }
    return values;
  }

  /** Moves the pointer up by `sizeBytes` without an access. */
  skip(sizeBytes: number): void {
    this.pointer = BigInt.asUintN(this.#sizeBits, this.pointer + BigInt(sizeBytes));
  }

  /** Writes the pointer to SP, ESP or RSP. */
  commit(): void {
    writeStackPointer(this.#processor, this.#sizeBits, this.pointer);
  }
}

/** Writes SP (the rest of RSP stays), ESP (the upper half is cleared) or RSP. */
export function writeStackPointer({ state }: Processor, sizeBits: 16 | 32 | 64, pointer: bigint): void {
  const kept = sizeBits === 16 ? state.get64(stackPointer) & ~0xffffn : 0n;
  state.set64(stackPointer, kept | BigInt.asUintN(sizeBits, pointer));
}

/** The stack in SS:RSP, accessed with the rights of the running program. */
export function currentStack(p: Processor): Stack {
  const segment = readSegmentCache(p.state, SegmentIndex.SS);
  return new Stack(p, segment, stackSizeOf(p.state), p.state.get64(stackPointer), "current", 0);
}
