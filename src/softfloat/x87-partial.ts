/** FPREM, FPREM1, FRNDINT, FSCALE and FXTRACT (SDM vol. 1, 8.3.5 and 8.3.9). */

import { toExact } from "./arithmetic.ts";
import type { X87Environment } from "./environment.ts";
import {
  denormalMask,
  divideByZeroMask,
  preComputationMask,
  precisionMask,
  roundZero,
} from "./environment.ts";
import { roundToMultiple, targetF80 } from "./rounding.ts";
import type { Unpacked } from "./unpacked.ts";
import { kindInfinity, kindZero } from "./unpacked.ts";
import { deliverF80, denormalFlag, invalidF80, specialF80 } from "./x87-arithmetic.ts";
import { f80FromInteger } from "./x87-convert.ts";
import type { F80 } from "./x87-format.ts";
import { exponentBias, f80Infinity, f80Zero, unpackF80 } from "./x87-format.ts";

/** What a step of FPREM leaves behind. */
export interface PartialRemainder {
  readonly result: F80;
  /** Whether the reduction is complete (C2 clear). */
  readonly complete: boolean;
  /** The low three bits of the quotient, for C0 (bit 2), C3 (bit 1) and C1 (bit 0); 0 if incomplete. */
  readonly quotient: number;
}

/** The exact remainder of finite values whose exponents differ by less than 64. */
function reduce(
  a: Unpacked,
  b: Unpacked,
  isNearest: boolean,
  raised: number,
  environment: X87Environment,
): PartialRemainder {
  const unit = Math.min(a.exponent, b.exponent);
  const dividend = a.significand << BigInt(a.exponent - unit);
  const divisor = b.significand << BigInt(b.exponent - unit);
  let quotient = dividend / divisor;
  let remainder = dividend - quotient * divisor;
  let { negative } = a;
  if (
    isNearest &&
    (2n * remainder > divisor || (2n * remainder === divisor && (quotient & 1n) !== 0n))
  ) {
    quotient += 1n;
    remainder = divisor - remainder;
    negative = !negative;
  }
  const low = Number(quotient & 7n);
  if (remainder === 0n) {
    environment.exceptions |= raised;
    return { result: f80Zero(a.negative), complete: true, quotient: low };
  }
  const exact = { negative, significand: remainder, exponent: unit - 63 };
  return {
    result: deliverF80(exact, targetF80, raised, environment),
    complete: true,
    quotient: low,
  };
}

/**
 * FPREM (truncating quotient) and, if `isNearest`, FPREM1: one reduction step by at most 63 bits. An unmasked
 * pre-computation exception leaves the conditions clear, as for a complete reduction with a quotient of 0.
 */
export function f80Remainder(
  a: F80,
  b: F80,
  isNearest: boolean,
  environment: X87Environment,
): PartialRemainder {
  environment.roundedUp = false;
  const step = reductionStep(a, b, isNearest, environment);
  const isSuppressed = (environment.exceptions & preComputationMask & ~environment.masks) !== 0;
  return isSuppressed ? { result: step.result, complete: true, quotient: 0 } : step;
}

function reductionStep(
  a: F80,
  b: F80,
  isNearest: boolean,
  environment: X87Environment,
): PartialRemainder {
  const dividend = unpackF80(a);
  const divisor = unpackF80(b);
  const special = specialF80(dividend, divisor, environment);
  if (special !== undefined) return { result: special, complete: true, quotient: 0 };
  if (dividend.kind === kindInfinity || divisor.kind === kindZero) {
    return { result: invalidF80(environment), complete: true, quotient: 0 };
  }
  const raised = denormalFlag(dividend, divisor);
  if (dividend.kind === kindZero) {
    environment.exceptions |= raised;
    return { result: f80Zero(dividend.negative), complete: true, quotient: 0 };
  }
  const difference = dividend.exponent - divisor.exponent;
  if (divisor.kind === kindInfinity || difference < -1) {
    return {
      result: deliverF80(toExact(dividend), targetF80, raised, environment),
      complete: true,
      quotient: 0,
    };
  }
  if (difference < 64) return reduce(dividend, divisor, isNearest, raised, environment);
  // The processor takes off a multiple of 32 bits, so that fewer than 64 remain for the next steps.
  const step = (difference % 32) + 32;
  const divisorSignificand = divisor.significand;
  const remainder = (dividend.significand << BigInt(step)) % divisorSignificand;
  if (remainder === 0n) {
    environment.exceptions |= raised;
    return { result: f80Zero(dividend.negative), complete: false, quotient: 0 };
  }
  const exact = {
    negative: dividend.negative,
    significand: remainder,
    exponent: dividend.exponent - step - 63,
  };
  return {
    result: deliverF80(exact, targetF80, raised, environment),
    complete: false,
    quotient: 0,
  };
}

/** FRNDINT. */
export function f80RoundToIntegral(a: F80, environment: X87Environment): F80 {
  environment.roundedUp = false;
  const value = unpackF80(a);
  const special = specialF80(value, undefined, environment);
  if (special !== undefined) return special;
  if (value.kind === kindZero || value.kind === kindInfinity || value.exponent >= 63) return a;
  const integral = roundToMultiple(toExact(value), 0, environment.rounding);
  environment.exceptions |= denormalFlag(value);
  if ((environment.exceptions & preComputationMask & ~environment.masks) === 0) {
    if (integral.inexact) environment.exceptions |= precisionMask;
    environment.roundedUp = integral.roundedUp;
  }
  if (integral.quotient === 0n) return f80Zero(value.negative);
  return f80FromInteger(value.negative ? -integral.quotient : integral.quotient);
}

/** No exponent can be scaled further than this without leaving every range, bias-adjusted ones included. */
const scaleLimit = 100_000;

/** FSCALE: a × 2^trunc(b). */
export function f80Scale(a: F80, b: F80, environment: X87Environment): F80 {
  environment.roundedUp = false;
  const value = unpackF80(a);
  const scale = unpackF80(b);
  const special = specialF80(value, scale, environment);
  if (special !== undefined) return special;
  const raised = denormalFlag(value, scale);
  if (scale.kind === kindInfinity) {
    if (scale.negative ? value.kind === kindInfinity : value.kind === kindZero)
      return invalidF80(environment);
    environment.exceptions |= raised;
    return scale.negative ? f80Zero(value.negative) : f80Infinity(value.negative);
  }
  if (value.kind === kindZero || value.kind === kindInfinity) {
    environment.exceptions |= raised;
    return a;
  }
  let shift = 0;
  if (scale.kind !== kindZero) {
    shift =
      scale.exponent > 20
        ? scaleLimit
        : Number(roundToMultiple(toExact(scale), 0, roundZero).quotient);
    if (scale.negative) shift = -shift;
  }
  const exact = toExact(value);
  return deliverF80({ ...exact, exponent: exact.exponent + shift }, targetF80, raised, environment);
}

/** FXTRACT: what ends up in ST(0) and ST(1). */
export interface Extracted {
  readonly significand: F80;
  readonly exponent: F80;
}

/** FXTRACT. */
export function f80Extract(a: F80, environment: X87Environment): Extracted {
  environment.roundedUp = false;
  const value = unpackF80(a);
  const special = specialF80(value, undefined, environment);
  if (special !== undefined) return { significand: special, exponent: special };
  if (value.kind === kindInfinity) return { significand: a, exponent: f80Infinity(false) };
  if (value.kind === kindZero) {
    environment.exceptions |= divideByZeroMask;
    return { significand: a, exponent: f80Infinity(true) };
  }
  if (value.denormal) environment.exceptions |= denormalMask;
  return {
    significand: {
      significand: value.significand,
      signExponent: (value.negative ? 0x8000 : 0) | exponentBias,
    },
    exponent: f80FromInteger(BigInt(value.exponent)),
  };
}
