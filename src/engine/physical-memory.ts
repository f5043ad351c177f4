/** Guest-physical address space as the soft processor sees it: RAM and ROM pages in linear memory, all else on the bus. */
import { invariant } from "../base/errors.ts";

export const pageSizeBytes = 4096;
/** Memory that is filled later comes by pieces of this size. */
export const fillGranuleBytes = 0x1_0000;

/** Memory-mapped devices. Sizes are 1, 2 or 4. */
export interface PhysicalBus {
  read(address: number, sizeBytes: 1 | 2 | 4): number;
  write(address: number, sizeBytes: 1 | 2 | 4, value: number): void;
}

/** A range of guest-physical addresses that is RAM, what to add for its place in linear memory, and where the bytes per page are. */
export interface PlainRam {
  readonly first: number;
  readonly sizeBytes: number;
  readonly addend: number;
  readonly codePages: number;
}

/** Whole numbers of 32 bits, which nearly all addresses are, are shifted in place. */
function pageOf(address: number): number {
  return address < 2 ** 32 ? address >>> 12 : Math.floor(address / pageSizeBytes);
}

/**
 * Maps page numbers to offsets in linear memory. A page that is readable but not writable is ROM: writes to it go to
 * the bus. Page tables, code and DMA all go through here.
 */
export class PhysicalMemory {
  readonly bytes: Uint8Array;
  readonly words: Uint32Array;
  readonly bus: PhysicalBus;
  /** What `readEntry` has read: the low half, then the high one. */
  readonly entry: Uint32Array = new Uint32Array(2);
  /** Per page: one more than what to add to addresses for offsets in linear memory, modulo 2^32; 0 for none. */
  #readMap: Uint32Array;
  #writeMap: Uint32Array;
  /** Pages from here on have never been mapped. */
  #mappedEnd = 0;
  /** Per page of linear memory: 1 when decoded code depends on it. */
  readonly #codePages: Uint8Array;
  /** Where these bytes are in linear memory, when they are there. */
  readonly #codePagesOffset: number | undefined;
  /** The largest piece that is mapped as a whole, RAM alone; undefined until somebody asks. */
  #plainRam: PlainRam | undefined;
  /** Per granule of linear memory: 1 while its contents are still to come; undefined when none are. */
  #awaited: Uint8Array | undefined;
  #awaitedCount = 0;
  #fillGranule: (offset: number) => void = () => {};
  /** Called before bytes of a code page change: offset in linear memory and length. */
  onCodeWrite: (offset: number, sizeBytes: number) => void = () => {};
  /** Per page of linear memory: 1 when it was written; undefined while nobody asks. */
  #written: Uint8Array | undefined;
  /** Called when mappings change; translations made before are void. */
  onRemap: () => void = () => {};

  /** `codePagesOffset`: place in linear memory of a byte per page, for generated code to look at; without it there is none for it. */
  constructor(buffer: ArrayBufferLike, bus: PhysicalBus, codePagesOffset?: number) {
    this.bytes = new Uint8Array(buffer);
    this.words = new Uint32Array(buffer);
    this.bus = bus;
    this.#readMap = new Uint32Array(1 << 20);
    this.#writeMap = new Uint32Array(1 << 20);
    const pages = buffer.byteLength / pageSizeBytes;
    this.#codePages = codePagesOffset === undefined ? new Uint8Array(pages) : new Uint8Array(buffer, codePagesOffset, pages);
    this.#codePagesOffset = codePagesOffset;
  }

  /** Puts RAM, pages of linear memory from `offset` on, at a guest-physical range. */
  map(address: number, sizeBytes: number, offset: number): void {
    this.mapSeparately(address, sizeBytes, offset, offset);
  }

  /** The same with `readOffset` to answer reads and `writeOffset` to take writes; undefined gives that kind of access to the bus. */
  mapSeparately(address: number, sizeBytes: number, readOffset: number | undefined, writeOffset: number | undefined): void {
    invariant(address % pageSizeBytes === 0 && sizeBytes % pageSizeBytes === 0, "memory is mapped by pages");
    const first = address / pageSizeBytes, count = sizeBytes / pageSizeBytes;
    if (first + count > this.#readMap.length) this.#grow(first + count);
    this.#mappedEnd = Math.max(this.#mappedEnd, first + count);
    const entry = (offset: number | undefined): number => offset === undefined ? 0 : offset - address + 1;
    this.#readMap.fill(entry(readOffset), first, first + count);
    this.#writeMap.fill(entry(writeOffset), first, first + count);
    this.#plainRam = undefined;
    this.onRemap();
  }

  /**
   * What generated code may take for RAM without asking: one piece of guest-physical memory, as large as can be. Undefined
   * while its contents are still to come or writes are noted.
   */
  get plainRam(): PlainRam | undefined {
    if (this.#awaited !== undefined || this.#written !== undefined || this.#codePagesOffset === undefined) return undefined;
    this.#plainRam ??= this.#findRam(this.#codePagesOffset);
    return this.#plainRam;
  }

  #findRam(codePages: number): PlainRam {
    const read = this.#readMap, write = this.#writeMap;
    let best = { first: 0, sizeBytes: 0, addend: 0, codePages };
    for (let first = 0; first < this.#mappedEnd;) {
      const entry = read[first];
      let page = first + 1;
      if (entry === 0 || write[first] !== entry) {
        first = page;
        continue;
      }
      while (page < this.#mappedEnd && read[page] === entry && write[page] === entry) page++;
      const sizeBytes = (page - first) * pageSizeBytes;
      if (sizeBytes > best.sizeBytes) best = { ...best, first: first * pageSizeBytes, sizeBytes, addend: (entry - 1) | 0 };
      first = page;
    }
    return best;
  }

  #grow(pages: number): void {
    const enlarge = (map: Uint32Array): Uint32Array => {
      const larger = new Uint32Array(pages);
      larger.set(map);
      return larger;
    };
    this.#readMap = enlarge(this.#readMap);
    this.#writeMap = enlarge(this.#writeMap);
  }

  /** Offset in linear memory of the byte at `address` for reading, or 0. */
  readable(address: number): number {
    const page = pageOf(address);
    return page < this.#readMap.length ? this.#place(address, this.#readMap[page]) : 0;
  }

  writable(address: number): number {
    const page = pageOf(address);
    return page < this.#writeMap.length ? this.#place(address, this.#writeMap[page]) : 0;
  }

  #place(address: number, entry: number): number {
    if (entry === 0) return 0;
    const at = (address + entry - 1) >>> 0;
    if (this.#awaited !== undefined) this.#await(at);
    return at;
  }

  /**
   * Contents come later: `fill` puts those of the granule at an offset of linear memory there, before anybody looks at it.
   * `granules` has such offsets.
   */
  fillLater(granules: Iterable<number>, fill: (offset: number) => void): void {
    const awaited = new Uint8Array(Math.ceil(this.bytes.length / fillGranuleBytes));
    this.#awaitedCount = 0;
    for (const offset of granules) {
      awaited[offset / fillGranuleBytes] = 1;
      this.#awaitedCount++;
    }
    this.#fillGranule = fill;
    this.#awaited = this.#awaitedCount === 0 ? undefined : awaited;
    this.onRemap();
  }

  /** Whether the contents of the granule that holds `offset` of linear memory are still to come. */
  isAwaited(offset: number): boolean {
    return this.#awaited !== undefined && this.#awaited[Math.floor(offset / fillGranuleBytes)] !== 0;
  }

  #await(offset: number): void {
    if (!this.isAwaited(offset) || this.#awaited === undefined) return;
    const granule = Math.floor(offset / fillGranuleBytes);
    this.#fillGranule(granule * fillGranuleBytes);
    this.#awaited[granule] = 0;
    if (--this.#awaitedCount === 0) this.#awaited = undefined;
  }

  isCode(offset: number): boolean {
    return this.#codePages[Math.floor(offset / pageSizeBytes)] !== 0;
  }

  markCode(offset: number, isCode: boolean): void {
    this.#codePages[Math.floor(offset / pageSizeBytes)] = isCode ? 1 : 0;
  }

  /** Begins to note written pages, or stops that. Translations made before must be forgotten. */
  noteWrites(isOn: boolean): void {
    this.#written = isOn ? new Uint8Array(this.#codePages.length) : undefined;
  }

  get notesWrites(): boolean {
    return this.#written !== undefined;
  }

  /** One byte per page of linear memory, 1 for those written since the last call. Translations made before must be forgotten. */
  takeWritten(): Uint8Array {
    const taken = this.#written ?? new Uint8Array(this.#codePages.length);
    this.noteWrites(this.notesWrites);
    return taken;
  }

  /**
   * Whether generated code may be allowed to write to the page of linear memory that holds `offset` without coming here
   * again: not before its first write, while writes are noted.
   */
  admitsWrites(offset: number, isWrite: boolean): boolean {
    if (this.#written === undefined) return true;
    const page = Math.floor(offset / pageSizeBytes);
    if (isWrite) this.#written[page] = 1;
    return this.#written[page] !== 0;
  }

  /** Announces a write of RAM at `offset` of linear memory that is about to happen. */
  announceWrite(offset: number, sizeBytes: number): void {
    const last = Math.floor((offset + sizeBytes - 1) / pageSizeBytes);
    for (let page = Math.floor(offset / pageSizeBytes); page <= last; page++) {
      if (this.#written !== undefined) this.#written[page] = 1;
      if (this.#codePages[page] === 0) continue;
      const start = Math.max(offset, page * pageSizeBytes);
      const end = Math.min(offset + sizeBytes, (page + 1) * pageSizeBytes);
      this.onCodeWrite(start, end - start);
    }
  }

  /** One byte, wherever it is. */
  read8(address: number): number {
    const at = this.readable(address);
    return at !== 0 ? this.bytes[at] : this.bus.read(address, 1) & 0xff;
  }

  write8(address: number, value: number): void {
    const at = this.writable(address);
    if (at === 0) return this.bus.write(address, 1, value & 0xff);
    this.announceWrite(at, 1);
    this.bytes[at] = value;
  }

  /** An aligned 32-bit word, unsigned. */
  read32(address: number): number {
    const at = this.readable(address);
    return at !== 0 ? this.words[at >>> 2] : this.bus.read(address, 4) >>> 0;
  }

  /** An aligned 64-bit entry of a paging structure: its halves are in `entry` until the next one is read. */
  readEntry(address: number): void {
    const at = this.readable(address);
    this.entry[0] = at !== 0 ? this.words[at >>> 2] : this.bus.read(address, 4);
    this.entry[1] = at !== 0 ? this.words[(at >>> 2) + 1] : this.bus.read(address + 4, 4);
  }

  write32(address: number, value: number): void {
    const at = this.writable(address);
    if (at === 0) return this.bus.write(address, 4, value >>> 0);
    this.announceWrite(at, 4);
    this.words[at >>> 2] = value;
  }

  /** Copies out; bytes that are not RAM read as the bus answers them. */
  readRange(address: number, target: Uint8Array): void {
    for (let done = 0; done < target.length;) {
      const at = this.readable(address + done);
      const length = Math.min(target.length - done, pageSizeBytes - ((address + done) % pageSizeBytes));
      if (at === 0) for (let i = 0; i < length; i++) target[done + i] = this.bus.read(address + done + i, 1);
      else target.set(this.bytes.subarray(at, at + length), done);
      done += length;
    }
  }

  /** Whether the whole range is RAM. */
  isRam(address: number, sizeBytes: number): boolean {
    if (!Number.isSafeInteger(address) || address < 0) return false;
    const last = Math.floor((address + Math.max(sizeBytes, 1) - 1) / pageSizeBytes);
    for (let page = Math.floor(address / pageSizeBytes); page <= last; page++) {
      if (page >= this.#writeMap.length || this.#writeMap[page] === 0 || this.#readMap[page] === 0) return false;
    }
    return true;
  }

  /** Copies in; false, and nothing written, when the range is not wholly RAM. */
  writeRange(address: number, source: Uint8Array): boolean {
    if (!this.isRam(address, source.length)) return false;
    for (let done = 0; done < source.length;) {
      const at = this.writable(address + done);
      const length = Math.min(source.length - done, pageSizeBytes - ((address + done) % pageSizeBytes));
      this.announceWrite(at, length);
      this.bytes.set(source.subarray(done, done + length), at);
      done += length;
    }
    return true;
  }
}
