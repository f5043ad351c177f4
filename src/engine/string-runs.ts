/**
 * Repeated MOVS and STOS in bulk (SDM volume 1, "String Instructions"): what the dispatch loop would do one element
 * after the other, page by page as far as both can be accessed. No access of a run can fault, and each element counts as
 * one instruction, as it does without runs.
 */
import { Register, Segment } from "../isa/definition.ts";
import * as state from "../isa/state.ts";
import type { StateView } from "../isa/state-view.ts";
import { is64BitMode } from "../isa/system/mode.ts";
import type { BulkMemory } from "./bulk-memory.ts";
import type { Mmu } from "./mmu.ts";
import { pageSizeBytes } from "./physical-memory.ts";
import { RecordField } from "./record.ts";

const twoPow32 = 0x1_0000_0000;

export type StringElementBytes = 1 | 2 | 4 | 8;
type Bits = 16 | 32 | 64;

const elementMasks = { 1: 0xffn, 2: 0xffffn, 4: 0xffff_ffffn, 8: 0xffff_ffff_ffff_ffffn } as const;

function isZero(low: number, high: number, sizeBytes: StringElementBytes): boolean {
  return sizeBytes === 2 ? (low & 0xffff) === 0 : low === 0 && (sizeBytes === 4 || high === 0);
}

export class StringRuns {
  readonly #view: StateView;
  readonly #mmu: Mmu;
  readonly #memory: BulkMemory;
  readonly counters = { runs: 0, elements: 0 };
  /** Elements that may still be handled where `#locate` looked last. */
  #room = 0;

  constructor(view: StateView, mmu: Mmu, memory: BulkMemory) {
    this.#view = view;
    this.#mmu = mmu;
    this.#memory = memory;
  }

  /** Goes on with MOVS after an iteration, upwards, and leaves at least one more to the instruction itself. */
  move(sizeBytes: StringElementBytes, addressBits: Bits): void {
    while (this.#moveInPage(sizeBytes, addressBits));
  }

  /** Returns whether there may be more to do in other pages. */
  #moveInPage(sizeBytes: StringElementBytes, addressBits: Bits): boolean {
    let count = this.#countMaximum(addressBits);
    if (count <= 0) return false;
    const view = this.#view;
    const source = this.#locate(Register.RSI, view.u8[view.get32(state.currentRecord) + RecordField.segment], sizeBytes, addressBits, false);
    if (source === 0) return false;
    count = Math.min(count, this.#room);
    const target = this.#locate(Register.RDI, Segment.ES, sizeBytes, addressBits, true);
    if (target === 0) return false;
    count = Math.min(count, this.#room);
    const distance = target - source;
    // Elements that overlap the next one's source are read before they are written.
    if (count <= 0 || (distance > 0 && distance < sizeBytes)) return false;
    this.#copy(source, target, count * sizeBytes);
    this.#advance(Register.RSI, count * sizeBytes, addressBits);
    this.#finish(count, sizeBytes, addressBits);
    return true;
  }

  /** The same for STOS. */
  fill(sizeBytes: StringElementBytes, addressBits: Bits): void {
    while (this.#fillInPage(sizeBytes, addressBits));
  }

  #fillInPage(sizeBytes: StringElementBytes, addressBits: Bits): boolean {
    let count = this.#countMaximum(addressBits);
    if (count <= 0) return false;
    const target = this.#locate(Register.RDI, Segment.ES, sizeBytes, addressBits, true);
    if (target === 0) return false;
    count = Math.min(count, this.#room);
    if (count <= 0) return false;
    this.#fill(target, count * sizeBytes, sizeBytes);
    this.#finish(count, sizeBytes, addressBits);
    return true;
  }

  /** By the count register and by what the budget leaves once this iteration, and its block before it, is charged. */
  #countMaximum(addressBits: Bits): number {
    const view = this.#view;
    const low = view.get32(state.gpr[Register.RCX]);
    const left = addressBits === 16 ? low & 0xffff : addressBits === 32 ? low : low + view.getHigh32(state.gpr[Register.RCX]) * twoPow32;
    const charged = view.u8[view.get32(state.currentRecord) + RecordField.count];
    return Math.min(left - 1, (view.get32(state.budget) | 0) - charged);
  }

  /** Place in linear memory of the element that a pointer register points to, or 0; `#room` says how many follow there. */
  #locate(register: number, segment: number, sizeBytes: number, addressBits: Bits, isWrite: boolean): number {
    const view = this.#view;
    const fields = state.segments[segment];
    const pointer = state.gpr[register];
    let offset = view.get32(pointer), high = 0;
    if (addressBits === 16) offset &= 0xffff;
    let linear = offset;
    let end = addressBits === 16 ? 0x1_0000 : twoPow32;
    if (is64BitMode(view)) {
      if (addressBits === 64) {
        high = view.getHigh32(pointer);
        end = Infinity;
      }
      if (segment >= Segment.FS) {
        const sum = linear + view.get32(fields.base);
        linear = sum >>> 0;
        high = (high + view.getHigh32(fields.base) + (sum >= twoPow32 ? 1 : 0)) >>> 0;
      }
    } else {
      const limit = isWrite ? fields.writeEnd : fields.readEnd;
      end = Math.min(end, view.get32(limit) + view.getHigh32(limit) * twoPow32);
      linear = (linear + view.get32(fields.base)) >>> 0;
    }
    this.#room = Math.floor(Math.min(pageSizeBytes - (linear & (pageSizeBytes - 1)), end - offset) / sizeBytes);
    // An element that is not wholly in the page may fault in the other one, and would have written to none.
    return this.#room <= 0 ? 0 : this.#mmu.locate(linear, high, sizeBytes, isWrite, undefined);
  }

  /** As a copy by elements in rising order does it: where the target overlaps what follows the source, the distance repeats. */
  #copy(source: number, target: number, sizeBytes: number): void {
    const distance = target - source;
    let step = distance > 0 && distance < sizeBytes ? distance : sizeBytes;
    for (let done = 0; done < sizeBytes; step *= 2) {
      const length = Math.min(step, sizeBytes - done);
      this.#memory.copy(target + done, source, length);
      done += length;
    }
  }

  #fill(target: number, lengthBytes: number, sizeBytes: StringElementBytes): void {
    const view = this.#view;
    const value = state.gpr[Register.RAX];
    const low = view.get32(value), byte = low & 0xff;
    // Pages are cleared far more often than anything else is filled.
    if (sizeBytes === 1 || (byte === 0 && isZero(low, view.getHigh32(value), sizeBytes))) return this.#memory.fill(target, byte, lengthBytes);
    let pattern = view.get64(value) & elementMasks[sizeBytes];
    for (let width = sizeBytes * 8; width < 64; width *= 2) pattern |= pattern << BigInt(width);
    // What an aligned word holds when the elements do not begin with one.
    const shift = BigInt((target & 7) * 8);
    const word = BigInt.asUintN(64, (pattern << shift) | (pattern >> (64n - shift)));
    const end = target + lengthBytes;
    // Places beyond 2 GiB do not survive the bitwise operators, whose results have a sign.
    const firstWord = Math.min(Math.ceil(target / 8) * 8, end), lastWord = Math.max(end - (end & 7), firstWord);
    const byteAt = (place: number): number => Number((word >> BigInt((place & 7) * 8)) & 0xffn);
    for (let at = target; at < firstWord; at++) view.u8[at] = byteAt(at);
    view.u64.fill(word, firstWord >>> 3, lastWord >>> 3);
    for (let at = lastWord; at < end; at++) view.u8[at] = byteAt(at);
  }

  /** Runs stay within a page and within the offsets of their address size: only 64-bit pointers carry into the upper half. */
  #advance(register: number, distance: number, addressBits: Bits): void {
    const view = this.#view;
    const field = state.gpr[register];
    const low = view.get32(field), sum = low + distance;
    if (addressBits === 16) return view.set16(field, sum);
    view.set32(field, sum);
    const at = ((view.base + field.offset) >>> 2) + 1;
    if (addressBits === 64 && (sum >= twoPow32 || sum < 0)) view.u32[at] += sum < 0 ? -1 : 1;
  }

  #finish(count: number, sizeBytes: number, addressBits: Bits): void {
    this.#advance(Register.RDI, count * sizeBytes, addressBits);
    this.#advance(Register.RCX, -count, addressBits);
    this.#view.set32(state.budget, this.#view.get32(state.budget) - count);
    this.counters.runs++;
    this.counters.elements += count;
  }
}
