/** One soft processor: architectural state, MMU, decoded code and interpreter, run until something outside is needed. */
import { Status, type Routine } from "../ir/index.ts";
import { Segment, Vector, type InstructionDefinition } from "../isa/definition.ts";
import { Decoder } from "../isa/decode.ts";
import { allFlagsMask, FlagMask, writeFlags } from "../isa/flags.ts";
import type { DecodedInstruction } from "../isa/operand.ts";
import type { CpuModel, Processor, ProcessorBus } from "../isa/processor.ts";
import { exitVector, type Virtualization } from "../isa/virtualization.ts";
import { StateView } from "../isa/state-view.ts";
import * as state from "../isa/state.ts";
import {
  debugControlReset, DebugStatusMask, debugStatusReset, hasBreakpoints, hasDataBreakpoints, hasInstructionBreakpoints, hasPortBreakpoints, matchData, matchInstruction, raiseDebugStatus,
} from "../isa/system/debug.ts";
import { deliverEvent, deliverRecordedException } from "../isa/system/exceptions.ts";
import { Activity, Cr0Mask, Cr4Mask, EferMask, hasRealModeSegments, is64BitMode, SegmentAttribute } from "../isa/system/mode.ts";
import { loadSegmentCache } from "../isa/system/segments.ts";
import { bulkMemory } from "./bulk-memory.ts";
import { CodePages } from "./code-pages.ts";
import { CodeCache, handlerFormOf, maximumBlockInstructions, type CodeMode } from "./code-cache.ts";
import { EntrySet } from "./entry-set.ts";
import type { HandlerForm } from "./handler.ts";
import { maximumHandlers } from "./handler-registry.ts";
import { Interpreter, RunResult, SpecialHandler } from "./interpreter.ts";
import { Jit } from "./jit/jit.ts";
import { defaultJitSettings, type JitSettings } from "./jit/settings.ts";
import { Mmu, type Space } from "./mmu.ts";
import { ModeContext, modeFunctions, type ModeFunctions } from "./mode-context.ts";
import { pagingModeOf, type SecondStage } from "./page-walk.ts";
import { pageSizeBytes, type PhysicalMemory } from "./physical-memory.ts";
import { RecordField, recordSizeBytes } from "./record.ts";
import { translationFunctions } from "./translation-code.ts";
import { StringRuns, type StringElementBytes } from "./string-runs.ts";
import type { WasmMemory } from "./web-assembly.ts";

/** The processor's interrupt inputs: local APIC and, through it, the PIC. */
export interface InterruptInput {
  /** A maskable interrupt waits; cheap, asked often. */
  hasInterrupt(): boolean;
  /** Its vector, taken; -1 when it has gone away (spurious vectors are the controller's matter). */
  acknowledge(): number;
}

/** Why the processor stopped running. */
export type StopReason =
  /** The instruction budget is used up. */
  | "budget"
  /** HLT: nothing happens until an interrupt. */
  | "halted"
  /** Triple fault. */
  | "shutdown"
  /** The caller asked for it by `requestStop`. */
  | "stopped"
  /** A breakpoint of `setDebug` is next, or a step is done. */
  | "debug";

/** An event that was taken and not yet delivered. */
export interface WaitingEvent {
  readonly kind: "exception" | "external" | "nmi";
  readonly vector: number;
  readonly errorCode?: number;
}

/** Events that come before the next instruction, or are held back until after it. */
export interface WaitingEvents {
  readonly isNmiPending: boolean;
  readonly event: WaitingEvent | undefined;
  /** Breakpoints hit by a load of SS, as bits of DR6. */
  readonly heldDebugConditions: number;
}

/** A transition after which a guest, or its host, goes on as it ended. */
export interface ResumingTransition {
  /** Of the guest: see `contextEnds`. */
  readonly owner: object;
  /** Address space and second stage of who goes on. */
  readonly space: Space;
  readonly stage: SecondStage | undefined;
  /**
   * Keeps the one that ends at `left`, and loads registers and what is kept of the other at `entered`: see `KeptContext`. 0, with
   * nothing changed: its registers are not those with which it ended.
   */
  transfer(left: number, entered: number): number;
}

/** An instruction about to be executed while branches are recorded. */
interface BranchCandidate {
  readonly from: bigint;
  /** Where it leads if it does not branch. */
  readonly behind: bigint;
  readonly isGuest: boolean;
}

export interface SoftProcessorOptions {
  readonly memory: WasmMemory;
  readonly physical: PhysicalMemory;
  /** Offset of the processor's state area, a multiple of 64 KiB. */
  readonly stateOffset: number;
  /** Range of linear memory for decoded code. */
  readonly codeStart: number;
  readonly codeEnd: number;
  readonly instructions: readonly InstructionDefinition[];
  readonly model: CpuModel;
  readonly bus: ProcessorBus;
  readonly interrupts: InterruptInput;
  /** Machine code of instructions, one per element, to inline into the dispatch loop (64-bit mode). */
  readonly hotInstructions?: readonly Uint8Array[];
  /** They are inlined when so many instructions have been retired: making the loop takes longer than guests that end soon. Default 0. */
  readonly inlineHotAfter?: number;
  /** Makes the processor's virtualization extension, where its model has one. */
  readonly virtualization?: (processor: SoftProcessor) => Virtualization;
  /** When to compile; the default settings unless given. */
  readonly jit?: JitSettings;
  /** Counts executions per handler and keeps examples of their machine code, for `tools/hot-instructions.ts`. */
  readonly profile?: boolean;
}

/** Bit of `interruptShadow` cast by a load of SS, which debug traps respect, too. */
const stackSegmentShadow = state.ShadowMask.stackSegment;
const counterBytes = maximumHandlers * 4;
const noException = 0xffff_ffff;
const trapFlag: number = FlagMask.TF;
/** No code key: of the modes, none has all bits set. */
const noCodeKey = 0xffff_ffff;
/** Place of the address-space slot in code keys. */
const codeKeySlotShift = 8;
const slotMask = 0x3ff;
const pageNumberMask = 0xf_ffff;
const pageHashBits = 18;
const pageHashes: number = 1 << pageHashBits;
const resetVector = 0xfff0n;
const maximumCodeRanges = 8000;
/** Intercepted instructions that are kept decoded. */
const maximumDecoded = 1024;
const maximumInstructionBytes = 15;
const twoPow32 = 0x1_0000_0000;
/** More bytes of code than a block can have. */
const maximumBlockBytes = 0x1_0000;
/** Slices of generated code within one call of `run`. */
const maximumSlices = 10_000;

/** Entry of the jump cache for code at `high:low`, as generated code computes it. */
function jumpCacheEntry(low: number, high: number): number {
  return (low ^ ((high << 20) | (low >>> 12))) & (state.jumpCacheEntries - 1);
}

/** Pages that follow one another, as a program's data do, are far from one another. */
function pageHash(page: number): number {
  return Math.imul(page, 0x9e37_79b1) >>> (32 - pageHashBits);
}

export class SoftProcessor implements Processor {
  readonly state: StateView;
  readonly memory: Mmu;
  readonly bus: ProcessorBus;
  readonly model: CpuModel;
  readonly msrs: Map<number, bigint> = new Map();
  readonly virtualization: Virtualization | undefined;
  shutdownCause: string | undefined;
  /** Exits from guests after which generated code went on by itself: for tests. */
  exitsWithinSlices = 0;
  readonly interpreter: Interpreter;
  readonly code: CodeCache;
  readonly jit: Jit;
  readonly strings: StringRuns;
  readonly #interrupts: InterruptInput;
  readonly #countersOffset: number | undefined;
  readonly #hasGigabytePages: boolean;
  readonly #decoder: Decoder<InstructionDefinition>;
  readonly #hostModes: ModeContext;
  readonly #guestModes: ModeContext;
  /** Of the two the one that the processor runs in. */
  #modes: ModeContext;
  /** Made when the first of them ends. */
  #modeFunctions: ModeFunctions | undefined;
  readonly linearMemory: WasmMemory;
  #nmiPending = false;
  /** Taken already, for instance by another accelerator: comes before the next instruction. */
  #waitingEvent: WaitingEvent | undefined;
  #stopRequested = false;
  /** A debugger's breakpoints, as linear addresses; undefined without a debugger. */
  #debugger: { readonly isSingleStep: boolean; readonly breakpoints: ReadonlySet<bigint> } | undefined;
  #resetRequest: "reset" | "init" | undefined;
  #isRunning = false;
  /** Data breakpoints hit by the instruction that runs. */
  #dataHits = 0;
  /** Data breakpoints hit by a load of SS: reported after the instruction that follows it. */
  #heldHits = 0;
  #breakpointsArmed = false;
  /** The current instruction began with RFLAGS.TF set and is to be followed by a trap. */
  #isTraced = false;
  /** The slice began with RFLAGS.RF set, which its first instruction clears. */
  #hadResume = false;
  /** Slices end after one instruction. */
  #isAlone = false;
  /** Something wants attention right after the running instruction. */
  #attends = false;
  /** The record that was turned into one to leave at, and its own handler. */
  #leavingAt = 0;
  #leavingHandler = 0;
  /** Instructions retired before the current slice, and the slice's budget. */
  #retired = 0;
  #slice = 0;
  /** Value of `retired` at which hot instructions are inlined. */
  #inlineHotAt: number;
  /** Value of `retired` when an interrupt shadow was cast. */
  #shadowAt = -1;
  /** The shadow cast last, for `currentShadow`; `castAt` outlives the shadow's end by the instruction that it covers. */
  #castShadow = 0;
  #castAt = -1;
  /** Numbers of code segments by base and limit. */
  readonly #codeRanges = new Map<bigint, number>();
  /** Entries of the jump cache for code in pages that are not global. */
  readonly #localBlocks = new EntrySet(state.jumpCacheEntries);
  readonly #codePages = new CodePages();
  /** By a hash of page numbers: 0 where the jump cache has no code of such pages. Most pages that a guest invalidates hold data. */
  readonly #mayHoldBlocks = new Uint8Array(pageHashes);
  /** What intercepted instructions decode to, by their records, since code was flushed this many times. */
  readonly #decoded = new Map<number, DecodedInstruction<InstructionDefinition>>();
  #decodedFlush = 0;
  /** Data breakpoints that `memory.watch` was made for. */
  #watchKey = "";

  constructor(options: SoftProcessorOptions) {
    this.state = new StateView(options.memory.buffer, options.stateOffset);
    this.linearMemory = options.memory;
    const keptPlace = options.stateOffset + state.keptContextsOffset;
    this.#hostModes = new ModeContext(keptPlace);
    this.#guestModes = new ModeContext(keptPlace + state.keptContextSizeBytes);
    this.#modes = this.#hostModes;
    this.memory = new Mmu(this.state, options.physical, this.#hostModes.paging);
    this.strings = new StringRuns(this.state, this.memory, bulkMemory(options.memory));
    this.bus = options.bus;
    this.model = options.model;
    this.#hasGigabytePages = options.model.hasFeature("pdpe1gb");
    this.#interrupts = options.interrupts;
    this.#decoder = new Decoder(options.instructions, {
      hasFeature: (name) => options.model.hasFeature(name), vendor: options.model.vendor === "amd" ? "amd" : "intel",
    });
    this.#countersOffset = options.profile === true ? options.codeEnd - counterBytes : undefined;
    const translation = translationFunctions(options.memory, options.stateOffset, {
      reachable: (size, isWrite) => this.memory.reachable(size, isWrite !== 0) ? 1 : 0,
      slowLoad: (size, flags) => this.memory.slowLoad(size, flags),
      slowStore: (size, flags) => this.memory.slowStore(size, flags),
    });
    this.memory.walkByCode = translation.walk;
    this.interpreter = new Interpreter(options.memory, options.stateOffset, {
      ...translation,
      slowCheckWrite: (size, flags) => this.memory.slowCheckWrite(size, flags),
      segmentCheck: (segment, size, intent) => this.memory.segmentCheck(segment, size, intent),
      runRoutine: (routine) => this.#runRoutine(routine),
      observe: (routine) => (routine.run as (p: Processor) => Status)(this),
      findBlock: () => this.#findBlock(),
      blockIsHot: (header) => this.jit.blockIsHot(header),
      leaveGuest: () => this.#leaveGuest(),
    }, () => this.#hotForms(options.hotInstructions ?? []), this.#countersOffset, (options.jit ?? defaultJitSettings()).names);
    this.#inlineHotAt = options.inlineHotAfter ?? 0;
    if (this.#inlineHotAt === 0) this.#inlineHot();
    this.code = new CodeCache({
      memory: options.physical, interpreter: this.interpreter, decoder: this.#decoder,
      arenaStart: options.codeStart, arenaEnd: this.#countersOffset ?? options.codeEnd,
      onProtect: (offset) => this.memory.protectCodePage(offset),
      onFlush: () => this.#clearJumpCache(),
    });
    if (options.profile === true) this.code.examples = new Map();
    this.jit = new Jit({
      state: this.state, interpreter: this.interpreter, code: this.code, reachable: translation.reachable,
      recordAt: (linear) => this.#knownRecord(linear), retired: () => this.#retired + this.#slice - (this.state.get32(state.budget) | 0),
    }, options.jit ?? defaultJitSettings());
    options.physical.onRemap = () => this.#forgetTranslations();
    this.memory.listener = {
      contextChanged: () => this.#updateCodeKey(),
      allForgotten: () => this.#clearJumpCache(),
      localForgotten: (slot, hasOthers) => this.#forgetLocalBlocks(slot, hasOthers),
      pageForgotten: (low) => this.#forgetPage(low),
    };
    this.virtualization = options.virtualization?.(this);
    this.reset();
  }

  #inlineHot(): void {
    this.#inlineHotAt = Infinity;
    this.interpreter.inlineHot();
  }

  #hotForms(examples: readonly Uint8Array[]): HandlerForm[] {
    return examples.flatMap((bytes) => {
      const decoded = this.#decoder.decode(bytes, 0, 64);
      return decoded.kind === "instruction" ? [handlerFormOf(decoded, { code: 64, stack: 64 })] : [];
    });
  }

  /** Instructions retired since power-on. */
  get retired(): number {
    const running = this.#slice === 0 ? 0 : this.#slice - (this.state.get32(state.budget) | 0);
    return this.#retired + running;
  }

  /** Like `retired`, but exact while a routine or slow path of an instruction runs. */
  get retiredBeforeCurrent(): number {
    const record = this.state.get32(state.currentRecord);
    return this.retired + (record === 0 ? 0 : this.state.u8[record + RecordField.count] - 1);
  }

  /** With `profile`: what ran how often, most first. */
  executionCounts(): { readonly handler: string; readonly count: number; readonly example: Uint8Array | undefined }[] {
    const first = (this.#countersOffset ?? 0) >>> 2;
    if (first === 0) return [];
    return [...this.interpreter.handlerNames()].map(([number, handler]) => ({
      handler, count: this.state.u32[first + number], example: this.code.examples?.get(number),
    })).toSorted((a, b) => b.count - a.count);
  }

  /** Power-on or RESET: SDM volume 3, "Processor State After Reset". INIT keeps x87, SSE state and most MSRs. */
  reset(kind: "reset" | "init" = "reset"): void {
    const s = this.state;
    for (const field of state.gpr) s.set64(field, 0n);
    const signature = this.model.cpuid(1, 0).eax;
    s.set64(state.gpr[2], BigInt(signature >>> 0));
    s.set64(state.zero, 0n);
    s.set64(state.rip, resetVector);
    writeFlags(s, FlagMask.fixed, allFlagsMask);
    const cache = s.get32(state.cr0) & (Cr0Mask.CD | Cr0Mask.NW);
    s.set64(state.cr0, BigInt((kind === "reset" ? Cr0Mask.CD | Cr0Mask.NW : cache) | Cr0Mask.ET) & 0xffff_ffffn);
    for (const field of [state.cr2, state.cr3, state.cr4, state.efer]) s.set64(field, 0n);
    s.set32(state.cpl, 0);
    for (let index = 0; index < 8; index++) {
      const isCode = index === Segment.CS;
      loadSegmentCache(s, index, isCode ? 0xf000 : 0, {
        base: isCode ? 0xffff_0000n : 0n, limit: 0xffff,
        attributes: index === Segment.LDTR ? 0x82 : index === Segment.TR ? 0x8b : isCode ? 0x9b : 0x93,
      });
    }
    for (const base of [state.gdtrBase, state.idtrBase]) s.set64(base, 0n);
    for (const limit of [state.gdtrLimit, state.idtrLimit]) s.set32(limit, 0xffff);
    for (let index = 0; index < 4; index++) s.set64(state.dr[index], 0n);
    s.set64(state.dr[6], debugStatusReset);
    s.set64(state.dr[7], debugControlReset);
    s.set32(state.exceptionVector, noException);
    s.set32(state.interruptShadow, 0);
    s.set32(state.nmiBlocked, 0);
    s.set32(state.activity, Activity.active);
    s.set32(state.currentRecord, 0);
    if (kind === "reset") this.#resetExtendedState();
    this.#nmiPending = false;
    this.#waitingEvent = undefined;
    this.#heldHits = 0;
    this.virtualization?.reset(kind);
    this.#forgetModes();
    this.#clearJumpCache();
    this.#recomputeMode();
    this.memory.flush({ keepGlobal: false });
  }

  #resetExtendedState(): void {
    const s = this.state;
    for (const field of [...state.xmm, ...state.x87]) {
      const at = (s.base + field.offset) >>> 3;
      s.u64[at] = 0n;
      s.u64[at + 1] = 0n;
    }
    s.set16(state.x87Control, 0x40);
    for (const field of [state.x87Status, state.x87Tag, state.x87Opcode, state.x87InstructionSelector, state.x87DataSelector]) s.set16(field, 0);
    s.set16(state.x87Tag, 0xff);
    s.set64(state.x87InstructionPointer, 0n);
    s.set64(state.x87DataPointer, 0n);
    s.set32(state.mxcsr, 0x1f80);
    s.set64(state.xcr0, 1n);
    s.set32(state.pkru, 0);
    s.set64(state.pat, 0x0007_0406_0007_0406n);
    for (const field of [
      state.star, state.lstar, state.cstar, state.fmask, state.kernelGsBase, state.sysenterCs, state.sysenterEsp, state.sysenterEip,
      state.tscAux,
    ]) s.set64(field, 0n);
    this.msrs.clear();
  }

  raise(vector: number, errorCode?: number): Status {
    this.state.set32(state.exceptionVector, vector);
    this.state.set32(state.exceptionErrorCode, errorCode ?? 0);
    return Status.Fault;
  }

  /** Whether instructions are executed one by one, each with what follows from it. */
  get isStepping(): boolean {
    return this.#mode.single;
  }

  dropSingleStep(): void {
    this.#isTraced = false;
  }

  singleStepByNewFlags(): void {
    this.#isTraced = (this.state.get32(state.systemFlags) & trapFlag) !== 0;
  }

  reportBreakpoints(conditions: number): void {
    this.#dataHits |= conditions;
  }

  repeatMove(elementBytes: StringElementBytes, addressBits: 16 | 32 | 64): void {
    this.strings.move(elementBytes, addressBits);
  }

  repeatStore(elementBytes: StringElementBytes, addressBits: 16 | 32 | 64): void {
    this.strings.fill(elementBytes, addressBits);
  }

  currentRip(): bigint {
    return this.#ripAt(RecordField.start);
  }

  nextRip(): bigint {
    return this.#ripAt(RecordField.next);
  }

  /** Bytes of the current instruction. */
  get currentLength(): number {
    const record = this.state.get32(state.currentRecord);
    return record === 0 ? 0 : (this.state.u16[(record + RecordField.next) >>> 1] - this.state.u16[(record + RecordField.start) >>> 1]) & 0xffff;
  }

  #ripAt(field: number): bigint {
    const record = this.state.get32(state.currentRecord);
    if (record === 0) return this.state.get64(state.rip);
    const sum = this.state.get64(state.ripBase) + BigInt(this.state.u16[(record + field) >>> 1]);
    return BigInt.asUintN(this.#mode.code === 64 ? 64 : 32, sum);
  }

  /** RIP becomes that of the current instruction. */
  #returnToCurrent(): void {
    const s = this.state;
    const start = s.u16[(s.get32(state.currentRecord) + RecordField.start) >>> 1];
    const sum = s.get32(state.ripBase) + start;
    if (this.#mode.code !== 64 || sum > 0xffff_ffff) s.set64(state.rip, this.currentRip());
    else s.setHalves(state.rip, sum, s.getHigh32(state.ripBase));
  }

  modeChanged(): void {
    if (this.#isOnlyLevelNews()) this.#levelChanged();
    else this.#recomputeMode();
  }

  /**
   * A guest has taken the place of its host, or the other way round: what was derived for it holds while its registers are as
   * they were when it ended. Within one of them more may be new than registers tell.
   */
  contextReplaced(): void {
    const s = this.state;
    const left = this.#modes;
    this.#enterModes();
    const modes = this.#modes;
    if (modes === left) return this.#recomputeMode();
    const { isKept } = modes;
    modes.isKept = false;
    // The pointers of PAE paging and what watches instructions are seen to by `#recomputeMode` alone.
    if (!isKept || this.#modeFunctions === undefined || left.mode.single || modes.paging.mode === "pae" || !this.#isOnlyLevelNews()) {
      modes.forgetInputs();
      this.#recomputeMode();
      // It was so when it ran last: `#recomputeMode` sees no news.
      if (modes.mode.single && !left.mode.single) this.attend();
      return;
    }
    modes.restoreDerived(s, this.#modeFunctions);
    this.#configurePaging();
    this.#levelChanged();
  }

  /** Before a guest takes the place of its host, or the other way round. `owner` tells those that end from one another. */
  contextEnds(owner: object): void {
    this.#modeFunctions ??= modeFunctions(this.linearMemory);
    this.#modes.keep(this.state, this.#modeFunctions, owner);
  }

  /**
   * In the place of `contextEnds`, `Mmu.enterSpace` and `contextReplaced`, where the guest goes on as it ended: in the address space
   * that it had, and with what was derived for it. False, with nothing changed: it is not that simple.
   */
  resumeGuest(transition: ResumingTransition): boolean {
    return this.#resume(this.#guestModes, transition);
  }

  /** The same of the host, in 64-bit mode. */
  resumeHost(transition: ResumingTransition): boolean {
    return this.#hostModes.mode.code === 64 && this.#resume(this.#hostModes, transition);
  }

  #resume(modes: ModeContext, transition: ResumingTransition): boolean {
    const left = this.#modes, { owner, space, stage } = transition;
    if (left === modes || !left.isSimple || !modes.isKeptBy(owner) || space.slot !== modes.slot(this.state)) return false;
    const endingRoot = this.state.getAddress(state.cr3);
    if (transition.transfer(left.place, modes.place) === 0) return false;
    left.noteKept(owner);
    modes.isKept = false;
    this.#modes = modes;
    this.#isTraced = false;
    this.memory.resumeSpace(space, stage, endingRoot);
    this.memory.enterPaging(modes.paging, modes.mode.code === 64);
    return true;
  }

  /** Goes on with what was derived for the host, or for guests. */
  #enterModes(): void {
    this.#modes = this.virtualization?.isGuest === true ? this.#guestModes : this.#hostModes;
    this.memory.enterPaging(this.#modes.paging, this.#modes.mode.code === 64);
  }

  #forgetModes(): void {
    this.#hostModes.forgetInputs();
    this.#guestModes.forgetInputs();
    this.#enterModes();
  }

  get #mode(): CodeMode {
    return this.#modes.mode;
  }

  get #hasStage(): boolean {
    return this.memory.walker.secondStage !== undefined;
  }

  /** Whether what modes follow from is as it was, but for CPL: exceptions, interrupts and their ends, mostly. */
  #isOnlyLevelNews(): boolean {
    const { code, single } = this.#mode;
    return code !== 16 && !single && !this.#isAlone && this.#modes.hasSameInputs(this.state, this.#hasStage);
  }

  #levelChanged(): void {
    const s = this.state;
    const rule = s.get32(state.contextRule), alignmentCheck = s.get32(state.systemFlags) & FlagMask.AC ? 1 : 0;
    const privilege = s.get32(state.cpl) === 3 ? 2 | (rule >>> 1 & alignmentCheck) : rule & 1 | alignmentCheck;
    s.set32(state.tlbContext, s.get32(state.tlbContext) & ~3 | privilege);
    if (this.virtualization !== undefined) this.#updatePlain();
    this.#updateCodeKey();
  }

  #recomputeMode(): void {
    const s = this.state;
    const hasNewControls = !this.#modes.hasSameControls(s);
    this.#modes.noteInputs(s, this.#hasStage);
    const cs = s.get32(state.segments[Segment.CS].attributes);
    const is64 = is64BitMode(s);
    const code = is64 ? 64 : cs & SegmentAttribute.big ? 32 : 16;
    const stack = is64 ? 64 : s.get32(state.segments[Segment.SS].attributes) & SegmentAttribute.big ? 32 : 16;
    this.#breakpointsArmed = hasInstructionBreakpoints(s);
    this.#updateWatch();
    const single = this.#isAlone || (s.get32(state.systemFlags) & trapFlag) !== 0 || this.#breakpointsArmed || this.memory.watch !== undefined ||
      hasPortBreakpoints(s);
    // Traps and breakpoints are looked at between slices: the running one ends with this instruction.
    if (single && !this.#mode.single) this.attend();
    this.#modes.setMode(code, stack, hasRealModeSegments(s), single);
    this.#modes.setFetchBase(s);
    s.setHalves(state.canonicalShift, s.get32(state.cr4) & Cr4Mask.LA57 ? 7 : 16, 0);
    // A guest's are its host's, as a rule.
    if (hasNewControls) {
      this.#updateExtensionFaults();
      this.#updatePagingRules();
    }
    this.#updatePaging();
    const cpl = s.get32(state.cpl);
    const isAligned = (s.get32(state.cr0) & Cr0Mask.AM) !== 0 && (s.get32(state.systemFlags) & FlagMask.AC) !== 0;
    this.memory.updateContext(cpl, is64, isAligned);
    s.set32(state.contextRule, (this.memory.paging.smap ? 0 : 1) | (s.get32(state.cr0) & Cr0Mask.AM ? 2 : 0));
    this.#updatePlain();
    this.#updateCodeKey();
  }

  #updatePlain(): void {
    const { virtualization } = this;
    const isSpecial = virtualization !== undefined && (virtualization.isGuest ? !virtualization.isGuestOrdinary : virtualization.decidesEvents);
    const isPlain = !isSpecial && !this.#mode.single;
    this.state.set32(state.isPlain, isPlain ? 1 : 0);
    const keepsFaults = virtualization === undefined || !virtualization.isGuest || virtualization.keepsPageFaults;
    this.state.set32(state.deliversFaults, isPlain && this.#mode.code === 64 && keepsFaults ? 1 : 0);
  }

  /** Watched pages are kept out of the TLB, so that every access to them comes by. */
  #updateWatch(): void {
    const s = this.state;
    if (this.#watchKey === "" && !hasBreakpoints(s)) return;
    const key = hasDataBreakpoints(s) ? [0, 1, 2, 3, 7].map((index) => s.get64(state.dr[index])).join(" ") : "";
    if (key === this.#watchKey) return;
    this.#watchKey = key;
    this.memory.watch = key === "" ? undefined : {
      pageIsWatched: (linear) => matchData(s, linear & ~0xfffn, pageSizeBytes, "write") !== 0,
      accessed: (linear, size, isWrite) => {
        this.#dataHits |= matchData(s, linear, size, isWrite ? "write" : "read");
      },
    };
    this.memory.flush({ keepGlobal: false });
  }

  #updateExtensionFaults(): void {
    const s = this.state;
    const cr0 = s.get32(state.cr0);
    const taskSwitched = cr0 & Cr0Mask.TS ? Vector.NM : 0;
    s.set32(state.simdFault, cr0 & Cr0Mask.EM || !(s.get32(state.cr4) & Cr4Mask.OSFXSR) ? Vector.UD : taskSwitched);
    s.set32(state.mmxFault, cr0 & Cr0Mask.EM ? Vector.UD : taskSwitched);
    s.set16(state.x87NotesMask, this.model.vendor === "amd" ? 0xffff : 0);
  }

  #updateCodeKey(): void {
    const s = this.state;
    const { code, stack, isRealOrVirtual8086, single } = this.#mode;
    const range = this.#codeRangeNumber();
    s.set32(state.codeKey, (range << 18) | (s.get32(state.tlbContext) << 6) | this.#modes.modeNumber);
    const isFlat = code === 32 && stack === 32 && !isRealOrVirtual8086 && !single && range === 0 && (s.get32(state.efer) & EferMask.LMA) === 0;
    s.set32(state.isFlat, isFlat ? 1 : 0);
  }

  /** A number for base and limit of CS: known blocks are entered without a look at the limit. */
  #codeRangeNumber(): number {
    if (this.#mode.code === 64) return 0;
    const { base, limit } = state.segments[Segment.CS];
    const first = this.state.get64(base), size = this.state.get32(limit);
    if (first === 0n && size === 0xffff_ffff) return 0;
    const range = (first << 32n) | BigInt(size);
    const known = this.#codeRanges.get(range);
    if (known !== undefined) return known;
    if (this.#codeRanges.size === maximumCodeRanges) {
      this.#codeRanges.clear();
      this.#forgetModes();
      this.#clearJumpCache();
    }
    const number = this.#codeRanges.size + 1;
    this.#codeRanges.set(range, number);
    return number;
  }

  #forgetTranslations(): void {
    this.memory.clear();
    this.#forgetModes();
    this.code.forgetMoved();
    this.#recomputeMode();
    this.#clearJumpCache();
  }

  #clearJumpCache(): void {
    const first = (this.state.base + state.jumpCacheOffset) >>> 2;
    this.state.u32.fill(noCodeKey, first, first + (state.jumpCacheEntries * state.jumpCacheEntrySizeBytes) / 4);
    this.#localBlocks.clear();
    this.#mayHoldBlocks.fill(0);
    this.#codePages.clear();
  }

  /** Empties the jump cache of code in pages of an address-space slot that are not global. */
  #forgetLocalBlocks(slot: number, hasOthers: boolean): void {
    const { u32, base } = this.state;
    this.#codePages.forgetLocal((key) => ((key >>> codeKeySlotShift) & slotMask) === slot);
    this.#localBlocks.retain((member) => {
      const at = (base + state.jumpCacheOffset + member * state.jumpCacheEntrySizeBytes + 8) >>> 2;
      const owner = (u32[at] >>> codeKeySlotShift) & slotMask;
      if (owner !== slot) return hasOthers && owner !== slotMask;
      u32[at] = noCodeKey;
      return false;
    });
  }

  /** Empties the jump cache of code in one page, and of code that runs into it. */
  #forgetPage(low: number): void {
    const page = low >>> 12;
    this.#codePages.forgetPage(page);
    this.#forgetBlocksOf(page);
    this.#forgetBlocksOf((page - 1) & pageNumberMask);
  }

  #forgetBlocksOf(page: number): void {
    if (this.#mayHoldBlocks[pageHash(page)] === 0) return;
    const { u32, base } = this.state;
    // Of an entry's number, what is above the offset in the page depends on the page alone.
    const first = jumpCacheEntry(page << 12, 0) & ~(pageSizeBytes - 1);
    for (let entry = first; entry < first + pageSizeBytes; entry++) {
      const at = (base + state.jumpCacheOffset + entry * state.jumpCacheEntrySizeBytes) >>> 2;
      // Which 4 GiB it is does not matter: to forget more than was asked for is no mistake.
      if (u32[at] >>> 12 === page) u32[at + 2] = noCodeKey;
    }
  }

  /** What CR0, CR4 and EFER alone say of paging. */
  #updatePagingRules(): void {
    const s = this.state;
    const { paging } = this.memory;
    const cr0 = s.get32(state.cr0), cr4 = s.get32(state.cr4), efer = s.get32(state.efer);
    paging.writeProtect = (cr0 & Cr0Mask.WP) !== 0;
    paging.noExecute = (efer & EferMask.NXE) !== 0;
    paging.pageSizeExtension = (cr4 & Cr4Mask.PSE) !== 0;
    paging.globalPages = (cr4 & Cr4Mask.PGE) !== 0;
    paging.smep = (cr4 & Cr4Mask.SMEP) !== 0;
    paging.smap = (cr4 & Cr4Mask.SMAP) !== 0;
    paging.protectionKeys = (cr4 & Cr4Mask.PKE) !== 0;
    paging.physicalAddressBits = this.model.physicalAddressBits;
    paging.gigabytePages = this.#hasGigabytePages;
  }

  #updatePaging(): void {
    const s = this.state;
    const { paging } = this.memory;
    const cr0 = s.get32(state.cr0), cr4 = s.get32(state.cr4), efer = s.get32(state.efer);
    const mode = pagingModeOf(cr0, cr4, efer);
    const rootLow = s.get32(state.cr3), rootHigh = s.getHigh32(state.cr3);
    paging.mode = mode;
    paging.root = mode === "pae" ? (rootLow & 0xffff_ffe0) >>> 0 : (rootLow & 0xffff_f000) >>> 0;
    if (mode === "level4" || mode === "level5") paging.root += (rootHigh & 0xf_ffff) * twoPow32;
    paging.alignmentCheck = (s.get32(state.systemFlags) & FlagMask.AC) !== 0;
    paging.pkru = s.get32(state.pkru);
    this.memory.publishPaging();
    this.#configurePaging();
  }

  /** CR3 alone is the business of whoever writes it: a write flushes by its own rules, even of the same value. */
  #configurePaging(): void {
    const s = this.state;
    const { paging } = this.memory;
    this.memory.configure(s.get32(state.cr0) & (Cr0Mask.WP | Cr0Mask.PG), s.get32(state.cr4), s.get32(state.efer),
      paging.protectionKeys ? paging.pkru : 0, paging.mode === "pae" ? s.get32(state.cr3) : 0);
  }

  get physical(): PhysicalMemory {
    return this.memory.physical;
  }

  #runRoutine(routine: Routine): number {
    const s = this.state;
    if ((s.get32(state.interruptShadow) & state.ShadowMask.stiAtRip) !== 0) this.#settleShadow(s.get32(state.currentRecord));
    // An interrupt shadow covers one instruction; when a later one comes here, it is gone.
    if (s.get32(state.interruptShadow) !== 0 && this.retiredBeforeCurrent > this.#shadowAt) {
      s.set32(state.interruptShadow, 0);
      this.#shadowAt = -1;
    }
    const { invalidations } = this.code.counters;
    const status = (routine.run as (p: Processor) => Status)(this);
    // An exit has taken the instruction's place: `#leaveGuest` or `#step` look at the rest.
    if (status === Status.Fault && s.get32(state.exceptionVector) === exitVector) return status;
    const shadow = s.get32(state.interruptShadow);
    if (shadow !== 0 && this.#shadowAt < 0) this.#noteShadow(shadow);
    if (this.virtualization !== undefined) this.#updatePlain();
    if (this.#noteWaiting() || this.#resetRequest !== undefined) this.attend();
    s.set32(state.leaveRequested, this.#attends || invalidations !== this.code.counters.invalidations ? 1 : 0);
    return status;
  }

  /** Within a slice, where nothing has to be looked at between instructions: what `#step` does after one that ends in an exit. */
  #leaveGuest(): number {
    const s = this.state;
    if (this.#mode.single || this.virtualization === undefined) return 0;
    if (s.get32(state.currentRecord) !== 0) this.#returnToCurrent();
    if ((s.get32(state.interruptShadow) & state.ShadowMask.stiAtRip) !== 0) this.#settleShadow(0);
    this.exitsWithinSlices++;
    this.virtualization.exit(undefined);
    s.set32(state.currentRecord, 0);
    this.#hadResume = false;
    const hasEvent = this.#noteWaiting();
    if (s.get32(state.interruptShadow) === 0) this.#shadowAt = this.#castAt = -1;
    const isOrdinary = s.get32(state.interruptShadow) === 0 && s.get32(state.activity) === Activity.active && this.#resetRequest === undefined &&
      !this.virtualization.stepsAlone && !hasEvent;
    if (!isOrdinary) this.attend();
    return 1;
  }

  /** Tells generated code whether something waits. The result: an interrupt or NMI would be taken now, as far as no shadow is in the way. */
  #noteWaiting(): boolean {
    const s = this.state;
    const nmi = this.#nmiPending, interrupt = this.#interrupts.hasInterrupt();
    s.set32(state.eventWaiting, nmi || interrupt ? 1 : 0);
    if (this.virtualization?.decidesEvents === true) return this.virtualization.hasEvent({ nmi, interrupt, shadow: 0 });
    return nmi || (interrupt && (s.get32(state.systemFlags) & FlagMask.IF) !== 0);
  }

  /**
   * Makes of the shadow that generated code has cast one that is counted in instructions, if it covers the instruction that
   * runs (`record` not 0) or is next.
   */
  #settleShadow(record: number): void {
    const s = this.state;
    const { u32 } = s;
    const start = (s.base + (record === 0 ? state.rip : state.ripBase).offset) >>> 2;
    const sum = u32[start] + (record === 0 ? 0 : s.u16[(record + RecordField.start) >>> 1]);
    const high = (u32[start + 1] + (sum > 0xffff_ffff ? 1 : 0)) >>> 0;
    const isCovered = sum >>> 0 === s.get32(state.shadowRip) && high === s.getHigh32(state.shadowRip);
    s.set32(state.interruptShadow, isCovered ? state.ShadowMask.sti : 0);
    if (!isCovered) return;
    this.#castShadow = state.ShadowMask.sti;
    this.#shadowAt = this.#castAt = (record === 0 ? this.#retired : this.retiredBeforeCurrent) - 1;
  }

  currentShadow(): number {
    return this.#castAt >= 0 && this.retiredBeforeCurrent <= this.#castAt + 1 ? this.#castShadow : 0;
  }

  decodeCurrent(): DecodedInstruction<InstructionDefinition> | undefined {
    const record = this.state.get32(state.currentRecord);
    // Places of records are given anew only when all code is forgotten.
    if (this.#decodedFlush !== this.code.counters.flushes || this.#decoded.size === maximumDecoded) this.#decoded.clear();
    this.#decodedFlush = this.code.counters.flushes;
    const known = this.#decoded.get(record);
    if (known !== undefined) return known;
    const decoded = this.#decoder.decode(this.currentBytes(), 0, this.#mode.code, this.#mode.isRealOrVirtual8086);
    if (decoded.kind !== "instruction") return undefined;
    if (record !== 0) this.#decoded.set(record, decoded);
    return decoded;
  }

  currentBytes(): Uint8Array {
    const record = this.state.get32(state.currentRecord);
    const place = record === 0 ? 0 : this.code.placeOf(record);
    // Nested page faults come here by the ten thousand, and a walk of two stages takes longer than all the rest.
    if (place !== 0 && place % pageSizeBytes <= pageSizeBytes - maximumInstructionBytes) return this.state.u8.slice(place, place + maximumInstructionBytes);
    const bytes = new Uint8Array(maximumInstructionBytes);
    const linear = this.currentRip() + this.state.get64(state.fetchBase);
    const length = this.memory.peekCode(BigInt.asUintN(this.#mode.code === 64 ? 64 : 32, linear), bytes);
    return bytes.subarray(0, length);
  }

  #findBlock(): number {
    const s = this.state;
    const is64 = this.#mode.code === 64;
    const ripLow = s.get32(state.rip), ripHigh = s.getHigh32(state.rip);
    const limit = s.get32(state.segments[Segment.CS].limit);
    if (!is64 && (ripHigh !== 0 || ripLow > limit)) {
      this.raise(Vector.GP, 0);
      return 0;
    }
    const sum = ripLow + s.get32(state.fetchBase);
    const low = sum >>> 0, carry = sum > 0xffff_ffff ? 1 : 0;
    const { memory } = this;
    const pages = this.#codePages, codeKey = s.get32(state.codeKey), linearHigh = is64 ? ripHigh : 0;
    const known = pages.find(low, linearHigh, codeKey);
    const physical = known >= 0 ? pages.physicalOf(known, low) : memory.translateCode(low, linearHigh);
    if (physical < 0) return 0;
    let isGlobal = known >= 0 ? pages.isGlobal(known) : memory.walker.isGlobal;
    if (known < 0) pages.note(low, linearHigh, codeKey, physical, isGlobal);
    const bytesToLimit = is64 ? maximumBlockBytes : Math.min(limit - ripLow + 1, maximumBlockBytes);
    const record = this.code.recent(physical, this.#modes.modeNumber, bytesToLimit) || this.code.find({
      physical,
      nextPage: () => {
        const next = ((low & ~0xfff) + pageSizeBytes) >>> 0;
        const second = memory.translateCode(next, is64 ? (ripHigh + (next === 0 ? 1 : 0)) >>> 0 : 0);
        isGlobal &&= memory.walker.isGlobal;
        return second;
      },
      bytesToLimit,
    }, this.#mode);
    if (record === 0 || this.code.isVolatile) return record;
    const high = is64 ? ripHigh : carry;
    const entry = jumpCacheEntry(low, high);
    const at = (s.base + state.jumpCacheOffset + entry * state.jumpCacheEntrySizeBytes) >>> 2;
    s.u32[at] = low;
    s.u32[at + 1] = high;
    s.u32[at + 2] = codeKey;
    s.u32[at + 3] = record;
    this.#mayHoldBlocks[pageHash(low >>> 12)] = 1;
    if (!isGlobal) this.#localBlocks.add(entry);
    return record;
  }

  /** Header of the block that the jump cache knows at a linear address, or 0. */
  #knownRecord(linear: bigint): number {
    const { u32, base } = this.state;
    const low = Number(linear & 0xffff_ffffn), high = Number(linear >> 32n);
    const entry = jumpCacheEntry(low, high);
    const at = (base + state.jumpCacheOffset + entry * state.jumpCacheEntrySizeBytes) >>> 2;
    const isKnown = u32[at] === low && u32[at + 1] === high && u32[at + 2] === this.state.get32(state.codeKey);
    return isKnown ? u32[at + 3] : 0;
  }

  /** Makes generated code return right after the running instruction, so that `run` looks at interrupts and requests. */
  attend(): void {
    const s = this.state;
    s.set32(state.eventWaiting, 1);
    if (this.#slice === 0) return;
    this.#attends = true;
    const budget = s.get32(state.budget) | 0;
    if (budget > 0) {
      this.#slice -= budget;
      s.set32(state.budget, 0);
    }
    const record = s.get32(state.currentRecord);
    if (record === 0 || this.#leavingAt !== 0) return;
    const next = (record + recordSizeBytes) >>> 1;
    this.#leavingAt = next;
    this.#leavingHandler = s.u16[next];
    s.u16[next] = SpecialHandler.Leave;
  }

  #restoreLeaving(): void {
    this.#attends = false;
    if (this.#leavingAt === 0) return;
    const { u16 } = this.state;
    // The block may have become void since.
    if (u16[this.#leavingAt] === SpecialHandler.Leave) u16[this.#leavingAt] = this.#leavingHandler;
    this.#leavingAt = 0;
  }

  /** Takes the interrupt that the controller holds: its vector, -1 when it has gone. */
  acknowledgeInterrupt(): number {
    return this.#interrupts.acknowledge();
  }

  requestStop(): void {
    this.#stopRequested = true;
    this.attend();
  }

  /** RESET or INIT from wherever: during an access to a device it takes effect after the instruction. */
  requestReset(kind: "reset" | "init"): void {
    if (this.#resetRequest !== "reset") this.#resetRequest = kind;
    if (this.#isRunning) this.attend();
    else this.#performReset();
  }

  signalNmi(): void {
    this.#nmiPending = true;
    this.attend();
  }

  /** What waits between two instructions and is not in the state area. */
  get waiting(): WaitingEvents {
    return { isNmiPending: this.#nmiPending, event: this.#waitingEvent, heldDebugConditions: this.#heldHits };
  }

  set waiting({ isNmiPending, event, heldDebugConditions }: WaitingEvents) {
    this.#nmiPending = isNmiPending;
    this.#waitingEvent = event;
    this.#heldHits = heldDebugConditions;
  }

  /** To be called after the state area was written as a whole: nothing that was derived from it is true any more. */
  stateReplaced(): void {
    const shadow = this.state.get32(state.interruptShadow);
    this.#castShadow = shadow;
    this.#shadowAt = this.#castAt = shadow === 0 ? -1 : this.#retired - 1;
    this.memory.clear();
    this.memory.forgetConfiguration();
    this.#clearJumpCache();
    this.#forgetModes();
    this.#recomputeMode();
  }

  /**
   * Runs until a stop reason; retires at most `maximumInstructions`. With `isApproximate` a block more or less, since executing
   * the last few instructions one by one takes as long as thousands of others.
   */
  run(maximumInstructions: number, isApproximate: boolean = false): StopReason {
    if (this.#retired >= this.#inlineHotAt) this.#inlineHot();
    this.#isRunning = true;
    const reason = this.#runUntilStop(maximumInstructions, isApproximate);
    this.#isRunning = false;
    this.#performReset();
    return reason;
  }

  #noteShadow(shadow: number): void {
    this.#castShadow = shadow;
    this.#shadowAt = this.#castAt = this.retiredBeforeCurrent;
  }

  #performReset(): void {
    const kind = this.#resetRequest;
    if (kind === undefined) return;
    const admission = this.virtualization?.admitReset(kind) ?? "admitted";
    if (admission === "pending") return;
    this.#resetRequest = undefined;
    if (admission !== "admitted") return;
    this.reset(kind);
    if (kind === "init") this.bus.initialized?.();
  }

  #runUntilStop(maximumInstructions: number, isApproximate: boolean): StopReason {
    const s = this.state;
    const end = this.#retired + (isApproximate ? Math.max(maximumInstructions, maximumBlockInstructions) : maximumInstructions);
    // A slice that ends in a fault may retire nothing: a guest that does nothing else must come back to the caller, too.
    let slices = 0;
    for (;;) {
      this.#performReset();
      // First of all: what `run` begins with is not looked at again.
      if (slices > 0 && this.#isDebugStop()) return "debug";
      if (this.#stopRequested) {
        this.#stopRequested = false;
        return "stopped";
      }
      if (s.get32(state.activity) === Activity.shutdown) return "shutdown";
      this.#expireShadow();
      if (!this.#deliverPending()) return "shutdown";
      const activity = s.get32(state.activity);
      if (activity === Activity.halted || activity === Activity.waitingForSipi) return "halted";
      if (this.#retired >= end || ++slices > maximumSlices) return "budget";
      if (this.virtualization !== undefined) this.#updatePlain();
      const wantsAttention = this.#noteWaiting();
      const budget = this.#mode.single || wantsAttention ? 1 : end - this.#retired;
      // What waits behind a shadow comes after exactly one instruction: STI, NOP, CLI lets it in.
      const isShadowed = wantsAttention && s.get32(state.interruptShadow) !== 0;
      const stepsAlone = isShadowed || this.#debugger !== undefined || this.virtualization?.stepsAlone === true;
      // Generated code executes whole blocks: the last few instructions of a budget come one by one.
      const isLast = budget < maximumBlockInstructions && !this.#mode.single;
      if (isLast && isApproximate && !stepsAlone && !wantsAttention) return "budget";
      if (!(stepsAlone || isLast ? this.#stepAlone(stepsAlone ? 1 : budget) : this.#step(budget))) return "shutdown";
    }
  }

  /** Whether a debugger wants to have a look at what is next. */
  #isDebugStop(): boolean {
    if (this.#debugger === undefined) return false;
    const linear = this.state.get64(state.rip) + this.state.get64(state.fetchBase);
    return this.#debugger.isSingleStep || this.#debugger.breakpoints.has(BigInt.asUintN(this.#mode.code === 64 ? 64 : 32, linear));
  }

  /** Undefined: nobody debugs. */
  setDebug(settings: { readonly isSingleStep: boolean; readonly breakpoints: ReadonlySet<bigint> } | undefined): void {
    this.#debugger = settings;
  }

  /** A shadow covers exactly the instruction after the one that cast it. */
  #expireShadow(): void {
    const s = this.state;
    if (s.get32(state.interruptShadow) === 0) {
      this.#shadowAt = this.#castAt = -1;
      return;
    }
    if (this.#retired <= this.#shadowAt + 1) return;
    s.set32(state.interruptShadow, 0);
    this.#shadowAt = -1;
  }

  /** Interrupts between two instructions. False: delivery ended in a triple fault. */
  #deliverPending(): boolean {
    const s = this.state;
    const waiting = this.#waitingEvent;
    if (waiting !== undefined) {
      this.#waitingEvent = undefined;
      s.set32(state.currentRecord, 0);
      if (!deliverEvent(this, waiting)) return false;
    }
    const isHalted = s.get32(state.activity) === Activity.halted;
    const shadow = isHalted ? 0 : s.get32(state.interruptShadow);
    if (this.virtualization?.decidesEvents === true) return this.#takeEvent(this.virtualization, shadow);
    if (this.#nmiPending && s.get32(state.nmiBlocked) === 0 && (shadow & 2) === 0) {
      return this.#deliverNmi();
    }
    if (shadow !== 0 || !this.#interrupts.hasInterrupt() || (s.get32(state.systemFlags) & FlagMask.IF) === 0) return true;
    return this.#deliverInterrupt();
  }

  #deliverNmi(): boolean {
    this.#nmiPending = false;
    this.state.set32(state.currentRecord, 0);
    return deliverEvent(this, { vector: Vector.NMI, kind: "nmi" });
  }

  #deliverInterrupt(): boolean {
    const vector = this.#interrupts.acknowledge();
    if (vector < 0) return true;
    this.state.set32(state.currentRecord, 0);
    return deliverEvent(this, { vector, kind: "external" });
  }

  /** The same while the virtualization extension decides. */
  #takeEvent(virtualization: Virtualization, shadow: number): boolean {
    this.state.set32(state.currentRecord, 0);
    switch (virtualization.takeEvent({ nmi: this.#nmiPending, interrupt: this.#interrupts.hasInterrupt(), shadow })) {
      case "nmi": return this.#deliverNmi();
      case "nmi taken":
        this.#nmiPending = false;
        return true;
      case "interrupt": return this.#deliverInterrupt();
      default: return this.state.get32(state.activity) !== Activity.shutdown;
    }
  }

  /** Runs up to `count` instructions one by one, whatever the mode; until something happens besides. */
  #stepAlone(count: number): boolean {
    const s = this.state;
    this.#isAlone = true;
    this.modeChanged();
    let isRunning = true;
    for (let left = count; left > 0 && isRunning; left--) {
      const before = this.#retired;
      isRunning = this.#step(1);
      const isDisturbed = this.#retired === before || s.get32(state.activity) !== Activity.active || this.#stopRequested ||
        this.#resetRequest !== undefined || this.#nmiPending || s.get32(state.interruptShadow) !== 0 || this.#interrupts.hasInterrupt();
      if (isDisturbed) break;
    }
    this.#isAlone = false;
    this.modeChanged();
    return isRunning;
  }

  /** Runs one slice of generated code and delivers what it raised. False after a triple fault. */
  #step(budget: number): boolean {
    const s = this.state;
    this.#isTraced = (s.get32(state.systemFlags) & trapFlag) !== 0;
    this.#dataHits = 0;
    if (this.#breakpointsArmed && (s.get32(state.interruptShadow) & stackSegmentShadow) === 0) {
      const hit = matchInstruction(s, BigInt.asUintN(64, s.get64(state.rip) + s.get64(state.fetchBase)));
      if (hit !== 0) {
        s.set32(state.currentRecord, 0);
        raiseDebugStatus(this, hit);
        return deliverRecordedException(this);
      }
    }
    this.#hadResume = (s.get32(state.systemFlags) & FlagMask.RF) !== 0;
    // Only where breakpoints and traps look: elsewhere RF would tell how budgets cut a string instruction.
    const isWatched = this.#isTraced || this.#breakpointsArmed;
    const startRip = isWatched ? s.get64(state.rip) : 0n;
    const branch = this.virtualization?.branchRecord === undefined ? undefined : this.#aboutToBranch();
    this.jit.compileDue();
    this.#slice = Math.min(budget, 0x7fff_0000);
    s.set32(state.budget, this.#slice);
    const result = this.interpreter.run();
    this.#restoreLeaving();
    this.#retired += this.#slice - (s.get32(state.budget) | 0);
    this.#slice = 0;
    const isFault = result === RunResult.Fault;
    if (isFault && s.get32(state.currentRecord) !== 0) this.#returnToCurrent();
    if ((s.get32(state.interruptShadow) & state.ShadowMask.stiAtRip) !== 0) this.#settleShadow(0);
    if (isFault) {
      const delivered = deliverRecordedException(this);
      s.set32(state.currentRecord, 0);
      return delivered;
    }
    s.set32(state.currentRecord, 0);
    if (branch !== undefined) this.#recordBranch(branch);
    const isBetweenIterations = isWatched && s.get64(state.rip) === startRip && this.#isRepeated();
    if (isBetweenIterations) s.set32(state.systemFlags, s.get32(state.systemFlags) | FlagMask.RF);
    else if (this.#hadResume) s.set32(state.systemFlags, s.get32(state.systemFlags) & ~FlagMask.RF);
    const shadowedByThis = (s.get32(state.interruptShadow) & stackSegmentShadow) !== 0 && this.#shadowAt === this.#retired - 1;
    if (shadowedByThis) {
      this.#heldHits = this.#dataHits;
      return true;
    }
    const conditions = this.#dataHits | this.#heldHits | (this.#isTraced ? DebugStatusMask.singleStep : 0);
    this.#heldHits = 0;
    if (conditions === 0) return true;
    raiseDebugStatus(this, conditions);
    return deliverRecordedException(this);
  }

  /** What tells whether the next instruction branches, for whoever records that; undefined when it cannot be fetched. */
  #aboutToBranch(): BranchCandidate | undefined {
    const s = this.state;
    const rip = s.get64(state.rip);
    const bytes = new Uint8Array(maximumInstructionBytes);
    const fetched = this.memory.peekCode(BigInt.asUintN(this.#mode.code === 64 ? 64 : 32, rip + s.get64(state.fetchBase)), bytes);
    const decoded = this.#decoder.decode(bytes.subarray(0, fetched), 0, this.#mode.code, this.#mode.isRealOrVirtual8086);
    if (decoded.kind !== "instruction") return undefined;
    return { from: rip, behind: BigInt.asUintN(this.#mode.code, rip + BigInt(decoded.length)), isGuest: this.virtualization?.isGuest === true };
  }

  /** Entering a guest is no branch; and repeated string instructions stay where they are without one. */
  #recordBranch({ from, behind, isGuest }: BranchCandidate): void {
    const { virtualization } = this;
    const to = this.state.get64(state.rip);
    if (to === behind || virtualization?.isGuest !== isGuest || (to === from && this.#isRepeated())) return;
    virtualization.branchRecord?.note(from, to);
  }

  /**
   * Whether a repeated string instruction is next. Between its iterations RF is set, so that its breakpoint counts once
   * (SDM volume 3, "Debug Exception (#DB)—Interrupt Vector 1").
   */
  #isRepeated(): boolean {
    const s = this.state;
    const linear = s.get64(state.rip) + s.get64(state.fetchBase);
    const physical = this.memory.translateFetch(BigInt.asUintN(this.#mode.code === 64 ? 64 : 32, linear));
    if (physical < 0) return false;
    const bytes = new Uint8Array(Math.min(15, pageSizeBytes - (physical % pageSizeBytes)));
    this.physical.readRange(physical, bytes);
    const decoded = this.#decoder.decode(bytes, 0, this.#mode.code, this.#mode.isRealOrVirtual8086);
    return decoded.kind === "instruction" && decoded.repeat !== "none" && decoded.instruction.repeatable === true;
  }
}
