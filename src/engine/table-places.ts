/**
 * Where the second stage has put pages with paging structures of a guest: a walk of four levels asks for four of them, each
 * of which is a walk of its own. Processors call it the caching of nested translations (AMD APM volume 2, "Nested Paging";
 * SDM volume 3, "Caching Translation Information"): software has to invalidate it as it does the TLB.
 */
const entries = 256;
const none = -1;
const pageShift = 12, offsetMask = 0xfff;

export class TablePlaces {
  /** Where the pages begin. */
  readonly #pages = new Float64Array(entries).fill(none);
  readonly #places = new Float64Array(entries);

  /** What the second stage has answered for this address; -1 when it has to be asked. */
  find(address: number): number {
    const offset = address & offsetMask, entry = (address >>> pageShift) & (entries - 1);
    return this.#pages[entry] === address - offset ? this.#places[entry] + offset : none;
  }

  note(address: number, place: number): void {
    const offset = address & offsetMask, entry = (address >>> pageShift) & (entries - 1);
    this.#pages[entry] = address - offset;
    this.#places[entry] = place - offset;
  }

  forget(): void {
    this.#pages.fill(none);
  }
}
