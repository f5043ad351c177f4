/** Checks on the host-state area: a failure is VMfailValid with error 8 (SDM volume 3, "Checks on Host Control Registers, MSRs, …"). */
import { cr0FixedToOne, cr4FixedToOne } from "../capabilities.ts";
import { Control } from "../controls.ts";
import { Field, type VmcsField } from "../fields.ts";
import { ifHas, isValidPat, type EntryCheck, type EntryView } from "./view.ts";

const registerSection = "Checks on Host Control Registers, MSRs, and SSP";
const segmentSection = "Checks on Host Segment and Descriptor-Table Registers";
const addressSpaceSection = "Checks Related to Address-Space Size";

const selectorPrivilegeAndTableMask = 7;
const EferMask = { LME: 0x100n, LMA: 0x400n } as const;
const Cr4Mask = { PAE: 0x20n, PCIDE: 0x2_0000n } as const;

function canonical(field: VmcsField, section: string): EntryCheck {
  return { rule: `${field.name} is canonical`, section, fields: [field], holds: (view) => view.hasCanonical(field) };
}

function isLongHost(view: EntryView): boolean {
  return view.has(Control.hostAddressSpaceSize);
}

const selectors: readonly VmcsField[] = [
  Field.hostESSelector, Field.hostCSSelector, Field.hostSSSelector, Field.hostDSSelector, Field.hostFSSelector,
  Field.hostGSSelector, Field.hostTRSelector,
];

const registerChecks: readonly EntryCheck[] = [
  {
    rule: "CR0 has the bits that VMX operation fixes, and none that is not supported", section: registerSection, fields: [Field.hostCr0],
    holds: (view) => {
      const value = view.get(Field.hostCr0);
      return (value & BigInt(cr0FixedToOne)) === BigInt(cr0FixedToOne) && value >> 32n === 0n;
    },
  },
  {
    rule: "CR4 has the bits that VMX operation fixes, and none that is not supported", section: registerSection, fields: [Field.hostCr4],
    holds: (view) => {
      const value = view.get(Field.hostCr4);
      const allowed = BigInt(view.environment.capabilities.cr4MayBeOne);
      return (value & BigInt(cr4FixedToOne)) !== 0n && (value & ~allowed) === 0n;
    },
  },
  {
    rule: "CR3 is within the physical-address width", section: registerSection, fields: [Field.hostCr3],
    holds: (view) => view.isPhysical(view.get(Field.hostCr3)),
  },
  canonical(Field.hostSysenterEsp, registerSection),
  canonical(Field.hostSysenterEip, registerSection),
  {
    rule: "if \"exit: load IA32_PAT\" is 1, every byte of IA32_PAT is a memory type", section: registerSection, fields: [Field.hostPat],
    holds: ifHas(Control.exitLoadPat, (view) => isValidPat(view.get(Field.hostPat))),
  },
  {
    rule: "if \"exit: load IA32_EFER\" is 1, reserved bits of IA32_EFER are 0", section: registerSection, fields: [Field.hostEfer],
    holds: ifHas(Control.exitLoadEfer, (view) => (view.get(Field.hostEfer) & ~view.environment.eferMask) === 0n),
  },
  {
    rule: "if \"exit: load IA32_EFER\" is 1, LMA and LME both equal \"exit: host address-space size\"", section: registerSection,
    fields: [Field.hostEfer, Field.exitControls],
    holds: ifHas(Control.exitLoadEfer, (view) => {
      const mask = EferMask.LMA | EferMask.LME;
      return (view.get(Field.hostEfer) & mask) === (isLongHost(view) ? mask : 0n);
    }),
  },
];

const segmentChecks: readonly EntryCheck[] = [
  ...selectors.map((field): EntryCheck => ({
    rule: `RPL and TI of ${field.name} are 0`, section: segmentSection, fields: [field],
    holds: (view) => (view.get32(field) & selectorPrivilegeAndTableMask) === 0,
  })),
  ...[Field.hostCSSelector, Field.hostTRSelector].map((field): EntryCheck => ({
    rule: `${field.name} is not 0`, section: segmentSection, fields: [field], holds: (view) => view.get32(field) !== 0,
  })),
  {
    rule: "if \"exit: host address-space size\" is 0, Host SS selector is not 0", section: segmentSection, fields: [Field.hostSSSelector],
    holds: (view) => isLongHost(view) || view.get32(Field.hostSSSelector) !== 0,
  },
  ...[Field.hostFSBase, Field.hostGSBase, Field.hostGdtrBase, Field.hostIdtrBase, Field.hostTRBase].map((field) => canonical(field, segmentSection)),
];

const addressSpaceChecks: readonly EntryCheck[] = [
  {
    rule: "outside of IA-32e mode, \"entry: IA-32e mode guest\" and \"exit: host address-space size\" are 0", section: addressSpaceSection,
    fields: [Field.entryControls, Field.exitControls],
    holds: (view) => view.environment.isLongMode || (!view.has(Control.ia32eModeGuest) && !isLongHost(view)),
  },
  {
    rule: "in IA-32e mode, \"exit: host address-space size\" is 1", section: addressSpaceSection, fields: [Field.exitControls],
    holds: (view) => !view.environment.isLongMode || isLongHost(view),
  },
  {
    rule: "if \"exit: host address-space size\" is 0, \"entry: IA-32e mode guest\", CR4.PCIDE and bits 63:32 of RIP are 0",
    section: addressSpaceSection, fields: [Field.entryControls, Field.hostCr4, Field.hostRip],
    holds: (view) => isLongHost(view) ||
      (!view.has(Control.ia32eModeGuest) && (view.get(Field.hostCr4) & Cr4Mask.PCIDE) === 0n && view.get(Field.hostRip) >> 32n === 0n),
  },
  {
    rule: "if \"exit: host address-space size\" is 1, CR4.PAE is 1", section: addressSpaceSection, fields: [Field.hostCr4],
    holds: (view) => !isLongHost(view) || (view.get(Field.hostCr4) & Cr4Mask.PAE) !== 0n,
  },
  {
    rule: "if \"exit: host address-space size\" is 1, RIP is canonical", section: addressSpaceSection, fields: [Field.hostRip],
    holds: (view) => !isLongHost(view) || view.hasCanonical(Field.hostRip),
  },
];

export const hostChecks: readonly EntryCheck[] = [...registerChecks, ...segmentChecks, ...addressSpaceChecks];
