/** Narrow reads of 32-bit registers. */
import type { AccessSize } from "./contract.ts";

/** The bytes of a 32-bit register that an access of `sizeBytes` at `offset` sees; bytes beyond it read as zero. */
export function registerSlice(value: number, offset: number, sizeBytes: AccessSize): number {
  const shifted = value >>> (8 * (offset & 3));
  return sizeBytes === 4 ? shifted : shifted & (2 ** (8 * sizeBytes) - 1);
}
