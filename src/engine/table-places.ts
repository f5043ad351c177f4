/**
 * Where the second stage has put pages with paging structures of a guest: a walk of four levels asks for four of them, each
 * of which is a walk of its own. Processors call it the caching of nested translations (AMD APM volume 2, "Nested Paging";
 * SDM volume 3, "Caching Translation Information"): software has to invalidate it as it does the TLB.
 */
import { pageSizeBytes } from "./physical-memory.ts";

const entries = 256;
const none = -1;

export class TablePlaces {
  readonly #pages = new Float64Array(entries).fill(none);
  readonly #places = new Float64Array(entries);

  /** What the second stage has answered for this address; -1 when it has to be asked. */
  find(address: number): number {
    const page = Math.floor(address / pageSizeBytes), entry = page % entries;
    return this.#pages[entry] === page ? this.#places[entry] + (address - page * pageSizeBytes) : none;
  }

  note(address: number, place: number): void {
    const page = Math.floor(address / pageSizeBytes), entry = page % entries;
    this.#pages[entry] = page;
    this.#places[entry] = place - (address - page * pageSizeBytes);
  }

  forget(): void {
    this.#pages.fill(none);
  }
}
