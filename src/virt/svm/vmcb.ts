/** Layout of the virtual machine control block (AMD APM volume 2, appendix B, "VMCB Layout"). */
import type { StateField } from "../../isa/state.ts";

/** The clean bit that covers a field ("VMCB Clean Bits"). */
export type CleanBit = "I" | "IOPM" | "ASID" | "TPR" | "NP" | "CRx" | "DRx" | "DT" | "SEG" | "CR2" | "LBR" | "AVIC";

export interface VmcbField extends StateField {
  /** Absent: loaded by every VMRUN, or written only by #VMEXIT. */
  readonly clean?: CleanBit;
}

export const vmcbBytes = 0x1000;

/** Control area. */
export const Control = {
  interceptCrRead: { name: "INTERCEPT_CR_READ", offset: 0x000, width: 16, clean: "I" },
  interceptCrWrite: { name: "INTERCEPT_CR_WRITE", offset: 0x002, width: 16, clean: "I" },
  interceptDrRead: { name: "INTERCEPT_DR_READ", offset: 0x004, width: 16, clean: "I" },
  interceptDrWrite: { name: "INTERCEPT_DR_WRITE", offset: 0x006, width: 16, clean: "I" },
  interceptExceptions: { name: "INTERCEPT_EXCEPTIONS", offset: 0x008, width: 32, clean: "I" },
  interceptMisc1: { name: "INTERCEPT_MISC1", offset: 0x00c, width: 32, clean: "I" },
  interceptMisc2: { name: "INTERCEPT_MISC2", offset: 0x010, width: 32, clean: "I" },
  interceptMisc3: { name: "INTERCEPT_MISC3", offset: 0x014, width: 32, clean: "I" },
  pauseFilterThreshold: { name: "PAUSE_FILTER_THRESHOLD", offset: 0x03c, width: 16, clean: "I" },
  pauseFilterCount: { name: "PAUSE_FILTER_COUNT", offset: 0x03e, width: 16, clean: "I" },
  iopmBase: { name: "IOPM_BASE_PA", offset: 0x040, width: 64, clean: "IOPM" },
  msrpmBase: { name: "MSRPM_BASE_PA", offset: 0x048, width: 64, clean: "IOPM" },
  tscOffset: { name: "TSC_OFFSET", offset: 0x050, width: 64, clean: "I" },
  asid: { name: "GUEST_ASID", offset: 0x058, width: 32, clean: "ASID" },
  tlbControl: { name: "TLB_CONTROL", offset: 0x05c, width: 8 },
  interruptControl: { name: "VINTR_CONTROL", offset: 0x060, width: 32, clean: "TPR" },
  interruptVector: { name: "VINTR_VECTOR", offset: 0x064, width: 32, clean: "TPR" },
  interruptState: { name: "INTERRUPT_SHADOW", offset: 0x068, width: 32 },
  exitCode: { name: "EXITCODE", offset: 0x070, width: 64 },
  exitInfo1: { name: "EXITINFO1", offset: 0x078, width: 64 },
  exitInfo2: { name: "EXITINFO2", offset: 0x080, width: 64 },
  exitInterruptInfo: { name: "EXITINTINFO", offset: 0x088, width: 32 },
  exitInterruptError: { name: "EXITINTINFO_ERRORCODE", offset: 0x08c, width: 32 },
  nestedControl: { name: "NESTED_CTL", offset: 0x090, width: 64, clean: "NP" },
  avicBar: { name: "AVIC_APIC_BAR", offset: 0x098, width: 64, clean: "AVIC" },
  eventInjection: { name: "EVENTINJ", offset: 0x0a8, width: 32 },
  eventInjectionError: { name: "EVENTINJ_ERRORCODE", offset: 0x0ac, width: 32 },
  nestedCr3: { name: "N_CR3", offset: 0x0b0, width: 64, clean: "NP" },
  extensions: { name: "VIRT_EXT", offset: 0x0b8, width: 64, clean: "LBR" },
  clean: { name: "VMCB_CLEAN", offset: 0x0c0, width: 32 },
  nextRip: { name: "NEXT_RIP", offset: 0x0c8, width: 64 },
  instructionBytesFetched: { name: "NUMBER_OF_BYTES_FETCHED", offset: 0x0d0, width: 8 },
  /** The first of fifteen. */
  instructionBytes: { name: "GUEST_INSTRUCTION_BYTES", offset: 0x0d1, width: 8 },
  avicBackingPage: { name: "AVIC_BACKING_PAGE", offset: 0x0e0, width: 64, clean: "AVIC" },
  avicLogicalTable: { name: "AVIC_LOGICAL_TABLE", offset: 0x0f0, width: 64, clean: "AVIC" },
  avicPhysicalTable: { name: "AVIC_PHYSICAL_TABLE", offset: 0x0f8, width: 64, clean: "AVIC" },
} as const;

/** State save area, segment registers apart. */
export const Save = {
  cpl: { name: "CPL", offset: 0x4cb, width: 8, clean: "SEG" },
  efer: { name: "EFER", offset: 0x4d0, width: 64, clean: "CRx" },
  cr4: { name: "CR4", offset: 0x548, width: 64, clean: "CRx" },
  cr3: { name: "CR3", offset: 0x550, width: 64, clean: "CRx" },
  cr0: { name: "CR0", offset: 0x558, width: 64, clean: "CRx" },
  dr7: { name: "DR7", offset: 0x560, width: 64, clean: "DRx" },
  dr6: { name: "DR6", offset: 0x568, width: 64, clean: "DRx" },
  rflags: { name: "RFLAGS", offset: 0x570, width: 64 },
  rip: { name: "RIP", offset: 0x578, width: 64 },
  rsp: { name: "RSP", offset: 0x5d8, width: 64 },
  rax: { name: "RAX", offset: 0x5f8, width: 64 },
  star: { name: "STAR", offset: 0x600, width: 64 },
  lstar: { name: "LSTAR", offset: 0x608, width: 64 },
  cstar: { name: "CSTAR", offset: 0x610, width: 64 },
  sfmask: { name: "SFMASK", offset: 0x618, width: 64 },
  kernelGsBase: { name: "KERNEL_GS_BASE", offset: 0x620, width: 64 },
  sysenterCs: { name: "SYSENTER_CS", offset: 0x628, width: 64 },
  sysenterEsp: { name: "SYSENTER_ESP", offset: 0x630, width: 64 },
  sysenterEip: { name: "SYSENTER_EIP", offset: 0x638, width: 64 },
  cr2: { name: "CR2", offset: 0x640, width: 64, clean: "CR2" },
  guestPat: { name: "G_PAT", offset: 0x668, width: 64, clean: "NP" },
  debugControl: { name: "DBGCTL", offset: 0x670, width: 64, clean: "LBR" },
  lastBranchFrom: { name: "BR_FROM", offset: 0x678, width: 64, clean: "LBR" },
  lastBranchTo: { name: "BR_TO", offset: 0x680, width: 64, clean: "LBR" },
  lastExceptionFrom: { name: "LASTEXCPFROM", offset: 0x688, width: 64, clean: "LBR" },
  lastExceptionTo: { name: "LASTEXCPTO", offset: 0x690, width: 64, clean: "LBR" },
} as const;

export interface VmcbSegment {
  readonly selector: VmcbField;
  readonly attributes: VmcbField;
  readonly limit: VmcbField;
  readonly base: VmcbField;
}

function segment(name: string, offset: number, clean?: CleanBit): VmcbSegment {
  const part = (suffix: string, at: number, width: 16 | 32 | 64): VmcbField =>
    ({ name: `${name}.${suffix}`, offset: offset + at, width, ...(clean === undefined ? {} : { clean }) });
  return { selector: part("selector", 0, 16), attributes: part("attributes", 2, 16), limit: part("limit", 4, 32), base: part("base", 8, 64) };
}

/** Segment registers of the state save area. */
export const SaveSegment: Readonly<Record<"es" | "cs" | "ss" | "ds" | "fs" | "gs" | "gdtr" | "ldtr" | "idtr" | "tr", VmcbSegment>> = {
  es: segment("ES", 0x400, "SEG"),
  cs: segment("CS", 0x410, "SEG"),
  ss: segment("SS", 0x420, "SEG"),
  ds: segment("DS", 0x430, "SEG"),
  fs: segment("FS", 0x440),
  gs: segment("GS", 0x450),
  gdtr: segment("GDTR", 0x460, "DT"),
  ldtr: segment("LDTR", 0x470),
  idtr: segment("IDTR", 0x480, "DT"),
  tr: segment("TR", 0x490),
};

/** Every field, by its place. */
export const vmcbFields: readonly VmcbField[] = [
  ...Object.values(Control), ...Object.values(SaveSegment).flatMap((fields) => Object.values(fields) as VmcbField[]), ...Object.values(Save),
].toSorted((a, b) => a.offset - b.offset);

/** Bits of `interruptControl`. */
export const InterruptControlMask = {
  taskPriority: 0xff, virtualInterrupt: 0x100, virtualGif: 0x200, virtualNmi: 0x800, virtualNmiMask: 0x1000, priority: 0xf_0000, ignoreTaskPriority: 0x10_0000,
  masking: 0x100_0000, virtualGifEnable: 0x200_0000, virtualNmiEnable: 0x400_0000, avicEnable: 0x8000_0000,
} as const;
export const interruptPriorityShift = 16;

/** Values of `tlbControl`. */
export const TlbControl = { nothing: 0, flushAll: 1, flushGuest: 3, flushGuestNonGlobal: 7 } as const;

export const nestedPagingMask = 1;
export const ExtensionMask = { lastBranchRecord: 1, virtualLoadAndSave: 2 } as const;

/** EVENTINJ and EXITINTINFO have one format ("Event Injection"). */
export const EventInfo = { errorCodeValidMask: 0x800, validMask: 0x8000_0000, typeShift: 8 } as const;
export const EventType = { interrupt: 0, nmi: 2, exception: 3, software: 4 } as const;
