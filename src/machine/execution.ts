/** The accelerator's part of a machine, memory and processors, which can move to another accelerator between two instructions. */
import {
  type Accelerator, type AcceleratorInstance, type AcceleratorOptions, type InterruptSource, type MemoryMapping, storageGranuleBytes,
  type StorageSource, type VirtualProcessor,
} from "../accel/contract.ts";
import { UserError } from "../base/errors.ts";
import type { ProcessorBus } from "../isa/processor.ts";
import { type ExitTap, ObservedMemoryBus, observeProcessorBus } from "./observed-buses.ts";

/** What a processor is connected to. */
interface Socket {
  readonly bus: ProcessorBus;
  readonly interrupts: InterruptSource;
}

export class Execution {
  readonly #options: AcceleratorOptions;
  readonly #exits: ExitTap;
  readonly #memorySizeBytes: number;
  readonly #sockets: Socket[] = [];
  /** By range; a later one lies on top of earlier ones. */
  readonly #mappings: Map<string, MemoryMapping> = new Map();
  /** Where contents of storage come from that the accelerator has not asked for yet. */
  #source: StorageSource | undefined;
  #instance: AcceleratorInstance;
  #processors: VirtualProcessor[] = [];
  /** Instructions retired before the present processors were made. */
  #retiredBefore: number;
  /** Pages written since somebody wanted to know, without those that the accelerator has not told of yet. */
  #writtenPages: Uint8Array | undefined;

  /**
   * `memorySizeBytes` of the storage are RAM; `retiredInstructions` were retired before; `exits` hears of every exit.
   * @throws UserError BAD_MEMORY_SIZE, BAD_CONFIG.
   */
  constructor(
    accelerator: Accelerator, options: Omit<AcceleratorOptions, "exits">,
    { memorySizeBytes, retiredInstructions, exits }: { readonly memorySizeBytes: number; readonly retiredInstructions: number; readonly exits: ExitTap },
  ) {
    this.#exits = exits;
    this.#options = { ...options, exits, memoryBus: new ObservedMemoryBus(options.memoryBus, exits) };
    this.#memorySizeBytes = memorySizeBytes;
    this.#retiredBefore = retiredInstructions;
    this.#checkStorage(accelerator);
    this.#instance = accelerator.create(this.#options);
  }

  get processors(): readonly VirtualProcessor[] {
    return this.#processors;
  }

  /** @throws UserError SNAPSHOT_IMPOSSIBLE when the processors are in a state that cannot be taken out of them. */
  checkState(): void {
    const obstacle = this.#processors.find(({ stateObstacle }) => stateObstacle !== undefined)?.stateObstacle;
    if (obstacle !== undefined) throw new UserError("SNAPSHOT_IMPOSSIBLE", `The machine cannot be saved or handed over now, because ${obstacle}: try again when it has been switched off.`);
  }

  /** Instructions retired by all processors since power-on; what an accelerator does not count is not in it. */
  get retiredInstructions(): number {
    let sum = this.#retiredBefore;
    // Asked by a deterministic machine's clock, hence often.
    for (const processor of this.#processors) sum += processor.retiredInstructions;
    return sum;
  }

  addProcessor(processorBus: ProcessorBus, interrupts: InterruptSource): VirtualProcessor {
    const bus = observeProcessorBus(processorBus, this.#exits);
    const processor = this.#instance.createProcessor(this.#sockets.length, bus, interrupts);
    this.#sockets.push({ bus, interrupts });
    this.#processors.push(processor);
    return processor;
  }

  close(): void {
    this.#instance.close();
  }

  // --- memory ------------------------------------------------------------------------------------------------------

  map(mapping: MemoryMapping): void {
    const range = `${mapping.address}+${mapping.sizeBytes}`;
    this.#mappings.delete(range);
    this.#mappings.set(range, mapping);
    this.#instance.map(mapping);
  }

  readMemory(address: number, target: Uint8Array): boolean {
    return this.#instance.readMemory(address, target);
  }

  writeMemory(address: number, source: Uint8Array): boolean {
    return this.#instance.writeMemory(address, source);
  }

  /** Storage takes these contents; to be called before anything runs. */
  fillStorage(source: StorageSource): void {
    this.#source = source;
    this.#instance.fillStorage(source);
  }

  /** Bytes at an offset of storage that is no RAM, outside of `run`. */
  writeStorage(offset: number, bytes: Uint8Array): void {
    this.#instance.storage.set(bytes, offset);
  }

  /** A granule of storage, valid until something runs; undefined: only the source of `fillStorage` has it so far. */
  granule(index: number): Uint8Array | undefined {
    const start = index * storageGranuleBytes;
    return this.#instance.isFilled(index) ? this.#instance.storage.subarray(start, start + storageGranuleBytes) : undefined;
  }

  /** From now on, `writtenPages` tells what is written. */
  noteWrites(): void {
    this.#writtenPages = new Uint8Array(Math.ceil(this.#options.storageBytes / 8 / 4096));
    this.#instance.noteWrites(true);
  }

  /** Pages of storage written since `noteWrites`: bit n % 8 of byte n / 8 for page n. Undefined: nobody took notes. */
  writtenPages(): Uint8Array | undefined {
    const pages = this.#writtenPages;
    if (pages === undefined) return undefined;
    this.#instance.takeWrittenPages().forEach((bits, index) => {
      pages[index] |= bits;
    });
    return pages;
  }

  // --- hand-over ---------------------------------------------------------------------------------------------------

  /**
   * Goes on with another accelerator, between two instructions; when that cannot be, with the one it had.
   * @throws UserError BAD_MEMORY_SIZE, BAD_CONFIG, SNAPSHOT_IMPOSSIBLE.
   */
  moveTo(accelerator: Accelerator): void {
    const options = this.#options, previous = this.#instance;
    this.checkState();
    this.#checkStorage(accelerator);
    checkTimeStampFrequency(accelerator, options.timeStampFrequencyHz);
    const states = this.#processors.map((processor) => processor.getState());
    const retired = this.retiredInstructions, writtenPages = this.writtenPages();
    const instance = accelerator.create(options);
    let processors: VirtualProcessor[];
    try {
      for (const mapping of this.#mappings.values()) instance.map(mapping);
      this.#fillFrom(previous, instance);
      processors = this.#sockets.map(({ bus, interrupts }, index) => instance.createProcessor(index, bus, interrupts));
      if (writtenPages !== undefined) instance.noteWrites(true);
      processors.forEach((processor, index) => processor.setState(states[index]));
    } catch (error) {
      instance.close();
      throw error;
    }
    this.#instance = instance;
    this.#processors = processors;
    this.#retiredBefore = retired;
    previous.close();
  }

  #checkStorage(accelerator: Accelerator): void {
    const { storageBytes } = this.#options, memorySizeBytes = this.#memorySizeBytes;
    if (storageBytes <= accelerator.maximumStorageBytes) return;
    const maximumMib = Math.floor((accelerator.maximumStorageBytes - (storageBytes - memorySizeBytes)) / 0x10_0000);
    throw new UserError("BAD_MEMORY_SIZE", `${memorySizeBytes / 0x10_0000} MiB of memory is more than the ${accelerator.name} accelerator can give: at most ${maximumMib} MiB`);
  }

  #fillFrom(previous: AcceleratorInstance, instance: AcceleratorInstance): void {
    const source = this.#source, awaited: number[] = [];
    for (let granule = 0; granule < this.#options.storageBytes / storageGranuleBytes; granule++) {
      const start = granule * storageGranuleBytes;
      if (!previous.isFilled(granule)) {
        awaited.push(granule);
        continue;
      }
      const { storage } = previous;
      // What is zero on both sides stays untouched, so that it takes no memory of the host's.
      if (isZero(new Int32Array(storage.buffer, storage.byteOffset + start, storageGranuleBytes / 4))) continue;
      instance.storage.set(storage.subarray(start, start + storageGranuleBytes), start);
    }
    if (source !== undefined && awaited.length > 0) instance.fillStorage({ granules: () => awaited, read: (granule, target) => source.read(granule, target) });
  }
}

/** @throws UserError BAD_CONFIG. */
export function checkTimeStampFrequency(accelerator: Accelerator, wantedHz: number): void {
  const frequencyHz = accelerator.timeStampFrequencyHz(wantedHz);
  if (frequencyHz === wantedHz) return;
  throw new UserError("BAD_CONFIG", `This machine's time stamp counter runs at ${wantedHz / 1e6} MHz, and this host's cannot: its processor has no TSC scaling, and counts at ${frequencyHz / 1e6} MHz. Use --accel soft, which can.`);
}

function isZero(words: Int32Array): boolean {
  for (let index = 0; index < words.length; index++) if (words[index] !== 0) return false;
  return true;
}
