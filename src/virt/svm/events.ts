/** Interrupts and NMIs between two instructions: who gets them, and the guest's virtual ones (AMD APM volume 2, "Interrupt and Local APIC Support"). */
import { Vector } from "../../isa/definition.ts";
import { FlagMask, hasSystemFlag } from "../../isa/flags.ts";
import * as layout from "../../isa/state.ts";
import { deliverEvent, type ProcessorEvent } from "../../isa/system/exceptions.ts";
import type { BoundaryAction, PendingEvents } from "../../isa/virtualization.ts";
import type { SvmContext } from "./context.ts";
import { eventExit, ExitCode, Intercept } from "./exit-codes.ts";
import { leaveGuest } from "./exit.ts";

/** Shadow of a load of SS, which NMIs respect, too. */
const stackSegmentShadow = 2;
const noException = 0xffff_ffff;

/** Whether physical interrupts are taken, by RFLAGS.IF of who it belongs to. */
function admitsInterrupts({ isGuest, interrupts, host, processor }: SvmContext): boolean {
  return isGuest && interrupts.isMasking ? host.hasInterruptFlag : hasSystemFlag(processor.state, FlagMask.IF);
}

function hasVirtualInterrupt({ isGuest, interrupts, avic, processor }: SvmContext): boolean {
  if (!isGuest || !hasSystemFlag(processor.state, FlagMask.IF)) return false;
  return avic.isEnabled ? avic.pendingVector >= 0 : interrupts.isPending;
}

/** A write to AVIC's page is executed again, alone; during the delivery of an event it is an exit. True: there is none. */
export function retryAlone(context: SvmContext, during: ProcessorEvent | undefined): boolean {
  const { avic, processor } = context;
  avic.wantsAlone = false;
  if (during !== undefined) {
    context.exit = eventExit(ExitCode.avicUnaccelerated);
    return false;
  }
  context.soloBoundaries = 2;
  processor.state.set32(layout.exceptionVector, noException);
  return true;
}

export function hasEvent(context: SvmContext, { nmi, interrupt }: PendingEvents): boolean {
  if (!context.gif) return false;
  if (context.avic.pendingExit !== undefined) return true;
  return nmi || (interrupt && admitsInterrupts(context)) || hasVirtualInterrupt(context) || (context.isGuest && context.interrupts.isNmiPending);
}

export function takeEvent(context: SvmContext, { nmi, interrupt, shadow }: PendingEvents): BoundaryAction {
  const { gif, isGuest, processor: p, interrupts, avic } = context;
  if (!gif) return "none";
  if (avic.pendingExit !== undefined) {
    context.exit = avic.pendingExit;
    avic.pendingExit = undefined;
    leaveGuest(context, undefined);
    return "done";
  }
  const isNmiAdmitted = p.state.get32(layout.nmiBlocked) === 0 && (shadow & stackSegmentShadow) === 0;
  if (nmi && isNmiAdmitted) return exitOrTake(context, Intercept.NMI, "nmi");
  if (isGuest && interrupts.isNmiPending && (shadow & stackSegmentShadow) === 0) {
    interrupts.acknowledgeNmi();
    deliverEvent(p, { vector: Vector.NMI, kind: "nmi", isInjected: true });
    return "done";
  }
  if (shadow !== 0) return "none";
  if (interrupt && admitsInterrupts(context)) return exitOrTake(context, Intercept.INTR, "interrupt");
  if (!hasVirtualInterrupt(context)) return "none";
  if (avic.isEnabled) {
    deliverEvent(p, { vector: avic.acknowledge(), kind: "external" });
    return "done";
  }
  if (context.interception.has(Intercept.VINTR)) return exitOrTake(context, Intercept.VINTR, "interrupt");
  interrupts.acknowledge();
  deliverEvent(p, { vector: interrupts.vector, kind: "external" });
  return "done";
}

function exitOrTake(context: SvmContext, intercept: number, action: "nmi" | "interrupt"): BoundaryAction {
  if (!context.isGuest || !context.interception.has(intercept)) return action;
  leaveByEvent(context, intercept);
  return "done";
}

function leaveByEvent(context: SvmContext, intercept: number): void {
  context.exit = eventExit(ExitCode.miscellaneous + intercept);
  leaveGuest(context, undefined);
}

/** INIT waits while the global interrupt flag is clear, as it is after it has left the guest. */
export function admitInit(context: SvmContext): "admitted" | "pending" {
  if (context.gif && context.isGuest && context.interception.has(Intercept.INIT)) {
    context.processor.state.set32(layout.currentRecord, 0);
    leaveByEvent(context, Intercept.INIT);
  }
  return context.gif ? "admitted" : "pending";
}
