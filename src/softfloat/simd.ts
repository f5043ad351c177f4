/** SSE scalar operations on raw bit patterns: binary32 as an unsigned number, binary64 as an unsigned bigint. */

import type { RoundingMode, SimdEnvironment } from "./environment.ts";
import type { Ordering } from "./simd-arithmetic.ts";
import * as arithmetic from "./simd-arithmetic.ts";
import { formatF32, formatF64 } from "./simd-format.ts";

/** The bit pattern of a binary32 value: an integer from 0 to 2^32 − 1 (negative ones are taken modulo 2^32). */
export type F32 = number;
/** The bit pattern of a binary64 value: from 0 to 2^64 − 1. */
export type F64 = bigint;

function wide(bits: F32): bigint {
  return BigInt(bits >>> 0);
}

export function f32Add(a: F32, b: F32, environment: SimdEnvironment): F32 {
  return Number(arithmetic.add(formatF32, wide(a), wide(b), environment));
}

export function f32Subtract(a: F32, b: F32, environment: SimdEnvironment): F32 {
  return Number(arithmetic.subtract(formatF32, wide(a), wide(b), environment));
}

export function f32Multiply(a: F32, b: F32, environment: SimdEnvironment): F32 {
  return Number(arithmetic.multiply(formatF32, wide(a), wide(b), environment));
}

export function f32Divide(a: F32, b: F32, environment: SimdEnvironment): F32 {
  return Number(arithmetic.divide(formatF32, wide(a), wide(b), environment));
}

export function f32SquareRoot(a: F32, environment: SimdEnvironment): F32 {
  return Number(arithmetic.squareRoot(formatF32, wide(a), environment));
}

/** MINSS: `b` if either is a NaN or both are zeros. */
export function f32Minimum(a: F32, b: F32, environment: SimdEnvironment): F32 {
  return Number(arithmetic.minimumOrMaximum(formatF32, wide(a), wide(b), false, environment));
}

/** MAXSS: `b` if either is a NaN or both are zeros. */
export function f32Maximum(a: F32, b: F32, environment: SimdEnvironment): F32 {
  return Number(arithmetic.minimumOrMaximum(formatF32, wide(a), wide(b), true, environment));
}

/** UCOMISS, or COMISS if `signalling`. */
export function f32Compare(a: F32, b: F32, signalling: boolean, environment: SimdEnvironment): Ordering {
  return arithmetic.compare(formatF32, wide(a), wide(b), signalling, environment);
}

/** Whether CMPSS's predicate (0–7, VEX 0–31) holds. */
export function f32ComparePredicate(a: F32, b: F32, predicate: number, environment: SimdEnvironment): boolean {
  return arithmetic.comparePredicate(formatF32, wide(a), wide(b), predicate, environment);
}

/** ROUNDSS: the caller has resolved the immediate into a rounding mode and `suppressPrecision` (its bit 3). */
export function f32RoundToIntegral(
  a: F32,
  rounding: RoundingMode,
  suppressPrecision: boolean,
  environment: SimdEnvironment,
): F32 {
  return Number(arithmetic.roundToIntegral(formatF32, wide(a), rounding, suppressPrecision, environment));
}

/** ±(a × b) ± c, rounded once. */
export function f32MultiplyAdd(
  a: F32,
  b: F32,
  c: F32,
  negateProduct: boolean,
  negateAddend: boolean,
  environment: SimdEnvironment,
): F32 {
  return Number(
    arithmetic.fusedMultiplyAdd(formatF32, wide(a), wide(b), wide(c), negateProduct, negateAddend, environment),
  );
}

/** CVTSS2SD. */
export function f32ToF64(a: F32, environment: SimdEnvironment): F64 {
  return arithmetic.convertFormat(formatF32, formatF64, wide(a), environment);
}

/** CVTSI2SS from 32 or 64 bits, and CVTDQ2PS: `value` is signed. */
export function f32FromInteger(value: number | bigint, environment: SimdEnvironment): F32 {
  return Number(arithmetic.fromInteger(formatF32, BigInt(value), environment));
}

/** CVTSS2SI, or CVTTSS2SI with `rounding` zero: signed, −2^31 with invalid raised if out of range. */
export function f32ToInt32(a: F32, rounding: RoundingMode, environment: SimdEnvironment): number {
  return Number(arithmetic.toInteger(formatF32, wide(a), 32, rounding, environment));
}

/** As {@link f32ToInt32} with 64 bits: signed, −2^63 with invalid raised if out of range. */
export function f32ToInt64(a: F32, rounding: RoundingMode, environment: SimdEnvironment): bigint {
  return arithmetic.toInteger(formatF32, wide(a), 64, rounding, environment);
}

export function f64Add(a: F64, b: F64, environment: SimdEnvironment): F64 {
  return arithmetic.add(formatF64, a, b, environment);
}

export function f64Subtract(a: F64, b: F64, environment: SimdEnvironment): F64 {
  return arithmetic.subtract(formatF64, a, b, environment);
}

export function f64Multiply(a: F64, b: F64, environment: SimdEnvironment): F64 {
  return arithmetic.multiply(formatF64, a, b, environment);
}

export function f64Divide(a: F64, b: F64, environment: SimdEnvironment): F64 {
  return arithmetic.divide(formatF64, a, b, environment);
}

export function f64SquareRoot(a: F64, environment: SimdEnvironment): F64 {
  return arithmetic.squareRoot(formatF64, a, environment);
}

/** MINSD: `b` if either is a NaN or both are zeros. */
export function f64Minimum(a: F64, b: F64, environment: SimdEnvironment): F64 {
  return arithmetic.minimumOrMaximum(formatF64, a, b, false, environment);
}

/** MAXSD: `b` if either is a NaN or both are zeros. */
export function f64Maximum(a: F64, b: F64, environment: SimdEnvironment): F64 {
  return arithmetic.minimumOrMaximum(formatF64, a, b, true, environment);
}

/** UCOMISD, or COMISD if `signalling`. */
export function f64Compare(a: F64, b: F64, signalling: boolean, environment: SimdEnvironment): Ordering {
  return arithmetic.compare(formatF64, a, b, signalling, environment);
}

/** Whether CMPSD's predicate (0–7, VEX 0–31) holds. */
export function f64ComparePredicate(a: F64, b: F64, predicate: number, environment: SimdEnvironment): boolean {
  return arithmetic.comparePredicate(formatF64, a, b, predicate, environment);
}

/** ROUNDSD: as {@link f32RoundToIntegral}. */
export function f64RoundToIntegral(
  a: F64,
  rounding: RoundingMode,
  suppressPrecision: boolean,
  environment: SimdEnvironment,
): F64 {
  return arithmetic.roundToIntegral(formatF64, a, rounding, suppressPrecision, environment);
}

/** ±(a × b) ± c, rounded once. */
export function f64MultiplyAdd(
  a: F64,
  b: F64,
  c: F64,
  negateProduct: boolean,
  negateAddend: boolean,
  environment: SimdEnvironment,
): F64 {
  return arithmetic.fusedMultiplyAdd(formatF64, a, b, c, negateProduct, negateAddend, environment);
}

/** CVTSD2SS. */
export function f64ToF32(a: F64, environment: SimdEnvironment): F32 {
  return Number(arithmetic.convertFormat(formatF64, formatF32, a, environment));
}

/** CVTSI2SD from 32 or 64 bits, and CVTDQ2PD: `value` is signed. */
export function f64FromInteger(value: number | bigint, environment: SimdEnvironment): F64 {
  return arithmetic.fromInteger(formatF64, BigInt(value), environment);
}

/** CVTSD2SI, or CVTTSD2SI with `rounding` zero: signed, −2^31 with invalid raised if out of range. */
export function f64ToInt32(a: F64, rounding: RoundingMode, environment: SimdEnvironment): number {
  return Number(arithmetic.toInteger(formatF64, a, 32, rounding, environment));
}

/** As {@link f64ToInt32} with 64 bits: signed, −2^63 with invalid raised if out of range. */
export function f64ToInt64(a: F64, rounding: RoundingMode, environment: SimdEnvironment): bigint {
  return arithmetic.toInteger(formatF64, a, 64, rounding, environment);
}

