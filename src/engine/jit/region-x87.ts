/**
 * The x87 unit while a region runs: registers, tags, status, pointers and selectors in locals, TOP known while code is
 * generated. Registers and tags are numbered from the TOP that the region was entered with, so that code is the same
 * whatever that is. What the region was generated for (nothing pending, the unit at hand, this control word) is asked at
 * its entry.
 */
import type { Node, Routine, StateLocation } from "../../ir/index.ts";
import type { StateView } from "../../isa/state-view.ts";
import * as state from "../../isa/state.ts";
import type { FunctionBuilder, Local } from "../../wasm/index.ts";
import type { FastPathNode, ReadNode } from "../emit/places.ts";

const registerBytes = state.x87[1].offset - state.x87[0].offset;
const significandsStart = state.x87[0].offset, signExponentsStart = significandsStart + 8;
const registersEnd: number = significandsStart + 8 * registerBytes;

const topMask = 0x3800, topShift = 11;
const errorSummaryMask = 0x80;
const exceptionMasks = 0x3f;
/** CR0.EM and TS. */
const unavailableMask = 0xc;

/** Fields that are in locals. Those of 64 bits are pointers. */
const words: readonly state.StateField[] = [
  state.x87Control, state.x87Status, state.x87Tag, state.x87Opcode, state.x87InstructionSelector, state.x87DataSelector,
];
const pointers: readonly state.StateField[] = [state.x87InstructionPointer, state.x87DataPointer];
const cachedFields: ReadonlyMap<number, state.StateField> = new Map([...words, ...pointers].map((field) => [field.offset, field]));

/** Places that a region uses and writes, by their offsets in the state area; registers from the entry's TOP on. */
export interface X87Use {
  readonly used: ReadonlySet<number>;
  readonly written: ReadonlySet<number>;
}

/** A place among the registers: which, and which part. */
function registerPlace(offset: number): boolean {
  return offset >= significandsStart && offset < registersEnd;
}

/** The unit's own state, beyond which a region need not look. */
export function isX87Offset(offset: number): boolean {
  return cachedFields.has(offset) || registerPlace(offset) || offset === state.x87TopGuess.offset;
}

function readsTop(body: readonly Node[]): boolean {
  return body.some((node) => (node.op === "readState" && node.location.offset === state.x87TopGuess.offset) ||
    (node.op === "if" && (readsTop(node.then) || readsTop(node.otherwise))));
}

const known = new WeakMap<Routine, boolean>();

/** Whether a routine has a fast path, and that is one on the x87 unit: it knows TOP by its guess. */
export function hasX87FastPath(routine: Routine): boolean {
  if (routine.fast === undefined) return false;
  let has = known.get(routine);
  if (has === undefined) {
    has = readsTop(routine.fast().body);
    known.set(routine, has);
  }
  return has;
}

export class RegionX87 {
  readonly #f: FunctionBuilder;
  readonly #view: StateView;
  readonly #use: X87Use;
  readonly #locals = new Map<number, Local>();
  readonly #firstTop: Local<"i32">;
  readonly #exitTop: Local<"i32">;
  readonly #firstRip: Local<"i64">;
  readonly #control: number;
  readonly #notesMask: number;
  readonly #found = { used: new Set<number>(), written: new Set<number>() };
  /** TOP, from the entry's on. */
  top = 0;
  /** Bit i: what has been noted of register i, from the entry's TOP on. */
  notes = 0;
  /** What the region does cannot be done with the unit in locals. */
  isImpossible = false;

  /** `use`: what an earlier generation of the same code found. */
  constructor(f: FunctionBuilder, view: StateView, firstRip: Local<"i64">, use: X87Use) {
    this.#f = f;
    this.#view = view;
    this.#use = use;
    this.#firstRip = firstRip;
    this.#firstTop = f.addLocal("i32");
    this.#exitTop = f.addLocal("i32");
    this.#control = view.get16(state.x87Control);
    this.#notesMask = view.get16(state.x87NotesMask);
    const hasMasks = !this.#isControlFixed || (this.#control & exceptionMasks) === exceptionMasks;
    if (!hasMasks || !this.#isReady()) this.isImpossible = true;
  }

  /** What the code generated so far uses. */
  get found(): X87Use {
    return this.#found;
  }

  #isReady(): boolean {
    const view = this.#view;
    return (view.get32(state.cr0) & unavailableMask) === 0 && (view.get16(state.x87Status) & errorSummaryMask) === 0;
  }

  get #isControlFixed(): boolean {
    return !this.#use.written.has(state.x87Control.offset);
  }

  /** What is asked at the entry. */
  #assumptions(): { readonly field: state.StateField; readonly mask: number; readonly value: number }[] {
    return [
      { field: state.cr0, mask: unavailableMask, value: 0 },
      { field: state.x87Status, mask: errorSummaryMask, value: 0 },
      { field: state.x87NotesMask, mask: 0xffff, value: this.#notesMask },
      ...(this.#isControlFixed ? [{ field: state.x87Control, mask: 0xffff, value: this.#control }] : []),
    ];
  }

  /** Pushes whether the region was generated for another state than the one it finds. */
  pushMismatch(): void {
    const f = this.#f;
    this.#assumptions().forEach(({ field, mask, value }, index) => {
      f.i32.const(0);
      f.i32.load16_u(this.#view.base + field.offset);
      f.i32.const(mask);
      f.i32.and();
      f.i32.const(value);
      f.i32.ne();
      if (index > 0) f.i32.or();
    });
  }

  // --- entry and exit ------------------------------------------------------------------------------------------------

  load(): void {
    const f = this.#f;
    f.i32.const(0);
    f.i32.load16_u(this.#view.base + state.x87Status.offset);
    f.i32.const(topShift);
    f.i32.shr_u();
    f.i32.const(7);
    f.i32.and();
    f.local.set(this.#firstTop);
    for (const offset of this.#use.used) {
      const local = this.#localFor(offset);
      if (registerPlace(offset)) {
        this.#registerAddress(offset);
        if (f.typeOf(local) === "i64") f.i64.load(this.#view.base + significandsStart);
        else f.i32.load16_u(this.#view.base + signExponentsStart);
      } else {
        f.i32.const(0);
        if (f.typeOf(local) === "i64") f.i64.load(this.#view.base + offset);
        else f.i32.load16_u(this.#view.base + offset);
      }
      if (offset === state.x87InstructionPointer.offset) {
        // Kept as a distance, which is a constant wherever it is set.
        f.local.get(this.#firstRip);
        f.i64.sub();
      } else if (offset === state.x87Tag.offset) {
        f.i32.const(0x101);
        f.i32.mul();
        f.local.get(this.#firstTop);
        f.i32.shr_u();
        f.i32.const(0xff);
        f.i32.and();
      }
      f.local.set(local);
    }
  }

  /** What is in locals goes back; `noteExit` has been called. */
  store(): void {
    const f = this.#f;
    const { base } = this.#view;
    const { written } = this.#use;
    for (const offset of written) {
      const local = this.#localFor(offset);
      if (registerPlace(offset)) {
        this.#registerAddress(offset);
        f.local.get(local);
        if (f.typeOf(local) === "i64") f.i64.store(base + significandsStart);
        else f.i32.store16(base + signExponentsStart);
        continue;
      }
      f.i32.const(0);
      if (offset === state.x87Status.offset) this.#pushStatus(() => f.local.get(this.#exitTop));
      else f.local.get(local);
      if (offset === state.x87InstructionPointer.offset) {
        f.local.get(this.#firstRip);
        f.i64.add();
      } else if (offset === state.x87Tag.offset) {
        f.i32.const(0x101);
        f.i32.mul();
        f.i32.const(8);
        f.local.get(this.#firstTop);
        f.i32.sub();
        f.i32.shr_u();
        f.i32.const(0xff);
        f.i32.and();
      }
      if (f.typeOf(local) === "i64") f.i64.store(base + offset);
      else f.i32.store16(base + offset);
    }
    if (!written.has(state.x87Status.offset)) return;
    f.i32.const(0);
    this.#pushTop(() => f.local.get(this.#exitTop));
    f.i32.store16(base + state.x87TopGuess.offset);
  }

  noteExit(): void {
    this.#f.i32.const(this.top);
    this.#f.local.set(this.#exitTop);
  }

  /** Pushes a register's distance from the first of the state area. */
  #registerAddress(offset: number): void {
    const f = this.#f;
    f.local.get(this.#firstTop);
    f.i32.const(Math.floor((offset - significandsStart) / registerBytes));
    f.i32.add();
    f.i32.const(7);
    f.i32.and();
    f.i32.const(registerBytes);
    f.i32.mul();
  }

  #pushTop(pushTop: () => void): void {
    const f = this.#f;
    f.local.get(this.#firstTop);
    pushTop();
    f.i32.add();
    f.i32.const(7);
    f.i32.and();
  }

  /** Pushes the status word; what its local has in place of TOP means nothing. */
  #pushStatus(pushTop: () => void): void {
    const f = this.#f;
    f.local.get(this.#localFor(state.x87Status.offset));
    f.i32.const(0xffff & ~topMask);
    f.i32.and();
    this.#pushTop(pushTop);
    f.i32.const(topShift);
    f.i32.shl();
    f.i32.or();
  }

  // --- reads and writes ----------------------------------------------------------------------------------------------

  constant(node: ReadNode | FastPathNode): bigint | undefined {
    if (node.op === "readState") {
      switch (node.location.offset) {
        case state.x87TopGuess.offset: return BigInt(this.top);
        case state.x87NotesMask.offset: return BigInt(this.#notesMask);
        case state.x87Control.offset: return this.#isControlFixed ? BigInt(this.#control) : undefined;
        default: return undefined;
      }
    }
    if (node.op !== "readStateBits") return undefined;
    const { location: { offset }, mask } = node;
    if (offset === state.cr0.offset && (mask & ~unavailableMask) === 0) return 0n;
    if (offset !== state.x87Status.offset) return undefined;
    if (mask === topMask) return BigInt(this.top << topShift);
    // Nothing becomes pending while all exceptions stay masked.
    return mask === errorSummaryMask && this.#isControlFixed ? 0n : undefined;
  }

  /** Pushes what the local of a field holds, which for the status word is without TOP. */
  readRaw(offset: number): void {
    this.#note(offset);
    this.#f.local.get(this.#localFor(offset));
  }

  /** Pushes a field as instructions other than fast paths see it. */
  read(offset: number): void {
    if (offset === state.x87Status.offset) {
      this.#note(offset);
      this.#pushStatus(() => this.#f.i32.const(this.top));
    } else if (offset === state.x87Control.offset) {
      this.readRaw(offset);
    } else {
      // MMX instructions, FNSAVE and the like.
      this.isImpossible = true;
      this.readRaw(offset);
    }
  }

  writeRaw(offset: number, push: () => void): void {
    this.#note(offset, true);
    push();
    this.#f.local.set(this.#localFor(offset));
  }

  write(offset: number, push: () => void): void {
    const isPlain = offset === state.x87Status.offset || offset === state.x87Control.offset || offset === state.x87DataPointer.offset;
    if (!isPlain) this.isImpossible = true;
    this.writeRaw(offset, push);
  }

  /** The instruction at a distance from the region's first is the unit's last. */
  noteInstruction(distance: number): void {
    this.writeRaw(state.x87InstructionPointer.offset, () => this.#f.i64.const(distance));
  }

  isNoted(number: number): boolean {
    return ((this.notes >> (number & 7)) & 1) !== 0;
  }

  note(number: number, isTrue: boolean): void {
    const bit = 1 << (number & 7);
    this.notes = isTrue ? this.notes | bit : this.notes & ~bit;
  }

  /** TOP's guess is known, not kept. */
  setTop(top: bigint | undefined): void {
    if (top === undefined) this.isImpossible = true;
    else this.top = Number(top) & 7;
  }

  /** Offset that stands for a register's part: the row's first and its number from the entry's TOP. */
  rowOffset(first: StateLocation, number: bigint | undefined): number {
    if (number === undefined) this.isImpossible = true;
    return first.offset + (Number(number ?? 0n) & 7) * registerBytes;
  }

  #note(offset: number, isWritten = false): void {
    this.#found.used.add(offset);
    if (isWritten) this.#found.written.add(offset);
  }

  #localFor(offset: number): Local<"i32"> & Local<"i64"> {
    let local = this.#locals.get(offset);
    if (local === undefined) {
      const isWide = registerPlace(offset) ? (offset - significandsStart) % registerBytes === 0 : cachedFields.get(offset)?.width === 64;
      local = this.#f.addLocal(isWide ? "i64" : "i32");
      this.#locals.set(offset, local);
    }
    return local as Local<"i32"> & Local<"i64">;
  }
}
