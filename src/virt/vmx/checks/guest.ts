/** Checks on the guest-state area but for segments: a failure is an exit with reason 33 (SDM volume 3, "Checks on the Guest State Area"). */
import { FlagMask } from "../../../isa/flags.ts";
import { cr0FixedToOne, cr4FixedToOne, vmcsRevision } from "../capabilities.ts";
import { Control } from "../controls.ts";
import { Field, guestPageDirectoryPointers, type VmcsField } from "../fields.ts";
import { InterruptionType, parseInterruption } from "../interruption.ts";
import { segmentChecks } from "./segments.ts";
import { ifHas, isValidPat, type EntryCheck, type EntryView } from "./view.ts";

const registerSection = "Checks on Guest Control Registers, Debug Registers, and MSRs";
const tableSection = "Checks on Guest Descriptor-Table Registers";
const flagSection = "Checks on Guest RIP, RFLAGS, and SSP";
const otherSection = "Checks on Guest Non-Register State";
const pointerSection = "Checks on Guest Page-Directory-Pointer-Table Entries";

const Cr0Bit = { PE: 1n, NW: 0x2000_0000n, CD: 0x4000_0000n, PG: 0x8000_0000n } as const;
const Cr4Bit = { PAE: 0x20n, PCIDE: 0x2_0000n } as const;
const EferBit = { LME: 0x100n, LMA: 0x400n } as const;
const longCodeMask = 0x2000;

/** Exit qualifications of failures that have one. */
export const EntryFailure = { pageDirectoryPointers: 2, nmiInjection: 3, linkPointer: 4 } as const;

/** Bits of the interruptibility state. */
export const InterruptibilityMask = { sti: 1, movSs: 2, smi: 4, nmi: 8 } as const;
const interruptibilityReserved = 0xffff_fff0;

export const ActivityState = { active: 0, hlt: 1, shutdown: 2, waitForSipi: 3 } as const;

/** Bits of the pending debug exceptions. */
export const PendingDebugMask = { breakpoints: 0xfn, enabledBreakpoint: 0x1000n, singleStep: 0x4000n } as const;
const pendingDebugAllowed = PendingDebugMask.breakpoints | PendingDebugMask.enabledBreakpoint | PendingDebugMask.singleStep;
const branchTraceMask = 2n;

const rflagsReserved = 0xffff_ffff_ffc0_8028n;
const rflagsFixed = 2n;

function isLongGuest(vmcs: Pick<EntryView, "get32">): boolean {
  return (vmcs.get32(Field.entryControls) & Control.ia32eModeGuest.mask) !== 0;
}

function hasFlag(view: EntryView, mask: number): boolean {
  return (view.get32(Field.guestRflags) & mask) !== 0;
}

function canonical(field: VmcsField, section: string): EntryCheck {
  return { rule: `${field.name} is canonical`, section, fields: [field], holds: (view) => view.hasCanonical(field) };
}

const registerChecks: readonly EntryCheck[] = [
  {
    rule: "CR0 has the bits that VMX operation fixes (PE and PG not with \"unrestricted guest\"), and none that is not supported",
    section: registerSection, fields: [Field.guestCr0],
    holds: (view) => {
      const value = view.get(Field.guestCr0);
      const exempt = view.has(Control.unrestrictedGuest) ? Cr0Bit.PE | Cr0Bit.PG : 0n;
      const fixed = BigInt(cr0FixedToOne) & ~exempt;
      return (value & fixed) === fixed && value >> 32n === 0n;
    },
  },
  {
    rule: "if CR0.PG is 1, CR0.PE is 1", section: registerSection, fields: [Field.guestCr0],
    holds: (view) => (view.get(Field.guestCr0) & (Cr0Bit.PG | Cr0Bit.PE)) !== Cr0Bit.PG,
  },
  {
    rule: "CR4 has the bits that VMX operation fixes, and none that is not supported", section: registerSection, fields: [Field.guestCr4],
    holds: (view) => {
      const value = view.get(Field.guestCr4);
      return (value & BigInt(cr4FixedToOne)) !== 0n && (value & ~BigInt(view.environment.capabilities.cr4MayBeOne)) === 0n;
    },
  },
  {
    rule: "if \"entry: load debug controls\" is 1, reserved bits of IA32_DEBUGCTL are 0", section: registerSection,
    fields: [Field.guestDebugControl],
    holds: ifHas(Control.loadDebugControls, (view) => (view.get(Field.guestDebugControl) & ~view.environment.debugControlMask) === 0n),
  },
  {
    rule: "if \"entry: IA-32e mode guest\" is 1, CR0.PG and CR4.PAE are 1", section: registerSection, fields: [Field.guestCr0, Field.guestCr4],
    holds: ifHas(Control.ia32eModeGuest, (view) =>
      (view.get(Field.guestCr0) & Cr0Bit.PG) !== 0n && (view.get(Field.guestCr4) & Cr4Bit.PAE) !== 0n),
  },
  {
    rule: "if \"entry: IA-32e mode guest\" is 0, CR4.PCIDE is 0", section: registerSection, fields: [Field.guestCr4],
    holds: (view) => isLongGuest(view) || (view.get(Field.guestCr4) & Cr4Bit.PCIDE) === 0n,
  },
  {
    rule: "CR3 is within the physical-address width", section: registerSection, fields: [Field.guestCr3],
    holds: (view) => view.isPhysical(view.get(Field.guestCr3)),
  },
  {
    rule: "if \"entry: load debug controls\" is 1, bits 63:32 of DR7 are 0", section: registerSection, fields: [Field.guestDr7],
    holds: ifHas(Control.loadDebugControls, (view) => view.get(Field.guestDr7) >> 32n === 0n),
  },
  canonical(Field.guestSysenterEsp, registerSection),
  canonical(Field.guestSysenterEip, registerSection),
  {
    rule: "if \"entry: load IA32_PAT\" is 1, every byte of IA32_PAT is a memory type", section: registerSection, fields: [Field.guestPat],
    holds: ifHas(Control.entryLoadPat, (view) => isValidPat(view.get(Field.guestPat))),
  },
  {
    rule: "if \"entry: load IA32_EFER\" is 1, reserved bits of IA32_EFER are 0", section: registerSection, fields: [Field.guestEfer],
    holds: ifHas(Control.entryLoadEfer, (view) => (view.get(Field.guestEfer) & ~view.environment.eferMask) === 0n),
  },
  {
    rule: "if \"entry: load IA32_EFER\" is 1, LMA equals \"entry: IA-32e mode guest\"", section: registerSection, fields: [Field.guestEfer, Field.entryControls],
    holds: ifHas(Control.entryLoadEfer, (view) => ((view.get(Field.guestEfer) & EferBit.LMA) !== 0n) === isLongGuest(view)),
  },
  {
    rule: "if \"entry: load IA32_EFER\" and CR0.PG are 1, LMA equals LME", section: registerSection, fields: [Field.guestEfer, Field.guestCr0],
    holds: ifHas(Control.entryLoadEfer, (view) => (view.get(Field.guestCr0) & Cr0Bit.PG) === 0n ||
      ((view.get(Field.guestEfer) & EferBit.LMA) !== 0n) === ((view.get(Field.guestEfer) & EferBit.LME) !== 0n)),
  },
];

const tableChecks: readonly EntryCheck[] = [
  canonical(Field.guestGdtrBase, tableSection),
  canonical(Field.guestIdtrBase, tableSection),
  ...[Field.guestGdtrLimit, Field.guestIdtrLimit].map((field): EntryCheck => ({
    rule: `bits 31:16 of ${field.name} are 0`, section: tableSection, fields: [field], holds: (view) => view.get32(field) <= 0xffff,
  })),
];

export function isIn64BitMode(vmcs: Pick<EntryView, "get32">): boolean {
  return isLongGuest(vmcs) && (vmcs.get32(Field.guestCSAccessRights) & longCodeMask) !== 0;
}

const instructionPointerChecks: readonly EntryCheck[] = [
  {
    rule: "outside of 64-bit mode, bits 63:32 of RIP are 0", section: flagSection, fields: [Field.guestRip],
    holds: (view) => isIn64BitMode(view) || view.get(Field.guestRip) >> 32n === 0n,
  },
  {
    rule: "in 64-bit mode, RIP is canonical", section: flagSection, fields: [Field.guestRip],
    holds: (view) => !isIn64BitMode(view) || view.hasCanonical(Field.guestRip),
  },
];

const flagChecks: readonly EntryCheck[] = [
  {
    rule: "reserved bits of RFLAGS are 0 and bit 1 is 1", section: flagSection, fields: [Field.guestRflags],
    holds: (view) => (view.get(Field.guestRflags) & (rflagsReserved | rflagsFixed)) === rflagsFixed,
  },
  {
    rule: "RFLAGS.VM is 0 in IA-32e mode and while CR0.PE is 0", section: flagSection, fields: [Field.guestRflags, Field.guestCr0],
    holds: (view) => !hasFlag(view, FlagMask.VM) || (!isLongGuest(view) && (view.get(Field.guestCr0) & Cr0Bit.PE) !== 0n),
  },
  {
    rule: "if an external interrupt is injected, RFLAGS.IF is 1", section: flagSection, fields: [Field.guestRflags, Field.entryInterruptionInformation],
    holds: (view) => injectedType(view) !== InterruptionType.external || hasFlag(view, FlagMask.IF),
  },
];

/** Type of the event to inject; undefined: none. */
function injectedType(view: EntryView): number | undefined {
  const event = parseInterruption(view.get32(Field.entryInterruptionInformation));
  return event.isValid ? event.type : undefined;
}

/** Whether the activity state lets the event be injected. */
function admitsInjection(view: EntryView): boolean {
  const { isValid, type, vector } = parseInterruption(view.get32(Field.entryInterruptionInformation));
  if (!isValid) return true;
  const isException = (wanted: number): boolean => type === InterruptionType.hardwareException && vector === wanted;
  const machineCheckVector = 18, debugVector = 1;
  switch (view.get32(Field.guestActivity)) {
    case ActivityState.active:
      return true;
    case ActivityState.hlt:
      return type === InterruptionType.external || type === InterruptionType.nmi || type === InterruptionType.otherEvent ||
        isException(debugVector) || isException(machineCheckVector);
    case ActivityState.shutdown:
      return type === InterruptionType.nmi || isException(machineCheckVector);
    default:
      return false;
  }
}

const activityChecks: readonly EntryCheck[] = [
  {
    rule: "the activity state is active, HLT, shutdown or wait-for-SIPI", section: otherSection, fields: [Field.guestActivity],
    holds: (view) => view.get32(Field.guestActivity) <= ActivityState.waitForSipi,
  },
  {
    rule: "the activity state is not HLT above privilege level 0", section: otherSection, fields: [Field.guestActivity, Field.guestSSAccessRights],
    holds: (view) => view.get32(Field.guestActivity) !== ActivityState.hlt || (view.get32(Field.guestSSAccessRights) & 0x60) === 0,
  },
  {
    rule: "the activity state is active while STI or MOV SS blocks", section: otherSection, fields: [Field.guestActivity, Field.guestInterruptibility],
    holds: (view) => view.get32(Field.guestActivity) === ActivityState.active ||
      (view.get32(Field.guestInterruptibility) & (InterruptibilityMask.sti | InterruptibilityMask.movSs)) === 0,
  },
  {
    rule: "the activity state admits the event to inject", section: otherSection, fields: [Field.guestActivity, Field.entryInterruptionInformation],
    holds: admitsInjection,
  },
];

function blocks(view: EntryView, mask: number): boolean {
  return (view.get32(Field.guestInterruptibility) & mask) !== 0;
}

const interruptibilityFields = [Field.guestInterruptibility] as const;
const injectionFields = [Field.guestInterruptibility, Field.entryInterruptionInformation] as const;

const interruptibilityChecks: readonly EntryCheck[] = [
  {
    rule: "reserved bits of the interruptibility state are 0", section: otherSection, fields: interruptibilityFields,
    holds: (view) => !blocks(view, interruptibilityReserved),
  },
  {
    rule: "STI and MOV SS do not block both", section: otherSection, fields: interruptibilityFields,
    holds: (view) => !(blocks(view, InterruptibilityMask.sti) && blocks(view, InterruptibilityMask.movSs)),
  },
  {
    rule: "STI does not block while RFLAGS.IF is 0", section: otherSection, fields: [Field.guestInterruptibility, Field.guestRflags],
    holds: (view) => !blocks(view, InterruptibilityMask.sti) || hasFlag(view, FlagMask.IF),
  },
  {
    rule: "neither STI nor MOV SS blocks an external interrupt to inject", section: otherSection, fields: injectionFields,
    holds: (view) => injectedType(view) !== InterruptionType.external || !blocks(view, InterruptibilityMask.sti | InterruptibilityMask.movSs),
  },
  {
    rule: "MOV SS does not block an NMI to inject", section: otherSection, fields: injectionFields,
    holds: (view) => injectedType(view) !== InterruptionType.nmi || !blocks(view, InterruptibilityMask.movSs),
  },
  {
    rule: "STI does not block an NMI to inject", section: otherSection, fields: injectionFields,
    holds: (view) => injectedType(view) !== InterruptionType.nmi || !blocks(view, InterruptibilityMask.sti),
    qualification: EntryFailure.nmiInjection,
  },
  {
    rule: "SMIs are not blocked outside of system-management mode", section: otherSection, fields: interruptibilityFields,
    holds: (view) => !blocks(view, InterruptibilityMask.smi),
  },
  {
    rule: "with \"virtual NMIs\", an NMI to inject is not blocked", section: otherSection, fields: injectionFields,
    holds: ifHas(Control.virtualNmis, (view) => injectedType(view) !== InterruptionType.nmi || !blocks(view, InterruptibilityMask.nmi)),
  },
];

const pendingDebugChecks: readonly EntryCheck[] = [
  {
    rule: "reserved bits of the pending debug exceptions are 0", section: otherSection, fields: [Field.guestPendingDebugExceptions],
    holds: (view) => (view.get(Field.guestPendingDebugExceptions) & ~pendingDebugAllowed) === 0n,
  },
  {
    rule: "while STI or MOV SS blocks or the activity state is HLT, a single step is pending exactly if RFLAGS.TF is 1 and IA32_DEBUGCTL.BTF is 0",
    section: otherSection, fields: [Field.guestPendingDebugExceptions, Field.guestRflags, Field.guestDebugControl],
    holds: (view) => {
      const isWaiting = blocks(view, InterruptibilityMask.sti | InterruptibilityMask.movSs) || view.get32(Field.guestActivity) === ActivityState.hlt;
      if (!isWaiting) return true;
      const isStepping = hasFlag(view, FlagMask.TF) && (view.get(Field.guestDebugControl) & branchTraceMask) === 0n;
      return isStepping === ((view.get(Field.guestPendingDebugExceptions) & PendingDebugMask.singleStep) !== 0n);
    },
  },
];

export const noLinkPointer = 0xffff_ffff_ffff_ffffn;
const shadowBit = 0x8000_0000;

function link(rule: string, holds: (view: EntryView, address: number) => boolean): EntryCheck {
  return {
    rule: `a VMCS link pointer ${rule}`, section: otherSection, fields: [Field.vmcsLinkPointer],
    holds: (view) => view.get(Field.vmcsLinkPointer) === noLinkPointer || holds(view, view.vmcs.getAddress(Field.vmcsLinkPointer)),
    qualification: EntryFailure.linkPointer,
  };
}

const linkChecks: readonly EntryCheck[] = [
  link("is a page's physical address", (view) => view.isAlignedAddress(Field.vmcsLinkPointer, 4096)),
  link("leads to our revision identifier, with the shadow indicator as \"VMCS shadowing\" is", (view, address) =>
    view.environment.readPhysical32(address) === (vmcsRevision | (view.has(Control.vmcsShadowing) ? shadowBit : 0)) >>> 0),
  link("does not lead to the current VMCS", (view, address) => address !== view.vmcs.address),
];

/** Whether a present page-directory pointer has a reserved bit: 2:1, 8:5 and what is beyond the physical-address width. */
export function hasReservedPointer(pointers: Iterable<bigint>, physicalAddressBits: number): boolean {
  for (const pointer of pointers) {
    if ((pointer & 1n) !== 0n && ((pointer & 0x1e6n) !== 0n || pointer >> BigInt(physicalAddressBits) !== 0n)) return true;
  }
  return false;
}

function areReserved(pointers: Iterable<bigint>, { environment }: EntryView): boolean {
  return hasReservedPointer(pointers, environment.capabilities.physicalAddressBits);
}

/** Page-directory pointers come from the VMCS with EPT; without, memory holds them. */
function hasPointers(view: EntryView): boolean {
  return (view.get(Field.guestCr0) & Cr0Bit.PG) !== 0n && (view.get(Field.guestCr4) & Cr4Bit.PAE) !== 0n && !isLongGuest(view);
}

const pointerChecks: readonly EntryCheck[] = [
  {
    rule: "with PAE paging and EPT, reserved bits of the PDPTE fields are 0", section: pointerSection, fields: guestPageDirectoryPointers,
    holds: (view) => !view.has(Control.ept) || !hasPointers(view) || !areReserved(guestPageDirectoryPointers.map((field) => view.get(field)), view),
    qualification: EntryFailure.pageDirectoryPointers,
  },
  {
    rule: "with PAE paging and no EPT, reserved bits of the entries that CR3 leads to are 0", section: pointerSection, fields: [Field.guestCr3],
    holds: (view) => view.has(Control.ept) || !hasPointers(view) || !areReserved([0, 8, 16, 24].map((offset) => {
      const address = ((view.get32(Field.guestCr3) & 0xffff_ffe0) >>> 0) + offset;
      const { environment } = view;
      return (BigInt(environment.readPhysical32(address + 4)) << 32n) | BigInt(environment.readPhysical32(address));
    }), view),
    qualification: EntryFailure.pageDirectoryPointers,
  },
];

export { instructionPointerChecks };
/** Of all, those that depend on the event to inject and on what goes with it. */
export const eventGuestChecks: readonly EntryCheck[] = [
  ...flagChecks, ...activityChecks, ...interruptibilityChecks, ...pendingDebugChecks,
];
/** Those that look at memory, which software changes without VMWRITE. */
export const memoryGuestChecks: readonly EntryCheck[] = [...linkChecks, ...pointerChecks];
export const guestChecks: readonly EntryCheck[] = [
  ...registerChecks, ...segmentChecks, ...tableChecks, ...instructionPointerChecks, ...eventGuestChecks, ...memoryGuestChecks,
];
