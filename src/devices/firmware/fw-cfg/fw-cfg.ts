/** QEMU's firmware configuration device (QEMU docs/specs/fw_cfg): selector, data port, file directory and DMA. */
import { bytes, count, object, record, type Shape, uint16, uint32 } from "../../../base/shape.ts";
import { invariant } from "../../../base/errors.ts";
import { guestPhysical } from "../../../base/address.ts";
import type { Device, GuestMemory } from "../../contract.ts";
import { decodeDmaRequest, DmaControl, dmaRequestBytes } from "./dma.ts";

/** Selectors of the items that are not files. */
export const FwCfgItem = {
  signature: 0x0000,
  interfaceVersion: 0x0001,
  uuid: 0x0002,
  ramSize: 0x0003,
  noGraphic: 0x0004,
  processorCount: 0x0005,
  machineId: 0x0006,
  kernelAddress: 0x0007,
  kernelSize: 0x0008,
  kernelCommandLine: 0x0009,
  initrdAddress: 0x000a,
  initrdSize: 0x000b,
  bootDevice: 0x000c,
  numaData: 0x000d,
  bootMenu: 0x000e,
  maximumProcessors: 0x000f,
  kernelEntry: 0x0010,
  kernelData: 0x0011,
  initrdData: 0x0012,
  commandLineAddress: 0x0013,
  commandLineSize: 0x0014,
  commandLineData: 0x0015,
  setupAddress: 0x0016,
  setupSize: 0x0017,
  setupData: 0x0018,
  fileDirectory: 0x0019,
  e820Table: 0x8003,
} as const;

const firstFileSelector = 0x20;
/** Selectors below 0x4000; this bit once asked for write access and is ignored. */
const writeChannelMask = 0x4000;
const nameBytes = 56;
const directoryEntryBytes = 64;
/** Read as bytes at ascending ports. */
const dmaSignature = "QEMU CFG";
const dmaAddressBytes = 8;
const copyChunkBytes = 0x1_0000;
const maximumWrittenBytes = 0x1_0000;
const maximumWrittenFiles = 64;
const zeros = new Uint8Array(copyChunkBytes);

export interface FwCfgState {
  selector: number;
  /** Position of the next byte in the selected item. */
  offset: number;
  dmaAddressHigh: number;
  /** What the guest has written into writable files, by name. */
  written: Record<string, Uint8Array>;
}

export const fwCfgStateShape: Shape<FwCfgState> = object({
  selector: uint16, offset: count, dmaAddressHigh: uint32,
  written: record(bytes({ maximum: maximumWrittenBytes }), maximumWrittenFiles),
});

export function resetFwCfgState(): FwCfgState {
  return { selector: 0, offset: 0, dmaAddressHigh: 0, written: {} };
}

export interface FwCfgFileOptions {
  /** The guest may write it (in place; it keeps its size), by DMA only. */
  readonly isWritable?: boolean;
  /** After the guest has written. */
  onWrite?(bytes: Uint8Array): void;
}

interface Item {
  readonly bytes: Uint8Array;
  /** Set when the guest may write. */
  readonly written: ((bytes: Uint8Array) => void) | undefined;
}

interface File {
  readonly name: string;
  readonly selector: number;
  readonly sizeBytes: number;
}

export class FwCfg implements Device<FwCfgState> {
  readonly state: FwCfgState;
  readonly #memory: GuestMemory;
  readonly #items = new Map<number, Item>();
  readonly #files: File[] = [];
  #nextFileSelector = firstFileSelector;

  constructor(memory: GuestMemory, state: FwCfgState = resetFwCfgState()) {
    this.#memory = memory;
    this.state = state;
    this.addItem(FwCfgItem.signature, asciiBytes("QEMU"));
    // Bit 0: selector and data port; bit 1: DMA.
    this.addItem(FwCfgItem.interfaceVersion, Uint8Array.of(3, 0, 0, 0));
    this.#rebuildDirectory();
  }

  reset(): void {
    const { written } = this.state;
    Object.assign(this.state, resetFwCfgState(), { written });
  }

  /** Adds or replaces an item that is not a file. */
  addItem(selector: number, bytes: Uint8Array): void {
    this.#items.set(selector & ~writeChannelMask, { bytes, written: undefined });
  }

  /**
   * Adds or replaces a file of the directory. Selectors are given in the order of adding, so a restored
   * machine must add the same files in the same order; what the guest wrote then comes from the state.
   */
  addFile(name: string, bytes: Uint8Array, options: FwCfgFileOptions = {}): void {
    invariant(name.length > 0 && name.length < nameBytes, `fw_cfg file name of 1 to ${nameBytes - 1} characters: ${name}`);
    const index = this.#files.findIndex((file) => file.name === name);
    const selector = index < 0 ? this.#nextFileSelector++ : this.#files[index].selector;
    const file = { name, selector, sizeBytes: bytes.length };
    if (index < 0) this.#files.push(file);
    else this.#files[index] = file;
    if (options.isWritable === true) {
      const saved = this.state.written[name];
      const content = saved?.length === bytes.length ? saved : bytes.slice();
      const written = (current: Uint8Array): void => {
        this.state.written[name] = current;
        options.onWrite?.(current);
      };
      this.#items.set(selector, { bytes: content, written });
    } else {
      this.#items.set(selector, { bytes, written: undefined });
    }
    this.#rebuildDirectory();
  }

  /** A 16-bit write to the selector port. */
  select(selector: number): void {
    this.state.selector = selector & 0xffff & ~writeChannelMask;
    this.state.offset = 0;
  }

  /** The next byte of the selected item; 0 beyond its end. */
  readData(): number {
    const { state } = this;
    const item = this.#items.get(state.selector);
    if (item === undefined || state.offset >= item.bytes.length) return 0;
    return item.bytes[state.offset++];
  }

  /** The DMA address register: eight big-endian bytes that read as a signature. */
  readDmaRegister(offset: number): number {
    return offset < dmaSignature.length ? dmaSignature.charCodeAt(offset) : 0;
  }

  /** A 32-bit write, already in the guest's meaning: the high half is kept, the low half starts the transfer. */
  writeDmaAddress(half: "high" | "low", value: number): void {
    if (half === "high") {
      this.state.dmaAddressHigh = value;
      return;
    }
    const address = this.state.dmaAddressHigh * 2 ** 32 + value;
    this.state.dmaAddressHigh = 0;
    this.#transfer(address);
  }

  #transfer(address: number): void {
    const request = new Uint8Array(dmaRequestBytes);
    // A request that is not in RAM cannot even be answered.
    if (!this.#isAddress(address) || !this.#memory.read(guestPhysical(address), request)) return;
    const { control, selector, lengthBytes, target } = decodeDmaRequest(request);
    if (control & DmaControl.selectMask) this.select(selector);
    let isDone = true;
    if (control & DmaControl.readMask) isDone = this.#copyToGuest(target, lengthBytes);
    else if (control & DmaControl.writeMask) isDone = this.#copyFromGuest(target, lengthBytes);
    else if (control & DmaControl.skipMask) this.#skip(lengthBytes);
    const answer = Uint8Array.of(0, 0, 0, isDone ? 0 : DmaControl.errorMask);
    this.#memory.write(guestPhysical(address), answer);
  }

  #isAddress(address: number): boolean {
    return Number.isSafeInteger(address) && address < 2 ** 52;
  }

  #skip(lengthBytes: number): void {
    const size = this.#items.get(this.state.selector)?.bytes.length ?? 0;
    this.state.offset = Math.min(this.state.offset + lengthBytes, size);
  }

  /** Beyond the item's end the guest receives zeros. */
  #copyToGuest(target: number, lengthBytes: number): boolean {
    if (!this.#isAddress(target)) return false;
    const { state } = this;
    const bytes = this.#items.get(state.selector)?.bytes ?? zeros.subarray(0, 0);
    const available = Math.max(0, Math.min(lengthBytes, bytes.length - state.offset));
    if (available > 0 && !this.#memory.write(guestPhysical(target), bytes.subarray(state.offset, state.offset + available))) {
      return false;
    }
    state.offset += available;
    for (let done = available; done < lengthBytes; done += copyChunkBytes) {
      const chunk = zeros.subarray(0, Math.min(copyChunkBytes, lengthBytes - done));
      if (!this.#memory.write(guestPhysical(target + done), chunk)) return false;
    }
    return true;
  }

  #copyFromGuest(source: number, lengthBytes: number): boolean {
    const { state } = this;
    const item = this.#items.get(state.selector);
    if (item?.written === undefined || !this.#isAddress(source)) return false;
    if (lengthBytes > item.bytes.length - state.offset) return false;
    if (!this.#memory.read(guestPhysical(source), item.bytes.subarray(state.offset, state.offset + lengthBytes))) return false;
    state.offset += lengthBytes;
    item.written(item.bytes);
    return true;
  }

  #rebuildDirectory(): void {
    const directory = new Uint8Array(4 + this.#files.length * directoryEntryBytes);
    const view = new DataView(directory.buffer);
    view.setUint32(0, this.#files.length);
    for (const [index, { name, selector, sizeBytes }] of this.#files.entries()) {
      const entry = 4 + index * directoryEntryBytes;
      view.setUint32(entry, sizeBytes);
      view.setUint16(entry + 4, selector);
      directory.set(asciiBytes(name), entry + 8);
    }
    this.addItem(FwCfgItem.fileDirectory, directory);
  }
}

export { dmaAddressBytes };

function asciiBytes(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0) & 0xff);
}
