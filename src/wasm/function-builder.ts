/** Writes the body of one function: locals, structured control and, by group, every other instruction. */

import { invariant } from "../base/errors.ts";
import { ByteWriter } from "./byte-writer.ts";
import { groupConstructor, type InstructionGroup } from "./instructions.ts";
import { opcodes } from "./opcodes.ts";
import {
  valTypeCode,
  type BlockType,
  type FuncIndex,
  type FunctionType,
  type Local,
  type TableIndex,
  type TypeIndex,
  type ValType,
} from "./types.ts";

/** Which way a `br_if` or `if` usually goes: proposal "Branch Hinting". */
export type BranchHint = "likely" | "unlikely";

/** A branch target: the end of a block or `if`, the head of a loop. Valid until its `end`. */
export interface Label {
  /** How many blocks enclose it, the function itself being number 0. */
  readonly height: number;
}

/** What a finished body needs besides its code. */
export interface FunctionBody {
  /** Local declarations and code, as in the code section but without the size. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Offsets from the start of `bytes`, ascending, each followed by 1 for likely and 0 for unlikely. */
  readonly hints: readonly number[];
}

const I32 = groupConstructor("i32");
const I64 = groupConstructor("i64");
const F32 = groupConstructor("f32");
const F64 = groupConstructor("f64");
const V128 = groupConstructor("v128");
const I8x16 = groupConstructor("i8x16");
const I16x8 = groupConstructor("i16x8");
const I32x4 = groupConstructor("i32x4");
const I64x2 = groupConstructor("i64x2");
const F32x4 = groupConstructor("f32x4");
const F64x2 = groupConstructor("f64x2");
const LocalGroup = groupConstructor("local");
const GlobalGroup = groupConstructor("global");
const TableGroup = groupConstructor("table");
const ElemGroup = groupConstructor("elem");
const MemoryGroup = groupConstructor("memory");
const DataGroup = groupConstructor("data");
const RefGroup = groupConstructor("ref");
const AtomicGroup = groupConstructor("atomic");

const unreachableCode = opcodes.unreachable[0];
const nopCode = opcodes.nop[0];
const blockCode = opcodes.block[0];
const loopCode = opcodes.loop[0];
const ifCode = opcodes.if[0];
const elseCode = opcodes.else[0];
const endCode = opcodes.end[0];
const brCode = opcodes.br[0];
const brIfCode = opcodes.br_if[0];
const brTableCode = opcodes.br_table[0];
const returnCode = opcodes.return[0];
const callCode = opcodes.call[0];
const callIndirectCode = opcodes.call_indirect[0];
const returnCallCode = opcodes.return_call[0];
const returnCallIndirectCode = opcodes.return_call_indirect[0];
const dropCode = opcodes.drop[0];
const selectCode = opcodes.select[0];
const selectTypedCode = opcodes.select_t[0];

const emptyBlockCode = 0x40;

export class FunctionBuilder {
  readonly #writer = ByteWriter.take();

  readonly i32: InstructionGroup<"i32"> = new I32(this.#writer);
  readonly i64: InstructionGroup<"i64"> = new I64(this.#writer);
  readonly f32: InstructionGroup<"f32"> = new F32(this.#writer);
  readonly f64: InstructionGroup<"f64"> = new F64(this.#writer);
  readonly v128: InstructionGroup<"v128"> = new V128(this.#writer);
  readonly i8x16: InstructionGroup<"i8x16"> = new I8x16(this.#writer);
  readonly i16x8: InstructionGroup<"i16x8"> = new I16x8(this.#writer);
  readonly i32x4: InstructionGroup<"i32x4"> = new I32x4(this.#writer);
  readonly i64x2: InstructionGroup<"i64x2"> = new I64x2(this.#writer);
  readonly f32x4: InstructionGroup<"f32x4"> = new F32x4(this.#writer);
  readonly f64x2: InstructionGroup<"f64x2"> = new F64x2(this.#writer);
  readonly local: InstructionGroup<"local"> = new LocalGroup(this.#writer);
  readonly global: InstructionGroup<"global"> = new GlobalGroup(this.#writer);
  readonly table: InstructionGroup<"table"> = new TableGroup(this.#writer);
  readonly elem: InstructionGroup<"elem"> = new ElemGroup(this.#writer);
  readonly memory: InstructionGroup<"memory"> = new MemoryGroup(this.#writer);
  readonly data: InstructionGroup<"data"> = new DataGroup(this.#writer);
  readonly ref: InstructionGroup<"ref"> = new RefGroup(this.#writer);
  readonly atomic: InstructionGroup<"atomic"> = new AtomicGroup(this.#writer);

  /** Branching here returns from the function. */
  readonly body: Label = { height: 0 };

  readonly #typeIndex: (type: FunctionType) => TypeIndex;
  readonly #types: ValType[];
  readonly #paramCount: number;
  readonly #isFree: boolean[] = [];
  readonly #freeLocals = new Map<ValType, Local[]>();
  readonly #open: Label[] = [this.body];
  /** Writer position of a hinted branch, then its hint. */
  readonly #hints: number[] = [];

  constructor(type: FunctionType, typeIndex: (type: FunctionType) => TypeIndex) {
    this.#types = [...type.params];
    this.#paramCount = type.params.length;
    this.#typeIndex = typeIndex;
  }

  /** Code written so far, without the local declarations. */
  get sizeBytes(): number {
    return this.#writer.length;
  }

  param<T extends ValType = ValType>(index: number): Local<T> {
    invariant(index < this.#paramCount, `the function has no parameter ${index}`);
    return index as Local<T>;
  }

  /** A local of this type: a freed one, which holds any value, or a new one, which holds zero on entry. */
  addLocal<T extends ValType>(type: T): Local<T> {
    const reused = this.#freeLocals.get(type)?.pop();
    const local = reused ?? (this.#types.push(type) - 1);
    this.#isFree[local] = false;
    return local as Local<T>;
  }

  /** Lets a later `addLocal` of the same type have this local. */
  freeLocal(local: Local): void {
    invariant(local >= this.#paramCount && this.#isFree[local] === false, `local ${local} is not in use`);
    this.#isFree[local] = true;
    const type = this.#types[local];
    const free = this.#freeLocals.get(type);
    if (free === undefined) this.#freeLocals.set(type, [local]);
    else free.push(local);
  }

  typeOf(local: Local): ValType {
    return this.#types[local];
  }

  unreachable(): void {
    this.#writer.byte(unreachableCode);
  }

  nop(): void {
    this.#writer.byte(nopCode);
  }

  block(type: BlockType = "void"): Label {
    return this.#enter(blockCode, type);
  }

  loop(type: BlockType = "void"): Label {
    return this.#enter(loopCode, type);
  }

  if(type: BlockType = "void", hint?: BranchHint): Label {
    if (hint !== undefined) this.#hint(hint);
    return this.#enter(ifCode, type);
  }

  else(): void {
    this.#writer.byte(elseCode);
  }

  /** Ends the innermost block; naming it checks the nesting. */
  end(label?: Label): void {
    const ended = this.#open.pop();
    invariant(ended !== undefined && this.#open.length > 0, "the function body is ended by the builder");
    invariant(label === undefined || label === ended, "blocks end innermost first");
    this.#writer.byte(endCode);
  }

  br(label: Label): void {
    this.#writer.byte(brCode);
    this.#writer.unsigned(this.#depth(label));
  }

  brIf(label: Label, hint?: BranchHint): void {
    if (hint !== undefined) this.#hint(hint);
    this.#writer.byte(brIfCode);
    this.#writer.unsigned(this.#depth(label));
  }

  brTable(labels: readonly Label[], otherwise: Label): void {
    this.#writer.byte(brTableCode);
    this.#writer.unsigned(labels.length);
    for (const label of labels) this.#writer.unsigned(this.#depth(label));
    this.#writer.unsigned(this.#depth(otherwise));
  }

  return(): void {
    this.#writer.byte(returnCode);
  }

  call(func: FuncIndex): void {
    this.#writer.byte(callCode);
    this.#writer.unsigned(func);
  }

  callIndirect(type: FunctionType | TypeIndex, table: TableIndex): void {
    this.#callIndirect(callIndirectCode, type, table);
  }

  returnCall(func: FuncIndex): void {
    this.#writer.byte(returnCallCode);
    this.#writer.unsigned(func);
  }

  returnCallIndirect(type: FunctionType | TypeIndex, table: TableIndex): void {
    this.#callIndirect(returnCallIndirectCode, type, table);
  }

  drop(): void {
    this.#writer.byte(dropCode);
  }

  /** Operands of a reference type need the type spelled out. */
  select(type?: ValType): void {
    if (type === undefined) {
      this.#writer.byte(selectCode);
    } else {
      this.#writer.byte(selectTypedCode);
      this.#writer.byte(1);
      this.#writer.byte(valTypeCode[type]);
    }
  }

  /** Ends the function. The builder must not be used afterwards. */
  finish(): FunctionBody {
    invariant(this.#open.length === 1, `${this.#open.length - 1} blocks are still open`);
    this.#writer.byte(endCode);
    this.#open.pop();
    const body = ByteWriter.take();
    this.#writeLocals(body);
    const codeStart = body.length;
    body.append(this.#writer);
    const hints = this.#hints.map((value, i) => (i % 2 === 0 ? value + codeStart : value));
    const bytes = body.toBytes();
    body.giveBack();
    this.#writer.giveBack();
    return { bytes, hints };
  }

  /** Neighbours of the same type share one declaration. */
  #writeLocals(body: ByteWriter): void {
    const starts: number[] = [];
    for (let i = this.#paramCount; i < this.#types.length; i++) {
      if (i === this.#paramCount || this.#types[i] !== this.#types[i - 1]) starts.push(i);
    }
    body.unsigned(starts.length);
    starts.forEach((start, run) => {
      body.unsigned((starts[run + 1] ?? this.#types.length) - start);
      body.byte(valTypeCode[this.#types[start]]);
    });
  }

  #enter(code: number, type: BlockType): Label {
    this.#writer.byte(code);
    if (type === "void") this.#writer.byte(emptyBlockCode);
    else if (typeof type === "string") this.#writer.byte(valTypeCode[type]);
    else this.#writer.signed(typeof type === "number" ? type : this.#typeIndex(type));
    const label: Label = { height: this.#open.length };
    this.#open.push(label);
    return label;
  }

  #depth(label: Label): number {
    invariant(this.#open[label.height] === label, "a branch may only go to a block that is still open");
    return this.#open.length - 1 - label.height;
  }

  #hint(hint: BranchHint): void {
    this.#hints.push(this.#writer.length, hint === "likely" ? 1 : 0);
  }

  #callIndirect(code: number, type: FunctionType | TypeIndex, table: TableIndex): void {
    this.#writer.byte(code);
    this.#writer.unsigned(typeof type === "number" ? type : this.#typeIndex(type));
    this.#writer.unsigned(table);
  }
}
