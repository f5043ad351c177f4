/**
 * Split virtqueue, device side (Virtual I/O Device 1.2, 2.7). Every field here belongs to the guest: each is checked
 * before use, and a queue that breaks the rules stops and tells its transport why.
 */
import { boolean, checked, integer, object, optional, type Shape, uint16, words32 } from "../../base/shape.ts";
import { guestPhysical } from "../../base/address.ts";
import type { GuestMemory } from "../contract.ts";

/** Largest queue the device side accepts, and the longest chain, counting indirect descriptors. */
export const maximumQueueSize = 1024;
export const noVector = 0xffff;

const nextMask = 1;
const writeMask = 2;
const indirectMask = 4;
const descriptorBytes = 16;
const usedElementBytes = 8;
const availableNoInterruptMask = 1;

export interface VirtqueueFeatures {
  readonly hasIndirect: boolean;
  readonly hasEventIndex: boolean;
}

export interface VirtqueueState {
  size: number;
  isEnabled: boolean;
  isBroken: boolean;
  vector: number;
  /** Guest-physical addresses as low and high halves: descriptor table, available ring, used ring. */
  readonly addresses: Uint32Array;
  /** Free-running indices, modulo 65,536. */
  nextAvailable: number;
  nextUsed: number;
  /** `nextUsed` when the driver was last interrupted; undefined before the first time. */
  interruptedAt: number | undefined;
}

export function virtqueueStateShape(maximumSize: number): Shape<VirtqueueState> {
  return object({
    size: checked(integer(1, maximumSize), (size) => (size & (size - 1)) === 0, "a power of two"),
    isEnabled: boolean, isBroken: boolean, vector: uint16, addresses: words32(6), nextAvailable: uint16, nextUsed: uint16,
    interruptedAt: optional(uint16),
  });
}

function virtqueueResetState(size: number): VirtqueueState {
  return {
    size,
    isEnabled: false,
    isBroken: false,
    vector: noVector,
    addresses: new Uint32Array(6),
    nextAvailable: 0,
    nextUsed: 0,
    interruptedAt: undefined,
  };
}

/** Part of a buffer in guest memory. Not yet checked to be RAM: reading or writing it tells. */
export interface Segment {
  readonly address: number;
  readonly sizeBytes: number;
}

/** One buffer that the driver made available: what the device may read, then what it may write. */
export class DescriptorChain {
  readonly head: number;
  readonly readable: readonly Segment[];
  readonly writable: readonly Segment[];
  readonly readableBytes: number;
  readonly writableBytes: number;
  readonly #memory: GuestMemory;

  constructor(memory: GuestMemory, head: number, readable: readonly Segment[], writable: readonly Segment[]) {
    this.#memory = memory;
    this.head = head;
    this.readable = readable;
    this.writable = writable;
    this.readableBytes = sumBytes(readable);
    this.writableBytes = sumBytes(writable);
  }

  /** Copies from the readable part; false when that part is shorter or is not RAM. */
  read(offset: number, target: Uint8Array): boolean {
    return walk(this.readable, offset, target.length, (address, done, sizeBytes) =>
      this.#memory.read(guestPhysical(address), target.subarray(done, done + sizeBytes)),
    );
  }

  /** Copies to the writable part; false when that part is shorter or is not RAM. */
  write(offset: number, source: Uint8Array): boolean {
    return walk(this.writable, offset, source.length, (address, done, sizeBytes) =>
      this.#memory.write(guestPhysical(address), source.subarray(done, done + sizeBytes)),
    );
  }
}

export class Virtqueue {
  readonly state: VirtqueueState;
  readonly maximumSize: number;
  readonly #memory: GuestMemory;
  readonly #onBroken: (reason: string) => void;
  readonly #scratch: Uint8Array = new Uint8Array(descriptorBytes);
  readonly #view: DataView = new DataView(this.#scratch.buffer);
  readonly #halfword: Uint8Array = this.#scratch.subarray(0, 2);
  readonly #element: Uint8Array = this.#scratch.subarray(0, usedElementBytes);
  #features: VirtqueueFeatures = { hasIndirect: false, hasEventIndex: false };

  constructor(memory: GuestMemory, maximumSize: number, onBroken: (reason: string) => void) {
    this.#memory = memory;
    this.maximumSize = maximumSize;
    this.#onBroken = onBroken;
    this.state = virtqueueResetState(maximumSize);
  }

  get isUsable(): boolean {
    return this.state.isEnabled && !this.state.isBroken;
  }

  /** Whether addresses are aligned as 2.7 demands; a queue may only be enabled if so. */
  get isWellPlaced(): boolean {
    const { addresses } = this.state;
    return addresses[0] % 16 === 0 && addresses[2] % 2 === 0 && addresses[4] % 4 === 0;
  }

  /** Sets what was negotiated; to be called before the device runs. */
  negotiate(features: VirtqueueFeatures): void {
    this.#features = features;
  }

  reset(): void {
    Object.assign(this.state, { ...virtqueueResetState(this.maximumSize), addresses: this.state.addresses });
    this.state.addresses.fill(0);
  }

  restore(saved: VirtqueueState): void {
    Object.assign(this.state, { ...saved, addresses: this.state.addresses });
    this.state.addresses.set(saved.addresses);
  }

  /** The next available buffer, or undefined when there is none (or the queue is broken or off). */
  pop(): DescriptorChain | undefined {
    if (!this.isUsable) return undefined;
    const { state } = this;
    let available = this.#availableIndex();
    if (available === state.nextAvailable && this.#features.hasEventIndex) {
      // Ask for a notification of the next buffer, then look again: the driver may have added it in between.
      this.#writeHalfword(this.#used + 4 + usedElementBytes * state.size, state.nextAvailable);
      available = this.#availableIndex();
    }
    if (available === undefined || available === state.nextAvailable) return undefined;
    if (((available - state.nextAvailable) & 0xffff) > state.size) return this.#fail("available index runs ahead");
    const slot = state.nextAvailable & (state.size - 1);
    const head = this.#readHalfword(this.#driver + 4 + 2 * slot);
    if (head === undefined) return undefined;
    const chain = this.#chain(head);
    if (chain !== undefined) state.nextAvailable = (state.nextAvailable + 1) & 0xffff;
    return chain;
  }

  /** Returns a buffer, `writtenBytes` of whose writable part were filled from its start. */
  push(chain: DescriptorChain, writtenBytes: number): void {
    if (!this.isUsable) return;
    const { state } = this;
    const slot = state.nextUsed & (state.size - 1);
    this.#view.setUint32(0, chain.head, true);
    this.#view.setUint32(4, writtenBytes, true);
    if (!this.#memory.write(guestPhysical(this.#used + 4 + usedElementBytes * slot), this.#element)) {
      this.#fail("used ring outside of RAM");
      return;
    }
    state.nextUsed = (state.nextUsed + 1) & 0xffff;
    this.#writeHalfword(this.#used + 2, state.nextUsed);
  }

  /** Whether the driver wants an interrupt for what was pushed since the last time this said yes (2.7.7). */
  takeInterrupt(): boolean {
    if (!this.isUsable) return false;
    const { state } = this;
    const previous = state.interruptedAt;
    if (!this.#features.hasEventIndex) {
      const flags = this.#readHalfword(this.#driver);
      return flags !== undefined && (flags & availableNoInterruptMask) === 0;
    }
    const event = this.#readHalfword(this.#driver + 4 + 2 * state.size);
    if (event === undefined) return false;
    state.interruptedAt = state.nextUsed;
    if (previous === undefined) return true;
    return ((state.nextUsed - event - 1) & 0xffff) < ((state.nextUsed - previous) & 0xffff);
  }

  /** Stops the queue: the guest broke a rule that `reason` names. */
  fail(reason: string): void {
    if (this.state.isBroken) return;
    this.state.isBroken = true;
    this.#onBroken(reason);
  }

  #fail(reason: string): undefined {
    this.fail(reason);
  }

  get #descriptors(): number {
    return this.state.addresses[1] * 2 ** 32 + this.state.addresses[0];
  }

  get #driver(): number {
    return this.state.addresses[3] * 2 ** 32 + this.state.addresses[2];
  }

  get #used(): number {
    return this.state.addresses[5] * 2 ** 32 + this.state.addresses[4];
  }

  #availableIndex(): number | undefined {
    return this.#readHalfword(this.#driver + 2);
  }

  #readHalfword(address: number): number | undefined {
    if (!this.#memory.read(guestPhysical(address), this.#halfword)) return this.#fail("ring outside of RAM");
    return this.#view.getUint16(0, true);
  }

  #writeHalfword(address: number, value: number): void {
    this.#view.setUint16(0, value, true);
    if (!this.#memory.write(guestPhysical(address), this.#halfword)) this.#fail("ring outside of RAM");
  }

  #chain(head: number): DescriptorChain | undefined {
    const readable: Segment[] = [];
    const writable: Segment[] = [];
    let table = this.#descriptors;
    let tableSize = this.state.size;
    let index = head;
    let isIndirect = false;
    let totalBytes = 0;
    // Each turn takes one descriptor; a loop in the chain shows as more turns than the table has entries.
    for (let turns = 0; turns < tableSize; ) {
      if (index >= tableSize) return this.#fail("descriptor index out of range");
      if (!this.#memory.read(guestPhysical(table + descriptorBytes * index), this.#scratch)) {
        return this.#fail("descriptor table outside of RAM");
      }
      const address = this.#view.getUint32(4, true) * 2 ** 32 + this.#view.getUint32(0, true);
      const sizeBytes = this.#view.getUint32(8, true);
      const flags = this.#view.getUint16(12, true);
      const next = this.#view.getUint16(14, true);
      if ((flags & indirectMask) !== 0) {
        const entries = sizeBytes / descriptorBytes;
        if (!this.#features.hasIndirect) return this.#fail("indirect descriptor not negotiated");
        if (isIndirect) return this.#fail("indirect descriptor inside an indirect table");
        if ((flags & nextMask) !== 0) return this.#fail("indirect descriptor with a successor");
        if (!Number.isInteger(entries) || entries < 1 || entries > maximumQueueSize) {
          return this.#fail("indirect table of a wrong size");
        }
        isIndirect = true;
        table = address;
        tableSize = entries;
        index = 0;
        turns = 0;
        continue;
      }
      turns++;
      totalBytes += sizeBytes;
      if (totalBytes > this.#memory.sizeBytes) return this.#fail("buffer larger than RAM");
      if ((flags & writeMask) !== 0) writable.push({ address, sizeBytes });
      else if (writable.length > 0) return this.#fail("readable descriptor after a writable one");
      else readable.push({ address, sizeBytes });
      if ((flags & nextMask) === 0) return new DescriptorChain(this.#memory, head, readable, writable);
      index = next;
    }
    return this.#fail("descriptor chain does not end");
  }
}

function sumBytes(segments: readonly Segment[]): number {
  return segments.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}

/** Calls `visit` for the pieces of `segments` that hold `sizeBytes` from `offset`; false when they end or a visit fails. */
function walk(
  segments: readonly Segment[],
  offset: number,
  sizeBytes: number,
  visit: (address: number, done: number, sizeBytes: number) => boolean,
): boolean {
  let skip = offset;
  let done = 0;
  for (const segment of segments) {
    if (done === sizeBytes) return true;
    if (skip >= segment.sizeBytes) {
      skip -= segment.sizeBytes;
      continue;
    }
    const piece = Math.min(segment.sizeBytes - skip, sizeBytes - done);
    if (!visit(segment.address + skip, done, piece)) return false;
    done += piece;
    skip = 0;
  }
  return done === sizeBytes;
}
