/**
 * Where the pages are that code was fetched from last: what the processor's instruction TLB knows (SDM volume 3, "Caching
 * Translation Information"). Blocks that the jump cache does not know are looked for without a walk.
 */
import { EntrySet } from "./entry-set.ts";

const entryCount = 512;

function entryOf(page: number): number {
  return (page ^ (page >>> 9)) & (entryCount - 1);
}

export class CodePages {
  /** By entry: number of the page in its 4 GiB, which 4 GiB that is, and the processor's key for code (`state.codeKey`). */
  readonly #pages = new Uint32Array(entryCount);
  readonly #highs = new Uint32Array(entryCount);
  readonly #keys = new Uint32Array(entryCount);
  /** Guest-physical address of the page, or -1. */
  readonly #physical = new Float64Array(entryCount).fill(-1);
  readonly #isGlobal = new Uint8Array(entryCount);
  /** Entries of pages that are not global, and perhaps some that are by now: few, and forgotten at every write of CR3. */
  readonly #local = new EntrySet(entryCount);

  /** Number of the entry for the page of `high:low`; -1 when it is not known. */
  find(low: number, high: number, key: number): number {
    const page = low >>> 12, entry = entryOf(page);
    return this.#pages[entry] === page && this.#highs[entry] === high && this.#keys[entry] === key && this.#physical[entry] >= 0 ? entry : -1;
  }

  physicalOf(entry: number, low: number): number {
    return this.#physical[entry] + (low & 0xfff);
  }

  isGlobal(entry: number): boolean {
    return this.#isGlobal[entry] !== 0;
  }

  /** `physical` is of the byte at `high:low`. */
  note(low: number, high: number, key: number, physical: number, isGlobal: boolean): void {
    const page = low >>> 12, entry = entryOf(page);
    this.#pages[entry] = page;
    this.#highs[entry] = high;
    this.#keys[entry] = key;
    this.#physical[entry] = physical - (low & 0xfff);
    this.#isGlobal[entry] = isGlobal ? 1 : 0;
    if (!isGlobal) this.#local.add(entry);
  }

  /** Whichever 4 GiB it is in: to forget more than was asked for is no mistake. */
  forgetPage(page: number): void {
    const entry = entryOf(page);
    if (this.#pages[entry] === page) this.#physical[entry] = -1;
  }

  /** Pages that are not global, of the keys that are meant. */
  forgetLocal(isMeant: (key: number) => boolean): void {
    this.#local.retain((entry) => {
      if (this.#isGlobal[entry] !== 0) return false;
      if (!isMeant(this.#keys[entry])) return true;
      this.#physical[entry] = -1;
      return false;
    });
  }

  clear(): void {
    this.#physical.fill(-1);
    this.#local.clear();
  }
}
