/** The common unpacked form that every format is brought into before the arithmetic. */

export const kindZero = 0;
export const kindFinite = 1;
export const kindInfinity = 2;
export const kindQuietNan = 3;
export const kindSignallingNan = 4;
/** x87 only: unnormal, pseudo-NaN or pseudo-infinity, which the 387 and later refuse as invalid. */
export const kindUnsupported = 5;
export type Kind = 0 | 1 | 2 | 3 | 4 | 5;

/** A value taken apart. */
export interface Unpacked {
  readonly kind: Kind;
  readonly negative: boolean;
  /** The operand was a denormal or pseudo-denormal (then normalised here). */
  readonly denormal: boolean;
  /** Finite: exponent of the leading bit. */
  readonly exponent: number;
  /** Finite: 64 bits with the leading one at bit 63. NaN: the significand as an x87 register would hold it. */
  readonly significand: bigint;
}

/** A non-zero exact result, magnitude = significand × 2^exponent; a lowest bit may be sticky. */
export interface Exact {
  readonly negative: boolean;
  readonly significand: bigint;
  readonly exponent: number;
}

export function isNan(value: Unpacked): boolean {
  return value.kind === kindQuietNan || value.kind === kindSignallingNan;
}
