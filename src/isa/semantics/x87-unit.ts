/** The x87 unit as routines see it: register stack, exceptions, condition codes and last-instruction pointers (SDM volume 1, chapter 8). */
import { Status } from "../../ir/index.ts";
import {
  type F80, f80Indefinite, invalidMask, preComputationMask, settledExceptions, type X87Environment, x87Environment,
} from "../../softfloat/index.ts";
import type { Processor } from "../processor.ts";
import type { StateView } from "../state-view.ts";
import * as state from "../state.ts";
import { hasMemoryMask, opcodeMask, segmentShift } from "../x87-instruction-word.ts";

/** Bits of the status word above the six exception flags. */
export const StatusMask = {
  stackFault: 0x40, errorSummary: 0x80, C0: 0x100, C1: 0x200, C2: 0x400, top: 0x3800, C3: 0x4000, busy: 0x8000,
} as const;

export const topShift = 11;
/** What comparisons, FXAM, FPREM and the trigonometric instructions answer with. */
const conditionsMask: number = StatusMask.C0 | StatusMask.C2 | StatusMask.C3;
const exceptionFlagsMask = 0x3f;

/** The status word with ES and B as its flags and the control word's masks demand. */
export function summarize(status: number, control: number): number {
  const summaryMask = StatusMask.errorSummary | StatusMask.busy;
  return (status & ~control & exceptionFlagsMask) === 0 ? status & ~summaryMask : status | summaryMask;
}

/** Sets the control word; a flag that it unmasks becomes a pending exception. */
export function writeControlWord(view: StateView, value: number): void {
  const control = (value & 0x1f3f) | 0x40;
  view.set16(state.x87Control, control);
  view.set16(state.x87Status, summarize(view.get16(state.x87Status), control));
}

/** FNINIT. The registers keep their contents, marked empty. */
export function initialize(view: StateView): void {
  view.set16(state.x87Control, 0x37f);
  view.set16(state.x87Status, 0);
  view.set16(state.x87Tag, 0);
  view.set16(state.x87Opcode, 0);
  view.set64(state.x87InstructionPointer, 0n);
  view.set64(state.x87DataPointer, 0n);
  view.set16(state.x87InstructionSelector, 0);
  view.set16(state.x87DataSelector, 0);
}

/**
 * One non-control instruction while its routine runs. It changes registers at once and the status word in `settle`, so
 * whoever writes, pushes or pops asks `isSuppressed` first.
 */
export class X87Operation {
  readonly view: StateView;
  /** What the operation obeys and raises. */
  readonly environment: X87Environment;
  readonly #processor: Processor;
  readonly #instructionWord: number;
  readonly #operandOffset: bigint;
  #top: number;
  /** SF, and C1 after an overflow. */
  #stackFault = 0;

  constructor(processor: Processor) {
    const view = processor.state;
    this.view = view;
    this.#processor = processor;
    this.environment = x87Environment(view.get16(state.x87Control));
    this.#top = (view.get16(state.x87Status) >> topShift) & 7;
    this.#instructionWord = view.argument32(0);
    this.#operandOffset = (this.#instructionWord & hasMemoryMask) === 0 ? 0n : view.argument64(1);
  }

  isEmpty(index: number): boolean {
    return ((this.view.get16(state.x87Tag) >> ((this.#top + index) & 7)) & 1) === 0;
  }

  /** ST(index), whatever its tag says. */
  read(index: number): F80 {
    const { view } = this;
    const field = state.x87[(this.#top + index) & 7];
    return { significand: view.get64(field), signExponent: view.u16[(view.base + field.offset + 8) >>> 1] };
  }

  write(index: number, value: F80): void {
    const { view } = this;
    const number = (this.#top + index) & 7;
    const field = state.x87[number];
    view.set64(field, value.significand);
    view.u16[(view.base + field.offset + 8) >>> 1] = value.signExponent;
    view.set16(state.x87Tag, view.get16(state.x87Tag) | (1 << number));
  }

  push(value: F80): void {
    this.#top = (this.#top - 1) & 7;
    this.write(0, value);
  }

  /** Marks ST(index) empty. */
  free(index: number): void {
    this.view.set16(state.x87Tag, this.view.get16(state.x87Tag) & ~(1 << ((this.#top + index) & 7)));
  }

  pop(): void {
    this.free(0);
    this.rotate(1);
  }

  /** Moves TOP alone. */
  rotate(steps: number): void {
    this.#top = (this.#top + steps) & 7;
  }

  /** An operand is missing; the masked response is the indefinite. */
  underflow(): F80 {
    this.environment.exceptions |= invalidMask;
    this.#stackFault = StatusMask.stackFault;
    return f80Indefinite;
  }

  /** The register to push into is in use; the masked response is to push the indefinite. */
  overflow(): F80 {
    this.environment.exceptions |= invalidMask;
    this.#stackFault = StatusMask.stackFault | StatusMask.C1;
    return f80Indefinite;
  }

  get hasStackFault(): boolean {
    return this.#stackFault !== 0;
  }

  /** An unmasked invalid operation, denormal or division by zero leaves all registers as they are. */
  get isSuppressed(): boolean {
    const { exceptions, masks } = this.environment;
    return (exceptions & ~masks & preComputationMask) !== 0;
  }

  get hasUnmaskedInvalid(): boolean {
    const { exceptions, masks } = this.environment;
    return (exceptions & ~masks & invalidMask) !== 0;
  }

  /** C0, C2 and C3 as they are, save that those in `mask` become those of `value`. */
  conditions(mask: number, value: number): number {
    return (this.view.get16(state.x87Status) & conditionsMask & ~mask) | value;
  }

  /** Exception flags, SF and C1, in the places of the status word. */
  outcome(): number {
    const { exceptions, masks, roundedUp } = this.environment;
    return settledExceptions(exceptions, masks) | this.#stackFault | (roundedUp ? StatusMask.C1 : 0);
  }

  /** Ends the instruction. `conditions`: C0, C2 and C3 if it sets them; C1 comes from the operation. */
  settle(conditions?: number): Status {
    return this.commit(this.outcome(), conditions);
  }

  /** Ends an instruction that leaves C1 alone unless it meets an empty register. */
  settleKeepingC1(): Status {
    const kept = this.hasStackFault ? 0 : this.view.get16(state.x87Status) & StatusMask.C1;
    return this.commit(this.outcome() | kept);
  }

  /** Ends the instruction with an outcome found earlier. */
  commit(outcome: number, conditions?: number): Status {
    const { view } = this;
    let status = view.get16(state.x87Status) & ~(StatusMask.C1 | StatusMask.top);
    if (conditions !== undefined) status &= ~conditionsMask;
    status |= outcome | (conditions ?? 0) | (this.#top << topShift);
    view.set16(state.x87Status, summarize(status, view.get16(state.x87Control)));
    this.#notePointers((outcome & ~this.environment.masks & exceptionFlagsMask) !== 0);
    return Status.Next;
  }

  /**
   * AMD notes the opcode and the selectors of every instruction. Intel's processors note the opcode of those with an
   * unmasked exception only, and newer ones no selectors (SDM volume 1, "Fopcode Compatibility Sub-mode" and "x87 FPU
   * Instruction and Data (Operand) Pointers").
   */
  #notePointers(hasUnmaskedException: boolean): void {
    const { view } = this;
    const isAmd = this.#processor.model.vendor === "amd";
    const word = this.#instructionWord;
    view.set64(state.x87InstructionPointer, this.#processor.currentRip());
    view.set16(state.x87InstructionSelector, isAmd ? view.get16(state.segments[1].selector) : 0);
    if (isAmd || hasUnmaskedException) view.set16(state.x87Opcode, word & opcodeMask);
    if ((word & hasMemoryMask) === 0) return;
    view.set64(state.x87DataPointer, this.#operandOffset);
    const segment = (word >> segmentShift) & 7;
    view.set16(state.x87DataSelector, isAmd ? view.get16(state.segments[segment].selector) : 0);
  }
}
