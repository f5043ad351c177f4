/** Interrupts and exceptions with what happens when their delivery faults (SDM volume 3, "Interrupt 8—Double Fault Exception"). */
import { Vector } from "../definition.ts";
import type { Processor } from "../processor.ts";
import * as layout from "../state.ts";
import { exitVector } from "../virtualization.ts";
import { deliver } from "./interrupt-delivery.ts";
import { Activity } from "./mode.ts";
import { describeEvent, shutDown } from "./shutdown.ts";

/** What is delivered, and where it comes from. */
export interface ProcessorEvent {
  readonly vector: number;
  readonly errorCode?: number | undefined;
  /**
   * "software" is INT n and "software exception" INT3 and INTO, whose gates must be accessible to the program; "privileged
   * software" is INT1; "exception" is raised by an instruction, "external" and "nmi" come between instructions.
   */
  readonly kind: "exception" | "external" | "software" | "software exception" | "privileged software" | "nmi";
  /** For software interrupts: bytes from state.rip to the instruction that follows. */
  readonly instructionLength?: number;
  /** A hypervisor has it delivered: it is not intercepted itself. */
  readonly isInjected?: boolean;
}

/** Whether the gate's privilege level counts: the program has named the gate. */
export function isByProgram({ kind }: ProcessorEvent): boolean {
  return kind === "software" || kind === "software exception";
}

const noException = 0xffff_ffff;

/** Exceptions that make a double fault out of a second one. */
const contributoryVectors: ReadonlySet<number> = new Set([
  Vector.DE, Vector.TS, Vector.NP, Vector.SS, Vector.GP, Vector.CP,
]);

/** Exceptions whose error code names a selector, with the EXT bit. */
const selectorErrorVectors: ReadonlySet<number> = new Set([Vector.TS, Vector.NP, Vector.SS, Vector.GP]);

/**
 * Delivers an event at state.rip and continues in its handler; faults on the way become events themselves, up to the
 * double fault. False when that fails too: the processor is then shut down (a "triple fault"), its state as before.
 */
export function deliverEvent(p: Processor, event: ProcessorEvent): boolean {
  if (event.isInjected !== true && leavesGuest(p, event, undefined)) return true;
  return deliverAdmitted(p, event);
}

function deliverAdmitted(p: Processor, event: ProcessorEvent): boolean {
  const { state } = p;
  let current = event;
  /** What went wrong so far, for the case that it ends in a shutdown. */
  const steps: string[] = [];
  const from = p.virtualization?.branchRecord === undefined ? 0n : state.get64(layout.rip);
  for (;;) {
    state.set32(layout.exceptionVector, noException);
    if (deliver(p, current)) {
      finishDelivery(p, current);
      p.virtualization?.branchRecord?.noteEvent(current, from, state.get64(layout.rip));
      return true;
    }
    if (state.get32(layout.exceptionVector) === exitVector) {
      p.virtualization?.exit(current);
      return true;
    }
    const fault = recordedException(p, current);
    if (leavesGuest(p, fault, current)) return true;
    steps.push(describeEvent(p, current));
    if (fault.vector === Vector.PF) state.set64(layout.cr2, state.get64(layout.pageFaultAddress));
    const next = combine(fault, current);
    if (next === undefined) {
      state.set32(layout.exceptionVector, noException);
      if (p.virtualization?.isGuest === true && p.virtualization.interceptsShutdown()) {
        p.virtualization.exit(undefined);
        return true;
      }
      shutDown(p, [...steps, describeEvent(p, fault)]);
      return false;
    }
    if (next.vector === Vector.DF && leavesGuest(p, next, undefined)) return true;
    current = next;
  }
}

/** Lets the hypervisor have the event instead; true when it wants it. */
function leavesGuest(p: Processor, event: ProcessorEvent, during: ProcessorEvent | undefined): boolean {
  const { virtualization } = p;
  if (virtualization === undefined || !virtualization.isGuest || !virtualization.interceptsEvent(event, during)) return false;
  virtualization.exit(during);
  return true;
}

/** Delivers the exception that is recorded in the state, or leaves the guest by the recorded exit. */
export function deliverRecordedException(p: Processor): boolean {
  const { state } = p;
  if (state.get32(layout.exceptionVector) === exitVector) {
    p.virtualization?.exit(undefined);
    return true;
  }
  const event = recordedException(p);
  if (leavesGuest(p, event, undefined)) return true;
  if (event.vector === Vector.PF) state.set64(layout.cr2, state.get64(layout.pageFaultAddress));
  return deliverAdmitted(p, event);
}

/** `during`: the event whose delivery raised it, which EXT in the error code tells unless the program had named the gate. */
function recordedException({ state }: Processor, during?: ProcessorEvent): ProcessorEvent {
  const vector = state.get32(layout.exceptionVector);
  const errorCode = errorCodeOf(vector, state.get32(layout.exceptionErrorCode));
  const isExternal = during !== undefined && !isByProgram(during) && selectorErrorVectors.has(vector);
  return { vector, errorCode: isExternal ? errorCode! | 1 : errorCode, kind: "exception" };
}

/** The error code where the vector has one (SDM volume 3, table "Protected-Mode Exceptions and Interrupts"). */
function errorCodeOf(vector: number, errorCode: number): number | undefined {
  const isWithErrorCode = vector === Vector.DF || vector === Vector.PF || vector === Vector.AC || vector === Vector.CP ||
    selectorErrorVectors.has(vector);
  return isWithErrorCode ? errorCode : undefined;
}

function finishDelivery(p: Processor, event: ProcessorEvent): void {
  const { state } = p;
  if (event.vector === Vector.DB && event.kind === "exception") {
    const generalDetectMask = 1n << 13n;
    state.set64(layout.dr[7], state.get64(layout.dr[7]) & ~generalDetectMask);
  }
  // An NMI that a hypervisor injects does not hold off the machine's own.
  if (event.kind === "nmi" && event.isInjected !== true) state.set32(layout.nmiBlocked, 1);
  state.set32(layout.interruptShadow, 0);
  state.set32(layout.activity, Activity.active);
  p.dropSingleStep();
  p.modeChanged();
}

/** The event that follows from the `fault` raised while `first` was being delivered; undefined: shutdown. */
function combine(fault: ProcessorEvent, first: ProcessorEvent): ProcessorEvent | undefined {
  const { vector } = fault;
  if (first.kind === "exception") {
    if (first.vector === Vector.DF) return undefined;
    const isContributory = contributoryVectors.has(vector);
    const makesDoubleFault = (contributoryVectors.has(first.vector) && isContributory) ||
      (first.vector === Vector.PF && (isContributory || vector === Vector.PF));
    if (makesDoubleFault) return { vector: Vector.DF, errorCode: 0, kind: "exception" };
  }
  return fault;
}
