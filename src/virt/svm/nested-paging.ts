/** The second stage of translation by nested page tables (AMD APM volume 2, "Nested Paging"). */
import { PageWalker, type AccessKind, type PagingState, type SecondStage } from "../../engine/page-walk.ts";
import { virtualPageStart } from "../../engine/mmu.ts";
import type { PhysicalMemory } from "../../engine/physical-memory.ts";

const pageBytes = 0x1000;
const twoPow32 = 0x1_0000_0000;
/** Bits of EXITINFO1 beside those of a page fault's error code. */
const FaultTarget = { final: 1n << 32n, table: 1n << 33n } as const;

/**
 * Guest-physical addresses go through tables of the form that the host's own have; every access counts as a user's, and
 * one to the guest's tables as a write ("Nested Page Faults").
 */
export class NestedPaging implements SecondStage {
  readonly readsPointersOnDemand: boolean = true;
  readonly tellsOfInstruction: boolean = true;
  /** How the host pages, with the nested CR3 as the root. */
  readonly paging: PagingState = {
    mode: "none", root: 0, pdpte: new Uint32Array(8), writeProtect: true, noExecute: false, pageSizeExtension: false,
    globalPages: false, smep: false, smap: false, alignmentCheck: false, protectionKeys: false, pkru: 0,
    physicalAddressBits: 40, gigabytePages: true,
  };
  /** EXITINFO1 and EXITINFO2 of the last violation. */
  faultInfo = 0n;
  faultAddress = 0;
  /** The guest-physical page that AVIC answers for; -1: none. */
  virtualPage = -1;
  readonly #walker: PageWalker;
  readonly #onViolation: () => void;

  constructor(memory: PhysicalMemory, onViolation: () => void) {
    this.#walker = new PageWalker(memory);
    this.#onViolation = onViolation;
  }

  get mayWrite(): boolean {
    return this.#walker.mayWrite;
  }

  get mayFetch(): boolean {
    return this.#walker.mayFetch;
  }

  get isLargePage(): boolean {
    return this.#walker.isLargePage;
  }

  translate(address: number, kind: AccessKind, target: "table" | "final"): number {
    const walker = this.#walker;
    const access = target === "table" ? "write" : kind;
    if (this.#isWithinReach(address)) {
      if (walker.translate(address >>> 0, Math.floor(address / twoPow32), access, this.paging, true, false)) {
        const isVirtual = target === "final" && kind !== "fetch" && address - (address % pageBytes) === this.virtualPage;
        return isVirtual ? virtualPageStart + address % pageBytes : walker.physical;
      }
      this.faultInfo = BigInt(walker.errorCode);
    } else {
      const writeMask = access === "write" ? 2n : 0n, fetchMask = access === "fetch" ? 16n : 0n, userMask = 4n;
      this.faultInfo = userMask | writeMask | fetchMask;
    }
    this.faultInfo |= FaultTarget[target];
    this.faultAddress = address;
    this.#onViolation();
    return -1;
  }

  /** Whether the tables can translate the address at all. */
  #isWithinReach(address: number): boolean {
    switch (this.paging.mode) {
      case "level5": return true;
      case "level4": return address < 2 ** 48;
      default: return address < twoPow32;
    }
  }
}
