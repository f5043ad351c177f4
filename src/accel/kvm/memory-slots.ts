/**
 * Guest-physical memory as KVM's slots. KVM knows RAM and ROM only: what reads here and writes there becomes ROM whose
 * writes exit, and the accelerator completes them itself.
 */
import { invariant } from "../../base/errors.ts";
import type { MemoryMapping } from "../contract.ts";
import { MemoryRegionFlag, Request, Size } from "./abi.ts";
import type { HostCalls } from "./host-calls.ts";

export const pageSizeBytes = 4096;
const pagesPerBitmapWord = 64;

/** A slot that KVM has. */
interface Slot {
  readonly number: number;
  readonly address: number;
  readonly sizeBytes: number;
  readonly storageOffset: number;
  readonly isReadOnly: boolean;
}

function keyOf({ address, sizeBytes, storageOffset, isReadOnly }: Omit<Slot, "number">): string {
  return `${address} ${sizeBytes} ${storageOffset} ${isReadOnly}`;
}

function shifted(offset: number | undefined, bytes: number): number | undefined {
  return offset === undefined ? undefined : offset + bytes;
}

export interface MemorySlotsOptions {
  readonly calls: HostCalls;
  readonly vmDescriptor: number;
  /** Where the storage begins in this process. */
  readonly storageAddress: bigint;
  readonly storageBytes: number;
}

export class MemorySlots {
  readonly #options: MemorySlotsOptions;
  /** Ascending, without overlaps. Neighbours are not joined: a slot that stays as it is costs the guest nothing. */
  #mappings: MemoryMapping[] = [];
  #slots: Slot[] = [];
  readonly #freeNumbers: number[] = [];
  #nextNumber = 0;
  /** One bit per page of storage, while writes are noted. */
  #written: Uint8Array | undefined;

  constructor(options: MemorySlotsOptions) {
    this.#options = options;
  }

  map(mapping: MemoryMapping): void {
    const { address, sizeBytes } = mapping;
    invariant(address % pageSizeBytes === 0 && sizeBytes % pageSizeBytes === 0, "memory is mapped by pages");
    const end = address + sizeBytes;
    const kept = this.#mappings.flatMap((old): MemoryMapping[] => {
      const oldEnd = old.address + old.sizeBytes;
      if (oldEnd <= address || old.address >= end) return [old];
      const before = { ...old, sizeBytes: address - old.address };
      const cut = end - old.address;
      const after = {
        address: end, sizeBytes: oldEnd - end, readOffset: shifted(old.readOffset, cut), writeOffset: shifted(old.writeOffset, cut),
      };
      return [...(old.address < address ? [before] : []), ...(oldEnd > end ? [after] : [])];
    });
    this.#mappings = [...kept, mapping].toSorted((a, b) => a.address - b.address);
    this.#updateSlots();
  }

  /** The mapping that `address` is in. */
  find(address: number): MemoryMapping | undefined {
    const mappings = this.#mappings;
    let low = 0, high = mappings.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (mappings[middle].address <= address) low = middle + 1;
      else high = middle;
    }
    const mapping = low === 0 ? undefined : mappings[low - 1];
    return mapping !== undefined && address < mapping.address + mapping.sizeBytes ? mapping : undefined;
  }

  /** Calls `visit` with the pieces of storage behind a range that is wholly RAM; false, without a call, when it is not. */
  visitRam(address: number, sizeBytes: number, visit: (storageOffset: number, start: number, lengthBytes: number) => void): boolean {
    if (!Number.isSafeInteger(address) || address < 0) return false;
    const pieces: (readonly [offset: number, start: number, length: number])[] = [];
    for (let done = 0; done < Math.max(sizeBytes, 1);) {
      const mapping = this.find(address + done);
      if (mapping?.readOffset === undefined || mapping.writeOffset === undefined) return false;
      const within = address + done - mapping.address;
      const length = Math.min(sizeBytes - done, mapping.sizeBytes - within);
      pieces.push([mapping.readOffset + within, done, length]);
      done += Math.max(length, 1);
    }
    for (const [offset, start, length] of pieces) visit(offset, start, length);
    return true;
  }

  // --- written pages -----------------------------------------------------------------------------------------------

  get notesWrites(): boolean {
    return this.#written !== undefined;
  }

  noteWrites(isOn: boolean): void {
    if (isOn === this.notesWrites) return;
    this.#written = isOn ? new Uint8Array(Math.ceil(this.#options.storageBytes / pageSizeBytes / 8)) : undefined;
    for (const slot of this.#slots) this.#setRegion(slot, slot.sizeBytes);
    // A log begins empty, but KVM keeps what an earlier one has.
    if (isOn) this.takeWrittenPages();
  }

  /** Our own write to storage, of which KVM knows nothing. */
  markWritten(storageOffset: number, sizeBytes: number): void {
    const bits = this.#written;
    if (bits === undefined) return;
    const last = Math.floor((storageOffset + sizeBytes - 1) / pageSizeBytes);
    for (let page = Math.floor(storageOffset / pageSizeBytes); page <= last; page++) bits[page >> 3] |= 1 << (page & 7);
  }

  takeWrittenPages(): Uint8Array {
    invariant(this.#written !== undefined, "writes are not being noted");
    for (const slot of this.#slots) this.#collect(slot);
    const taken = this.#written;
    this.#written = new Uint8Array(taken.length);
    return taken;
  }

  #collect(slot: Slot): void {
    const bits = this.#written;
    if (bits === undefined || slot.isReadOnly) return;
    const { calls, vmDescriptor } = this.#options;
    const pages = slot.sizeBytes / pageSizeBytes;
    const log = new Uint8Array(new ArrayBuffer(Math.ceil(pages / pagesPerBitmapWord) * 8));
    const request = new DataView(new ArrayBuffer(Size.dirtyLog));
    request.setUint32(0, slot.number, true);
    request.setBigUint64(8, calls.addressOf(log), true);
    const result = calls.controlBytes(vmDescriptor, Request.getDirtyLog, new Uint8Array(request.buffer));
    invariant(result === 0, `KVM_GET_DIRTY_LOG fails with error ${-result}`);
    const firstPage = slot.storageOffset / pageSizeBytes;
    for (let byte = 0; byte < log.length; byte++) {
      if (log[byte] === 0) continue;
      for (let bit = 0; bit < 8; bit++) {
        const page = firstPage + byte * 8 + bit;
        if ((log[byte] & (1 << bit)) !== 0) bits[page >> 3] |= 1 << (page & 7);
      }
    }
  }

  // --- slots -------------------------------------------------------------------------------------------------------

  #updateSlots(): void {
    const wanted = new Map(this.#mappings.flatMap(({ address, sizeBytes, readOffset, writeOffset }) => {
      if (readOffset === undefined) return [];
      const region = { address, sizeBytes, storageOffset: readOffset, isReadOnly: writeOffset !== readOffset };
      return [[keyOf(region), region] as const];
    }));
    const kept = this.#slots.filter((slot) => wanted.has(keyOf(slot)));
    for (const slot of this.#slots.filter((candidate) => !kept.includes(candidate))) {
      this.#collect(slot);
      this.#setRegion(slot, 0);
      this.#freeNumbers.push(slot.number);
    }
    const known = new Set(kept.map(keyOf));
    this.#slots = kept;
    for (const [key, region] of wanted) {
      if (known.has(key)) continue;
      const slot = { ...region, number: this.#freeNumbers.pop() ?? this.#nextNumber++ };
      this.#setRegion(slot, slot.sizeBytes);
      this.#slots.push(slot);
    }
  }

  /** `sizeBytes` 0 deletes the slot. */
  #setRegion(slot: Slot, sizeBytes: number): void {
    const { calls, vmDescriptor, storageAddress } = this.#options;
    const region = new DataView(new ArrayBuffer(Size.memoryRegion));
    const logs = this.notesWrites && !slot.isReadOnly && sizeBytes > 0;
    region.setUint32(0, slot.number, true);
    region.setUint32(4, (slot.isReadOnly ? MemoryRegionFlag.readOnlyMask : 0) | (logs ? MemoryRegionFlag.logDirtyPagesMask : 0), true);
    region.setBigUint64(8, BigInt(slot.address), true);
    region.setBigUint64(16, BigInt(sizeBytes), true);
    // SAFETY: the storage is a WebAssembly memory that never moves, and outlives the virtual machine.
    region.setBigUint64(24, storageAddress + BigInt(slot.storageOffset), true);
    const result = calls.controlBytes(vmDescriptor, Request.setUserMemoryRegion, new Uint8Array(region.buffer));
    invariant(result === 0, `KVM_SET_USER_MEMORY_REGION of ${sizeBytes} bytes at ${slot.address.toString(16)} fails with error ${-result}`);
  }
}
