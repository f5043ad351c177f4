/** INT n, INT3, INTO and INT1 (SDM volume 2, "INT n/INTO/INT3/INT1"; volume 3, "8086 Emulation" for virtual-8086 mode). */
import { Status } from "../../ir/index.ts";
import { Vector } from "../definition.ts";
import { ioPrivilegeLevel } from "../flags.ts";
import type { Processor } from "../processor.ts";
import * as layout from "../state.ts";
import { isIntercepted } from "../virtualization.ts";
import { deliverEvent, type ProcessorEvent } from "./exceptions.ts";
import { deliverToVirtual8086Handler } from "./interrupt-delivery.ts";
import { Cr4Mask, hasCr4, isVirtual8086 } from "./mode.ts";
import { isRedirected } from "./task-state.ts";

/** INT3, INTO and INT1: virtual-8086 mode makes no difference to them. */
export function raiseSoftwareInterrupt(p: Processor, vector: number, kind: "software" | "software exception" | "privileged software"): Status {
  return deliverEvent(p, eventOf(p, vector, kind)) ? Status.Branch : Status.Exit;
}

export function interruptByNumber(p: Processor, vector: number): Status {
  const { state } = p;
  if (isIntercepted(p, { kind: "int", vector })) return Status.Fault;
  if (isVirtual8086(state)) {
    const isForProgram = hasCr4(state, Cr4Mask.VME) ? isRedirected(p, vector) : false;
    if (isForProgram === undefined) return Status.Fault;
    if (isForProgram) {
      if (!deliverToVirtual8086Handler(p, eventOf(p, vector, "software"))) return Status.Fault;
      p.dropSingleStep();
      p.modeChanged();
      return Status.Branch;
    }
    if (ioPrivilegeLevel(state) < 3) return p.raise(Vector.GP, 0);
  }
  return raiseSoftwareInterrupt(p, vector, "software");
}

function eventOf(p: Processor, vector: number, kind: ProcessorEvent["kind"]): ProcessorEvent {
  p.state.set64(layout.rip, p.currentRip());
  return { vector, kind, instructionLength: Number(BigInt.asUintN(32, p.nextRip() - p.currentRip())) };
}
