/** Checks on the guest's segment registers (SDM volume 3, "Checks on Guest Segment Registers"). */
import { FlagMask } from "../../../isa/flags.ts";
import { SegmentAttribute, SegmentIndex } from "../../../isa/system/mode.ts";
import { Control } from "../controls.ts";
import { Field, guestSegments, type VmcsField } from "../fields.ts";
import type { EntryCheck, EntryView } from "./view.ts";

const section = "Checks on Guest Segment Registers";
const rplMask = 3;
const tableIndicatorMask = 4;
const typeMask = SegmentAttribute.typeMask;
const virtual8086Rights = 0xf3;
const reservedMask = 0xfffe_0f00;
const codeTypes: readonly number[] = [9, 11, 13, 15];
const writableAccessedType = 3;
const dataSegments: readonly number[] = [SegmentIndex.DS, SegmentIndex.ES, SegmentIndex.FS, SegmentIndex.GS];
const programSegments: readonly number[] = [SegmentIndex.CS, SegmentIndex.SS, ...dataSegments];

function isVirtual8086(view: EntryView): boolean {
  return (view.get32(Field.guestRflags) & FlagMask.VM) !== 0;
}

function rights(view: EntryView, index: number): number {
  return view.get32(guestSegments[index].accessRights);
}

function isUsable(view: EntryView, index: number): boolean {
  return (rights(view, index) & SegmentAttribute.unusable) === 0;
}

function dpl(value: number): number {
  return (value & SegmentAttribute.dplMask) >>> SegmentAttribute.dplShift;
}

function type(value: number): number {
  return value & typeMask;
}

function isUnrestricted(view: EntryView): boolean {
  return view.has(Control.unrestrictedGuest);
}

/** A rule about one register. */
function check(index: number, part: "selector" | "base" | "limit" | "accessRights", rule: string, holds: (view: EntryView) => boolean): EntryCheck {
  const fields: readonly VmcsField[] = [guestSegments[index][part]];
  return { rule: `${guestSegments[index].name}: ${rule}`, section, fields, holds };
}

/** A rule about the access rights of a register that is usable, outside of virtual-8086 mode. */
function rightsCheck(index: number, rule: string, holds: (value: number, view: EntryView) => boolean): EntryCheck {
  // CS is checked even when it is marked unusable.
  const matters = (view: EntryView): boolean => !isVirtual8086(view) && (index === SegmentIndex.CS || isUsable(view, index));
  return check(index, "accessRights", rule, (view) => !matters(view) || holds(rights(view, index), view));
}

const selectorChecks: readonly EntryCheck[] = [
  check(SegmentIndex.TR, "selector", "TI is 0", (view) => (view.get32(Field.guestTRSelector) & tableIndicatorMask) === 0),
  check(SegmentIndex.LDTR, "selector", "if usable, TI is 0", (view) =>
    !isUsable(view, SegmentIndex.LDTR) || (view.get32(Field.guestLDTRSelector) & tableIndicatorMask) === 0),
  check(SegmentIndex.SS, "selector", "outside of virtual-8086 mode and without \"unrestricted guest\", RPL equals that of CS", (view) =>
    isVirtual8086(view) || isUnrestricted(view) ||
    (view.get32(Field.guestSSSelector) & rplMask) === (view.get32(Field.guestCSSelector) & rplMask)),
];

const baseChecks: readonly EntryCheck[] = [
  ...programSegments.map((index) => check(index, "base", "in virtual-8086 mode, the base is 16 times the selector", (view) =>
    !isVirtual8086(view) || view.get(guestSegments[index].base) === BigInt(view.get32(guestSegments[index].selector) * 16))),
  ...[SegmentIndex.TR, SegmentIndex.FS, SegmentIndex.GS].map((index) =>
    check(index, "base", "the base is canonical", (view) => view.hasCanonical(guestSegments[index].base))),
  check(SegmentIndex.LDTR, "base", "if usable, the base is canonical", (view) =>
    !isUsable(view, SegmentIndex.LDTR) || view.hasCanonical(Field.guestLDTRBase)),
  check(SegmentIndex.CS, "base", "bits 63:32 of the base are 0", (view) => view.get(Field.guestCSBase) >> 32n === 0n),
  ...[SegmentIndex.SS, SegmentIndex.DS, SegmentIndex.ES].map((index) => check(index, "base", "if usable, bits 63:32 of the base are 0", (view) =>
    !isUsable(view, index) || view.get(guestSegments[index].base) >> 32n === 0n)),
];

const limitChecks: readonly EntryCheck[] = programSegments.map((index) =>
  check(index, "limit", "in virtual-8086 mode, the limit is 0xffff", (view) =>
    !isVirtual8086(view) || view.get32(guestSegments[index].limit) === 0xffff));

/** Limits that the granularity bit makes possible. */
function fitsGranularity(limit: number, value: number): boolean {
  const isInPages = (value & SegmentAttribute.granularity) !== 0;
  return isInPages ? (limit & 0xfff) === 0xfff : limit <= 0xf_ffff;
}

const virtual8086Checks: readonly EntryCheck[] = programSegments.map((index) =>
  check(index, "accessRights", "in virtual-8086 mode, the access rights are 0xf3", (view) =>
    !isVirtual8086(view) || rights(view, index) === virtual8086Rights));

const typeChecks: readonly EntryCheck[] = [
  rightsCheck(SegmentIndex.CS, "the type is accessed code (or, with \"unrestricted guest\", accessed writable data)", (value, view) =>
    codeTypes.includes(type(value)) || (isUnrestricted(view) && type(value) === writableAccessedType)),
  rightsCheck(SegmentIndex.SS, "if usable, the type is accessed writable data", (value) => type(value) === 3 || type(value) === 7),
  ...dataSegments.flatMap((index) => [
    rightsCheck(index, "if usable, the type is accessed", (value) => (value & SegmentAttribute.accessed) !== 0),
    rightsCheck(index, "if usable, code is readable", (value) =>
      (value & SegmentAttribute.code) === 0 || (value & SegmentAttribute.writableOrReadable) !== 0),
  ]),
  ...programSegments.map((index) => rightsCheck(index, "if usable, S is 1", (value) => (value & SegmentAttribute.codeOrData) !== 0)),
];

const privilegeChecks: readonly EntryCheck[] = [
  rightsCheck(SegmentIndex.CS, "DPL is 0 for data, that of SS for code, and at most that of SS for conforming code", (value, view) => {
    const stackLevel = dpl(rights(view, SegmentIndex.SS));
    if (type(value) === writableAccessedType) return dpl(value) === 0;
    return (value & SegmentAttribute.expandDownOrConforming) !== 0 ? dpl(value) <= stackLevel : dpl(value) === stackLevel;
  }),
  check(SegmentIndex.SS, "accessRights", "without \"unrestricted guest\", DPL equals RPL", (view) =>
    isVirtual8086(view) || isUnrestricted(view) || dpl(rights(view, SegmentIndex.SS)) === (view.get32(Field.guestSSSelector) & rplMask)),
  check(SegmentIndex.SS, "accessRights", "DPL is 0 if CS is data or CR0.PE is 0", (view) =>
    isVirtual8086(view) || dpl(rights(view, SegmentIndex.SS)) === 0 ||
    (type(rights(view, SegmentIndex.CS)) !== writableAccessedType && (view.get32(Field.guestCr0) & 1) !== 0)),
  ...dataSegments.map((index) =>
    rightsCheck(index, "without \"unrestricted guest\", DPL of data and non-conforming code is at least RPL", (value, view) =>
      isUnrestricted(view) || type(value) > 11 || dpl(value) >= (view.get32(guestSegments[index].selector) & rplMask))),
];

const commonChecks: readonly EntryCheck[] = programSegments.flatMap((index) => [
  rightsCheck(index, "if usable, P is 1", (value) => (value & SegmentAttribute.present) !== 0),
  rightsCheck(index, "if usable, reserved bits of the access rights are 0", (value) => (value & reservedMask) === 0),
  rightsCheck(index, "if usable, G fits the limit", (value, view) => fitsGranularity(view.get32(guestSegments[index].limit), value)),
]);

const sizeCheck: EntryCheck = rightsCheck(SegmentIndex.CS, "in 64-bit mode, D/B is 0", (value, view) =>
  !view.has(Control.ia32eModeGuest) || (value & SegmentAttribute.long) === 0 || (value & SegmentAttribute.big) === 0);

/** TR and, if usable, LDTR. */
function systemChecks(index: number, typeRule: string, hasType: (value: number, view: EntryView) => boolean): readonly EntryCheck[] {
  const matters = (view: EntryView): boolean => index === SegmentIndex.TR || isUsable(view, index);
  const rule = (text: string, holds: (value: number, view: EntryView) => boolean): EntryCheck =>
    check(index, "accessRights", text, (view) => !matters(view) || holds(rights(view, index), view));
  return [
    rule(typeRule, hasType),
    rule("S is 0", (value) => (value & SegmentAttribute.codeOrData) === 0),
    rule("P is 1", (value) => (value & SegmentAttribute.present) !== 0),
    rule("reserved bits of the access rights are 0", (value) => (value & reservedMask) === 0),
    rule("G fits the limit", (value, view) => fitsGranularity(view.get32(guestSegments[index].limit), value)),
  ];
}

export const segmentChecks: readonly EntryCheck[] = [
  ...selectorChecks, ...baseChecks, ...limitChecks, ...virtual8086Checks, ...typeChecks, ...privilegeChecks, ...commonChecks, sizeCheck,
  ...systemChecks(SegmentIndex.TR, "the type is a busy TSS (of 32 or 64 bits in IA-32e mode)", (value, view) =>
    type(value) === 11 || (type(value) === 3 && !view.has(Control.ia32eModeGuest))),
  check(SegmentIndex.TR, "accessRights", "the register is usable", (view) => isUsable(view, SegmentIndex.TR)),
  ...systemChecks(SegmentIndex.LDTR, "if usable, the type is an LDT", (value) => type(value) === 2),
];
