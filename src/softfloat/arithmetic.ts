/** Exact arithmetic on finite non-zero values; what does not fit is kept as a sticky lowest bit, far below any rounding position. */

import { bitLength, integerSquareRoot } from "./bits.ts";
import type { Exact, Unpacked } from "./unpacked.ts";

/** Beyond this distance of the exponents it is worth asking whether the smaller addend only matters as a sticky bit. */
const alignmentLimit = 200;

export function toExact(a: Unpacked): Exact {
  return { negative: a.negative, significand: a.significand, exponent: a.exponent - 63 };
}

/** An addend too small to reach any rounding position, as a sticky bit far below the other one. */
function asSticky(small: Exact, large: Exact): Exact {
  const isFar =
    large.exponent + bitLength(large.significand) - small.exponent - bitLength(small.significand) >
    alignmentLimit;
  return isFar ? { ...small, significand: 1n, exponent: large.exponent - alignmentLimit } : small;
}

/** The sum, or undefined if it is exactly zero (whose sign is the caller's business). */
export function addExact(left: Exact, right: Exact): Exact | undefined {
  const distance = left.exponent - right.exponent;
  const a = distance < -alignmentLimit ? asSticky(left, right) : left;
  const b = distance > alignmentLimit ? asSticky(right, left) : right;
  const exponent = Math.min(a.exponent, b.exponent);
  const aAligned = a.significand << BigInt(a.exponent - exponent);
  const bAligned = b.significand << BigInt(b.exponent - exponent);
  const sum = (a.negative ? -aAligned : aAligned) + (b.negative ? -bAligned : bAligned);
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
