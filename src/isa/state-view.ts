/** Typed access to one processor's state area from TypeScript. */
import * as layout from "./state.ts";
import type { StateField } from "./state.ts";

/** Reads and writes fields of the state area that begins at `base` of `buffer`. */
export class StateView {
  readonly base: number;
  readonly u8: Uint8Array;
  readonly u16: Uint16Array;
  readonly u32: Uint32Array;
  readonly i32: Int32Array;
  readonly u64: BigUint64Array;
  readonly f64: Float64Array;

  /** `base` must be a multiple of 16. The whole buffer is viewed, so records and guest RAM are reached too. */
  constructor(buffer: ArrayBufferLike, base: number) {
    this.base = base;
    this.u8 = new Uint8Array(buffer);
    this.u16 = new Uint16Array(buffer);
    this.u32 = new Uint32Array(buffer);
    this.i32 = new Int32Array(buffer);
    this.u64 = new BigUint64Array(buffer);
    this.f64 = new Float64Array(buffer);
  }

  get8(field: StateField): number {
    return this.u8[this.base + field.offset];
  }

  set8(field: StateField, value: number): void {
    this.u8[this.base + field.offset] = value;
  }

  get16(field: StateField): number {
    return this.u16[(this.base + field.offset) >>> 1];
  }

  set16(field: StateField, value: number): void {
    this.u16[(this.base + field.offset) >>> 1] = value;
  }

  /** Low 32 bits of a field, unsigned. */
  get32(field: StateField): number {
    return this.u32[(this.base + field.offset) >>> 2];
  }

  set32(field: StateField, value: number): void {
    this.u32[(this.base + field.offset) >>> 2] = value;
  }

  /** Upper 32 bits of a 64-bit field, unsigned. */
  getHigh32(field: StateField): number {
    return this.u32[((this.base + field.offset) >>> 2) + 1];
  }

  /** A 64-bit field that holds an address: exact below 2^53, which is beyond every physical address. */
  getAddress(field: StateField): number {
    const at = (this.base + field.offset) >>> 2;
    return this.u32[at + 1] * 0x1_0000_0000 + this.u32[at];
  }

  get64(field: StateField): bigint {
    return this.u64[(this.base + field.offset) >>> 3];
  }

  set64(field: StateField, value: bigint): void {
    this.u64[(this.base + field.offset) >>> 3] = value;
  }

  /** Writes a 64-bit field by its halves. */
  setHalves(field: StateField, low: number, high: number): void {
    const at = (this.base + field.offset) >>> 2;
    this.u32[at] = low;
    this.u32[at + 1] = high;
  }

  /** Copies a 64-bit field, here or from another area, without making a number of it. */
  copy64(target: StateField, source: StateField, from: StateView = this): void {
    const at = (from.base + source.offset) >>> 2;
    this.setHalves(target, from.u32[at], from.u32[at + 1]);
  }

  /** Scratch slot `index`: arguments of a routine on entry, results on return. 128-bit values fill a slot. */
  argument64(index: number): bigint {
    return this.get64(layout.scratch[index]);
  }

  argument32(index: number): number {
    return this.get32(layout.scratch[index]);
  }

  /** Upper half of a 128-bit argument. */
  argumentHigh64(index: number): bigint {
    return this.u64[((this.base + layout.scratch[index].offset) >>> 3) + 1];
  }

  result64(index: number, value: bigint): void {
    this.set64(layout.scratch[index], value);
  }

  /** Results of up to 32 bits. */
  result32(index: number, value: number): void {
    this.set32(layout.scratch[index], value);
  }

  result128(index: number, low: bigint, high: bigint): void {
    const at = (this.base + layout.scratch[index].offset) >>> 3;
    this.u64[at] = low;
    this.u64[at + 1] = high;
  }
}
