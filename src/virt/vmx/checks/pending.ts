/** Which checks of VM entry a write to a field makes necessary; what was checked and has not changed since still holds. */
import { FlagMask } from "../../../isa/flags.ts";
import { Field, type VmcsField } from "../fields.ts";
import type { Vmcs } from "../vmcs.ts";

/** Groups of checks. */
export const Unchecked = {
  controls: 1, host: 2, guest: 4,
  /** The guest's RIP. */
  instructionPointer: 8,
  /** The event to inject, RFLAGS, activity, interruptibility and pending debug exceptions. */
  event: 16,
  /** Nothing to check: the host's segment registers have to be made anew from their fields. */
  hostSegments: 32,
  /** Nothing to check: what instructions and page faults of the guest ask for has to be made anew. */
  interception: 64,
} as const;
export const allUnchecked = 0xff;

/** Fields that no check looks at. */
const uncheckedFields: ReadonlySet<VmcsField> = new Set([
  Field.guestRsp, Field.hostRsp, Field.cr0ReadShadow, Field.cr4ReadShadow, Field.cr3Target0, Field.cr3Target1, Field.cr3Target2,
  Field.cr3Target3, Field.tscOffset, Field.preemptionTimerValue, Field.guestInterruptStatus, Field.eoiExitBitmap0,
  Field.eoiExitBitmap1, Field.eoiExitBitmap2, Field.eoiExitBitmap3, Field.guestSysenterCs, Field.hostSysenterCs, Field.pmlIndex,
  Field.pleGap, Field.pleWindow, Field.guestSmbase, Field.xssExitingBitmap, Field.eptpIndex,
]);
const interceptionFields: ReadonlySet<VmcsField> = new Set([
  Field.exceptionBitmap, Field.pageFaultErrorCodeMask, Field.pageFaultErrorCodeMatch, Field.cr0Mask, Field.cr4Mask,
]);
const eventFields: ReadonlySet<VmcsField> = new Set([
  Field.entryInterruptionInformation, Field.entryExceptionErrorCode, Field.entryInstructionLength, Field.guestRflags,
  Field.guestInterruptibility, Field.guestActivity, Field.guestPendingDebugExceptions,
]);

function groupsOf(field: VmcsField): number {
  if (field.type === "read-only" || uncheckedFields.has(field)) return 0;
  if (interceptionFields.has(field)) return Unchecked.interception;
  if (eventFields.has(field)) return Unchecked.event;
  if (field === Field.guestRip) return Unchecked.instructionPointer;
  return field.type === "host" ? Unchecked.host | Unchecked.hostSegments : field.type === "guest" ? Unchecked.guest : allUnchecked;
}

/** What a write to a field makes necessary, in bits of `Unchecked`. */
export const groupsByField: ReadonlyMap<VmcsField, number> = new Map(Object.values(Field).map((field) => [field, groupsOf(field)]));

/** Before software writes `value` to a field. */
export function noteFieldWrite(vmcs: Vmcs, field: VmcsField, value: bigint): void {
  vmcs.unchecked |= groupsByField.get(field) ?? allUnchecked;
  // Virtual-8086 mode changes what the segment registers may hold.
  const flagsChanged = field === Field.guestRflags ? vmcs.get32(field) ^ Number(value & 0xffff_ffffn) : 0;
  if ((flagsChanged & FlagMask.VM) !== 0) vmcs.unchecked |= Unchecked.guest;
}
