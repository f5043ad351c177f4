/**
 * The x87 unit as fast paths see it: what `x87-unit.ts` is to routines, as IR, for instructions that raise at most a masked
 * precision exception (SDM volume 1, chapter 8).
 */
import { invariant } from "../../base/errors.ts";
import {
  answer, Bits, constant, type FastPath, fastPath, readStateRow, recorder, type StateLocation, type StateRow, when, type Width, writeStateRow,
} from "../../ir/index.ts";
import * as state from "../state.ts";
import { opcodeMask, segmentShift } from "../x87-instruction-word.ts";
import { StatusMask, topShift } from "./x87-unit.ts";

/** The image of a register. */
export interface Image {
  readonly significand: Bits<64>;
  /** Sign in bit 15, exponent below, nothing above. */
  readonly signExponent: Bits<32>;
}

/** What an operation that rounds has found. */
export interface RoundedImage extends Image {
  readonly isInexact: Bits<1>;
  /** C1. */
  readonly isRoundedUp: Bits<1>;
}

/** Control, status, tag and opcode words, which are read and written at once. */
const words: StateLocation = { offset: state.x87Control.offset, width: 64 };
[state.x87Control, state.x87Status, state.x87Tag, state.x87Opcode].forEach(({ offset, width }, index) => {
  invariant(width === 16 && offset === words.offset + 2 * index, "the x87 control, status, tag and opcode words are neighbours");
});

const registerBytes = state.x87[1].offset - state.x87[0].offset;
const significands: StateRow = { first: { offset: state.x87[0].offset, width: 64 }, strideBytes: registerBytes, count: 8 };
const signExponents: StateRow = { first: { offset: state.x87[0].offset + 8, width: 16 }, strideBytes: registerBytes, count: 8 };
const selectors: StateRow = {
  first: state.segments[0].selector, count: 8, strideBytes: state.segments[1].selector.offset - state.segments[0].selector.offset,
};

const conditionsMask = StatusMask.C0 | StatusMask.C2 | StatusMask.C3;
const summaryMask = StatusMask.errorSummary | StatusMask.busy;
const exceptionFlagsMask = 0x3f;
const precisionBit = 5;

export function readField<W extends Width>(location: StateLocation, width: W): Bits<W> {
  return new Bits<W>(recorder().emit({ op: "readState", location }, width));
}

/** Writes the low bits of a field, as many as the value has. */
export function writeField({ offset }: StateLocation, value: Bits): void {
  const location = { offset, width: value.width } as StateLocation;
  recorder().emit({ op: "writeState", location }, value.width, [value.node]);
}

/** Leaves the case to the routine. Nothing may have been committed. */
export function refuseIf(condition: Bits<1>): void {
  when(condition, () => answer(false));
}

export function refuseUnless(condition: Bits<1>): void {
  refuseIf(condition.xor(1));
}

/** Adds what the instruction does to status and tags; what is left out stays as it is. */
export interface Settlement {
  /** By how much TOP grows: 1 for a pop. */
  readonly rotation?: Bits<32> | number;
  /** Exception flags, SF and C1 in their places; without it, all of them stay and C1 is cleared. */
  readonly outcome?: Bits<32>;
  /** The outcome may hold unmasked exceptions. */
  readonly mayBeUnmasked?: boolean;
  /** C0, C2 and C3, all of which are replaced. */
  readonly conditions?: Bits<32>;
  readonly keepsC1?: boolean;
  /** Registers that become valid or empty, a bit each, by their physical number. */
  readonly filled?: Bits<32>;
  readonly emptied?: Bits<32>;
}

export class FastX87 {
  readonly control: Bits<32>;
  readonly #status: Bits<32>;
  readonly #tag: Bits<32>;
  readonly #opcode: Bits<32>;
  readonly #top: Bits<32>;
  /** Bit i: ST(i) is not empty. */
  readonly #valid: Bits<32>;
  readonly #instructionWord: Bits<32>;
  readonly #hasMemoryOperand: boolean;

  /** `instructionWord`: as for `X87Operation`. */
  constructor(instructionWord: Bits<32>, hasMemoryOperand: boolean) {
    const all = readField(words, 64), low = all.trunc(32), high = all.shr(32).trunc(32);
    this.control = low.and(0xffff);
    this.#status = low.shr(16);
    this.#tag = high.and(0xffff);
    this.#opcode = high.shr(16);
    this.#top = low.shr(16 + topShift).and(7);
    this.#valid = this.#tag.or(this.#tag.shl(8)).shr(this.#top);
    this.#instructionWord = instructionWord;
    this.#hasMemoryOperand = hasMemoryOperand;
  }

  isValid(index: Bits<32> | number): Bits<1> {
    return typeof index === "number" ? this.#valid.bit(index & 7) : this.#valid.shr(index).trunc(1);
  }

  /** Physical number of ST(index). */
  place(index: Bits<32> | number): Bits<32> {
    return index === 0 ? this.#top : this.#top.add(index).and(7);
  }

  /** ST(index)'s bit in `filled` and `emptied`. */
  tagBit(index: Bits<32> | number): Bits<32> {
    return constant(32, 1).shl(this.place(index));
  }

  read(index: Bits<32> | number): Image {
    const place = this.place(index);
    return { significand: readStateRow(64, significands, place), signExponent: readStateRow(16, signExponents, place).zext(32) };
  }

  write(index: Bits<32> | number, { significand, signExponent }: Image): void {
    const place = this.place(index);
    writeStateRow(significands, place, significand);
    writeStateRow(signExponents, place, signExponent.trunc(16));
  }

  /** Pushes onto a register that is known to be empty, and ends the instruction. */
  push(value: Image): void {
    this.write(-1, value);
    this.settle({ rotation: -1, filled: this.tagBit(-1) });
  }

  /** `Settlement.outcome` of a rounding; refuses when the precision exception is unmasked. */
  outcomeOf({ isInexact, isRoundedUp }: { readonly isInexact: Bits<1>; readonly isRoundedUp: Bits<1> }): Bits<32> {
    refuseIf(isInexact.and(this.control.bit(precisionBit).xor(1)));
    return isInexact.zext(32).shl(precisionBit).or(isRoundedUp.select(constant(32, StatusMask.C1), 0));
  }

  /** Ends the instruction: status, tags, and what FNSTENV tells of it. */
  settle({ rotation = 0, outcome, mayBeUnmasked = false, conditions, keepsC1 = false, filled, emptied }: Settlement): void {
    const cleared = summaryMask | (keepsC1 ? 0 : StatusMask.C1) | (conditions === undefined ? 0 : conditionsMask) |
      (rotation === 0 ? 0 : StatusMask.top);
    let status = this.#status.and(0xffff & ~cleared);
    if (rotation !== 0) status = status.or(this.place(rotation).shl(topShift));
    if (outcome !== undefined) status = status.or(outcome);
    if (conditions !== undefined) status = status.or(conditions);
    const unmasked = this.control.not().and(exceptionFlagsMask);
    status = status.or(status.and(unmasked).ne(0).select(constant(32, summaryMask), 0));
    let tag = this.#tag;
    if (filled !== undefined) tag = tag.or(filled);
    if (emptied !== undefined) tag = tag.and(emptied.not());
    const notes = readField(state.x87NotesMask, 16).zext(32);
    const notesOpcode = mayBeUnmasked ? outcome!.and(unmasked).ne(0).select(constant(32, 0xffff), notes) : notes;
    const opcode = this.#opcode.xor(this.#opcode.xor(this.#instructionWord.and(opcodeMask)).and(notesOpcode));
    const low = this.control.or(status.shl(16)), high = tag.or(opcode.shl(16));
    writeField(words, low.zext(64).or(high.zext(64).shl(32)));
    const codeSelector = readField(state.segments[1].selector, 16).zext(32);
    writeField(state.x87InstructionSelector, codeSelector.and(notes).trunc(16));
    if (!this.#hasMemoryOperand) return;
    const dataSelector = readStateRow(16, selectors, this.#instructionWord.shr(segmentShift).and(7)).zext(32);
    writeField(state.x87DataSelector, dataSelector.and(notes).trunc(16));
  }
}

/** A fast path whose first argument is the instruction word, `parameters` being the widths of the others. */
export function fastX87(
  parameters: readonly Width[], hasMemoryOperand: boolean, definition: (x87: FastX87, ...args: Bits[]) => void,
): () => FastPath {
  return fastPath([32, ...parameters], (word, ...args) => definition(new FastX87(word as Bits<32>, hasMemoryOperand), ...args));
}
