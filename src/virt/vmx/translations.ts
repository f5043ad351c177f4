/** Which translations a guest goes on with: contexts of the TLB by VPID and EPTP (SDM volume 3, "Caching Translation Information"). */
import { hostSpace, type Mmu } from "../../engine/mmu.ts";
import type { SecondStage } from "../../engine/page-walk.ts";

const maximumSpaces = 256;
const pageBytes = 4096;
const vpidCount = 0x1_0000;

interface GuestSpace {
  readonly tag: number;
  readonly vpid: number;
  /** Address of the top extended page table, -1 without EPT. What else EPTP holds does not tell translations apart. */
  readonly table: number;
}

export class Translations {
  readonly #memory: Mmu;
  readonly #spaces = new Map<number, GuestSpace>();
  #nextTag = hostSpace + 1;

  constructor(memory: Mmu) {
    this.#memory = memory;
  }

  /** Goes on as a guest. VPID 0: nothing is kept across transitions, the host's own translations neither. */
  enterGuest(vpid: number, table: number, stage: SecondStage | undefined, hostRoot: number, guestRoot: number): void {
    this.#memory.noteRoot(hostRoot);
    if (vpid === 0) this.#memory.flush({ keepGlobal: false });
    const { tag } = this.#spaceOf(vpid, table);
    if (vpid === 0) this.#memory.forgetSpace(tag);
    this.#memory.enterSpace(tag, stage, guestRoot);
  }

  /** The guest goes on with other extended page tables. */
  switchTable(vpid: number, table: number, stage: SecondStage, root: number): void {
    this.#memory.noteRoot(root);
    this.#memory.switchSpace(this.#spaceOf(vpid, table).tag, stage, root);
  }

  enterHost(vpid: number, guestRoot: number, hostRoot: number): void {
    this.#memory.noteRoot(guestRoot);
    this.#memory.enterSpace(hostSpace, undefined, hostRoot);
    if (vpid === 0) this.#memory.flush({ keepGlobal: false });
  }

  #spaceOf(vpid: number, table: number): GuestSpace {
    const key = (table < 0 ? 0 : table / pageBytes + 1) * vpidCount + vpid;
    let space = this.#spaces.get(key);
    if (space === undefined) {
      if (this.#spaces.size === maximumSpaces) this.forgetGuests();
      space = { tag: this.#nextTag++, vpid, table };
      this.#spaces.set(key, space);
    }
    return space;
  }

  #forget(isMeant: (space: GuestSpace) => boolean): void {
    for (const [key, space] of this.#spaces) {
      if (!isMeant(space)) continue;
      this.#memory.forgetSpace(space.tag);
      this.#spaces.delete(key);
    }
  }

  forgetVpid(vpid: number): void {
    this.#forget((space) => space.vpid === vpid);
  }

  forgetEpt(eptPointer: bigint): void {
    const table = Number(eptPointer) - (Number(eptPointer) % pageBytes);
    this.#forget((space) => space.table === table);
  }

  forgetPage(vpid: number, linear: bigint): void {
    for (const space of this.#spaces.values()) if (space.vpid === vpid) this.#memory.forgetPageOf(space.tag, linear);
  }

  forgetGuests(): void {
    this.#forget(() => true);
  }

  forgetAll(): void {
    this.forgetGuests();
    this.#memory.flush({ keepGlobal: false });
  }
}
