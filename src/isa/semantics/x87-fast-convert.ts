/** x87 loads, stores, comparisons and rounding to integers of zeros and normal numbers, as IR (SDM volume 1, "Data Transfer Instructions"). */
import { type Bits, constant, Variable, when } from "../../ir/index.ts";
import * as softfloat from "../../softfloat/index.ts";
import { exponentOf, roundsAway, RoundingControl, signOf } from "./x87-fast-arithmetic.ts";
import { type FastX87, type Image, refuseIf, type RoundedImage } from "./x87-fast-unit.ts";
import { StatusMask } from "./x87-unit.ts";

const exponentBias = 16383;

/** A binary32 or binary64 format. */
interface Format {
  readonly width: 32 | 64;
  readonly fractionBits: number;
  readonly bias: number;
  /** Exponent field of infinities. */
  readonly infinityExponent: number;
}

const formats: Readonly<Record<32 | 64, Format>> = {
  32: { width: 32, fractionBits: 23, bias: 127, infinityExponent: 0xff },
  64: { width: 64, fractionBits: 52, bias: 1023, infinityExponent: 0x7ff },
};

/** A zero or normal number of memory; refuses the others. */
export function fastFromFloat(bits: Bits<32> | Bits<64>): Image {
  const { width, fractionBits, bias, infinityExponent } = formats[bits.width];
  const wide = bits.zext(64);
  const exponent = wide.shr(fractionBits).trunc(32).and(infinityExponent), sign = wide.shr(width - 1).trunc(32).shl(15);
  const isNormal = exponent.sub(1).ltU(infinityExponent - 1);
  when(isNormal.xor(1), () => refuseIf(wide.shl(65 - width).ne(0)));
  const significand = wide.shl(63 - fractionBits).or(1n << 63n);
  return {
    significand: isNormal.select(significand, 0),
    signExponent: sign.or(isNormal.select(exponent.add(exponentBias - bias), 0)), isOrdinary: constant(1, 1),
  };
}

/** A signed integer: always exact. */
export function fastFromInteger(value: Bits): Image {
  const wide = value.sext(64), sign = wide.shr(63);
  const magnitude = wide.xor(sign.neg()).add(sign);
  const count = magnitude.clz(), isZero = magnitude.isZero();
  const exponent = constant(64, exponentBias + 63).sub(count).or(sign.shl(15));
  return {
    significand: magnitude.shl(count.and(63)), signExponent: isZero.select(constant(32, 0), exponent.trunc(32)), isOrdinary: constant(1, 1),
  };
}

export interface RoundedNumber {
  readonly value: Bits;
  readonly isInexact: Bits<1>;
  readonly isRoundedUp: Bits<1>;
}

/** A zero or normal number as a zero or normal number of memory; refuses what is or becomes neither. */
export function fastToFloat(x87: FastX87, from: Image, width: 32 | 64): RoundedNumber {
  const { fractionBits, bias, infinityExponent } = formats[width];
  const { significand } = from;
  const sign = signOf(from), exponent = exponentOf(from).sub(exponentBias - bias);
  const isNormal = exponent.sub(1).ltU(infinityExponent - 1).and(significand.ltS(0));
  when(isNormal.xor(1), () => refuseIf(significand.or(exponentOf(from).zext(64)).ne(0)));
  const kept = significand.shr(63 - fractionBits), rest = significand.shl(fractionBits + 1);
  const isRoundedUp = roundsAway(x87.control, sign, kept.and(1), rest);
  // The leading bit adds one to the exponent, and carries do.
  const magnitude = exponent.sub(1).zext(64).shl(fractionBits).add(kept).add(isRoundedUp.zext(64));
  refuseIf(isNormal.and(constant(64, BigInt(infinityExponent) << BigInt(fractionBits)).leU(magnitude)));
  const value = isNormal.select(magnitude, 0).or(sign.zext(64).shl(width - 1));
  return { value: value.trunc(width), isInexact: rest.ne(0), isRoundedUp };
}

interface RoundedMagnitude {
  readonly magnitude: Bits<64>;
  readonly isInexact: Bits<1>;
  readonly isRoundedUp: Bits<1>;
}

/** Magnitude of a zero or normal number below 2^63, rounded to an integer. `control` decides how. */
function integralMagnitude(control: Bits<32>, from: Image): RoundedMagnitude {
  const { significand } = from;
  const places = constant(32, exponentBias + 63).sub(exponentOf(from));
  const kept = new Variable(constant(64, 0)), rest = new Variable(significand.ne(0).zext(64));
  const count = places.zext(64);
  when(places.ltU(64), () => {
    kept.set(significand.shr(count));
    rest.set(significand.shl(1).shl(count.xor(63)));
  }, () => when(places.eq(64), () => rest.set(significand)));
  const isRoundedUp = roundsAway(control, signOf(from), kept.get().and(1), rest.get());
  return { magnitude: kept.get().add(isRoundedUp.zext(64)), isInexact: rest.get().ne(0), isRoundedUp };
}

/** Zeros and normal numbers below 2^63. */
function refuseUnlessModerate(from: Image): void {
  const exponent = exponentOf(from);
  const isNormal = exponent.sub(1).ltU(exponentBias + 62).and(from.significand.ltS(0));
  when(isNormal.xor(1), () => refuseIf(from.significand.or(exponent.zext(64)).ne(0)));
}

/** FIST and, if `truncates`, FISTTP. Refuses what does not fit. */
export function fastToInteger(x87: FastX87, from: Image, width: 16 | 32 | 64, truncates: boolean): RoundedNumber {
  refuseUnlessModerate(from);
  const control = truncates ? constant(32, RoundingControl.zero) : x87.control;
  const { magnitude, isInexact, isRoundedUp } = integralMagnitude(control, from);
  const negative = signOf(from).zext(64);
  refuseIf(negative.add((1n << BigInt(width - 1)) - 1n).ltU(magnitude));
  const value = magnitude.xor(negative.neg()).add(negative);
  return { value: value.trunc(width), isInexact, isRoundedUp };
}

/** FRNDINT. Refuses numbers from 2^63 on. */
export function fastIntegral(x87: FastX87, from: Image): RoundedImage {
  refuseUnlessModerate(from);
  const { magnitude, isInexact, isRoundedUp } = integralMagnitude(x87.control, from);
  const count = magnitude.clz();
  const exponent = magnitude.isZero().select(constant(32, 0), constant(64, exponentBias + 63).sub(count).trunc(32));
  return {
    significand: magnitude.shl(count.and(63)), signExponent: exponent.or(signOf(from).shl(15)), isOrdinary: constant(1, 1), isInexact, isRoundedUp,
  };
}

export interface FastOrdering {
  readonly isLess: Bits<1>;
  readonly isEqual: Bits<1>;
}

/** Of zeros and normal numbers. */
export function fastOrdering(a: Image, b: Image): FastOrdering {
  const exponentA = exponentOf(a), exponentB = exponentOf(b), signA = signOf(a), signB = signOf(b);
  const hasSameExponent = exponentA.eq(exponentB), hasSameSign = signA.eq(signB);
  const isSmaller = exponentA.ltU(exponentB).or(hasSameExponent.and(a.significand.ltU(b.significand)));
  const isEqual = a.significand.eq(b.significand).and(hasSameExponent).and(hasSameSign.or(a.significand.isZero()));
  const isNegative = signA.trunc(1);
  return { isEqual, isLess: isEqual.xor(1).and(hasSameSign.select(isSmaller.xor(isNegative), isNegative)) };
}

/** Condition codes of an ordering. */
export function conditionsOfOrdering({ isLess, isEqual }: FastOrdering): Bits<32> {
  return isEqual.select(constant(32, StatusMask.C3), isLess.select(constant(32, StatusMask.C0), 0));
}

/** As `softfloat.Ordering`. */
export function orderingNumber({ isLess, isEqual }: FastOrdering): Bits<32> {
  const lessOrGreater = isLess.select(constant(32, softfloat.orderedLess), softfloat.orderedGreater);
  return isEqual.select(constant(32, softfloat.orderedEqual), lessOrGreater);
}

/** FXAM's C0, C2 and C3 of a register in use. */
export function fastExamination({ significand, signExponent }: Image): Bits<32> {
  const exponent = signExponent.and(0x7fff);
  const isLeast = exponent.isZero(), isGreatest = exponent.eq(0x7fff);
  const { C0, C2, C3 } = StatusMask;
  const special = significand.shl(1).isZero().select(constant(32, C0 | C2), C0);
  const regular = isGreatest.select(special, C2);
  const supported = significand.ltS(0).select(regular, 0);
  return isLeast.select(significand.isZero().select(constant(32, C3), C2 | C3), supported);
}
