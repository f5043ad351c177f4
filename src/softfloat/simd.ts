/** SSE scalar operations on raw bit patterns: binary32 as an unsigned number, binary64 as an unsigned bigint. */

import type { RoundingMode, SimdEnvironment } from "./environment.ts";
import { precisionMask } from "./environment.ts";
import type { Ordering } from "./simd-arithmetic.ts";
import * as arithmetic from "./simd-arithmetic.ts";
import { orderedEqual, orderedGreater, orderedLess } from "./simd-arithmetic.ts";
import { formatF32, formatF64 } from "./simd-format.ts";
import * as native from "./native.ts";

/** The bit pattern of a binary32 value: an integer from 0 to 2^32 − 1 (negative ones are taken modulo 2^32). */
export type F32 = number;
/** The bit pattern of a binary64 value: from 0 to 2^64 − 1. */
export type F64 = bigint;

/** Below this every integer is a binary64 value. */
const exactIntegerLimit = 2 ** 53;
/** Below this every rounding of a value is an int32. */
const int32Limit = 2 ** 31 - 1;

/** The integer that a plain value below 2^51 rounds to. */
function convertedInteger(
  value: number,
  rounding: RoundingMode,
  environment: SimdEnvironment,
): number {
  const integer = native.roundedInteger(value, rounding);
  if (integer !== value) environment.exceptions |= precisionMask;
  // Not a negative zero.
  return integer + 0;
}

function wide(bits: F32): bigint {
  return BigInt(bits >>> 0);
}

/** The rounded sum; binary64 has enough bits that rounding twice to nearest is harmless, here and in the quotient and root. */
function addedF32(x: number, y: number, sum: number, environment: SimdEnvironment): F32 {
  const nearest = Math.fround(sum);
  const error = sum === nearest ? native.additionError(x, y, sum) : sum - nearest;
  return native.settleF32(nearest, error, environment);
}

export function f32Add(a: F32, b: F32, environment: SimdEnvironment): F32 {
  const x = native.valueOfF32(a);
  const y = native.valueOfF32(b);
  const sum = x + y;
  if (native.isOrdinaryF32(x) && native.isOrdinaryF32(y) && native.isOrdinaryF32(sum))
    return addedF32(x, y, sum, environment);
  return Number(arithmetic.add(formatF32, wide(a), wide(b), environment));
}

export function f32Subtract(a: F32, b: F32, environment: SimdEnvironment): F32 {
  const x = native.valueOfF32(a);
  const y = -native.valueOfF32(b);
  const sum = x + y;
  if (native.isOrdinaryF32(x) && native.isOrdinaryF32(y) && native.isOrdinaryF32(sum))
    return addedF32(x, y, sum, environment);
  return Number(arithmetic.subtract(formatF32, wide(a), wide(b), environment));
}

export function f32Multiply(a: F32, b: F32, environment: SimdEnvironment): F32 {
  const x = native.valueOfF32(a);
  const y = native.valueOfF32(b);
  const product = x * y;
  if (native.isOrdinaryF32(x) && native.isOrdinaryF32(y) && native.isOrdinaryF32(product)) {
    const nearest = Math.fround(product);
    return native.settleF32(nearest, product - nearest, environment);
  }
  return Number(arithmetic.multiply(formatF32, wide(a), wide(b), environment));
}

export function f32Divide(a: F32, b: F32, environment: SimdEnvironment): F32 {
  const x = native.valueOfF32(a);
  const y = native.valueOfF32(b);
  const quotient = x / y;
  if (native.isOrdinaryF32(x) && native.isOrdinaryF32(y) && native.isOrdinaryF32(quotient)) {
    const nearest = Math.fround(quotient);
    const error = x - nearest * y;
    return native.settleF32(nearest, y < 0 ? -error : error, environment);
  }
  return Number(arithmetic.divide(formatF32, wide(a), wide(b), environment));
}

export function f32SquareRoot(a: F32, environment: SimdEnvironment): F32 {
  const x = native.valueOfF32(a);
  if (x > 0 && native.isOrdinaryF32(x)) {
    const nearest = Math.fround(Math.sqrt(x));
    return native.settleF32(nearest, x - nearest * nearest, environment);
  }
  return Number(arithmetic.squareRoot(formatF32, wide(a), environment));
}

/** MINSS: `b` if either is a NaN or both are zeros. */
export function f32Minimum(a: F32, b: F32, environment: SimdEnvironment): F32 {
  const x = native.valueOfF32(a);
  const y = native.valueOfF32(b);
  if (x !== 0 && y !== 0 && native.isPlainF32(x) && native.isPlainF32(y))
    return x < y ? a >>> 0 : b >>> 0;
  return Number(arithmetic.minimumOrMaximum(formatF32, wide(a), wide(b), false, environment));
}

/** MAXSS: `b` if either is a NaN or both are zeros. */
export function f32Maximum(a: F32, b: F32, environment: SimdEnvironment): F32 {
  const x = native.valueOfF32(a);
  const y = native.valueOfF32(b);
  if (x !== 0 && y !== 0 && native.isPlainF32(x) && native.isPlainF32(y))
    return x > y ? a >>> 0 : b >>> 0;
  return Number(arithmetic.minimumOrMaximum(formatF32, wide(a), wide(b), true, environment));
}

/** UCOMISS, or COMISS if `signalling`. */
export function f32Compare(
  a: F32,
  b: F32,
  signalling: boolean,
  environment: SimdEnvironment,
): Ordering {
  const x = native.valueOfF32(a);
  const y = native.valueOfF32(b);
  if (native.isPlainF32(x) && native.isPlainF32(y))
    return x === y ? orderedEqual : x < y ? orderedLess : orderedGreater;
  return arithmetic.compare(formatF32, wide(a), wide(b), signalling, environment);
}

/** Whether CMPSS's predicate (0–7, VEX 0–31) holds. */
export function f32ComparePredicate(
  a: F32,
  b: F32,
  predicate: number,
  environment: SimdEnvironment,
): boolean {
  return arithmetic.predicateHolds(
    predicate,
    f32Compare(a, b, arithmetic.predicateSignals(predicate), environment),
  );
}

/** ROUNDSS: the caller has resolved the immediate into a rounding mode and `suppressPrecision` (its bit 3). */
export function f32RoundToIntegral(
  a: F32,
  rounding: RoundingMode,
  suppressPrecision: boolean,
  environment: SimdEnvironment,
): F32 {
  const x = native.valueOfF32(a);
  if (Math.abs(x) >= 1 && Math.abs(x) < 2 ** 51) {
    const integral = native.roundedInteger(x, rounding);
    if (integral !== x && !suppressPrecision) environment.exceptions |= precisionMask;
    return native.patternOfF32(integral);
  }
  return Number(
    arithmetic.roundToIntegral(formatF32, wide(a), rounding, suppressPrecision, environment),
  );
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
    arithmetic.fusedMultiplyAdd(
      formatF32,
      wide(a),
      wide(b),
      wide(c),
      negateProduct,
      negateAddend,
      environment,
    ),
  );
}

/** CVTSS2SD. */
export function f32ToF64(a: F32, environment: SimdEnvironment): F64 {
  const x = native.valueOfF32(a);
  if (native.isPlainF32(x)) return native.patternOfF64(x);
  return arithmetic.convertFormat(formatF32, formatF64, wide(a), environment);
}

/** CVTSI2SS from 32 or 64 bits, and CVTDQ2PS: `value` is signed. */
export function f32FromInteger(value: number | bigint, environment: SimdEnvironment): F32 {
  const x = Number(value) + 0;
  if (Math.abs(x) < exactIntegerLimit) {
    const nearest = Math.fround(x);
    return native.settleF32(nearest, x - nearest, environment);
  }
  return Number(arithmetic.fromInteger(formatF32, BigInt(value), environment));
}

/** CVTSS2SI, or CVTTSS2SI with `rounding` zero: signed, −2^31 with invalid raised if out of range. */
export function f32ToInt32(a: F32, rounding: RoundingMode, environment: SimdEnvironment): number {
  const x = native.valueOfF32(a);
  if (Math.abs(x) < int32Limit && native.isPlainF32(x))
    return convertedInteger(x, rounding, environment);
  return Number(arithmetic.toInteger(formatF32, wide(a), 32, rounding, environment));
}

/** As {@link f32ToInt32} with 64 bits: signed, −2^63 with invalid raised if out of range. */
export function f32ToInt64(a: F32, rounding: RoundingMode, environment: SimdEnvironment): bigint {
  const x = native.valueOfF32(a);
  if (Math.abs(x) < 2 ** 51 && native.isPlainF32(x))
    return BigInt(convertedInteger(x, rounding, environment));
  return arithmetic.toInteger(formatF32, wide(a), 64, rounding, environment);
}

export function f64Add(a: F64, b: F64, environment: SimdEnvironment): F64 {
  const x = native.valueOfF64(a);
  const y = native.valueOfF64(b);
  const sum = x + y;
  if (native.isOrdinaryF64(x) && native.isOrdinaryF64(y) && native.isOrdinaryF64(sum)) {
    return native.settleF64(sum, native.additionError(x, y, sum), environment);
  }
  return arithmetic.add(formatF64, a, b, environment);
}

export function f64Subtract(a: F64, b: F64, environment: SimdEnvironment): F64 {
  const x = native.valueOfF64(a);
  const y = native.valueOfF64(b);
  const difference = x - y;
  if (native.isOrdinaryF64(x) && native.isOrdinaryF64(y) && native.isOrdinaryF64(difference)) {
    return native.settleF64(difference, native.additionError(x, -y, difference), environment);
  }
  return arithmetic.subtract(formatF64, a, b, environment);
}

export function f64Multiply(a: F64, b: F64, environment: SimdEnvironment): F64 {
  const x = native.valueOfF64(a);
  const y = native.valueOfF64(b);
  if (native.isOrdinaryF64(x) && native.isOrdinaryF64(y)) {
    const product = x * y;
    return native.settleF64(product, native.multiplicationError(x, y, product), environment);
  }
  return arithmetic.multiply(formatF64, a, b, environment);
}

export function f64Divide(a: F64, b: F64, environment: SimdEnvironment): F64 {
  const x = native.valueOfF64(a);
  const y = native.valueOfF64(b);
  if (native.isOrdinaryF64(x) && native.isOrdinaryF64(y)) {
    const quotient = x / y;
    const product = quotient * y;
    const remainder = x - product - native.multiplicationError(quotient, y, product);
    return native.settleF64(quotient, y < 0 ? -remainder : remainder, environment);
  }
  return arithmetic.divide(formatF64, a, b, environment);
}

export function f64SquareRoot(a: F64, environment: SimdEnvironment): F64 {
  const x = native.valueOfF64(a);
  if (x > 0 && native.isOrdinaryF64(x)) {
    const root = Math.sqrt(x);
    const square = root * root;
    return native.settleF64(
      root,
      x - square - native.multiplicationError(root, root, square),
      environment,
    );
  }
  return arithmetic.squareRoot(formatF64, a, environment);
}

/** MINSD: `b` if either is a NaN or both are zeros. */
export function f64Minimum(a: F64, b: F64, environment: SimdEnvironment): F64 {
  const x = native.valueOfF64(a);
  const y = native.valueOfF64(b);
  if (x !== 0 && y !== 0 && native.isPlainF64(x) && native.isPlainF64(y)) return x < y ? a : b;
  return arithmetic.minimumOrMaximum(formatF64, a, b, false, environment);
}

/** MAXSD: `b` if either is a NaN or both are zeros. */
export function f64Maximum(a: F64, b: F64, environment: SimdEnvironment): F64 {
  const x = native.valueOfF64(a);
  const y = native.valueOfF64(b);
  if (x !== 0 && y !== 0 && native.isPlainF64(x) && native.isPlainF64(y)) return x > y ? a : b;
  return arithmetic.minimumOrMaximum(formatF64, a, b, true, environment);
}

/** UCOMISD, or COMISD if `signalling`. */
export function f64Compare(
  a: F64,
  b: F64,
  signalling: boolean,
  environment: SimdEnvironment,
): Ordering {
  const x = native.valueOfF64(a);
  const y = native.valueOfF64(b);
  if (native.isPlainF64(x) && native.isPlainF64(y))
    return x === y ? orderedEqual : x < y ? orderedLess : orderedGreater;
  return arithmetic.compare(formatF64, a, b, signalling, environment);
}

/** Whether CMPSD's predicate (0–7, VEX 0–31) holds. */
export function f64ComparePredicate(
  a: F64,
  b: F64,
  predicate: number,
  environment: SimdEnvironment,
): boolean {
  return arithmetic.predicateHolds(
    predicate,
    f64Compare(a, b, arithmetic.predicateSignals(predicate), environment),
  );
}

/** ROUNDSD: as {@link f32RoundToIntegral}. */
export function f64RoundToIntegral(
  a: F64,
  rounding: RoundingMode,
  suppressPrecision: boolean,
  environment: SimdEnvironment,
): F64 {
  const x = native.valueOfF64(a);
  if (Math.abs(x) >= 1 && Math.abs(x) < 2 ** 51) {
    const integral = native.roundedInteger(x, rounding);
    if (integral !== x && !suppressPrecision) environment.exceptions |= precisionMask;
    return native.patternOfF64(integral);
  }
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
  const x = native.valueOfF64(a);
  if (native.isOrdinaryF32(x)) {
    const nearest = Math.fround(x);
    return native.settleF32(nearest, x - nearest, environment);
  }
  return Number(arithmetic.convertFormat(formatF64, formatF32, a, environment));
}

/** CVTSI2SD from 32 or 64 bits, and CVTDQ2PD: `value` is signed. */
export function f64FromInteger(value: number | bigint, environment: SimdEnvironment): F64 {
  const x = Number(value) + 0;
  if (Math.abs(x) < exactIntegerLimit) return native.patternOfF64(x);
  return arithmetic.fromInteger(formatF64, BigInt(value), environment);
}

/** CVTSD2SI, or CVTTSD2SI with `rounding` zero: signed, −2^31 with invalid raised if out of range. */
export function f64ToInt32(a: F64, rounding: RoundingMode, environment: SimdEnvironment): number {
  const x = native.valueOfF64(a);
  if (Math.abs(x) < int32Limit && native.isPlainF64(x))
    return convertedInteger(x, rounding, environment);
  return Number(arithmetic.toInteger(formatF64, a, 32, rounding, environment));
}

/** As {@link f64ToInt32} with 64 bits: signed, −2^63 with invalid raised if out of range. */
export function f64ToInt64(a: F64, rounding: RoundingMode, environment: SimdEnvironment): bigint {
  const x = native.valueOfF64(a);
  if (Math.abs(x) < 2 ** 51 && native.isPlainF64(x))
    return BigInt(convertedInteger(x, rounding, environment));
  return arithmetic.toInteger(formatF64, a, 64, rounding, environment);
}
