/** What generated code knows of the fields of a VMCS. */
import { FieldWord, fieldNumber } from "../../isa/semantics/vmcs-access.ts";
import type { StateView } from "../../isa/state-view.ts";
import { vmcsFieldsOffset } from "../../isa/state.ts";
import { groupsByField } from "./checks/pending.ts";
import { Field, sizeBytesOf, vmcsFields } from "./fields.ts";

/** Fills the table of `vmcs-access.ts` with the fields that exist: those of no control, or of one that is offered. */
export function publishFields(state: StateView, offeredControls: ReadonlySet<string>): void {
  for (const field of vmcsFields) {
    const number = fieldNumber(field.encoding);
    if (number === undefined || (field.requires !== undefined && !offeredControls.has(field.requires))) continue;
    const shift = 64 - sizeBytesOf(field.width) * 8;
    // What a write to RFLAGS makes necessary depends on its value.
    const isWritable = field === Field.guestRflags ? 0 : FieldWord.isWritable;
    const word = field.offset | (shift << FieldWord.shiftAt) | ((groupsByField.get(field) ?? 0xff) << FieldWord.groupsAt) | isWritable | FieldWord.isReadable;
    state.u32[((state.base + vmcsFieldsOffset) >>> 2) + number] = word;
  }
}
