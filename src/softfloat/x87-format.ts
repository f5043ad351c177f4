/** The double extended-precision encoding of the x87 registers (SDM vol. 1, 4.2.2 and 8.2.2) to and from the unpacked form. */

import { bitLength } from "./bits.ts";
import type { Rounded } from "./rounding.ts";
import type { Unpacked } from "./unpacked.ts";
import {
  kindFinite,
  kindInfinity,
  kindQuietNan,
  kindSignallingNan,
  kindUnsupported,
  kindZero,
} from "./unpacked.ts";

/** An 80-bit register image: any bit pattern is allowed. */
export interface F80 {
  /** Unsigned, 64 bits, the explicit integer bit at bit 63. */
  readonly significand: bigint;
  /** Unsigned, 16 bits: sign at bit 15, exponent biased by 16383 below. */
  readonly signExponent: number;
}

export const exponentBias = 16383;
export const integerBit: bigint = 1n << 63n;
export const quietBit: bigint = 1n << 62n;
const signMask = 0x8000;
const biasedExponentMask = 0x7fff;

/** The QNaN floating-point indefinite. */
export const f80Indefinite: F80 = { significand: integerBit | quietBit, signExponent: 0xffff };

export function f80Zero(negative: boolean): F80 {
  return { significand: 0n, signExponent: negative ? signMask : 0 };
}

export function f80Infinity(negative: boolean): F80 {
  return { significand: integerBit, signExponent: negative ? 0xffff : 0x7fff };
}

export function unpackF80(value: F80): Unpacked {
  const { significand } = value;
  const negative = (value.signExponent & signMask) !== 0;
  const biased = value.signExponent & biasedExponentMask;
  const hasIntegerBit = (significand & integerBit) !== 0n;
  if (biased === 0) {
    if (significand === 0n)
      return { kind: kindZero, negative, denormal: false, exponent: 0, significand };
    const shift = hasIntegerBit ? 0 : 64 - bitLength(significand);
    return {
      kind: kindFinite,
      negative,
      denormal: true,
      exponent: 1 - exponentBias - shift,
      significand: significand << BigInt(shift),
    };
  }
  if (!hasIntegerBit)
    return { kind: kindUnsupported, negative, denormal: false, exponent: 0, significand };
  if (biased === biasedExponentMask) {
    const kind =
      significand === integerBit
        ? kindInfinity
        : (significand & quietBit) !== 0n
          ? kindQuietNan
          : kindSignallingNan;
    return { kind, negative, denormal: false, exponent: 0, significand };
  }
  return {
    kind: kindFinite,
    negative,
    denormal: false,
    exponent: biased - exponentBias,
    significand,
  };
}

export function packF80(value: Rounded): F80 {
  if (value.infinite) return f80Infinity(value.negative);
  const biased =
    (value.significand & integerBit) === 0n
      ? 0
      : (value.exponent + exponentBias) & biasedExponentMask;
  return { significand: value.significand, signExponent: (value.negative ? signMask : 0) | biased };
}

/** The NaN with its quiet bit set. */
export function quietF80(nan: Unpacked): F80 {
  return {
    significand: nan.significand | quietBit | integerBit,
    signExponent: nan.negative ? 0xffff : 0x7fff,
  };
}

/** FABS: clears the sign of any pattern; raises nothing. */
export function f80Absolute(value: F80): F80 {
  return { significand: value.significand, signExponent: value.signExponent & biasedExponentMask };
}

/** FCHS: inverts the sign of any pattern; raises nothing. */
export function f80ChangeSign(value: F80): F80 {
  return { significand: value.significand, signExponent: value.signExponent ^ signMask };
}

/** Condition codes C3, C2, C0 of FXAM as bits 2, 1, 0 (C1 is the sign). An empty register is the caller's to report, as 0b101. */
export type F80Class = 0 | 1 | 2 | 3 | 4 | 6;
export const classUnsupported: F80Class = 0;
export const classNan: F80Class = 1;
export const classNormal: F80Class = 2;
export const classInfinity: F80Class = 3;
export const classZero: F80Class = 4;
export const classDenormal: F80Class = 6;

/** FXAM. */
export function f80Examine(value: F80): F80Class {
  const unpacked = unpackF80(value);
  switch (unpacked.kind) {
    case kindZero:
      return classZero;
    case kindFinite:
      return unpacked.denormal ? classDenormal : classNormal;
    case kindInfinity:
      return classInfinity;
    case kindUnsupported:
      return classUnsupported;
    default:
      return classNan;
  }
}
