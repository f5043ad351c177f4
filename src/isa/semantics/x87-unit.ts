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
/** Of the exponent biases of registers and doubles. */
const exponentDifference = 16383 - 1023;

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

/** Views of one double: its value and, little-endian, its halves. */
const double: Float64Array = new Float64Array(1);
const halves: Uint32Array = new Uint32Array(double.buffer);

/**
 * One non-control instruction while its routine runs. It changes registers at once and the status word in `settle`, so
 * whoever writes, pushes or pops asks `isSuppressed` first.
 */
export class X87Operation {
  readonly view: StateView;
  readonly #processor: Processor;
  readonly #instructionWord: number;
  #environment: X87Environment | undefined = undefined;
  #top: number;
  /** SF, and C1 after an overflow. */
  #stackFault = 0;

  constructor(processor: Processor) {
    const view = processor.state;
    this.view = view;
    this.#processor = processor;
    this.#top = (view.get16(state.x87Status) >> topShift) & 7;
    this.#instructionWord = view.argument32(0);
    view.set16(state.x87TopGuess, this.#top);
  }

  /** What the operation obeys and raises. */
  get environment(): X87Environment {
    this.#environment ??= x87Environment(this.view.get16(state.x87Control));
    return this.#environment;
  }

  isEmpty(index: number): boolean {
    return ((this.view.get16(state.x87Tag) >> ((this.#top + index) & 7)) & 1) === 0;
  }

  /** Offset of ST(index) in the whole buffer. */
  #place(index: number): number {
    return this.view.base + state.x87[(this.#top + index) & 7].offset;
  }

  #markValid(index: number): void {
    this.view.set16(state.x87Tag, this.view.get16(state.x87Tag) | (1 << ((this.#top + index) & 7)));
  }

  /** ST(index), whatever its tag says. */
  read(index: number): F80 {
    const { view } = this;
    const place = this.#place(index);
    return { significand: view.u64[place >>> 3], signExponent: view.u16[(place + 8) >>> 1] };
  }

  write(index: number, value: F80): void {
    const { view } = this;
    const place = this.#place(index);
    view.u64[place >>> 3] = value.significand;
    view.u16[(place + 8) >>> 1] = value.signExponent;
    this.#markValid(index);
  }

  /** ST(to) becomes what ST(from) is. */
  copy(from: number, to: number): void {
    const { view } = this;
    const source = this.#place(from), target = this.#place(to);
    for (let offset = 0; offset < 12; offset += 4) view.u32[(target + offset) >>> 2] = view.u32[(source + offset) >>> 2];
    this.#markValid(to);
  }

  exchange(index: number): void {
    const { view } = this;
    const first = this.#place(0), second = this.#place(index);
    for (let offset = 0; offset < 12; offset += 4) {
      const word = view.u32[(first + offset) >>> 2];
      view.u32[(first + offset) >>> 2] = view.u32[(second + offset) >>> 2];
      view.u32[(second + offset) >>> 2] = word;
    }
  }

  /** ST(index) as a double, undefined unless it is zero or a normal double to the last bit. */
  readNumber(index: number): number | undefined {
    const { view } = this;
    const place = this.#place(index);
    const low = view.u32[place >>> 2], high = view.u32[(place >>> 2) + 1], signExponent = view.u16[(place + 8) >>> 1];
    const sign = (signExponent & 0x8000) << 16;
    const exponent = (signExponent & 0x7fff) - exponentDifference;
    if (exponent > 0 && exponent < 0x7ff && high >>> 31 !== 0 && (low & 0x7ff) === 0) {
      halves[0] = (low >>> 11) | (high << 21);
      halves[1] = sign | (exponent << 20) | ((high >>> 11) & 0xf_ffff);
    } else if ((signExponent & 0x7fff) === 0 && (low | high) === 0) {
      halves[0] = 0;
      halves[1] = sign;
    } else {
      return undefined;
    }
    return double[0];
  }

  /** Pushes a double; false, with nothing done, unless it is zero or normal. */
  pushNumber(value: number): boolean {
    double[0] = value;
    const [low, high] = halves;
    const exponent = (high >>> 20) & 0x7ff;
    if ((exponent === 0 && value !== 0) || exponent === 0x7ff) return false;
    this.#top = (this.#top - 1) & 7;
    const { view } = this;
    const place = this.#place(0);
    view.u32[place >>> 2] = value === 0 ? 0 : low << 11;
    view.u32[(place >>> 2) + 1] = value === 0 ? 0 : 0x8000_0000 | (high << 11) | (low >>> 21);
    view.u16[(place + 8) >>> 1] = ((high >>> 16) & 0x8000) | (value === 0 ? 0 : exponent + exponentDifference);
    this.#markValid(0);
    return true;
  }

  push(value: F80): void {
    this.#top = (this.#top - 1) & 7;
    this.write(0, value);
  }

  /** Pushes a copy of ST(index). */
  pushCopy(index: number): void {
    this.#top = (this.#top - 1) & 7;
    this.copy(index + 1, 0);
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

  #unmasked(mask: number): boolean {
    return this.#environment !== undefined && (this.#environment.exceptions & ~this.#environment.masks & mask) !== 0;
  }

  /** An unmasked invalid operation, denormal or division by zero leaves all registers as they are. */
  get isSuppressed(): boolean {
    return this.#unmasked(preComputationMask);
  }

  get hasUnmaskedInvalid(): boolean {
    return this.#unmasked(invalidMask);
  }

  /** Pushes `value` unless the register is in use, and ends the instruction. A missing source outranks that. */
  pushAndSettle(value: F80): Status {
    const pushed = this.hasStackFault || this.isEmpty(-1) ? value : this.overflow();
    if (!this.isSuppressed) this.push(pushed);
    return this.settle();
  }

  /** C0, C2 and C3 as they are, save that those in `mask` become those of `value`. */
  conditions(mask: number, value: number): number {
    return (this.view.get16(state.x87Status) & conditionsMask & ~mask) | value;
  }

  /** Exception flags, SF and C1, in the places of the status word. */
  outcome(): number {
    if (this.#environment === undefined) return 0;
    const { exceptions, masks, roundedUp } = this.#environment;
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
    const control = view.get16(state.x87Control);
    view.set16(state.x87Status, summarize(status, control));
    view.set16(state.x87TopGuess, this.#top);
    this.#noteOpcode((outcome & ~control & exceptionFlagsMask) !== 0);
    return Status.Next;
  }

  /**
   * AMD notes the opcode and the selectors of every instruction. Intel's processors note the opcode of those with an
   * unmasked exception only, and newer ones no selectors (SDM volume 1, "Fopcode Compatibility Sub-mode" and "x87 FPU
   * Instruction and Data (Operand) Pointers").
   */
  #noteOpcode(hasUnmaskedException: boolean): void {
    const { view } = this;
    const isAmd = this.#processor.model.vendor === "amd";
    const word = this.#instructionWord;
    view.set16(state.x87InstructionSelector, isAmd ? view.get16(state.segments[1].selector) : 0);
    if (isAmd || hasUnmaskedException) view.set16(state.x87Opcode, word & opcodeMask);
    if ((word & hasMemoryMask) === 0) return;
    const segment = (word >> segmentShift) & 7;
    view.set16(state.x87DataSelector, isAmd ? view.get16(state.segments[segment].selector) : 0);
  }
}
