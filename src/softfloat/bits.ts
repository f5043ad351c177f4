/** Integer helpers of the exact arithmetic: bit length, square root, shifts that keep a sticky bit. */

const view = new DataView(new ArrayBuffer(8));

/** Number of bits of a non-negative integer below 2^1023; 0 for zero. */
export function bitLength(value: bigint): number {
  if (value === 0n) return 0;
  view.setFloat64(0, Number(value));
  const length = (view.getUint16(0) >>> 4) - 1022;
  // The conversion rounds, and may have rounded up to the next power of two.
  return value >> BigInt(length - 1) === 0n ? length - 1 : length;
}

/** Shifts right, and sets the lowest bit of the result if any set bit was lost. */
export function shiftRightSticky(value: bigint, count: number): bigint {
  if (count <= 0) return value << BigInt(-count);
  const shifted = value >> BigInt(count);
  return shifted << BigInt(count) === value ? shifted : shifted | 1n;
}

/** Floor of the square root of a non-negative integer below 2^1000. */
export function integerSquareRoot(value: bigint): bigint {
  if (value === 0n) return 0n;
  // Newton from above converges monotonically to the floor.
  let root = BigInt(Math.ceil(Math.sqrt(Number(value)) * (1 + 2 ** -50))) + 1n;
  for (;;) {
    const next = (root + value / root) >> 1n;
    if (next >= root) return root;
    root = next;
  }
}
