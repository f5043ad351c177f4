/** Linear to guest-physical translation: SDM volume 3, "Paging", all modes, with accessed and dirty bits and exact error codes. */
import { Cr0Mask, Cr4Mask, EferMask } from "../isa/system/mode.ts";
import type { PhysicalMemory } from "./physical-memory.ts";
import { TablePlaces } from "./table-places.ts";

/** Bits of a #PF error code. */
export const PageFault = { present: 1, write: 2, user: 4, reserved: 8, fetch: 16, protectionKey: 32 } as const;

export type PagingMode = "none" | "legacy" | "pae" | "level4" | "level5";

/** The mode that control registers mean. */
export function pagingModeOf(cr0: number, cr4: number, efer: number): PagingMode {
  if (!(cr0 & Cr0Mask.PG)) return "none";
  if (!(cr4 & Cr4Mask.PAE)) return "legacy";
  if (!(efer & EferMask.LMA)) return "pae";
  return cr4 & Cr4Mask.LA57 ? "level5" : "level4";
}

/** What of the control registers a walk depends on. */
export interface PagingState {
  mode: PagingMode;
  /** Physical address of the top table; with PAE of the four page-directory-pointer entries. */
  root: number;
  /** The four PAE page-directory-pointer entries, low and high words, loaded with CR3. */
  readonly pdpte: Uint32Array<ArrayBuffer>;
  writeProtect: boolean;
  noExecute: boolean;
  pageSizeExtension: boolean;
  globalPages: boolean;
  smep: boolean;
  smap: boolean;
  /** RFLAGS.AC, which lifts SMAP for explicit accesses. */
  alignmentCheck: boolean;
  protectionKeys: boolean;
  pkru: number;
  physicalAddressBits: number;
  gigabytePages: boolean;
}

export function newPagingState(): PagingState {
  return {
    mode: "none", root: 0, pdpte: new Uint32Array(8), writeProtect: false, noExecute: false, pageSizeExtension: false,
    globalPages: false, smep: false, smap: false, alignmentCheck: false, protectionKeys: false, pkru: 0,
    physicalAddressBits: 40, gigabytePages: true,
  };
}

export type AccessKind = "read" | "write" | "fetch";

/** Translates guest-physical to what memory understands: the second stage of nested paging. */
export interface SecondStage {
  /**
   * "table": an entry of the guest's paging structures, read or written by the walker; "final": what the linear address
   * `PageWalker.low`, `high` translates to. -1 after a violation, which the stage keeps for the exit to come; else the
   * other fields say what of later accesses holds for the page.
   */
  translate(address: number, kind: AccessKind, target: "table" | "final", isUser: boolean): number;
  /** The page may be written without another look. */
  readonly mayWrite: boolean;
  readonly mayFetch: boolean;
  /** The translation comes from a page larger than 4 KiB. */
  readonly isLargePage: boolean;
  /** The four entries of PAE paging are read by each walk, and not when CR3 is written. */
  readonly readsPointersOnDemand: boolean;
  /** Exits for violations tell of the instruction. */
  readonly tellsOfInstruction: boolean;
}

const EntryBit = { present: 1, writable: 2, user: 4, accessed: 32, dirty: 64, large: 128, global: 256 } as const;
const twoPow32 = 0x1_0000_0000;

/** Bits 51:MAXPHYADDR of every entry are reserved, bit 63 too while no-execute is off: those of its upper half. */
export function reservedUpperBits({ physicalAddressBits, noExecute }: PagingState): number {
  return ((0x000f_ffff & ~((1 << (physicalAddressBits - 32)) - 1)) | (noExecute ? 0 : 0x8000_0000)) >>> 0;
}

/** One walker per processor. Results stay in its fields until the next walk. */
export class PageWalker {
  readonly #memory: PhysicalMemory;
  /** Set while nested paging is on; every table and final address goes through it. */
  secondStage: SecondStage | undefined = undefined;
  /** What the stage has answered for tables of the present context. */
  tablePlaces: TablePlaces = new TablePlaces();

  /** Result of the last successful walk. */
  physical = 0;
  /** The page may be written without another walk: writable for this access's privilege and already dirty. */
  mayWrite = false;
  isGlobal = false;
  /** The page belongs to user mode; its paging structures let it be written, and not be executed. */
  isUserPage = false;
  isWritablePage = false;
  isExecuteDisabledPage = false;
  mayFetch = false;
  /** The translation comes from a page larger than 4 KiB. */
  isLargePage = false;
  /** Error code of the last failed walk. */
  errorCode = 0;
  /** It failed in the second stage: an exit takes the place of the page fault. */
  isSecondStageFault = false;
  /** The linear address of the last walk. */
  low = 0;
  high = 0;
  /** What the second stage is asked for belongs to that address: not while page-directory pointers are loaded. */
  hasLinearAddress = true;

  #pointerLow = 0;
  #pointerHigh = 0;

  constructor(memory: PhysicalMemory) {
    this.#memory = memory;
  }

  /**
   * Translates `high:low`. `isUser`: with user privilege; `isImplicit`: a supervisor access the processor makes by
   * itself, which RFLAGS.AC does not exempt from SMAP. False: `errorCode` says why, and nothing but accessed bits
   * of upper levels changed.
   */
  translate(low: number, high: number, kind: AccessKind, paging: PagingState, isUser: boolean, isImplicit: boolean): boolean {
    this.isSecondStageFault = false;
    this.hasLinearAddress = true;
    this.low = low >>> 0;
    this.high = high >>> 0;
    switch (paging.mode) {
      case "none":
        this.physical = low >>> 0;
        this.mayWrite = true;
        this.isGlobal = false;
        this.isUserPage = true;
        this.isWritablePage = true;
        this.isExecuteDisabledPage = false;
        this.mayFetch = true;
        this.isLargePage = false;
        return this.secondStage === undefined || this.#translateFinal(this.physical, kind, isUser);
      case "legacy": return this.#walkLegacy(low >>> 0, kind, paging, isUser, isImplicit);
      default: return this.#walkWide(low >>> 0, high >>> 0, kind, paging, isUser, isImplicit);
    }
  }

  /** Where memory has an entry of a paging structure; -1 after a violation in the second stage. */
  #table(address: number): number {
    if (this.secondStage === undefined) return address;
    const known = this.tablePlaces.find(address);
    if (known >= 0) return known;
    const place = this.secondStage.translate(address, "read", "table", false);
    this.isSecondStageFault = place < 0;
    if (place >= 0) this.tablePlaces.note(address, place);
    return place;
  }

  /** Writes an entry's accessed and dirty bits; false after a violation in the second stage. */
  #update(address: number, place: number, entry: number): boolean {
    if (this.secondStage !== undefined && this.secondStage.translate(address, "write", "table", false) < 0) {
      this.isSecondStageFault = true;
      return false;
    }
    this.#memory.write32(place, entry);
    return true;
  }

  /** Takes the translated address through the second stage. */
  #translateFinal(address: number, kind: AccessKind, isUser: boolean): boolean {
    const stage = this.secondStage;
    if (stage === undefined) {
      this.physical = address;
      return true;
    }
    this.physical = stage.translate(address, kind, "final", isUser);
    this.isSecondStageFault = this.physical < 0;
    this.mayWrite &&= stage.mayWrite;
    this.mayFetch &&= stage.mayFetch;
    this.isLargePage ||= stage.isLargePage;
    return !this.isSecondStageFault;
  }

  #fault(flags: number, kind: AccessKind, paging: PagingState, isUser: boolean): false {
    let code = flags;
    if (kind === "write") code |= PageFault.write;
    if (isUser) code |= PageFault.user;
    if (kind === "fetch" && (paging.smep || (paging.noExecute && paging.mode !== "legacy"))) code |= PageFault.fetch;
    this.errorCode = code;
    return false;
  }

  /** Rights of the page once all levels are combined; sets the result fields. `key` is the protection key, or -1. */
  #check(
    writable: boolean, user: boolean, executeDisabled: boolean, key: number,
    kind: AccessKind, paging: PagingState, isUser: boolean, isImplicit: boolean,
  ): boolean {
    const wp = paging.writeProtect;
    const keyRights = key < 0 ? 0 : (paging.pkru >>> (key * 2)) & 3;
    const keyForbidsWrite = (keyRights & 2) !== 0 && (isUser || wp);
    const violatesKey = kind !== "fetch" && ((keyRights & 1) !== 0 || (kind === "write" && keyForbidsWrite));
    // The PK bit of the error code tells of the key whatever else forbids the access.
    const flags = PageFault.present | (violatesKey ? PageFault.protectionKey : 0);
    if (isUser && !user) return this.#fault(flags, kind, paging, isUser);
    if (kind === "fetch") {
      if (executeDisabled || (!isUser && user && paging.smep)) return this.#fault(flags, kind, paging, isUser);
    } else {
      const isPrevented = !isUser && user && paging.smap && (isImplicit || !paging.alignmentCheck);
      const isReadOnly = kind === "write" && !writable && (isUser || wp);
      if (isPrevented || isReadOnly || violatesKey) return this.#fault(flags, kind, paging, isUser);
    }
    this.isUserPage = user;
    this.isWritablePage = writable;
    this.isExecuteDisabledPage = executeDisabled;
    this.mayFetch = !executeDisabled && (isUser || !user || !paging.smep);
    this.mayWrite = (writable || (!isUser && !wp)) && !keyForbidsWrite;
    return true;
  }

  #walkLegacy(linear: number, kind: AccessKind, paging: PagingState, isUser: boolean, isImplicit: boolean): boolean {
    const memory = this.#memory;
    const directoryAddress = paging.root + (linear >>> 22) * 4;
    const directoryAt = this.#table(directoryAddress);
    if (directoryAt < 0) return false;
    const directory = memory.read32(directoryAt);
    if ((directory & EntryBit.present) === 0) return this.#fault(0, kind, paging, isUser);
    let entry = directory, entryAddress = directoryAddress, entryAt = directoryAt, base: number;
    let writable = (directory & EntryBit.writable) !== 0, user = (directory & EntryBit.user) !== 0;
    if (directory & EntryBit.large && paging.pageSizeExtension) {
      // PSE-36: bits 20:13 are address bits 39:32; bit 21 is reserved.
      const extra = (directory >>> 13) & 0xff;
      const extraBits = Math.min(paging.physicalAddressBits, 40) - 32;
      if (directory & (1 << 21) || extra >= 2 ** Math.max(extraBits, 0)) {
        return this.#fault(PageFault.present | PageFault.reserved, kind, paging, isUser);
      }
      this.isLargePage = true;
      base = extra * twoPow32 + ((directory & 0xffc0_0000) >>> 0) + (linear & 0x3f_ffff);
    } else {
      this.isLargePage = false;
      const isUpdated = (directory & EntryBit.accessed) !== 0 || this.#update(directoryAddress, directoryAt, directory | EntryBit.accessed);
      if (!isUpdated) return false;
      entryAddress = ((directory & 0xffff_f000) >>> 0) + ((linear >>> 12) & 0x3ff) * 4;
      entryAt = this.#table(entryAddress);
      if (entryAt < 0) return false;
      entry = memory.read32(entryAt);
      if ((entry & EntryBit.present) === 0) return this.#fault(0, kind, paging, isUser);
      writable &&= (entry & EntryBit.writable) !== 0;
      user &&= (entry & EntryBit.user) !== 0;
      base = ((entry & 0xffff_f000) >>> 0) + (linear & 0xfff);
    }
    if (!this.#check(writable, user, false, -1, kind, paging, isUser, isImplicit)) return false;
    return this.#finish(entry, entryAddress, entryAt, base, kind, paging, isUser);
  }

  /** Sets accessed and dirty bits of the final entry and publishes the result. */
  #finish(
    entry: number, entryAddress: number, entryAt: number, base: number, kind: AccessKind, paging: PagingState, isUser: boolean,
  ): boolean {
    const wanted = EntryBit.accessed | (kind === "write" ? EntryBit.dirty : 0);
    if ((entry & wanted) !== wanted && !this.#update(entryAddress, entryAt, entry | wanted)) return false;
    this.isGlobal = paging.globalPages && (entry & EntryBit.global) !== 0;
    this.mayWrite &&= ((entry | wanted) & EntryBit.dirty) !== 0;
    return this.#translateFinal(base, kind, isUser);
  }

  /** Reads a page-directory pointer of PAE paging; false after a fault. */
  #readPointer(index: number, kind: AccessKind, paging: PagingState, isUser: boolean): boolean {
    if (this.secondStage?.readsPointersOnDemand !== true) {
      this.#pointerLow = paging.pdpte[index * 2];
      this.#pointerHigh = paging.pdpte[index * 2 + 1];
      return (this.#pointerLow & EntryBit.present) !== 0 || this.#fault(0, kind, paging, isUser);
    }
    const at = this.#table(paging.root + index * 8);
    if (at < 0) return false;
    this.#memory.readEntry(at);
    [this.#pointerLow, this.#pointerHigh] = this.#memory.entry;
    if ((this.#pointerLow & EntryBit.present) === 0) return this.#fault(0, kind, paging, isUser);
    // What is not checked when CR3 is written is checked here.
    const reservedLow = 0x1e6, reservedHigh = ~(2 ** (paging.physicalAddressBits - 32) - 1);
    const isReserved = (this.#pointerLow & reservedLow) !== 0 || (this.#pointerHigh & reservedHigh) !== 0;
    return !isReserved || this.#fault(PageFault.present | PageFault.reserved, kind, paging, isUser);
  }

  #walkWide(low: number, high: number, kind: AccessKind, paging: PagingState, isUser: boolean, isImplicit: boolean): boolean {
    const memory = this.#memory;
    const isPae = paging.mode === "pae";
    const reservedHigh = (reservedUpperBits(paging) | (isPae ? 0x7ff0_0000 : 0)) >>> 0;
    let writable = true, user = true, executeDisabled = false;
    let table: number, level: number;
    if (isPae) {
      if (!this.#readPointer(low >>> 30, kind, paging, isUser)) return false;
      table = (this.#pointerHigh & 0xf_ffff) * twoPow32 + ((this.#pointerLow & 0xffff_f000) >>> 0);
      level = 2;
    } else {
      table = paging.root;
      level = paging.mode === "level5" ? 5 : 4;
    }
    for (; ; level--) {
      const index = level === 5 ? (high >>> 16) & 0x1ff
        : level === 4 ? (high >>> 7) & 0x1ff
          : level === 3 ? ((high & 0x7f) << 2) | (low >>> 30)
            : level === 2 ? (low >>> 21) & 0x1ff : (low >>> 12) & 0x1ff;
      const entryAddress = table + index * 8;
      const entryAt = this.#table(entryAddress);
      if (entryAt < 0) return false;
      memory.readEntry(entryAt);
      const entryLow = memory.entry[0], entryHigh = memory.entry[1];
      if ((entryLow & EntryBit.present) === 0) return this.#fault(0, kind, paging, isUser);
      const isLarge = (entryLow & EntryBit.large) !== 0 && level > 1;
      const isLargeReserved = isLarge && (level > 3 || (level === 3 && !paging.gigabytePages) ||
        (entryLow & (level === 3 ? 0x3fff_e000 : 0x1f_e000)) !== 0);
      if ((entryHigh & reservedHigh) !== 0 || isLargeReserved) {
        return this.#fault(PageFault.present | PageFault.reserved, kind, paging, isUser);
      }
      writable &&= (entryLow & EntryBit.writable) !== 0;
      user &&= (entryLow & EntryBit.user) !== 0;
      executeDisabled ||= (entryHigh & 0x8000_0000) !== 0 && paging.noExecute;
      const frame = (entryHigh & 0xf_ffff) * twoPow32 + ((entryLow & 0xffff_f000) >>> 0);
      if (level > 1 && !isLarge) {
        if ((entryLow & EntryBit.accessed) === 0 && !this.#update(entryAddress, entryAt, entryLow | EntryBit.accessed)) return false;
        table = frame;
        continue;
      }
      const pageMask = level === 3 ? 0x3fff_ffff : level === 2 ? 0x1f_ffff : 0xfff;
      const key = paging.protectionKeys && !isPae && user ? (entryHigh >>> 27) & 0xf : -1;
      if (!this.#check(writable, user, executeDisabled, key, kind, paging, isUser, isImplicit)) return false;
      this.isLargePage = isLarge;
      const base = (entryHigh & 0xf_ffff) * twoPow32 + ((entryLow & ~pageMask & 0xffff_f000) >>> 0) + (low & pageMask);
      return this.#finish(entryLow, entryAddress, entryAt, base, kind, paging, isUser);
    }
  }
}
