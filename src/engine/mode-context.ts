/** What the processor derives from the registers that its mode depends on, once for the host and once for its guests. */
import { Segment } from "../isa/definition.ts";
import { FlagMask } from "../isa/flags.ts";
import type { StateView } from "../isa/state-view.ts";
import * as state from "../isa/state.ts";
import { SegmentAttribute } from "../isa/system/mode.ts";
import { codeModeNumber, type CodeMode } from "./code-cache.ts";
import { copyFunctions, reversed, type CopyFunction, type FieldCopy } from "./copy-functions.ts";
import { newPagingState, type PagingState } from "./page-walk.ts";
import type { WasmMemory } from "./web-assembly.ts";

/** Attributes of CS that modes depend on. */
const codeSizeMask: number = SegmentAttribute.big | SegmentAttribute.long;
/** Flags that modes depend on. */
const modeFlagsMask: number = FlagMask.TF | FlagMask.AC | FlagMask.VM;
/** No control register's value. */
const unknownInput = 0xffff_ffff;
/** Indices of inputs. */
const Input = { cr0: 1, cr4: 4, efer: 5 } as const;

/** What follows from the inputs alone, and is not derived anew while these are the same. */
const derivedFields: readonly state.StateField[] = [
  state.canonicalShift, state.simdFault, state.mmxFault, state.contextRule, state.walkMode, state.walkRoot, state.walkRules, state.walkReserved,
];
/** What follows from the level and the address space besides. */
const levelFields: readonly state.StateField[] = [state.tlbContext, state.codeKey, state.isPlain, state.isFlat, state.deliversFaults];
/** Registers that tell whether a context goes on as it ended. */
const registers: readonly state.StateField[] = [state.cr0, state.cr3, state.cr4, state.efer, state.dr[7], state.pkru];
/** The registers come first: 64-bit ones are kept whole. */
const registersBytes: number = registers.length * 8;
const kept32: readonly state.StateField[] = [...derivedFields, ...levelFields, state.cpl, state.systemFlags];

function keptWord(at: number): number {
  return registersBytes + at * 4;
}

function wordCopy({ offset }: state.StateField, at: number): FieldCopy {
  return { target: keptWord(at), source: offset, width: 32 };
}

const derivedCopies: readonly FieldCopy[] = derivedFields.map(wordCopy);
const allDerivedCopies: readonly FieldCopy[] = [...derivedFields, ...levelFields].map(wordCopy);
const keptCopies: readonly FieldCopy[] = [
  ...registers.map(({ offset, width }, index): FieldCopy => ({ target: index * 8, source: offset, width: width === 64 ? 64 : 32 })),
  ...kept32.map(wordCopy),
];
const Kept = { tlbContext: keptWord(kept32.indexOf(state.tlbContext)), cpl: keptWord(kept32.indexOf(state.cpl)), flags: keptWord(kept32.indexOf(state.systemFlags)) };

/** Copies between the state area and the place of what is kept. */
export type ModeCopies = ReturnType<typeof modeCopies>;

export function modeCopies(memory: WasmMemory): Readonly<Record<"keep" | "restoreDerived" | "restore", CopyFunction>> {
  return copyFunctions(memory, { keep: keptCopies, restoreDerived: reversed(derivedCopies), restore: reversed(allDerivedCopies) });
}

const noOwner: object = {};

export class ModeContext {
  mode: CodeMode = { code: 16, stack: 16, isRealOrVirtual8086: true, single: false };
  modeNumber: number = codeModeNumber(this.mode);
  readonly paging: PagingState = newPagingState();
  readonly #inputs = new Uint32Array(12);
  /** It has ended with what is kept, and has not gone on since. */
  isKept = false;
  /** Who ended. */
  #owner: object = noOwner;
  /** Where it is kept, in linear memory. */
  readonly #place: number;

  constructor(place: number) {
    this.#place = place;
  }

  /** Whether what the mode follows from is as it was noted, but for CPL. `hasStage`: there is a second stage of translation. */
  hasSameInputs(s: StateView, hasStage: boolean): boolean {
    const known = this.#inputs, { code } = this.mode;
    const { CS, SS } = Segment;
    const isSegmentation = known[0] === (s.get32(state.segments[CS].attributes) & codeSizeMask) && (code === 64 ||
      (known[9] === (s.get32(state.segments[SS].attributes) & SegmentAttribute.big) && known[10] === s.get32(state.segments[CS].base)));
    return isSegmentation && known[Input.cr0] === s.get32(state.cr0) &&
      known[2] === s.get32(state.cr3) && known[3] === s.getHigh32(state.cr3) && known[Input.cr4] === s.get32(state.cr4) &&
      known[Input.efer] === s.get32(state.efer) && known[6] === (s.get32(state.systemFlags) & modeFlagsMask) && known[7] === s.get32(state.dr[7]) &&
      known[8] === s.get32(state.pkru) && known[11] === (hasStage ? 1 : 0);
  }

  /** Whether CR0, CR4 and EFER are as they were noted. */
  hasSameControls(s: StateView): boolean {
    const known = this.#inputs;
    return known[Input.cr0] === s.get32(state.cr0) && known[Input.cr4] === s.get32(state.cr4) && known[Input.efer] === s.get32(state.efer);
  }

  noteInputs(s: StateView, hasStage: boolean): void {
    const known = this.#inputs;
    known[0] = s.get32(state.segments[Segment.CS].attributes) & codeSizeMask;
    known[Input.cr0] = s.get32(state.cr0);
    known[2] = s.get32(state.cr3);
    known[3] = s.getHigh32(state.cr3);
    known[Input.cr4] = s.get32(state.cr4);
    known[Input.efer] = s.get32(state.efer);
    known[6] = s.get32(state.systemFlags) & modeFlagsMask;
    known[7] = s.get32(state.dr[7]);
    known[8] = s.get32(state.pkru);
    known[9] = s.get32(state.segments[Segment.SS].attributes) & SegmentAttribute.big;
    known[10] = s.get32(state.segments[Segment.CS].base);
    known[11] = hasStage ? 1 : 0;
  }

  /** The next inputs are news whatever they are. */
  forgetInputs(): void {
    this.#inputs.fill(unknownInput);
    this.isKept = false;
  }

  /** Called at every system call and interrupt: nearly always nothing changes. */
  setMode(code: 16 | 32 | 64, stack: 16 | 32 | 64, isRealOrVirtual8086: boolean, single: boolean): void {
    const old = this.mode;
    const isSame = old.code === code && old.stack === stack && old.isRealOrVirtual8086 === isRealOrVirtual8086 && old.single === single;
    if (isSame) return;
    this.mode = { code, stack, isRealOrVirtual8086, single };
    this.modeNumber = codeModeNumber(this.mode);
  }

  /** It ends, before anything of it is replaced. */
  keep(s: StateView, copies: ModeCopies, owner: object): void {
    copies.keep(this.#place, s.base);
    this.#owner = owner;
    this.isKept = true;
  }

  /** Whether it may go on with all that was kept when `owner` ended: segments and flags are known to be as they were then. */
  isKeptBy(owner: object, s: StateView): boolean {
    if (!this.isKept || this.#owner !== owner || this.mode.single || this.paging.mode === "pae") return false;
    // In the order of `registers`.
    const { u32 } = s, at = this.#place >>> 2;
    return u32[at] === s.get32(state.cr0) && u32[at + 2] === s.get32(state.cr3) && u32[at + 3] === s.getHigh32(state.cr3) &&
      u32[at + 4] === s.get32(state.cr4) && u32[at + 6] === s.get32(state.efer) && u32[at + 8] === s.get32(state.dr[7]) &&
      u32[at + 10] === s.get32(state.pkru);
  }

  /** It ended in 64-bit mode at level 0 without flags that modes depend on. */
  wasAtKernelLevel({ u32 }: StateView): boolean {
    const level = u32[(this.#place + Kept.cpl) >>> 2] | (u32[(this.#place + Kept.flags) >>> 2] & modeFlagsMask);
    return level === 0 && this.mode.code === 64;
  }

  /** Slot of the address space in which it ended. */
  slot({ u32 }: StateView): number {
    return u32[(this.#place + Kept.tlbContext) >>> 2] >>> 2;
  }

  /** Goes on with the inputs that it had: what follows from them alone. */
  restoreDerived(s: StateView, copies: ModeCopies): void {
    copies.restoreDerived(s.base, this.#place);
    this.setFetchBase(s);
  }

  /** Goes on as it ended. */
  restore(s: StateView, copies: ModeCopies): void {
    copies.restore(s.base, this.#place);
    this.setFetchBase(s);
    this.isKept = false;
  }

  setFetchBase(s: StateView): void {
    s.copy64(state.fetchBase, this.mode.code === 64 ? state.zero : state.segments[Segment.CS].base);
  }
}
