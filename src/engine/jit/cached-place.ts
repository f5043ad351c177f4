/** Which places of the state area are in locals while compiled code runs. */
import * as state from "../../isa/state.ts";

const gprStart = state.gpr[0].offset;
const gprEnd: number = gprStart + 16 * 8;
const xmmStart = state.xmm[0].offset;
const xmmStride: number = state.xmm[1].offset - xmmStart;
const xmmEnd: number = xmmStart + 16 * xmmStride;

/** A place in the state area that is in a local: a general register, or an XMM register, from a byte on. */
export type CachedPlace =
  | { readonly file: "gpr"; readonly number: number; readonly byte: number }
  | { readonly file: "xmm"; readonly number: number; readonly byte: number };

export function cachedPlace(offset: number): CachedPlace | undefined {
  if (offset >= gprStart && offset < gprEnd) return { file: "gpr", number: (offset - gprStart) >> 3, byte: (offset - gprStart) & 7 };
  if (offset < xmmStart || offset >= xmmEnd) return undefined;
  const byte = (offset - xmmStart) % xmmStride;
  return byte < 16 ? { file: "xmm", number: Math.floor((offset - xmmStart) / xmmStride), byte } : undefined;
}
