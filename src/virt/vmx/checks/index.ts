/** The checks of VM entry, as far as something has changed since they were passed. */
import { controlChecks, eventControlChecks, memoryControlChecks } from "./controls.ts";
import { eventGuestChecks, guestChecks, instructionPointerChecks, isIn64BitMode, memoryGuestChecks } from "./guest.ts";
import { Cr4Mask } from "../../../isa/system/mode.ts";
import { Control } from "../controls.ts";
import { Field } from "../fields.ts";
import { hostChecks } from "./host.ts";
import { allUnchecked, Unchecked } from "./pending.ts";
import { EntryView, firstFailure, type EntryCheck, type EntryEnvironment } from "./view.ts";
import type { Vmcs } from "../vmcs.ts";

export type EntryFailure =
  | { readonly kind: "controls" | "host"; readonly check: EntryCheck }
  | { readonly kind: "guest"; readonly check: EntryCheck };

const recheckedControls: readonly EntryCheck[] = [...eventControlChecks, ...memoryControlChecks];

function controlsToCheck(unchecked: number): readonly EntryCheck[] {
  if ((unchecked & Unchecked.controls) !== 0) return controlChecks;
  return (unchecked & Unchecked.event) !== 0 ? recheckedControls : memoryControlChecks;
}

const afterEvent: readonly EntryCheck[] = [...eventGuestChecks, ...memoryGuestChecks];
const afterInstructionPointer: readonly EntryCheck[] = [...instructionPointerChecks, ...memoryGuestChecks];
const afterBoth: readonly EntryCheck[] = [...instructionPointerChecks, ...afterEvent];

const none: readonly EntryCheck[] = [];
/** Groups that no check is about. */
const unrelated: number = Unchecked.hostSegments | Unchecked.interception;

/**
 * Whether nothing has to be checked but RIP, and RIP holds, as at nearly every entry: the hypervisor has moved its guest behind an
 * instruction. Checks that look at memory are those of a TPR threshold, of a link pointer and of PAE paging.
 */
function holdsAsBefore(vmcs: Vmcs, environment: EntryEnvironment): boolean {
  const { unchecked } = vmcs;
  if ((unchecked & ~(Unchecked.instructionPointer | unrelated)) !== 0) return false;
  if ((vmcs.get32(Field.primaryControls) & Control.tprShadow.mask) !== 0 || looksAtMemory(vmcs)) return false;
  return (unchecked & Unchecked.instructionPointer) === 0 || hasCanonicalRip(vmcs, environment.linearAddressBits);
}

/** Whether the guest's RIP is what its mode allows. */
export function hasCanonicalRip(vmcs: Vmcs, linearAddressBits: number): boolean {
  const high = vmcs.getHigh32(Field.guestRip) | 0, unused = 64 - linearAddressBits;
  return high === 0 || (isIn64BitMode(vmcs) && (high << unused) >> unused === high);
}

/** Whether memory matters: there is a link pointer, or PAE paging. */
export function looksAtMemory(vmcs: Vmcs): boolean {
  const hasLink = (vmcs.get32(Field.vmcsLinkPointer) & vmcs.getHigh32(Field.vmcsLinkPointer)) !== -1;
  const isLong = (vmcs.get32(Field.entryControls) & Control.ia32eModeGuest.mask) !== 0;
  return hasLink || (!isLong && (vmcs.get32(Field.guestCr4) & Cr4Mask.PAE) !== 0);
}

function guestToCheck(unchecked: number, view: EntryView): readonly EntryCheck[] {
  if ((unchecked & Unchecked.guest) !== 0) return guestChecks;
  if ((unchecked & ~unrelated) === 0 && !looksAtMemory(view.vmcs)) return none;
  const hasEvent = (unchecked & Unchecked.event) !== 0;
  if ((unchecked & Unchecked.instructionPointer) !== 0) return hasEvent ? afterBoth : afterInstructionPointer;
  return hasEvent ? afterEvent : memoryGuestChecks;
}

/** The first rule that does not hold. After none, the VMCS counts as checked. */
export function findEntryFailure(vmcs: Vmcs, environment: EntryEnvironment): EntryFailure | undefined {
  if (vmcs.wasCheckedInLongMode !== environment.isLongMode) vmcs.unchecked |= Unchecked.host;
  if (holdsAsBefore(vmcs, environment)) {
    vmcs.unchecked &= Unchecked.hostSegments;
    return undefined;
  }
  const { unchecked } = vmcs;
  const view = new EntryView(vmcs, environment);
  const control = firstFailure(controlsToCheck(unchecked), view);
  if (control !== undefined) return failed(view, "controls", control);
  const host = (unchecked & Unchecked.host) !== 0 ? firstFailure(hostChecks, view) : undefined;
  if (host !== undefined) return failed(view, "host", host);
  const guest = firstFailure(guestToCheck(unchecked, view), view);
  if (guest !== undefined) return failed(view, "guest", guest);
  vmcs.unchecked = unchecked & Unchecked.hostSegments;
  vmcs.wasCheckedInLongMode = environment.isLongMode;
  return undefined;
}

function failed({ vmcs }: EntryView, kind: EntryFailure["kind"], check: EntryCheck): EntryFailure {
  vmcs.unchecked = allUnchecked;
  return { kind, check };
}
