/** A set of small numbers that is filled one by one and emptied at once: entries of a cache that one event voids. */

export class EntrySet {
  /** The first `size` elements. */
  readonly members: Uint16Array;
  size = 0;
  readonly #isMember: Uint8Array;

  /** Takes numbers below `capacity`, at most 65,536. */
  constructor(capacity: number) {
    this.members = new Uint16Array(capacity);
    this.#isMember = new Uint8Array(capacity);
  }

  add(member: number): void {
    if (this.#isMember[member] !== 0) return;
    this.#isMember[member] = 1;
    this.members[this.size++] = member;
  }

  /** Keeps the members for which `isKept` answers true. */
  retain(isKept: (member: number) => boolean): void {
    let kept = 0;
    for (let index = 0; index < this.size; index++) {
      const member = this.members[index];
      if (isKept(member)) this.members[kept++] = member;
      else this.#isMember[member] = 0;
    }
    this.size = kept;
  }

  clear(): void {
    for (let index = 0; index < this.size; index++) this.#isMember[this.members[index]] = 0;
    this.size = 0;
  }
}
