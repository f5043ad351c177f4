/** Runs cases on our soft processor: a case's record becomes state, one instruction is executed, state becomes a result's record. */
import { allFlagsMask, readFlags, writeFlags } from "../../src/isa/flags.ts";
import * as state from "../../src/isa/state.ts";
import { is64BitMode } from "../../src/isa/system/mode.ts";
import { CaseFlag, defaultSelectors, FxsaveOffset, MemoryMap, Outcome, recordBytes, RecordOffset, windowBytes, wroteOutsideFlag } from "./layout.ts";
import type { CaseBatch, ProcessorUnderTest, ResultBatch, Way } from "./layout.ts";
import type { SoftMachine } from "./soft-machine.ts";

/** How one instruction, or one iteration of a repeated one, ended. */
export const StepResult = { done: 0, fault: 1 } as const;
export type StepResult = (typeof StepResult)[keyof typeof StepResult];

/** A way to execute instructions. */
export interface Tier {
  /** Executes the instruction at state.rip; a fault is recorded in the state and not delivered. */
  step(): StepResult;
  /** Instructions that this tier itself has counted. */
  readonly executed: number;
  /** What compiled code did since the last call, in a case that faulted or did not. */
  takeWay?(hasFaulted: boolean): Way;
}

/** Iterations of a repeated instruction before it counts as endless. */
const iterationLimit = 70_000;
const alignmentCheckFlag = 0x4_0000;
const noException = 0xffff_ffff;
const topShift = 11;

export class SoftProcessorUnderTest implements ProcessorUnderTest {
  readonly name: string;
  readonly ways: Way[] = [];
  private readonly machine: SoftMachine;
  private readonly tier: Tier;
  private readonly defaultSegments: readonly number[];
  /** Code and stack segment and alignment check are as most cases have them, and the processor knows. */
  private isInDefaultMode = false;

  constructor(name: string, machine: SoftMachine, tier: Tier) {
    this.name = name;
    this.machine = machine;
    this.tier = tier;
    const { ds, es, fs, gs, cs, ss } = defaultSelectors(machine.bits);
    this.defaultSegments = [es, cs, ss, ds, fs, gs];
  }

  get executed(): number {
    return this.tier.executed;
  }

  run(cases: CaseBatch, results: ResultBatch): void {
    results.count = cases.count;
    this.ways.length = 0;
    for (let index = 0; index < cases.count; index++) this.runOne(cases, index, results);
  }

  private runOne(cases: CaseBatch, index: number, results: ResultBatch): void {
    const { machine } = this;
    const { processor, bytes } = machine;
    const s = processor.state;
    const start = index * recordBytes;
    const window = machine.dataOffset(cases.windowAddress(index));
    machine.restore();
    const segments = this.load(cases, index);
    bytes.set(cases.bytes.subarray(start + RecordOffset.window, start + recordBytes), window);
    const codeOffset = cases.codeOffset(index);
    const code = cases.instruction(index).subarray(0, MemoryMap.pageBytes - codeOffset);
    machine.writeCode(codeOffset, code);
    const entry = BigInt(MemoryMap.codePage + codeOffset) - s.get64(state.segments[1].base);
    s.set64(state.rip, entry);

    const rflags = Number(cases.rflags(index));
    // `restore` put back what belongs to the default mode.
    const isDefaultMode = (rflags & alignmentCheckFlag) === 0 && segments[1] === this.defaultSegments[1] &&
      segments[2] === this.defaultSegments[2];
    if (!isDefaultMode || !this.isInDefaultMode) processor.modeChanged();
    this.isInDefaultMode = isDefaultMode;

    let result: StepResult = this.tier.step();
    let iterations = 1;
    while (result === StepResult.done && s.get64(state.rip) === entry && iterations < iterationLimit) {
      result = this.tier.step();
      iterations++;
    }
    if (this.tier.takeWay !== undefined) this.ways.push(this.tier.takeWay(result === StepResult.fault));
    const isEndless = result === StepResult.done && s.get64(state.rip) === entry;
    this.store(results, index, result, isEndless);
    results.bytes.set(bytes.subarray(window, window + windowBytes), start + RecordOffset.window);
    this.tidy(results, index, window, codeOffset, code.length);
    if (this.hasOtherMode(segments, rflags)) this.isInDefaultMode = false;
  }

  /** Registers, flags and x87, MMX and SSE state; returns the segments. */
  private load(cases: CaseBatch, index: number): readonly number[] {
    const { machine } = this;
    const s = machine.processor.state;
    let segments = this.defaultSegments;
    if (cases.caseFlags(index) & CaseFlag.loadSegments) {
      const { ds, es, fs, gs, cs, ss } = cases.selectors(index);
      segments = [es, cs, ss, ds, fs, gs];
    }
    machine.loadSegments(segments);
    const from = (index * recordBytes) / 8;
    const gprFrom = from + RecordOffset.gpr / 8, gprTo = (s.base + state.gpr[0].offset) / 8;
    for (let register = 0; register < 16; register++) s.u64[gprTo + register] = cases.words[gprFrom + register];
    if (cases.bits === 64) {
      s.set64(state.segments[4].base, cases.words[from + RecordOffset.fsBase / 8]);
      s.set64(state.segments[5].base, cases.words[from + RecordOffset.gsBase / 8]);
    }
    writeFlags(s, Number(cases.rflags(index)) & ~0x100, allFlagsMask);
    const image = index * recordBytes + RecordOffset.fxsave;
    const words = cases.ints, { ints } = machine;
    const status = cases.view.getUint16(image + FxsaveOffset.fsw, true);
    s.set16(state.x87Control, cases.view.getUint16(image + FxsaveOffset.fcw, true));
    s.set16(state.x87Status, status);
    s.set16(state.x87Tag, cases.bytes[image + FxsaveOffset.ftw]);
    s.set32(state.mxcsr, cases.view.getUint32(image + FxsaveOffset.mxcsr, true));
    const top = (status >> topShift) & 7;
    for (let register = 0; register < 8; register++) {
      const source = (image + FxsaveOffset.st) / 4 + 4 * register;
      const target = (s.base + state.x87[(top + register) & 7].offset) / 4;
      ints[target] = words[source];
      ints[target + 1] = words[source + 1];
      ints[target + 2] = words[source + 2] & 0xffff;
      ints[target + 3] = 0;
    }
    for (let register = 0; register < 16; register++) {
      const source = (image + FxsaveOffset.xmm) / 4 + 4 * register;
      const target = (s.base + state.xmm[register].offset) / 4;
      for (let word = 0; word < 4; word++) ints[target + word] = words[source + word];
    }
    return segments;
  }

  private store(results: ResultBatch, index: number, result: StepResult, isEndless: boolean): void {
    const { machine } = this;
    const { processor } = machine;
    const s = processor.state;
    const start = index * recordBytes;
    const { bytes, view, words } = results;
    bytes.fill(0, start, start + RecordOffset.window);
    const delivered = machine.delivered();
    let rip = s.get64(state.rip), flags = BigInt(readFlags(s));
    let cs = s.get16(state.segments[1].selector), ss = s.get16(state.segments[2].selector);
    const gprFrom = (s.base + state.gpr[0].offset) / 8, gprTo = (start + RecordOffset.gpr) / 8;
    for (let register = 0; register < 16; register++) words[gprTo + register] = s.u64[gprFrom + register];
    // Of compatibility mode the host's kernel shows 32 bits, since the case ends by a trap there.
    if (results.bits === 64 && !is64BitMode(s)) words[gprTo + 4] &= 0xffff_ffffn;
    if (isEndless) bytes[start + RecordOffset.outcome] = Outcome.timeout;
    if (delivered !== undefined) {
      bytes[start + RecordOffset.outcome] = Outcome.fault;
      bytes[start + RecordOffset.vector] = delivered.vector;
      view.setUint32(start + RecordOffset.errorCode, delivered.errorCode, true);
      ({ rip, cs, ss, rflags: flags } = delivered);
      words[gprTo + 4] = delivered.rsp;
    } else if (result === StepResult.fault) {
      const vector = s.get32(state.exceptionVector);
      bytes[start + RecordOffset.outcome] = Outcome.fault;
      bytes[start + RecordOffset.vector] = vector;
      view.setUint32(start + RecordOffset.errorCode, s.get32(state.exceptionErrorCode), true);
      if (vector === 14) words[(start + RecordOffset.cr2) / 8] = s.get64(state.pageFaultAddress);
      rip = processor.currentRip();
    }
    words[(start + RecordOffset.rip) / 8] = rip;
    words[(start + RecordOffset.rflags) / 8] = flags;
    words[(start + RecordOffset.fsBase) / 8] = s.get64(state.segments[4].base);
    words[(start + RecordOffset.gsBase) / 8] = s.get64(state.segments[5].base);
    for (const [place, number] of [3, 0, 4, 5].entries()) {
      view.setUint16(start + RecordOffset.selectors + 2 * place, s.get16(state.segments[number].selector), true);
    }
    view.setUint16(start + RecordOffset.selectors + 8, cs, true);
    view.setUint16(start + RecordOffset.selectors + 10, ss, true);
    this.storeFloatingState(results, start + RecordOffset.fxsave);
  }

  private storeFloatingState({ bytes, view, ints: words }: ResultBatch, image: number): void {
    const { processor, ints } = this.machine;
    const s = processor.state;
    const status = s.get16(state.x87Status);
    view.setUint16(image + FxsaveOffset.fcw, s.get16(state.x87Control), true);
    view.setUint16(image + FxsaveOffset.fsw, status, true);
    bytes[image + FxsaveOffset.ftw] = s.get16(state.x87Tag);
    view.setUint32(image + FxsaveOffset.mxcsr, s.get32(state.mxcsr), true);
    const top = (status >> topShift) & 7;
    for (let register = 0; register < 8; register++) {
      const source = (s.base + state.x87[(top + register) & 7].offset) / 4;
      const target = (image + FxsaveOffset.st) / 4 + 4 * register;
      for (let word = 0; word < 3; word++) words[target + word] = ints[source + word];
    }
    for (let register = 0; register < 16; register++) {
      const source = (s.base + state.xmm[register].offset) / 4;
      const target = (image + FxsaveOffset.xmm) / 4 + 4 * register;
      for (let word = 0; word < 4; word++) words[target + word] = ints[source + word];
    }
  }

  /** Zeroes the data page and fills the code page again, telling of writes outside of the window. */
  private tidy(results: ResultBatch, index: number, window: number, codeOffset: number, codeBytes: number): void {
    const { bytes, ints, codeOffset: codePage } = this.machine;
    const page = window - (window % MemoryMap.pageBytes);
    bytes.fill(0, window, window + windowBytes);
    let outside = 0;
    bytes.fill(0xcc, codePage + codeOffset, codePage + codeOffset + codeBytes);
    for (let word = codePage / 4; word < (codePage + MemoryMap.pageBytes) / 4; word++) outside |= ints[word] ^ 0xcccc_cccc;
    if (outside !== 0) bytes.fill(0xcc, codePage, codePage + MemoryMap.pageBytes);
    for (let word = page / 4; word < (page + MemoryMap.pageBytes) / 4; word++) outside |= ints[word];
    if (outside !== 0) {
      results.view.setUint16(index * recordBytes + RecordOffset.resultFlags, wroteOutsideFlag, true);
      bytes.fill(0, page, page + MemoryMap.pageBytes);
    }
  }

  /** Whether the instruction left the mode that the case began in. */
  private hasOtherMode(segments: readonly number[], rflags: number): boolean {
    const s = this.machine.processor.state;
    s.set32(state.exceptionVector, noException);
    return s.get32(state.cpl) !== 3 || s.get16(state.segments[1].selector) !== segments[1] ||
      s.get16(state.segments[2].selector) !== segments[2] ||
      ((s.get32(state.systemFlags) ^ rflags) & (alignmentCheckFlag | 0x100)) !== 0;
  }
}
