/**
 * F2XM1, FYL2X, FYL2XP1, FPTAN, FPATAN, FSIN, FCOS and FSINCOS (SDM vol. 1, 8.3.6, 8.3.7 and 8.3.10). Results are correctly
 * rounded by the rounding control, which the manuals allow (within 1 ulp) and do not ask for. Every result that is not an
 * exact special case reports precision, as the processor does.
 */

import { toExact } from "./arithmetic.ts";
import type { X87Environment } from "./environment.ts";
import {
  divideByZeroMask,
  preComputationMask,
  precisionMask,
  underflowMask,
} from "./environment.ts";
import { targetF80 } from "./rounding.ts";
import type { Exact, Unpacked } from "./unpacked.ts";
import { kindFinite, kindInfinity, kindZero } from "./unpacked.ts";
import { deliverF80, denormalFlag, invalidF80, specialF80 } from "./x87-arithmetic.ts";
import { f80Constant } from "./x87-constants.ts";
import type { F80 } from "./x87-format.ts";
import { f80Infinity, f80Zero, unpackF80 } from "./x87-format.ts";
import * as series from "./x87-series.ts";

function deliverInexact(value: Exact, raised: number, environment: X87Environment): F80 {
  const result = deliverF80(value, targetF80, raised, environment);
  if ((raised & preComputationMask & ~environment.masks) === 0) {
    const isTiny = (result.signExponent & 0x7fff) === 0 && result.significand >> 63n === 0n;
    environment.exceptions |= isTiny ? precisionMask | underflowMask : precisionMask;
  }
  return result;
}

/** F2XM1: 2^a − 1. Outside of −1 … 1, where the manual leaves it undefined, a comes back (measured on Zen). */
export function f80ExponentialMinusOne(a: F80, environment: X87Environment): F80 {
  environment.roundedUp = false;
  const value = unpackF80(a);
  const special = specialF80(value, undefined, environment);
  if (special !== undefined) return special;
  if (value.kind === kindZero) return a;
  if (value.kind === kindInfinity)
    return value.negative ? { ...f80Constant("1", 0), signExponent: 0xbfff } : a;
  const raised = denormalFlag(value);
  if (value.exponent >= 0) {
    const isMinusOne = value.negative && value.exponent === 0 && value.significand === 1n << 63n;
    const exact = toExact(value);
    return deliverInexact(isMinusOne ? { ...exact, exponent: -64 } : exact, raised, environment);
  }
  return deliverInexact(series.exponentialMinusOne(value), raised, environment);
}

/** y × log, where log is a finite non-zero logarithm, zero (undefined) or infinite. */
function scaledLogarithm(
  log: Exact | undefined,
  logIsNegative: boolean,
  y: Unpacked,
  raised: number,
  environment: X87Environment,
): F80 {
  const negative = logIsNegative !== y.negative;
  if (y.kind === kindInfinity) {
    if (log === undefined) return invalidF80(environment);
    environment.exceptions |= raised;
    return f80Infinity(negative);
  }
  if (y.kind === kindZero || log === undefined) {
    environment.exceptions |= raised;
    return f80Zero(negative);
  }
  const product = {
    negative,
    significand: log.significand * y.significand,
    exponent: log.exponent + y.exponent - 63,
  };
  return deliverInexact(product, raised, environment);
}

/** FYL2X: y × log2 x, with x in ST(0) and y in ST(1). */
export function f80Logarithm(x: F80, y: F80, environment: X87Environment): F80 {
  environment.roundedUp = false;
  const argument = unpackF80(x);
  const factor = unpackF80(y);
  const special = specialF80(argument, factor, environment);
  if (special !== undefined) return special;
  if (argument.kind === kindZero) {
    if (factor.kind === kindZero) return invalidF80(environment);
    if (factor.kind !== kindInfinity) environment.exceptions |= divideByZeroMask;
    return f80Infinity(!factor.negative);
  }
  if (argument.negative) return invalidF80(environment);
  const raised = denormalFlag(argument, factor);
  if (argument.kind === kindInfinity) {
    if (factor.kind === kindZero) return invalidF80(environment);
    environment.exceptions |= raised;
    return f80Infinity(factor.negative);
  }
  const log = series.binaryLogarithm(argument);
  return scaledLogarithm(log, log?.negative ?? false, factor, raised, environment);
}

/**
 * FYL2XP1: y × log2(x + 1), with x in ST(0) and y in ST(1). For finite y and x ≤ −1, which the manual leaves undefined, x comes
 * back (measured on Zen).
 */
export function f80LogarithmPlusOne(x: F80, y: F80, environment: X87Environment): F80 {
  environment.roundedUp = false;
  const argument = unpackF80(x);
  const factor = unpackF80(y);
  const special = specialF80(argument, factor, environment);
  if (special !== undefined) return special;
  const raised = denormalFlag(argument, factor);
  if (argument.kind === kindInfinity) {
    if (argument.negative || factor.kind === kindZero) return invalidF80(environment);
    environment.exceptions |= raised;
    return f80Infinity(factor.negative);
  }
  if (argument.kind === kindZero)
    return scaledLogarithm(undefined, argument.negative, factor, raised, environment);
  if (argument.negative && argument.exponent >= 0) {
    const exact = toExact(argument);
    return factor.kind === kindFinite
      ? deliverInexact(exact, raised, environment)
      : scaledLogarithm(exact, true, factor, raised, environment);
  }
  return scaledLogarithm(
    series.binaryLogarithmPlusOne(argument),
    argument.negative,
    factor,
    raised,
    environment,
  );
}

/** FPATAN: the angle of the point (x, y), with x in ST(0) and y in ST(1). */
export function f80Arctangent(x: F80, y: F80, environment: X87Environment): F80 {
  environment.roundedUp = false;
  const abscissa = unpackF80(x);
  const ordinate = unpackF80(y);
  const special = specialF80(abscissa, ordinate, environment);
  if (special !== undefined) return special;
  const raised = denormalFlag(abscissa, ordinate);
  const angle = specialAngle(abscissa, ordinate);
  if (angle === undefined) {
    return deliverInexact(series.arctangentOfPoint(ordinate, abscissa), raised, environment);
  }
  if (angle === "zero") {
    environment.exceptions |= raised;
    return f80Zero(ordinate.negative);
  }
  return deliverInexact({ ...angle, negative: ordinate.negative }, raised, environment);
}

/** The angles along the axes and towards infinity. */
function specialAngle(x: Unpacked, y: Unpacked): Exact | "zero" | undefined {
  if (y.kind === kindInfinity) {
    if (x.kind !== kindInfinity) return series.halfPi;
    return x.negative ? series.threeQuarterPi : series.quarterPi;
  }
  if (x.kind === kindInfinity || y.kind === kindZero) return x.negative ? series.wholePi : "zero";
  return x.kind === kindZero ? series.halfPi : undefined;
}

/** What FSIN, FCOS, FPTAN and FSINCOS leave: with `complete` false (C2 set) the operand was 2^63 or more and stays. */
export interface Trigonometric {
  readonly result: F80;
  readonly complete: boolean;
}

/** FSINCOS: the sine replaces the operand, the cosine is pushed. */
export interface SineAndCosine {
  readonly sine: F80;
  readonly cosine: F80;
  readonly complete: boolean;
}

/** The answer to an operand that no series is needed for; undefined for ordinary ones. */
function trigonometricSpecial(
  a: F80,
  value: Unpacked,
  environment: X87Environment,
): Trigonometric | undefined {
  const special = specialF80(value, undefined, environment);
  if (special !== undefined) return { result: special, complete: true };
  if (value.kind === kindInfinity) return { result: invalidF80(environment), complete: true };
  if (value.kind === kindFinite && value.exponent >= 63) return { result: a, complete: false };
  return undefined;
}

/** FSIN. */
export function f80Sine(a: F80, environment: X87Environment): Trigonometric {
  environment.roundedUp = false;
  const value = unpackF80(a);
  const special = trigonometricSpecial(a, value, environment);
  if (special !== undefined) return special;
  if (value.kind === kindZero) return { result: a, complete: true };
  const { sine } = series.sineAndCosine(value);
  return { result: deliverInexact(sine, denormalFlag(value), environment), complete: true };
}

/** FCOS. */
export function f80Cosine(a: F80, environment: X87Environment): Trigonometric {
  environment.roundedUp = false;
  const value = unpackF80(a);
  const special = trigonometricSpecial(a, value, environment);
  if (special !== undefined) return special;
  if (value.kind === kindZero) return { result: f80Constant("1", 0), complete: true };
  const { cosine } = series.sineAndCosine(value);
  return { result: deliverInexact(cosine, denormalFlag(value), environment), complete: true };
}

/** FSINCOS. C1 is that of the cosine's rounding. */
export function f80SineAndCosine(a: F80, environment: X87Environment): SineAndCosine {
  environment.roundedUp = false;
  const value = unpackF80(a);
  const special = trigonometricSpecial(a, value, environment);
  if (special !== undefined)
    return { sine: special.result, cosine: special.result, complete: special.complete };
  if (value.kind === kindZero) return { sine: a, cosine: f80Constant("1", 0), complete: true };
  const exact = series.sineAndCosine(value);
  const raised = denormalFlag(value);
  const sine = deliverInexact(exact.sine, raised, environment);
  return { sine, cosine: deliverInexact(exact.cosine, raised, environment), complete: true };
}

/** FPTAN: the tangent replaces the operand; if complete the caller pushes 1.0, or the result again if it is a NaN. */
export function f80Tangent(a: F80, environment: X87Environment): Trigonometric {
  environment.roundedUp = false;
  const value = unpackF80(a);
  const special = trigonometricSpecial(a, value, environment);
  if (special !== undefined) return special;
  if (value.kind === kindZero) return { result: a, complete: true };
  return {
    result: deliverInexact(series.tangent(value), denormalFlag(value), environment),
    complete: true,
  };
}
