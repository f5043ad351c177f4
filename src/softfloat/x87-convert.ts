/** x87 loads and stores: binary32, binary64, integers and packed BCD to and from the registers (SDM vol. 1, 8.1.2 and 4.7). */

import { toExact } from "./arithmetic.ts";
import { bitLength } from "./bits.ts";
import type { RoundingMode, X87Environment } from "./environment.ts";
import { invalidMask, overflowMask, precisionMask, underflowMask } from "./environment.ts";
import { roundInto, roundToMultiple } from "./rounding.ts";
import type { BinaryFormat } from "./simd-format.ts";
import {
  formatF32,
  formatF64,
  packIndefinite,
  packInfinity,
  packQuietNan,
  packRounded,
  packZero,
  unpackBinary,
} from "./simd-format.ts";
import {
  isNan,
  kindFinite,
  kindInfinity,
  kindSignallingNan,
  kindUnsupported,
  kindZero,
} from "./unpacked.ts";
import { denormalFlag } from "./x87-arithmetic.ts";
import type { F80 } from "./x87-format.ts";
import { exponentBias, f80Infinity, f80Zero, quietF80, unpackF80 } from "./x87-format.ts";

function load(format: BinaryFormat, bits: bigint, environment: X87Environment): F80 {
  environment.roundedUp = false;
  const value = unpackBinary(format, bits);
  if (value.kind === kindZero) return f80Zero(value.negative);
  if (value.kind === kindInfinity) return f80Infinity(value.negative);
  if (isNan(value)) {
    if (value.kind === kindSignallingNan) environment.exceptions |= invalidMask;
    return quietF80(value);
  }
  environment.exceptions |= denormalFlag(value);
  return {
    significand: value.significand,
    signExponent: (value.negative ? 0x8000 : 0) | (value.exponent + exponentBias),
  };
}

/**
 * FLD m32: raises invalid for a signalling NaN (which it quiets), denormal for a denormal. Only an unmasked invalid
 * keeps the value from being pushed, a denormal does not (measured on Zen).
 */
export function f80FromF32(bits: number, environment: X87Environment): F80 {
  return load(formatF32, BigInt(bits >>> 0), environment);
}

/** FLD m64: as {@link f80FromF32}. */
export function f80FromF64(bits: bigint, environment: X87Environment): F80 {
  return load(formatF64, BigInt.asUintN(64, bits), environment);
}

/** FILD: exact for every signed integer of up to 64 bits. */
export function f80FromInteger(value: bigint): F80 {
  if (value === 0n) return f80Zero(false);
  const magnitude = value < 0n ? -value : value;
  const length = bitLength(magnitude);
  return {
    significand: magnitude << BigInt(64 - length),
    signExponent: (value < 0n ? 0x8000 : 0) | (exponentBias + length - 1),
  };
}

/** FBLD: `bits` is the 80-bit memory image. Digits above nine are undefined by the manual and taken at their value. */
export function f80FromBcd(bits: bigint): F80 {
  let magnitude = 0n;
  for (let digit = 17; digit >= 0; digit--)
    magnitude = magnitude * 10n + ((bits >> BigInt(4 * digit)) & 15n);
  const negative = ((bits >> 79n) & 1n) !== 0n;
  return magnitude === 0n ? f80Zero(negative) : f80FromInteger(negative ? -magnitude : magnitude);
}

function store(format: BinaryFormat, value: F80, environment: X87Environment): bigint {
  environment.roundedUp = false;
  const unpacked = unpackF80(value);
  switch (unpacked.kind) {
    case kindUnsupported:
      environment.exceptions |= invalidMask;
      return packIndefinite(format);
    case kindZero:
      return packZero(format, unpacked.negative);
    case kindInfinity:
      return packInfinity(format, unpacked.negative);
    case kindFinite: {
      const { rounding, masks } = environment;
      const rounded = roundInto(toExact(unpacked), format, { rounding, masks, flushToZero: false });
      const suppressing = rounded.exceptions & ~masks & (overflowMask | underflowMask);
      environment.exceptions |= suppressing === 0 ? rounded.exceptions : suppressing;
      environment.roundedUp = suppressing === 0 && rounded.roundedUp;
      return packRounded(format, rounded);
    }
    default:
      if (unpacked.kind === kindSignallingNan) environment.exceptions |= invalidMask;
      return packQuietNan(format, unpacked);
  }
}

/** FST m32. The caller must not store if {@link storeIsSuppressed}. */
export function f80ToF32(value: F80, environment: X87Environment): number {
  return Number(store(formatF32, value, environment));
}

/** FST m64. The caller must not store if {@link storeIsSuppressed}. */
export function f80ToF64(value: F80, environment: X87Environment): bigint {
  return store(formatF64, value, environment);
}

/** Whether an unmasked invalid, overflow or underflow exception keeps a store (FST, FIST, FBSTP) from writing memory. */
export function storeIsSuppressed(environment: X87Environment): boolean {
  return (
    (environment.exceptions & ~environment.masks & (invalidMask | overflowMask | underflowMask)) !==
    0
  );
}

/** The rounded integer, or undefined with invalid raised if it is outside of −limitBelow … limitAbove. */
function toIntegerWithin(
  value: F80,
  limitBelow: bigint,
  limitAbove: bigint,
  rounding: RoundingMode,
  environment: X87Environment,
): bigint | undefined {
  environment.roundedUp = false;
  const unpacked = unpackF80(value);
  if (unpacked.kind === kindZero) return 0n;
  if (unpacked.kind === kindFinite && unpacked.exponent < 65) {
    const integral = roundToMultiple(toExact(unpacked), 0, rounding);
    const result = unpacked.negative ? -integral.quotient : integral.quotient;
    if (result >= -limitBelow && result <= limitAbove) {
      if (integral.inexact) environment.exceptions |= precisionMask;
      environment.roundedUp = integral.roundedUp;
      return result;
    }
  }
  environment.exceptions |= invalidMask;
  return undefined;
}

/** FIST and, with `rounding` zero, FISTTP: a signed integer of `widthBits`, the integer indefinite if out of range. */
export function f80ToInteger(
  value: F80,
  widthBits: 16 | 32 | 64,
  rounding: RoundingMode,
  environment: X87Environment,
): bigint {
  const limit = 1n << BigInt(widthBits - 1);
  return toIntegerWithin(value, limit, limit - 1n, rounding, environment) ?? -limit;
}

const largestBcd = 999_999_999_999_999_999n;
const bcdIndefinite = 0xffff_c000_0000_0000_0000n;

/** FBSTP: the 80-bit memory image, the packed BCD indefinite if out of range. */
export function f80ToBcd(value: F80, environment: X87Environment): bigint {
  const integer = toIntegerWithin(value, largestBcd, largestBcd, environment.rounding, environment);
  if (integer === undefined) return bcdIndefinite;
  let magnitude = integer < 0n ? -integer : integer;
  let image = (value.signExponent & 0x8000) !== 0 ? 1n << 79n : 0n;
  for (let digit = 0n; digit < 18n; digit++) {
    image |= (magnitude % 10n) << (4n * digit);
    magnitude /= 10n;
  }
  return image;
}
