/**
 * The architectural state of one virtual processor between two instructions, as every accelerator reads and sets it:
 * what a snapshot keeps of a processor, and what a running machine takes along from one accelerator to another.
 *
 * IA32_TSC belongs to the machine's clock; IA32_APIC_BASE, the task priority and the TSC deadline to the local APIC.
 */
import type { SvmState } from "../virt/svm/saved-state.ts";
import type { VmxState } from "../virt/vmx/saved-state.ts";

/** Raised when a field is added, removed or changes its meaning. */
export const processorStateVersion = 3;

/** A segment register with its hidden part. */
export interface SegmentState {
  readonly selector: number;
  readonly base: bigint;
  /** Last valid offset, granularity applied. */
  readonly limit: number;
  /** Descriptor bits 55:40 with bits 11:8 zero (the access rights of SDM volume 3, "Guest Register State"); bit 16: unusable. */
  readonly attributes: number;
}

export interface DescriptorTableState {
  readonly base: bigint;
  readonly limit: number;
}

/** x87 FPU as FXSAVE has it. */
export interface FloatingPointState {
  readonly controlWord: number;
  /** TOP in bits 13:11. */
  readonly statusWord: number;
  /** Bit n: physical register n is not empty. */
  readonly abridgedTagWord: number;
  readonly lastOpcode: number;
  /** 64-bit FIP and FDP; the selectors are those of processors that save them. */
  readonly instructionPointer: bigint;
  readonly instructionSelector: number;
  readonly dataPointer: bigint;
  readonly dataSelector: number;
  /** ST(0) to ST(7). */
  readonly stack: readonly { readonly significand: bigint; readonly signAndExponent: number }[];
}

/** The model-specific registers that every model has; those that are plain storage are listed by index beside them. */
export interface CoreMsrState {
  readonly efer: bigint;
  readonly star: bigint;
  readonly lstar: bigint;
  readonly cstar: bigint;
  readonly fmask: bigint;
  readonly kernelGsBase: bigint;
  readonly sysenterCs: bigint;
  readonly sysenterEsp: bigint;
  readonly sysenterEip: bigint;
  readonly tscAux: bigint;
  readonly pat: bigint;
}

/** An event that the processor has taken and not begun to deliver: it comes before the next instruction. */
export interface PendingEvent {
  readonly kind: "exception" | "external" | "nmi";
  readonly vector: number;
  readonly errorCode?: number;
}

export type ProcessorActivity = "active" | "halted" | "shutdown" | "waiting-for-sipi";

export interface ProcessorState {
  readonly version: typeof processorStateVersion;
  /** In register number order: RAX RCX RDX RBX RSP RBP RSI RDI R8 … R15. */
  readonly general: readonly bigint[];
  readonly rip: bigint;
  readonly rflags: number;
  /** In real mode 0, in virtual-8086 mode 3. */
  readonly privilegeLevel: number;
  /** ES CS SS DS FS GS LDTR TR. */
  readonly segments: readonly SegmentState[];
  readonly gdtr: DescriptorTableState;
  readonly idtr: DescriptorTableState;
  readonly cr0: bigint;
  readonly cr2: bigint;
  readonly cr3: bigint;
  readonly cr4: bigint;
  readonly xcr0: bigint;
  /** The four entries that PAE paging without IA-32e mode has loaded; absent otherwise. */
  readonly pageDirectoryPointers?: readonly bigint[];
  readonly breakpointAddresses: readonly bigint[];
  readonly dr6: bigint;
  readonly dr7: bigint;
  readonly floatingPoint: FloatingPointState;
  readonly mxcsr: number;
  /** XMM0 to XMM15. */
  readonly xmm: readonly { readonly low: bigint; readonly high: bigint }[];
  readonly pkru: number;
  readonly msrs: CoreMsrState;
  /** Registers of the model that have been written, ascending by index. */
  readonly storedMsrs: readonly (readonly [index: number, value: bigint])[];
  readonly activity: ProcessorActivity;
  /** Interrupts wait for one more instruction, because of STI or of a load of SS. */
  readonly shadow: "none" | "sti" | "stack-segment";
  readonly isNmiBlocked: boolean;
  readonly isNmiPending: boolean;
  readonly pendingEvent?: PendingEvent;
  /** B0 to B3 and BS of DR6 that a load of SS holds back until after the next instruction. */
  readonly heldDebugConditions: number;
  /** Of a model with SVM. */
  readonly svm?: SvmState;
  /** Of a model with VMX. */
  readonly vmx?: VmxState;
}

/** Whether the processor's own guests have hardware-assisted virtualization switched on. */
export function isVirtualizing({ msrs, svm, vmx }: ProcessorState): boolean {
  const svmEnableMask = 0x1000n;
  return (msrs.efer & svmEnableMask) !== 0n || svm?.gif === false || vmx?.vmxonPointer !== undefined;
}
