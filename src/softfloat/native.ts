/**
 * Shortcut for ordinary operands: ECMAScript's own binary64 arithmetic (IEEE 754, round to nearest) plus the sign of its error,
 * from which inexactness and the other rounding modes follow. Everything near zero, infinity or a NaN is left to the exact path.
 */

import type { RoundingMode, SimdEnvironment } from "./environment.ts";
import { precisionMask, roundDown, roundNearest, roundUp } from "./environment.ts";

const float64 = new Float64Array(1);
const bits64 = new BigUint64Array(float64.buffer);
const words = new Int32Array(float64.buffer);
const float32 = new Float32Array(1);
const bits32 = new Uint32Array(float32.buffer);

/** The value of a binary64 pattern. */
export function valueOfF64(bits: bigint): number {
  bits64[0] = bits;
  return float64[0];
}

/** The value of a binary32 pattern. */
export function valueOfF32(bits: number): number {
  bits32[0] = bits;
  return float32[0];
}

export function patternOfF64(value: number): bigint {
  float64[0] = value;
  return bits64[0];
}

export function patternOfF32(value: number): number {
  float32[0] = value;
  return bits32[0];
}

/** Within these magnitudes no product, quotient, sum or error term of binary64 leaves the normal range. */
const ordinaryLimit = 2 ** 450;
const ordinaryFloor = 2 ** -450;

export function isOrdinaryF64(value: number): boolean {
  const magnitude = Math.abs(value);
  return magnitude > ordinaryFloor && magnitude < ordinaryLimit;
}

const smallestNormalF32 = 2 ** -126;
/** A result from here on might round to infinity. */
const largestF32 = (2 - 2 ** -23) * 2 ** 127;

/** Whether a value is normal in binary32, with a neighbour on both sides. */
export function isOrdinaryF32(value: number): boolean {
  const magnitude = Math.abs(value);
  return magnitude > smallestNormalF32 && magnitude < largestF32;
}

/** a + b − sum, exactly. */
export function additionError(a: number, b: number, sum: number): number {
  const part = sum - a;
  return a - (sum - part) + (b - part);
}

const splitter = 2 ** 27 + 1;

/** a × b − product, exactly. */
export function multiplicationError(a: number, b: number, product: number): number {
  const aSplit = splitter * a;
  const aHigh = aSplit - (aSplit - a);
  const aLow = a - aHigh;
  const bSplit = splitter * b;
  const bHigh = bSplit - (bSplit - b);
  const bLow = b - bHigh;
  return aLow * bLow - (product - aHigh * bHigh - aLow * bHigh - aHigh * bLow);
}

/** Which way to step from the nearest value: −1 towards zero, 1 away from it, 0 not at all. */
function stepOf(nearest: number, error: number, rounding: RoundingMode): number {
  if (rounding === roundNearest) return 0;
  const isUpward = rounding === roundUp || (rounding !== roundDown && nearest < 0);
  if (isUpward ? error <= 0 : error >= 0) return 0;
  return isUpward === nearest > 0 ? 1 : -1;
}

/** The pattern of a result whose nearest value and error (its sign matters) are known; raises precision. */
export function settleF64(nearest: number, error: number, environment: SimdEnvironment): bigint {
  float64[0] = nearest;
  if (error !== 0) {
    environment.exceptions |= precisionMask;
    const step = stepOf(nearest, error, environment.rounding);
    if (step !== 0) return bits64[0] + BigInt(step);
  }
  return bits64[0];
}

/** As {@link settleF64} for binary32: `nearest` must be a binary32 value. */
export function settleF32(nearest: number, error: number, environment: SimdEnvironment): number {
  float32[0] = nearest;
  if (error !== 0) {
    environment.exceptions |= precisionMask;
    return (bits32[0] + stepOf(nearest, error, environment.rounding)) >>> 0;
  }
  return bits32[0];
}

/** Rounds a value below 2^51 in magnitude to an integer. */
export function roundedInteger(value: number, rounding: RoundingMode): number {
  switch (rounding) {
    case roundNearest: {
      // Adding 1.5 × 2^52 leaves no fraction bits, so the addition itself rounds to even.
      const magic = 6755399441055744;
      return value + magic - magic;
    }
    case roundDown:
      return Math.floor(value);
    case roundUp:
      return Math.ceil(value);
    default:
      return Math.trunc(value);
  }
}

/** Whether a pattern is a normal number, infinity or zero: nothing that raises denormal or invalid when compared. */
export function isPlainF64(value: number): boolean {
  if (value === 0) return true;
  float64[0] = value;
  return value === value && (words[1] & 0x7ff0_0000) !== 0;
}

export function isPlainF32(value: number): boolean {
  return value === 0 || Math.abs(value) >= smallestNormalF32;
}
