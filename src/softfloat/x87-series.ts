/**
 * Elementary functions of finite non-zero values by power series in fixed point. Relative errors stay below 2^-180, so the
 * 64-bit roundings of these results are right but for astronomically rare near-ties.
 */

import { addExact, toExact } from "./arithmetic.ts";
import { bitLength, integerSquareRoot } from "./bits.ts";
import type { Exact, Unpacked } from "./unpacked.ts";
import { constantBits, lnTwoFixed, piFixed } from "./x87-constants.ts";

/** Fraction bits of the series' fixed point. */
const seriesBits = 192;
const shift = BigInt(seriesBits);
const one = 1n << shift;
const integerBit = 1n << 63n;

/** 1 ± u/(a·b) ± … with denominators k(k+1) from `first`: the tails of sine (first 2) and cosine (first 1). */
function factorialSeries(u: bigint, first: bigint): bigint {
  let sum = one;
  let term = one;
  let k = first;
  let subtracts = true;
  while (term !== 0n) {
    term = (term * u) >> shift;
    term /= k * (k + 1n);
    sum = subtracts ? sum - term : sum + term;
    subtracts = !subtracts;
    k += 2n;
  }
  // The remainder is below one, also where it is too small to see: keep it on that side.
  return sum - 1n;
}

/** Σ (±u)^k / (2k+1). */
function oddReciprocalSeries(u: bigint, alternates: boolean): bigint {
  let sum = one;
  let power = one;
  let k = 3n;
  let subtracts = alternates;
  while (power !== 0n) {
    power = (power * u) >> shift;
    const term = power / k;
    sum = subtracts ? sum - term : sum + term;
    if (alternates) subtracts = !subtracts;
    k += 2n;
  }
  return alternates ? sum - 1n : sum + 1n;
}

/** (e^x − 1) / x for a fixed-point x. */
function exponentialSeries(x: bigint): bigint {
  let sum = one;
  let term = one;
  let k = 2n;
  while (term !== 0n) {
    term = (term * x) >> shift;
    term /= k;
    sum += term;
    k += 1n;
  }
  return sum;
}

/** The magnitude of a value in fixed point, truncated. */
function toFixed(value: Exact): bigint {
  const scale = value.exponent + seriesBits;
  return scale >= 0 ? value.significand << BigInt(scale) : value.significand >> BigInt(-scale);
}

function squareFixed(value: Exact): bigint {
  return toFixed({
    negative: false,
    significand: value.significand * value.significand,
    exponent: 2 * value.exponent,
  });
}

/** π as the processor reduces arguments by it: 66 bits (Intel SDM vol. 1, 8.3.8; the same was measured on Zen). */
const reductionPi: bigint = piFixed >> BigInt(constantBits - 64);
const reductionPiBits = 64;

/** An argument's remainder by π/2, and the quadrant it was in. */
interface Reduced {
  /** Never zero: a multiple of the odd 66-bit π/2 does not fit the argument's 64 bits. */
  readonly remainder: Exact;
  readonly quadrant: number;
}

function reduceByHalfPi(argument: Unpacked): Reduced {
  const exact = toExact(argument);
  if (argument.exponent < -1) return { remainder: exact, quadrant: 0 };
  // In units of 2^-65, of which π/2 is `reductionPi` and the argument, from exponent -1 upwards, a multiple.
  const scale = reductionPiBits + 1;
  const value = exact.significand << BigInt(exact.exponent + scale);
  const halfPi = reductionPi;
  const quotient = (2n * value + halfPi) / (2n * halfPi);
  const remainder = value - quotient * halfPi;
  const quadrant = Number(quotient & 3n);
  return {
    remainder: {
      negative: remainder < 0n !== argument.negative,
      significand: remainder < 0n ? -remainder : remainder,
      exponent: -scale,
    },
    quadrant: argument.negative ? (4 - quadrant) & 3 : quadrant,
  };
}

function sineOfRemainder(r: Exact): Exact {
  return {
    negative: r.negative,
    significand: r.significand * factorialSeries(squareFixed(r), 2n),
    exponent: r.exponent - seriesBits,
  };
}

function cosineOfRemainder(r: Exact): Exact {
  return {
    negative: false,
    significand: factorialSeries(squareFixed(r), 1n),
    exponent: -seriesBits,
  };
}

function negated(value: Exact): Exact {
  return { ...value, negative: !value.negative };
}

/** Sine and cosine of a value below 2^63 in magnitude. */
export function sineAndCosine(argument: Unpacked): { sine: Exact; cosine: Exact } {
  const { remainder, quadrant } = reduceByHalfPi(argument);
  const sine = sineOfRemainder(remainder);
  const cosine = cosineOfRemainder(remainder);
  switch (quadrant) {
    case 0:
      return { sine, cosine };
    case 1:
      return { sine: cosine, cosine: negated(sine) };
    case 2:
      return { sine: negated(sine), cosine: negated(cosine) };
    default:
      return { sine: negated(cosine), cosine: sine };
  }
}

/** The quotient with about 200 significant bits and a sticky one. */
function quotientOf(a: Exact, b: Exact): Exact {
  const lift = Math.max(0, 200 + bitLength(b.significand) - bitLength(a.significand));
  return {
    negative: a.negative !== b.negative,
    significand: ((a.significand << BigInt(lift)) / b.significand) | 1n,
    exponent: a.exponent - b.exponent - lift,
  };
}

/** Tangent of a value below 2^63 in magnitude. */
export function tangent(argument: Unpacked): Exact {
  const { sine, cosine } = sineAndCosine(argument);
  return quotientOf(sine, cosine);
}

/** 2^x − 1 for −1 < x < 1. */
export function exponentialMinusOne(argument: Unpacked): Exact {
  const exact = toExact(argument);
  const scaled: Exact = {
    negative: exact.negative,
    significand: exact.significand * lnTwoFixed,
    exponent: exact.exponent - constantBits,
  };
  const x = toFixed(scaled);
  return {
    negative: exact.negative,
    significand: scaled.significand * exponentialSeries(exact.negative ? -x : x),
    exponent: scaled.exponent - seriesBits,
  };
}

/** ln((d + n) / (d − n)) ÷ ln 2 for |n| well below d: 2·atanh(n/d) / ln 2. */
function logarithmOfRatio(n: Exact, d: Exact): Exact {
  const t = quotientOf(n, d);
  const factor = oddReciprocalSeries(squareFixed(t), false);
  const numerator: Exact = {
    negative: t.negative,
    significand: t.significand * factor,
    exponent: t.exponent - seriesBits + 1,
  };
  return quotientOf(numerator, {
    negative: false,
    significand: lnTwoFixed,
    exponent: -constantBits,
  });
}

/** Above √2 a significand is taken from the next power of two, so that no logarithm cancels. */
const squareRootOfTwo = 0xb504f333f9de6484n;

/** log2 |x|, and whether it is exact; undefined if zero. */
export function binaryLogarithm(argument: Unpacked): Exact | undefined {
  const isUpper = argument.significand > squareRootOfTwo;
  const power = argument.exponent + (isUpper ? 1 : 0);
  const unit = isUpper ? 2n * integerBit : integerBit;
  const difference = argument.significand - unit;
  const whole: Exact = { negative: power < 0, significand: BigInt(Math.abs(power)), exponent: 0 };
  if (difference === 0n) return power === 0 ? undefined : whole;
  const fraction = logarithmOfRatio(
    {
      negative: difference < 0n,
      significand: difference < 0n ? -difference : difference,
      exponent: 0,
    },
    { negative: false, significand: argument.significand + unit, exponent: 0 },
  );
  return power === 0 ? fraction : addExact(whole, fraction);
}

/** log2(1 + x) for x > −1; undefined if zero. */
export function binaryLogarithmPlusOne(argument: Unpacked): Exact | undefined {
  const x = toExact(argument);
  if (argument.exponent < -1) {
    const two: Exact = { negative: false, significand: 2n, exponent: 0 };
    const denominator = addExact(two, x);
    return denominator && logarithmOfRatio(x, denominator);
  }
  const sum = addExact({ negative: false, significand: 1n, exponent: 0 }, x);
  if (sum === undefined) return undefined;
  // At most 65 bits: 1 + x has no more below exponent 63, and above it the one is lost in the sticky bit.
  const length = bitLength(sum.significand);
  const exponent = sum.exponent + length - 1;
  const unit = 1n << BigInt(length - 1);
  const isUpper = sum.significand * integerBit > squareRootOfTwo * unit;
  const power = exponent + (isUpper ? 1 : 0);
  const base = isUpper ? 2n * unit : unit;
  const difference = sum.significand - base;
  const whole: Exact = { negative: power < 0, significand: BigInt(Math.abs(power)), exponent: 0 };
  if (difference === 0n) return power === 0 ? undefined : whole;
  const fraction = logarithmOfRatio(
    {
      negative: difference < 0n,
      significand: difference < 0n ? -difference : difference,
      exponent: 0,
    },
    { negative: false, significand: sum.significand + base, exponent: 0 },
  );
  return power === 0 ? fraction : addExact(whole, fraction);
}

/** arctan of a ratio of at most one, by halving the angle until the series is short. */
function arctangentOfRatio(ratio: Exact): Exact {
  let t = ratio;
  let doublings = 0;
  while (toFixed(t) > one >> 4n) {
    // tan(θ/2) = t / (1 + √(1 + t²)).
    const root = integerSquareRoot((one + squareFixed(t)) << shift);
    t = quotientOf(t, { negative: false, significand: one + root, exponent: -seriesBits });
    doublings++;
  }
  const factor = oddReciprocalSeries(squareFixed(t), true);
  return {
    negative: false,
    significand: t.significand * factor,
    exponent: t.exponent - seriesBits + doublings,
  };
}

const pi: Exact = { negative: false, significand: piFixed, exponent: -constantBits };
export const halfPi: Exact = { ...pi, exponent: -constantBits - 1 };
export const quarterPi: Exact = { ...pi, exponent: -constantBits - 2 };
export const wholePi: Exact = pi;
export const threeQuarterPi: Exact = {
  ...pi,
  significand: 3n * piFixed,
  exponent: -constantBits - 2,
};

/** The angle of the point (x, y), with the sign of y. */
export function arctangentOfPoint(y: Unpacked, x: Unpacked): Exact {
  const a: Exact = { ...toExact(y), negative: false };
  const b: Exact = { ...toExact(x), negative: false };
  const isSteep =
    y.exponent !== x.exponent ? y.exponent > x.exponent : y.significand > x.significand;
  let angle = arctangentOfRatio(isSteep ? quotientOf(b, a) : quotientOf(a, b));
  if (isSteep) angle = addExact(halfPi, negated(angle)) ?? angle;
  if (x.negative) angle = addExact(pi, negated(angle)) ?? angle;
  return { ...angle, negative: y.negative };
}
