/** Builds page tables of every paging mode in guest memory, for tests (SDM volume 3, "Paging"). */
import type { PhysicalMemory } from "../physical-memory.ts";
import type { PagingMode } from "../page-walk.ts";

/** Bits of page-table entries. */
export const EntryMask = {
  present: 1n, writable: 2n, user: 4n, accessed: 0x20n, dirty: 0x40n, large: 0x80n, global: 0x100n,
  noExecute: 0x8000_0000_0000_0000n,
} as const;

const tableBytes = 4096;
const addressMask = 0x000f_ffff_ffff_f000n;

export class PageTables {
  readonly mode: Exclude<PagingMode, "none">;
  /** Guest-physical address of the top table: what CR3 holds. */
  readonly root: number;
  readonly #memory: PhysicalMemory;
  #next: number;

  /** Tables are taken from guest-physical `start` on. */
  constructor(memory: PhysicalMemory, mode: Exclude<PagingMode, "none">, start: number) {
    this.#memory = memory;
    this.mode = mode;
    this.root = start;
    this.#next = start;
    this.#newTable();
    // The four PAE directory pointers allow no rights, and are loaded with CR3: all of them must exist before.
    if (mode === "pae") for (let index = 0; index < 4; index++) this.write(this.root + index * 8, BigInt(this.#newTable()) | 1n);
  }

  get #entryBytes(): 4 | 8 {
    return this.mode === "legacy" ? 4 : 8;
  }

  read(address: number): bigint {
    const low = BigInt(this.#memory.read32(address));
    return this.#entryBytes === 4 ? low : low | (BigInt(this.#memory.read32(address + 4)) << 32n);
  }

  write(address: number, entry: bigint): void {
    this.#memory.write32(address, Number(entry & 0xffff_ffffn));
    if (this.#entryBytes === 8) this.#memory.write32(address + 4, Number(entry >> 32n));
  }

  #newTable(): number {
    const table = this.#next;
    this.#next += tableBytes;
    this.#memory.writeRange(table, new Uint8Array(tableBytes));
    return table;
  }

  /** Shifts of the index of each level, top first. */
  get shifts(): readonly number[] {
    switch (this.mode) {
      case "legacy": return [22, 12];
      case "pae": return [30, 21, 12];
      case "level4": return [39, 30, 21, 12];
      case "level5": return [48, 39, 30, 21, 12];
    }
  }

  /** Address of the entry for `linear` in the table at `depth` (0 is the top); tables above it must exist. */
  entryAddress(linear: bigint, depth: number): number {
    let table = this.root;
    for (const [level, shift] of this.shifts.entries()) {
      const bits = this.mode === "legacy" ? 10n : this.mode === "pae" && level === 0 ? 2n : 9n;
      const at = table + Number((linear >> BigInt(shift)) & ((1n << bits) - 1n)) * this.#entryBytes;
      if (level === depth) return at;
      table = Number(this.read(at) & addressMask);
    }
    throw new RangeError(`${this.mode} has no level ${depth}`);
  }

  /** Maps one page; `depth` above the last level makes a large one. Entries above it allow everything. */
  map(linear: bigint, physical: number, flags: bigint, depth: number = this.shifts.length - 1): void {
    for (let level = 0; level < depth; level++) {
      const at = this.entryAddress(linear, level);
      if (this.read(at) === 0n) this.write(at, BigInt(this.#newTable()) | EntryMask.present | EntryMask.writable | EntryMask.user);
    }
    this.write(this.entryAddress(linear, depth), BigInt(physical) | flags | (depth < this.shifts.length - 1 ? EntryMask.large : 0n));
  }

  /** The entry that maps `linear`, by default of the last level. */
  entry(linear: bigint, depth: number = this.shifts.length - 1): bigint {
    return this.read(this.entryAddress(linear, depth));
  }

  setEntry(linear: bigint, entry: bigint, depth: number = this.shifts.length - 1): void {
    this.write(this.entryAddress(linear, depth), entry);
  }
}
