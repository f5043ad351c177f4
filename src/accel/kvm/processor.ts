/** One KVM vCPU: runs the guest, and completes its accesses to devices, its MSRs and its interrupts between two KVM_RUNs. */
import { invariant, UserError } from "../../base/errors.ts";
import type { CpuModel, ProcessorBus } from "../../isa/processor.ts";
import { FlagMask } from "../../isa/flags.ts";
import { EferMask, SegmentAttribute } from "../../isa/system/mode.ts";
import type {
  BootState, DebugSettings, InterruptSource, KickHandle, RunBudget, RunStop, VirtualProcessor,
} from "../contract.ts";
import type { ExitObserver } from "../exits.ts";
import {
  isVirtualizing, processorStateVersion, type PendingEvent, type ProcessorActivity, type ProcessorState, type SegmentState,
} from "../processor-state.ts";
import { clockMsrs } from "./cpu-model.ts";
import { ExitReason, GuestDebugControl, ioDirectionOut, Request, Run, Size } from "./abi.ts";
import { ErrorNumber, type HostCalls, type RunInterrupter, type SharedMapping } from "./host-calls.ts";
import { KvmMsrs } from "./msrs.ts";
import { stateAfterInit, stateAfterReset } from "./reset-state.ts";
import { VcpuCalls } from "./vcpu-calls.ts";
import { readKernelState, writeKernelState, type StateFormat } from "./vcpu-state.ts";

/** Guest-physical memory that is not RAM, as exits reach it. */
export interface MmioTarget {
  read(address: number, sizeBytes: 1 | 2 | 4): number;
  write(address: number, sizeBytes: 1 | 2 | 4, value: number): void;
}

export interface KvmProcessorOptions {
  readonly index: number;
  readonly calls: HostCalls;
  readonly descriptor: number;
  readonly run: SharedMapping;
  readonly interrupter: RunInterrupter;
  readonly format: StateFormat;
  readonly model: CpuModel;
  readonly bus: ProcessorBus;
  readonly interrupts: InterruptSource;
  readonly mmio: MmioTarget;
  /** Whether KVM stops at breakpoints here; otherwise the guest is stepped to them. */
  breakpointsWork(): boolean;
  /** IA32_ARCH_CAPABILITIES of the host. */
  readonly hostCapabilities: bigint;
  readonly exits: ExitObserver | undefined;
  readonly timeStampFrequencyHz: number;
  /** Sets the time of kvmclock, where the guest has it. */
  setClock?(ns: bigint): void;
}

const apicBaseMsr = 0x1b;
const maximumMmioBytes = 8;
/** A thread that has to end (process.exit, worker.terminate) does so when `run` comes back to JavaScript. */
const longestRunNs = 20_000_000;
const hardwareBreakpoints = 4;
/** DR7 with a breakpoint on execution, globally enabled. */
const breakpointEnable = (index: number): number => 2 << (2 * index);

export class KvmProcessor implements VirtualProcessor {
  readonly index: number;
  /** Guests have no virtualization of their own here. */
  readonly stateObstacle: undefined;
  readonly virtualization: undefined;
  /** KVM does not count. */
  readonly retiredInstructions: number = 0;
  readonly kickHandle: KickHandle;
  failure: string | undefined;
  shutdownCause: string | undefined;
  readonly #options: KvmProcessorOptions;
  readonly #vcpu: VcpuCalls;
  readonly #msrs: KvmMsrs;
  readonly #bytes: Uint8Array;
  readonly #words: Uint32Array;
  readonly #view: DataView;
  #activity: ProcessorActivity = "active";
  #stopRequested = false;
  #resetRequest: "reset" | "init" | undefined;
  #nmiRequested = false;
  #isRunning = false;
  /** An exit has been answered, and KVM has not yet taken the answer over. */
  #isIoOpen = false;
  #debug: DebugSettings = { isSingleStep: false, breakpoints: [] };
  /** KVM stops after every instruction: for a debugger, or for a pass. */
  #isStepping = false;
  /** One instruction is being stepped over, see `#beginPass`. */
  #isPassing = false;
  /** Interrupts wait for one more instruction. */
  #isShadowed = false;

  constructor(options: KvmProcessorOptions) {
    this.index = options.index;
    this.#options = options;
    this.#vcpu = new VcpuCalls(options.calls, options.descriptor);
    this.#msrs = new KvmMsrs(options.model, options.bus, options.hostCapabilities);
    this.#bytes = new Uint8Array(options.run.buffer);
    this.#words = new Uint32Array(options.run.buffer);
    this.#view = new DataView(options.run.buffer);
    this.kickHandle = { flag: new Int32Array(new SharedArrayBuffer(4)), thread: options.interrupter.thread };
    this.#setSignalMask();
    this.setState(stateAfterReset(options.model));
    this.timeChanged();
  }

  get isWaitingForStartUp(): boolean {
    return this.#activity === "waiting-for-sipi";
  }

  #setSignalMask(): void {
    const { maskDuringRun } = this.#options.interrupter;
    const mask = new DataView(new ArrayBuffer(4 + maskDuringRun.length));
    mask.setUint32(0, maskDuringRun.length, true);
    maskDuringRun.forEach((byte, index) => mask.setUint8(4 + index, byte));
    this.#vcpu.set(Request.setSignalMask, mask);
  }

  // --- running -----------------------------------------------------------------------------------------------------

  run(budget: RunBudget): RunStop {
    this.#isRunning = true;
    const stop = this.#runUntilStop(budget);
    const late = this.#completeIo();
    this.#isRunning = false;
    this.#performReset();
    return late ?? stop;
  }

  #runUntilStop({ nanoseconds }: RunBudget): RunStop {
    const { calls, interrupter } = this.#options;
    this.#beginPass();
    const budgetNs = Math.min(nanoseconds, longestRunNs);
    const endNs = calls.nowNs() + budgetNs;
    let isArmed = false;
    for (;;) {
      this.#performReset();
      if (this.#isToStop()) return "stopped";
      if (this.failure !== undefined) return "failed";
      if (this.#activity === "shutdown") return "shutdown";
      this.#offerEvents();
      if (this.#activity !== "active") return "halted";
      if (!isArmed) interrupter.arm(budgetNs);
      isArmed = true;
      const result = this.#enterGuest();
      if (result >= 0) {
        const stop = this.#answerExit() ?? this.#stepOfIo();
        if (stop !== undefined) return stop;
        continue;
      }
      invariant(result === -ErrorNumber.EINTR || result === -ErrorNumber.EAGAIN, `KVM_RUN fails with error ${-result}`);
      interrupter.clear();
      this.#options.exits?.record("interruption", undefined, 0);
      if (calls.nowNs() >= endNs) return this.#isToStop() ? "stopped" : "budget";
    }
  }

  #isToStop(): boolean {
    // Looked at before every entry: a plain load, for the store that comes with an interruption has been seen by then.
    const { flag } = this.kickHandle;
    const isKicked = flag[0] !== 0 && Atomics.exchange(flag, 0, 0) !== 0;
    const isToStop = isKicked || this.#stopRequested;
    this.#stopRequested = false;
    return isToStop;
  }

  /** One KVM_RUN, with the task priority going there and back. */
  #enterGuest(): number {
    const { bus } = this.#options;
    const priority = bus.taskPriority();
    this.#bytes[Run.cr8] = priority;
    this.#isIoOpen = false;
    const result = this.#vcpu.call(Request.run);
    const newPriority = this.#bytes[Run.cr8];
    if (newPriority !== priority) bus.setTaskPriority(newPriority);
    return result;
  }

  /** Hands KVM the events that wait, or asks it to come back when it can take them; wakes a halted processor. */
  #offerEvents(): void {
    const { interrupts } = this.#options;
    if (this.#nmiRequested) {
      this.#nmiRequested = false;
      const isBlocked = this.#activity === "halted" && this.getState().isNmiBlocked;
      invariant(this.#vcpu.call(Request.nmi) >= 0, "KVM takes NMIs");
      if (this.#activity === "halted" && !isBlocked) this.#activity = "active";
    }
    const bytes = this.#bytes;
    bytes[Run.requestInterruptWindow] = 0;
    if (this.#isShadowed || !interrupts.hasInterrupt() || this.#activity === "waiting-for-sipi") return;
    if (this.#activity === "halted" && bytes[Run.ifFlag] === 0) return;
    const vector = bytes[Run.readyForInterruptInjection] === 0 ? undefined : interrupts.acknowledge();
    if (vector !== undefined && vector >= 0) this.#queueInterrupt(vector);
    // A halted processor goes on for an interrupt that it has got, or is going to get before its next instruction.
    if (vector !== -1) this.#activity = "active";
    if (interrupts.hasInterrupt()) bytes[Run.requestInterruptWindow] = 1;
  }

  #queueInterrupt(vector: number): void {
    const request = new DataView(new ArrayBuffer(4));
    request.setUint32(0, vector, true);
    this.#vcpu.set(Request.interrupt, request);
    this.#bytes[Run.readyForInterruptInjection] = 0;
  }

  /** Lets KVM take over the answer to the last exit, without running the guest: after it, the state is between two instructions. */
  #completeIo(): RunStop | undefined {
    let stop: RunStop | undefined;
    while (this.#isIoOpen) {
      this.#bytes[Run.immediateExit] = 1;
      const result = this.#enterGuest();
      this.#bytes[Run.immediateExit] = 0;
      if (result >= 0) stop = this.#answerExit() ?? stop;
    }
    return stop;
  }

  #answerExit(): RunStop | undefined {
    const reason = this.#words[Run.exitReason / 4];
    switch (reason) {
      case ExitReason.io: return this.#portAccess();
      case ExitReason.mmio: return this.#memoryAccess();
      case ExitReason.readMsr: return this.#readMsr();
      case ExitReason.writeMsr: return this.#writeMsr();
      case ExitReason.halt:
        this.#options.exits?.record("halt", undefined, 0);
        return this.#enter("halted");
      case ExitReason.interruptWindowOpen:
        this.#options.exits?.record("interrupt window", undefined, 0);
        return undefined;
      case ExitReason.setTpr:
      case ExitReason.interrupted: return undefined;
      case ExitReason.shutdown:
        this.shutdownCause = `the kernel tells nothing but the place: RIP ${this.#whereabouts()}`;
        return this.#enter("shutdown");
      case ExitReason.debug: return this.#debugExit();
      case ExitReason.failEntry:
        return this.#fail(`the host's processor refuses to enter the guest (reason 0x${this.#view.getBigUint64(Run.failEntryReason, true).toString(16)})`);
      case ExitReason.internalError:
        return this.#fail(`KVM cannot emulate what the guest does at ${this.#whereabouts()} (internal error ${this.#words[Run.internalErrorKind / 4]})`);
      default:
        return this.#fail(`KVM stopped the guest for a reason that Ringmaster does not know (${reason})`);
    }
  }

  #enter(activity: ProcessorActivity): undefined {
    this.#activity = activity;
    if (this.#isPassing) this.#endPass();
  }

  #fail(failure: string): RunStop {
    this.failure = failure;
    return "failed";
  }

  #whereabouts(): string {
    return `0x${this.#vcpu.get(Request.getRegs, Size.regs).getBigUint64(16 * 8, true).toString(16)}`;
  }

  // --- exits -------------------------------------------------------------------------------------------------------

  #portAccess(): undefined {
    const { bus } = this.#options;
    const bytes = this.#bytes, words = this.#words;
    const sizeBytes = bytes[Run.ioSizeBytes] as 1 | 2 | 4;
    const port = bytes[Run.ioPort] | (bytes[Run.ioPort + 1] << 8);
    const isOut = bytes[Run.ioDirection] === ioDirectionOut;
    // The data are within the mapping, whose size has 32 bits.
    const first = words[Run.ioDataOffset / 4], end = first + words[Run.ioCount / 4] * sizeBytes;
    this.#isIoOpen = true;
    for (let at = first; at < end; at += sizeBytes) {
      if (isOut) bus.portWrite(port, sizeBytes, readValue(bytes, at, sizeBytes));
      else writeValue(bytes, at, sizeBytes, bus.portRead(port, sizeBytes));
    }
  }

  #memoryAccess(): undefined {
    const bytes = this.#bytes, words = this.#words;
    const { mmio } = this.#options;
    const address = words[Run.mmioAddress / 4] + words[Run.mmioAddress / 4 + 1] * 0x1_0000_0000;
    const sizeBytes = Math.min(words[Run.mmioSizeBytes / 4], maximumMmioBytes);
    const isWrite = bytes[Run.mmioIsWrite] !== 0;
    this.#isIoOpen = true;
    for (let done = 0; done < sizeBytes;) {
      const step = naturalStep(address + done, sizeBytes - done);
      if (isWrite) mmio.write(address + done, step, readValue(bytes, Run.mmioData + done, step));
      else writeValue(bytes, Run.mmioData + done, step, mmio.read(address + done, step));
      done += step;
    }
  }

  #readMsr(): undefined {
    this.#isIoOpen = true;
    const value = this.#msrs.read(this.#view.getUint32(Run.msrIndex, true));
    this.#view.setUint8(Run.msrError, value === undefined ? 1 : 0);
    this.#view.setBigUint64(Run.msrData, value ?? 0n, true);
  }

  #writeMsr(): undefined {
    this.#isIoOpen = true;
    const index = this.#view.getUint32(Run.msrIndex, true);
    const isWritten = this.#msrs.write(index, this.#view.getBigUint64(Run.msrData, true));
    this.#view.setUint8(Run.msrError, isWritten ? 0 : 1);
    if (index === this.#msrs.timeStampIndex) this.timeChanged();
    // CPUID tells whether the local APIC is on.
    if (index === apicBaseMsr && isWritten) this.#vcpu.writeMsrs([[apicBaseMsr, this.#apicBase()]]);
  }

  #apicBase(): bigint {
    const { bus } = this.#options;
    return (bus.peekMsr === undefined ? bus.readMsr(apicBaseMsr) : bus.peekMsr(apicBaseMsr)) ?? 0xfee0_0900n;
  }

  // --- requests ----------------------------------------------------------------------------------------------------

  /** Devices run on this thread, between two KVM_RUNs: the next one sees what they did. */
  attend(): void {}

  stop(): void {
    this.#stopRequested = true;
  }

  signalNmi(): void {
    this.#nmiRequested = true;
  }

  inject(event: PendingEvent): void {
    this.setState({ ...this.getState(), pendingEvent: event });
  }

  reset(kind: "reset" | "init"): void {
    if (this.#resetRequest !== "reset") this.#resetRequest = kind;
    if (!this.#isRunning) this.#performReset();
  }

  #performReset(): void {
    const kind = this.#resetRequest;
    if (kind === undefined) return;
    this.#completeIo();
    this.#resetRequest = undefined;
    const { model } = this.#options;
    this.setState(kind === "reset" ? stateAfterReset(model) : stateAfterInit(model, this.getState()));
    if (kind === "init") this.#options.bus.initialized?.();
  }

  startUp(vector: number): void {
    const state = this.getState();
    const code: SegmentState = { selector: vector << 8, base: BigInt(vector << 12), limit: 0xffff, attributes: 0x9b };
    this.setState({ ...state, rip: 0n, segments: state.segments.map((segment, index) => (index === 1 ? code : segment)), activity: "active" });
  }

  // --- time --------------------------------------------------------------------------------------------------------

  timeStampCounter(): bigint {
    return this.#vcpu.readMsrs([this.#msrs.timeStampIndex])[0] ?? 0n;
  }

  timeChanged(): void {
    const { bus, timeStampFrequencyHz, setClock } = this.#options;
    const wanted = bus.timeStampCounter();
    // Both clocks of the guest tell the machine's time.
    if (wanted >= 0n) setClock?.((wanted * 1_000_000_000n) / BigInt(timeStampFrequencyHz));
    const offset = this.#vcpu.readTscOffset();
    if (offset === undefined) this.#vcpu.writeMsrs([[this.#msrs.timeStampIndex, wanted]]);
    else this.#vcpu.writeTscOffset(BigInt.asIntN(64, offset + wanted - this.timeStampCounter()));
  }

  // --- debugging ---------------------------------------------------------------------------------------------------

  setDebug(settings: DebugSettings): void {
    invariant(settings.breakpoints.length <= hardwareBreakpoints, "there are four breakpoints");
    this.#debug = settings;
    this.#applyDebug(settings);
  }

  #applyDebug({ breakpoints, isSingleStep }: DebugSettings): void {
    const hasBreakpoints = breakpoints.length > 0 && this.#options.breakpointsWork();
    this.#isStepping = isSingleStep || (breakpoints.length > 0 && !hasBreakpoints);
    const view = new DataView(new ArrayBuffer(Size.guestDebug));
    view.setUint32(0, (hasBreakpoints || this.#isStepping ? GuestDebugControl.enableMask : 0) |
      (this.#isStepping ? GuestDebugControl.singleStepMask : 0) | (hasBreakpoints ? GuestDebugControl.hardwareBreakpointsMask : 0), true);
    if (hasBreakpoints) {
      breakpoints.forEach((address, index) => view.setBigUint64(8 + 8 * index, address, true));
      view.setBigUint64(8 + 8 * 7, BigInt(breakpoints.reduce((dr7, _, index) => dr7 | breakpointEnable(index), 0x400)), true);
    }
    this.#vcpu.set(Request.setGuestDebug, view);
  }

  /**
   * Steps over a breakpoint that `run` begins with (RF would do, but KVM's emulator does not look at it), and over the
   * instruction behind an interrupt shadow that `setState` brought (QEMU's translator does not load it into a guest).
   */
  #beginPass(): void {
    const isAtBreakpoint = this.#debug.breakpoints.length > 0 && this.#isAtBreakpoint();
    const isPassing = isAtBreakpoint || this.#isShadowed;
    if (isPassing === this.#isPassing) return;
    this.#isPassing = isPassing;
    this.#applyDebug(isPassing ? { isSingleStep: true, breakpoints: [] } : this.#debug);
  }

  #isAtBreakpoint(): boolean {
    const { rip, segments, msrs } = this.getState();
    const is64Bit = (msrs.efer & BigInt(EferMask.LMA)) !== 0n && (segments[1].attributes & SegmentAttribute.long) !== 0;
    return this.#debug.breakpoints.includes(is64Bit ? rip : BigInt.asUintN(32, rip + segments[1].base));
  }

  #endPass(): void {
    this.#isPassing = false;
    this.#isShadowed = false;
    this.#applyDebug(this.#debug);
  }

  /** KVM's emulator does not stop after an instruction whose I/O we completed. */
  #stepOfIo(): RunStop | undefined {
    if (!this.#isIoOpen || !this.#isStepping) return undefined;
    return this.#completeIo() ?? (this.#isStepping ? this.#debugExit() : undefined);
  }

  #debugExit(): RunStop | undefined {
    if (this.#isPassing) this.#endPass();
    return this.#debug.isSingleStep || this.#isAtBreakpoint() ? "debug" : undefined;
  }

  // --- state -------------------------------------------------------------------------------------------------------

  getState(): ProcessorState {
    return {
      version: processorStateVersion,
      ...readKernelState(this.#vcpu, this.#options.format),
      storedMsrs: this.#storedMsrs(), activity: this.#activity, heldDebugConditions: 0,
      ...(this.#nmiRequested ? { isNmiPending: true } : {}),
    };
  }

  /** Those that KVM keeps beyond the processor's own, too. */
  #storedMsrs(): ProcessorState["storedMsrs"] {
    if (this.#options.setClock === undefined) return this.#msrs.stored;
    const values = this.#vcpu.readMsrs(clockMsrs);
    const clock = clockMsrs.map((index, at) => [index, values[at] ?? 0n] as const);
    return [...this.#msrs.stored, ...clock].toSorted(([a], [b]) => a - b);
  }

  setState(state: ProcessorState): void {
    if (isVirtualizing(state)) {
      throw new UserError("SNAPSHOT_IMPOSSIBLE", "The guest has switched hardware-assisted virtualization on, which the kvm accelerator cannot take over: unload its hypervisor (kvm-amd, kvm-intel), or use --accel soft.");
    }
    const { format, bus } = this.#options;
    // An NMI that waits goes the way of a new one, which wakes a halted processor.
    this.#nmiRequested = state.isNmiPending;
    writeKernelState(this.#vcpu, { ...state, isNmiPending: false }, format, { apicBase: this.#apicBase(), taskPriority: bus.taskPriority() });
    const isClock = ([index]: readonly [number, bigint]): boolean => clockMsrs.includes(index);
    this.#msrs.stored = state.storedMsrs.filter((register) => !isClock(register));
    if (this.#options.setClock !== undefined) this.#vcpu.writeMsrs(clockMsrs.map((index) => [index, state.storedMsrs.find(([other]) => other === index)?.[1] ?? 0n]));
    this.#activity = state.activity;
    this.#isShadowed = state.shadow !== "none";
    this.failure = undefined;
    this.#bytes[Run.ifFlag] = (state.rflags & FlagMask.IF) === 0 ? 0 : 1;
    this.#bytes[Run.readyForInterruptInjection] = 0;
  }

  setBootState(boot: BootState): void {
    const state = this.getState();
    this.setState({
      ...state,
      general: boot.general.map(BigInt), rip: BigInt(boot.rip), rflags: boot.rflags, privilegeLevel: 0,
      segments: boot.segments.map(({ selector, base, limit, attributes }) => ({ selector, base: BigInt(base), limit, attributes })),
      gdtr: { base: BigInt(boot.gdtr.base), limit: boot.gdtr.limit }, idtr: { base: BigInt(boot.idtr.base), limit: boot.idtr.limit },
      cr0: BigInt(boot.cr0), cr3: BigInt(boot.cr3), cr4: BigInt(boot.cr4), msrs: { ...state.msrs, efer: BigInt(boot.efer) },
    });
  }

  close(): void {
    const { calls, interrupter, run } = this.#options;
    interrupter.close();
    calls.unmap(run);
    calls.close(this.#vcpu.descriptor);
  }
}

/** Little-endian. */
function readValue(bytes: Uint8Array, at: number, sizeBytes: 1 | 2 | 4): number {
  if (sizeBytes === 1) return bytes[at];
  const low = bytes[at] | (bytes[at + 1] << 8);
  return sizeBytes === 2 ? low : (low | (bytes[at + 2] << 16) | (bytes[at + 3] << 24)) >>> 0;
}

function writeValue(bytes: Uint8Array, at: number, sizeBytes: 1 | 2 | 4, value: number): void {
  bytes[at] = value;
  if (sizeBytes === 1) return;
  bytes[at + 1] = value >>> 8;
  if (sizeBytes === 2) return;
  bytes[at + 2] = value >>> 16;
  bytes[at + 3] = value >>> 24;
}

/** Largest naturally aligned access that fits. */
function naturalStep(address: number, sizeBytes: number): 1 | 2 | 4 {
  if (sizeBytes >= 4 && address % 4 === 0) return 4;
  return sizeBytes >= 2 && address % 2 === 0 ? 2 : 1;
}
