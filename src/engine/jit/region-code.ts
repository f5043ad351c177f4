/** One region as a WebAssembly function: registers come into locals at its start and go back at its one end. */
import { invariant } from "../../base/errors.ts";
import { Status, type Routine, type SegmentReference, type StateMatch } from "../../ir/index.ts";
import type { StateView } from "../../isa/state-view.ts";
import * as state from "../../isa/state.ts";
import { FunctionBuilder, type FuncIndex, type Label, type Local, type TypeIndex } from "../../wasm/index.ts";
import { EmitterCore } from "../emit/core.ts";
import { RegionExit } from "../interpreter.ts";
import { operandFields, RecordField } from "../record.ts";
import { HandlerEmitter } from "../wasm-emitter.ts";
import { AccessGroups } from "./access-groups.ts";
import { cachedPlace } from "./cached-place.ts";
import { structure, type StructuredGraph } from "./control-flow.ts";
import { addFlagLocals, explicitFlags, RegionFlags, unknownFlags, type FlagLocals, type FlagState } from "./region-flags.ts";
import { RegionPlaces } from "./region-places.ts";
import { afterInstruction, findOrdinaryVectors, lanesOfFormat, type OrdinaryVectors, type RegionVectors } from "./ordinary-vectors.ts";
import { hasX87FastPath, RegionX87, type X87Use } from "./region-x87.ts";
import { codeBitsOf, computedTargets, needsGuard, type Region, type RegionBlock, type RegionInstruction } from "./region.ts";
import type { SupportCalls } from "./support.ts";
import { Windows } from "./windows.ts";

/** Of MXCSR: what arithmetic asks for. */
const quietMask = 0xffe0, quiet = 0x1fa0;

/** `readEnd` and `writeEnd` of a segment that is all of the address space. */
const flatEnd = 0x1_0000_0000n;

/** Functions that the code calls. */
export interface RegionCalls extends SupportCalls {
  readonly routine: FuncIndex;
  readonly observe: FuncIndex;
  /** (header): the region was generated for another state of the processor. */
  readonly refused: FuncIndex;
}

export interface RegionEnvironment {
  readonly view: StateView;
  readonly calls: RegionCalls;
  routineNumber(routine: Routine): number;
  /** The function of a routine's fast path, if it has one. */
  fastFunction(routine: Routine): FuncIndex | undefined;
  /** Regions go on to the next one by themselves. */
  readonly chains: boolean;
}

/**
 * How an exit is described in one word, lowest bits first: RegionExit.LookUp or Interpret, instructions to charge, flag
 * operation, carry operation, and the distance of RIP from the region's first.
 */
const ExitField = { executed: 1, executedMask: 0x1ff, operation: 10, carry: 16, unknown: 0x3f, offset: 22 } as const;

/** Registers that a region uses, and those that it writes. */
interface RegisterUse {
  readonly general: Set<number>;
  readonly vectors: Set<number>;
  readonly writtenGeneral: Set<number>;
  readonly writtenVectors: Set<number>;
  usesFlags: boolean;
  keepsCarry: boolean;
  usesSimd: boolean;
}

/** What is to be done about a segment: nothing, adding its base, or comparing with its bounds, too. */
export type Segmentation = "flat" | "based" | "checked";

/** What a region is generated for, beyond its code. */
export interface RegionAssumptions {
  readonly x87?: X87Use | undefined;
  readonly isPlain?: boolean;
}

export class RegionCode {
  readonly view: StateView;
  readonly calls: RegionCalls;
  readonly flags: RegionFlags;
  readonly windows: Windows;
  readonly groups: AccessGroups;
  readonly modeNumber: number;
  /** Offset of the processor's area in linear memory. */
  readonly base: number;
  readonly context: Local<"i64">;
  /** SSE instructions may run: asked at the entry, and again after routines. */
  readonly assumesSimd: boolean;
  /** Segments that begin at 0 and end with the address space, outside of 64-bit mode: asked at the same places. */
  readonly assumesFlat: ReadonlySet<number>;
  /** Absent where nothing uses the x87 unit, or where fast paths are called. */
  readonly x87: RegionX87 | undefined;
  readonly #environment: RegionEnvironment;
  readonly #f: FunctionBuilder;
  readonly #region: Region;
  readonly #graph: StructuredGraph;
  readonly #use: RegisterUse;
  readonly #flagLocals: FlagLocals;
  readonly #firstRip: Local<"i64">;
  /** From the first RIP to where an exit leads, when no constant says it; else 0. */
  readonly #exitDistance: Local<"i64">;
  readonly #exitWord: Local<"i64">;
  readonly #budget: Local<"i32">;
  readonly #chosen: Local<"i32">;
  readonly #general = new Map<number, Local<"i64">>();
  readonly #vectors = new Map<number, Local<"v128">>();
  readonly #places: RegionPlaces;
  readonly #emitter: HandlerEmitter;
  readonly #exit: Label;
  readonly #ordinary: RegionVectors | undefined;
  /** All ones while arithmetic leaves no other trace than its results and `#ordinary` is true, else 0. */
  readonly #isQuiet: Local<"i64"> | undefined;
  /** At the instruction that code is generated for. */
  ordinaryVectors: OrdinaryVectors | undefined;
  readonly #labels = new Map<number, Label>();
  /** Flags that a block which is entered from one place only begins with. */
  readonly #entryFlags = new Map<number, FlagState>();
  readonly #entries: number[];
  /** TOP at the beginning of blocks, from the region's entry on. */
  readonly #entryTops = new Map<number, number>([[0, 0]]);
  /** What is noted of x87 registers there, of blocks that are entered from one place only. */
  readonly #entryNotes = new Map<number, number>();
  #block = 0;
  /** Instructions of the basic block before the one that code is generated for. */
  executedBefore = 0;

  /** With `x87` the unit is in locals: see `findX87Use`. `isPlain`: the region assumes nothing of the processor's state. */
  constructor(environment: RegionEnvironment, f: FunctionBuilder, region: Region, { x87, isPlain = false }: RegionAssumptions) {
    this.#environment = environment;
    this.view = environment.view;
    this.calls = environment.calls;
    this.base = environment.view.base;
    this.modeNumber = region.entry.modeNumber;
    this.#f = f;
    this.#region = region;
    this.#graph = structure(region.successors);
    this.#use = findUse(environment.view, region);
    this.#entries = countEntries(region);
    this.#flagLocals = addFlagLocals(f);
    this.flags = new RegionFlags(f, this.#flagLocals, environment.calls, this.#use.keepsCarry);
    this.windows = new Windows(f, environment.view, region, this.#graph.structure);
    this.#firstRip = f.addLocal("i64");
    this.#exitDistance = f.addLocal("i64");
    this.#exitWord = f.addLocal("i64");
    this.context = f.addLocal("i64");
    this.#budget = f.addLocal("i32");
    this.#chosen = f.addLocal("i32");
    this.#ordinary = findOrdinaryVectors(environment.view, region);
    if (this.#ordinary !== undefined) this.#isQuiet = f.addLocal("i64");
    this.x87 = x87 === undefined ? undefined : new RegionX87(f, environment.view, this.#firstRip, x87);
    this.assumesSimd = !isPlain && this.#use.usesSimd && environment.view.get32(state.simdFault) === 0;
    this.assumesFlat = isPlain ? new Set() : findFlatSegments(environment.view, region);
    this.groups = new AccessGroups(environment.view, region, {
      entries: this.#entries, isLoopHead: this.#graph.structure.isLoopHead,
      isFlat: (instruction, segment) => this.segmentation(instruction, segment) === "flat",
      isTaken: (instruction, node) => this.windows.of(instruction, node) !== undefined,
    });
    const core = new EmitterCore(f);
    this.#places = new RegionPlaces(this, core);
    this.#emitter = new HandlerEmitter(core, this.#places);
    this.#enter();
    this.#exit = f.block();
    this.#emitTree(0);
    f.unreachable();
    f.end(this.#exit);
    this.#leave();
  }

  routineNumber(routine: Routine): number {
    return this.#environment.routineNumber(routine);
  }

  fastFunction(routine: Routine): FuncIndex | undefined {
    return this.#environment.fastFunction(routine);
  }

  segmentNumber({ record }: RegionInstruction, segment: SegmentReference): number {
    return segment === "operand" ? this.view.u8[record + RecordField.segment] : segment;
  }

  segmentation(instruction: RegionInstruction, segment: SegmentReference): Segmentation {
    const number = this.segmentNumber(instruction, segment);
    if (!instruction.handler.form.variant.long) return this.assumesFlat.has(number) ? "flat" : "checked";
    return number >= 4 ? "based" : "flat";
  }

  /** Offset in linear memory of a field of the state area. */
  place(field: state.StateField): number {
    return this.base + field.offset;
  }

  general(number: number): Local<"i64"> {
    const local = this.#general.get(number);
    invariant(local !== undefined, `general register ${number} was not seen to be used`);
    return local;
  }

  vector(number: number): Local<"v128"> {
    const local = this.#vectors.get(number);
    invariant(local !== undefined, `XMM register ${number} was not seen to be used`);
    return local;
  }

  pushRip(offset: number): void {
    const f = this.#f;
    f.local.get(this.#firstRip);
    if (offset === 0) return;
    f.i64.const(offset);
    f.i64.add();
  }

  // --- entry and exit ------------------------------------------------------------------------------------------------

  #enter(): void {
    const f = this.#f;
    f.i32.const(0);
    f.i64.load(this.place(state.ripBase));
    f.local.set(this.#firstRip);
    f.i32.const(0);
    f.i32.load(this.place(state.budget));
    f.local.tee(this.#budget);
    f.i32.const(this.#region.instructionCount);
    f.i32.lt_s();
    this.#orDoesNotFit();
    f.if("void", "unlikely");
    f.i32.const(0);
    f.local.get(this.#firstRip);
    f.i64.store(this.place(state.rip));
    f.i32.const(RegionExit.Interpret);
    f.return();
    f.end();
    this.#refuseOtherState();
    for (const number of this.#use.general) this.#general.set(number, f.addLocal("i64"));
    for (const number of this.#use.vectors) this.#vectors.set(number, f.addLocal("v128"));
    this.#loadRegisters();
  }

  /** Leaves if the processor's state is another than the code was generated for. */
  #refuseOtherState(): void {
    const f = this.#f;
    const questions = this.#questions();
    if (this.x87 !== undefined) questions.push(() => this.x87!.pushMismatch());
    if (questions.length > 0) {
      questions.forEach((push, index) => {
        push();
        if (index > 0) f.i32.or();
      });
      f.if("void", "unlikely");
      this.storeRip(state.rip, 0);
      f.i32.const(this.#region.entry.record);
      f.call(this.calls.refused);
      f.i32.const(RegionExit.Interpret);
      f.return();
      f.end();
    }
    this.x87?.load();
  }

  /** What routines may change of what the region assumes: each pushes 0 if that is as it was. */
  #questions(): (() => void)[] {
    const f = this.#f;
    const questions: (() => void)[] = [];
    if (this.assumesSimd) {
      questions.push(() => {
        f.i32.const(0);
        f.i32.load(this.place(state.simdFault));
      });
    }
    for (const number of this.assumesFlat) {
      const { base, readEnd, writeEnd } = state.segments[number];
      questions.push(() => {
        f.i32.const(0);
        f.i64.load(this.place(base));
        for (const end of [readEnd, writeEnd]) {
          f.i32.const(0);
          f.i64.load(this.place(end));
          f.i64.const(flatEnd);
          f.i64.xor();
          f.i64.or();
        }
        f.i64.const(0);
        f.i64.ne();
      });
    }
    return questions;
  }

  /** Outside of 64-bit mode instruction pointers wrap, which offsets do not. */
  #orDoesNotFit(): void {
    const codeBits = codeBitsOf(this.modeNumber);
    if (codeBits === 64) return;
    const f = this.#f;
    const offsets = this.#region.blocks.flatMap(({ instructions }) =>
      instructions.flatMap(({ offset, nextOffset, targetOffset }) => [offset, nextOffset, targetOffset ?? offset]));
    const least = Math.min(...offsets), most = Math.max(...offsets);
    f.local.get(this.#firstRip);
    f.i64.const(least);
    f.i64.add();
    f.i64.const(2n ** BigInt(codeBits) - 1n - BigInt(most - least));
    f.i64.gt_u();
    f.i32.or();
  }

  #loadRegisters(): void {
    const f = this.#f;
    f.i32.const(0);
    f.i64.load(this.place(state.tlbContext));
    f.local.set(this.context);
    for (const [number, local] of this.#general) {
      f.i32.const(0);
      f.i64.load(this.place(state.gpr[number]));
      f.local.set(local);
    }
    for (const [number, local] of this.#vectors) {
      f.i32.const(0);
      f.v128.load(this.place(state.xmm[number]));
      f.local.set(local);
    }
    this.askWhetherQuiet();
    if (!this.#use.usesFlags) return;
    f.i32.const(0);
    f.i64.load(this.place(state.flagsResult));
    f.local.set(this.#flagLocals.x);
    f.i32.const(0);
    f.i64.load32_u(this.place(state.flagsAux));
    f.local.set(this.#flagLocals.y);
    this.flags.state = explicitFlags;
  }

  /** Pushes all ones or 0: see `#isQuiet`. */
  pushIsQuiet({ location: { offset }, mask, value }: StateMatch): void {
    invariant(this.#isQuiet !== undefined && offset === state.mxcsr.offset && mask === quietMask && value === quiet, "arithmetic asks for one state of MXCSR");
    this.#f.local.get(this.#isQuiet);
  }

  /** After MXCSR or everything may have changed. */
  askWhetherQuiet(): void {
    if (this.#isQuiet === undefined) return;
    const f = this.#f;
    f.i64.const(0);
    f.i32.const(0);
    f.i32.load(this.place(state.mxcsr));
    f.i32.const(quietMask);
    f.i32.and();
    f.i32.const(quiet);
    f.i32.eq();
    this.#ordinary!.assumed.forEach((lanes, number) => {
      for (const format of [64, 32] as const) for (const lane of lanesOfFormat(lanes, format)) this.#andIsOrdinary(number, format, lane);
    });
    f.i64.extend_i32_u();
    f.i64.sub();
    f.local.set(this.#isQuiet);
  }

  /** Denormals are what one less than twice their bits is small of. */
  #andIsOrdinary(number: number, format: 32 | 64, lane: number): void {
    const f = this.#f;
    const group = f[`i${format}`], leastNormal = format === 64 ? 1n << 53n : 1n << 24n;
    f.local.get(this.vector(number));
    if (format === 64) f.i64x2.extract_lane(lane);
    else f.i32x4.extract_lane(lane);
    if (format === 64) {
      f.i64.const(1);
      f.i64.shl();
      f.i64.const(1);
      f.i64.sub();
      f.i64.const(leastNormal - 1n);
    } else {
      f.i32.const(1);
      f.i32.shl();
      f.i32.const(1);
      f.i32.sub();
      f.i32.const(Number(leastNormal - 1n));
    }
    group.ge_u();
    f.i32.and();
  }

  /** All that is kept in locals goes to the state area. */
  storeRegisters(): void {
    const f = this.#f;
    for (const number of this.#use.writtenGeneral) {
      f.i32.const(0);
      f.local.get(this.general(number));
      f.i64.store(this.place(state.gpr[number]));
    }
    for (const number of this.#use.writtenVectors) {
      f.i32.const(0);
      f.local.get(this.vector(number));
      f.v128.store(this.place(state.xmm[number]));
    }
    if (!this.#use.usesFlags) return;
    f.i32.const(0);
    this.flags.pushAuxiliary();
    f.i32.store(this.place(state.flagsAux));
    f.i32.const(0);
    this.flags.pushResult();
    f.i64.store(this.place(state.flagsResult));
  }

  /** The one end: what `exitWord` says is charged, and everything goes back to the state area. */
  #leave(): void {
    const f = this.#f;
    const field = (shift: number, mask: number): void => {
      f.local.get(this.#exitWord);
      f.i32.wrap_i64();
      f.i32.const(shift);
      f.i32.shr_u();
      f.i32.const(mask);
      f.i32.and();
    };
    if (this.#use.usesFlags) {
      const value = f.addLocal("i32");
      for (const [shift, local] of [[ExitField.operation, this.#flagLocals.operation], [ExitField.carry, this.#flagLocals.carry]] as const) {
        field(shift, ExitField.unknown);
        f.local.tee(value);
        f.local.get(local);
        f.local.get(value);
        f.i32.const(ExitField.unknown);
        f.i32.ne();
        f.select();
        f.local.set(local);
      }
      this.flags.state = unknownFlags;
    }
    this.storeRegisters();
    this.x87?.store();
    f.i32.const(0);
    f.local.get(this.#firstRip);
    f.local.get(this.#exitDistance);
    f.i64.add();
    f.local.get(this.#exitWord);
    f.i64.const(ExitField.offset);
    f.i64.shr_s();
    f.i64.add();
    f.i64.store(this.place(state.rip));
    f.i32.const(0);
    f.local.get(this.#budget);
    field(ExitField.executed, ExitField.executedMask);
    f.i32.sub();
    f.i32.store(this.place(state.budget));
    field(0, 1);
    if (!this.#environment.chains) return;
    f.if("i32");
    f.i32.const(RegionExit.Interpret);
    f.else();
    f.returnCall(this.calls.chain);
    f.end();
  }

  /** Leaves for an offset that is known here. All that the end of the function has to know is one number. */
  #exitTo(offset: number, status: number, executed: number): void {
    const { operation = ExitField.unknown, carry = ExitField.unknown } = this.#use.usesFlags ? this.flags.state : explicitFlags;
    const f = this.#f;
    f.i64.const((BigInt(offset) << BigInt(ExitField.offset)) |
      BigInt(status | (executed << ExitField.executed) | (operation << ExitField.operation) | (carry << ExitField.carry)));
    f.local.set(this.#exitWord);
    this.x87?.noteExit();
    f.br(this.#exit);
  }

  /** Leaves for a RIP in a local. */
  #exitDynamic(target: Local<"i64">, executed: number): void {
    const f = this.#f;
    f.local.get(target);
    f.local.get(this.#firstRip);
    f.i64.sub();
    f.local.set(this.#exitDistance);
    this.#exitTo(0, RegionExit.LookUp, executed);
  }

  #charge(executed: number): void {
    if (executed === 0) return;
    const f = this.#f;
    f.local.get(this.#budget);
    f.i32.const(executed);
    f.i32.sub();
    f.local.set(this.#budget);
  }

  /** Leaves before an instruction, which the interpreter executes. */
  interpret(instruction: RegionInstruction): void {
    this.#exitTo(instruction.offset, RegionExit.Interpret, this.executedBefore);
  }

  // --- routines ------------------------------------------------------------------------------------------------------

  storeRip(field: state.StateField, offset: number): void {
    const f = this.#f;
    f.i32.const(0);
    this.pushRip(offset);
    f.i64.store(this.place(field));
  }

  storeBudget(extra: number): void {
    const f = this.#f;
    f.i32.const(0);
    f.local.get(this.#budget);
    if (extra !== 0) {
      f.i32.const(extra);
      f.i32.add();
    }
    f.i32.store(this.place(state.budget));
  }

  /** After a routine everything may be different, except what would have ended the region. */
  reload(extra: number): void {
    const f = this.#f;
    this.#loadRegisters();
    this.windows.forget(f);
    f.i32.const(0);
    f.i32.load(this.place(state.budget));
    if (extra !== 0) {
      f.i32.const(extra);
      f.i32.add();
    }
    f.local.set(this.#budget);
  }

  /** Returns what a routine's status other than Next demands; the state area is up to date. */
  leaveRoutine(status: Local<"i32">, { count, nextOffset }: RegionInstruction): void {
    const f = this.#f;
    // A fault retires all but this instruction, everything else this one, too.
    f.i32.const(0);
    f.i32.const(0);
    f.i32.load(this.place(state.budget));
    f.i32.const(count);
    f.local.get(status);
    f.i32.const(Status.Fault);
    f.i32.eq();
    f.i32.sub();
    f.i32.sub();
    f.i32.store(this.place(state.budget));
    f.local.get(status);
    f.i32.const(Status.Exit);
    f.i32.eq();
    f.if();
    this.storeRip(state.rip, nextOffset);
    f.end();
    if (this.#environment.chains) {
      f.local.get(status);
      f.i32.const(Status.Branch);
      f.i32.eq();
      f.if();
      f.returnCall(this.calls.chain);
      f.end();
      f.local.get(status);
      f.return();
      return;
    }
    // Status and RegionExit differ in what a branch is called.
    f.i32.const(RegionExit.LookUp);
    f.local.get(status);
    f.local.get(status);
    f.i32.const(Status.Branch);
    f.i32.eq();
    f.select();
    f.return();
  }

  // --- control flow --------------------------------------------------------------------------------------------------

  #emitTree(block: number): void {
    const f = this.#f;
    const { children, isLoopHead } = this.#graph.structure;
    const loop = isLoopHead[block] ? f.loop() : undefined;
    if (loop !== undefined) this.#labels.set(block, loop);
    // While the loop is open its head's label is the loop's; children are blocks that end where their code begins.
    for (const child of children[block].toReversed()) this.#labels.set(child, f.block());
    this.#emitOwn(block);
    for (const child of children[block]) {
      f.end(this.#labels.get(child));
      this.#labels.delete(child);
      this.#emitTree(child);
    }
    if (loop !== undefined) f.end(loop);
  }

  #emitOwn(block: number): void {
    const dispatch = this.#graph.dispatches.find((candidate) => candidate.block === block);
    if (dispatch !== undefined) {
      const labels = dispatch.targets.map((target) => this.#labels.get(target)!);
      this.#f.local.get(this.#chosen);
      return this.#f.brTable(labels, labels[0]);
    }
    this.#block = block;
    this.flags.state = this.#entryFlagsOf(block);
    if (this.x87 !== undefined) {
      this.x87.top = this.#entryTops.get(block) ?? 0;
      this.x87.notes = this.#entryNotes.get(block) ?? 0;
    }
    const { instructions } = this.#region.blocks[block];
    const codeBlock = this.#region.blocks[block];
    this.ordinaryVectors = this.#ordinary?.blocks[block];
    instructions.forEach((instruction, index) => {
      this.executedBefore = index;
      this.#places.begin(instruction);
      this.#emitter.emit(instruction.handler.body);
      if (this.#places.callsRoutines) this.#leaveIfRequested(instruction);
      if (this.ordinaryVectors !== undefined) this.ordinaryVectors = afterInstruction(this.view, this.ordinaryVectors, instruction);
    });
    const last = instructions[instructions.length - 1];
    this.#follow(codeBlock, last.nextOffset, instructions.length);
  }

  #leaveIfRequested({ nextOffset }: RegionInstruction): void {
    const f = this.#f;
    f.i32.const(0);
    f.i32.load(this.place(state.leaveRequested));
    for (const push of this.#questions()) {
      push();
      f.i32.or();
    }
    f.if("void", "unlikely");
    this.#exitTo(nextOffset, RegionExit.LookUp, this.executedBefore + 1);
    f.end();
  }

  #entryFlagsOf(block: number): FlagState {
    if (block === 0 && !this.#graph.structure.isLoopHead[0]) return explicitFlags;
    return this.#entryFlags.get(block) ?? unknownFlags;
  }

  /** On to the offset, inside of the region if it is there. */
  #follow(from: RegionBlock, offset: number, executed: number): void {
    const target = this.#region.blockAt.get(offset);
    const isInside = target !== undefined && this.#region.successors[this.#block].includes(target) && !this.#graph.isCut(this.#block, target);
    if (!isInside) {
      return this.#exitTo(offset, RegionExit.LookUp, executed);
    }
    const to = this.#region.blocks[target];
    if (needsGuard(from, to)) {
      // The jump cache still leads to the block that this code was compiled from?
      this.pushRip(to.offset);
      this.#f.i32.const(to.header);
      this.#f.call(this.calls.isMapped);
      this.#f.i32.eqz();
      this.#f.if("void", "unlikely");
      this.#exitTo(offset, RegionExit.LookUp, executed);
      this.#f.end();
    }
    this.#branch(target, executed);
  }

  #branch(target: number, executed: number): void {
    const f = this.#f;
    if (this.x87 !== undefined) this.#noteTop(this.x87, target);
    const { position, isLoopHead } = this.#graph.structure;
    const dispatch = this.#graph.via(this.#block, target);
    this.#charge(executed);
    const isBack = position[target] <= position[this.#block] || (dispatch !== undefined && position[dispatch.block] <= position[this.#block]) ||
      (dispatch !== undefined && position[target] <= position[dispatch.block]);
    if (isBack) {
      f.local.get(this.#budget);
      f.i32.const(this.#region.instructionCount);
      f.i32.lt_s();
      f.if("void", "unlikely");
      this.#exitTo(this.#region.blocks[target].offset, RegionExit.Interpret, 0);
      f.end();
    }
    if (this.#entries[target] === 1 && dispatch === undefined && !isLoopHead[target] && target !== 0) {
      this.#entryFlags.set(target, this.flags.state);
      if (this.x87 !== undefined) this.#entryNotes.set(target, this.x87.notes);
      // What one of its predecessors does not know, it does not know either; the locals have it.
    } else if (this.#use.usesFlags) {
      this.flags.publish();
    }
    if (dispatch !== undefined) {
      f.i32.const(dispatch.targets.indexOf(target));
      f.local.set(this.#chosen);
    }
    const label = this.#labels.get(dispatch?.block ?? target);
    invariant(label !== undefined, "structured code has a label for every jump");
    f.br(label);
  }

  /** Every way to a block has to have the same TOP. */
  #noteTop(x87: RegionX87, target: number): void {
    const known = this.#entryTops.get(target);
    if (known === undefined) this.#entryTops.set(target, x87.top);
    else if (known !== x87.top) x87.isImpossible = true;
  }

  /** To a static target, after the instruction. */
  goTo(offset: number): void {
    this.#follow(this.#region.blocks[this.#block], offset, this.executedBefore + 1);
  }

  /** To a target that only execution knows: a known return site, perhaps. */
  goToDynamic(instruction: RegionInstruction, push: () => void): void {
    const f = this.#f;
    const executed = this.executedBefore + 1;
    const rip = f.addLocal("i64");
    push();
    f.local.set(rip);
    for (const offset of computedTargets(instruction, this.#region.returnSites)) {
      const target = this.#region.blockAt.get(offset);
      if (target === undefined || !this.#region.successors[this.#block].includes(target)) continue;
      f.local.get(rip);
      this.pushRip(offset);
      f.i64.eq();
      f.if();
      this.#follow(this.#region.blocks[this.#block], offset, executed);
      f.end();
    }
    this.#exitDynamic(rip, executed);
    f.freeLocal(rip);
  }
}

/** How often each block is jumped to. */
function countEntries({ successors }: Region): number[] {
  const entries = successors.map(() => 0);
  for (const targets of successors) for (const target of targets) entries[target]++;
  return entries;
}

/** Segments that a region's accesses go through, as far as they are flat now. */
function findFlatSegments(view: StateView, { blocks }: Region): Set<number> {
  const flat = new Set<number>();
  for (const { instructions } of blocks) {
    for (const { handler, summary, record } of instructions) {
      if (handler.form.variant.long) return flat;
      for (const { segment } of summary.accesses) {
        const number = segment === "operand" ? view.u8[record + RecordField.segment] : segment;
        const { base, readEnd, writeEnd } = state.segments[number];
        if (view.get64(base) === 0n && view.get64(readEnd) === flatEnd && view.get64(writeEnd) === flatEnd) flat.add(number);
      }
    }
  }
  return flat;
}

function findUse(view: StateView, region: Region): RegisterUse {
  const use: RegisterUse = {
    general: new Set(), vectors: new Set(), writtenGeneral: new Set(), writtenVectors: new Set(), usesFlags: false, keepsCarry: false, usesSimd: false,
  };
  const note = (offset: number, isWritten: boolean): void => {
    const place = cachedPlace(offset);
    if (place === undefined) return;
    (place.file === "gpr" ? use.general : use.vectors).add(place.number);
    if (isWritten) (place.file === "gpr" ? use.writtenGeneral : use.writtenVectors).add(place.number);
  };
  for (const { instructions } of region.blocks) {
    for (const { summary, record } of instructions) {
      const field = (offset: number): number => view.u16[(record + offset) >>> 1];
      for (const offset of summary.readOffsets) note(offset, false);
      for (const offset of summary.writtenOffsets) note(offset, true);
      for (const slot of summary.readSlots) note(field(operandFields[slot]), false);
      for (const slot of summary.writtenSlots) note(field(operandFields[slot]), true);
      if (summary.usesAddress) {
        note(field(RecordField.base), false);
        note(field(RecordField.index), false);
      }
      use.usesFlags ||= summary.usesFlags;
      use.keepsCarry ||= summary.keepsCarry;
      use.usesSimd ||= summary.readOffsets.includes(state.simdFault.offset);
    }
  }
  return use;
}

/** What a region uses of the x87 unit, if the unit can be in locals there: the code is generated to see, and thrown away. */
export function findX87Use(environment: RegionEnvironment, region: Region): X87Use | undefined {
  const usesUnit = region.blocks.some(({ instructions }) => instructions.some(({ summary }) => summary.fastRoutines.some(hasX87FastPath)));
  if (!usesUnit) return undefined;
  let use: X87Use = { used: new Set(), written: new Set() };
  for (;;) {
    const f = new FunctionBuilder({ params: [], results: ["i32"] }, () => 0 as TypeIndex);
    const { isImpossible, found } = new RegionCode(environment, f, region, { x87: use }).x87!;
    if (isImpossible) return undefined;
    // A control word that changes makes different code, which may use more: that is generated once more, and no oftener.
    const control = state.x87Control.offset;
    if (use.written.has(control) || !found.written.has(control)) return found;
    use = found;
  }
}
