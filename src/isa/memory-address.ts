/** Addressing forms of ModRM and SIB (SDM volume 2, "Addressing-Mode Encoding of ModR/M and SIB Bytes"). */
import type { ByteCursor } from "./byte-cursor.ts";
import type { MemoryOperand, Size } from "./operand.ts";
import { GprNumber, SegmentNumber } from "./registers.ts";

/** Bits of a REX prefix, or the same bits out of a VEX prefix. */
export const RexBit = { b: 1, x: 2, r: 4, w: 8 } as const;

const base16: readonly number[] = [
  GprNumber.BX, GprNumber.BX, GprNumber.BP, GprNumber.BP, GprNumber.SI, GprNumber.DI, GprNumber.BP, GprNumber.BX,
];
const index16: readonly (number | undefined)[] = [GprNumber.SI, GprNumber.DI, GprNumber.SI, GprNumber.DI];

/** A memory operand; SS is the default segment for bases that are a stack or frame pointer. */
export function memoryOperand(
  widthBits: number,
  segmentOverride: number | undefined,
  base: number | "rip" | undefined,
  index: number | undefined,
  scaleLog2: number,
  displacement: number | bigint,
): MemoryOperand {
  const isStackBase = base === GprNumber.SP || base === GprNumber.BP;
  const segment = segmentOverride ?? (isStackBase ? SegmentNumber.SS : SegmentNumber.DS);
  return { kind: "memory", widthBits, segment, base, index, scaleLog2, displacement };
}

/** Whether an SIB byte follows `modrm` (mod not 3). */
export function hasSib(modrm: number, addressSize: Size): boolean {
  return addressSize !== 16 && (modrm & 7) === 4;
}

/** Reads the rest of the address that `modrm` (mod not 3) starts. */
export function readMemoryOperand(
  cursor: ByteCursor,
  modrm: number,
  rex: number,
  mode: Size,
  addressSize: Size,
  widthBits: number,
  segmentOverride: number | undefined,
): MemoryOperand {
  const mod = modrm >> 6;
  const rm = modrm & 7;
  if (addressSize === 16) {
    if (mod === 0 && rm === 6) {
      return memoryOperand(widthBits, segmentOverride, undefined, undefined, 0, cursor.signed16());
    }
    const displacement = mod === 0 ? 0 : mod === 1 ? cursor.signed8() : cursor.signed16();
    return memoryOperand(widthBits, segmentOverride, base16[rm], index16[rm], 0, displacement);
  }
  let base: number | "rip" | undefined = rm | ((rex & RexBit.b) << 3);
  let index: number | undefined;
  let scaleLog2 = 0;
  let hasNoBase = mod === 0 && rm === 5;
  if (hasSib(modrm, addressSize)) {
    const sib = cursor.unsigned8();
    base = (sib & 7) | ((rex & RexBit.b) << 3);
    hasNoBase = mod === 0 && (sib & 7) === 5;
    const encodedIndex = ((sib >> 3) & 7) | ((rex & RexBit.x) << 2);
    if (encodedIndex !== GprNumber.SP) {
      index = encodedIndex;
      scaleLog2 = sib >> 6;
    }
  }
  if (hasNoBase) base = mode === 64 && rm === 5 ? "rip" : undefined;
  const displacement = mod === 1 ? cursor.signed8() : mod === 2 || hasNoBase ? cursor.signed32() : 0;
  return memoryOperand(widthBits, segmentOverride, base, index, scaleLog2, displacement);
}
