/**
 * The x87 unit as fast paths see it: what `x87-unit.ts` is to routines, as IR, for instructions that raise at most a masked
 * precision exception (SDM volume 1, chapter 8).
 */
import {
  answer, Bits, constant, type FastPath, fastPath, isNoted, note, readStateBits, readStateRow, recorder, type StateLocation, type StateRow, when, type Width, writeStateRow,
} from "../../ir/index.ts";
import * as state from "../state.ts";
import { opcodeMask, segmentShift } from "../x87-instruction-word.ts";
import { StatusMask, topShift } from "./x87-unit.ts";

/** The image of a register. */
export interface Image {
  readonly significand: Bits<64>;
  /** Sign in bit 15, exponent below, nothing above. */
  readonly signExponent: Bits<32>;
  /** Whether it is known to be zero or normal; 0 says nothing. */
  readonly isOrdinary?: Bits<1>;
  /** Physical number of the register it has been read from. */
  readonly place?: Bits<32>;
}

/** What an operation that rounds has found. */
export interface RoundedImage extends Image {
  readonly isInexact: Bits<1>;
  /** C1. */
  readonly isRoundedUp: Bits<1>;
}

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
const c1Bit = 9;

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

/** From now on the register that the value has been read from is known to hold a zero or a normal number. */
export function noteOrdinary({ place }: Image): void {
  if (place !== undefined) note(significands, place, constant(1, 1));
}

/** What the instruction does to status and tags; what is left out stays as it is. */
export interface Settlement {
  /** By how much TOP grows: 1 for a pop. */
  readonly rotation?: Bits<32> | number;
  /** Exception flags, SF and C1 in their places, none of them unmasked; without it, all of them stay and C1 is cleared. */
  readonly outcome?: Bits<32>;
  /** The outcome may hold unmasked exceptions after all. */
  readonly mayBeUnmasked?: boolean;
  /** C0, C2 and C3, all of which are replaced. */
  readonly conditions?: Bits<32>;
  readonly keepsC1?: boolean;
  /** Registers that become valid or empty, a bit each, by their physical number. */
  readonly filled?: Bits<32>;
  readonly emptied?: Bits<32>;
}

export interface FastX87Form {
  readonly hasMemoryOperand: boolean;
  /** Waits for the status word instead of guessing TOP, and so never has to refuse. */
  readonly isPatient?: boolean;
}

export const inRegisters: FastX87Form = { hasMemoryOperand: false };
export const inMemory: FastX87Form = { hasMemoryOperand: true };

/** ES and B are right already: they change with flags and masks only. */
export class FastX87 {
  readonly #top: Bits<32>;
  readonly #instructionWord: Bits<32>;
  readonly #hasMemoryOperand: boolean;

  /** `instructionWord`: as for `X87Operation`. */
  constructor(instructionWord: Bits<32>, { hasMemoryOperand, isPatient = false }: FastX87Form) {
    const top = readStateBits(state.x87Status as StateLocation, StatusMask.top).shr(topShift), guess = this.#guess();
    if (!isPatient) refuseUnless(guess.eq(top));
    this.#top = isPatient ? top : guess;
    this.#instructionWord = instructionWord;
    this.#hasMemoryOperand = hasMemoryOperand;
  }

  // Words are read where they are needed: keeping them takes registers, of which there are few.

  get control(): Bits<32> {
    return readField(state.x87Control, 16).zext(32);
  }

  #status(): Bits<32> {
    return readField(state.x87Status, 16).zext(32);
  }

  #tag(): Bits<32> {
    return readField(state.x87Tag, 16).zext(32);
  }

  #guess(): Bits<32> {
    return readField(state.x87TopGuess, 16).zext(32);
  }

  isValid(index: number): Bits<1> {
    return this.#tag().shr(this.place(index)).trunc(1);
  }

  /** Whether all registers are in use whose bits are set: bit i for ST(i). */
  areValid(mask: Bits<32>): Bits<1> {
    const rotated = mask.shl(this.#top), wanted = rotated.or(rotated.shr(8)).and(0xff);
    return this.#tag().and(wanted).eq(wanted);
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
    return {
      significand: readStateRow(64, significands, place), signExponent: readStateRow(16, signExponents, place).zext(32),
      isOrdinary: isNoted(significands, place), place,
    };
  }

  write(index: Bits<32> | number, { significand, signExponent, isOrdinary = constant(1, 0) }: Image): void {
    const place = this.place(index);
    writeStateRow(significands, place, significand);
    writeStateRow(signExponents, place, signExponent.trunc(16));
    note(significands, place, isOrdinary);
  }

  /** Pushes onto a register that is known to be empty, and ends the instruction. */
  push(value: Image): void {
    this.write(-1, value);
    this.settle({ rotation: -1, filled: this.tagBit(-1) });
  }

  /** `Settlement.outcome` of a rounding; refuses when the precision exception is raised and unmasked. */
  outcomeOf({ isInexact, isRoundedUp }: { readonly isInexact: Bits<1>; readonly isRoundedUp: Bits<1> }): Bits<32> {
    const outcome = isInexact.zext(32).shl(precisionBit).or(isRoundedUp.zext(32).shl(c1Bit));
    refuseIf(outcome.and(this.control.not().and(1 << precisionBit)).ne(0));
    return outcome;
  }

  /** Ends the instruction: status, tags, and what FNSTENV tells of it. */
  settle({ rotation = 0, outcome, mayBeUnmasked = false, conditions, keepsC1 = false, filled, emptied }: Settlement): void {
    const cleared = (mayBeUnmasked ? summaryMask : 0) | (keepsC1 ? 0 : StatusMask.C1) |
      (conditions === undefined ? 0 : conditionsMask) | (rotation === 0 ? 0 : StatusMask.top);
    let status = this.#status().and(0xffff & ~cleared);
    if (rotation !== 0) {
      status = status.or(this.place(rotation).shl(topShift));
      writeField(state.x87TopGuess, this.#guess().add(rotation).and(7).trunc(16));
    }
    if (outcome !== undefined) status = status.or(outcome);
    if (conditions !== undefined) status = status.or(conditions);
    const unmaskedMask = this.control.not().and(exceptionFlagsMask);
    if (mayBeUnmasked) status = status.or(status.and(unmaskedMask).ne(0).select(constant(32, summaryMask), 0));
    writeField(state.x87Status, status.trunc(16));
    if (filled !== undefined || emptied !== undefined) {
      const tag = this.#tag();
      const withFilled = filled === undefined ? tag : tag.or(filled);
      writeField(state.x87Tag, (emptied === undefined ? withFilled : withFilled.and(emptied.not())).trunc(16));
    }
    const hasUnmasked = mayBeUnmasked ? outcome!.and(unmaskedMask).ne(0) : constant(1, 0);
    this.#note(hasUnmasked);
  }

  /** As `X87Operation` does. */
  #note(hasUnmaskedException: Bits<1>): void {
    const noteOpcode = (): void => writeField(state.x87Opcode, this.#instructionWord.and(opcodeMask).trunc(16));
    when(readField(state.x87NotesMask, 16).ne(0), () => {
      noteOpcode();
      writeField(state.x87InstructionSelector, readField(state.segments[1].selector, 16));
      if (!this.#hasMemoryOperand) return;
      writeField(state.x87DataSelector, readStateRow(16, selectors, this.#instructionWord.shr(segmentShift).and(7)));
    }, () => {
      when(hasUnmaskedException, noteOpcode);
      writeField(state.x87InstructionSelector, constant(16, 0));
      if (this.#hasMemoryOperand) writeField(state.x87DataSelector, constant(16, 0));
    });
  }
}

/** A fast path whose first argument is the instruction word, `parameters` being the widths of the others. */
export function fastX87(
  parameters: readonly Width[], form: FastX87Form, definition: (x87: FastX87, ...args: Bits[]) => void,
): () => FastPath {
  return fastPath([32, ...parameters], (word, ...args) => definition(new FastX87(word as Bits<32>, form), ...args));
}
