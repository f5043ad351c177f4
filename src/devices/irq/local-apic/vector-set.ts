/** The 256-bit registers of a local APIC (IRR, ISR, TMR) as eight 32-bit words. */

export type VectorSet = number[];

export function emptyVectorSet(): VectorSet {
  return [0, 0, 0, 0, 0, 0, 0, 0];
}

export function hasVector(set: VectorSet, vector: number): boolean {
  return ((set[vector >> 5] >>> (vector & 31)) & 1) !== 0;
}

export function addVector(set: VectorSet, vector: number): void {
  set[vector >> 5] = (set[vector >> 5] | (1 << (vector & 31))) >>> 0;
}

export function removeVector(set: VectorSet, vector: number): void {
  set[vector >> 5] = (set[vector >> 5] & ~(1 << (vector & 31))) >>> 0;
}

/** The highest vector, which is the one of highest priority; -1 when empty. */
export function highestVector(set: VectorSet): number {
  for (let word = 7; word >= 0; word--) {
    if (set[word] !== 0) return word * 32 + 31 - Math.clz32(set[word]);
  }
  return -1;
}
