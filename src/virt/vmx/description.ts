/** The current VMCS by its fields, with what its bits mean and which checks of VM entry it fails. */
import type { ControlBlock, ControlBlockField } from "../../isa/virtualization.ts";
import { type BitNames, cr0Bits, cr4Bits, describeAccessRights, describeBits, eferBits, flagBits } from "../bit-names.ts";
import { controlChecks } from "./checks/controls.ts";
import { guestChecks } from "./checks/guest.ts";
import { hostChecks } from "./checks/host.ts";
import { EntryView, type EntryCheck, type EntryEnvironment } from "./checks/view.ts";
import type { VmxContext } from "./context.ts";
import { Control, type ControlGroup, controls } from "./controls.ts";
import { exitReasonName } from "./exit-reasons.ts";
import { Field, guestSegments, vmcsFields, type VmcsField } from "./fields.ts";
import { parseInterruption } from "./interruption.ts";

type Describe = (value: bigint) => string;

const bits = (names: BitNames): Describe => (value) => describeBits(value, names);

function controlBits(group: ControlGroup): Describe {
  // The words "exit:" and "entry:" tell apart what the fields' names tell apart here.
  return bits(controls.filter((control) => control.group === group).map(({ name, bit }) => [`"${name.replace(/^(?:exit|entry): /u, "")}"`, 1n << BigInt(bit)]));
}

function describeInterruption(value: bigint): string {
  const { isValid, type, vector, deliversErrorCode } = parseInterruption(Number(value));
  return isValid ? `type ${type}, vector ${vector}${deliversErrorCode ? " with error code" : ""}` : "none";
}

const entryFailureMask = 0x8000_0000n;
const exceptionNames: BitNames = Array.from({ length: 32 }, (_, vector) => [`#${vector}`, 1n << BigInt(vector)]);
const activities = ["active", "HLT", "shutdown", "wait-for-SIPI"];

/** Fields with a meaning beyond their number. */
const descriptions: ReadonlyMap<VmcsField, Describe> = new Map<VmcsField, Describe>([
  [Field.pinControls, controlBits("pin")], [Field.primaryControls, controlBits("primary")], [Field.secondaryControls, controlBits("secondary")],
  [Field.exitControls, controlBits("exit")], [Field.entryControls, controlBits("entry")], [Field.vmFunctionControls, controlBits("function")],
  [Field.exceptionBitmap, bits(exceptionNames)],
  [Field.exitReason, (value) => `${exitReasonName(Number(value & 0xffffn))}${(value & entryFailureMask) === 0n ? "" : ", VM entry failed"}`],
  [Field.exitInterruptionInformation, describeInterruption], [Field.idtVectoringInformation, describeInterruption],
  [Field.entryInterruptionInformation, describeInterruption],
  [Field.guestActivity, (value) => activities[Number(value)] ?? "reserved"],
  [Field.guestCr0, bits(cr0Bits)], [Field.guestCr4, bits(cr4Bits)], [Field.hostCr0, bits(cr0Bits)], [Field.hostCr4, bits(cr4Bits)],
  [Field.guestEfer, bits(eferBits)], [Field.hostEfer, bits(eferBits)], [Field.guestRflags, bits(flagBits)],
  ...guestSegments.map(({ accessRights }): [VmcsField, Describe] => [accessRights, (value) => describeAccessRights(Number(value))]),
]);

function problemsOf(checks: readonly EntryCheck[], view: EntryView): ControlBlock["problems"] {
  return checks.filter((check) => !check.holds(view)).map(({ rule, section, fields }) => (
    { problem: `it must be that ${rule} (${section})`, fields: fields.map(({ name }) => name) }
  ));
}

/** Undefined: VMPTRLD has made none current. */
export function describeVmcs({ current, isGuest, vmcs: running }: VmxContext, environment: EntryEnvironment): ControlBlock | undefined {
  const vmcs = isGuest ? running : current;
  if (vmcs === undefined) return undefined;
  // Its guest may be in any mode; what counts is the hypervisor's, in which it will come back.
  const isHostLong = (vmcs.get32(Field.exitControls) & Control.hostAddressSpaceSize.mask) !== 0;
  const view = new EntryView(vmcs, isGuest ? { ...environment, isLongMode: isHostLong } : environment);
  const fields = vmcsFields.map((field): ControlBlockField => {
    const value = vmcs.get(field);
    return { name: field.name, value, widthBits: field.width === "natural" ? 64 : field.width, meaning: descriptions.get(field)?.(value) };
  });
  return {
    kind: "VMCS", address: BigInt(vmcs.address), isRunning: isGuest, fields,
    problems: [controlChecks, hostChecks, guestChecks].flatMap((checks) => problemsOf(checks, view)),
  };
}
