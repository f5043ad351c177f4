/** What fast paths of routines and of the engine's own are written with. */
import { answer, Bits, constant, readMemory, recorder, when, writeMemory, type StateLocation } from "../ir/index.ts";
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

/** A register, or half of one, and where it is kept: an offset from some place in linear memory. */
export interface KeptRegister {
  readonly offset: number;
  readonly width: 32 | 64;
  readonly at: number;
}

/** Registers of the state area to `place`. */
export function saveRegisters(registers: readonly KeptRegister[], place: Bits<32>): void {
  for (const register of registers) writeMemory(place.add(register.at), field(register, register.width));
}

/** The same the other way round. */
export function loadRegisters(registers: readonly KeptRegister[], place: Bits<32>): void {
  for (const register of registers) {
    const at = place.add(register.at);
    setField(register, register.width === 64 ? readMemory(64, at) : readMemory(32, at));
  }
}

/** 32-bit registers to values; of 64-bit ones the lower half. */
export function setRegisters(values: readonly (readonly [StateLocation, number])[]): void {
  for (const [location, value] of values) setField(location, constant(32, value >>> 0));
}

/** Status flags at their places in RFLAGS, as `readFlags` has them. */
export function statusFlags(): Bits<32> {
  const aux = field(state.flagsAux, 32), result = field(state.flagsResult, 64);
  const carry = aux.shr(31);
  const parity = result.trunc(32).xor(aux.shr(8)).and(0xff).popcnt().and(1).xor(1);
  const at = (bit: Bits<32>, position: number): Bits<32> => bit.shl(position);
  return [
    at(parity, 2), at(aux.shr(3).and(1), 4), at(result.isZero().zext(32), 6), at(result.sign().zext(32).xor(aux.and(1)), 7),
    at(carry.xor(aux.shr(30).and(1)), 11),
  ].reduce((flags, bit) => flags.or(bit), carry);
}

/** Place of the TLB's entry for the lower half of a linear address, in the processor's area at `base`. */
export function entryPlace(base: Bits<32>, low: Bits<32>): Bits<32> {
  return base.add(low.shr(12).and(state.tlbEntries - 1).mul(state.tlbEntrySizeBytes)).add(state.tlbOffset);
}
