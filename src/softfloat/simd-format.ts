/** The binary32 and binary64 encodings (SDM vol. 1, 4.2.2) to and from the unpacked form. */

import type { Rounded, Target } from "./rounding.ts";
import { targetF32, targetF64 } from "./rounding.ts";
import { bitLength } from "./bits.ts";
import type { Unpacked } from "./unpacked.ts";
import {
  isNan,
  kindFinite,
  kindInfinity,
  kindQuietNan,
  kindSignallingNan,
  kindZero,
} from "./unpacked.ts";

/** An interchange format with an implicit leading bit, as bit fields of a bigint. */
export interface BinaryFormat extends Target {
  readonly fractionBits: bigint;
  readonly fractionMask: bigint;
  readonly exponentMask: number;
  readonly signBit: bigint;
  readonly bias: number;
  /** Distance from the fraction's place to the 64-bit left-aligned significand's. */
  readonly alignment: bigint;
}

function binaryFormat(target: Target, widthBits: number): BinaryFormat {
  const fractionBits = target.precision - 1;
  return {
    ...target,
    fractionBits: BigInt(fractionBits),
    fractionMask: (1n << BigInt(fractionBits)) - 1n,
    exponentMask: 2 ** (widthBits - target.precision) - 1,
    signBit: BigInt(widthBits - 1),
    bias: target.maxExponent,
    alignment: BigInt(63 - fractionBits),
  };
}

export const formatF32: BinaryFormat = binaryFormat(targetF32, 32);
export const formatF64: BinaryFormat = binaryFormat(targetF64, 64);

const integerBit = 1n << 63n;
const quietBit = 1n << 62n;

export function unpackBinary(format: BinaryFormat, bits: bigint): Unpacked {
  const negative = bits >> format.signBit !== 0n;
  const biased = Number(bits >> format.fractionBits) & format.exponentMask;
  const fraction = (bits & format.fractionMask) << format.alignment;
  if (biased === format.exponentMask) {
    if (fraction === 0n)
      return {
        kind: kindInfinity,
        negative,
        denormal: false,
        exponent: 0,
        significand: integerBit,
      };
    const kind = (fraction & quietBit) !== 0n ? kindQuietNan : kindSignallingNan;
    return { kind, negative, denormal: false, exponent: 0, significand: integerBit | fraction };
  }
  if (biased !== 0) {
    return {
      kind: kindFinite,
      negative,
      denormal: false,
      exponent: biased - format.bias,
      significand: integerBit | fraction,
    };
  }
  if (fraction === 0n)
    return { kind: kindZero, negative, denormal: false, exponent: 0, significand: 0n };
  const shift = 64 - bitLength(fraction);
  return {
    kind: kindFinite,
    negative,
    denormal: true,
    exponent: format.minExponent - shift,
    significand: fraction << BigInt(shift),
  };
}

function assemble(
  format: BinaryFormat,
  negative: boolean,
  biased: number,
  fraction: bigint,
): bigint {
  return (
    ((negative ? 1n : 0n) << format.signBit) | (BigInt(biased) << format.fractionBits) | fraction
  );
}

export function packZero(format: BinaryFormat, negative: boolean): bigint {
  return assemble(format, negative, 0, 0n);
}

export function packInfinity(format: BinaryFormat, negative: boolean): bigint {
  return assemble(format, negative, format.exponentMask, 0n);
}

/** The QNaN floating-point indefinite. */
export function packIndefinite(format: BinaryFormat): bigint {
  return assemble(format, true, format.exponentMask, quietBit >> format.alignment);
}

export function packRounded(format: BinaryFormat, value: Rounded): bigint {
  if (value.infinite) return packInfinity(format, value.negative);
  const biased =
    (value.significand & integerBit) === 0n
      ? 0
      : (value.exponent + format.bias) & format.exponentMask;
  return assemble(
    format,
    value.negative,
    biased,
    (value.significand >> format.alignment) & format.fractionMask,
  );
}

/** The NaN with its quiet bit set, its payload truncated to the format. */
export function packQuietNan(format: BinaryFormat, nan: Unpacked): bigint {
  const fraction = ((nan.significand | quietBit) >> format.alignment) & format.fractionMask;
  return assemble(format, nan.negative, format.exponentMask, fraction);
}

/** SSE's choice among NaN operands: the first in operand order, quieted; undefined if none is a NaN. */
export function firstNan(format: BinaryFormat, operands: readonly Unpacked[]): bigint | undefined {
  for (const operand of operands) if (isNan(operand)) return packQuietNan(format, operand);
  return undefined;
}
