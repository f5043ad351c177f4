/** Interrupts and NMIs between two instructions: who gets them, and the guest's virtual ones (AMD APM volume 2, "Interrupt and Local APIC Support"). */
import { Vector } from "../../isa/definition.ts";
import { FlagMask, hasSystemFlag } from "../../isa/flags.ts";
import * as layout from "../../isa/state.ts";
import { deliverEvent } from "../../isa/system/exceptions.ts";
import type { BoundaryAction, PendingEvents } from "../../isa/virtualization.ts";
import type { SvmContext } from "./context.ts";
import { eventExit, ExitCode, Intercept } from "./exit-codes.ts";
import { leaveGuest } from "./exit.ts";

/** Shadow of a load of SS, which NMIs respect, too. */
const stackSegmentShadow = 2;

/** Whether physical interrupts are taken, by RFLAGS.IF of who it belongs to. */
function admitsInterrupts({ isGuest, interrupts, host, processor }: SvmContext): boolean {
  return isGuest && interrupts.isMasking ? host.hasInterruptFlag : hasSystemFlag(processor.state, FlagMask.IF);
}

function hasVirtualInterrupt({ isGuest, interrupts, processor }: SvmContext): boolean {
  return isGuest && interrupts.isPending && hasSystemFlag(processor.state, FlagMask.IF);
}

export function hasEvent(context: SvmContext, { nmi, interrupt }: PendingEvents): boolean {
  if (!context.gif) return false;
  return nmi || (interrupt && admitsInterrupts(context)) || hasVirtualInterrupt(context) || (context.isGuest && context.interrupts.isNmiPending);
}

export function takeEvent(context: SvmContext, { nmi, interrupt, shadow }: PendingEvents): BoundaryAction {
  const { gif, isGuest, processor: p, interrupts } = context;
  if (!gif) return "none";
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
