/** AMD's Secure Virtual Machine: VMRUN, #VMEXIT and what surrounds them (AMD APM volume 2, "Secure Virtual Machine"). */
import { hostSpace } from "../../engine/mmu.ts";
import type { SoftProcessor } from "../../engine/processor.ts";
import { Status } from "../../ir/index.ts";
import { Vector } from "../../isa/definition.ts";
import { FlagMask, hasSystemFlag } from "../../isa/flags.ts";
import * as layout from "../../isa/state.ts";
import { StateView } from "../../isa/state-view.ts";
import { supportedCr4 } from "../../isa/system/control-registers.ts";
import { deliverEvent, type ProcessorEvent } from "../../isa/system/exceptions.ts";
import { Activity, Cr0Mask, EferMask, isProtectedMode, isVirtual8086 } from "../../isa/system/mode.ts";
import { supportedEfer } from "../../isa/system/model-specific.ts";
import {
  exitVector, type BoundaryAction, type Interceptable, type PendingEvents, type Virtualization, type VirtualizationInstruction,
} from "../../isa/virtualization.ts";
import { CheckMemory, findViolation, hasNestedPaging } from "./checks.ts";
import { eventExit, ExitCode, instructionExit, Intercept, ownIntercepts, type Exit, type SvmInstruction } from "./exit-codes.ts";
import { loadAdditional, loadGuest, saveAdditional, saveGuest } from "./guest-state.ts";
import { HostState } from "./host-state.ts";
import { Interception } from "./interception.ts";
import { VirtualInterrupts } from "./interrupts.ts";
import { NestedPaging } from "./nested-paging.ts";
import { PauseFilter } from "./pause-filter.ts";
import { SvmRegisters } from "./registers.ts";
import { Control, EventInfo, EventType, ExtensionMask, Save, TlbControl } from "./vmcb.ts";

const rax = layout.gpr[0];
const rcx = layout.gpr[1];
const noException = 0xffff_ffff;
const twoPow32 = 0x1_0000_0000;
const maximumViews = 64;
const maximumInstructionBytes = 15;
const interruptShadowMask = 1;

/** Types of events as EXITINTINFO has them. */
const eventTypes: Readonly<Record<ProcessorEvent["kind"], number>> = {
  external: EventType.interrupt, nmi: EventType.nmi, exception: EventType.exception, software: EventType.software,
  "software exception": EventType.exception, "privileged software": EventType.exception,
};

export class Svm implements Virtualization {
  isGuest = false;
  readonly writableCr4Mask: number = 0;
  readonly #p: SoftProcessor;
  readonly #interception: Interception;
  readonly #interrupts = new VirtualInterrupts();
  readonly #host = new HostState();
  readonly #nested: NestedPaging;
  readonly #pauseFilter = new PauseFilter();
  readonly #registers: SvmRegisters;
  /** Views of the control blocks used last, by their place in linear memory. */
  readonly #views = new Map<number, StateView>();
  #vmcb: StateView;
  #hasNestedPaging = false;
  /** Without nested paging, host and guest share one. */
  #hostPat = 0n;
  readonly #checked = new CheckMemory();
  readonly #features: { readonly hasNestedPaging: boolean; readonly hasVirtualLoadAndSave: boolean; readonly hasNextRip: boolean; readonly hasDecodeAssists: boolean };
  /** Nested CR3 by ASID, as the translations of that ASID have it; -1 without nested paging. */
  readonly #nestedRoots = new Map<number, number>();
  #tscOffset = 0n;
  #extensions = 0;
  /** The global interrupt flag. */
  #gif = true;
  /** The exit recorded last. */
  #exit: Exit = eventExit(ExitCode.invalid);

  constructor(processor: SoftProcessor) {
    this.#p = processor;
    this.#vmcb = processor.state;
    this.#interception = new Interception(processor, processor.physical);
    this.#nested = new NestedPaging(processor.physical, () => {
      this.#exit = this.#nestedFault();
    });
    this.#registers = new SvmRegisters(processor.model);
    const { model } = processor;
    this.#features = {
      hasNestedPaging: model.hasFeature("npt"), hasVirtualLoadAndSave: model.hasFeature("v_vmsave_vmload"),
      hasNextRip: model.hasFeature("nrip_save"), hasDecodeAssists: model.hasFeature("decodeassists"),
    };
  }

  reset(kind: "reset" | "init"): void {
    if (this.isGuest) {
      this.isGuest = false;
      this.#p.memory.enterSpace(hostSpace, undefined, 0n);
    }
    this.#p.state.set32(layout.interception, 0);
    this.#gif = true;
    this.#checked.forget();
    if (kind === "reset") this.#registers.reset();
  }

  // --- registers ---------------------------------------------------------------------------------------------------

  get writableEferMask(): number {
    return this.#registers.isDisabled ? 0 : EferMask.SVME;
  }

  readMsr(index: number): bigint | undefined {
    return this.#registers.read(index);
  }

  writeMsr(index: number, value: bigint): boolean | "unknown" {
    return this.#registers.write(index, value, this.#isEnabled);
  }

  get isInUse(): boolean {
    return this.#isEnabled || this.isGuest || !this.#gif;
  }

  changedRegisters(): readonly (readonly [index: number, value: bigint])[] {
    return this.#registers.changed();
  }

  restoreRegister(index: number, value: bigint): boolean {
    return this.#registers.restore(index, value);
  }

  get #isEnabled(): boolean {
    return (this.#p.state.get32(layout.efer) & EferMask.SVME) !== 0;
  }

  guestTimeStampCounter(host: bigint): bigint {
    return BigInt.asUintN(64, this.#registers.scale(host) + this.#tscOffset);
  }

  guestTaskPriority(): number | undefined {
    return this.#interrupts.isMasking ? this.#interrupts.taskPriority & 0xf : undefined;
  }

  setGuestTaskPriority(value: number): boolean {
    // A guest's writes reach V_TPR in any case; without V_INTR_MASKING the local APIC's register, too.
    this.#interrupts.taskPriority = value;
    return this.#interrupts.isMasking;
  }

  conceals(): boolean {
    return false;
  }

  admitControlValue(_number: 0 | 4, value: bigint): bigint {
    return value;
  }

  visibleControlValue(number: 0 | 4): bigint {
    return this.#p.state.get64(number === 0 ? layout.cr0 : layout.cr4);
  }

  unblockNmi(): void {
    this.#p.state.set32(layout.nmiBlocked, 0);
  }

  takesDebugConditions(): boolean {
    return false;
  }

  // --- instructions ------------------------------------------------------------------------------------------------

  prepare(): Status {
    return this.#p.raise(Vector.UD);
  }

  execute(instruction: VirtualizationInstruction, addressBits: 16 | 32 | 64 = 64): Status {
    const p = this.#p;
    const { state } = p;
    if (!this.#isEnabled || !isOwnInstruction(instruction)) return p.raise(Vector.UD);
    if (instruction === "vmmcall") {
      return this.#isIntercepted(instruction) ? this.#record(instructionExit(Intercept.VMMCALL)) : p.raise(Vector.UD);
    }
    if (!isProtectedMode(state) || isVirtual8086(state)) return p.raise(Vector.UD);
    if (state.get32(layout.cpl) !== 0) return p.raise(Vector.GP, 0);
    const operand = BigInt.asUintN(addressBits, state.get64(rax));
    if (this.#isIntercepted(instruction)) {
      return this.#record(instructionExit(ownIntercepts[instruction], instruction === "invlpga" ? operand : 0n));
    }
    switch (instruction) {
      case "stgi": case "clgi": return this.#setGif(instruction === "stgi");
      case "invlpga": return this.#invalidatePage(state.get32(rcx), operand);
      default: return this.#executeWithVmcb(instruction, operand);
    }
  }

  #isIntercepted(instruction: SvmInstruction): boolean {
    return this.isGuest && this.#interception.has(ownIntercepts[instruction]);
  }

  #executeWithVmcb(instruction: "vmrun" | "vmload" | "vmsave", operand: bigint): Status {
    const p = this.#p;
    let address = Number(operand);
    if (address % 0x1000 !== 0 || address >= 2 ** p.model.physicalAddressBits) return p.raise(Vector.GP, 0);
    if (this.isGuest && instruction !== "vmrun" && this.#hasVirtualLoadAndSave) {
      address = this.#nested.translate(address, instruction === "vmload" ? "read" : "write", "final");
      if (address < 0) return p.raise(exitVector);
    }
    const at = p.physical.writable(address);
    // What is not RAM holds no control block.
    if (at === 0) return p.raise(Vector.GP, 0);
    const vmcb = this.#view(at);
    if (instruction === "vmrun") return this.#run(vmcb);
    if (instruction === "vmload") {
      loadAdditional(p.state, vmcb);
      p.modeChanged();
    } else {
      p.physical.announceWrite(at, 0x1000);
      saveAdditional(p.state, vmcb);
    }
    return Status.Next;
  }

  /** The guest's VMLOAD and VMSAVE name guest-physical addresses. */
  get #hasVirtualLoadAndSave(): boolean {
    return this.#hasNestedPaging && (this.#extensions & ExtensionMask.virtualLoadAndSave) !== 0;
  }

  #view(at: number): StateView {
    let view = this.#views.get(at);
    if (view === undefined) {
      if (this.#views.size === maximumViews) this.#views.clear();
      view = new StateView(this.#p.physical.bytes.buffer, at);
      this.#views.set(at, view);
    }
    return view;
  }

  #setGif(isSet: boolean): Status {
    if (this.isGuest && this.#interrupts.hasVirtualGif) this.#interrupts.virtualGif = isSet;
    else this.#gif = isSet;
    return Status.Next;
  }

  #invalidatePage(asid: number, linear: bigint): Status {
    this.#p.memory.forgetPageOf(asid, linear);
    return Status.Next;
  }

  // --- VMRUN -------------------------------------------------------------------------------------------------------

  #run(vmcb: StateView): Status {
    const p = this.#p;
    const { state } = p;
    if (!this.#isConsistent(vmcb)) return this.#refuse(vmcb);
    this.#host.save(state, p.nextRip());
    this.#vmcb = vmcb;
    this.#interception.load(vmcb);
    this.#interrupts.load(vmcb);
    this.#pauseFilter.load(vmcb);
    this.#tscOffset = vmcb.get64(Control.tscOffset);
    this.#extensions = this.#features.hasVirtualLoadAndSave ? vmcb.get32(Control.extensions) : 0;
    this.#hasNestedPaging = this.#features.hasNestedPaging && hasNestedPaging(vmcb);
    if (this.#hasNestedPaging) this.#configureNestedPaging(vmcb);
    loadGuest(state, vmcb);
    if (this.#hasNestedPaging) {
      this.#hostPat = state.get64(layout.pat);
      state.set64(layout.pat, vmcb.get64(Save.guestPat));
    }
    this.isGuest = true;
    this.#gif = true;
    state.set32(layout.interception, this.#interception.mask);
    this.#enterSpace(vmcb);
    p.modeChanged();
    if (p.memory.paging.mode === "pae") p.memory.loadPageDirectoryPointers();
    if ((vmcb.get32(Control.interruptState) & interruptShadowMask) !== 0) state.set32(layout.interruptShadow, 1);
    this.#inject(vmcb);
    return Status.Branch;
  }

  #isConsistent(vmcb: StateView): boolean {
    const p = this.#p;
    const hasHostPaging = (p.state.get32(layout.cr0) & Cr0Mask.PG) !== 0;
    if (this.#checked.isKnown(vmcb, hasHostPaging)) return true;
    const isConsistent = findViolation(vmcb, {
      model: p.model, writableCr4Mask: supportedCr4(p), writableEferMask: supportedEfer(p), hasHostPaging,
    }) === undefined;
    if (isConsistent) this.#checked.keep(vmcb, hasHostPaging);
    return isConsistent;
  }

  /** VMEXIT_INVALID: the guest has not run, and its state stays as it is. */
  #refuse(vmcb: StateView): Status {
    const allOnes = 0xffff_ffff_ffff_ffffn;
    this.#p.physical.announceWrite(vmcb.base, 0x1000);
    vmcb.set64(Control.exitCode, allOnes);
    vmcb.set64(Control.exitInfo1, 0n);
    vmcb.set64(Control.exitInfo2, 0n);
    vmcb.set32(Control.exitInterruptInfo, 0);
    this.#gif = false;
    return Status.Next;
  }

  /** The nested tables have the form of the host's own. */
  #configureNestedPaging(vmcb: StateView): void {
    const { paging } = this.#nested;
    const host = this.#p.memory.paging;
    const rootLow = vmcb.get32(Control.nestedCr3), rootHigh = vmcb.getHigh32(Control.nestedCr3);
    paging.mode = host.mode;
    paging.root = host.mode === "pae" ? (rootLow & 0xffff_ffe0) >>> 0 : (rootLow & 0xffff_f000) >>> 0;
    if (host.mode === "level4" || host.mode === "level5") paging.root += (rootHigh & 0xf_ffff) * twoPow32;
    paging.noExecute = host.noExecute;
    paging.pageSizeExtension = host.pageSizeExtension;
    paging.smep = host.smep;
    paging.physicalAddressBits = host.physicalAddressBits;
    paging.gigabytePages = host.gigabytePages;
    if (host.mode === "pae") this.#p.physical.readRange(paging.root, new Uint8Array(paging.pdpte.buffer));
  }

  #enterSpace(vmcb: StateView): void {
    const { memory } = this.#p;
    const asid = vmcb.get32(Control.asid);
    switch (vmcb.get8(Control.tlbControl)) {
      case TlbControl.nothing: break;
      case TlbControl.flushAll:
        memory.flush({ keepGlobal: false });
        memory.forgetGuestSpaces();
        break;
      default:
        memory.forgetSpace(asid);
    }
    const nestedRoot = this.#hasNestedPaging ? this.#nested.paging.root : -1;
    if (this.#nestedRoots.get(asid) !== nestedRoot) {
      memory.forgetSpace(asid);
      this.#nestedRoots.set(asid, nestedRoot);
    }
    memory.noteRoot(this.#host.root);
    memory.enterSpace(asid, this.#hasNestedPaging ? this.#nested : undefined, this.#p.state.get64(layout.cr3));
  }

  /** Delivers the event that EVENTINJ names. */
  #inject(vmcb: StateView): void {
    const info = vmcb.get32(Control.eventInjection);
    if ((info & EventInfo.validMask) === 0) return;
    const type = (info >>> EventInfo.typeShift) & 7;
    const vector = type === EventType.nmi ? Vector.NMI : info & 0xff;
    const errorCode = (info & EventInfo.errorCodeValidMask) !== 0 ? vmcb.get32(Control.eventInjectionError) : undefined;
    const isByInstruction = type === EventType.software || (type === EventType.exception && (vector === Vector.BP || vector === Vector.OF));
    const { state } = this.#p;
    // What an instruction would have raised comes back behind it: NEXT_RIP says where that is.
    const instructionLength = isByInstruction ? Number(BigInt.asIntN(64, vmcb.get64(Control.nextRip) - state.get64(layout.rip))) : 0;
    deliverEvent(this.#p, { vector, errorCode, kind: injectedKind(type, isByInstruction), instructionLength, isInjected: true });
  }

  // --- interception ------------------------------------------------------------------------------------------------

  #record(exit: Exit): Status {
    this.#exit = exit;
    return this.#p.raise(exitVector);
  }

  #nestedFault(): Exit {
    return {
      code: ExitCode.nestedPageFault, info1: this.#nested.faultInfo, info2: BigInt(this.#nested.faultAddress), hasNextRip: false,
      hasInstructionBytes: this.#isWithinInstruction,
    };
  }

  /** Not while an instruction is fetched. */
  get #isWithinInstruction(): boolean {
    return this.#p.state.get32(layout.currentRecord) !== 0;
  }

  intercepts(instruction: Interceptable): boolean {
    const exit = instruction.kind === "pause" ? this.#pause() : this.#interception.exitOf(instruction);
    if (exit === undefined) return false;
    this.#record(exit);
    return true;
  }

  #pause(): Exit | undefined {
    const isLetThrough = !this.#interception.has(Intercept.PAUSE) || this.#pauseFilter.letsThrough(this.#p.bus.timeStampCounter());
    return isLetThrough ? undefined : instructionExit(Intercept.PAUSE);
  }

  interceptsEvent(event: ProcessorEvent): boolean {
    const isException = event.kind === "exception" || event.kind === "software exception" || event.kind === "privileged software";
    if (!isException || !this.#interception.hasException(event.vector)) return false;
    const isPageFault = event.vector === Vector.PF;
    this.#exit = {
      code: ExitCode.exception + event.vector, info1: BigInt(event.errorCode ?? 0),
      info2: isPageFault ? this.#p.state.get64(layout.pageFaultAddress) : 0n,
      hasNextRip: event.kind !== "exception", hasInstructionBytes: isPageFault && this.#isWithinInstruction,
    };
    return true;
  }

  interceptsShutdown(): boolean {
    this.#exit = eventExit(ExitCode.miscellaneous + Intercept.SHUTDOWN);
    return this.#interception.has(Intercept.SHUTDOWN);
  }

  // --- events between instructions ---------------------------------------------------------------------------------

  get decidesEvents(): boolean {
    return this.isGuest || !this.#gif;
  }

  /** Whether physical interrupts are taken, by RFLAGS.IF of who it belongs to. */
  get #admitsInterrupts(): boolean {
    return this.isGuest && this.#interrupts.isMasking ? this.#host.hasInterruptFlag : hasSystemFlag(this.#p.state, FlagMask.IF);
  }

  get #hasVirtualInterrupt(): boolean {
    return this.isGuest && this.#interrupts.isPending && hasSystemFlag(this.#p.state, FlagMask.IF);
  }

  hasEvent({ nmi, interrupt }: PendingEvents): boolean {
    if (!this.#gif) return false;
    return nmi || (interrupt && this.#admitsInterrupts) || this.#hasVirtualInterrupt;
  }

  takeEvent({ nmi, interrupt, shadow }: PendingEvents): BoundaryAction {
    if (!this.#gif) return "none";
    const bySsMask = 2;
    if (nmi && this.#p.state.get32(layout.nmiBlocked) === 0 && (shadow & bySsMask) === 0) return this.#exitOrTake(Intercept.NMI, "nmi");
    if (shadow !== 0) return "none";
    if (interrupt && this.#admitsInterrupts) return this.#exitOrTake(Intercept.INTR, "interrupt");
    if (!this.#hasVirtualInterrupt) return "none";
    if (this.#interception.has(Intercept.VINTR)) return this.#exitOrTake(Intercept.VINTR, "interrupt");
    this.#interrupts.acknowledge();
    deliverEvent(this.#p, { vector: this.#interrupts.vector, kind: "external" });
    return "done";
  }

  #exitOrTake(intercept: number, action: "nmi" | "interrupt"): BoundaryAction {
    if (!this.isGuest || !this.#interception.has(intercept)) return action;
    this.#exit = eventExit(ExitCode.miscellaneous + intercept);
    this.exit(undefined);
    return "done";
  }

  readonly stepsAlone: boolean = false;

  admitsStartUp(): boolean {
    return true;
  }

  admitReset(kind: "reset" | "init"): "admitted" | "pending" {
    if (kind === "reset") return "admitted";
    if (this.#gif && this.isGuest && this.#interception.has(Intercept.INIT)) {
      this.#exit = eventExit(ExitCode.miscellaneous + Intercept.INIT);
      this.#p.state.set32(layout.currentRecord, 0);
      this.exit(undefined);
    }
    return this.#gif ? "admitted" : "pending";
  }

  // --- #VMEXIT -----------------------------------------------------------------------------------------------------

  exit(during: ProcessorEvent | undefined): void {
    const p = this.#p;
    const { state } = p;
    const vmcb = this.#vmcb;
    // A copy: reading the instruction's bytes may run into violations of its own.
    const exit = this.#exit;
    const shadow = p.currentShadow();
    p.physical.announceWrite(vmcb.base, 0x1000);
    vmcb.set64(Control.nextRip, exit.hasNextRip && this.#features.hasNextRip ? p.nextRip() : 0n);
    this.#saveInstructionBytes(vmcb, exit);
    vmcb.setHalves(Control.exitCode, exit.code, 0);
    vmcb.set64(Control.exitInfo1, exit.info1);
    vmcb.set64(Control.exitInfo2, exit.info2);
    this.#saveInterruptedEvent(vmcb, during);
    vmcb.set32(Control.eventInjection, vmcb.get32(Control.eventInjection) & ~EventInfo.validMask);
    vmcb.set32(Control.interruptState, shadow !== 0 ? interruptShadowMask : 0);
    this.#interrupts.save(vmcb);
    saveGuest(state, vmcb);
    if (this.#hasNestedPaging) {
      vmcb.set64(Save.guestPat, state.get64(layout.pat));
      state.set64(layout.pat, this.#hostPat);
    }
    p.memory.noteRoot(state.get64(layout.cr3));
    this.#enterHost();
  }

  #enterHost(): void {
    const p = this.#p;
    const { state } = p;
    this.isGuest = false;
    this.#gif = false;
    this.#host.restore(state);
    state.set32(layout.interception, 0);
    state.set32(layout.exceptionVector, noException);
    state.set32(layout.interruptShadow, 0);
    state.set32(layout.activity, Activity.active);
    p.memory.enterSpace(hostSpace, undefined, state.get64(layout.cr3));
    p.dropSingleStep();
    p.modeChanged();
    if (p.memory.paging.mode === "pae") p.memory.loadPageDirectoryPointers();
  }

  #saveInstructionBytes(vmcb: StateView, exit: Exit): void {
    const isGiven = exit.hasInstructionBytes && this.#features.hasDecodeAssists;
    const bytes = isGiven ? this.#p.currentBytes() : undefined;
    vmcb.set8(Control.instructionBytesFetched, bytes?.length ?? 0);
    if (bytes === undefined) return;
    const first = vmcb.base + Control.instructionBytes.offset;
    vmcb.u8.fill(0, first, first + maximumInstructionBytes);
    vmcb.u8.set(bytes, first);
  }

  #saveInterruptedEvent(vmcb: StateView, event: ProcessorEvent | undefined): void {
    let info = 0;
    if (event !== undefined) {
      info = (event.vector | (eventTypes[event.kind] << EventInfo.typeShift) | EventInfo.validMask) >>> 0;
      if (event.errorCode !== undefined) info = (info | EventInfo.errorCodeValidMask) >>> 0;
    }
    vmcb.set32(Control.exitInterruptInfo, info);
    vmcb.set32(Control.exitInterruptError, event?.errorCode ?? 0);
  }
}

function isOwnInstruction(instruction: VirtualizationInstruction): instruction is SvmInstruction {
  return Object.hasOwn(ownIntercepts, instruction);
}

function injectedKind(type: number, isByInstruction: boolean): ProcessorEvent["kind"] {
  switch (type) {
    case EventType.interrupt: return "external";
    case EventType.nmi: return "nmi";
    case EventType.software: return "software";
    default: return isByInstruction ? "software exception" : "exception";
  }
}
