/** What happens between two instructions of a guest: windows, timers, interrupts, NMIs, traps (SDM volume 3, "Other Causes of VM Exits"). */
import { FlagMask, hasSystemFlag } from "../../isa/flags.ts";
import * as layout from "../../isa/state.ts";
import { raiseDebugStatus } from "../../isa/system/debug.ts";
import { deliverEvent, deliverRecordedException } from "../../isa/system/exceptions.ts";
import type { BoundaryAction, PendingEvents } from "../../isa/virtualization.ts";
import { ActivityState, InterruptibilityMask } from "./checks/guest.ts";
import { Control } from "./controls.ts";
import type { ExitSink, VmxContext } from "./context.ts";
import { boundaryExit, ExitReason } from "./exit-reasons.ts";
import { Field } from "./fields.ts";
import { encodeInterruption, InterruptionType, type Interruption } from "./interruption.ts";
import type { VmxGuestState } from "./saved-state.ts";
import type { PreemptionTimer } from "./preemption-timer.ts";
import type { VirtualApic } from "./virtual-apic.ts";

const nmiVector = 2;

export class EventDecision {
  /** The guest's activity state as VM entry established it. */
  activity: number = ActivityState.active;
  /** Conditions of debug exceptions that VM entry made pending. */
  pendingDebug = 0;
  readonly #context: VmxContext;
  readonly #apic: VirtualApic;
  readonly #timer: PreemptionTimer;
  readonly #sink: ExitSink;
  /** Where the monitor trap flag stands: it exits at the boundary after the one at which the guest was entered. */
  #trap: VmxGuestState["monitorTrap"] = "off";
  /** The guest is left as soon as it would take interrupts, or NMIs. */
  #hasWindow = false;

  constructor(context: VmxContext, apic: VirtualApic, timer: PreemptionTimer, sink: ExitSink) {
    this.#context = context;
    this.#apic = apic;
    this.#timer = timer;
    this.#sink = sink;
  }

  /** Takes over the controls of the guest that is entered. */
  configure(): void {
    const context = this.#context;
    this.#hasWindow = context.has(Control.interruptWindowExiting) || context.has(Control.nmiWindowExiting);
  }

  /** VM entry; undefined: nothing is injected. */
  enter(injected: Interruption | undefined): void {
    const isOtherEvent = injected?.type === InterruptionType.otherEvent;
    const isEnabled = this.#context.has(Control.monitorTrapFlag);
    this.#trap = isOtherEvent || (isEnabled && injected !== undefined) ? "pending" : isEnabled ? "armed" : "off";
  }

  /** VM entry without a monitor trap flag to an active guest: nothing is injected. */
  enterActive(): void {
    this.#trap = "off";
    this.activity = ActivityState.active;
    this.pendingDebug = 0;
  }

  get monitorTrap(): VmxGuestState["monitorTrap"] {
    return this.#trap;
  }

  restore({ activity, pendingDebug, monitorTrap }: VmxGuestState): void {
    this.activity = activity;
    this.pendingDebug = pendingDebug;
    this.#trap = monitorTrap;
  }

  get #isNmiBlocked(): boolean {
    return this.#context.state.get32(layout.nmiBlocked) !== 0;
  }

  get #enablesInterrupts(): boolean {
    return hasSystemFlag(this.#context.state, FlagMask.IF);
  }

  /** Shutdown and wait-for-SIPI hold interrupts off; the latter NMIs too. */
  get #admitsInterrupts(): boolean {
    return this.activity !== ActivityState.shutdown && this.activity !== ActivityState.waitForSipi;
  }

  /** The timer does not wake from wait-for-SIPI. */
  get #isTimeOver(): boolean {
    return this.activity !== ActivityState.waitForSipi && this.#timer.isExpired;
  }

  #wantsNmi({ nmi }: PendingEvents): boolean {
    if (!nmi || this.activity === ActivityState.waitForSipi) return false;
    const context = this.#context;
    return context.has(Control.virtualNmis) || !this.#isNmiBlocked;
  }

  #wantsInterrupt({ interrupt }: PendingEvents): boolean {
    return interrupt && this.#admitsInterrupts && (this.#context.has(Control.externalInterruptExiting) || this.#enablesInterrupts);
  }

  /** Nothing waits for a boundary, or for interrupts to be enabled. */
  get areIdle(): boolean {
    return this.#apic.pendingExit === undefined && this.#trap === "off" && this.pendingDebug === 0 && !this.#apic.isRecognized && !this.#hasWindow;
  }

  has(pending: PendingEvents): boolean {
    if (this.areIdle && !pending.nmi && !pending.interrupt) return this.#isTimeOver;
    const context = this.#context;
    return this.#apic.pendingExit !== undefined || this.#trap === "pending" || this.pendingDebug !== 0 || this.#isTimeOver ||
      (context.has(Control.nmiWindowExiting) && !this.#isNmiBlocked) || this.#wantsNmi(pending) ||
      (this.#enablesInterrupts && (context.has(Control.interruptWindowExiting) || this.#apic.isRecognized)) || this.#wantsInterrupt(pending);
  }

  /** In the order of the manual's priorities. */
  take(pending: PendingEvents): BoundaryAction {
    const context = this.#context;
    const { processor, state } = context;
    const { pendingExit } = this.#apic;
    const isBlockedBySs = (pending.shadow & InterruptibilityMask.movSs) !== 0;
    if (pendingExit !== undefined) {
      this.#apic.pendingExit = undefined;
      return this.#leave(pendingExit);
    }
    if (this.#trap === "pending") return this.#leave(boundaryExit(ExitReason.monitorTrap));
    if (this.pendingDebug !== 0 && !isBlockedBySs) {
      const conditions = this.pendingDebug;
      this.pendingDebug = 0;
      raiseDebugStatus(processor, conditions);
      deliverRecordedException(processor);
      return "done";
    }
    if (this.#isTimeOver) return this.#leave(boundaryExit(ExitReason.preemptionTimer));
    if (context.has(Control.nmiWindowExiting) && !this.#isNmiBlocked && !isBlockedBySs) return this.#leave(boundaryExit(ExitReason.nmiWindow));
    if (this.#wantsNmi(pending) && !isBlockedBySs) return this.#takeNmi();
    if (pending.shadow === 0) {
      const isOpen = this.#enablesInterrupts && this.#admitsInterrupts;
      if (isOpen && context.has(Control.interruptWindowExiting)) return this.#leave(boundaryExit(ExitReason.interruptWindow));
      if (this.#wantsInterrupt(pending)) return this.#takeInterrupt();
      if (isOpen && this.#apic.isRecognized) {
        const vector = this.#apic.acknowledge();
        this.activity = ActivityState.active;
        deliverEvent(processor, { vector, kind: "external" });
        return "done";
      }
    }
    if (this.#trap === "armed" && state.get32(layout.activity) === 0) this.#trap = "pending";
    return "none";
  }

  #leave(exit: ReturnType<typeof boundaryExit>): BoundaryAction {
    this.#sink.leave(exit);
    return "done";
  }

  #takeNmi(): BoundaryAction {
    if (!this.#context.has(Control.nmiExiting)) {
      this.activity = ActivityState.active;
      return "nmi";
    }
    this.#sink.leave(boundaryExit(ExitReason.exceptionOrNmi, 0n, { interruption: encodeInterruption(nmiVector, InterruptionType.nmi, false) }));
    return "nmi taken";
  }

  #takeInterrupt(): BoundaryAction {
    const context = this.#context;
    const { processor, vmcs } = context;
    if (!context.has(Control.externalInterruptExiting)) {
      this.activity = ActivityState.active;
      return "interrupt";
    }
    if (!context.has(Control.acknowledgeInterrupt)) return this.#leave(boundaryExit(ExitReason.externalInterrupt));
    const vector = processor.acknowledgeInterrupt();
    if (vector < 0) return "none";
    if (context.has(Control.postedInterrupts) && vector === vmcs.get32(Field.postedInterruptNotificationVector)) {
      processor.bus.endOfInterrupt?.();
      this.#apic.processPosted();
      return "done";
    }
    return this.#leave(boundaryExit(ExitReason.externalInterrupt, 0n, {
      interruption: encodeInterruption(vector, InterruptionType.external, false),
    }));
  }
}
