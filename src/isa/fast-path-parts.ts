/** What fast paths of routines and of the engine's own are written with. */
import { answer, Bits, recorder, when, type StateLocation } from "../ir/index.ts";
import * as state from "./state.ts";

export function field<W extends 16 | 32 | 64>({ offset }: StateLocation, width: W): Bits<W> {
  return new Bits<W>(recorder().emit({ op: "readState", location: { offset, width } }, width));
}

export function setField({ offset }: StateLocation, value: Bits<32> | Bits<64>): void {
  recorder().emit({ op: "writeState", location: { offset, width: value.width } }, value.width, [value.node]);
}

export function refuseIf(condition: Bits<1>): void {
  when(condition, () => answer(false));
}

export function has(bits: Bits<32>, mask: number): Bits<1> {
  return bits.and(mask).ne(0);
}

/** Place of the TLB's entry for the lower half of a linear address, in the processor's area at `base`. */
export function entryPlace(base: Bits<32>, low: Bits<32>): Bits<32> {
  return base.add(low.shr(12).and(state.tlbEntries - 1).mul(state.tlbEntrySizeBytes)).add(state.tlbOffset);
}
