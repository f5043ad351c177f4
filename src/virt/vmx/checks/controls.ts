/** Checks on VMX controls: a failure is VMfailValid with error 7 (SDM volume 3, "Checks on VMX Controls"). */
import { cr3TargetCount, EptCapability, VmxMsr } from "../capabilities.ts";
import { Control, type ControlGroup } from "../controls.ts";
import { Field, type VmcsField } from "../fields.ts";
import { hasErrorCodeVector, InterruptionType, parseInterruption } from "../interruption.ts";
import { ifHas, type EntryCheck, type EntryView } from "./view.ts";

const executionSection = "VM-Execution Control Fields";
const exitSection = "VM-Exit Control Fields";
const entrySection = "VM-Entry Control Fields";
const pageBytes = 4096;
const msrEntryBytes = 16;

function areAllowed(view: EntryView, group: ControlGroup): boolean {
  const { trulyMustBeOne, mayBeOne } = view.environment.capabilities.controls[group];
  const word = view.word(group);
  return (trulyMustBeOne & ~word) === 0 && (word & ~mayBeOne) === 0;
}

function reserved(group: ControlGroup, section: string, name: string, field: VmcsField): EntryCheck {
  return { rule: `reserved bits of the ${name} have their values`, section, fields: [field], holds: (view) => areAllowed(view, group) };
}

function pageAddress(control: Parameters<typeof ifHas>[0], field: VmcsField, name: string): EntryCheck {
  return {
    rule: `if "${control.name}" is 1, ${name} is a page's physical address`, section: executionSection, fields: [field],
    holds: ifHas(control, (view) => view.isAlignedAddress(field, pageBytes)),
  };
}

/** If `control` is 1, `needed` is `value`. */
function together(control: Parameters<typeof ifHas>[0], needed: Parameters<typeof ifHas>[0], value: 0 | 1 = 1): EntryCheck {
  return {
    rule: `if "${control.name}" is 1, "${needed.name}" is ${value}`, section: executionSection, fields: [],
    holds: ifHas(control, (view) => view.has(needed) === (value === 1)),
  };
}

/** An MSR area lies below the end of the physical-address space; an empty one may have any address. */
function msrArea(section: string, name: string, address: VmcsField, count: VmcsField): EntryCheck {
  return {
    rule: `the ${name} area is aligned to 16 bytes and within the physical-address width`, section, fields: [address, count],
    holds: (view) => {
      const entries = view.get32(count);
      const first = view.get(address);
      return entries === 0 || ((first & 0xfn) === 0n && view.isPhysical(first) && view.isPhysical(first + BigInt(entries) * BigInt(msrEntryBytes) - 1n));
    },
  };
}

const memoryTypes = new Map([[0, EptCapability.uncacheable], [6, EptCapability.writeBack]]);

function eptCapabilities(view: EntryView): bigint {
  return view.environment.capabilities.registers.get(VmxMsr.EPT_VPID_CAP) ?? 0n;
}

/** Whether a value may be loaded as EPTP, at VM entry and by EPTP switching. */
export function isValidEptPointer(eptp: bigint, capabilities: bigint, physicalAddressBits: number): boolean {
  const memoryType = memoryTypes.get(Number(eptp & 7n));
  const walkLengthMinusOne = (eptp >> 3n) & 7n;
  const usesAccessedDirty = (eptp & 0x40n) !== 0n;
  return memoryType !== undefined && (capabilities & memoryType) !== 0n && walkLengthMinusOne === 3n &&
    (!usesAccessedDirty || (capabilities & EptCapability.accessedDirty) !== 0n) && (eptp & 0xf80n) === 0n &&
    eptp >> BigInt(physicalAddressBits) === 0n;
}

const executionChecks: readonly EntryCheck[] = [
  reserved("pin", executionSection, "pin-based VM-execution controls", Field.pinControls),
  reserved("primary", executionSection, "primary processor-based VM-execution controls", Field.primaryControls),
  reserved("secondary", executionSection, "secondary processor-based VM-execution controls", Field.secondaryControls),
  {
    rule: `the CR3-target count is at most ${cr3TargetCount}`, section: executionSection, fields: [Field.cr3TargetCount],
    holds: (view) => view.get32(Field.cr3TargetCount) <= cr3TargetCount,
  },
  pageAddress(Control.ioBitmaps, Field.ioBitmapA, "the address of I/O bitmap A"),
  pageAddress(Control.ioBitmaps, Field.ioBitmapB, "the address of I/O bitmap B"),
  pageAddress(Control.msrBitmaps, Field.msrBitmaps, "the address of the MSR bitmaps"),
  pageAddress(Control.tprShadow, Field.virtualApicAddress, "the virtual-APIC address"),
  {
    rule: "if \"use TPR shadow\" is 1 without \"virtual-interrupt delivery\", bits 31:4 of the TPR threshold are 0",
    section: executionSection, fields: [Field.tprThreshold],
    holds: ifHas(Control.tprShadow, (view) => view.has(Control.virtualInterruptDelivery) || view.get32(Field.tprThreshold) <= 0xf),
  },
  {
    rule: "if \"NMI exiting\" is 0, \"virtual NMIs\" is 0", section: executionSection, fields: [Field.pinControls],
    holds: (view) => view.has(Control.nmiExiting) || !view.has(Control.virtualNmis),
  },
  {
    rule: "if \"virtual NMIs\" is 0, \"NMI-window exiting\" is 0", section: executionSection, fields: [Field.pinControls, Field.primaryControls],
    holds: (view) => view.has(Control.virtualNmis) || !view.has(Control.nmiWindowExiting),
  },
  pageAddress(Control.apicAccesses, Field.apicAccessAddress, "the APIC-access address"),
  ...[Control.x2ApicMode, Control.apicRegisters, Control.virtualInterruptDelivery].map((control) => together(control, Control.tprShadow)),
  together(Control.x2ApicMode, Control.apicAccesses, 0),
  together(Control.virtualInterruptDelivery, Control.externalInterruptExiting),
  together(Control.postedInterrupts, Control.virtualInterruptDelivery),
  together(Control.postedInterrupts, Control.acknowledgeInterrupt),
  {
    rule: "if \"process posted interrupts\" is 1, the notification vector is at most 255", section: executionSection,
    fields: [Field.postedInterruptNotificationVector],
    holds: ifHas(Control.postedInterrupts, (view) => view.get32(Field.postedInterruptNotificationVector) <= 255),
  },
  {
    rule: "if \"process posted interrupts\" is 1, the descriptor's address is aligned to 64 bytes and within the physical-address width",
    section: executionSection, fields: [Field.postedInterruptDescriptorAddress],
    holds: ifHas(Control.postedInterrupts, (view) => view.isAlignedAddress(Field.postedInterruptDescriptorAddress, 64)),
  },
  {
    rule: "if \"enable VPID\" is 1, the VPID is not 0", section: executionSection, fields: [Field.virtualProcessorId],
    holds: ifHas(Control.vpid, (view) => view.get32(Field.virtualProcessorId) !== 0),
  },
  {
    rule: "if \"enable EPT\" is 1, the EPTP has a supported memory type, walk length and accessed-dirty setting, and no reserved bit",
    section: executionSection, fields: [Field.eptPointer],
    holds: ifHas(Control.ept, (view) =>
      isValidEptPointer(view.get(Field.eptPointer), eptCapabilities(view), view.environment.capabilities.physicalAddressBits)),
  },
  ...[Control.pml, Control.unrestrictedGuest, Control.modeBasedExecute].map((control) => together(control, Control.ept)),
  pageAddress(Control.pml, Field.pmlAddress, "the PML address"),
  {
    rule: "if \"enable VM functions\" is 1, reserved bits of the VM-function controls are 0", section: executionSection,
    fields: [Field.vmFunctionControls],
    holds: ifHas(Control.vmFunctions, (view) => {
      const functions = view.get(Field.vmFunctionControls);
      return (functions & ~BigInt(view.environment.capabilities.controls.function.mayBeOne)) === 0n;
    }),
  },
  together(Control.eptpSwitching, Control.ept),
  pageAddress(Control.eptpSwitching, Field.eptpListAddress, "the EPTP-list address"),
  pageAddress(Control.vmcsShadowing, Field.vmreadBitmap, "the VMREAD-bitmap address"),
  pageAddress(Control.vmcsShadowing, Field.vmwriteBitmap, "the VMWRITE-bitmap address"),
  pageAddress(Control.eptViolationVe, Field.virtualizationExceptionAddress, "the virtualization-exception information address"),
  {
    rule: "if \"use TSC scaling\" is 1, the TSC multiplier is not 0", section: executionSection, fields: [Field.tscMultiplier],
    holds: ifHas(Control.tscScaling, (view) => view.get(Field.tscMultiplier) !== 0n),
  },
];

const exitChecks: readonly EntryCheck[] = [
  reserved("exit", exitSection, "VM-exit controls", Field.exitControls),
  {
    rule: "if \"activate VMX-preemption timer\" is 0, \"exit: save VMX-preemption timer value\" is 0", section: exitSection,
    fields: [Field.exitControls, Field.pinControls],
    holds: (view) => view.has(Control.preemptionTimer) || !view.has(Control.savePreemptionTimer),
  },
  msrArea(exitSection, "VM-exit MSR-store", Field.exitMsrStoreAddress, Field.exitMsrStoreCount),
  msrArea(exitSection, "VM-exit MSR-load", Field.exitMsrLoadAddress, Field.exitMsrLoadCount),
];

/** A rule about the event to be injected, if there is one. */
function injection(rule: string, fields: readonly VmcsField[], holds: (event: ReturnType<typeof parseInterruption>, view: EntryView) => boolean): EntryCheck {
  return {
    rule: `of an event to inject, ${rule}`, section: entrySection, fields: [Field.entryInterruptionInformation, ...fields],
    holds: (view) => {
      const event = parseInterruption(view.get32(Field.entryInterruptionInformation));
      return !event.isValid || holds(event, view);
    },
  };
}

const softwareTypes: readonly number[] = [
  InterruptionType.softwareInterrupt, InterruptionType.privilegedSoftwareException, InterruptionType.softwareException,
];

/** Whether delivery of the event pushes an error code, as the processor would. */
function wantsErrorCode(event: ReturnType<typeof parseInterruption>, view: EntryView): boolean {
  const isProtected = !view.has(Control.unrestrictedGuest) || (view.get32(Field.guestCr0) & 1) !== 0;
  return isProtected && event.type === InterruptionType.hardwareException && hasErrorCodeVector(event.vector);
}

const injectionChecks: readonly EntryCheck[] = [
  injection("the type is not reserved", [], ({ type }) => type !== InterruptionType.reserved),
  injection("the vector fits the type", [], ({ type, vector }) =>
    type === InterruptionType.nmi ? vector === 2
      : type === InterruptionType.hardwareException ? vector <= 31
        : type !== InterruptionType.otherEvent || vector === 0),
  injection("the deliver-error-code bit is 1 exactly where an exception has an error code", [Field.guestCr0], (event, view) =>
    event.deliversErrorCode === wantsErrorCode(event, view)),
  injection("reserved bits are 0", [], ({ hasReservedBits }) => !hasReservedBits),
  injection("bits 31:16 of the error code are 0", [Field.entryExceptionErrorCode], ({ deliversErrorCode }, view) =>
    !deliversErrorCode || view.get32(Field.entryExceptionErrorCode) <= 0xffff),
  injection("the instruction length of software interrupts and exceptions is at most 15", [Field.entryInstructionLength], ({ type }, view) =>
    !softwareTypes.includes(type) || view.get32(Field.entryInstructionLength) <= 15),
];

const entryChecks: readonly EntryCheck[] = [
  reserved("entry", entrySection, "VM-entry controls", Field.entryControls),
  ...injectionChecks,
  msrArea(entrySection, "VM-entry MSR-load", Field.entryMsrLoadAddress, Field.entryMsrLoadCount),
];

/** What depends on memory, which software changes without VMWRITE. */
const thresholdCheck: EntryCheck = {
  rule: "if \"use TPR shadow\" is 1 without \"virtualize APIC accesses\" and \"virtual-interrupt delivery\", the TPR threshold is at most bits 7:4 of VTPR",
  section: executionSection, fields: [Field.tprThreshold, Field.virtualApicAddress],
  holds: ifHas(Control.tprShadow, (view) => view.has(Control.apicAccesses) || view.has(Control.virtualInterruptDelivery) ||
    (view.get32(Field.tprThreshold) & 0xf) <= ((view.environment.readPhysical32(view.vmcs.getAddress(Field.virtualApicAddress) + 0x80) >>> 4) & 0xf)),
};

/** Of all, those that depend on the event to inject and on nothing else that changes often. */
export const eventControlChecks: readonly EntryCheck[] = injectionChecks;
export const memoryControlChecks: readonly EntryCheck[] = [thresholdCheck];
export const controlChecks: readonly EntryCheck[] = [...executionChecks, thresholdCheck, ...exitChecks, ...entryChecks];
