/** Rounding control, exception flags and masks as MXCSR and the x87 control/status words hold them (Intel SDM vol. 1, 8.1 and 10.2.3). */

/** Rounding control in the encoding that MXCSR.RC, the x87 control word and ROUNDPS's immediate share. */
export type RoundingMode = 0 | 1 | 2 | 3;
export const roundNearest: RoundingMode = 0;
export const roundDown: RoundingMode = 1;
export const roundUp: RoundingMode = 2;
export const roundZero: RoundingMode = 3;

/** Exception flags: the low six bits of MXCSR and of the x87 status word. */
export const invalidMask = 0x01;
export const denormalMask = 0x02;
export const divideByZeroMask = 0x04;
export const overflowMask = 0x08;
export const underflowMask = 0x10;
export const precisionMask = 0x20;
export const allExceptionsMask = 0x3f;
/** Exceptions found before the result is computed: unmasked, they suppress the result and the other exceptions. */
export const preComputationMask = 0x07;

/** What an SSE or AVX operation obeys, and where it accumulates the exceptions it raises. */
export interface SimdEnvironment {
  rounding: RoundingMode;
  denormalsAreZero: boolean;
  flushToZero: boolean;
  /** A set bit masks the exception of the same bit. */
  masks: number;
  /** Exceptions raised since the caller cleared it; ORed into, never cleared here. */
  exceptions: number;
}

/** What an x87 operation obeys, and where it accumulates the exceptions it raises. */
export interface X87Environment {
  rounding: RoundingMode;
  /** Significand bits that FADD, FSUB, FMUL, FDIV and FSQRT round to. */
  precision: 24 | 53 | 64;
  /** A set bit masks the exception of the same bit. */
  masks: number;
  /** Exceptions raised since the caller cleared it; ORed into, never cleared here. */
  exceptions: number;
  /** C1 of an operation that rounds: whether the last rounding enlarged the magnitude. Each rounding operation writes it. */
  roundedUp: boolean;
}

/** The environment that an MXCSR value describes, with no exception raised yet. */
export function simdEnvironment(mxcsr: number): SimdEnvironment {
  return {
    rounding: ((mxcsr >>> 13) & 3) as RoundingMode,
    denormalsAreZero: (mxcsr & 0x40) !== 0,
    flushToZero: (mxcsr & 0x8000) !== 0,
    masks: (mxcsr >>> 7) & allExceptionsMask,
    exceptions: 0,
  };
}

/** The environment that an x87 control word describes, with no exception raised yet. The reserved precision control 01 acts as 64 bits. */
export function x87Environment(controlWord: number): X87Environment {
  const precisionControl = (controlWord >>> 8) & 3;
  return {
    rounding: ((controlWord >>> 10) & 3) as RoundingMode,
    precision: precisionControl === 0 ? 24 : precisionControl === 2 ? 53 : 64,
    masks: controlWord & allExceptionsMask,
    exceptions: 0,
    roundedUp: false,
  };
}

/**
 * The flags an instruction leaves behind, given what its elements raised: an unmasked pre-computation
 * exception in any element hides every overflow, underflow and precision exception (SDM vol. 1, 11.5.3).
 */
export function settledExceptions(raised: number, masks: number): number {
  return (raised & preComputationMask & ~masks) !== 0 ? raised & preComputationMask : raised;
}
