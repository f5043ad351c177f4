/** Intercepts and the exit codes they lead to (AMD APM volume 2, "Control Area" of the VMCB and appendix C, "SVM Intercept Exit Codes"). */
import type { PlainInstruction, VirtualizationInstruction } from "../../isa/virtualization.ts";

/** Bits of the three words of miscellaneous intercepts, counted through. The exit code is `miscellaneousExit` more. */
export const Intercept = {
  INTR: 0, NMI: 1, SMI: 2, INIT: 3, VINTR: 4, CR0_SEL_WRITE: 5, IDTR_READ: 6, GDTR_READ: 7, LDTR_READ: 8, TR_READ: 9,
  IDTR_WRITE: 10, GDTR_WRITE: 11, LDTR_WRITE: 12, TR_WRITE: 13, RDTSC: 14, RDPMC: 15, PUSHF: 16, POPF: 17, CPUID: 18,
  RSM: 19, IRET: 20, SWINT: 21, INVD: 22, PAUSE: 23, HLT: 24, INVLPG: 25, INVLPGA: 26, IOIO: 27, MSR: 28, TASK_SWITCH: 29,
  FERR_FREEZE: 30, SHUTDOWN: 31, VMRUN: 32, VMMCALL: 33, VMLOAD: 34, VMSAVE: 35, STGI: 36, CLGI: 37, SKINIT: 38,
  RDTSCP: 39, ICEBP: 40, WBINVD: 41, MONITOR: 42, MWAIT: 43, MWAIT_CONDITIONAL: 44, XSETBV: 45, RDPRU: 46,
  INVPCID: 66,
} as const;

/** First exit codes of the groups that have a word of intercepts each. */
export const ExitCode = {
  crRead: 0x00, crWrite: 0x10, drRead: 0x20, drWrite: 0x30, exception: 0x40, miscellaneous: 0x60,
  nestedPageFault: 0x400, avicIncompleteIpi: 0x401, avicUnaccelerated: 0x402, invalid: -1,
} as const;

/** Intercepts of instructions that need no further information. */
export const plainIntercepts: Readonly<Partial<Record<PlainInstruction, number>>> = {
  cpuid: Intercept.CPUID, hlt: Intercept.HLT, invd: Intercept.INVD, wbinvd: Intercept.WBINVD, rdtsc: Intercept.RDTSC,
  rdtscp: Intercept.RDTSCP, rdpmc: Intercept.RDPMC, monitor: Intercept.MONITOR, rsm: Intercept.RSM,
  pushf: Intercept.PUSHF, popf: Intercept.POPF, iret: Intercept.IRET, icebp: Intercept.ICEBP, sgdt: Intercept.GDTR_READ,
  sidt: Intercept.IDTR_READ, lgdt: Intercept.GDTR_WRITE, lidt: Intercept.IDTR_WRITE, sldt: Intercept.LDTR_READ,
  str: Intercept.TR_READ, lldt: Intercept.LDTR_WRITE, ltr: Intercept.TR_WRITE,
};

export type SvmInstruction = Extract<VirtualizationInstruction, "vmrun" | "vmload" | "vmsave" | "vmmcall" | "stgi" | "clgi" | "invlpga">;

/** Intercepts of the extension's own instructions. */
export const ownIntercepts: Readonly<Record<SvmInstruction, number>> = {
  vmrun: Intercept.VMRUN, vmload: Intercept.VMLOAD, vmsave: Intercept.VMSAVE, vmmcall: Intercept.VMMCALL,
  stgi: Intercept.STGI, clgi: Intercept.CLGI, invlpga: Intercept.INVLPGA,
};

const interceptNames: ReadonlyMap<number, string> = new Map(Object.entries(Intercept).map(([name, number]) => [number, name]));

/** The manual's name of an exit code, without the prefix VMEXIT_. */
export function exitCodeName(code: number): string {
  if (code === ExitCode.invalid) return "INVALID";
  if (code === ExitCode.nestedPageFault) return "NPF";
  if (code === ExitCode.avicIncompleteIpi) return "AVIC_INCOMPLETE_IPI";
  if (code === ExitCode.avicUnaccelerated) return "AVIC_NOACCEL";
  if (code < ExitCode.crWrite) return `CR${code}_READ`;
  if (code < ExitCode.drRead) return `CR${code - ExitCode.crWrite}_WRITE`;
  if (code < ExitCode.drWrite) return `DR${code - ExitCode.drRead}_READ`;
  if (code < ExitCode.exception) return `DR${code - ExitCode.drWrite}_WRITE`;
  if (code < ExitCode.miscellaneous) return `EXCP${code - ExitCode.exception}`;
  return interceptNames.get(code - ExitCode.miscellaneous) ?? `0x${code.toString(16)}`;
}

/** What an exit tells beside its code. */
export interface Exit {
  readonly code: number;
  readonly info1: bigint;
  readonly info2: bigint;
  /** The instruction that is intercepted has an end: NEXT_RIP tells it. */
  readonly hasNextRip: boolean;
  /** A data access: the instruction's bytes are given, too. */
  readonly hasInstructionBytes: boolean;
}

/** An exit of an instruction. */
export function instructionExit(intercept: number, info1: bigint = 0n, info2: bigint = 0n): Exit {
  return { code: ExitCode.miscellaneous + intercept, info1, info2, hasNextRip: true, hasInstructionBytes: false };
}

/** An exit that is not due to an instruction. */
export function eventExit(code: number, info1: bigint = 0n, info2: bigint = 0n): Exit {
  return { code, info1, info2, hasNextRip: false, hasInstructionBytes: false };
}

