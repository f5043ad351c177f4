/** Basic exit reasons (SDM volume 3, appendix "VMX Basic Exit Reasons") and what an exit tells. */

export const ExitReason = {
  exceptionOrNmi: 0, externalInterrupt: 1, tripleFault: 2, init: 3, startUp: 4, interruptWindow: 7, nmiWindow: 8,
  taskSwitch: 9, cpuid: 10, hlt: 12, invd: 13, invlpg: 14, rdpmc: 15, rdtsc: 16, vmcall: 18, vmclear: 19,
  vmlaunch: 20, vmptrld: 21, vmptrst: 22, vmread: 23, vmresume: 24, vmwrite: 25, vmxoff: 26, vmxon: 27, crAccess: 28,
  drAccess: 29, io: 30, rdmsr: 31, wrmsr: 32, invalidGuestState: 33, msrLoading: 34, mwait: 36, monitorTrap: 37,
  monitor: 39, pause: 40, tprBelowThreshold: 43, apicAccess: 44, virtualizedEoi: 45, gdtrIdtr: 46, ldtrTr: 47,
  eptViolation: 48, eptMisconfiguration: 49, invept: 50, rdtscp: 51, preemptionTimer: 52, invvpid: 53, wbinvd: 54,
  xsetbv: 55, apicWrite: 56, rdrand: 57, invpcid: 58, vmfunc: 59, rdseed: 61, pmlFull: 62,
} as const;

/** As the manual names them, in short. */
const names: Readonly<Record<keyof typeof ExitReason, string>> = {
  exceptionOrNmi: "exception or NMI", externalInterrupt: "external interrupt", tripleFault: "triple fault", init: "INIT", startUp: "SIPI",
  interruptWindow: "interrupt window", nmiWindow: "NMI window", taskSwitch: "task switch", cpuid: "CPUID", hlt: "HLT", invd: "INVD",
  invlpg: "INVLPG", rdpmc: "RDPMC", rdtsc: "RDTSC", vmcall: "VMCALL", vmclear: "VMCLEAR", vmlaunch: "VMLAUNCH",
  vmptrld: "VMPTRLD", vmptrst: "VMPTRST", vmread: "VMREAD", vmresume: "VMRESUME", vmwrite: "VMWRITE", vmxoff: "VMXOFF", vmxon: "VMXON",
  crAccess: "control-register access", drAccess: "MOV DR", io: "I/O instruction", rdmsr: "RDMSR", wrmsr: "WRMSR",
  invalidGuestState: "entry failure: invalid guest state", msrLoading: "entry failure: MSR loading", mwait: "MWAIT",
  monitorTrap: "monitor trap flag", monitor: "MONITOR", pause: "PAUSE", tprBelowThreshold: "TPR below threshold",
  apicAccess: "APIC access", virtualizedEoi: "virtualized EOI", gdtrIdtr: "access to GDTR or IDTR", ldtrTr: "access to LDTR or TR",
  eptViolation: "EPT violation", eptMisconfiguration: "EPT misconfiguration", invept: "INVEPT", rdtscp: "RDTSCP",
  preemptionTimer: "VMX-preemption timer expired", invvpid: "INVVPID", wbinvd: "WBINVD", xsetbv: "XSETBV", apicWrite: "APIC write",
  rdrand: "RDRAND", invpcid: "INVPCID", vmfunc: "VMFUNC", rdseed: "RDSEED", pmlFull: "page-modification log full",
};

const nameByReason: ReadonlyMap<number, string> = new Map(
  Object.entries(ExitReason).map(([key, reason]) => [reason, names[key as keyof typeof ExitReason]]),
);

export function exitReasonName(reason: number): string {
  return nameByReason.get(reason) ?? `reason ${reason}`;
}

/** What became of the guest's RF (SDM volume 3, "Saving RIP, RSP, and RFLAGS"). */
export type ResumeFlagRule = "cleared" | "as delivered" | "set" | "kept";

/** 0 and 0n stand for what an exit does not tell. */
export interface Exit {
  readonly reason: number;
  readonly qualification: bigint;
  readonly resumeFlag: ResumeFlagRule;
  /** The exit takes the place of the current instruction, whose length is reported. */
  readonly isInstruction: boolean;
  /** Of the instruction that raised the event; undefined: it is that of the event during whose delivery the guest is left. */
  readonly instructionLength: number | undefined;
  readonly instructionInformation: number;
  readonly guestLinearAddress: bigint;
  readonly guestPhysicalAddress: number;
  /** VM-exit interruption information, and its error code. */
  readonly interruption: number;
  readonly errorCode: number;
}

type Details = Partial<Omit<Exit, "reason" | "qualification" | "resumeFlag" | "isInstruction">>;
const noDetails: Details = {};

/** All exits have the same members in the same order, since most transitions read all of them. */
function exitOf(reason: number, qualification: bigint, resumeFlag: ResumeFlagRule, isInstruction: boolean, details: Details): Exit {
  return {
    reason, qualification, resumeFlag, isInstruction,
    instructionLength: details.instructionLength, instructionInformation: details.instructionInformation ?? 0,
    guestLinearAddress: details.guestLinearAddress ?? 0n, guestPhysicalAddress: details.guestPhysicalAddress ?? 0,
    interruption: details.interruption ?? 0, errorCode: details.errorCode ?? 0,
  };
}

/** An exit in the place of an instruction. */
export function instructionExit(reason: number, qualification: bigint = 0n, details: Details = noDetails): Exit {
  return exitOf(reason, qualification, "cleared", true, details);
}

/** An exit between two instructions. */
export function boundaryExit(reason: number, qualification: bigint = 0n, details: Details = noDetails): Exit {
  return exitOf(reason, qualification, "kept", false, details);
}

/** An exit in the place of an access to memory. */
export function accessExit(reason: number, qualification: bigint, details: Details = noDetails): Exit {
  return exitOf(reason, qualification, "set", false, details);
}

/** An exit in the place of an event's delivery. */
export function eventExit(reason: number, qualification: bigint, details: Details): Exit {
  return exitOf(reason, qualification, "as delivered", false, details);
}
