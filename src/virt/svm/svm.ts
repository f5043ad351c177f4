/** AMD's Secure Virtual Machine as the processor's virtualization extension (AMD APM volume 2, "Secure Virtual Machine"). */
import type { SoftProcessor } from "../../engine/processor.ts";
import { Status } from "../../ir/index.ts";
import { Vector } from "../../isa/definition.ts";
import * as layout from "../../isa/state.ts";
import type { ProcessorEvent } from "../../isa/system/exceptions.ts";
import { EferMask, isProtectedMode, isVirtual8086 } from "../../isa/system/mode.ts";
import {
  exitVector, type BoundaryAction, type BranchRecord, type ControlBlock, type Interceptable, type PendingEvents, type Transition, type Virtualization,
  type VirtualizationInstruction,
} from "../../isa/virtualization.ts";
import { SvmContext } from "./context.ts";
import { describeVmcb } from "./description.ts";
import { runGuest } from "./entry.ts";
import { admitInit, hasEvent, retryAlone, takeEvent } from "./events.ts";
import { eventExit, ExitCode, instructionExit, Intercept, ownIntercepts, type Exit, type SvmInstruction } from "./exit-codes.ts";
import { leaveGuest } from "./exit.ts";
import { loadAdditional, saveAdditional } from "./guest-state.ts";
import { restoreContext, saveContext, type SvmState } from "./saved-state.ts";
import { vmcbBytes } from "./vmcb.ts";

const rax = layout.gpr[0];
const rcx = layout.gpr[1];

export class Svm implements Virtualization {
  readonly extension = "svm" as const;
  readonly writableCr4Mask: number = 0;
  readonly #context: SvmContext;

  constructor(processor: SoftProcessor) {
    this.#context = new SvmContext(processor);
  }

  get isGuest(): boolean {
    return this.#context.isGuest;
  }

  get observer(): ((transition: Transition) => void) | undefined {
    return this.#context.observer;
  }

  set observer(observer: ((transition: Transition) => void) | undefined) {
    this.#context.observer = observer;
  }

  get isOn(): boolean {
    return this.#context.isEnabled;
  }

  controlBlock(): ControlBlock | undefined {
    return describeVmcb(this.#context);
  }

  reset(kind: "reset" | "init"): void {
    this.#context.reset(kind);
  }

  get state(): SvmState {
    return saveContext(this.#context);
  }

  /** Before the engine is told of the registers, which are there already. */
  restore(state: SvmState): void {
    restoreContext(this.#context, state);
  }

  // --- registers ---------------------------------------------------------------------------------------------------

  get writableEferMask(): number {
    return this.#context.registers.isDisabled ? 0 : EferMask.SVME;
  }

  readMsr(index: number): bigint | undefined {
    return this.#context.registers.read(index);
  }

  writeMsr(index: number, value: bigint): boolean | "unknown" {
    const { registers, isEnabled, processor } = this.#context;
    const isWritten = registers.write(index, value, isEnabled);
    // From the next instruction on.
    if (registers.branches.isRecording) processor.attend();
    return isWritten;
  }

  changedRegisters(): readonly (readonly [index: number, value: bigint])[] {
    return this.#context.registers.changed();
  }

  restoreRegister(index: number, value: bigint): boolean {
    return this.#context.registers.restore(index, value);
  }

  guestTimeStampCounter(host: bigint): bigint {
    return BigInt.asUintN(64, this.#context.registers.scale(host) + this.#context.tscOffset);
  }

  guestTaskPriority(): number | undefined {
    const { interrupts, avic } = this.#context;
    if (avic.isEnabled) return avic.taskPriority;
    return interrupts.isMasking ? interrupts.taskPriority & 0xf : undefined;
  }

  get stepsAlone(): boolean {
    return this.#context.registers.branches.isRecording || this.#context.soloBoundaries > 0;
  }

  get branchRecord(): BranchRecord | undefined {
    const { branches } = this.#context.registers;
    return branches.isRecording ? branches : undefined;
  }

  setGuestTaskPriority(value: number): boolean {
    // A guest's writes reach V_TPR in any case; without V_INTR_MASKING the local APIC's register, too.
    const { interrupts, avic } = this.#context;
    interrupts.taskPriority = value;
    if (avic.isEnabled) avic.taskPriority = value;
    return interrupts.isMasking || avic.isEnabled;
  }

  conceals(): boolean {
    return false;
  }

  admitControlValue(_number: 0 | 4, value: bigint): bigint {
    return value;
  }

  visibleControlValue(number: 0 | 4): bigint {
    return this.#context.processor.state.get64(number === 0 ? layout.cr0 : layout.cr4);
  }

  unblockNmi(): void {
    const { interrupts, processor } = this.#context;
    if (interrupts.hasVirtualNmi) interrupts.isNmiMasked = false;
    else processor.state.set32(layout.nmiBlocked, 0);
  }

  takesDebugConditions(): boolean {
    return false;
  }

  // --- instructions ------------------------------------------------------------------------------------------------

  prepare(): Status {
    return this.#context.processor.raise(Vector.UD);
  }

  execute(instruction: VirtualizationInstruction, addressBits: 16 | 32 | 64 = 64): Status {
    const { processor: p, isEnabled } = this.#context;
    const { state } = p;
    if (!isEnabled || !isOwnInstruction(instruction)) return p.raise(Vector.UD);
    if (instruction === "vmmcall") {
      return this.#isIntercepted(instruction) ? this.#context.record(instructionExit(Intercept.VMMCALL)) : p.raise(Vector.UD);
    }
    if (!isProtectedMode(state) || isVirtual8086(state)) return p.raise(Vector.UD);
    if (state.get32(layout.cpl) !== 0) return p.raise(Vector.GP, 0);
    const operand = BigInt.asUintN(addressBits, state.get64(rax));
    if (this.#isIntercepted(instruction)) {
      return this.#context.record(instructionExit(ownIntercepts[instruction], instruction === "invlpga" ? operand : 0n));
    }
    switch (instruction) {
      case "stgi": case "clgi": return this.#setGif(instruction === "stgi");
      case "invlpga":
        p.memory.forgetPageOf(state.get32(rcx), operand);
        return Status.Next;
      default: return this.#executeWithVmcb(instruction, Number(operand));
    }
  }

  #isIntercepted(instruction: SvmInstruction): boolean {
    return this.#context.isGuest && this.#context.interception.has(ownIntercepts[instruction]);
  }

  #executeWithVmcb(instruction: "vmrun" | "vmload" | "vmsave", operand: number): Status {
    const context = this.#context;
    const p = context.processor;
    if (operand % vmcbBytes !== 0 || operand >= 2 ** p.model.physicalAddressBits) return p.raise(Vector.GP, 0);
    let address = operand;
    if (instruction !== "vmrun" && context.hasVirtualLoadAndSave) {
      address = context.nested.translate(address, instruction === "vmload" ? "read" : "write", "final");
      if (address < 0) return p.raise(exitVector);
    }
    const at = p.physical.writable(address);
    // What is not RAM holds no control block.
    if (at === 0) return p.raise(Vector.GP, 0);
    const vmcb = context.view(at);
    switch (instruction) {
      case "vmrun":
        context.vmcbAddress = address;
        return runGuest(context, vmcb);
      case "vmload":
        loadAdditional(p.state, vmcb);
        p.modeChanged();
        return Status.Next;
      default:
        p.physical.announceWrite(at, vmcbBytes);
        saveAdditional(p.state, vmcb);
        return Status.Next;
    }
  }

  #setGif(isSet: boolean): Status {
    const context = this.#context;
    if (context.isGuest && context.interrupts.hasVirtualGif) context.interrupts.virtualGif = isSet;
    else context.gif = isSet;
    return Status.Next;
  }

  // --- interception ------------------------------------------------------------------------------------------------

  intercepts(instruction: Interceptable): boolean {
    const exit = instruction.kind === "pause" ? this.#pause() : this.#context.interception.exitOf(instruction);
    if (exit === undefined) return false;
    this.#context.record(exit);
    return true;
  }

  #pause(): Exit | undefined {
    const { interception, pauseFilter, processor } = this.#context;
    const isLetThrough = !interception.has(Intercept.PAUSE) || pauseFilter.letsThrough(processor.bus.timeStampCounter());
    return isLetThrough ? undefined : instructionExit(Intercept.PAUSE);
  }

  interceptsEvent(event: ProcessorEvent): boolean {
    const { interception, processor, isWithinInstruction } = this.#context;
    const isException = event.kind === "exception" || event.kind === "software exception" || event.kind === "privileged software";
    if (!isException || !interception.hasException(event.vector)) return false;
    const isPageFault = event.vector === Vector.PF;
    this.#context.exit = {
      code: ExitCode.exception + event.vector, info1: BigInt(event.errorCode ?? 0),
      info2: isPageFault ? processor.state.get64(layout.pageFaultAddress) : 0n,
      hasNextRip: event.kind !== "exception", hasInstructionBytes: isPageFault && isWithinInstruction,
    };
    return true;
  }

  interceptsShutdown(): boolean {
    this.#context.exit = eventExit(ExitCode.miscellaneous + Intercept.SHUTDOWN);
    return this.#context.interception.has(Intercept.SHUTDOWN);
  }

  exit(during: ProcessorEvent | undefined): void {
    if (this.#context.avic.wantsAlone && retryAlone(this.#context, during)) return;
    leaveGuest(this.#context, during);
  }

  // --- events between instructions ---------------------------------------------------------------------------------

  get decidesEvents(): boolean {
    return this.#context.isGuest || !this.#context.gif;
  }

  get isGuestOrdinary(): boolean {
    const { interception, interrupts, avic } = this.#context;
    return interrupts.areIdle && !avic.isEnabled && !interception.has(Intercept.IRET);
  }

  get keepsPageFaults(): boolean {
    return !this.#context.interception.hasException(Vector.PF);
  }

  hasEvent(pending: PendingEvents): boolean {
    return hasEvent(this.#context, pending);
  }

  takeEvent(pending: PendingEvents): BoundaryAction {
    if (this.#context.soloBoundaries > 0) this.#context.soloBoundaries--;
    return takeEvent(this.#context, pending);
  }

  admitsStartUp(): boolean {
    return true;
  }

  admitReset(kind: "reset" | "init"): "admitted" | "pending" {
    return kind === "reset" ? "admitted" : admitInit(this.#context);
  }
}

function isOwnInstruction(instruction: VirtualizationInstruction): instruction is SvmInstruction {
  return Object.hasOwn(ownIntercepts, instruction);
}
