/** VMRUN: checks, the switch to the guest, and the event that it injects (AMD APM volume 2, "VMRUN", "Event Injection"). */
import { Status } from "../../ir/index.ts";
import { Vector } from "../../isa/definition.ts";
import * as layout from "../../isa/state.ts";
import type { StateView } from "../../isa/state-view.ts";
import { supportedCr4 } from "../../isa/system/control-registers.ts";
import { deliverEvent, type ProcessorEvent } from "../../isa/system/exceptions.ts";
import { Cr0Mask } from "../../isa/system/mode.ts";
import { supportedEfer } from "../../isa/system/model-specific.ts";
import { findViolation } from "./checks.ts";
import type { SvmContext } from "./context.ts";
import { loadGuest } from "./guest-state.ts";
import { Control, EventInfo, EventType, Save, vmcbBytes } from "./vmcb.ts";

const interruptShadowMask = 1;

export function runGuest(context: SvmContext, vmcb: StateView): Status {
  const { processor: p, host } = context;
  const { state } = p;
  if (!isConsistent(context, vmcb)) return refuse(context, vmcb);
  host.save(state, p.nextRip());
  context.loadControls(vmcb);
  p.contextEnds(context);
  loadGuest(state, vmcb);
  if (context.hasNestedPaging) {
    context.hostPat = state.get64(layout.pat);
    state.copy64(layout.pat, Save.guestPat, vmcb);
  }
  if (context.hasOwnBranches) {
    context.hostBranches = context.registers.branches.values;
    context.registers.branches.load(vmcb);
    if (context.registers.branches.isRecording) p.attend();
  }
  context.isGuest = true;
  context.gif = true;
  state.set32(layout.interception, context.interception.mask);
  context.enterSpace(vmcb);
  p.contextReplaced();
  if (p.memory.paging.mode === "pae") p.memory.loadPageDirectoryPointers();
  if ((vmcb.get32(Control.interruptState) & interruptShadowMask) !== 0) state.set32(layout.interruptShadow, 1);
  context.observer?.({
    kind: "entry", reason: "VMRUN", code: 0, space: vmcb.get32(Control.asid), controlBlock: context.vmcbAddress, rip: state.get64(layout.rip),
    information: [0n, 0n],
  });
  inject(context, vmcb);
  return Status.Branch;
}

function isConsistent({ processor: p, checked }: SvmContext, vmcb: StateView): boolean {
  const hasHostPaging = (p.state.get32(layout.cr0) & Cr0Mask.PG) !== 0;
  if (checked.isKnown(vmcb, hasHostPaging)) return true;
  const isSound = findViolation(vmcb, {
    model: p.model, writableCr4Mask: supportedCr4(p), writableEferMask: supportedEfer(p), hasHostPaging,
  }) === undefined;
  if (isSound) checked.keep(vmcb, hasHostPaging);
  return isSound;
}

/** VMEXIT_INVALID: the guest has not run, and its state stays as it is. */
function refuse(context: SvmContext, vmcb: StateView): Status {
  const allOnes = 0xffff_ffff;
  context.processor.physical.announceWrite(vmcb.base, vmcbBytes);
  vmcb.setHalves(Control.exitCode, allOnes, allOnes);
  vmcb.setHalves(Control.exitInfo1, 0, 0);
  vmcb.setHalves(Control.exitInfo2, 0, 0);
  vmcb.set32(Control.exitInterruptInfo, 0);
  context.gif = false;
  context.observer?.({
    kind: "exit", reason: "INVALID", code: -1, space: vmcb.get32(Control.asid), controlBlock: context.vmcbAddress, rip: vmcb.get64(Save.rip),
    information: [0n, 0n],
  });
  return Status.Next;
}

/** Delivers the event that EVENTINJ names. */
function inject({ processor: p, interrupts }: SvmContext, vmcb: StateView): void {
  const info = vmcb.get32(Control.eventInjection);
  if ((info & EventInfo.validMask) === 0) return;
  const type = (info >>> EventInfo.typeShift) & 7;
  const vector = type === EventType.nmi ? Vector.NMI : info & 0xff;
  const errorCode = (info & EventInfo.errorCodeValidMask) !== 0 ? vmcb.get32(Control.eventInjectionError) : undefined;
  const isByInstruction = type === EventType.software || (type === EventType.exception && (vector === Vector.BP || vector === Vector.OF));
  // What an instruction would have raised comes back behind it: NEXT_RIP says where that is.
  const instructionLength = isByInstruction ? Number(BigInt.asIntN(64, vmcb.get64(Control.nextRip) - p.state.get64(layout.rip))) : 0;
  if (type === EventType.nmi && interrupts.hasVirtualNmi) interrupts.isNmiMasked = true;
  deliverEvent(p, { vector, errorCode, kind: injectedKind(type, isByInstruction), instructionLength, isInjected: true });
}

function injectedKind(type: number, isByInstruction: boolean): ProcessorEvent["kind"] {
  switch (type) {
    case EventType.interrupt: return "external";
    case EventType.nmi: return "nmi";
    case EventType.software: return "software";
    default: return isByInstruction ? "software exception" : "exception";
  }
}
