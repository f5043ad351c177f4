/** Exact arithmetic on finite non-zero values; what does not fit is kept as a sticky lowest bit, far below any rounding position. */

import { bitLength, integerSquareRoot } from "./bits.ts";
import type { Exact, Unpacked } from "./unpacked.ts";

/** Beyond this distance the smaller addend only matters as a sticky bit. */
const alignmentLimit = 200;

export function toExact(a: Unpacked): Exact {
  return { negative: a.negative, significand: a.significand, exponent: a.exponent - 63 };
}

/** The sum, or undefined if it is exactly zero (whose sign is the caller's business). */
export function addExact(a: Exact, b: Exact): Exact | undefined {
  const aTop = a.exponent + bitLength(a.significand);
  const bTop = b.exponent + bitLength(b.significand);
  const [large, small] = aTop >= bTop ? [a, b] : [b, a];
  let exponent = Math.min(a.exponent, b.exponent);
  let largeSignificand: bigint;
  let smallSignificand: bigint;
  if (Math.abs(aTop - bTop) > alignmentLimit) {
    exponent = large.exponent - alignmentLimit;
    largeSignificand = large.significand << BigInt(alignmentLimit);
    smallSignificand = 1n;
  } else {
    largeSignificand = large.significand << BigInt(large.exponent - exponent);
    smallSignificand = small.significand << BigInt(small.exponent - exponent);
  }
  const sum =
    (large.negative ? -largeSignificand : largeSignificand) +
    (small.negative ? -smallSignificand : smallSignificand);
  if (sum === 0n) return undefined;
  return sum < 0n
    ? { negative: true, significand: -sum, exponent }
    : { negative: false, significand: sum, exponent };
}

export function multiplyExact(a: Unpacked, b: Unpacked): Exact {
  return {
    negative: a.negative !== b.negative,
    significand: a.significand * b.significand,
    exponent: a.exponent + b.exponent - 126,
  };
}

export function divideExact(a: Unpacked, b: Unpacked): Exact {
  const dividend = a.significand << 68n;
  const quotient = dividend / b.significand;
  return {
    negative: a.negative !== b.negative,
    significand: quotient * b.significand === dividend ? quotient : quotient | 1n,
    exponent: a.exponent - b.exponent - 68,
  };
}

/** Square root of the magnitude. */
export function squareRootExact(a: Unpacked): Exact {
  let exponent = a.exponent - 63;
  let radicand = a.significand << 72n;
  exponent -= 72;
  if ((exponent & 1) !== 0) {
    radicand <<= 1n;
    exponent -= 1;
  }
  const root = integerSquareRoot(radicand);
  return {
    negative: false,
    significand: root * root === radicand ? root << 1n : (root << 1n) | 1n,
    exponent: exponent / 2 - 1,
  };
}

/** Compares two finite non-zero values: negative, zero or positive as a is less, equal or greater. */
export function compareFinite(a: Unpacked, b: Unpacked): number {
  if (a.negative !== b.negative) return a.negative ? -1 : 1;
  const magnitude =
    a.exponent !== b.exponent
      ? a.exponent - b.exponent
      : a.significand === b.significand
        ? 0
        : a.significand < b.significand
          ? -1
          : 1;
  return a.negative ? -magnitude : magnitude;
}
