/** Intel's VMX: operation modes, VM entry and VM exit, events between instructions (SDM volume 3, "Introduction to Virtual Machine Extensions" and after). */
import type { Space } from "../../engine/mmu.ts";
import type { SecondStage } from "../../engine/page-walk.ts";
import type { ResumingTransition, SoftProcessor } from "../../engine/processor.ts";
import { Status } from "../../ir/index.ts";
import { Vector } from "../../isa/definition.ts";
import { FlagMask, hasSystemFlag } from "../../isa/flags.ts";
import * as layout from "../../isa/state.ts";
import { deliverEvent, type ProcessorEvent } from "../../isa/system/exceptions.ts";
import { flagsImage } from "../../isa/system/interrupt-delivery.ts";
import { shutDown } from "../../isa/system/shutdown.ts";
import { Activity, Cr0Mask, isLongMode } from "../../isa/system/mode.ts";
import { supportedEfer } from "../../isa/system/model-specific.ts";
import {
  exitVector, type BoundaryAction, type ConcealableInstruction, type ControlBlock, type Interceptable, type PendingEvents, type Virtualization,
  type Transition, type VirtualizationInstruction,
} from "../../isa/virtualization.ts";
import { cr0FixedToOne, cr4FixedToOne, FeatureControlMask, featureControlValues, VmxMsr } from "./capabilities.ts";
import { ActivityState, hasReservedPointer, InterruptibilityMask, PendingDebugMask } from "./checks/guest.ts";
import { findEntryFailure, hasCanonicalRip, looksAtMemory } from "./checks/index.ts";
import { Unchecked } from "./checks/pending.ts";
import type { EntryEnvironment } from "./checks/view.ts";
import { Control } from "./controls.ts";
import { noAddress, VmxContext, type ExitSink } from "./context.ts";
import { EventDecision } from "./events.ts";
import { describeVmcs } from "./description.ts";
import { accessExit, boundaryExit, eventExit, ExitReason, exitReasonName, instructionExit, type Exit } from "./exit-reasons.ts";
import { apicAccessQualification, ApicAccessType, ExtendedPageTables } from "./extended-page-tables.ts";
import { Field } from "./fields.ts";
import { debugControlMsr, loadGuestState, loadPageDirectoryPointers, saveGuestState } from "./guest-state.ts";
import { loadHostState } from "./host-state.ts";
import { InstructionError, VmxInstructions } from "./instructions.ts";
import { Interception } from "./interception.ts";
import { encodeInterruption, InterruptionMask, InterruptionType, parseInterruption, type Interruption } from "./interruption.ts";
import { loadMsrArea, storeMsrArea } from "./msr-areas.ts";
import type { VmxGuestState, VmxState } from "./saved-state.ts";
import { PreemptionTimer } from "./preemption-timer.ts";
import { Translations } from "./translations.ts";
import { VirtualApic } from "./virtual-apic.ts";
import { VirtualizationExceptions } from "./virtualization-exceptions.ts";
import type { Vmcs } from "./vmcs.ts";
import { VmFunctions } from "./vm-functions.ts";

const noException = 0xffff_ffff;
/** Pending debug exceptions that VM entry loads. */
const loadedDebugMask = Number(PendingDebugMask.breakpoints | PendingDebugMask.singleStep);
const entryFailureMask = 0x8000_0000;
/** Reasons that are written to the VMX-abort indicator (SDM volume 3, "VMX Aborts"). */
const Abort = { msrStore: 1, pageDirectoryPointers: 2, msrLoad: 4 } as const;
/** Bits of IA32_DEBUGCTL that the CPU models have. */
const debugControlMask = 3n;

/** Controls with which a transition does more than to load and save registers. */
const unusualControls = [
  Control.preemptionTimer, Control.tprShadow, Control.virtualInterruptDelivery, Control.apicAccesses, Control.monitorTrapFlag,
  Control.interruptWindowExiting, Control.nmiWindowExiting, Control.eptViolationVe,
] as const;

function isNmi({ reason, interruption }: Exit): boolean {
  return reason === ExitReason.exceptionOrNmi && parseInterruption(interruption).type === InterruptionType.nmi;
}

/** Transitions of one VMCS after which its guest and its host go on as they ended. Made once, since there are millions of them. */
class OrdinaryTransitions {
  readonly vmcs: Vmcs;
  readonly entry: ResumingTransition;
  readonly exit: ResumingTransition;
  /** RF of the guest as the exit that is going on saves it, at its place. */
  savedResumeFlag = 0;

  constructor({ state, functions, vmcs }: VmxContext, hostSpace: Space, guestSpace: Space, stage: SecondStage | undefined) {
    const { resumeGuest, resumeHost } = functions;
    const { base } = state;
    const { place } = vmcs;
    this.vmcs = vmcs;
    this.entry = { owner: vmcs, space: guestSpace, stage, transfer: (left, entered) => resumeGuest(base, place, left, entered) };
    this.exit = {
      owner: vmcs, space: hostSpace, stage: undefined, transfer: (left, entered) => resumeHost(base, place, left, entered, this.savedResumeFlag),
    };
  }
}

/** Types of events in interruption information. */
const eventTypes: Readonly<Record<ProcessorEvent["kind"], number>> = {
  external: InterruptionType.external, nmi: InterruptionType.nmi, exception: InterruptionType.hardwareException,
  software: InterruptionType.softwareInterrupt, "software exception": InterruptionType.softwareException,
  "privileged software": InterruptionType.privilegedSoftwareException,
};
const eventKinds: Readonly<Record<number, ProcessorEvent["kind"]>> = Object.fromEntries(
  Object.entries(eventTypes).map(([kind, type]) => [type, kind as ProcessorEvent["kind"]]),
);

export class Vmx implements Virtualization, ExitSink {
  readonly extension = "vmx" as const;
  readonly context: VmxContext;
  observer: ((transition: Transition) => void) | undefined = undefined;
  readonly #p: SoftProcessor;
  readonly #instructions: VmxInstructions;
  readonly #interception: Interception;
  readonly #translations: Translations;
  readonly #ept: ExtendedPageTables;
  readonly #apic: VirtualApic;
  readonly #timer: PreemptionTimer;
  readonly #events: EventDecision;
  readonly #exceptions: VirtualizationExceptions;
  readonly #functions: VmFunctions;
  /** The second stage of the VMCS that was entered last. */
  #stage: ExtendedPageTables | undefined;
  /** What its instructions without a routine ask for. */
  #interceptionMask = 0;
  /** Transitions of the VMCS that was entered last, if they are ordinary: see `#noteEntry`. */
  #ordinary: OrdinaryTransitions | undefined;
  #entryEnvironment: EntryEnvironment | undefined;
  /** The exit recorded last. */
  #exit: Exit = boundaryExit(0);
  /** Conditions of the debug exception that is going to leave the guest. */
  #debugConditions = 0;
  /** RIP of the IRET that has unblocked NMIs, in case that it faults. */
  #unblockedAt: bigint | undefined;
  /** Boundaries until instructions need no longer be executed one by one: the next instruction lies between two. */
  #soloBoundaries = 0;

  constructor(processor: SoftProcessor) {
    this.#p = processor;
    this.context = new VmxContext(processor);
    this.#translations = new Translations(processor.memory);
    this.#instructions = new VmxInstructions(this.context, this.#translations);
    this.#interception = new Interception(this.context);
    this.#ept = new ExtendedPageTables(this.context, this);
    this.#apic = new VirtualApic(this.context, this);
    this.#timer = new PreemptionTimer(this.context);
    this.#events = new EventDecision(this.context, this.#apic, this.#timer, this);
    this.#exceptions = new VirtualizationExceptions(this.context);
    this.#functions = new VmFunctions(this.context, this.#ept, this.#translations);
    processor.memory.virtualPage = this.#apic;
  }

  get isGuest(): boolean {
    return this.context.isGuest;
  }

  get isOn(): boolean {
    return this.context.isOn;
  }

  controlBlock(): ControlBlock | undefined {
    this.#entryEnvironment ??= this.#environment();
    return describeVmcs(this.context, this.#entryEnvironment);
  }

  #observe(kind: Transition["kind"], code: number, reason: string, information: Transition["information"]): void {
    const { vmcs } = this.context;
    this.observer?.({ kind, code, reason, space: this.#vpid, controlBlock: vmcs.address, rip: vmcs.get(Field.guestRip), information });
  }

  reset(kind: "reset" | "init"): void {
    const { context } = this;
    if (context.isGuest) {
      this.#timer.leave();
      context.isGuest = false;
      this.#translations.enterHost(0, 0, 0);
    }
    this.#ordinary = undefined;
    this.#p.state.set32(layout.interception, 0);
    context.isOn = false;
    context.vmxonPointer = noAddress;
    context.current = undefined;
    context.structures.drop();
    this.#translations.forgetAll();
    if (kind === "reset") context.featureControl = this.#initialFeatureControl;
  }

  // --- snapshots ---------------------------------------------------------------------------------------------------

  get state(): VmxState {
    const { context } = this;
    return {
      featureControl: context.featureControl,
      vmxonPointer: context.isOn ? BigInt(context.vmxonPointer) : undefined,
      current: context.current === undefined ? undefined : BigInt(context.current.address),
      structures: context.structures.all().map(({ address, bytes }) => ({ address: BigInt(address), bytes: bytes.slice() })),
      guest: context.isGuest ? this.#guestState() : undefined,
    };
  }

  #guestState(): VmxGuestState {
    const { pendingExit } = this.#apic;
    return {
      vmcs: BigInt(this.context.vmcs.address), activity: this.#events.activity, pendingDebug: this.#events.pendingDebug,
      monitorTrap: this.#events.monitorTrap, isInterruptRecognized: this.#apic.isRecognized,
      pendingExit: pendingExit && { reason: pendingExit.reason, qualification: pendingExit.qualification ?? 0n },
      ...this.#timer.state, soloBoundaries: this.#soloBoundaries, unblockedAt: this.#unblockedAt,
    };
  }

  /** Before the engine is told of the registers, which are there already. */
  restore({ featureControl, vmxonPointer, current, structures, guest }: VmxState): void {
    const { context } = this;
    this.reset("reset");
    context.featureControl = featureControl;
    context.isOn = vmxonPointer !== undefined;
    context.vmxonPointer = vmxonPointer === undefined ? noAddress : Number(vmxonPointer);
    for (const { address, bytes } of structures) context.structures.restore(Number(address), bytes);
    context.current = current === undefined ? undefined : context.structures.activate(Number(current));
    if (guest !== undefined && context.isOn) this.#restoreGuest(guest);
  }

  #restoreGuest(guest: VmxGuestState): void {
    const { context } = this;
    const { state } = this.#p;
    context.adopt(context.structures.activate(Number(guest.vmcs)));
    context.isGuest = true;
    this.#configure();
    this.#translations.enterGuest(this.#vpid, this.#ept.root, this.#stage, 0, state.getAddress(layout.cr3));
    state.set32(layout.interception, this.#interception.enter());
    this.#apic.restore(guest);
    this.#timer.restore(guest);
    this.#events.restore(guest);
    this.#soloBoundaries = guest.soloBoundaries;
    this.#unblockedAt = guest.unblockedAt;
  }

  // --- registers ---------------------------------------------------------------------------------------------------

  readonly writableEferMask: number = 0;
  readonly writableCr4Mask: number = cr4FixedToOne;

  readMsr(index: number): bigint | undefined {
    const { context } = this;
    if (index === VmxMsr.FEATURE_CONTROL) return context.featureControl;
    const capability = context.capabilities.registers.get(index);
    if (capability !== undefined) return capability;
    return context.isGuest ? this.#apic.readMsr(index) : undefined;
  }

  writeMsr(index: number, value: bigint): boolean | "unknown" {
    const { context } = this;
    if (index === VmxMsr.FEATURE_CONTROL) {
      const known = FeatureControlMask.locked | FeatureControlMask.vmxOutsideSmx;
      if ((context.featureControl & FeatureControlMask.locked) !== 0n || (value & ~known) !== 0n) return false;
      context.featureControl = value;
      return true;
    }
    if (context.capabilities.registers.has(index)) return false;
    return context.isGuest ? this.#apic.writeMsr(index, value) : "unknown";
  }

  changedRegisters(): readonly (readonly [index: number, value: bigint])[] {
    const { featureControl } = this.context;
    return featureControl === this.#initialFeatureControl ? [] : [[VmxMsr.FEATURE_CONTROL, featureControl]];
  }

  restoreRegister(index: number, value: bigint): boolean {
    if (index !== VmxMsr.FEATURE_CONTROL) return false;
    this.context.featureControl = value & (FeatureControlMask.locked | FeatureControlMask.vmxOutsideSmx);
    return true;
  }

  get #initialFeatureControl(): bigint {
    return featureControlValues[this.#p.model.virtualization ?? "on"];
  }

  guestTimeStampCounter(host: bigint): bigint {
    const { context } = this;
    if (!context.has(Control.tscOffsetting)) return host;
    const scaled = context.has(Control.tscScaling) ? (host * context.vmcs.get(Field.tscMultiplier)) >> 48n : host;
    return BigInt.asUintN(64, scaled + context.vmcs.get(Field.tscOffset));
  }

  guestTaskPriority(): number | undefined {
    return this.context.has(Control.tprShadow) ? this.#apic.taskPriority : undefined;
  }

  setGuestTaskPriority(value: number): boolean {
    if (!this.context.has(Control.tprShadow)) return false;
    this.#apic.setTaskPriority(value);
    return true;
  }

  admitControlValue(number: 0 | 4, value: bigint): bigint | undefined {
    const { context } = this;
    if (!context.isOn) return value;
    const isUnrestricted = context.isGuest && context.has(Control.unrestrictedGuest);
    const fixed = number === 4 ? BigInt(cr4FixedToOne) : BigInt(isUnrestricted ? Cr0Mask.NE : cr0FixedToOne);
    const admitted = context.isGuest ? this.#withOwnedBits(number, value) : value;
    return (admitted & fixed) === fixed ? admitted : undefined;
  }

  /** Bits that the hypervisor owns keep their values. */
  #withOwnedBits(number: 0 | 4, value: bigint): bigint {
    const mask = this.context.vmcs.get(number === 0 ? Field.cr0Mask : Field.cr4Mask);
    const present = this.#p.state.get64(number === 0 ? layout.cr0 : layout.cr4);
    return (value & ~mask) | (present & mask);
  }

  visibleControlValue(number: 0 | 4): bigint {
    const { vmcs } = this.context;
    const mask = vmcs.get(number === 0 ? Field.cr0Mask : Field.cr4Mask);
    const shadow = vmcs.get(number === 0 ? Field.cr0ReadShadow : Field.cr4ReadShadow);
    const present = this.#p.state.get64(number === 0 ? layout.cr0 : layout.cr4);
    return (present & ~mask) | (shadow & mask);
  }

  conceals(instruction: ConcealableInstruction): boolean {
    const control = { rdtscp: Control.rdtscp, invpcid: Control.invpcid, xsaves: Control.xsaves }[instruction];
    return !this.context.has(control);
  }

  // --- instructions ------------------------------------------------------------------------------------------------

  prepare(instruction: VirtualizationInstruction): Status {
    const preparation = this.#instructions.prepare(instruction);
    switch (preparation.kind) {
      case "go on": return Status.Next;
      case "ended": return preparation.status;
      case "exit":
        this.record(preparation.isPlain ? instructionExit(preparation.reason) : this.#interception.described(preparation.reason));
        return this.#p.raise(exitVector);
    }
  }

  execute(instruction: VirtualizationInstruction): Status {
    if (instruction === "vmlaunch" || instruction === "vmresume") return this.#enter(instruction === "vmlaunch");
    if (instruction === "vmfunc") return this.#callFunction();
    return this.#instructions.execute(instruction);
  }

  #callFunction(): Status {
    if (this.#functions.execute()) return Status.Next;
    this.record(instructionExit(ExitReason.vmfunc));
    return this.#p.raise(exitVector);
  }

  // --- VM entry ----------------------------------------------------------------------------------------------------

  /** What the checks of VM entry need to know of the processor. */
  #environment(): EntryEnvironment {
    const p = this.#p;
    return {
      capabilities: this.context.capabilities,
      get isLongMode() {
        return isLongMode(p.state);
      },
      linearAddressBits: p.model.linearAddressBits, eferMask: BigInt(supportedEfer(p)), debugControlMask,
      readPhysical32: (address) => p.physical.read32(address),
    };
  }

  #enter(isLaunch: boolean): Status {
    const { context } = this;
    const { current } = context;
    if (current === undefined || current.isShadow) return this.#instructions.failInvalid();
    const bySsMask = 2;
    if ((this.#p.currentShadow() & bySsMask) !== 0) return this.#instructions.fail(InstructionError.entryWithMovSsBlocking);
    if (isLaunch && current.isLaunched) return this.#instructions.fail(InstructionError.launchNotClear);
    if (!isLaunch && !current.isLaunched) return this.#instructions.fail(InstructionError.resumeNotLaunched);
    if (this.#resumesGuest(current)) return Status.Branch;
    this.#entryEnvironment ??= this.#environment();
    const { unchecked } = current;
    const hasNewControls = context.vmcs !== current || (unchecked & Unchecked.controls) !== 0;
    const failure = findEntryFailure(current, this.#entryEnvironment);
    if (failure?.kind === "controls") return this.#instructions.fail(InstructionError.entryControls);
    if (failure?.kind === "host") return this.#instructions.fail(InstructionError.entryHostState);
    if (hasNewControls) {
      context.adopt(current);
      this.#configure();
    }
    if (failure !== undefined) return this.#failEntry(ExitReason.invalidGuestState, failure.check.qualification ?? 0);
    return this.#enterGuest(isLaunch, current, unchecked);
  }

  /** `unchecked`: what has been written of the VMCS since it was entered last. */
  #enterGuest(isLaunch: boolean, vmcs: Vmcs, unchecked: number): Status {
    const { context } = this;
    const p = this.#p;
    const { state } = p;
    const hostRoot = state.getAddress(layout.cr3), hostSpace = p.memory.space;
    p.contextEnds(vmcs);
    loadGuestState(context, (unchecked & Unchecked.guest) !== 0);
    context.isGuest = true;
    this.#unblockedAt = undefined;
    this.#soloBoundaries = 0;
    p.dropSingleStep();
    this.#ordinary = undefined;
    this.#translations.enterGuest(this.#vpid, this.#ept.root, this.#stage, hostRoot, state.getAddress(layout.cr3));
    p.contextReplaced();
    loadPageDirectoryPointers(context);
    const msrCount = vmcs.get32(Field.entryMsrLoadCount);
    const failed = msrCount === 0 ? 0 : loadMsrArea(p, p.physical, vmcs.getAddress(Field.entryMsrLoadAddress), msrCount);
    if (failed !== 0) return this.#failEntry(ExitReason.msrLoading, failed);
    if (isLaunch) vmcs.isLaunched = true;
    this.#interceptionMask = this.#interception.enter();
    state.set32(layout.interception, this.#interceptionMask);
    this.#apic.enter();
    this.#timer.enter();
    this.#loadBlocking(vmcs);
    if (this.observer !== undefined) this.#observe("entry", 0, isLaunch ? "VMLAUNCH" : "VMRESUME", [0n, 0n]);
    const interruption = vmcs.get32(Field.entryInterruptionInformation);
    const injected = (interruption & InterruptionMask.valid) === 0 ? undefined : parseInterruption(interruption);
    this.#events.enter(injected);
    if (injected !== undefined && injected.type !== InterruptionType.otherEvent) this.#inject(vmcs, injected);
    if (this.stepsAlone || state.get32(layout.activity) !== Activity.active) p.attend();
    this.#noteEntry(vmcs, hostSpace);
    return Status.Branch;
  }

  /** Whether entries and exits to come have to do no more than to load and save registers, unless the hypervisor writes more than RIP. */
  #noteEntry(vmcs: Vmcs, hostSpace: Space): void {
    const { context } = this;
    // Delivery of an injected event may have left it already.
    const isOrdinary = context.isGuest && !unusualControls.some((control) => context.has(control)) && context.has(Control.vpid) &&
      context.has(Control.hostAddressSpaceSize) && !looksAtMemory(vmcs) && (vmcs.get32(Field.entryMsrLoadCount) | vmcs.get32(Field.exitMsrLoadCount) | vmcs.get32(Field.exitMsrStoreCount)) === 0;
    this.#ordinary = isOrdinary ? new OrdinaryTransitions(context, hostSpace, this.#p.memory.space, this.#stage) : undefined;
  }

  /** Goes on with a guest as it was left, if nothing but its RIP has been written since. False, with nothing changed: that is not all. */
  #resumesGuest(vmcs: Vmcs): boolean {
    const { context } = this;
    const ordinary = this.#ordinary;
    const isOrdinary = ordinary !== undefined && ordinary.vmcs === vmcs && context.vmcs === vmcs && this.observer === undefined &&
      (vmcs.unchecked & ~Unchecked.instructionPointer) === 0 && hasCanonicalRip(vmcs, this.#p.model.linearAddressBits) &&
      !this.#p.msrs.has(debugControlMsr) && this.#p.resumeGuest(ordinary.entry);
    if (!isOrdinary) return false;
    vmcs.unchecked = 0;
    context.isGuest = true;
    this.#unblockedAt = undefined;
    this.#soloBoundaries = 0;
    this.#p.state.set32(layout.interception, this.#interceptionMask);
    this.#events.enterActive();
    return true;
  }

  /** Takes over the controls of the VMCS that is entered. */
  #configure(): void {
    this.#stage = this.#ept.configure() ? this.#ept : undefined;
    this.#interception.configure();
    this.#events.configure();
  }

  get #vpid(): number {
    return this.context.has(Control.vpid) ? this.context.vmcs.get32(Field.virtualProcessorId) : 0;
  }

  /** Interruptibility, activity and pending debug exceptions. */
  #loadBlocking(vmcs: Vmcs): void {
    const { state } = this.#p;
    const interruptibility = vmcs.get32(Field.guestInterruptibility);
    state.set32(layout.interruptShadow, interruptibility & (InterruptibilityMask.sti | InterruptibilityMask.movSs));
    state.set32(layout.nmiBlocked, (interruptibility & InterruptibilityMask.nmi) !== 0 ? 1 : 0);
    const activity = vmcs.get32(Field.guestActivity);
    state.set32(layout.activity, activity === ActivityState.active ? Activity.active
      : activity === ActivityState.waitForSipi ? Activity.waitingForSipi : Activity.halted);
    this.#events.activity = activity;
    this.#events.pendingDebug = vmcs.get32(Field.guestPendingDebugExceptions) & loadedDebugMask;
  }

  #inject(vmcs: Vmcs, { vector, type, deliversErrorCode }: Interruption): void {
    const isByInstruction = type >= InterruptionType.softwareInterrupt;
    this.#events.activity = ActivityState.active;
    // Whatever becomes of its delivery.
    if (type === InterruptionType.nmi) this.#p.state.set32(layout.nmiBlocked, 1);
    deliverEvent(this.#p, {
      vector, kind: eventKinds[type], isInjected: true,
      errorCode: deliversErrorCode ? vmcs.get32(Field.entryExceptionErrorCode) : undefined,
      ...(isByInstruction ? { instructionLength: vmcs.get32(Field.entryInstructionLength) } : {}),
    });
  }

  /** The guest's state is refused: the host goes on as after an exit (SDM volume 3, "VM-Entry Failures During or After Loading Guest State"). */
  #failEntry(reason: number, qualification: number): Status {
    const { context } = this;
    const { vmcs } = context;
    vmcs.set32(Field.exitReason, (reason | entryFailureMask) >>> 0);
    vmcs.set(Field.exitQualification, BigInt(qualification));
    if (this.observer !== undefined) this.#observe("exit", reason, exitReasonName(reason), [BigInt(qualification), 0n]);
    context.isGuest = false;
    this.#enterHost();
    return Status.Branch;
  }

  // --- interception ------------------------------------------------------------------------------------------------

  record(exit: Exit): void {
    this.#exit = exit;
  }

  leave(exit: Exit): void {
    this.#exit = exit;
    this.exit(undefined);
  }

  intercepts(instruction: Interceptable): boolean {
    const exit = this.#interception.exitOf(instruction);
    if (exit === undefined) return false;
    this.record(exit);
    this.#p.raise(exitVector);
    return true;
  }

  interceptsEvent(event: ProcessorEvent): boolean {
    if (event.kind === "external" || event.kind === "nmi" || event.kind === "software" || !this.#wantsException(event)) return false;
    const { state } = this.#p;
    const hasErrorCode = event.errorCode !== undefined && (state.get32(layout.cr0) & Cr0Mask.PE) !== 0;
    const qualification = event.kind !== "exception" ? 0n
      : event.vector === Vector.PF ? state.get64(layout.pageFaultAddress)
        : event.vector === Vector.DB ? BigInt(this.#debugConditions) : 0n;
    this.record(eventExit(ExitReason.exceptionOrNmi, qualification, {
      interruption: encodeInterruption(event.vector, eventTypes[event.kind], hasErrorCode), errorCode: event.errorCode ?? 0,
      instructionLength: event.instructionLength,
    }));
    return true;
  }

  #wantsException({ vector, errorCode }: ProcessorEvent): boolean {
    const { vmcs } = this.context;
    const isSelected = ((vmcs.get32(Field.exceptionBitmap) >>> vector) & 1) !== 0;
    if (vector !== Vector.PF) return isSelected;
    const isMatch = ((errorCode ?? 0) & vmcs.get32(Field.pageFaultErrorCodeMask)) >>> 0 === vmcs.get32(Field.pageFaultErrorCodeMatch);
    return isMatch === isSelected;
  }

  interceptsShutdown(): boolean {
    this.record(boundaryExit(ExitReason.tripleFault));
    return true;
  }

  takesDebugConditions(conditions: number): boolean {
    this.#debugConditions = conditions;
    return ((this.context.vmcs.get32(Field.exceptionBitmap) >>> Vector.DB) & 1) !== 0;
  }

  unblockNmi(): void {
    const { context } = this;
    const { state } = this.#p;
    this.#unblockedAt = undefined;
    if (context.has(Control.nmiExiting) && !context.has(Control.virtualNmis)) return;
    if (state.get32(layout.nmiBlocked) !== 0) this.#unblockedAt = this.#p.currentRip();
    state.set32(layout.nmiBlocked, 0);
  }

  // --- between instructions ----------------------------------------------------------------------------------------

  get decidesEvents(): boolean {
    return this.context.isGuest;
  }

  get isGuestOrdinary(): boolean {
    return this.#events.areIdle;
  }

  get keepsPageFaults(): boolean {
    return this.#interception.keepsPageFaults;
  }

  /** Intel's last branches are those of a model, and ours has none. */
  readonly branchRecord: undefined = undefined;

  get stepsAlone(): boolean {
    return this.context.isGuest && (this.#soloBoundaries > 0 || this.context.has(Control.monitorTrapFlag));
  }

  hasEvent(pending: PendingEvents): boolean {
    return this.#events.has(pending);
  }

  takeEvent(pending: PendingEvents): BoundaryAction {
    if (this.#soloBoundaries > 0) this.#soloBoundaries--;
    return this.#events.take(pending);
  }

  admitReset(kind: "reset" | "init"): "admitted" | "pending" | "taken" {
    const { context } = this;
    if (kind === "reset" || !context.isOn) return "admitted";
    // VMX root operation blocks INIT.
    if (!context.isGuest || this.#events.activity === ActivityState.waitForSipi) return "pending";
    this.#p.state.set32(layout.currentRecord, 0);
    this.leave(boundaryExit(ExitReason.init));
    return "taken";
  }

  admitsStartUp(vector: number): boolean {
    if (!this.context.isGuest) return true;
    if (this.#events.activity === ActivityState.waitForSipi) this.leave(boundaryExit(ExitReason.startUp, BigInt(vector)));
    return false;
  }

  // --- VM exit -----------------------------------------------------------------------------------------------------

  exit(during: ProcessorEvent | undefined): void {
    if (this.#apic.wantsAlone && this.#retryAlone(during)) return;
    const exit = this.#exit;
    if (during === undefined && this.#resumesHost(exit)) return;
    if (during === undefined && this.#exceptions.replaces(exit, this.#ept.isConvertible)) {
      deliverEvent(this.#p, { vector: this.#exceptions.vector, kind: "exception" });
      return;
    }
    const { context } = this;
    const p = this.#p;
    const { vmcs } = context;
    this.#saveInformation(exit, during);
    this.#timer.leave();
    this.#saveBlocking(vmcs);
    saveGuestState(context, this.#resumeFlag(exit, during));
    if (this.observer !== undefined) {
      this.#observe("exit", exit.reason, exitReasonName(exit.reason), [vmcs.get(Field.exitQualification), BigInt(exit.guestPhysicalAddress)]);
    }
    p.contextEnds(vmcs);
    context.isGuest = false;
    const msrCount = vmcs.get32(Field.exitMsrStoreCount);
    if (msrCount !== 0 && !storeMsrArea(p, p.physical, vmcs.getAddress(Field.exitMsrStoreAddress), msrCount)) {
      this.#translations.enterHost(this.#vpid, p.state.getAddress(layout.cr3), vmcs.getAddress(Field.hostCr3));
      return this.#abort(Abort.msrStore);
    }
    if (isNmi(exit)) p.state.set32(layout.nmiBlocked, 1);
    else if (context.has(Control.virtualNmis)) p.state.set32(layout.nmiBlocked, 0);
    this.#enterHost();
  }

  /** Goes on with the host as it was left, where the exit has to do no more than to save and load registers. False, with nothing changed: that is not all. */
  #resumesHost(exit: Exit): boolean {
    const { context } = this;
    const { vmcs } = context;
    const p = this.#p;
    const ordinary = this.#ordinary;
    const mayResume = ordinary !== undefined && ordinary.vmcs === vmcs && this.observer === undefined && this.#unblockedAt === undefined &&
      vmcs.unchecked === 0 && this.#events.pendingDebug === 0 && p.currentShadow() === 0 && !isNmi(exit) && !p.msrs.has(debugControlMsr);
    if (!mayResume) return false;
    ordinary.savedResumeFlag = this.#resumeFlag(exit, undefined) ? FlagMask.RF : 0;
    // What is told of the instruction is gone with the guest's registers.
    const instructionLength = exit.isInstruction ? p.currentLength : exit.instructionLength ?? 0;
    if (!p.resumeHost(ordinary.exit)) return false;
    vmcs.setExitInformation(exit, exit.qualification, exit.interruption, instructionLength, 0, 0);
    vmcs.set32(Field.entryInterruptionInformation, vmcs.get32(Field.entryInterruptionInformation) & ~InterruptionMask.valid);
    context.isGuest = false;
    return true;
  }

  /** A write to the APIC page is executed again, alone; during delivery of an event it is an exit. True: there is none. */
  #retryAlone(during: ProcessorEvent | undefined): boolean {
    this.#apic.wantsAlone = false;
    if (during === undefined) {
      this.#soloBoundaries = 2;
      this.#p.state.set32(layout.exceptionVector, noException);
      return true;
    }
    this.record(accessExit(ExitReason.apicAccess, apicAccessQualification(0, ApicAccessType.duringDelivery)));
    return false;
  }

  #resumeFlag(exit: Exit, during: ProcessorEvent | undefined): boolean {
    const { state } = this.#p;
    switch (exit.resumeFlag) {
      case "cleared": return false;
      case "set": return during === undefined || (flagsImage(state, during) & FlagMask.RF) !== 0;
      case "as delivered": {
        if (exit.interruption === 0) return hasSystemFlag(state, FlagMask.RF);
        const { vector, type } = parseInterruption(exit.interruption);
        return (flagsImage(state, { vector, kind: eventKinds[type] }) & FlagMask.RF) !== 0;
      }
      default: return hasSystemFlag(state, FlagMask.RF);
    }
  }

  /** The VM-exit information fields. */
  #saveInformation(exit: Exit, during: ProcessorEvent | undefined): void {
    const { vmcs } = this.context;
    const p = this.#p;
    const isApicDuringDelivery = during !== undefined && exit.reason === ExitReason.apicAccess;
    const qualification = isApicDuringDelivery
      ? apicAccessQualification(Number(exit.qualification & 0xfffn), ApicAccessType.duringDelivery) : exit.qualification;
    // IRET unblocked NMIs and then could not end.
    const isUnblocked = during === undefined && this.#unblockedAt !== undefined && this.#unblockedAt === p.state.get64(layout.rip);
    const isEpt = exit.reason === ExitReason.eptViolation || exit.reason === ExitReason.pmlFull;
    const unblockingMask = InterruptionMask.nmiUnblocking;
    const { interruption } = exit;
    vmcs.setExitInformation(
      exit,
      isUnblocked && isEpt ? qualification | BigInt(unblockingMask) : qualification,
      (isUnblocked && interruption !== 0 ? interruption | unblockingMask : interruption) >>> 0,
      exit.isInstruction ? p.currentLength : exit.instructionLength ?? during?.instructionLength ?? 0,
      during === undefined ? 0 : encodeInterruption(during.vector, eventTypes[during.kind], during.errorCode !== undefined),
      during?.errorCode ?? 0,
    );
    vmcs.set32(Field.entryInterruptionInformation, vmcs.get32(Field.entryInterruptionInformation) & ~InterruptionMask.valid);
  }

  #saveBlocking(vmcs: Vmcs): void {
    const p = this.#p;
    const { state } = p;
    const shadow = p.currentShadow() & (InterruptibilityMask.sti | InterruptibilityMask.movSs);
    vmcs.set32(Field.guestInterruptibility, shadow | (state.get32(layout.nmiBlocked) === 0 ? 0 : InterruptibilityMask.nmi));
    vmcs.set32(Field.guestActivity, this.#activityState(state.get32(layout.activity)));
    const held = (shadow & InterruptibilityMask.movSs) !== 0 ? p.waiting.heldDebugConditions : this.#events.pendingDebug;
    const enabledMask = held & 0xf ? PendingDebugMask.enabledBreakpoint : 0n;
    vmcs.set(Field.guestPendingDebugExceptions, held === 0 ? 0n : BigInt(held) | enabledMask);
    if (held !== 0 && (shadow & InterruptibilityMask.movSs) !== 0) p.waiting = { ...p.waiting, heldDebugConditions: 0 };
  }

  /** What the guest's activity, `Activity` of the engine, is in a VMCS. */
  #activityState(activity: number): number {
    if (activity === Activity.waitingForSipi) return ActivityState.waitForSipi;
    if (activity !== Activity.halted) return ActivityState.active;
    return this.#events.activity === ActivityState.shutdown ? ActivityState.shutdown : ActivityState.hlt;
  }

  /** Loads the host. */
  #enterHost(): void {
    const { context } = this;
    const p = this.#p;
    const { state } = p;
    const { vmcs } = context;
    const endingRoot = state.getAddress(layout.cr3);
    loadHostState(context);
    p.dropSingleStep();
    this.#translations.enterHost(this.#vpid, endingRoot, state.getAddress(layout.cr3));
    p.contextReplaced();
    if (p.memory.paging.mode === "pae") {
      p.memory.loadPageDirectoryPointers();
      if (hasReservedPointer(p.memory.pageDirectoryPointers, context.capabilities.physicalAddressBits)) return this.#abort(Abort.pageDirectoryPointers);
    }
    const msrCount = vmcs.get32(Field.exitMsrLoadCount);
    if (msrCount !== 0 && loadMsrArea(p, p.physical, vmcs.getAddress(Field.exitMsrLoadAddress), msrCount) !== 0) this.#abort(Abort.msrLoad);
  }

  /** A VMX abort: the processor is shut down, and memory tells why. */
  #abort(reason: number): void {
    const { context } = this;
    const p = this.#p;
    p.physical.write32(context.vmcs.address + 4, reason);
    context.vmcs.abortIndicator = reason;
    p.state.set32(layout.exceptionVector, noException);
    p.state.set32(layout.interception, 0);
    shutDown(p, [`VMX abort ${reason} while leaving the guest of the VMCS at 0x${context.vmcs.address.toString(16)}`]);
    p.contextReplaced();
  }
}
