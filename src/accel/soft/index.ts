/** The `soft` accelerator: our own processor. It needs nothing of the host but WebAssembly. */
import { UserError } from "../../base/errors.ts";
import { pageSizeBytes, PhysicalMemory } from "../../engine/physical-memory.ts";
import { hotInstructions } from "../../engine/hot-instructions.ts";
import type { JitSettings } from "../../engine/jit/settings.ts";
import { Interpreter } from "../../engine/interpreter.ts";
import { SoftProcessor } from "../../engine/processor.ts";
import { wasm, type WasmMemory } from "../../engine/web-assembly.ts";
import { writeFlags, allFlagsMask } from "../../isa/flags.ts";
import { instructions } from "../../isa/instructions.ts";
import type { CpuModel, ProcessorBus } from "../../isa/processor.ts";
import * as state from "../../isa/state.ts";
import { Activity } from "../../isa/system/mode.ts";
import { loadSegmentCache } from "../../isa/system/segments.ts";
import type { ObservableVirtualization } from "../../isa/virtualization.ts";
import { virtualizationOf } from "../../virt/index.ts";
import type {
  Accelerator, AcceleratorInstance, AcceleratorOptions, BootState, DebugSettings, InterruptSource, KickHandle, MemoryMapping, RunBudget,
  RunStop, StorageSource, VirtualProcessor,
} from "../contract.ts";
import { storageGranuleBytes } from "../contract.ts";
import type { ExitObserver } from "../exits.ts";
import type { PendingEvent, ProcessorState } from "../processor-state.ts";
import { readProcessorState, writeProcessorState } from "./processor-state.ts";

const wasmPageBytes = 65_536;
const maximumWasmPages = 65_536;
/** The first page stays empty: offset 0 means "nothing here" throughout the engine. */
const firstProcessorOffset = wasmPageBytes;
const codeBytesPerProcessor = 48 << 20;
/** Inlining hot instructions pays after some ten milliseconds, or at once when it has been done in this process. */
const inlineHotAfter = 500_000;
/** Instructions of one `run`, some ten milliseconds: a kick is looked at between two. */
const maximumBudget = 2_000_000;

/** Memory of the engine below the storage: state areas, then decoded code, then a byte per page of all memory. */
function engineBytes(processorCount: number, storageBytes: number): number {
  const pageBytesOffset = pageBytesOffsetOf(processorCount);
  // One byte for each 4096, and for these bytes, too.
  const pageBytes = Math.ceil((pageBytesOffset + storageBytes) / (pageSizeBytes - 1));
  return Math.ceil((pageBytesOffset + pageBytes) / wasmPageBytes) * wasmPageBytes;
}

/** As much as fits beside the engine's memory. */
function maximumStorageBytes(processorCount: number): number {
  const all = maximumWasmPages * wasmPageBytes;
  return all - engineBytes(processorCount, all);
}

function pageBytesOffsetOf(processorCount: number): number {
  return firstProcessorOffset + processorCount * (state.processorAreaSizeBytes + codeBytesPerProcessor);
}

export class SoftVirtualProcessor implements VirtualProcessor {
  readonly index: number;
  readonly processor: SoftProcessor;
  readonly failure: undefined;
  readonly kickHandle: KickHandle = { flag: new Int32Array(new SharedArrayBuffer(4)), thread: undefined };

  readonly #exits: ExitObserver | undefined;

  constructor(index: number, processor: SoftProcessor, exits: ExitObserver | undefined) {
    this.index = index;
    this.processor = processor;
    this.#exits = exits;
  }

  get retiredInstructions(): number {
    return this.processor.retiredBeforeCurrent;
  }

  get shutdownCause(): string | undefined {
    return this.processor.shutdownCause;
  }

  get virtualization(): ObservableVirtualization | undefined {
    return this.processor.virtualization;
  }

  get isWaitingForStartUp(): boolean {
    return this.processor.state.get32(state.activity) === Activity.waitingForSipi;
  }

  run({ instructions, isApproximate = false }: RunBudget): RunStop {
    if (Atomics.exchange(this.kickHandle.flag, 0, 0) !== 0) return "stopped";
    const stop = this.processor.run(Math.min(instructions, maximumBudget), isApproximate);
    if (this.#exits !== undefined && (stop === "halted" || stop === "budget")) {
      this.#exits.record(stop === "halted" ? "halt" : "interruption", undefined, 0);
    }
    return stop;
  }

  inject(event: PendingEvent): void {
    this.processor.waiting = { ...this.processor.waiting, event };
  }

  setDebug({ isSingleStep, breakpoints }: DebugSettings): void {
    const isOn = isSingleStep || breakpoints.length > 0;
    this.processor.setDebug(isOn ? { isSingleStep, breakpoints: new Set(breakpoints) } : undefined);
  }

  timeStampCounter(): bigint {
    return this.processor.bus.timeStampCounter();
  }

  /** The bus is asked at every RDTSC. */
  timeChanged(): void {}

  attend(): void {
    this.processor.attend();
  }

  stop(): void {
    this.processor.requestStop();
  }

  signalNmi(): void {
    this.processor.signalNmi();
  }

  reset(kind: "reset" | "init"): void {
    this.processor.requestReset(kind);
  }

  startUp(vector: number): void {
    const { processor } = this;
    if (processor.virtualization?.admitsStartUp(vector) === false) return processor.attend();
    loadSegmentCache(processor.state, 1, vector << 8, { base: BigInt(vector << 12), limit: 0xffff, attributes: 0x9b });
    processor.state.set64(state.rip, 0n);
    processor.state.set32(state.activity, Activity.active);
    processor.modeChanged();
  }

  readonly stateObstacle: undefined = undefined;

  getState(): ProcessorState {
    return readProcessorState(this.processor);
  }

  setState(saved: ProcessorState): void {
    writeProcessorState(this.processor, saved);
  }

  setBootState(boot: BootState): void {
    const { processor } = this;
    const s = processor.state;
    boot.general.forEach((value, number) => s.set64(state.gpr[number], BigInt(value)));
    s.set64(state.cr0, BigInt(boot.cr0));
    s.set64(state.cr3, BigInt(boot.cr3));
    s.set64(state.cr4, BigInt(boot.cr4));
    s.set64(state.efer, BigInt(boot.efer));
    boot.segments.forEach(({ selector, base, limit, attributes }, index) =>
      loadSegmentCache(s, index, selector, { base: BigInt(base), limit, attributes }));
    s.set64(state.gdtrBase, BigInt(boot.gdtr.base));
    s.set32(state.gdtrLimit, boot.gdtr.limit);
    s.set64(state.idtrBase, BigInt(boot.idtr.base));
    s.set32(state.idtrLimit, boot.idtr.limit);
    s.set64(state.rip, BigInt(boot.rip));
    writeFlags(s, boot.rflags, allFlagsMask);
    processor.modeChanged();
    // CR3 may have changed alone, which modeChanged leaves to whoever wrote it.
    processor.memory.flush({ keepGlobal: false });
  }
}

function createMemory(pages: number): WasmMemory {
  try {
    return new wasm.Memory({ initial: pages, maximum: pages, shared: true });
  } catch (cause) {
    const mebibytes = pages * wasmPageBytes / 0x10_0000;
    throw new UserError("BAD_MEMORY_SIZE", `The host does not give the ${mebibytes} MiB of address space that this machine needs: ask for less with --memory, or raise the limit (ulimit -v).`, { cause });
  }
}

class SoftInstance implements AcceleratorInstance {
  readonly storage: Uint8Array;
  readonly physical: PhysicalMemory;
  readonly #memory: WasmMemory;
  readonly #options: AcceleratorOptions;
  readonly #storageOffset: number;

  readonly #settings: SoftAcceleratorSettings;
  readonly #processors: SoftProcessor[] = [];

  constructor(options: AcceleratorOptions, settings: SoftAcceleratorSettings) {
    this.#options = options;
    this.#settings = settings;
    this.#storageOffset = engineBytes(options.processorCount, options.storageBytes);
    const pages = (this.#storageOffset + options.storageBytes) / wasmPageBytes;
    this.#memory = createMemory(pages);
    this.physical = new PhysicalMemory(this.#memory.buffer, options.memoryBus, pageBytesOffsetOf(options.processorCount));
    this.storage = new Uint8Array(this.#memory.buffer, this.#storageOffset, options.storageBytes);
  }

  map({ address, sizeBytes, readOffset, writeOffset }: MemoryMapping): void {
    const place = (offset: number | undefined): number | undefined => offset === undefined ? undefined : this.#storageOffset + offset;
    this.physical.mapSeparately(address, sizeBytes, place(readOffset), place(writeOffset));
  }

  createProcessor(index: number, bus: ProcessorBus, interrupts: InterruptSource): VirtualProcessor {
    const stateOffset = firstProcessorOffset + index * state.processorAreaSizeBytes;
    const codeStart = firstProcessorOffset + this.#options.processorCount * state.processorAreaSizeBytes + index * codeBytesPerProcessor;
    const virtualization = virtualizationOf(this.#options.model);
    const { profile = false, jit } = this.#settings;
    const processor = new SoftProcessor({
      memory: this.#memory, physical: this.physical, stateOffset, codeStart, codeEnd: codeStart + codeBytesPerProcessor,
      instructions, model: this.#options.model, bus, interrupts, hotInstructions, inlineHotAfter: Interpreter.hasInlinedHot ? 0 : inlineHotAfter,
      profile, ...(jit === undefined ? {} : { jit }), ...(virtualization === undefined ? {} : { virtualization }),
    });
    this.#processors.push(processor);
    return new SoftVirtualProcessor(index, processor, this.#options.exits);
  }

  fillStorage(source: StorageSource): void {
    const offsets = Array.from(source.granules(), (granule) => this.#storageOffset + granule * storageGranuleBytes);
    this.physical.fillLater(offsets, (offset) => {
      const start = offset - this.#storageOffset;
      source.read(start / storageGranuleBytes, this.storage.subarray(start, start + storageGranuleBytes));
    });
  }

  isFilled(granule: number): boolean {
    return !this.physical.isAwaited(this.#storageOffset + granule * storageGranuleBytes);
  }

  readMemory(address: number, target: Uint8Array): boolean {
    if (!this.physical.isRam(address, target.length)) return false;
    this.physical.readRange(address, target);
    return true;
  }

  writeMemory(address: number, source: Uint8Array): boolean {
    return this.physical.writeRange(address, source);
  }

  noteWrites(isOn: boolean): void {
    this.physical.noteWrites(isOn);
    for (const processor of this.#processors) processor.memory.clear();
  }

  takeWrittenPages(): Uint8Array {
    const written = this.physical.takeWritten();
    for (const processor of this.#processors) processor.memory.clear();
    const firstPage = this.#storageOffset / pageSizeBytes;
    const bits = new Uint8Array(Math.ceil(this.storage.length / pageSizeBytes / 8));
    for (let page = 0; page < this.storage.length / pageSizeBytes; page++) bits[page >> 3] |= written[firstPage + page] << (page & 7);
    return bits;
  }

  /** Everything is the garbage collector's. */
  close(): void {}
}

/** Models have no features that instructions are not defined for; what they have of KVM's is KVM's alone. */
function missingFeatures(model: CpuModel): readonly string[] {
  return ["kvmclock"].filter((name) => model.hasFeature(name));
}

export interface SoftAcceleratorSettings {
  /** Count what is executed, see `SoftProcessor.executionCounts`. */
  readonly profile?: boolean;
  /** When to compile; the default settings unless given. */
  readonly jit?: JitSettings;
}

export function createSoftAccelerator(settings: SoftAcceleratorSettings = {}): Accelerator {
  return {
    name: "soft",
    countsInstructions: true,
    timeStampFrequencyHz: (wantedHz) => wantedHz,
    missingFeatures,
    maximumStorageBytes: maximumStorageBytes(1),
    create: (options) => {
      const missing = missingFeatures(options.model);
      if (missing.length > 0) throw new UserError("BAD_CONFIG", `The soft accelerator cannot give guests ${missing.join(", ")}, which is KVM's: take +${missing.join(",+")} away from the CPU model, or use --accel kvm.`);
      return new SoftInstance(options, settings);
    },
  };
}

export const softAccelerator: Accelerator = createSoftAccelerator();
