/** What an instruction definition is written against: operands, registers, flags, memory, stack and faults, as IR. */
import { invariant } from "../base/errors.ts";
import {
  Bits,
  constant,
  readStateBits,
  recorder,
  type AccessIntent,
  type Flag,
  type Routine,
  type SegmentReference,
  type Width,
} from "../ir/index.ts";
import * as state from "./state.ts";

export type OperandWidth = 8 | 16 | 32 | 64 | 128;
export type RegisterFile = "gpr" | "segment" | "control" | "debug" | "mmx" | "xmm" | "x87";

/** Form of one operand: all that is known when the code is generated. */
export type OperandForm =
  | { readonly kind: "register"; readonly file: "gpr" | "mmx" | "xmm"; readonly width: OperandWidth }
  /** Registers whose number selects other semantics are part of the form. */
  | { readonly kind: "numbered"; readonly file: "segment" | "control" | "debug" | "x87"; readonly number: number; readonly width: OperandWidth }
  /** `width` 0: the instruction itself says what it accesses (LEA, FXSAVE, INVLPG). */
  | { readonly kind: "memory"; readonly width: OperandWidth | 80 | 0 }
  | { readonly kind: "immediate"; readonly width: OperandWidth }
  | { readonly kind: "relative" }
  /** Selector in bits 47:32 of the record's immediate, offset in bits 31:0. */
  | { readonly kind: "far" };

/** Processor mode as far as generated code depends on it, and sizes after prefixes. */
export interface Variant {
  /** 64-bit mode. */
  readonly long: boolean;
  readonly operandSize: 16 | 32 | 64;
  readonly addressSize: 16 | 32 | 64;
  readonly stackSize: 16 | 32 | 64;
  readonly repeat: "none" | "rep" | "repne";
  readonly lock: boolean;
}

/** One operand while a definition runs. */
export class Operand<W extends Width = Width> {
  readonly form: OperandForm;
  readonly width: W;
  readonly #slot: number;

  constructor(form: OperandForm, slot: number) {
    this.form = form;
    this.#slot = slot;
    this.width = ("width" in form ? form.width : 64) as W;
  }

  get isMemory(): boolean {
    return this.form.kind === "memory";
  }

  get isRegister(): boolean {
    return this.form.kind === "register";
  }

  /** Number of a segment, control, debug or x87 register. */
  get number(): number {
    invariant(this.form.kind === "numbered", "only numbered operands have a number");
    return this.form.number;
  }

  /** The same operand seen as T bits wide: the low part of a register, or less or more of memory. */
  as<T extends Width>(width: T): Operand<T> {
    const form = this.form;
    invariant(form.kind === "register" || form.kind === "memory" || form.kind === "immediate", "no width to change");
    return new Operand<T>({ ...form, width: width as OperandWidth }, this.#slot);
  }

  /** Memory is read with the intent of writing when a write of this operand follows; the recorder finds out. */
  read(): Bits<W> {
    switch (this.form.kind) {
      case "register":
        return new Bits<W>(recorder().emit({ op: "readRegister", slot: this.#slot }, this.width));
      case "memory":
        return load(this.width, "operand", this.offset());
      case "immediate":
      case "far":
        return new Bits<W>(recorder().emit({ op: "immediate" }, this.width));
      default:
        invariant(false, `operand ${this.form.kind} has no value to read`);
    }
  }

  /** 32-bit writes of a general register clear its upper half; narrower writes of any register keep the rest. */
  write(value: Bits<W>): void {
    invariant(value.width === this.width, `write of ${value.width} bits to operand of ${this.width}`);
    if (this.form.kind === "memory") return store("operand", this.offset(), value);
    invariant(this.form.kind === "register", `operand ${this.form.kind} cannot be written`);
    recorder().emit({ op: "writeRegister", slot: this.#slot }, this.width, [value.node]);
  }

  /** Offset of a memory operand within its segment, wrapped to the address size. */
  offset(): Bits<64> {
    invariant(this.isMemory, "only memory has an offset");
    return new Bits<64>(recorder().emit({ op: "effectiveAddress" }, 64));
  }
}

export function load<W extends Width>(
  width: W, segment: SegmentReference, offset: Bits<64>, intent: AccessIntent = "read",
): Bits<W> {
  return new Bits<W>(recorder().emit({ op: "load", segment, intent }, width, [offset.node]));
}

export function store(segment: SegmentReference, offset: Bits<64>, value: Bits): void {
  recorder().emit({ op: "store", segment }, value.width, [offset.node, value.node]);
}

/** Faults now if `sizeBytes` at `offset` could not be written later. */
export function checkWrite(segment: SegmentReference, offset: Bits<64>, sizeBytes: number): void {
  recorder().emit({ op: "checkWrite", segment, sizeBytes }, 1, [offset.node]);
}

export function linearAddress(segment: SegmentReference, offset: Bits<64>): Bits<64> {
  return new Bits<64>(recorder().emit({ op: "linearAddress", segment }, 64, [offset.node]));
}

/** A place that can be read and written. */
export interface Place<W extends Width> {
  read(): Bits<W>;
  write(value: Bits<W>): void;
}

function statePlace<W extends Width>(location: { offset: number; width: 8 | 16 | 32 | 64 | 128 }, width: W): Place<W> {
  const narrowed = { offset: location.offset, width: width as 8 | 16 | 32 | 64 | 128 };
  return {
    read: () => new Bits<W>(recorder().emit({ op: "readState", location: narrowed }, width)),
    write: (value) => void recorder().emit({ op: "writeState", location: narrowed }, width, [value.node]),
  };
}

function flagPlace(flag: Flag): Place<1> {
  return {
    read: () => new Bits<1>(recorder().emit({ op: "readFlag", flag }, 1)),
    write: (value) => void recorder().emit({ op: "writeFlags", flags: [flag] }, 1, [value.node]),
  };
}

export const Register = { RAX: 0, RCX: 1, RDX: 2, RBX: 3, RSP: 4, RBP: 5, RSI: 6, RDI: 7 } as const;
export const Segment = { ES: 0, CS: 1, SS: 2, DS: 3, FS: 4, GS: 5, LDTR: 6, TR: 7 } as const;
export const Vector = {
  DE: 0, DB: 1, NMI: 2, BP: 3, OF: 4, BR: 5, UD: 6, NM: 7, DF: 8, TS: 10, NP: 11, SS: 12, GP: 13, PF: 14, MF: 16,
  AC: 17, MC: 18, XM: 19, CP: 21,
} as const;

interface ArithmeticOptions {
  /** CF stays as it is. */
  readonly keepCarry?: boolean;
  /** A carry or borrow went into the result. */
  readonly hasCarryIn?: boolean;
}

/** The processor as definitions see it. */
export class Cpu {
  readonly variant: Variant;
  readonly cf: Place<1> = flagPlace("cf");
  readonly pf: Place<1> = flagPlace("pf");
  readonly af: Place<1> = flagPlace("af");
  readonly zf: Place<1> = flagPlace("zf");
  readonly sf: Place<1> = flagPlace("sf");
  readonly of: Place<1> = flagPlace("of");

  constructor(variant: Variant) {
    this.variant = variant;
  }

  /** General register by number. Writing 32 bits clears the upper half; 8 and 16 bits keep the rest. */
  gpr<W extends 8 | 16 | 32 | 64>(number: number, width: W): Place<W> {
    const place = statePlace(state.gpr[number], width);
    if (width !== 32) return place;
    const full = statePlace(state.gpr[number], 64);
    return { read: place.read, write: (value) => full.write(value.zext(64)) };
  }

  /** AH, CH, DH, BH for 0..3. */
  highByte(number: number): Place<8> {
    return statePlace({ offset: state.gpr[number].offset + 1, width: 8 }, 8);
  }

  xmm(number: number): Place<128> {
    return statePlace(state.xmm[number], 128);
  }

  /** A named field of the state area. */
  field<W extends 8 | 16 | 32 | 64 | 128>(field: { readonly offset: number; readonly width: W | number }): Place<W> {
    return statePlace(field as { offset: number; width: 8 }, field.width as W);
  }

  /** Bits of a named field, among its 32 lowest, in their places. */
  fieldBits({ offset, width }: { readonly offset: number; readonly width: number }, mask: number): Bits<32> {
    return readStateBits({ offset, width: Math.min(width, 32) as 32 }, mask);
  }

  /** Sets several status flags at once; the others keep their values. */
  writeFlags(values: Partial<Record<Flag, Bits<1>>>): void {
    const flags = Object.keys(values) as Flag[];
    recorder().emit({ op: "writeFlags", flags }, 1, flags.map((flag) => values[flag]!.node));
  }

  /** All six of `a + b (+ carry) = sum`. */
  sumFlags<W extends Width>(a: Bits<W>, b: Bits<W>, sum: Bits<W>, options: ArithmeticOptions = {}): void {
    this.#arithmeticFlags("sum", sum, carriesOfSum(a, b, sum), a, b, options);
  }

  /** All six of `a - b (- borrow) = difference`. */
  differenceFlags<W extends Width>(a: Bits<W>, b: Bits<W>, difference: Bits<W>, options: ArithmeticOptions = {}): void {
    this.#arithmeticFlags("difference", difference, borrowsOfDifference(a, b, difference), a, b, options);
  }

  #arithmeticFlags(
    kind: "sum" | "difference", result: Bits, carries: Bits, a: Bits, b: Bits, { keepCarry = false, hasCarryIn = false }: ArithmeticOptions,
  ): void {
    recorder().emit({ op: "arithmeticFlags", kind, keepCarry, hasCarryIn }, result.width, [result.node, carries.node, a.node, b.node]);
  }

  /** SF, ZF, PF from the result; CF, OF and AF cleared. */
  logicFlags(result: Bits): void {
    recorder().emit({ op: "logicFlags" }, result.width, [result.node]);
  }

  nextRip(): Bits<64> {
    return new Bits<64>(recorder().emit({ op: "nextRip" }, 64));
  }

  /** The whole immediate of the record, however many operands share it. */
  immediate64(): Bits<64> {
    return new Bits<64>(recorder().emit({ op: "immediate" }, 64));
  }

  branchTarget(): Bits<64> {
    return new Bits<64>(recorder().emit({ op: "branchTarget" }, 64));
  }

  thisRip(): Bits<64> {
    return new Bits<64>(recorder().emit({ op: "thisRip" }, 64));
  }

  /** Stack pointer as far as the stack's address size uses it, zero-extended. */
  stackPointer(): Bits<64> {
    const size = this.variant.stackSize;
    return this.gpr(Register.RSP, size).read().zext(64);
  }

  writeStackPointer(value: Bits<64>): void {
    const size = this.variant.stackSize;
    this.gpr(Register.RSP, size).write(value.trunc(size));
  }

  /** An offset in the stack segment, wrapped to the stack's address size. */
  stackOffset(offset: Bits<64>): Bits<64> {
    const size = this.variant.stackSize;
    return size === 64 ? offset : offset.trunc(size).zext(64);
  }

  push(value: Bits): void {
    const offset = this.stackOffset(this.stackPointer().sub(value.width / 8));
    store(Segment.SS, offset, value);
    this.writeStackPointer(offset);
  }

  /** Value on top of the stack, `depthBytes` below it; the pointer stays. */
  peek<W extends Width>(width: W, depthBytes = 0): Bits<W> {
    return load(width, Segment.SS, this.stackOffset(this.stackPointer().add(depthBytes)));
  }

  pop<W extends Width>(width: W): Bits<W> {
    const value = this.peek(width);
    this.writeStackPointer(this.stackOffset(this.stackPointer().add(width / 8)));
    return value;
  }

  /** Ends the instruction with an exception; nothing may have been committed. */
  raise(vector: number, errorCode?: number): void {
    recorder().emit({ op: "raise", vector, errorCode }, 1);
  }

  /** Continues at `target` (checked to be within CS or canonical before this). */
  jump(target: Bits<64>): void {
    recorder().emit({ op: "jump" }, 1, [target.node]);
  }

  /** Continues at the relative target of the instruction. */
  jumpTarget(): void {
    recorder().emit({ op: "jumpTarget" }, 1);
  }

  /** Calls a host routine with values in scratch slots 0…; results are read from the scratch slots. */
  call<const R extends readonly Width[]>(
    routine: Routine, args: readonly Bits[] = [], resultWidths?: R,
  ): { [K in keyof R]: Bits<R[K]> } {
    const widths = resultWidths ?? ([] as unknown as R);
    const call = recorder().emit({ op: "routine", routine, resultWidths: widths }, 1, args.map((argument) => argument.node));
    return widths.map((width, index) => new Bits(recorder().emit({ op: "routineResult", index }, width, [call]))) as {
      [K in keyof R]: Bits<R[K]>;
    };
  }
}

/** What `execute` is handed. `dst` and `src` are the first operands of the encoding, in its order. */
export interface Context<W extends OperandWidth> {
  readonly cpu: Cpu;
  /** Width of the first operand, or the operand size where there is none. */
  readonly width: W;
  readonly dst: Operand<W>;
  readonly src: Operand<W>;
  readonly src2: Operand<W>;
  readonly src3: Operand<W>;
  readonly operands: readonly Operand<W>[];
  readonly variant: Variant;
}

export interface InstructionDefinition {
  readonly name: string;
  readonly encodings: readonly string[];
  readonly lockable?: boolean;
  /** REP, REPE or REPNE repeats it; before other instructions they mean nothing. */
  readonly repeatable?: boolean;
  /** CPUID feature without which the encodings are invalid. */
  readonly feature?: string;
  /** Mnemonic by operand size, where it differs. */
  readonly names?: Partial<Record<16 | 32 | 64, string>>;
  /** Status flags the manual leaves undefined; masked when compared with a processor. */
  readonly undefinedFlags?: readonly Flag[];
  /** Undefined for shift and rotate counts other than 1, after masking. */
  readonly undefinedUnlessCountIsOne?: readonly Flag[];
  /** Undefined for counts of at least the operand's width. For SHLD and SHRD the result is undefined then, too. */
  readonly undefinedWhenCountReachesWidth?: readonly Flag[];
  /** Why the instruction is not compared with the host's processor (privileged, reads time, …). */
  readonly notDifferential?: string;
  /** Ends a block without branching: what follows may be decoded in another mode or must see an interrupt first. */
  readonly endsBlock?: boolean;
  execute<W extends 8 | 16 | 32 | 64>(context: Context<W>): void;
}

export function instruction<const D extends InstructionDefinition>(definition: D): InstructionDefinition {
  return definition;
}

/** Carries out of each bit of `a + b (+ carry) = sum`. */
function carriesOfSum<W extends Width>(a: Bits<W>, b: Bits<W>, sum: Bits<W>): Bits<W> {
  return a.and(b).or(a.or(b).and(sum.not()));
}

/** Borrows into each bit of `a - b (- borrow) = difference`. */
function borrowsOfDifference<W extends Width>(a: Bits<W>, b: Bits<W>, difference: Bits<W>): Bits<W> {
  return a.not().and(b).or(a.not().or(b).and(difference));
}

/** Whether one of the sixteen conditions of Jcc, SETcc and CMOVcc holds. */
export function condition(code: number): Bits<1> {
  return new Bits<1>(recorder().emit({ op: "condition", code }, 1));
}

export { constant };
