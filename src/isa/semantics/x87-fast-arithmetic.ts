/**
 * Addition, multiplication, division and square root of zeros and normal numbers with normal or zero results, as IR, to the
 * last bit and in every rounding and precision mode (SDM volume 1, "Rounding Control" and "Precision Control").
 */
import { type Bits, constant, float, Variable, when } from "../../ir/index.ts";
import { type FastX87, type Image, noteOrdinary, refuseIf, refuseUnless, type RoundedImage } from "./x87-fast-unit.ts";

const signMask = 0x8000;
const exponentMask = 0x7fff;
const exponentBias = 16383;
const largestExponent = 0x7ffe;
const integerBit = 1n << 63n;

export const RoundingControl = { mask: 0xc00, nearest: 0, down: 0x400, up: 0x800, zero: 0xc00 } as const;
/** Clear for the precision controls of 24 and 53 bits, set for 64 bits and the reserved one, which acts as that. */
const fullPrecisionMask = 0x100;
const doublePrecisionBit = 9;

export function exponentOf({ signExponent }: Image): Bits<32> {
  return signExponent.and(exponentMask);
}

/** 1 for negative numbers. */
export function signOf({ signExponent }: Image): Bits<32> {
  return signExponent.shr(15);
}

function isNormal(value: Image): Bits<1> {
  return exponentOf(value).sub(1).ltU(largestExponent).and(value.significand.ltS(0));
}

/** Exponents are incremented, so that the greatest becomes 0 and the least 1; neither leaves a bit of this. */
const incrementedExponentMask = 0x7ffe;

function areNormal(values: readonly Image[]): Bits<1> {
  const exponents = values.map(({ signExponent }) => signExponent.add(1).and(incrementedExponentMask));
  const haveExponents = exponents.reduce((product, exponent) => product.mul(exponent)).zext(64);
  const significands = values.map(({ significand }) => significand).reduce((both, significand) => both.and(significand));
  return significands.sar(63).and(haveExponents).ne(0);
}

export function isZero(value: Image): Bits<1> {
  return value.significand.or(exponentOf(value).zext(64)).isZero();
}

/** Zeros and normal numbers only. */
export function refuseUnlessOrdinary(...values: readonly Image[]): void {
  refuseOthers(values, []);
  for (const value of values) noteOrdinary(value);
}

/** Asks those that are not known, all at once. */
function refuseOthers([first, ...rest]: readonly Image[], unknown: readonly Image[]): void {
  if (first !== undefined) {
    return when(first.isOrdinary ?? constant(1, 0), () => refuseOthers(rest, unknown), () => refuseOthers(rest, [...unknown, first]));
  }
  if (unknown.length === 0) return;
  when(areNormal(unknown).xor(1), () => {
    for (const value of unknown) refuseUnless(isNormal(value).or(isZero(value)));
  });
}

/**
 * What to add to the bits below the last place so that a carry means rounding away from zero: half a unit is their top bit,
 * `isOdd` the last place's.
 */
function roundingIncrement(control: Bits<32>, sign: Bits<32>, isOdd: Bits<64>): Bits<64> {
  const mode = control.and(RoundingControl.mask);
  const isAway = mode.eq(constant(32, RoundingControl.up).shr(sign));
  return mode.isZero().select(nearestIncrement(isOdd), isAway.zext(64).neg());
}

/** Carries from more than half, and from half if the number is odd. */
function nearestIncrement(isOdd: Bits<64>): Bits<64> {
  return isOdd.add(integerBit - 1n);
}

/** Whether a magnitude whose bits below the last place are `rest` is rounded away from zero. */
export function roundsAway(control: Bits<32>, sign: Bits<32>, isOdd: Bits<64>, rest: Bits<64>): Bits<1> {
  return rest.add(roundingIncrement(control, sign, isOdd)).ltU(rest);
}

/**
 * Rounds a magnitude of `upper` with `rest` below to the precision that the control word asks for. `upper`'s bit 63 is set,
 * or both are zero; the lowest bit of `rest` may be sticky. `exponent` is biased and signed.
 */
function rounded(control: Bits<32>, sign: Bits<32>, exponent: Bits<32>, upper: Bits<64>, rest: Bits<64>): RoundedImage {
  const kept = new Variable(upper), below = new Variable(rest), dropped = new Variable(constant(64, 0));
  const increment = new Variable(nearestIncrement(upper.and(1)));
  when(control.and(RoundingControl.mask | fullPrecisionMask).ne(fullPrecisionMask), () => {
    when(control.and(fullPrecisionMask).isZero(), () => {
      const count = control.bit(doublePrecisionBit).select(constant(64, 11), 40);
      dropped.set(count);
      kept.set(upper.shr(count));
      below.set(upper.shl(constant(64, 64).sub(count)).or(rest.ne(0).zext(64)));
    });
    increment.set(roundingIncrement(control, sign, kept.get().and(1)));
  });
  const lower = below.get();
  const isRoundedUp = lower.add(increment.get()).ltU(lower);
  const significand = new Variable(kept.get().add(isRoundedUp.zext(64)).shl(dropped.get()));
  const biased = new Variable(exponent);
  when(significand.get().isZero(), () => {
    // A carry out of the top, or zero.
    significand.set(isRoundedUp.zext(64).shl(63));
    biased.set(isRoundedUp.select(exponent.add(1), 0));
  });
  when(biased.get().sub(1).ltU(largestExponent).xor(1), () => refuseIf(significand.get().ne(0)));
  return {
    significand: significand.get(), signExponent: biased.get().or(sign.shl(15)), isOrdinary: constant(1, 1), isInexact: lower.ne(0), isRoundedUp,
  };
}

/** Shifts both halves left by a count below 64. */
function shiftedLeft(high: Bits<64>, low: Bits<64>, count: Bits<64>): { high: Bits<64>; low: Bits<64> } {
  return { high: high.shl(count).or(low.shr(1).shr(count.xor(63))), low: low.shl(count) };
}

/** a + b, or a − b. */
export function fastSum(x87: FastX87, a: Image, b: Image, subtracts: boolean): RoundedImage {
  const upperA = a.signExponent, upperB = subtracts ? b.signExponent.xor(signMask) : b.signExponent;
  const isSwapped = exponentOf(a).ltU(exponentOf(b));
  const large = isSwapped.select(b.significand, a.significand), small = a.significand.xor(b.significand).xor(large);
  const largeUpper = isSwapped.select(upperB, upperA), difference = upperA.xor(upperB), smallUpper = difference.xor(largeUpper);
  const largeExponent = largeUpper.and(exponentMask);
  const distance = largeExponent.sub(smallUpper.and(exponentMask)).zext(64);
  const aligned = new Variable(small.shr(distance.and(63))), shiftedOut = new Variable(small.shl(1).shl(distance.not().and(63)));
  when(distance.ltU(64).xor(1), () => {
    // Nothing of it reaches the other significand; beyond 127 places its lowest bit stands for all of it.
    const beyond = distance.sub(64);
    const count = beyond.ltU(63).select(beyond, 63);
    aligned.set(constant(64, 0));
    shiftedOut.set(small.shr(count).or(small.shl(1).shl(count.xor(63)).ne(0).zext(64)));
  });
  const other = aligned.get(), otherRest = shiftedOut.get();
  const sign = new Variable(largeUpper.shr(15)), exponent = new Variable(largeExponent);
  const upper = new Variable(large), rest = new Variable(otherRest);
  when(difference.and(signMask).isZero(), () => {
    const sum = large.add(other);
    upper.set(sum);
    when(sum.ltU(large), () => {
      upper.set(sum.shr(1).or(integerBit));
      rest.set(sum.shl(63).or(otherRest.shr(1)).or(otherRest.and(1)));
      exponent.set(largeExponent.add(1));
    });
  }, () => {
    upper.set(large.sub(other).sub(otherRest.ne(0).zext(64)));
    rest.set(otherRest.neg());
    when(large.ltU(other), () => {
      // Of numbers with one exponent: nothing was shifted out.
      upper.set(other.sub(large));
      sign.set(sign.get().xor(1));
    });
    when(upper.get().isZero(), () => {
      upper.set(rest.get());
      rest.set(constant(64, 0));
      exponent.set(largeExponent.sub(64));
      when(upper.get().isZero(), () => {
        sign.set(x87.control.and(RoundingControl.mask).eq(RoundingControl.down).zext(32));
      });
    });
    const count = upper.get().clz().and(63);
    const normal = shiftedLeft(upper.get(), rest.get(), count);
    upper.set(normal.high);
    rest.set(normal.low);
    exponent.set(exponent.get().sub(count.trunc(32)));
  });
  return rounded(x87.control, sign.get(), exponent.get(), upper.get(), rest.get());
}

export function fastProduct(x87: FastX87, a: Image, b: Image): RoundedImage {
  const high = a.significand.mulHighU(b.significand), low = a.significand.mul(b.significand);
  // Below 2: one place up.
  const count = high.shr(63).xor(1);
  const normal = shiftedLeft(high, low, count);
  const exponent = exponentOf(a).add(exponentOf(b)).sub(exponentBias - 1).sub(count.trunc(32));
  return rounded(x87.control, signOf(a).xor(signOf(b)), exponent, normal.high, normal.low);
}

/**
 * One digit of 32 bits of `top`·2^32 + `digit` over a divisor with bit 63 set, `top` being less than it; Knuth's algorithm D.
 */
function quotientDigit(top: Bits<64>, digit: Bits<64>, divisor: Bits<64>): { digit: Bits<64>; remainder: Bits<64> } {
  const divisorHigh = divisor.shr(32), divisorLow = divisor.and(0xffff_ffffn);
  const first = top.divU(divisorHigh);
  const estimate = new Variable(first), rest = new Variable(top.sub(first.mul(divisorHigh)));
  for (let correction = 0; correction < 2; correction++) {
    const q = estimate.get(), r = rest.get();
    const isTooLarge = q.shr(32).ne(0).or(r.shl(32).or(digit).ltU(q.mul(divisorLow)));
    when(isTooLarge.and(r.shr(32).isZero()), () => {
      estimate.set(q.sub(1));
      rest.set(r.add(divisorHigh));
    });
  }
  const q = estimate.get();
  return { digit: q, remainder: top.shl(32).or(digit).sub(q.mul(divisor)) };
}

/** a ÷ b; refuses a zero divisor. */
export function fastQuotient(x87: FastX87, a: Image, b: Image): RoundedImage {
  const divisor = b.significand;
  refuseUnless(divisor.ltS(0));
  // Halved if need be, so that the quotient has 64 bits exactly.
  const halving = divisor.leU(a.significand).zext(64);
  const dividend = a.significand.shr(halving), dividendLow = a.significand.and(halving).shl(63);
  const upper = quotientDigit(dividend, dividendLow.shr(32), divisor);
  const lower = quotientDigit(upper.remainder, constant(64, 0), divisor);
  const quotient = upper.digit.shl(32).or(lower.digit), remainder = lower.remainder;
  const complement = divisor.sub(remainder);
  const isHalfOrMore = complement.leU(remainder);
  const isBetween = remainder.ne(0).and(remainder.ne(complement));
  const rest = isHalfOrMore.zext(64).shl(63).or(isBetween.zext(64));
  const exponent = exponentOf(a).sub(exponentOf(b)).add(exponentBias - 1).add(halving.trunc(32));
  return rounded(x87.control, signOf(a).xor(signOf(b)), exponent, quotient, rest);
}

interface Wide {
  readonly high: Bits<64>;
  readonly low: Bits<64>;
}

function difference(a: Wide, b: Wide): Wide {
  return { high: a.high.sub(b.high).sub(a.low.ltU(b.low).zext(64)), low: a.low.sub(b.low) };
}

function squared(root: Bits<64>): Wide {
  return { high: root.mulHighU(root), low: root.mul(root) };
}

/** The bits of 2^exponent as a double. */
function powerOfTwo(exponent: number): Bits<64> {
  return constant(64, BigInt(exponent + 1023) << 52n);
}

/** The square root's integer part, or one more, of a radicand of at least 2^126. */
function estimatedRoot(radicand: Wide): Bits<64> {
  // 52 bits from the root of a double; one step of Newton's leaves an error of about 2^-38.
  const first = float(64, "f64.mul", float(64, "f64.sqrt", float(64, "f64.convert_i64_u", radicand.high)), powerOfTwo(32));
  const root = float(64, "i64.trunc_sat_f64_u", first);
  const { high, low } = difference(radicand, squared(root));
  const error = float(64, "f64.convert_i64_s", high.shl(48).or(low.shr(16)));
  const step = float(64, "f64.div", float(64, "f64.mul", error, powerOfTwo(15)), first);
  return root.add(float(64, "i64.trunc_sat_f64_s", float(64, "f64.floor", float(64, "f64.add", step, powerOfTwo(-20)))));
}

/** The square root of zero or a positive normal number; refuses the others. */
export function fastSquareRoot(x87: FastX87, a: Image): RoundedImage {
  const exponent = exponentOf(a), sign = signOf(a);
  refuseIf(sign.ne(0).and(a.significand.ne(0)));
  // 128 bits with an even exponent, so that the root's integer part is a significand.
  const halving = exponent.and(1).zext(64);
  const radicand = { high: a.significand.shr(halving), low: a.significand.and(halving).shl(63) };
  const estimate = estimatedRoot(radicand);
  const found = difference(radicand, squared(estimate));
  const root = new Variable(estimate), high = new Variable(found.high), low = new Variable(found.low);
  when(found.high.ltS(0), () => {
    const correction = estimate.shl(1).sub(1), sum = found.low.add(correction);
    root.set(estimate.sub(1));
    low.set(sum);
    high.set(found.high.add(estimate.shr(63)).add(sum.ltU(correction).zext(64)));
  });
  // The root of zero's radicand is found as 0, too, with nothing left.
  const isHalfOrMore = high.get().ne(0).or(root.get().ltU(low.get()));
  const rest = isHalfOrMore.zext(64).shl(63).or(high.get().or(low.get()).ne(0).zext(64));
  return rounded(x87.control, sign, exponent.add(exponentBias).shr(1), root.get(), rest);
}
