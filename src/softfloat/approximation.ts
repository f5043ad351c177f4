/**
 * RCPSS, RCPPS, RSQRTSS and RSQRTPS. The manuals bound the error only (1.5 × 2^-12); this returns exactly what AMD Zen returns.
 * No exceptions, no regard to MXCSR: denormals count as zeros, tiny results become zeros.
 */

import {
  reciprocalCoarse,
  reciprocalFine,
  rootOfOneCoarse,
  rootOfOneFine,
  rootOfTwoCoarse,
  rootOfTwoFine,
} from "./approximation-tables.ts";

const signMask = 0x8000_0000;
const infinity = 0x7f80_0000;
const quietBitMask = 0x0040_0000;
const indefinite = 0xffc0_0000;
const resultFractionShift = 11;

/** The 12-bit fraction that two tables give for an operand. */
function look(coarse: readonly number[], fine: readonly number[], bits: number): number {
  const index = (bits >>> 11) & 0xfff;
  return coarse[index >>> 4] - fine[((index >>> 4) & 0xf0) | (index & 0x0f)];
}

/** RCPSS: about 1/a. */
export function f32Reciprocal(a: number): number {
  const sign = (a & signMask) >>> 0;
  const magnitude = (a & ~signMask) >>> 0;
  if (magnitude > infinity) return (a | quietBitMask) >>> 0;
  const biased = magnitude >>> 23;
  if (biased === 0) return (sign | infinity) >>> 0;
  // Results lie in [0.5, 1) × 2^-(exponent).
  const resultBiased = 253 - biased;
  if (resultBiased <= 0) return sign;
  const fraction = look(reciprocalCoarse, reciprocalFine, a);
  return (sign | (resultBiased << 23) | (fraction << resultFractionShift)) >>> 0;
}

/** RSQRTSS: about 1/√a. */
export function f32ReciprocalSquareRoot(a: number): number {
  const sign = (a & signMask) >>> 0;
  const magnitude = (a & ~signMask) >>> 0;
  if (magnitude > infinity) return (a | quietBitMask) >>> 0;
  const biased = magnitude >>> 23;
  if (biased === 0) return (sign | infinity) >>> 0;
  if (sign !== 0) return indefinite;
  if (magnitude === infinity) return 0;
  const isEvenPower = (biased & 1) !== 0;
  const fraction = isEvenPower
    ? look(rootOfOneCoarse, rootOfOneFine, a)
    : look(rootOfTwoCoarse, rootOfTwoFine, a);
  // [0.5, 1) × 2^-(exponent ÷ 2), the exponent rounded down to an even one.
  const resultBiased = 126 - ((biased - (isEvenPower ? 127 : 128)) >> 1);
  return ((resultBiased << 23) | (fraction << resultFractionShift)) >>> 0;
}
