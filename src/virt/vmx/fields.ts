/** The fields of a VMCS: names and encodings (SDM volume 3, appendix "Field Encoding in VMCS"), and their places in our region. */

import * as state from "../../isa/state.ts";

export type FieldWidth = 16 | 32 | 64 | "natural";
export type FieldType = "control" | "read-only" | "guest" | "host";

export interface VmcsField {
  readonly encoding: number;
  /** As the manual has it. */
  readonly name: string;
  readonly width: FieldWidth;
  readonly type: FieldType;
  /** Place in the VMCS region, in bytes. */
  readonly offset: number;
  /** Control without whose 1-setting the field does not exist; see `controls.ts`. */
  readonly requires: string | undefined;
}

type Row = readonly [encoding: number, name: string, requires?: string];

const segmentNames = ["ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR"] as const;
type SegmentName = (typeof segmentNames)[number];
type SegmentKey = `guest${SegmentName}${"Selector" | "Limit" | "AccessRights" | "Base"}`;

/** For each of ES CS SS DS FS GS LDTR TR, at consecutive even encodings. */
function segmentRows(first: number, part: "Selector" | "Limit" | "AccessRights" | "Base", name: string): [string, Row][] {
  return segmentNames.map((segment, index) => [`guest${segment}${part}`, [first + index * 2, `Guest ${segment} ${name}`]]);
}

const rows = {
  virtualProcessorId: [0x0000, "Virtual-processor identifier (VPID)", "enable VPID"],
  postedInterruptNotificationVector: [0x0002, "Posted-interrupt notification vector", "process posted interrupts"],
  eptpIndex: [0x0004, "EPTP index", "EPT-violation #VE"],

  guestInterruptStatus: [0x0810, "Guest interrupt status", "virtual-interrupt delivery"],
  pmlIndex: [0x0812, "PML index", "enable PML"],

  hostESSelector: [0x0c00, "Host ES selector"],
  hostCSSelector: [0x0c02, "Host CS selector"],
  hostSSSelector: [0x0c04, "Host SS selector"],
  hostDSSelector: [0x0c06, "Host DS selector"],
  hostFSSelector: [0x0c08, "Host FS selector"],
  hostGSSelector: [0x0c0a, "Host GS selector"],
  hostTRSelector: [0x0c0c, "Host TR selector"],

  ioBitmapA: [0x2000, "Address of I/O bitmap A"],
  ioBitmapB: [0x2002, "Address of I/O bitmap B"],
  msrBitmaps: [0x2004, "Address of MSR bitmaps", "use MSR bitmaps"],
  exitMsrStoreAddress: [0x2006, "VM-exit MSR-store address"],
  exitMsrLoadAddress: [0x2008, "VM-exit MSR-load address"],
  entryMsrLoadAddress: [0x200a, "VM-entry MSR-load address"],
  executiveVmcsPointer: [0x200c, "Executive-VMCS pointer"],
  pmlAddress: [0x200e, "PML address", "enable PML"],
  tscOffset: [0x2010, "TSC offset"],
  virtualApicAddress: [0x2012, "Virtual-APIC address", "use TPR shadow"],
  apicAccessAddress: [0x2014, "APIC-access address", "virtualize APIC accesses"],
  postedInterruptDescriptorAddress: [0x2016, "Posted-interrupt descriptor address", "process posted interrupts"],
  vmFunctionControls: [0x2018, "VM-function controls", "enable VM functions"],
  eptPointer: [0x201a, "EPT pointer (EPTP)", "enable EPT"],
  eoiExitBitmap0: [0x201c, "EOI-exit bitmap 0 (EOI_EXIT0)", "virtual-interrupt delivery"],
  eoiExitBitmap1: [0x201e, "EOI-exit bitmap 1 (EOI_EXIT1)", "virtual-interrupt delivery"],
  eoiExitBitmap2: [0x2020, "EOI-exit bitmap 2 (EOI_EXIT2)", "virtual-interrupt delivery"],
  eoiExitBitmap3: [0x2022, "EOI-exit bitmap 3 (EOI_EXIT3)", "virtual-interrupt delivery"],
  eptpListAddress: [0x2024, "EPTP-list address", "enable VM functions"],
  vmreadBitmap: [0x2026, "VMREAD-bitmap address", "VMCS shadowing"],
  vmwriteBitmap: [0x2028, "VMWRITE-bitmap address", "VMCS shadowing"],
  virtualizationExceptionAddress: [0x202a, "Virtualization-exception information address", "EPT-violation #VE"],
  xssExitingBitmap: [0x202c, "XSS-exiting bitmap", "enable XSAVES/XRSTORS"],
  tscMultiplier: [0x2032, "TSC multiplier", "use TSC scaling"],

  guestPhysicalAddress: [0x2400, "Guest-physical address", "enable EPT"],

  vmcsLinkPointer: [0x2800, "VMCS link pointer"],
  guestDebugControl: [0x2802, "Guest IA32_DEBUGCTL"],
  guestPat: [0x2804, "Guest IA32_PAT", "entry: load IA32_PAT"],
  guestEfer: [0x2806, "Guest IA32_EFER", "entry: load IA32_EFER"],
  guestPdpte0: [0x280a, "Guest PDPTE0", "enable EPT"],
  guestPdpte1: [0x280c, "Guest PDPTE1", "enable EPT"],
  guestPdpte2: [0x280e, "Guest PDPTE2", "enable EPT"],
  guestPdpte3: [0x2810, "Guest PDPTE3", "enable EPT"],

  hostPat: [0x2c00, "Host IA32_PAT", "exit: load IA32_PAT"],
  hostEfer: [0x2c02, "Host IA32_EFER", "exit: load IA32_EFER"],

  pinControls: [0x4000, "Pin-based VM-execution controls"],
  primaryControls: [0x4002, "Primary processor-based VM-execution controls"],
  exceptionBitmap: [0x4004, "Exception bitmap"],
  pageFaultErrorCodeMask: [0x4006, "Page-fault error-code mask"],
  pageFaultErrorCodeMatch: [0x4008, "Page-fault error-code match"],
  cr3TargetCount: [0x400a, "CR3-target count"],
  exitControls: [0x400c, "Primary VM-exit controls"],
  exitMsrStoreCount: [0x400e, "VM-exit MSR-store count"],
  exitMsrLoadCount: [0x4010, "VM-exit MSR-load count"],
  entryControls: [0x4012, "VM-entry controls"],
  entryMsrLoadCount: [0x4014, "VM-entry MSR-load count"],
  entryInterruptionInformation: [0x4016, "VM-entry interruption-information field"],
  entryExceptionErrorCode: [0x4018, "VM-entry exception error code"],
  entryInstructionLength: [0x401a, "VM-entry instruction length"],
  tprThreshold: [0x401c, "TPR threshold", "use TPR shadow"],
  secondaryControls: [0x401e, "Secondary processor-based VM-execution controls", "activate secondary controls"],
  pleGap: [0x4020, "PLE_Gap", "PAUSE-loop exiting"],
  pleWindow: [0x4022, "PLE_Window", "PAUSE-loop exiting"],

  instructionError: [0x4400, "VM-instruction error"],
  exitReason: [0x4402, "Exit reason"],
  exitInterruptionInformation: [0x4404, "VM-exit interruption information"],
  exitInterruptionErrorCode: [0x4406, "VM-exit interruption error code"],
  idtVectoringInformation: [0x4408, "IDT-vectoring information field"],
  idtVectoringErrorCode: [0x440a, "IDT-vectoring error code"],
  exitInstructionLength: [0x440c, "VM-exit instruction length"],
  exitInstructionInformation: [0x440e, "VM-exit instruction information"],

  guestGdtrLimit: [0x4810, "Guest GDTR limit"],
  guestIdtrLimit: [0x4812, "Guest IDTR limit"],
  guestInterruptibility: [0x4824, "Guest interruptibility state"],
  guestActivity: [0x4826, "Guest activity state"],
  guestSmbase: [0x4828, "Guest SMBASE"],
  guestSysenterCs: [0x482a, "Guest IA32_SYSENTER_CS"],
  preemptionTimerValue: [0x482e, "VMX-preemption timer value", "activate VMX-preemption timer"],

  hostSysenterCs: [0x4c00, "Host IA32_SYSENTER_CS"],

  cr0Mask: [0x6000, "CR0 guest/host mask"],
  cr4Mask: [0x6002, "CR4 guest/host mask"],
  cr0ReadShadow: [0x6004, "CR0 read shadow"],
  cr4ReadShadow: [0x6006, "CR4 read shadow"],
  cr3Target0: [0x6008, "CR3-target value 0"],
  cr3Target1: [0x600a, "CR3-target value 1"],
  cr3Target2: [0x600c, "CR3-target value 2"],
  cr3Target3: [0x600e, "CR3-target value 3"],

  exitQualification: [0x6400, "Exit qualification"],
  ioRcx: [0x6402, "I/O RCX"],
  ioRsi: [0x6404, "I/O RSI"],
  ioRdi: [0x6406, "I/O RDI"],
  ioRip: [0x6408, "I/O RIP"],
  guestLinearAddress: [0x640a, "Guest-linear address"],

  guestCr0: [0x6800, "Guest CR0"],
  guestCr3: [0x6802, "Guest CR3"],
  guestCr4: [0x6804, "Guest CR4"],
  guestGdtrBase: [0x6816, "Guest GDTR base"],
  guestIdtrBase: [0x6818, "Guest IDTR base"],
  guestDr7: [0x681a, "Guest DR7"],
  guestRsp: [0x681c, "Guest RSP"],
  guestRip: [0x681e, "Guest RIP"],
  guestRflags: [0x6820, "Guest RFLAGS"],
  guestPendingDebugExceptions: [0x6822, "Guest pending debug exceptions"],
  guestSysenterEsp: [0x6824, "Guest IA32_SYSENTER_ESP"],
  guestSysenterEip: [0x6826, "Guest IA32_SYSENTER_EIP"],

  hostCr0: [0x6c00, "Host CR0"],
  hostCr3: [0x6c02, "Host CR3"],
  hostCr4: [0x6c04, "Host CR4"],
  hostFSBase: [0x6c06, "Host FS base"],
  hostGSBase: [0x6c08, "Host GS base"],
  hostTRBase: [0x6c0a, "Host TR base"],
  hostGdtrBase: [0x6c0c, "Host GDTR base"],
  hostIdtrBase: [0x6c0e, "Host IDTR base"],
  hostSysenterEsp: [0x6c10, "Host IA32_SYSENTER_ESP"],
  hostSysenterEip: [0x6c12, "Host IA32_SYSENTER_EIP"],
  hostRsp: [0x6c14, "Host RSP"],
  hostRip: [0x6c16, "Host RIP"],
} as const;

export type FieldKey = keyof typeof rows | SegmentKey;

const allRows: readonly (readonly [key: string, row: Row])[] = [
  ...Object.entries(rows), ...segmentRows(0x0800, "Selector", "selector"), ...segmentRows(0x4800, "Limit", "limit"),
  ...segmentRows(0x4814, "AccessRights", "access rights"), ...segmentRows(0x6806, "Base", "base"),
].toSorted(([, [a]], [, [b]]) => a - b);

const widths: readonly FieldWidth[] = [16, 64, 32, "natural"];
const types: readonly FieldType[] = ["control", "read-only", "guest", "host"];
/** Fields with two encodings, of which the second reaches the upper half. */
const highAccessMask = 1;
const indexMask = 0x1ff;

export function widthOf(encoding: number): FieldWidth {
  return widths[(encoding >>> 13) & 3];
}

export function typeOf(encoding: number): FieldType {
  return types[(encoding >>> 10) & 3];
}

export function sizeBytesOf(width: FieldWidth): 2 | 4 | 8 {
  return width === 16 ? 2 : width === 32 ? 4 : 8;
}

/**
 * The guest's segment and descriptor-table registers lie in the region as they do in the processor's state area, so that
 * they are loaded and saved as one piece. First, in bytes, there are the revision identifier, the VMX-abort indicator and our
 * launch state.
 */
export const segmentBlock: { readonly offset: number; readonly stateOffset: number; readonly sizeBytes: number } = {
  offset: 16, stateOffset: state.segments[0].base.offset,
  sizeBytes: state.idtrLimit.offset + 4 - state.segments[0].base.offset,
};

const tableRegisters: Readonly<Record<string, state.StateField>> = {
  guestGdtrBase: state.gdtrBase, guestGdtrLimit: state.gdtrLimit, guestIdtrBase: state.idtrBase, guestIdtrLimit: state.idtrLimit,
};

/** The processor's register that a field of the block holds. */
function registerOf(key: string): state.StateField | undefined {
  if (Object.hasOwn(tableRegisters, key)) return tableRegisters[key];
  for (const [index, name] of segmentNames.entries()) {
    const { selector, base, limit, attributes } = state.segments[index];
    const parts: Readonly<Record<string, state.StateField>> = { Selector: selector, Base: base, Limit: limit, AccessRights: attributes };
    const part = key.startsWith(`guest${name}`) ? parts[key.slice(`guest${name}`.length)] : undefined;
    if (part !== undefined) return part;
  }
  return undefined;
}

/** Other fields in descending order of size, so that each is aligned by its own. */
function placeFields(): Record<FieldKey, VmcsField> {
  let next = Math.ceil((segmentBlock.offset + segmentBlock.sizeBytes) / 8) * 8;
  const bySize = allRows.toSorted(([, [a]], [, [b]]) => sizeBytesOf(widthOf(b)) - sizeBytesOf(widthOf(a)));
  const placed = bySize.map(([key, [encoding, name, requires]]) => {
    const width = widthOf(encoding);
    const register = registerOf(key);
    const offset = register === undefined ? next : segmentBlock.offset + register.offset - segmentBlock.stateOffset;
    const field: VmcsField = { encoding, name, width, type: typeOf(encoding), offset, requires };
    if (register === undefined) next += sizeBytesOf(width);
    return [key, field] as const;
  });
  return Object.fromEntries(placed) as Record<FieldKey, VmcsField>;
}

/** Every field by the name that our code has for it. */
export const Field: Readonly<Record<FieldKey, VmcsField>> = placeFields();

/** By encoding. */
export const vmcsFields: readonly VmcsField[] = allRows.map(([key]) => Field[key as FieldKey]);

const byEncoding: ReadonlyMap<number, VmcsField> = new Map(vmcsFields.map((field) => [field.encoding, field]));

/** What an encoding names; undefined: nothing, a reserved bit is set, or high access to a field that has none. */
export function findField(encoding: number): { readonly field: VmcsField; readonly isHigh: boolean } | undefined {
  const isHigh = (encoding & highAccessMask) !== 0;
  const field = byEncoding.get(encoding & ~highAccessMask);
  return field === undefined || (isHigh && field.width !== 64) ? undefined : { field, isHigh };
}

export function indexOf(encoding: number): number {
  return (encoding >>> 1) & indexMask;
}

/** The guest's segment registers, indexed as in the processor's state: ES CS SS DS FS GS LDTR TR. */
export const guestSegments: readonly {
  readonly name: SegmentName;
  readonly selector: VmcsField;
  readonly base: VmcsField;
  readonly limit: VmcsField;
  readonly accessRights: VmcsField;
}[] = segmentNames.map((name) => ({
  name, selector: Field[`guest${name}Selector`], base: Field[`guest${name}Base`], limit: Field[`guest${name}Limit`],
  accessRights: Field[`guest${name}AccessRights`],
}));

export const eoiExitBitmaps: readonly VmcsField[] = [Field.eoiExitBitmap0, Field.eoiExitBitmap1, Field.eoiExitBitmap2, Field.eoiExitBitmap3];
export const guestPageDirectoryPointers: readonly VmcsField[] = [Field.guestPdpte0, Field.guestPdpte1, Field.guestPdpte2, Field.guestPdpte3];
export const cr3Targets: readonly VmcsField[] = [Field.cr3Target0, Field.cr3Target1, Field.cr3Target2, Field.cr3Target3];
