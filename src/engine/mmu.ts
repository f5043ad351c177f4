/** Linear memory of one processor: the software TLB that generated code probes, and the slow paths behind it. */
import { Segment, Vector } from "../isa/definition.ts";
import { FlagMask } from "../isa/flags.ts";
import type { Privilege, ProcessorMemory } from "../isa/processor.ts";
import * as state from "../isa/state.ts";
import type { StateView } from "../isa/state-view.ts";
import { exitVector } from "../isa/virtualization.ts";
import { newPagingState, PageWalker, reservedUpperBits, type AccessKind, type PagingState, type SecondStage } from "./page-walk.ts";
import { pageSizeBytes, type PhysicalMemory } from "./physical-memory.ts";
import { RecordField } from "./record.ts";
import { AccessFlag, scratchValue } from "./slow-access.ts";
import { TablePlaces } from "./table-places.ts";
import { largeRegionIndex, WalkAccess, WalkAnswer, WalkMode, WalkResult, WalkRule, type TranslationFunctions } from "./translation-code.ts";

/** Privilege part of a TLB context, bits 1:0. */
const ContextPrivilege = {
  /** Supervisor; user pages are out of reach while SMAP applies. */
  supervisor: 0,
  /** Supervisor with RFLAGS.AC, so that SMAP does not apply. */
  supervisorOverUser: 1,
  user: 2,
  /** User with alignment checking: never cached, so that every access comes here. */
  userAligned: 3,
} as const;

/** Address-space slots of the TLB; the last one is kept free so that no tag is all ones. */
const contextSlots = 1023;
/** A tag that matches no access. */
const noTag = 0xffff_ffff_ffff_ffffn;
const twoPow32 = 0x1_0000_0000;

/** The translations of one context, the host's or that of one guest, kept apart from all others. */
export interface Space {
  readonly tag: number;
  /** -1: none of its translations is left, or the context itself is forgotten. */
  slot: number;
  readonly slotOfPcid: Map<number, number>;
  /** Large pages are in the TLB as many small ones: regions of 2 MiB (n) and of 1 GiB (-1 - n) that hold such. */
  readonly largeRegions: Set<number>;
  readonly tablePlaces: TablePlaces;
  /** How paging was configured when its slot was given: see `configure`. */
  readonly configuration: Int32Array;
  isConfigured: boolean;
  /** CR3, and what the second stage begins with. */
  root: number;
}

/** An access that the second stage has refused, its exit recorded. */
interface Refusal {
  isValid: boolean;
  low: number;
  high: number;
  isWrite: boolean;
  /** The instruction's. */
  record: number;
  /** How many walks there had been. */
  walks: number;
}

/** Contexts that are kept: a hypervisor chooses their tags, of which there are 2^32. */
const maximumSpaces = 512;

/** Tag of the context outside of any guest. */
export const hostSpace = 0;

function newSpace(tag: number): Space {
  return {
    tag, slot: -1, slotOfPcid: new Map(), largeRegions: new Set(), tablePlaces: new TablePlaces(), configuration: new Int32Array(5), isConfigured: false,
    root: 0,
  };
}

/** How generated code may walk. */
function walkModeOf({ mode, protectionKeys, pageSizeExtension, root }: PagingState): number {
  if (mode === "level4") return protectionKeys || root >= twoPow32 ? WalkMode.none : WalkMode.fourLevels;
  return mode === "legacy" && pageSizeExtension ? WalkMode.twoLevels : WalkMode.none;
}

/** Watches for data breakpoints; undefined while none is armed. */
export interface DataWatch {
  /** Whether any armed data breakpoint lies in the page of this linear address. */
  pageIsWatched(linear: bigint): boolean;
  /** Told of each access to a watched page, after its checks. */
  accessed(linear: bigint, sizeBytes: number, isWrite: boolean): void;
}

/** Where the second stage puts the page that an extension answers for in the place of memory: beyond every physical address. */
export const virtualPageStart: number = 2 ** 52;

/** Answers accesses to that page; one that it does not answer has become an exit, recorded. */
export interface VirtualPage {
  read(offset: number, sizeBytes: number): number | undefined;
  write(offset: number, sizeBytes: number, value: number): boolean;
}

/** Who keeps what depends on translations: the jump cache. */
export interface TranslationListener {
  /** Another privilege or address-space slot applies. */
  contextChanged(): void;
  /** Translations are void: all of them, those of one slot's pages that are not global (with a word on whether somebody may come back to others), or those of one page by its address's lower half. */
  allForgotten(): void;
  localForgotten(slot: number, hasOthers: boolean): void;
  pageForgotten(low: number): void;
}

export class Mmu implements ProcessorMemory {
  readonly #view: StateView;
  readonly #memory: PhysicalMemory;
  readonly walker: PageWalker;
  /** Of the host, or of guests: see `enterPaging`. */
  paging: PagingState;
  watch: DataWatch | undefined = undefined;
  listener: TranslationListener | undefined = undefined;
  virtualPage: VirtualPage | undefined = undefined;
  /** Counts of what generated code could not do itself. */
  readonly counters = { walks: 0, slowLoads: 0, slowStores: 0, flushes: 0 };

  #slot = 0;
  #nextSlot = 1;
  #space: Space = newSpace(hostSpace);
  /** The last access that the second stage refused to `reachable`. */
  readonly #refusal: Refusal = { isValid: false, low: 0, high: 0, isWrite: false, record: 0, walks: 0 };
  readonly #spaces = new Map<number, Space>([[hostSpace, this.#space]]);
  /** Walks as generated code, once there is some. */
  walkByCode: TranslationFunctions["walk"] | undefined = undefined;
  #is64 = false;
  /** IA-32e mode: the processor's own accesses have 64-bit addresses in compatibility mode, too. */
  #isLong = false;

  constructor(view: StateView, memory: PhysicalMemory, paging: PagingState = newPagingState()) {
    this.#view = view;
    this.#memory = memory;
    this.walker = new PageWalker(memory);
    this.paging = paging;
    this.clear();
  }

  get physical(): PhysicalMemory {
    return this.#memory;
  }

  /** Generated code changes the level, too. */
  get #isAtUserLevel(): boolean {
    return this.#view.get32(state.cpl) === 3;
  }

  /** Walks for an access of the present level, or one that the processor makes by itself. */
  #walk(low: number, high: number, kind: AccessKind, isUser: boolean, isImplicit: boolean): boolean {
    this.counters.walks++;
    if (this.#walkByCode(low, high, kind, isUser, isImplicit)) return true;
    this.paging.alignmentCheck = (this.#view.get32(state.systemFlags) & FlagMask.AC) !== 0;
    return this.walker.translate(low, high, kind, this.paging, isUser, isImplicit);
  }

  /** False: it faults, or could not say. */
  #walkByCode(low: number, high: number, kind: AccessKind, isUser: boolean, isImplicit: boolean): boolean {
    const { walkByCode, walker } = this;
    if (walkByCode === undefined || walker.secondStage !== undefined) return false;
    const access = (kind === "write" ? WalkAccess.write : kind === "fetch" ? WalkAccess.fetch : 0) | (isUser ? WalkAccess.user : 0) |
      (isImplicit ? WalkAccess.implicit : 0);
    if ((walkByCode(low, high, access, 0) & WalkAnswer.translated) === 0) return false;
    const view = this.#view;
    const result = view.get32(state.walkResult);
    walker.physical = view.getHigh32(state.walkAddress) * twoPow32 + view.get32(state.walkAddress);
    walker.mayWrite = (result & WalkResult.mayWrite) !== 0;
    walker.isGlobal = (result & WalkResult.isGlobal) !== 0;
    walker.isUserPage = (result & WalkResult.isUserPage) !== 0;
    walker.mayFetch = (result & WalkResult.mayFetch) !== 0;
    walker.isLargePage = (result & WalkResult.isLargePage) !== 0;
    walker.isSecondStageFault = false;
    return true;
  }

  /** Tells generated code how to walk, or that it must not; `paging` has been brought up to date by the caller. */
  publishPaging(): void {
    const view = this.#view, { paging } = this;
    const ram = this.#memory.plainRam;
    const mode = walkModeOf(paging);
    const isForCode = this.walker.secondStage === undefined && mode !== WalkMode.none && ram !== undefined && this.watch === undefined;
    view.set32(state.walkMode, isForCode ? mode : WalkMode.none);
    if (!isForCode) return;
    view.set32(state.walkRoot, paging.root);
    view.set32(state.walkRules, (paging.writeProtect ? WalkRule.writeProtect : 0) | (paging.noExecute ? WalkRule.noExecute : 0) |
      (paging.globalPages ? WalkRule.globalPages : 0) | (paging.smep ? WalkRule.smep : 0) | (paging.smap ? WalkRule.smap : 0));
    view.set32(state.walkReserved, reservedUpperBits(paging));
    view.setHalves(state.ramFirst, ram.first, Math.floor(ram.first / twoPow32));
    view.setHalves(state.ramSize, ram.sizeBytes, Math.floor(ram.sizeBytes / twoPow32));
    view.set32(state.ramAddend, ram.addend);
    view.set32(state.codePages, ram.codePages);
  }

  /** Goes on with the paging of the host, or of guests. */
  enterPaging(paging: PagingState, is64: boolean): void {
    this.paging = paging;
    this.#is64 = is64;
    this.#isLong = paging.mode === "level4" || paging.mode === "level5";
  }

  /** Takes over privilege and mode; `paging` has been brought up to date by the caller. */
  updateContext(cpl: number, is64: boolean, alignmentChecked: boolean): void {
    this.enterPaging(this.paging, is64);
    const privilege = cpl === 3
      ? (alignmentChecked ? ContextPrivilege.userAligned : ContextPrivilege.user)
      : this.paging.smap && !this.paging.alignmentCheck ? ContextPrivilege.supervisor : ContextPrivilege.supervisorOverUser;
    this.#view.set32(state.tlbContext, (this.#slot << 2) | privilege);
  }

  #setSlot(slot: number): void {
    this.#useSlot(slot);
    this.listener?.contextChanged();
  }

  #useSlot(slot: number): void {
    this.#refusal.isValid = false;
    this.#slot = slot;
    const privilege = this.#view.get32(state.tlbContext) & 3;
    this.#view.set32(state.tlbContext, (slot << 2) | privilege);
  }

  /**
   * Goes on with the translations of another context: `hostSpace`, or a guest's as its hypervisor tags it. Translations
   * that the context has kept from the last time hold while `root` (CR3, and what the second stage begins with) is the same.
   * What depends on the context, `paging` too, is brought up to date after this.
   */
  enterSpace(tag: number, secondStage: SecondStage | undefined, root: number): void {
    let space = this.#spaces.get(tag);
    if (space === undefined) {
      if (this.#spaces.size >= maximumSpaces) this.forgetGuestSpaces();
      space = newSpace(tag);
      this.#spaces.set(tag, space);
    }
    this.#space.slot = this.#slot;
    this.#space = space;
    this.walker.secondStage = secondStage;
    this.walker.tablePlaces = space.tablePlaces;
    if (space.slot < 0 || space.root !== root) {
      space.slotOfPcid.clear();
      space.largeRegions.clear();
      space.slot = this.#freshSlot();
    }
    space.root = root;
    this.#useSlot(space.slot);
  }

  /** The context of the translations in use. */
  get space(): Space {
    return this.#space;
  }

  /**
   * Goes on with a context as it was left, root and all, with its translations in its slot. `endingRoot`: CR3, and what the second
   * stage begins with, of who ends.
   */
  resumeSpace(space: Space, secondStage: SecondStage | undefined, endingRoot: number): void {
    this.#refusal.isValid = false;
    this.#space.root = endingRoot;
    this.#space.slot = this.#slot;
    this.#space = space;
    this.walker.secondStage = secondStage;
    this.walker.tablePlaces = space.tablePlaces;
    this.#slot = space.slot;
  }

  /** Like `enterSpace`, where nothing but the second stage's tables is new. */
  switchSpace(tag: number, secondStage: SecondStage, root: number): void {
    this.enterSpace(tag, secondStage, root);
    this.listener?.contextChanged();
  }

  /** CR3 or what the second stage begins with has changed within the context; its translations have been seen to. */
  noteRoot(root: number): void {
    this.#space.root = root;
  }

  /** Forgets the translations of a context; of the present one, too. */
  forgetSpace(tag: number): void {
    if (tag === this.#space.tag) this.flush({ keepGlobal: false });
    else this.#drop(tag);
  }

  #drop(tag: number): void {
    const space = this.#spaces.get(tag);
    if (space === undefined) return;
    space.slot = -1;
    this.#spaces.delete(tag);
  }

  /** Forgets the translations of every context but the host's. */
  forgetGuestSpaces(): void {
    for (const tag of this.#spaces.keys()) if (tag !== hostSpace) this.forgetSpace(tag);
  }

  /** Forgets the translation of one page in a context. */
  forgetPageOf(tag: number, linear: bigint): void {
    const low = Number(linear & 0xffff_ffffn), high = Number(linear >> 32n);
    if (tag === this.#space.tag) return this.invalidatePage(low, high);
    const space = this.#spaces.get(tag);
    if (space === undefined || space.slot < 0) return;
    if (this.#isInLargePage(space, low, high)) return this.#drop(tag);
    space.slotOfPcid.clear();
    this.#voidEntry(low);
    this.listener?.pageForgotten(low);
  }

  #voidEntry(low: number): void {
    const at = this.#entryAt(low) >>> 3;
    this.#view.u64[at] = noTag;
    this.#view.u64[at + 1] = noTag;
  }

  /**
   * Takes over how paging is configured: what matters of CR0, CR4, EFER, PKRU, and where PAE's pointers are. Forgets the
   * context's translations when any of it is news.
   */
  configure(cr0: number, cr4: number, efer: number, pkru: number, pointers: number): void {
    const space = this.#space, known = space.configuration;
    const isKnown = known[0] === (cr0 | 0) && known[1] === (cr4 | 0) && known[2] === (efer | 0) && known[3] === (pkru | 0) && known[4] === (pointers | 0);
    if (isKnown && space.isConfigured) return;
    known.set([cr0, cr4, efer, pkru, pointers]);
    space.isConfigured = true;
    if (this.paging.mode === "pae") this.loadPageDirectoryPointers();
    this.flush({ keepGlobal: false });
  }

  /** The next `configure` is news whatever it says. */
  forgetConfiguration(): void {
    this.#space.isConfigured = false;
  }

  get readsPointersOnDemand(): boolean {
    return this.walker.secondStage?.readsPointersOnDemand === true;
  }

  /** A slot no entry uses. */
  #freshSlot(): number {
    if (this.#nextSlot === contextSlots) this.clear();
    return this.#nextSlot++;
  }

  /** Empties the TLB. */
  clear(): void {
    const view = this.#view;
    const first = (view.base + state.tlbOffset) >>> 3;
    view.u64.fill(noTag, first, first + (state.tlbEntries * state.tlbEntrySizeBytes) / 8);
    for (let entry = 0; entry < state.tlbEntries; entry++) view.u32[this.#listedAt(entry)] = 0;
    view.set32(state.localEntryCount, 0);
    this.#forgetLargeRegions();
    for (const space of this.#spaces.values()) {
      space.slot = -1;
      space.slotOfPcid.clear();
      space.largeRegions.clear();
    }
    this.publishPaging();
    this.#nextSlot = 1;
    this.#slot = 0;
    this.#space.slot = 0;
    this.listener?.allForgotten();
  }

  /** Empties the TLB of the present address space's pages that are not global. */
  #forgetLocal(): void {
    const view = this.#view;
    const { u16, u32, u64, base } = view;
    const slot = this.#slot;
    // Entries of other slots are kept only while somebody may come back to them.
    const hasOthers = this.#spaces.size > 1 || this.#space.slotOfPcid.size > 0;
    const list = (base + state.localEntriesOffset) >>> 1, count = view.get32(state.localEntryCount);
    let kept = 0;
    for (let index = 0; index < count; index++) {
      const member = u16[list + index];
      const at = base + state.tlbOffset + member * state.tlbEntrySizeBytes;
      const owner = (u32[at >>> 2] & 0xfff) >>> 2;
      if (owner !== slot && hasOthers && owner < contextSlots) {
        u16[list + kept++] = member;
        continue;
      }
      u32[this.#listedAt(member)] = 0;
      if (owner !== slot) continue;
      u64[at >>> 3] = noTag;
      u64[(at >>> 3) + 1] = noTag;
    }
    view.set32(state.localEntryCount, kept);
    this.listener?.localForgotten(slot, hasOthers);
  }

  flush(_options: { keepGlobal: boolean }): void {
    this.counters.flushes++;
    this.#space.slotOfPcid.clear();
    this.#space.largeRegions.clear();
    this.#space.tablePlaces.forget();
    if (this.#spaces.size === 1) this.#forgetLargeRegions();
    this.#setSlot(this.#freshSlot());
  }

  /** After a write of CR3: `pcid` undefined without CR4.PCIDE; `keep` is the instruction's no-flush bit. */
  switchAddressSpace(pcid: number | undefined, keep: boolean): void {
    this.counters.flushes++;
    if (this.paging.mode === "pae") this.loadPageDirectoryPointers();
    if (pcid === undefined) return this.#forgetLocal();
    const known = keep ? this.#space.slotOfPcid.get(pcid) : undefined;
    const slot = known ?? this.#freshSlot();
    this.#space.slotOfPcid.set(pcid, slot);
    this.#setSlot(slot);
  }

  /** Reads the four PAE entries that CR3 points to; loading CR3 does so even when its value stays the same. */
  loadPageDirectoryPointers(): void {
    const { secondStage } = this.walker;
    if (secondStage?.readsPointersOnDemand === true) return;
    const place = secondStage === undefined ? this.paging.root : secondStage.translate(this.paging.root, "read", "table", false);
    const bytes = new Uint8Array(this.paging.pdpte.buffer);
    if (place < 0) bytes.fill(0);
    else this.#memory.readRange(place, bytes);
  }

  /** The entries that `loadPageDirectoryPointers` has read. */
  get pageDirectoryPointers(): BigUint64Array {
    return new BigUint64Array(this.paging.pdpte.buffer);
  }

  invalidatePage(low: number, high: number): void {
    if (this.#isInLargePage(this.#space, low, high)) return this.flush({ keepGlobal: false });
    this.#voidEntry(low);
    // Other process contexts may hold the page as a global one; they get it anew.
    const slot = this.#slot;
    const { slotOfPcid } = this.#space;
    for (const [pcid, other] of slotOfPcid) if (other !== slot) slotOfPcid.delete(pcid);
    this.listener?.pageForgotten(low);
  }

  /** Place in linear memory of the byte at `high:low` when generated code may read (or write) its page by itself, else 0. */
  reach(low: number, high: number, isWrite: boolean): number {
    return this.#lookUp(low, high, isWrite, this.#view.get32(state.tlbContext));
  }

  #noteLargePage(low: number, high: number): void {
    const { largeRegions } = this.#space;
    largeRegions.add(high * 2048 + (low >>> 21));
    largeRegions.add(-1 - (high * 4 + (low >>> 30)));
  }

  /** Whether the page tables, or the TLB from an earlier state of them, may map `linear` by a large page. */
  #isInLargePage({ largeRegions }: Space, low: number, high: number): boolean {
    const isInSet = largeRegions.size > 0 && (largeRegions.has(high * 2048 + (low >>> 21)) || largeRegions.has(-1 - (high * 4 + (low >>> 30))));
    return isInSet || this.#isKnownAsLarge(low, high);
  }

  /** The same of what generated code has filled, whatever the space. */
  #isKnownAsLarge(low: number, high: number): boolean {
    const region = (((low >>> 21) | (high << 11)) + 1) >>> 0;
    return this.#view.u32[((this.#view.base + state.largeRegionsOffset) >>> 2) + largeRegionIndex(region)] === region;
  }

  #forgetLargeRegions(): void {
    const first = (this.#view.base + state.largeRegionsOffset) >>> 2;
    this.#view.u32.fill(0, first, first + state.largeRegionEntries);
  }

  /** Place of the word that says whether an entry of the TLB is in the list of local ones. */
  #listedAt(entry: number): number {
    return (this.#view.base + state.tlbOffset + entry * state.tlbEntrySizeBytes + 20) >>> 2;
  }

  #noteLocal(entry: number): void {
    const view = this.#view;
    const listed = this.#listedAt(entry);
    if (view.u32[listed] !== 0) return;
    view.u32[listed] = 1;
    const count = view.get32(state.localEntryCount);
    view.u16[((view.base + state.localEntriesOffset) >>> 1) + count] = entry;
    view.set32(state.localEntryCount, count + 1);
  }

  /** Takes back the right to write to a page of linear memory without coming here, because code was decoded from it. */
  protectCodePage(offset: number): void {
    const view = this.#view;
    const page = Math.floor(offset / pageSizeBytes);
    const first = view.base + state.tlbOffset;
    for (let entry = 0; entry < state.tlbEntries; entry++) {
      const at = first + entry * state.tlbEntrySizeBytes;
      const low = view.u32[(at + 8) >>> 2];
      const addend = view.u32[(at + 16) >>> 2];
      if ((((low & ~0xfff) + addend) >>> 12) === page) view.u64[(at + 8) >>> 3] = noTag;
    }
  }

  #entryAt(linearLow: number): number {
    return this.#view.base + state.tlbOffset + ((linearLow >>> 12) & (state.tlbEntries - 1)) * state.tlbEntrySizeBytes;
  }

  /** Whether the linear address with the upper half `high` is canonical. */
  #isCanonical(high: number): boolean {
    const top = (high | 0) >> (31 - this.#view.get32(state.canonicalShift));
    return top === 0 || top === -1;
  }

  /** The same for all of `sizeBytes` bytes at `high:low`. */
  #areCanonical(low: number, high: number, sizeBytes: number): boolean {
    return this.#isCanonical(high) && (low + sizeBytes <= twoPow32 || this.#isCanonical(high + 1));
  }

  #raise(vector: number, errorCode: number): void {
    this.#view.set32(state.exceptionVector, vector);
    this.#view.set32(state.exceptionErrorCode, errorCode);
  }

  /** Whether the walk before this one, for `reachable`, has already found that the second stage does not let this access by: its exit is recorded. */
  #isRefused(low: number, high: number, kind: AccessKind): boolean {
    const refusal = this.#refusal;
    if (!refusal.isValid) return false;
    refusal.isValid = false;
    return refusal.low === low && refusal.high === high && kind === (refusal.isWrite ? "write" : "read") && refusal.walks === this.counters.walks &&
      (refusal.record === this.#view.get32(state.currentRecord) || this.walker.secondStage?.tellsOfInstruction === false);
  }

  /**
   * Guest-physical address of one byte, or -1 after recording #PF. The page's rights stay in `walker`.
   */
  #translate(low: number, high: number, kind: AccessKind, isUser: boolean, isImplicit: boolean): number {
    const { walker } = this;
    if (this.#isRefused(low, high, kind)) {
      this.#raise(exitVector, 0);
      return -1;
    }
    if (this.#walk(low, high, kind, isUser, isImplicit)) return walker.physical;
    if (walker.isSecondStageFault) {
      this.#raise(exitVector, 0);
      return -1;
    }
    this.#raise(Vector.PF, walker.errorCode);
    const at = (this.#view.base + state.pageFaultAddress.offset) >>> 2;
    this.#view.u32[at] = low;
    this.#view.u32[at + 1] = high;
    return -1;
  }

  /** Physical address of code at a linear address for the current privilege; -1 after recording the fault. */
  translateFetch(linear: bigint): number {
    return this.translateCode(Number(linear & 0xffff_ffffn), Number(linear >> 32n));
  }

  /** The same for the linear address `high:low`. */
  translateCode(low: number, high: number): number {
    if (this.#is64 && !this.#isCanonical(high)) {
      this.#raise(Vector.GP, 0);
      return -1;
    }
    const physical = this.#translate(low, high, "fetch", this.#isAtUserLevel, false);
    // What is remembered of it is forgotten with any part of the page.
    if (physical >= 0 && this.walker.isLargePage) this.#noteLargePage(low, high);
    return physical;
  }

  /** Copies code from `linear` on as far as it can be fetched without a fault; how many bytes that was. */
  peekCode(linear: bigint, target: Uint8Array): number {
    for (let done = 0; done < target.length;) {
      const at = BigInt.asUintN(this.#is64 ? 64 : 32, linear + BigInt(done));
      const low = Number(at & 0xffff_ffffn), high = Number(at >> 32n);
      const isReachable = (!this.#is64 || this.#isCanonical(high)) &&
        this.#walk(low, high, "fetch", this.#isAtUserLevel, false);
      if (!isReachable) return done;
      const length = Math.min(target.length - done, pageSizeBytes - (low & 0xfff));
      this.#memory.readRange(this.walker.physical, target.subarray(done, done + length));
      done += length;
    }
    return target.length;
  }

  /** Enters the page just walked into the TLB when generated code of the context may reach it by itself. */
  #fill(low: number, high: number, physical: number, isWrite: boolean, context: number = this.#view.get32(state.tlbContext)): void {
    const view = this.#view;
    if ((context & 3) === ContextPrivilege.userAligned) return;
    const readAt = this.#memory.readable(physical - (low & 0xfff));
    if (readAt === 0) return;
    if (this.watch?.pageIsWatched((BigInt(high) << 32n) | BigInt(low))) return;
    const writeAt = this.#memory.writable(physical - (low & 0xfff));
    const mayWrite = this.walker.mayWrite && writeAt === readAt && !this.#memory.isCode(readAt) && this.#memory.admitsWrites(readAt, isWrite);
    const at = this.#entryAt(low);
    const tagLow = ((low & ~0xfff) | context) >>> 0;
    const words = view.u32;
    words[at >>> 2] = tagLow;
    words[(at >>> 2) + 1] = high;
    words[(at >>> 2) + 2] = mayWrite ? tagLow : 0xffff_ffff;
    words[(at >>> 2) + 3] = mayWrite ? high : 0xffff_ffff;
    if (!this.walker.isGlobal) this.#noteLocal((low >>> 12) & (state.tlbEntries - 1));
    if (this.walker.isLargePage) this.#noteLargePage(low, high);
    words[(at >>> 2) + 4] = (readAt - (low & ~0xfff)) >>> 0;
  }

  /**
   * Brings the page of `sizeBytes` bytes at `slowAddress` into the TLB for compiled code. False, with nothing raised, when
   * they are not for it: devices, code to be written to, faults, two pages.
   */
  reachable(sizeBytes: number, isWrite: boolean): boolean {
    const view = this.#view;
    const low = view.get32(state.slowAddress), high = view.getHigh32(state.slowAddress);
    if ((low & 0xfff) + sizeBytes > pageSizeBytes || (this.#is64 && !this.#isCanonical(high))) return false;
    if (!this.#walk(low, high, isWrite ? "write" : "read", this.#isAtUserLevel, false)) {
      if (this.walker.isSecondStageFault) this.#noteRefusal(low, high, isWrite);
      return false;
    }
    this.#fill(low, high, this.walker.physical, isWrite);
    return this.reach(low, high, isWrite) !== 0;
  }

  #noteRefusal(low: number, high: number, isWrite: boolean): void {
    const refusal = this.#refusal;
    refusal.isValid = true;
    refusal.low = low;
    refusal.high = high;
    refusal.isWrite = isWrite;
    refusal.record = this.#view.get32(state.currentRecord);
    refusal.walks = this.counters.walks;
  }

  #stackFault(flags: number): boolean {
    if (flags & AccessFlag.stackSegment) return true;
    return (flags & AccessFlag.operandSegment) !== 0 &&
      this.#view.u8[this.#view.get32(state.currentRecord) + RecordField.segment] === Segment.SS;
  }

  /** Checks that come before translation: canonical address, alignment. False after recording the fault. */
  #admit(low: number, high: number, sizeBytes: number, flags: number): boolean {
    if (this.#is64 && !this.#areCanonical(low, high, sizeBytes)) {
      this.#raise(this.#stackFault(flags) ? Vector.SS : Vector.GP, 0);
      return false;
    }
    return this.#isAligned(low, sizeBytes);
  }

  /** False after #AC, which only user accesses under alignment checking can raise. */
  #isAligned(low: number, sizeBytes: number): boolean {
    if ((this.#view.get32(state.tlbContext) & 3) !== ContextPrivilege.userAligned || (low & 15) % sizeBytes === 0) return true;
    this.#raise(Vector.AC, 0);
    return false;
  }

  /** Generated code's load of up to 16 bytes at `slowAddress` into scratch 15. 1 after a fault. */
  slowLoad(sizeBytes: number, flags: number): number {
    this.counters.slowLoads++;
    const view = this.#view;
    const low = view.get32(state.slowAddress), high = view.getHigh32(state.slowAddress);
    if (!this.#admit(low, high, sizeBytes, flags)) return 1;
    const kind: AccessKind = flags & AccessFlag.write ? "write" : "read";
    const isUser = this.#isAtUserLevel;
    const target = view.base + scratchValue.offset;
    const first = this.#translate(low, high, kind, isUser, false);
    if (first < 0) return 1;
    const inPage = pageSizeBytes - (low & 0xfff);
    if (sizeBytes <= inPage) {
      this.#fill(low, high, first, kind === "write");
      if (!this.#copyOut(first, target, sizeBytes)) return 1;
    } else {
      const second = this.#translateNext(low, high, inPage, kind, isUser, false);
      if (second < 0) return 1;
      if (!this.#copyOut(first, target, inPage) || !this.#copyOut(second, target + inPage, sizeBytes - inPage)) return 1;
    }
    this.watch?.accessed(view.get64(state.slowAddress), sizeBytes, kind === "write");
    return 0;
  }

  /** Translation of the following page's first byte. */
  #translateNext(low: number, high: number, inPage: number, kind: AccessKind, isUser: boolean, isImplicit: boolean): number {
    const nextLow = (low + inPage) >>> 0;
    const nextHigh = nextLow < low ? (this.#isLong ? (high + 1) >>> 0 : 0) : high;
    return this.#translate(nextLow, nextHigh, kind, isUser, isImplicit);
  }

  /** False after an exit, which only the virtual page can ask for. */
  #copyOut(physical: number, target: number, sizeBytes: number): boolean {
    const bytes = this.#view.u8;
    const at = this.#memory.readable(physical);
    if (at !== 0) {
      for (let i = 0; i < sizeBytes; i++) bytes[target + i] = bytes[at + i];
      return true;
    }
    if (physical >= virtualPageStart) {
      const value = this.virtualPage?.read(physical - virtualPageStart, sizeBytes);
      if (value === undefined) return this.#raiseExit();
      for (let i = 0; i < sizeBytes; i++) bytes[target + i] = (value >>> (i * 8)) & 0xff;
      return true;
    }
    for (let done = 0; done < sizeBytes;) {
      const step = accessSize(physical + done, sizeBytes - done);
      const value = this.#memory.bus.read(physical + done, step);
      for (let i = 0; i < step; i++) bytes[target + done + i] = (value >>> (i * 8)) & 0xff;
      done += step;
    }
    return true;
  }

  #raiseExit(): false {
    this.#raise(exitVector, 0);
    return false;
  }

  /** Like `#copyOut`. */
  #copyIn(physical: number, source: number, sizeBytes: number): boolean {
    const bytes = this.#view.u8;
    const at = this.#memory.writable(physical);
    if (at !== 0) {
      this.#memory.announceWrite(at, sizeBytes);
      for (let i = 0; i < sizeBytes; i++) bytes[at + i] = bytes[source + i];
      return true;
    }
    if (physical >= virtualPageStart) {
      let value = 0;
      for (let i = 0; i < sizeBytes; i++) value |= bytes[source + i] << (i * 8);
      return this.virtualPage?.write(physical - virtualPageStart, sizeBytes, value >>> 0) === true || this.#raiseExit();
    }
    for (let done = 0; done < sizeBytes;) {
      const step = accessSize(physical + done, sizeBytes - done);
      let value = 0;
      for (let i = 0; i < step; i++) value |= bytes[source + done + i] << (i * 8);
      this.#memory.bus.write(physical + done, step, value >>> 0);
      done += step;
    }
    return true;
  }

  /** Copies in to two pages; what ends in an exit has written neither. */
  #copyInTwo(first: number, second: number, source: number, inPage: number, sizeBytes: number): boolean {
    if (second >= virtualPageStart) return this.#copyIn(second, source + inPage, sizeBytes) && this.#copyIn(first, source, inPage);
    return this.#copyIn(first, source, inPage) && this.#copyIn(second, source + inPage, sizeBytes - inPage);
  }

  slowStore(sizeBytes: number, flags: number): number {
    this.counters.slowStores++;
    const view = this.#view;
    const low = view.get32(state.slowAddress), high = view.getHigh32(state.slowAddress);
    if (!this.#admit(low, high, sizeBytes, flags)) return 1;
    const isUser = this.#isAtUserLevel;
    const source = view.base + scratchValue.offset;
    const first = this.#translate(low, high, "write", isUser, false);
    if (first < 0) return 1;
    const inPage = pageSizeBytes - (low & 0xfff);
    if (sizeBytes <= inPage) {
      this.#fill(low, high, first, true);
      if (!this.#copyIn(first, source, sizeBytes)) return 1;
    } else {
      const second = this.#translateNext(low, high, inPage, "write", isUser, false);
      if (second < 0) return 1;
      if (!this.#copyInTwo(first, second, source, inPage, sizeBytes)) return 1;
    }
    this.watch?.accessed(view.get64(state.slowAddress), sizeBytes, true);
    return 0;
  }

  /** Checks up to a few hundred bytes at `slowAddress` for writing. */
  slowCheckWrite(sizeBytes: number, flags: number): number {
    const view = this.#view;
    if (!this.#admit(view.get32(state.slowAddress), view.getHigh32(state.slowAddress), sizeBytes, flags)) return 1;
    return this.probe(view.get64(state.slowAddress), sizeBytes, "write") ? 0 : 1;
  }

  /** Legacy segmentation's full check of the offset in `slowAddress`. `segment` -1: the record's. */
  segmentCheck(segment: number, sizeBytes: number, isWrite: number): number {
    const view = this.#view;
    const number = segment >= 0 ? segment : view.u8[view.get32(state.currentRecord) + RecordField.segment];
    return this.linear(number, view.get64(state.slowAddress), sizeBytes, isWrite ? "write" : "read") === undefined ? 1 : 0;
  }

  linear(segment: number, offset: bigint, sizeBytes: number, intent: "read" | "write"): bigint | undefined {
    const view = this.#view;
    const fields = state.segments[segment];
    const base = view.get64(fields.base);
    if (this.#is64) {
      const linear = BigInt.asUintN(64, segment >= Segment.FS ? base + offset : offset);
      if (this.#areCanonical(Number(linear & 0xffff_ffffn), Number(linear >> 32n), Math.max(sizeBytes, 1))) return linear;
      this.#raise(segment === Segment.SS ? Vector.SS : Vector.GP, 0);
      return undefined;
    }
    if (!this.#withinSegment(segment, Number(offset & 0xffff_ffffn), Math.max(sizeBytes, 1), intent)) {
      this.#raise(segment === Segment.SS ? Vector.SS : Vector.GP, 0);
      return undefined;
    }
    return BigInt.asUintN(32, base + offset);
  }

  /** SDM volume 3, "Limit Checking" and "Type Checking", for data accesses outside of 64-bit mode. */
  #withinSegment(segment: number, offset: number, sizeBytes: number, intent: "read" | "write"): boolean {
    const view = this.#view;
    const fields = state.segments[segment];
    const attributes = view.get32(fields.attributes);
    const limit = view.get32(fields.limit);
    const isUnusable = (attributes & 0x1_0000) !== 0 || (attributes & 0x80) === 0;
    if (isUnusable) return false;
    const last = offset + sizeBytes - 1;
    const isCode = (attributes & 8) !== 0;
    const readWriteBit = (attributes & 2) !== 0;
    const isRealMode = (view.get32(state.cr0) & 1) === 0;
    if (!isRealMode && (intent === "write" ? isCode || !readWriteBit : isCode && !readWriteBit)) return false;
    if (!isCode && (attributes & 4) !== 0) {
      const upper = attributes & 0x4000 ? 0xffff_ffff : 0xffff;
      return offset > limit && last <= upper;
    }
    return last <= limit;
  }

  // --- ProcessorMemory: what routines use --------------------------------------------------------------------------

  #isUser(privilege: Privilege | undefined): boolean {
    return privilege !== "supervisor" && this.#isAtUserLevel;
  }

  /** Lower bits of the TLB tags that let such an access by. The processor's own are not exempted from SMAP by RFLAGS.AC. */
  #contextOf(privilege: Privilege | undefined): number {
    if (privilege !== "supervisor") return this.#view.get32(state.tlbContext);
    return (this.#slot << 2) | (this.paging.smap ? ContextPrivilege.supervisor : ContextPrivilege.supervisorOverUser);
  }

  locate(low: number, high: number, sizeBytes: number, isWrite: boolean, privilege: Privilege | undefined): number {
    if ((low & 0xfff) + sizeBytes > pageSizeBytes) return 0;
    const context = this.#contextOf(privilege);
    const known = this.#lookUp(low, high, isWrite, context);
    if (known !== 0) return known;
    if (this.#isLong && !this.#isCanonical(high)) return 0;
    if (!this.#walk(low, high, isWrite ? "write" : "read", this.#isUser(privilege), privilege === "supervisor")) return 0;
    this.#fill(low, high, this.walker.physical, isWrite, context);
    return this.#lookUp(low, high, isWrite, context);
  }

  /** Place of a byte in linear memory by the TLB; 0: not in it. */
  #lookUp(low: number, high: number, isWrite: boolean, context: number): number {
    const words = this.#view.u32;
    const entry = this.#entryAt(low) >>> 2;
    const tag = entry + (isWrite ? 2 : 0);
    const isKnown = words[tag] === ((low & ~0xfff) | context) >>> 0 && words[tag + 1] === high;
    return isKnown ? (low + words[entry + 4]) >>> 0 : 0;
  }

  load(linear: bigint, sizeBytes: 1 | 2 | 4 | 8, privilege?: Privilege): bigint | undefined {
    if (!this.#copyLinear(linear, sizeBytes, "read", privilege)) return undefined;
    const at = this.#view.base + scratchValue.offset;
    return this.#view.u64[at >>> 3] & sizeMasks[sizeBytes];
  }

  store(linear: bigint, sizeBytes: 1 | 2 | 4 | 8, value: bigint, privilege?: Privilege): boolean {
    this.#view.set64(scratchValue, BigInt.asUintN(64, value));
    return this.#copyLinear(linear, sizeBytes, "write", privilege);
  }

  loadPhysical(address: bigint): bigint | undefined {
    const { secondStage } = this.walker;
    this.walker.hasLinearAddress = false;
    const place = secondStage === undefined ? Number(address) : secondStage.translate(Number(address), "read", "table", false);
    if (place < 0) {
      this.#raise(exitVector, 0);
      return undefined;
    }
    const bytes = new Uint8Array(8);
    this.#memory.readRange(place, bytes);
    return new DataView(bytes.buffer).getBigUint64(0, true);
  }

  #copyLinear(linear: bigint, sizeBytes: number, kind: "read" | "write", privilege: Privilege | undefined): boolean {
    const low = Number(linear & 0xffff_ffffn), high = this.#isLong ? Number(linear >> 32n) : 0;
    if (this.#isLong && !this.#isCanonical(high)) {
      this.#raise(Vector.GP, 0);
      return false;
    }
    const isUser = this.#isUser(privilege), isImplicit = privilege === "supervisor";
    if (isUser && !this.#isAligned(low, sizeBytes)) return false;
    const area = this.#view.base + scratchValue.offset;
    const known = (low & 0xfff) + sizeBytes <= pageSizeBytes ? this.#lookUp(low, high, kind === "write", this.#contextOf(privilege)) : 0;
    if (known !== 0) {
      const bytes = this.#view.u8;
      const from = kind === "read" ? known : area, to = kind === "read" ? area : known;
      for (let index = 0; index < sizeBytes; index++) bytes[to + index] = bytes[from + index];
      return true;
    }
    const first = this.#translate(low, high, kind, isUser, isImplicit);
    if (first < 0) return false;
    const inPage = Math.min(sizeBytes, pageSizeBytes - (low & 0xfff));
    if (inPage === sizeBytes) this.#fill(low, high, first, kind === "write", this.#contextOf(privilege));
    const second = inPage < sizeBytes ? this.#translateNext(low, high, inPage, kind, isUser, isImplicit) : 0;
    if (second < 0) return false;
    const isCopied = kind === "read"
      ? this.#copyOut(first, area, inPage) && (inPage === sizeBytes || this.#copyOut(second, area + inPage, sizeBytes - inPage))
      : inPage === sizeBytes ? this.#copyIn(first, area, inPage) : this.#copyInTwo(first, second, area, inPage, sizeBytes);
    if (!isCopied) return false;
    if (privilege !== "supervisor") this.watch?.accessed(linear, sizeBytes, kind === "write");
    return true;
  }

  probe(linear: bigint, sizeBytes: number, intent: "read" | "write", privilege?: Privilege): boolean {
    const isUser = this.#isUser(privilege);
    for (let done = 0; done < sizeBytes;) {
      const at = BigInt.asUintN(this.#isLong ? 64 : 32, linear + BigInt(done));
      const low = Number(at & 0xffff_ffffn), high = Number(at >> 32n);
      if (this.#isLong && !this.#isCanonical(high)) {
        this.#raise(Vector.GP, 0);
        return false;
      }
      if (this.#translate(low, high, intent, isUser, privilege === "supervisor") < 0) return false;
      done += pageSizeBytes - (low & 0xfff);
    }
    return true;
  }
}

const sizeMasks = { 1: 0xffn, 2: 0xffffn, 4: 0xffff_ffffn, 8: 0xffff_ffff_ffff_ffffn } as const;

/** Largest naturally aligned access that fits. */
function accessSize(address: number, sizeBytes: number): 1 | 2 | 4 {
  if (sizeBytes >= 4 && address % 4 === 0) return 4;
  return sizeBytes >= 2 && address % 2 === 0 ? 2 : 1;
}
