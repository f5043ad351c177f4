/** FLD1, FLDPI and their relatives: constants rounded as the control word says (SDM vol. 1, 8.3.8). */

import type { RoundingMode } from "./environment.ts";
import { allExceptionsMask } from "./environment.ts";
import { roundInto, targetF80 } from "./rounding.ts";
import type { F80 } from "./x87-format.ts";
import { f80Zero, packF80 } from "./x87-format.ts";

/** Fraction bits of the constants below. */
export const constantBits = 256;
export const piFixed: bigint = 0x3243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89n;
export const lnTwoFixed: bigint =
  0xb17217f7d1cf79abc9e3b39803f2f6af40f343267298b62d8a0d175b8baafa2bn;
const log2TenFixed = 0x35269e12f346e2bf924afdbfd36bf6d3365b157f8deceb53a46dab2020b9e1674n;
const log10TwoFixed = 0x4d104d427de7fbcc47c4acd605be48bc13569862a1e8f9a4c52f37935be631e5n;
const log2EFixed = 0x171547652b82fe1777d0ffda0d23a7d11d6aef551bad2b4b1164a2cd9a342648fn;

/** The constants by the suffix of their instruction: FLDZ, FLD1, FLDPI, FLDL2T, FLDL2E, FLDLG2, FLDLN2. */
export type F80Constant = "z" | "1" | "pi" | "l2t" | "l2e" | "lg2" | "ln2";

const fixed: Record<Exclude<F80Constant, "z">, bigint> = {
  "1": 1n << BigInt(constantBits),
  pi: piFixed,
  l2t: log2TenFixed,
  l2e: log2EFixed,
  lg2: log10TwoFixed,
  ln2: lnTwoFixed,
};

/** A constant under a rounding mode; raises nothing. */
export function f80Constant(constant: F80Constant, rounding: RoundingMode): F80 {
  if (constant === "z") return f80Zero(false);
  const exact = { negative: false, significand: fixed[constant], exponent: -constantBits };
  return packF80(
    roundInto(exact, targetF80, { rounding, masks: allExceptionsMask, flushToZero: false }),
  );
}
