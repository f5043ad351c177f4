/** #VMEXIT: what it tells in the control block, and the way back to the host (AMD APM volume 2, "#VMEXIT"). */
import { hostSpace } from "../../engine/mmu.ts";
import * as layout from "../../isa/state.ts";
import type { StateView } from "../../isa/state-view.ts";
import type { ProcessorEvent } from "../../isa/system/exceptions.ts";
import { Activity } from "../../isa/system/mode.ts";
import type { SvmContext } from "./context.ts";
import { exitCodeName, type Exit } from "./exit-codes.ts";
import { saveGuest } from "./guest-state.ts";
import { Control, EventInfo, EventType, Save, vmcbBytes } from "./vmcb.ts";

const noException = 0xffff_ffff;
const maximumInstructionBytes = 15;

/** Types of events as EXITINTINFO has them. */
const eventTypes: Readonly<Record<ProcessorEvent["kind"], number>> = {
  external: EventType.interrupt, nmi: EventType.nmi, exception: EventType.exception, software: EventType.software,
  "software exception": EventType.exception, "privileged software": EventType.exception,
};

/** Leaves the guest by the exit recorded last; `during` is the event whose delivery it interrupts. */
export function leaveGuest(context: SvmContext, during: ProcessorEvent | undefined): void {
  const { processor: p, vmcb, interrupts, features } = context;
  const { state } = p;
  // A copy: reading the instruction's bytes may run into violations of its own.
  const { exit } = context;
  p.physical.announceWrite(vmcb.base, vmcbBytes);
  if (exit.hasNextRip && features.hasNextRip) vmcb.set64(Control.nextRip, p.nextRip());
  else vmcb.setHalves(Control.nextRip, 0, 0);
  saveInstructionBytes(context, exit);
  vmcb.setHalves(Control.exitCode, exit.code, 0);
  vmcb.set64(Control.exitInfo1, exit.info1);
  vmcb.set64(Control.exitInfo2, exit.info2);
  saveInterruptedEvent(vmcb, during);
  vmcb.set32(Control.eventInjection, vmcb.get32(Control.eventInjection) & ~EventInfo.validMask);
  vmcb.set32(Control.interruptState, p.currentShadow() !== 0 ? 1 : 0);
  if (context.avic.isEnabled) {
    interrupts.taskPriority = context.avic.taskPriority;
    context.avic.leave();
  }
  interrupts.save(vmcb);
  saveGuest(state, vmcb);
  if (context.hasNestedPaging) {
    vmcb.copy64(Save.guestPat, layout.pat, state);
    state.set64(layout.pat, context.hostPat);
  }
  if (context.hostBranches !== undefined) {
    context.registers.branches.save(vmcb);
    context.registers.branches.values = context.hostBranches;
    context.hostBranches = undefined;
  }
  context.observer?.({
    kind: "exit", reason: exitCodeName(exit.code), code: exit.code, space: vmcb.get32(Control.asid), controlBlock: context.vmcbAddress,
    rip: state.get64(layout.rip), information: [exit.info1, exit.info2],
  });
  p.memory.noteRoot(state.getAddress(layout.cr3));
  enterHost(context);
}

function enterHost(context: SvmContext): void {
  const { processor: p } = context;
  const { state } = p;
  p.contextEnds(context);
  context.isGuest = false;
  context.gif = false;
  context.host.restore(state);
  state.set32(layout.interception, 0);
  state.set32(layout.exceptionVector, noException);
  state.set32(layout.interruptShadow, 0);
  state.set32(layout.activity, Activity.active);
  p.memory.enterSpace(hostSpace, undefined, state.getAddress(layout.cr3));
  p.dropSingleStep();
  p.contextReplaced();
  if (p.memory.paging.mode === "pae") p.memory.loadPageDirectoryPointers();
}

function saveInstructionBytes({ processor, vmcb, features }: SvmContext, exit: Exit): void {
  const isGiven = exit.hasInstructionBytes && features.hasDecodeAssists;
  const bytes = isGiven ? processor.currentBytes() : undefined;
  vmcb.set8(Control.instructionBytesFetched, bytes?.length ?? 0);
  if (bytes === undefined) return;
  const first = vmcb.base + Control.instructionBytes.offset;
  vmcb.u8.fill(0, first, first + maximumInstructionBytes);
  vmcb.u8.set(bytes, first);
}

function saveInterruptedEvent(vmcb: StateView, event: ProcessorEvent | undefined): void {
  let info = 0;
  if (event !== undefined) {
    info = (event.vector | (eventTypes[event.kind] << EventInfo.typeShift) | EventInfo.validMask) >>> 0;
    if (event.errorCode !== undefined) info = (info | EventInfo.errorCodeValidMask) >>> 0;
  }
  vmcb.set32(Control.exitInterruptInfo, info);
  vmcb.set32(Control.exitInterruptError, event?.errorCode ?? 0);
}
