/** What a routine (an instruction's part that is plain TypeScript) may do to the processor it runs on. */
import type { FastPath, Routine, Status } from "../ir/index.ts";
import type { InstructionDefinition } from "./definition.ts";
import type { DecodedInstruction } from "./operand.ts";
import type { StateView } from "./state-view.ts";
import type { Virtualization } from "./virtualization.ts";

/** How an access is checked: as the program's own, or as one the processor makes on its own behalf (descriptor tables, TSS). */
export type Privilege = "current" | "supervisor";

/**
 * Linear memory as routines reach it, 1, 2, 4 or 8 bytes at a time. A failing access records the #PF (or #GP/#SS for
 * non-canonical addresses) in the state and says so; the routine then returns `Status.Fault`.
 */
export interface ProcessorMemory {
  /** The value, or undefined after a fault. */
  load(linear: bigint, sizeBytes: 1 | 2 | 4 | 8, privilege?: Privilege): bigint | undefined;
  /** False after a fault. */
  store(linear: bigint, sizeBytes: 1 | 2 | 4 | 8, value: bigint, privilege?: Privilege): boolean;
  /** Checks every page of the range for writing (or reading) without accessing it; false after a fault. */
  probe(linear: bigint, sizeBytes: number, intent: "read" | "write", privilege?: Privilege): boolean;
  /** Linear address of `offset` in segment 0..5 after limit, rights and canonical checks; undefined after #GP or #SS. */
  linear(segment: number, offset: bigint, sizeBytes: number, intent: "read" | "write"): bigint | undefined;
  /**
   * Where the bytes at the linear address `high:low` are in the buffer that `state` views, when they are ordinary memory of
   * one page that may be read (or written); 0, with nothing raised, when they are not. Without it there are no fast paths.
   */
  locate?(low: number, high: number, sizeBytes: number, isWrite: boolean, privilege: Privilege): number;
  /** Eight bytes of guest-physical memory; undefined after a fault, which only nested paging can raise. */
  loadPhysical(address: bigint): bigint | undefined;
  /** The page-directory pointers of PAE paging are read by each walk, and not when CR3 is written. */
  readonly readsPointersOnDemand: boolean;
  /** Forgets the translation of the page of the linear address `high:low` (INVLPG). */
  invalidatePage(low: number, high: number): void;
  /**
   * After a write of CR3: translates for process context `pcid` (undefined without CR4.PCIDE) from now on. Unless `keep`,
   * earlier translations of that context are forgotten; those of global pages may stay.
   */
  switchAddressSpace(pcid: number | undefined, keep: boolean): void;
  /** Forgets translations: all, or all but global pages. */
  flush(options: { keepGlobal: boolean }): void;
}

/** The machine around the processor. */
export interface ProcessorBus {
  portRead(port: number, sizeBytes: 1 | 2 | 4): number;
  portWrite(port: number, sizeBytes: 1 | 2 | 4, value: number): void;
  /** Time stamp counter in its own ticks, IA32_TSC_ADJUST included. */
  timeStampCounter(): bigint;
  /** The same where it is an exact number, else -1; a program may read it very often. */
  timeStampTicks?(): number;
  setTimeStampCounter(value: bigint): void;
  /** Model-specific registers that live outside of the processor's core (APIC base, x2APIC, TSC deadline); undefined: not one of them. */
  readMsr(index: number): bigint | undefined;
  /** The same for ourselves: no access of the guest's. Absent: `readMsr` does. */
  peekMsr?(index: number): bigint | undefined;
  /** "unknown": not one of them; false: the value is refused (#GP). */
  writeMsr(index: number, value: bigint): boolean | "unknown";
  /** CR8 as the local APIC's task priority, 0..15. */
  taskPriority(): number;
  setTaskPriority(value: number): void;
  /** 64 random bits. */
  random64(): bigint;
  /**
   * Asserts FERR# because an x87 exception is pending while CR0.NE = 0. False: IGNNE# is not asserted, the instruction has to
   * wait for IRQ 13. Absent: always ignored.
   */
  floatingPointError?(): boolean;
  /** The local APIC's EOI register is written; absent: there is no local APIC. */
  endOfInterrupt?(): void;
  /** INIT has taken effect, which may be long after it came: the local APIC is initialized with the processor. */
  initialized?(): void;
  /** Calls `ring` once, when the time stamp counter has reached `counter`; undefined: not any more. */
  setAlarm?(counter: bigint | undefined, ring: () => void): void;
}

export type VirtualizationSetting = "on" | "locked-off" | "unlocked";

/** CPUID and MSRs of a processor model: data, and a property of the machine. */
export interface CpuModel {
  readonly name: string;
  readonly vendor: "intel" | "amd" | "via";
  readonly physicalAddressBits: number;
  readonly linearAddressBits: 48 | 57;
  /** How firmware leaves virtualization: switched on or off for good, or for the operating system to decide. Absent: on. */
  readonly virtualization?: VirtualizationSetting;
  /** Whether instructions of the named feature exist (names as in definitions' `feature`). */
  hasFeature(name: string): boolean;
  cpuid(leaf: number, subleaf: number): { eax: number; ebx: number; ecx: number; edx: number };
  /** Initial value of a model-specific register that is plain storage or constant; undefined: #GP. */
  msr(index: number): { readonly value: bigint; readonly writable: bigint } | undefined;
}

export interface Processor {
  readonly state: StateView;
  readonly memory: ProcessorMemory;
  readonly bus: ProcessorBus;
  readonly model: CpuModel;
  /** Plain-storage model-specific registers by index, beside those that are state fields. */
  readonly msrs: Map<number, bigint>;
  /** SVM or VMX; undefined when the processor has neither. */
  readonly virtualization: Virtualization | undefined;
  /** What the last shutdown came from, for people. */
  shutdownCause: string | undefined;
  /** Records an exception of the current instruction and returns `Status.Fault`. */
  raise(vector: number, errorCode?: number): Status;
  /** The instruction hits breakpoints (B0..B3 of DR6): a debug trap follows it. */
  reportBreakpoints(conditions: number): void;
  /** The instruction has itself entered an interrupt handler (INT n): a single-step trap does not follow it. */
  dropSingleStep(): void;
  /** Whether a single-step trap follows the instruction is decided by the TF it leaves, not by the one it found (SYSCALL, SYSRET). */
  singleStepByNewFlags(): void;
  /**
   * Go on with a repeated MOVS or STOS, upwards, after one of its iterations: as many more as can neither fault nor be the
   * last. A processor without these does one iteration after the other.
   */
  repeatMove?(elementBytes: 1 | 2 | 4 | 8, addressBits: 16 | 32 | 64): void;
  repeatStore?(elementBytes: 1 | 2 | 4 | 8, addressBits: 16 | 32 | 64): void;
  /** RIP of the current instruction and of the next one. */
  currentRip(): bigint;
  nextRip(): bigint;
  /** The current instruction, decoded anew; undefined when its bytes cannot be read. */
  decodeCurrent(): DecodedInstruction<InstructionDefinition> | undefined;
  /** Up to 15 bytes from the current instruction on, as far as they can be fetched without a fault. */
  currentBytes(): Uint8Array;
  /** `interruptShadow` as far as it covers the current instruction. */
  currentShadow(): number;
  /** To be called after any change of CR0, CR3, CR4, EFER, CPL, RFLAGS.AC/VM/TF, CS, SS or debug registers: recomputes modes and contexts. */
  modeChanged(): void;
}

/**
 * Declares a routine. `run` returns how execution goes on; arguments and results are in the state's scratch slots. `fast`
 * is the same work as IR, for the ordinary cases.
 */
export function routine(name: string, run: (processor: Processor) => Status, fast?: () => FastPath): Routine {
  return fast === undefined ? { name, run } : { name, run, fast };
}

/** Declares a routine that does no more than to look, and is called often: see `Routine.observes`. */
export function observation(name: string, run: (processor: Processor) => Status): Routine {
  return { name, run, observes: true };
}
