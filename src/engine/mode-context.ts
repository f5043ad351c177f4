/** What the processor derives from the registers that its mode depends on, once for the host and once for its guests. */
import { Segment } from "../isa/definition.ts";
import { FlagMask } from "../isa/flags.ts";
import type { StateView } from "../isa/state-view.ts";
import * as state from "../isa/state.ts";
import { SegmentAttribute } from "../isa/system/mode.ts";
import { codeModeNumber, type CodeMode } from "./code-cache.ts";
import { newPagingState, type PagingState } from "./page-walk.ts";

/** Attributes of CS that modes depend on. */
const codeSizeMask: number = SegmentAttribute.big | SegmentAttribute.long;
/** Flags that modes depend on. */
const modeFlagsMask: number = FlagMask.TF | FlagMask.AC | FlagMask.VM;
/** No control register's value. */
const unknownInput = 0xffff_ffff;
/** Indices of inputs. */
const Input = { cr0: 1, cr4: 4, efer: 5 } as const;

/** Words of the state area that follow from the inputs alone, and are not derived anew while these are the same. */
const derivedFields: readonly state.StateField[] = [
  state.canonicalShift, state.simdFault, state.mmxFault, state.contextRule, state.walkMode, state.walkRoot, state.walkRules, state.walkReserved,
];
/** What follows from the level and the address space besides. */
const levelFields: readonly state.StateField[] = [state.tlbContext, state.codeKey, state.isPlain, state.isFlat, state.deliversFaults];
const derivedWords: Uint32Array = Uint32Array.from([...derivedFields, ...levelFields], ({ offset }) => offset >>> 2);
const tlbContextAt: number = derivedFields.length + levelFields.indexOf(state.tlbContext);
const noOwner: object = {};

export class ModeContext {
  mode: CodeMode = { code: 16, stack: 16, isRealOrVirtual8086: true, single: false };
  modeNumber: number = codeModeNumber(this.mode);
  readonly paging: PagingState = newPagingState();
  readonly #inputs = new Uint32Array(12);
  readonly #derived = new Uint32Array(derivedWords.length);
  /** It has ended with what is kept, and has not gone on since. */
  isKept = false;
  /** Who ended. */
  #owner: object = noOwner;
  #cr0 = 0;
  #cr3Low = 0;
  #cr3High = 0;
  #cr4 = 0;
  #efer = 0;
  #dr7 = 0;
  #pkru = 0;
  /** CPL, and flags that modes depend on. */
  #level = 0;

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
  keep(s: StateView, owner: object): void {
    const { u32, base } = s, first = base >>> 2, kept = this.#derived;
    for (let index = 0; index < kept.length; index++) kept[index] = u32[first + derivedWords[index]];
    this.#owner = owner;
    this.#cr0 = s.get32(state.cr0);
    this.#cr3Low = s.get32(state.cr3);
    this.#cr3High = s.getHigh32(state.cr3);
    this.#cr4 = s.get32(state.cr4);
    this.#efer = s.get32(state.efer);
    this.#dr7 = s.get32(state.dr[7]);
    this.#pkru = s.get32(state.pkru);
    this.#level = s.get32(state.cpl) | (s.get32(state.systemFlags) & modeFlagsMask);
    this.isKept = true;
  }

  /** Whether it may go on with all that was kept when `owner` ended: segments and flags are known to be as they were then. */
  isKeptBy(owner: object, s: StateView): boolean {
    return this.isKept && this.#owner === owner && !this.mode.single && this.paging.mode !== "pae" && this.#cr0 === s.get32(state.cr0) &&
      this.#cr3Low === s.get32(state.cr3) && this.#cr3High === s.getHigh32(state.cr3) && this.#cr4 === s.get32(state.cr4) &&
      this.#efer === s.get32(state.efer) && this.#dr7 === s.get32(state.dr[7]) && this.#pkru === s.get32(state.pkru);
  }

  /** It ended in 64-bit mode at level 0 without flags that modes depend on. */
  get wasAtKernelLevel(): boolean {
    return this.#level === 0 && this.mode.code === 64;
  }

  /** Slot of the address space in which it ended. */
  get slot(): number {
    return this.#derived[tlbContextAt] >>> 2;
  }

  /** Goes on with the inputs that it had: what follows from them alone. */
  restoreDerived(s: StateView): void {
    this.#restore(s, derivedFields.length);
  }

  /** Goes on as it ended. */
  restore(s: StateView): void {
    this.#restore(s, derivedWords.length);
    this.isKept = false;
  }

  #restore(s: StateView, count: number): void {
    const { u32, base } = s, first = base >>> 2, kept = this.#derived;
    for (let index = 0; index < count; index++) u32[first + derivedWords[index]] = kept[index];
    s.copy64(state.fetchBase, this.mode.code === 64 ? state.zero : state.segments[Segment.CS].base);
  }
}
