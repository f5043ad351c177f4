/** The four shapes of SSE floating-point instructions (…PS, …PD, …SS, …SD) and operations that read the same for all of them. */
import { type Bits, constant, float, splat, vector, vectorToScalar } from "../../ir/index.ts";
import type { Cpu, Operand } from "../definition.ts";
import { and, bitSelect, lanes, or, readAligned, xor, zeros } from "./simd.ts";

/** A vector for packed shapes, 32 or 64 bits for scalar ones. */
export type Value = Bits;
/** A vector of lane masks for packed shapes, one bit for scalar ones. */
export type Mask = Bits;

export interface Shape {
  readonly suffix: "ps" | "pd" | "ss" | "sd";
  readonly format: 32 | 64;
  readonly isPacked: boolean;
  readonly prefix: "NP" | "66" | "F3" | "F2";
  readonly feature: "sse" | "sse2";
  readonly width: 32 | 64 | 128;
}

export const ps: Shape = { suffix: "ps", format: 32, isPacked: true, prefix: "NP", feature: "sse", width: 128 };
export const pd: Shape = { suffix: "pd", format: 64, isPacked: true, prefix: "66", feature: "sse2", width: 128 };
export const ss: Shape = { suffix: "ss", format: 32, isPacked: false, prefix: "F3", feature: "sse", width: 32 };
export const sd: Shape = { suffix: "sd", format: 64, isPacked: false, prefix: "F2", feature: "sse2", width: 64 };
export const shapes: readonly Shape[] = [ps, pd, ss, sd];

/** How many elements an operation of this shape has. */
export function laneCount({ isPacked, format }: Shape): number {
  return isPacked ? 128 / format : 1;
}

/** Encoding of an instruction that has all four shapes under one opcode. */
export function encodingOf({ prefix, suffix }: Shape, opcode: string): string {
  return `${prefix} 0F ${opcode} /r V${suffix},W${suffix}`;
}

export function readSource(cpu: Cpu, shape: Shape, operand: Operand): Value {
  return shape.isPacked ? readAligned(cpu, operand) : operand.as(shape.width).read();
}

/** The elements the shape works on; a scalar shape's write keeps the rest of the register. */
export function readDestination(shape: Shape, operand: Operand): Value {
  return operand.as(shape.width).read();
}

export function writeDestination(shape: Shape, operand: Operand, value: Value): void {
  operand.as(shape.width).write(value as never);
}

/** A floating-point operation: `add` is `f32x4.add` or `f64.add`. */
export function compute({ format, isPacked }: Shape, name: string, ...args: readonly Value[]): Value {
  return isPacked ? vector(`f${format}x${128 / format}.${name}`, ...args) : float(format, `f${format}.${name}`, ...args);
}

/** A floating-point comparison: `eq`, `lt`, `le`, `ge`, … */
export function compare({ format, isPacked }: Shape, name: string, a: Value, b: Value): Mask {
  return isPacked ? vector(`f${format}x${128 / format}.${name}`, a, b) : float(1, `f${format}.${name}`, a, b);
}

/** The same bits in every element. */
export function literal({ format, isPacked }: Shape, bits: bigint): Value {
  return isPacked ? lanes(format, [bits]) : constant(format, bits);
}

export function bothMasks({ isPacked }: Shape, a: Mask, b: Mask): Mask {
  return isPacked ? and(a as Bits<128>, b as Bits<128>) : a.and(b as never);
}

export function eitherMask({ isPacked }: Shape, a: Mask, b: Mask): Mask {
  return isPacked ? or(a as Bits<128>, b as Bits<128>) : a.or(b as never);
}

/** `whenSet` in the elements of the mask, `whenClear` in the others. */
export function choose({ isPacked }: Shape, mask: Mask, whenSet: Value, whenClear: Value): Value {
  if (isPacked) return bitSelect(mask as Bits<128>, whenSet as Bits<128>, whenClear as Bits<128>);
  return (mask as Bits<1>).select(whenSet, whenClear);
}

/** Whether the mask covers every element. */
export function all({ isPacked, format }: Shape, mask: Mask): Bits<1> {
  if (!isPacked) return mask as Bits<1>;
  return vectorToScalar(format === 32 ? "i32x4.all_true" : "i64x2.all_true", mask as Bits<128>).ne(0);
}

/** A mask as elements of ones and zeros, inverted if `inverted`. */
export function maskValue({ isPacked, format }: Shape, mask: Mask, inverted: Bits<1>): Value {
  if (!isPacked) return (mask as Bits<1>).xor(inverted).select(constant(format, -1), 0);
  return xor(mask as Bits<128>, splat(inverted.sext(32)));
}

/** A mask of no element. */
export function noMask({ isPacked }: Shape): Mask {
  return isPacked ? zeros() : constant(1, 0);
}

// --- classes of values ---------------------------------------------------------------------------------------------

/** Bits of the least normal number and of infinity. */
function limits(format: 32 | 64): { leastNormal: bigint; infinity: bigint } {
  return format === 32
    ? { leastNormal: 0x0080_0000n, infinity: 0x7f80_0000n }
    : { leastNormal: 0x0010_0000_0000_0000n, infinity: 0x7ff0_0000_0000_0000n };
}

export function isZero(shape: Shape, value: Value): Mask {
  if (shape.isPacked) return compare(shape, "eq", value, literal(shape, 0n));
  return value.shl(1).eq(0);
}

/** Neither denormal nor NaN: comparisons and conversions of such operands raise neither #D nor (by themselves) #I. */
export function isPlain(shape: Shape, value: Value): Mask {
  const { leastNormal, infinity } = limits(shape.format);
  if (shape.isPacked) {
    const isLarge = compare(shape, "ge", compute(shape, "abs", value), literal(shape, leastNormal));
    return eitherMask(shape, isLarge, isZero(shape, value));
  }
  // Doubled to drop the sign; the subtraction makes denormals (and zero) the largest numbers, NaNs the next.
  const shifted = value.shl(1).sub(literal(shape, leastNormal * 2n));
  return shifted.leU(literal(shape, (infinity - leastNormal) * 2n)).or(shifted.eq(literal(shape, -leastNormal * 2n)));
}

/** Not denormal: what is cheaper to know where NaNs show in the result anyway. */
function isNotDenormal(shape: Shape, value: Value): Mask {
  if (shape.isPacked) return isPlain(shape, value);
  const { leastNormal } = limits(shape.format);
  return literal(shape, leastNormal * 2n - 1n).leU(value.shl(1).sub(1));
}

/** Whether two scalars are neither denormals nor NaNs. */
export function isComparedQuietly(shape: Shape, a: Value, b: Value): Bits<1> {
  const isOrdered = compare(shape, "le", a, b).or(compare(shape, "ge", a, b) as never);
  return isOrdered.and(isNotDenormal(shape, a) as never).and(isNotDenormal(shape, b) as never) as Bits<1>;
}

/** Finite, and too large to have been tiny before rounding. */
function isClearlyNormal(shape: Shape, value: Value): Mask {
  const { leastNormal, infinity } = limits(shape.format);
  if (shape.isPacked) {
    const magnitude = compute(shape, "abs", value);
    const isLarge = compare(shape, "ge", magnitude, literal(shape, leastNormal * 2n));
    return bothMasks(shape, isLarge, compare(shape, "lt", magnitude, literal(shape, infinity)));
  }
  return value.shl(1).sub(literal(shape, leastNormal * 4n)).ltU(literal(shape, (infinity - leastNormal * 2n) * 2n));
}

/**
 * Whether all values are normal numbers, save the three least exponents; "no" costs more tests. Operands and results like
 * these raise at most the precision exception.
 */
export function areModerate(shape: Shape, values: readonly Value[]): Bits<1> {
  const { format, isPacked } = shape;
  const fractionBits = format === 32 ? 23 : 52, exponentMask = format === 32 ? 0xfc : 0x7fc;
  // One more, so that the greatest exponent becomes 0 and the least ones 1, 2 and 3.
  if (!isPacked) {
    const exponents = values.map((value) => value.shr(fractionBits).add(1).and(exponentMask));
    return exponents.reduce((product, exponent) => product.mul(exponent)).ne(0);
  }
  const one = literal(shape, 1n << BigInt(fractionBits)), mask = literal(shape, BigInt(exponentMask) << BigInt(fractionBits));
  const exponents = values.map((value) => and(vector(`i${format}x${128 / format}.add`, value, one), mask as Bits<128>));
  return all(shape, exponents.reduce((least, exponent) => vector("i32x4.min_u", least, exponent)));
}

/**
 * Whether a rounded result of these operands raises at most the precision exception: no operand is denormal and the
 * result is a normal number, or a zero where `zeroIsExact` says so. (NaNs and infinities never give either.)
 */
export function isUneventful(shape: Shape, operands: readonly Value[], result: Value, zeroIsExact: Mask | "always"): Bits<1> {
  const zero = isZero(shape, result);
  const exactZero = zeroIsExact === "always" ? zero : bothMasks(shape, zero, zeroIsExact);
  let mask = eitherMask(shape, isClearlyNormal(shape, result), exactZero);
  for (const operand of operands) mask = bothMasks(shape, mask, isNotDenormal(shape, operand));
  return all(shape, mask);
}
