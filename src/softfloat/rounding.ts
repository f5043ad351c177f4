/** Rounding an exact value into a format, with the exceptions of SDM vol. 1, 4.9.1.4–4.9.1.6 (tininess is detected after rounding). */

import { bitLength } from "./bits.ts";
import type { RoundingMode } from "./environment.ts";
import {
  overflowMask,
  precisionMask,
  roundDown,
  roundNearest,
  roundUp,
  underflowMask,
} from "./environment.ts";
import type { Exact } from "./unpacked.ts";

/** The range and precision that a result is rounded into. */
export interface Target {
  /** Significand bits, the leading one included. */
  readonly precision: number;
  /** Exponent of the smallest normal number. */
  readonly minExponent: number;
  /** Exponent of the largest finite number. */
  readonly maxExponent: number;
}

export const targetF32: Target = { precision: 24, minExponent: -126, maxExponent: 127 };
export const targetF64: Target = { precision: 53, minExponent: -1022, maxExponent: 1023 };
export const targetF80: Target = { precision: 64, minExponent: -16382, maxExponent: 16383 };
const targetF80Double: Target = { ...targetF80, precision: 53 };
const targetF80Single: Target = { ...targetF80, precision: 24 };

/** The extended-precision register target under an x87 precision control. */
export function targetOfPrecision(precision: 24 | 53 | 64): Target {
  return precision === 64 ? targetF80 : precision === 53 ? targetF80Double : targetF80Single;
}

/** Unmasked x87 overflow and underflow deliver the result with this much taken from or added to the exponent. */
export const biasAdjustment = 24576;

/** How overflow and underflow are answered. */
export interface Response {
  readonly rounding: RoundingMode;
  readonly masks: number;
  /** SSE with FTZ: a tiny result becomes zero when underflow is masked. */
  readonly flushToZero: boolean;
}

/** A rounded value; `significand` is left-aligned in 64 bits, and its bit 63 is clear for denormals and zero. */
export interface Rounded {
  readonly negative: boolean;
  readonly infinite: boolean;
  readonly exponent: number;
  readonly significand: bigint;
  readonly exceptions: number;
  readonly roundedUp: boolean;
}

/** Whether discarding `remainder` (of a step of 2 × `half`) means going away from zero. */
function roundsAway(
  rounding: RoundingMode,
  negative: boolean,
  isOdd: boolean,
  remainder: bigint,
  half: bigint,
): boolean {
  if (remainder === 0n) return false;
  if (rounding === roundNearest) return remainder > half || (remainder === half && isOdd);
  return rounding === (negative ? roundDown : roundUp);
}

/** A multiple of 2^unitExponent next to a value, and how it was reached. */
export interface Multiple {
  readonly quotient: bigint;
  readonly inexact: boolean;
  readonly roundedUp: boolean;
}

/** Up to here shifting costs less than asking whether it is needed. */
const directShiftLimit = 256;

/** Rounds an exact magnitude to a multiple of 2^unitExponent. */
export function roundToMultiple(
  value: Exact,
  unitExponent: number,
  rounding: RoundingMode,
): Multiple {
  let shift = unitExponent - value.exponent;
  if (shift <= 0) {
    return { quotient: value.significand << BigInt(-shift), inexact: false, roundedUp: false };
  }
  let significand = value.significand;
  if (shift > directShiftLimit && shift > bitLength(significand) + 1) {
    // Far below half a unit: only that it is not zero matters.
    significand = 1n;
    shift = 2;
  }
  const quotient = significand >> BigInt(shift);
  const remainder = significand - (quotient << BigInt(shift));
  const away = roundsAway(
    rounding,
    value.negative,
    (quotient & 1n) !== 0n,
    remainder,
    1n << BigInt(shift - 1),
  );
  return { quotient: away ? quotient + 1n : quotient, inexact: remainder !== 0n, roundedUp: away };
}

function leftAligned(quotient: bigint, target: Target): bigint {
  return quotient << BigInt(64 - target.precision);
}

/** FSCALE far below the range: zero, as not even the adjusted exponent can be encoded (SDM vol. 1, 8.5.5). */
function farBelow(negative: boolean, target: Target): Rounded {
  return {
    negative,
    infinite: false,
    exponent: target.minExponent,
    significand: 0n,
    exceptions: underflowMask | precisionMask,
    roundedUp: false,
  };
}

/** FSCALE far above the range: infinity (SDM vol. 1, 8.5.4). */
function farAbove(negative: boolean, target: Target): Rounded {
  return {
    negative,
    infinite: true,
    exponent: target.maxExponent,
    significand: 0n,
    exceptions: overflowMask | precisionMask,
    roundedUp: true,
  };
}

/** Rounds to the target's precision and range. */
export function roundInto(value: Exact, target: Target, response: Response): Rounded {
  const { negative } = value;
  const { rounding, masks } = response;
  const length = bitLength(value.significand);
  let exponent = value.exponent + length - 1;
  const normal = roundToMultiple(value, exponent - target.precision + 1, rounding);
  let quotient = normal.quotient;
  if (quotient >> BigInt(target.precision) !== 0n) {
    quotient >>= 1n;
    exponent += 1;
  }
  const inexact = normal.inexact ? precisionMask : 0;

  if (exponent < target.minExponent) {
    if ((masks & underflowMask) === 0) {
      if (exponent + biasAdjustment < target.minExponent) return farBelow(negative, target);
      return {
        negative,
        infinite: false,
        exponent: exponent + biasAdjustment,
        significand: leftAligned(quotient, target),
        exceptions: underflowMask | inexact,
        roundedUp: normal.roundedUp,
      };
    }
    if (response.flushToZero) {
      return {
        negative,
        infinite: false,
        exponent: target.minExponent,
        significand: 0n,
        exceptions: underflowMask | precisionMask,
        roundedUp: false,
      };
    }
    const denormal = roundToMultiple(value, target.minExponent - target.precision + 1, rounding);
    return {
      negative,
      infinite: false,
      exponent: target.minExponent,
      significand: leftAligned(denormal.quotient, target),
      exceptions: denormal.inexact ? underflowMask | precisionMask : 0,
      roundedUp: denormal.roundedUp,
    };
  }

  if (exponent > target.maxExponent) {
    if ((masks & overflowMask) === 0) {
      if (exponent - biasAdjustment > target.maxExponent) return farAbove(negative, target);
      return {
        negative,
        infinite: false,
        exponent: exponent - biasAdjustment,
        significand: leftAligned(quotient, target),
        exceptions: overflowMask | inexact,
        roundedUp: normal.roundedUp,
      };
    }
    const infinite = rounding === roundNearest || rounding === (negative ? roundDown : roundUp);
    return {
      negative,
      infinite,
      exponent: target.maxExponent,
      significand: leftAligned((1n << BigInt(target.precision)) - 1n, target),
      exceptions: overflowMask | precisionMask,
      roundedUp: infinite,
    };
  }

  return {
    negative,
    infinite: false,
    exponent,
    significand: leftAligned(quotient, target),
    exceptions: inexact,
    roundedUp: normal.roundedUp,
  };
}
