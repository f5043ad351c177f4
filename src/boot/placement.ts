/** Places a guest's parts in RAM: within the regions that the memory map calls RAM, and never one over another. */
import { invariant, UserError } from "../base/errors.ts";
import { alignDown, alignUp, hex, pageSizeBytes } from "./bytes.ts";
import type { MemoryWrite } from "./contract.ts";
import { lowRamEndMaximum, tooLittleMemory, type MemoryMap } from "./memory-map.ts";

interface Range {
  readonly name: string;
  readonly start: number;
  readonly end: number;
}

export class Placement {
  readonly memory: MemoryMap;
  readonly #writes: MemoryWrite[] = [];
  readonly #taken: Range[] = [];

  constructor(memory: MemoryMap) {
    this.memory = memory;
  }

  get writes(): readonly MemoryWrite[] {
    return this.#writes;
  }

  /**
   * Puts `bytes` at `address`, with zeros up to `sizeBytes`.
   * @throws UserError BAD_MEMORY_SIZE when RAM ends too early, BAD_IMAGE when this is no place for RAM or is taken.
   */
  place(name: string, address: number, bytes: Uint8Array, sizeBytes: number = bytes.length): void {
    this.reserve(name, address, Math.max(sizeBytes, bytes.length));
    this.#writes.push({ name, address, bytes, sizeBytes: Math.max(sizeBytes, bytes.length) });
  }

  /** Keeps a range free of everything else without writing to it. Errors as for {@link place}. */
  reserve(name: string, address: number, sizeBytes: number): void {
    const end = address + sizeBytes;
    if (sizeBytes === 0) return;
    const isRam = this.memory.regions.some((region) => region.kind === "ram" && address >= region.address && end <= region.address + region.sizeBytes);
    if (!isRam) throw this.#notRam(name, address, end);
    const other = this.#taken.find((range) => address < range.end && range.start < end);
    if (other !== undefined) {
      throw new UserError("BAD_IMAGE", `${name} at ${hex(address)}–${hex(end)} would overlap ${other.name} at ${hex(other.start)}–${hex(other.end)}`);
    }
    this.#taken.push({ name, start: address, end });
  }

  /**
   * Puts `bytes` as high as possible in RAM below `limit`, so that the guest has the rest in one piece.
   * @throws UserError BAD_MEMORY_SIZE when there is no room.
   */
  placeHigh(name: string, bytes: Uint8Array, limit: number, alignment: number = pageSizeBytes): number {
    const address = this.#findHigh(bytes.length, limit, alignment);
    if (address === undefined) throw this.#noRoom(name, bytes.length);
    this.place(name, address, bytes);
    return address;
  }

  /** Puts `bytes` as low as possible at or above `start`. Errors as for {@link placeHigh}. */
  placeLow(name: string, bytes: Uint8Array, start: number, alignment: number = pageSizeBytes): number {
    const address = this.reserveLow(name, bytes.length, start, alignment);
    this.fill(name, address, bytes);
    return address;
  }

  /** Keeps room whose content is not known yet; {@link fill} brings it. Errors as for {@link placeHigh}. */
  reserveLow(name: string, sizeBytes: number, start: number, alignment: number = pageSizeBytes): number {
    const address = this.#findLow(sizeBytes, start, alignment);
    if (address === undefined) throw this.#noRoom(name, sizeBytes);
    this.reserve(name, address, sizeBytes);
    return address;
  }

  /** Writes into a range that has been reserved. */
  fill(name: string, address: number, bytes: Uint8Array): void {
    invariant(
      bytes.length === 0 || this.#taken.some(({ start, end }) => address >= start && address + bytes.length <= end),
      `room has been kept for ${name}`,
    );
    this.#writes.push({ name, address, bytes, sizeBytes: bytes.length });
  }

  #findHigh(sizeBytes: number, limit: number, alignment: number): number | undefined {
    for (const region of this.memory.regions.filter(({ kind }) => kind === "ram").toReversed()) {
      let address = alignDown(Math.min(limit, region.address + region.sizeBytes) - sizeBytes, alignment);
      while (address >= region.address) {
        const candidate = address;
        const blocker = this.#taken.find((range) => candidate < range.end && range.start < candidate + sizeBytes);
        if (blocker === undefined) return address;
        address = alignDown(blocker.start - sizeBytes, alignment);
      }
    }
    return undefined;
  }

  #findLow(sizeBytes: number, start: number, alignment: number): number | undefined {
    for (const region of this.memory.regions.filter(({ kind }) => kind === "ram")) {
      let address = alignUp(Math.max(start, region.address), alignment);
      while (address + sizeBytes <= region.address + region.sizeBytes) {
        const candidate = address;
        const blocker = this.#taken.find((range) => candidate < range.end && range.start < candidate + sizeBytes);
        if (blocker === undefined) return address;
        address = alignUp(blocker.end, alignment);
      }
    }
    return undefined;
  }

  #notRam(name: string, address: number, end: number): UserError {
    // Free address space below the hole is where more RAM would appear.
    const isFree = this.memory.regions.every((region) => region.kind === "ram" || end <= region.address || address >= region.address + region.sizeBytes);
    if (isFree && end <= lowRamEndMaximum) return tooLittleMemory(name, end, this.memory);
    return new UserError("BAD_IMAGE", `${name} wants to be loaded at ${hex(address)}–${hex(end)}, where this machine has no memory`);
  }

  #noRoom(name: string, sizeBytes: number): UserError {
    const taken = this.#taken.reduce((highest, range) => Math.max(highest, range.end), 0);
    return tooLittleMemory(name, alignUp(taken, pageSizeBytes) + alignUp(sizeBytes, pageSizeBytes), this.memory);
  }
}
