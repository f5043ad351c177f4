/** SSE scalar arithmetic on binary32 and binary64: results and MXCSR exceptions (SDM vol. 1, 11.5 and appendix E). */

import {
  addExact,
  compareFinite,
  divideExact,
  multiplyExact,
  squareRootExact,
  toExact,
} from "./arithmetic.ts";
import type { RoundingMode, SimdEnvironment } from "./environment.ts";
import {
  denormalMask,
  divideByZeroMask,
  invalidMask,
  preComputationMask,
  precisionMask,
  roundDown,
} from "./environment.ts";
import { roundInto, roundToMultiple } from "./rounding.ts";
import type { BinaryFormat } from "./simd-format.ts";
import {
  firstNan,
  packIndefinite,
  packInfinity,
  packQuietNan,
  packRounded,
  packZero,
  unpackBinary,
} from "./simd-format.ts";
import type { Exact, Unpacked } from "./unpacked.ts";
import { isNan, kindFinite, kindInfinity, kindSignallingNan, kindZero } from "./unpacked.ts";

/** Unpacks an operand, as zero if it is a denormal under DAZ. */
export function operand(
  format: BinaryFormat,
  bits: bigint,
  environment: SimdEnvironment,
): Unpacked {
  const value = unpackBinary(format, bits);
  return value.denormal && environment.denormalsAreZero
    ? { kind: kindZero, negative: value.negative, denormal: false, exponent: 0, significand: 0n }
    : value;
}

/** Rounds and packs, unless an unmasked pre-computation exception of this element already suppresses the result. */
export function deliver(
  format: BinaryFormat,
  value: Exact,
  raised: number,
  environment: SimdEnvironment,
): bigint {
  const rounded = roundInto(value, format, environment);
  environment.exceptions |= raised;
  if ((raised & preComputationMask & ~environment.masks) === 0)
    environment.exceptions |= rounded.exceptions;
  return packRounded(format, rounded);
}

function invalid(format: BinaryFormat, environment: SimdEnvironment): bigint {
  environment.exceptions |= invalidMask;
  return packIndefinite(format);
}

function nanResult(
  format: BinaryFormat,
  operands: readonly Unpacked[],
  environment: SimdEnvironment,
): bigint {
  if (operands.some((value) => value.kind === kindSignallingNan))
    environment.exceptions |= invalidMask;
  return firstNan(format, operands) ?? packIndefinite(format);
}

function denormalFlag(a: Unpacked, b?: Unpacked): number {
  return a.denormal || (b?.denormal ?? false) ? denormalMask : 0;
}

function addUnpacked(
  format: BinaryFormat,
  a: Unpacked,
  b: Unpacked,
  environment: SimdEnvironment,
): bigint {
  if (isNan(a) || isNan(b)) return nanResult(format, [a, b], environment);
  if (a.kind === kindInfinity || b.kind === kindInfinity) {
    if (a.kind === b.kind && a.negative !== b.negative) return invalid(format, environment);
    environment.exceptions |= denormalFlag(a, b);
    return packInfinity(format, a.kind === kindInfinity ? a.negative : b.negative);
  }
  const raised = denormalFlag(a, b);
  if (a.kind === kindZero && b.kind === kindZero) {
    const negative = a.negative === b.negative ? a.negative : environment.rounding === roundDown;
    return packZero(format, negative);
  }
  const sum =
    a.kind === kindZero
      ? toExact(b)
      : b.kind === kindZero
        ? toExact(a)
        : addExact(toExact(a), toExact(b));
  if (sum === undefined) {
    environment.exceptions |= raised;
    return packZero(format, environment.rounding === roundDown);
  }
  return deliver(format, sum, raised, environment);
}

export function add(
  format: BinaryFormat,
  aBits: bigint,
  bBits: bigint,
  environment: SimdEnvironment,
): bigint {
  return addUnpacked(
    format,
    operand(format, aBits, environment),
    operand(format, bBits, environment),
    environment,
  );
}

export function subtract(
  format: BinaryFormat,
  aBits: bigint,
  bBits: bigint,
  environment: SimdEnvironment,
): bigint {
  const b = operand(format, bBits, environment);
  const subtrahend = isNan(b) ? b : { ...b, negative: !b.negative };
  return addUnpacked(format, operand(format, aBits, environment), subtrahend, environment);
}

export function multiply(
  format: BinaryFormat,
  aBits: bigint,
  bBits: bigint,
  environment: SimdEnvironment,
): bigint {
  const a = operand(format, aBits, environment);
  const b = operand(format, bBits, environment);
  if (isNan(a) || isNan(b)) return nanResult(format, [a, b], environment);
  const negative = a.negative !== b.negative;
  if (a.kind === kindInfinity || b.kind === kindInfinity) {
    if (a.kind === kindZero || b.kind === kindZero) return invalid(format, environment);
    environment.exceptions |= denormalFlag(a, b);
    return packInfinity(format, negative);
  }
  if (a.kind === kindZero || b.kind === kindZero) {
    environment.exceptions |= denormalFlag(a, b);
    return packZero(format, negative);
  }
  return deliver(format, multiplyExact(a, b), denormalFlag(a, b), environment);
}

export function divide(
  format: BinaryFormat,
  aBits: bigint,
  bBits: bigint,
  environment: SimdEnvironment,
): bigint {
  const a = operand(format, aBits, environment);
  const b = operand(format, bBits, environment);
  if (isNan(a) || isNan(b)) return nanResult(format, [a, b], environment);
  const negative = a.negative !== b.negative;
  if (
    (a.kind === kindInfinity && b.kind === kindInfinity) ||
    (a.kind === kindZero && b.kind === kindZero)
  ) {
    return invalid(format, environment);
  }
  const raised = denormalFlag(a, b);
  if (a.kind === kindInfinity) {
    environment.exceptions |= raised;
    return packInfinity(format, negative);
  }
  if (b.kind === kindZero) {
    // Division by zero outranks a denormal dividend.
    environment.exceptions |= divideByZeroMask;
    return packInfinity(format, negative);
  }
  if (a.kind === kindZero || b.kind === kindInfinity) {
    environment.exceptions |= raised;
    return packZero(format, negative);
  }
  return deliver(format, divideExact(a, b), raised, environment);
}

export function squareRoot(
  format: BinaryFormat,
  bits: bigint,
  environment: SimdEnvironment,
): bigint {
  const a = operand(format, bits, environment);
  if (isNan(a)) return nanResult(format, [a], environment);
  if (a.kind === kindZero) return packZero(format, a.negative);
  if (a.negative) return invalid(format, environment);
  if (a.kind === kindInfinity) return packInfinity(format, false);
  return deliver(format, squareRootExact(a), denormalFlag(a), environment);
}

/** Three-way comparison of values that are not NaNs. */
export function compareOrdered(a: Unpacked, b: Unpacked): number {
  const aInfinite = a.kind === kindInfinity;
  const bInfinite = b.kind === kindInfinity;
  if (a.kind === kindZero && b.kind === kindZero) return 0;
  if (aInfinite && bInfinite && a.negative === b.negative) return 0;
  if (aInfinite || b.kind === kindZero) return a.negative ? -1 : 1;
  if (bInfinite || a.kind === kindZero) return b.negative ? 1 : -1;
  return compareFinite(a, b);
}

/** MINSS and MAXSS: the second operand if either is a NaN or both are zeros, else the lesser or the greater. */
export function minimumOrMaximum(
  format: BinaryFormat,
  aBits: bigint,
  bBits: bigint,
  wantsMaximum: boolean,
  environment: SimdEnvironment,
): bigint {
  const a = operand(format, aBits, environment);
  const b = operand(format, bBits, environment);
  const second = b.kind === kindZero ? packZero(format, b.negative) : bBits;
  if (isNan(a) || isNan(b)) {
    environment.exceptions |= invalidMask;
    return second;
  }
  environment.exceptions |= denormalFlag(a, b);
  const order = compareOrdered(a, b);
  if (wantsMaximum ? order > 0 : order < 0)
    return a.kind === kindZero ? packZero(format, a.negative) : aBits;
  return second;
}

/** The outcome of a comparison. */
export type Ordering = 0 | 1 | 2 | 3;
export const orderedEqual: Ordering = 0;
export const orderedLess: Ordering = 1;
export const orderedGreater: Ordering = 2;
export const unordered: Ordering = 3;

/** A quiet comparison (UCOMISS) is invalid for signalling NaNs only, a signalling one (COMISS) for every NaN. */
export function compare(
  format: BinaryFormat,
  aBits: bigint,
  bBits: bigint,
  signalling: boolean,
  environment: SimdEnvironment,
): Ordering {
  const a = operand(format, aBits, environment);
  const b = operand(format, bBits, environment);
  if (isNan(a) || isNan(b)) {
    if (signalling || a.kind === kindSignallingNan || b.kind === kindSignallingNan) {
      environment.exceptions |= invalidMask;
    }
    return unordered;
  }
  environment.exceptions |= denormalFlag(a, b);
  const order = compareOrdered(a, b);
  return order === 0 ? orderedEqual : order < 0 ? orderedLess : orderedGreater;
}

/** Truth per ordering for predicates 0–15 of CMPPS; 16–31 are the same with the other kind of NaN signalling. */
const predicateTruth: readonly number[] = (() => {
  const equal = 1 << orderedEqual;
  const less = 1 << orderedLess;
  const greater = 1 << orderedGreater;
  const nan = 1 << unordered;
  const base = [
    equal,
    less,
    less | equal,
    nan,
    less | greater | nan,
    greater | equal | nan,
    greater | nan,
    7,
  ];
  const second = [
    equal | nan,
    less | nan,
    less | equal | nan,
    0,
    less | greater,
    greater | equal,
    greater,
    15,
  ];
  return [...base, ...second];
})();
/** Bit p is set if predicate p signals for quiet NaNs: LT, LE, NLT, NLE, NGE, NGT, GE, GT. */
const signallingPredicates = 0x6666;

/** Whether predicate 0–31 of CMPSS, CMPPS and their VEX forms signals for quiet NaNs. */
export function predicateSignals(predicate: number): boolean {
  return ((signallingPredicates >>> (predicate & 15)) & 1) !== ((predicate >>> 4) & 1);
}

/** Whether a predicate is true of an ordering. */
export function predicateHolds(predicate: number, ordering: Ordering): boolean {
  return ((predicateTruth[predicate & 15] >>> ordering) & 1) !== 0;
}

/** ROUNDSS: to an integral value; `suppressPrecision` is immediate bit 3. */
export function roundToIntegral(
  format: BinaryFormat,
  bits: bigint,
  rounding: RoundingMode,
  suppressPrecision: boolean,
  environment: SimdEnvironment,
): bigint {
  const a = operand(format, bits, environment);
  if (isNan(a)) return nanResult(format, [a], environment);
  if (a.kind === kindZero) return packZero(format, a.negative);
  if (a.kind !== kindFinite || a.exponent >= format.precision - 1) return bits;
  const integral = roundToMultiple(toExact(a), 0, rounding);
  if (integral.inexact && !suppressPrecision) environment.exceptions |= precisionMask;
  if (integral.quotient === 0n) return packZero(format, a.negative);
  const exact = { negative: a.negative, significand: integral.quotient, exponent: 0 };
  return packRounded(format, roundInto(exact, format, environment));
}

/** a × b + c rounded once (VFMADD and, with signs changed by the caller, its relatives). */
export function fusedMultiplyAdd(
  format: BinaryFormat,
  aBits: bigint,
  bBits: bigint,
  cBits: bigint,
  negateProduct: boolean,
  negateAddend: boolean,
  environment: SimdEnvironment,
): bigint {
  const a = operand(format, aBits, environment);
  const b = operand(format, bBits, environment);
  const c = operand(format, cBits, environment);
  if (isNan(a) || isNan(b)) return nanResult(format, [a, b, c], environment);
  const invalidProduct =
    (a.kind === kindInfinity && b.kind === kindZero) ||
    (a.kind === kindZero && b.kind === kindInfinity);
  if (isNan(c)) return nanResult(format, [c], environment);
  if (invalidProduct) return invalid(format, environment);
  const productNegative = (a.negative !== b.negative) !== negateProduct;
  const addendNegative = c.negative !== negateAddend;
  const raised = denormalFlag(a, b) | denormalFlag(c);
  const productInfinite = a.kind === kindInfinity || b.kind === kindInfinity;
  if (productInfinite || c.kind === kindInfinity) {
    if (productInfinite && c.kind === kindInfinity && productNegative !== addendNegative) {
      return invalid(format, environment);
    }
    environment.exceptions |= raised;
    return packInfinity(format, productInfinite ? productNegative : addendNegative);
  }
  const product =
    a.kind === kindZero || b.kind === kindZero
      ? undefined
      : { ...multiplyExact(a, b), negative: productNegative };
  const addend = c.kind === kindZero ? undefined : { ...toExact(c), negative: addendNegative };
  const sum = product && addend ? addExact(product, addend) : (product ?? addend);
  if (sum === undefined) {
    environment.exceptions |= raised;
    const signsAgree = productNegative === addendNegative && !(product && addend);
    return packZero(format, signsAgree ? productNegative : environment.rounding === roundDown);
  }
  return deliver(format, sum, raised, environment);
}

/** CVTSS2SD and CVTSD2SS. */
export function convertFormat(
  from: BinaryFormat,
  to: BinaryFormat,
  bits: bigint,
  environment: SimdEnvironment,
): bigint {
  const a = operand(from, bits, environment);
  if (isNan(a)) {
    if (a.kind === kindSignallingNan) environment.exceptions |= invalidMask;
    return packQuietNan(to, a);
  }
  if (a.kind === kindZero) return packZero(to, a.negative);
  if (a.kind === kindInfinity) return packInfinity(to, a.negative);
  return deliver(to, toExact(a), denormalFlag(a), environment);
}

/** A signed integer of any width to the format (CVTSI2SS and relatives). */
export function fromInteger(
  format: BinaryFormat,
  value: bigint,
  environment: SimdEnvironment,
): bigint {
  if (value === 0n) return packZero(format, false);
  const exact = { negative: value < 0n, significand: value < 0n ? -value : value, exponent: 0 };
  return deliver(format, exact, 0, environment);
}

/** To a signed integer of `widthBits`; out of range, NaN and infinity give the integer indefinite and invalid. */
export function toInteger(
  format: BinaryFormat,
  bits: bigint,
  widthBits: 32 | 64,
  rounding: RoundingMode,
  environment: SimdEnvironment,
): bigint {
  const a = operand(format, bits, environment);
  if (a.kind === kindZero) return 0n;
  const limit = 1n << BigInt(widthBits - 1);
  if (a.kind === kindFinite && a.exponent < 65) {
    const integral = roundToMultiple(toExact(a), 0, rounding);
    const value = a.negative ? -integral.quotient : integral.quotient;
    if (value >= -limit && value < limit) {
      if (integral.inexact) environment.exceptions |= precisionMask;
      return value;
    }
  }
  environment.exceptions |= invalidMask;
  return -limit;
}
