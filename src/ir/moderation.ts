/**
 * When floating-point results are inexact at most, told from few bits: exponents within a window of half their range. A
 * result within its window is neither infinite nor a NaN nor tiny; a product's second factor within the window of operands
 * then leaves no room for a denormal first one, nor does a quotient's divisor; a square root leaves none at all.
 */
import type { ModerateOperation } from "./node.ts";

/** Added to twice a number's bits, it sets the sign if the number is within the window. */
export interface Windows {
  readonly operand: bigint;
  readonly result: bigint;
}

/** Windows that begin at 2^-512 and 2^-480 for doubles, at 2^-64 and 2^-56 for singles. */
export const windows: Readonly<Record<32 | 64, Windows>> = {
  32: { operand: 0x8000_0000n - (63n << 24n), result: 0x8000_0000n - (71n << 24n) },
  64: { operand: 0x8000_0000_0000_0000n - (511n << 53n), result: 0x8000_0000_0000_0000n - (543n << 53n) },
};

/** Which operands have to be within their window, by what is known of each: that it is not denormal. */
export function operandsToCheck(operation: ModerateOperation, isKnown: readonly boolean[]): readonly number[] {
  const unknown = isKnown.flatMap((known, index) => known ? [] : [index]);
  switch (operation) {
    case "sum": return unknown;
    case "product": case "quotient": return unknown.slice(-1);
    case "root": return [];
  }
}
