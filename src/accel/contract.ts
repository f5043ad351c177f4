/** The seam between the machine and what executes its instructions: create processors, map memory, run until exit. */
import type { CpuModel, ProcessorBus } from "../isa/processor.ts";
import type { ObservableVirtualization } from "../isa/virtualization.ts";
import type { ExitObserver } from "./exits.ts";
import type { PendingEvent, ProcessorState } from "./processor-state.ts";

/** How long `run` may take. */
export interface RunBudget {
  /** For accelerators that count: they retire at most so many, and the rest of a block. */
  readonly instructions: number;
  /** Some dozens of instructions more or less do not matter; else there are fewer only when something else ends them. */
  readonly isApproximate?: boolean;
  /** For those that do not: of the host's time, about. */
  readonly nanoseconds: number;
}

/** Why `run` came back. */
export type RunStop =
  /** The budget is used up. */
  | "budget"
  /** The processor waits for an interrupt. */
  | "halted"
  /** Triple fault or another shutdown: only a reset brings the processor back. */
  | "shutdown"
  /** `stop` was called, or somebody kicked. */
  | "stopped"
  /** A breakpoint of {@link DebugSettings} is at the next instruction, or a single step is done. */
  | "debug"
  /** The accelerator cannot go on with this guest: `failure` says why. */
  | "failed";

/** A debugger's wishes, which the guest does not see. */
export interface DebugSettings {
  /** `run` returns "debug" after every instruction. */
  readonly isSingleStep: boolean;
  /** Linear addresses, at most four. `run` returns before the instruction, unless it began with it. */
  readonly breakpoints: readonly bigint[];
}

/**
 * Lets any thread make `run` return "stopped" soon: set `flag[0]` to 1, then interrupt `thread` if there is one (the
 * host knows how). Plain data that can be posted to workers.
 */
export interface KickHandle {
  readonly flag: Int32Array<SharedArrayBuffer>;
  /** The thread that sits in the kernel while the guest runs. */
  readonly thread: { readonly processId: number; readonly threadId: number } | undefined;
}

/** What a processor's local APIC, or a bare interrupt controller, offers it. */
export interface InterruptSource {
  hasInterrupt(): boolean;
  /** Takes the interrupt: its vector, or -1 when it has gone. */
  acknowledge(): number;
}

/** One virtual processor. All calls come from the thread that runs it, except where noted. */
export interface VirtualProcessor {
  readonly index: number;
  /** Instructions retired since power-on, exact also while a device is being accessed; 0 where they are not counted. */
  readonly retiredInstructions: number;
  /** What the guest's own hypervisor uses, to be looked at outside of `run`; undefined: there is none, or it cannot be looked at. */
  readonly virtualization: ObservableVirtualization | undefined;
  run(budget: RunBudget): RunStop;
  /** Why `run` returned "failed", for people. */
  readonly failure: string | undefined;
  /** What led to "shutdown", for people. */
  readonly shutdownCause: string | undefined;
  readonly kickHandle: KickHandle;
  /** Makes a running processor look at its inputs soon: an interrupt, a timer, a request came up. */
  attend(): void;
  /** Makes `run` return "stopped". */
  stop(): void;
  signalNmi(): void;
  /** The event comes before the next instruction. To be called outside of `run`, when none is pending. */
  inject(event: PendingEvent): void;
  setDebug(settings: DebugSettings): void;
  /** The guest's time stamp counter. */
  timeStampCounter(): bigint;
  /** The machine's time does not go on where it stood (a pause, a restored snapshot): the time stamp counter is the bus's again. */
  timeChanged(): void;
  /** RESET, or INIT which keeps extended state and most MSRs. */
  reset(kind: "reset" | "init"): void;
  /** Leaves the wait for SIPI at `vector << 12`, real mode. */
  startUp(vector: number): void;
  readonly isWaitingForStartUp: boolean;
  /** Puts architectural registers that a boot protocol defines in place; all others keep their values after reset. */
  setBootState(state: BootState): void;
  /** Why `getState` would leave something out now, for people; undefined: it has everything. */
  readonly stateObstacle: string | undefined;
  /** The whole architectural state, between two instructions and outside of `run`. */
  getState(): ProcessorState;
  /** The next instruction runs in `state`. Guest memory must already be what it will be. */
  setState(state: ProcessorState): void;
}

/** Initial registers of a boot protocol; addresses below 2^53. */
export interface BootState {
  readonly rip: number;
  readonly rflags: number;
  /** In register number order, RAX RCX RDX RBX RSP RBP RSI RDI R8 … R15. */
  readonly general: readonly number[];
  /** ES CS SS DS FS GS LDTR TR. */
  readonly segments: readonly { selector: number; base: number; limit: number; attributes: number }[];
  readonly gdtr: { base: number; limit: number };
  readonly idtr: { base: number; limit: number };
  readonly cr0: number;
  readonly cr3: number;
  readonly cr4: number;
  readonly efer: number;
}

/** Where a range of guest-physical addresses lies in the machine's own memory. */
export interface MemoryMapping {
  readonly address: number;
  readonly sizeBytes: number;
  /** Offset within RAM and firmware storage for reads; undefined: reads go to the bus. */
  readonly readOffset: number | undefined;
  /** The same for writes. */
  readonly writeOffset: number | undefined;
}

/** Memory-mapped devices. Sizes are 1, 2 or 4. */
export interface MemoryBus {
  read(address: number, sizeBytes: 1 | 2 | 4): number;
  write(address: number, sizeBytes: 1 | 2 | 4, value: number): void;
}

export interface AcceleratorOptions {
  /** Bytes of storage for RAM and firmware, a multiple of 64 KiB. */
  readonly storageBytes: number;
  readonly processorCount: number;
  readonly memoryBus: MemoryBus;
  readonly model: CpuModel;
  /** Of the guest's time stamp counter: what {@link Accelerator.timeStampFrequencyHz} gave. */
  readonly timeStampFrequencyHz: number;
  /** To be told of exits that are not accesses to a bus. */
  readonly exits?: ExitObserver | undefined;
}

/** Storage is filled by pieces of this size. */
export const storageGranuleBytes = 0x1_0000;

/** Where contents of storage come from. Whatever it does not have is zero. */
export interface StorageSource {
  /** Numbers of the granules that it has. */
  granules(): Iterable<number>;
  /** Fills `target`, all zero so far, with a granule. */
  read(granule: number, target: Uint8Array): void;
}

/** One machine's worth of an accelerator. */
export interface AcceleratorInstance {
  /** RAM and firmware, addressed by the offsets of {@link MemoryMapping}. Not all of it is there while `isFilled` says so. */
  readonly storage: Uint8Array;
  /** Takes the contents of storage from `source`: at once, or each granule when it is first touched. */
  fillStorage(source: StorageSource): void;
  /** Whether a granule of storage holds what it should; false: only the source of `fillStorage` does so far. */
  isFilled(granule: number): boolean;
  map(mapping: MemoryMapping): void;
  createProcessor(index: number, bus: ProcessorBus, interrupts: InterruptSource): VirtualProcessor;
  /** Copies out of guest-physical RAM; false when the range is not wholly RAM. */
  readMemory(address: number, target: Uint8Array): boolean;
  /** Copies into guest-physical RAM, voiding decoded code; false, and nothing written, when it is not wholly RAM. */
  writeMemory(address: number, source: Uint8Array): boolean;
  /** Begins to note which pages of storage the guest, or `writeMemory`, writes to; or stops that. */
  noteWrites(isOn: boolean): void;
  /** Pages of 4 KiB of storage written since the last call, and perhaps some more: bit n % 8 of byte n / 8 for page n. To be called outside of `run`. */
  takeWrittenPages(): Uint8Array;
  /** Gives back what the host lent. Nothing may be called afterwards; `storage` stays readable. */
  close(): void;
}

export interface Accelerator {
  readonly name: "soft" | "kvm";
  /** Whether instructions are counted, which deterministic machines need. */
  readonly countsInstructions: boolean;
  /** The frequency that guests' time stamp counters can have, the nearest to what is wanted. */
  timeStampFrequencyHz(wantedHz: number): number;
  /** Features of a CPU model that guests cannot have here, by the names of CPU models' features. */
  missingFeatures(model: CpuModel): readonly string[];
  /** RAM and firmware together, at most. */
  readonly maximumStorageBytes: number;
  /** @throws UserError BAD_MEMORY_SIZE; BAD_CONFIG for a CPU model with missing features. */
  create(options: AcceleratorOptions): AcceleratorInstance;
}
