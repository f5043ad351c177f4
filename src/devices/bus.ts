/** Address decoding: which register block answers an access to the port space or to guest-physical memory. */
import type { AccessSize, Bus, Mapping, RegisterBlock } from "./contract.ts";

/** Size of the I/O port space. */
export const portSpaceBytes = 0x1_0000;
/** Guest-physical addresses have at most 52 bits. */
export const memorySpaceBytes: number = 2 ** 52;

export interface AccessCounts {
  readonly name: string;
  reads: number;
  writes: number;
}

interface Range {
  base: number | undefined;
  readonly sizeBytes: number;
  readonly registers: RegisterBlock;
  readonly counts: AccessCounts;
}

const allOnes: Readonly<Record<AccessSize, number>> = { 1: 0xff, 2: 0xffff, 4: 0xffff_ffff };

/**
 * Ranges may overlap; the one mapped last answers. Relocation keeps a range's rank, so that the outcome
 * depends only on where ranges are and not on the order in which a guest moved them.
 *
 * An access belongs to the range that owns its first byte; where it leaves that range it is split into
 * bytes. (A 4-byte access to 0xCF8 thus reaches PCI although the reset register lies on top of 0xCF9.)
 */
export class DispatchBus implements Bus {
  readonly #spaceBytes: number;
  readonly #ranges: Range[] = [];
  /** Port space only: index of the owner plus one, per port. */
  readonly #owners: Uint16Array | undefined;
  /** Memory: ranges have moved since segments were last worked out. */
  #isStale = false;
  /** Memory: start addresses of segments with one owner each, ascending; the first starts at 0. */
  #starts: number[] = [0];
  #segmentRanges: (Range | undefined)[] = [undefined];
  /** The last segment found. Devices are accessed in bursts. */
  #hit: { start: number; end: number; range: Range | undefined } = { start: 0, end: 0, range: undefined };

  /** `spaceBytes` is {@link portSpaceBytes} or {@link memorySpaceBytes}. */
  constructor(spaceBytes: number) {
    this.#spaceBytes = spaceBytes;
    this.#owners = spaceBytes <= portSpaceBytes ? new Uint16Array(spaceBytes) : undefined;
  }

  map(base: number | undefined, sizeBytes: number, registers: RegisterBlock, name: string): Mapping {
    const range: Range = { base: undefined, sizeBytes, registers, counts: { name, reads: 0, writes: 0 } };
    this.#ranges.push(range);
    const relocate = (target: number | undefined): void => {
      if (target === range.base) return;
      const previous = range.base;
      range.base = target;
      this.#redecode(previous, target, sizeBytes);
    };
    relocate(base);
    return { relocate };
  }

  /** The unsigned value at `address`; all ones where nothing answers. */
  read(address: number, sizeBytes: AccessSize): number {
    const range = this.#find(address);
    if (range?.base !== undefined) {
      const offset = address - range.base;
      if (offset + sizeBytes <= range.sizeBytes) {
        range.counts.reads++;
        return (range.registers.read(offset, sizeBytes) & allOnes[sizeBytes]) >>> 0;
      }
    } else if (sizeBytes === 1) {
      return 0xff;
    }
    let value = 0;
    for (let byte = 0; byte < sizeBytes; byte++) value |= this.read(address + byte, 1) << (8 * byte);
    return value >>> 0;
  }

  /** Writes the low `sizeBytes` of `value`; ignored where nothing answers. */
  write(address: number, sizeBytes: AccessSize, value: number): void {
    const range = this.#find(address);
    if (range?.base !== undefined) {
      const offset = address - range.base;
      if (offset + sizeBytes <= range.sizeBytes) {
        range.counts.writes++;
        range.registers.write(offset, sizeBytes, (value & allOnes[sizeBytes]) >>> 0);
        return;
      }
    } else if (sizeBytes === 1) {
      return;
    }
    for (let byte = 0; byte < sizeBytes; byte++) this.write(address + byte, 1, (value >>> (8 * byte)) & 0xff);
  }

  /** Whether some range answers at `address`. */
  isMapped(address: number): boolean {
    return this.#find(address) !== undefined;
  }

  /** The name of the range that answers at `address`. */
  nameAt(address: number): string | undefined {
    return this.#find(address)?.counts.name;
  }

  /** Accesses so far, one entry per range name in mapping order; ranges of the same name are summed. */
  accessCounts(): AccessCounts[] {
    const byName = new Map<string, AccessCounts>();
    for (const { counts } of this.#ranges) {
      const sum = byName.get(counts.name);
      if (sum === undefined) {
        byName.set(counts.name, { ...counts });
      } else {
        sum.reads += counts.reads;
        sum.writes += counts.writes;
      }
    }
    return [...byName.values()];
  }

  #find(address: number): Range | undefined {
    if (address < 0 || address >= this.#spaceBytes) return undefined;
    if (this.#owners !== undefined) return this.#ranges[this.#owners[address] - 1];
    if (this.#isStale) this.#rebuildSegments();
    const hit = this.#hit;
    if (address >= hit.start && address < hit.end) return hit.range;
    let low = 0;
    let high = this.#starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#starts[middle] <= address) low = middle;
      else high = middle - 1;
    }
    const range = this.#segmentRanges[low];
    this.#hit = { start: this.#starts[low], end: this.#starts[low + 1] ?? this.#spaceBytes, range };
    return range;
  }

  #redecode(previous: number | undefined, target: number | undefined, sizeBytes: number): void {
    if (this.#owners === undefined) {
      // Firmware and restored machines move many at a time.
      this.#isStale = true;
      return;
    }
    if (previous !== undefined) this.#repaint(this.#owners, previous, sizeBytes);
    if (target !== undefined) this.#repaint(this.#owners, target, sizeBytes);
  }

  #repaint(owners: Uint16Array, start: number, sizeBytes: number): void {
    const end = Math.min(start + sizeBytes, this.#spaceBytes);
    owners.fill(0, start, end);
    for (const [index, { base, sizeBytes: length }] of this.#ranges.entries()) {
      if (base === undefined) continue;
      const from = Math.max(base, start);
      const to = Math.min(base + length, end);
      if (from < to) owners.fill(index + 1, from, to);
    }
  }

  #rebuildSegments(): void {
    const edges = new Set<number>([0]);
    for (const { base, sizeBytes } of this.#ranges) {
      if (base === undefined) continue;
      if (base < this.#spaceBytes) edges.add(base);
      if (base + sizeBytes < this.#spaceBytes) edges.add(base + sizeBytes);
    }
    this.#starts = [...edges].sort((left, right) => left - right);
    this.#segmentRanges = this.#starts.map((start) =>
      this.#ranges.findLast(({ base, sizeBytes }) => base !== undefined && base <= start && start < base + sizeBytes),
    );
    this.#hit = { start: 0, end: 0, range: undefined };
    this.#isStale = false;
  }
}
