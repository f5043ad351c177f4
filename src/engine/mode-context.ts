/** What the processor derives from the registers that its mode depends on, once for the host and once for its guests. */
import { fastPath, readMemory, type Bits } from "../ir/index.ts";
import { Segment } from "../isa/definition.ts";
import { loadRegisters, saveRegisters, type KeptRegister } from "../isa/fast-path-parts.ts";
import { FlagMask } from "../isa/flags.ts";
import type { StateView } from "../isa/state-view.ts";
import * as state from "../isa/state.ts";
import { SegmentAttribute } from "../isa/system/mode.ts";
import { codeModeNumber, type CodeMode } from "./code-cache.ts";
import { newPagingState, type PagingState } from "./page-walk.ts";
import { pathFunctions, type PathFunction } from "./path-functions.ts";
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
/** 64-bit ones come first, and are kept whole. */
const wide: readonly state.StateField[] = [...registers, state.fetchBase];
const words: readonly state.StateField[] = [...derivedFields, ...levelFields, state.cpl, state.systemFlags];

function keptWord(register: state.StateField): number {
  return wide.length * 8 + words.indexOf(register) * 4;
}

function keptHalf(register: state.StateField): KeptRegister {
  return { offset: register.offset, width: 32, at: keptWord(register) };
}

const keptRegisters: readonly KeptRegister[] = [
  ...wide.map(({ offset, width }, index): KeptRegister => ({ offset, width: width === 64 ? 64 : 32, at: index * 8 })),
  ...words.map(keptHalf),
];
const fetchBase: KeptRegister = { offset: state.fetchBase.offset, width: 64, at: registers.length * 8 };
const keptTlbContext: number = keptWord(state.tlbContext);

/**
 * Contexts as parts of fast paths, for transitions: the one that ends is kept at a place in linear memory, and the other goes on as
 * it is kept at its own.
 */
export const KeptContext: {
  readonly keep: (place: Bits<32>) => void;
  readonly restore: (place: Bits<32>) => void;
  readonly register: (place: Bits<32>, register: state.StateField) => Bits<64>;
  readonly isAtKernelLevel: (place: Bits<32>) => Bits<1>;
} = {
  keep: (place) => saveRegisters(keptRegisters, place),
  /** What was derived for it; its segments, flags and level are those with which it ended. */
  restore: (place) => loadRegisters([fetchBase, ...[...derivedFields, ...levelFields].map(keptHalf)], place),
  /** What it ended with of a register that is kept. */
  register: (place, register) => readMemory(64, place.add(registers.indexOf(register) * 8)),
  /** It ended at level 0 without flags that modes depend on. */
  isAtKernelLevel: (place) =>
    readMemory(32, place.add(keptWord(state.cpl))).or(readMemory(32, place.add(keptWord(state.systemFlags))).and(modeFlagsMask)).isZero(),
};

/** Arguments: the processor's area, and the place. */
export type ModeFunctions = Readonly<Record<"keep" | "restoreDerived", PathFunction>>;

export function modeFunctions(memory: WasmMemory): ModeFunctions {
  return pathFunctions(memory, {
    keep: fastPath([32], (place) => KeptContext.keep(place as Bits<32>)),
    restoreDerived: fastPath([32], (place) => loadRegisters(derivedFields.map(keptHalf), place as Bits<32>)),
  });
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
  readonly place: number;

  constructor(place: number) {
    this.place = place;
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

  /** It ends, before anything of it is replaced; `owner` tells those that end from one another. */
  keep(s: StateView, functions: ModeFunctions, owner: object): void {
    functions.keep(s.base, this.place);
    this.noteKept(owner);
  }

  /** What it ended with has been kept. */
  noteKept(owner: object): void {
    this.#owner = owner;
    this.isKept = true;
  }

  /** Whether all that was derived for it may be true of it when it goes on as it was kept when `owner` ended. */
  isKeptBy(owner: object): boolean {
    return this.isKept && this.#owner === owner && this.isSimple;
  }

  /** Nothing is derived for it but what is kept. */
  get isSimple(): boolean {
    return !this.mode.single && this.paging.mode !== "pae";
  }

  /** Slot of the address space in which it ended. */
  slot({ u32 }: StateView): number {
    return u32[(this.place + keptTlbContext) >>> 2] >>> 2;
  }

  /** Goes on with the inputs that it had: what follows from them alone. */
  restoreDerived(s: StateView, functions: ModeFunctions): void {
    functions.restoreDerived(s.base, this.place);
    this.setFetchBase(s);
  }

  setFetchBase(s: StateView): void {
    s.copy64(state.fetchBase, this.mode.code === 64 ? state.zero : state.segments[Segment.CS].base);
  }
}
