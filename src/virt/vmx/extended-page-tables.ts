/**
 * The second stage of translation: extended page tables with accessed and dirty flags, page-modification logging and
 * mode-based execute control, and the APIC-access page (SDM volume 3, "VMX Support for Address Translation").
 */
import { virtualPageStart } from "../../engine/mmu.ts";
import type { AccessKind, SecondStage } from "../../engine/page-walk.ts";
import type { PhysicalMemory } from "../../engine/physical-memory.ts";
import { Control } from "./controls.ts";
import type { ExitSink, VmxContext } from "./context.ts";
import { accessExit, ExitReason } from "./exit-reasons.ts";
import { Field } from "./fields.ts";

/** Bits of an entry, lower half. */
const Entry = { read: 1, write: 2, execute: 4, memoryTypeShift: 3, large: 0x80, accessed: 0x100, dirty: 0x200, userExecute: 0x400 } as const;
const suppressVeMask = 0x8000_0000;
const twoPow32 = 0x1_0000_0000;
const pageBytes = 4096;
const topLevel = 4;

/** Bits of the qualification of EPT violations. */
const Violation = {
  read: 1, write: 2, fetch: 4, readable: 8, writable: 0x10, executable: 0x20, userExecutable: 0x40,
  hasLinearAddress: 0x80, isFinal: 0x100,
  /** Of the page that the guest's own paging structures lead to: "advanced VM-exit information". */
  userPage: 0x200, writablePage: 0x400, executeDisabledPage: 0x800,
} as const;

/** Access types in the qualification of APIC-access exits. */
export const ApicAccessType = { read: 0, write: 1, fetch: 2, duringDelivery: 3, guestPhysical: 15 } as const;
const apicAccessTypeShift = 12;

/** Of an EPTP: what is not the address, and the bit that enables accessed and dirty flags. */
const pageOffsetMask = 0xfff;
const accessedDirtyMask = 0x40;

const reservedTypes: ReadonlySet<number> = new Set([2, 3, 7]);

export function apicAccessQualification(offset: number, type: number): bigint {
  return BigInt(offset | (type << apicAccessTypeShift));
}

export class ExtendedPageTables implements SecondStage {
  readonly readsPointersOnDemand: boolean = false;
  readonly tellsOfInstruction: boolean = false;
  mayWrite = true;
  mayFetch = true;
  isLargePage = false;
  /** The last violation may become a virtualization exception. */
  isConvertible = false;
  readonly #context: VmxContext;
  readonly #memory: PhysicalMemory;
  readonly #sink: ExitSink;
  /** Physical address of the top table; -1: guest-physical addresses are physical ones. */
  root = -1;
  #tracksUse = false;
  #hasUserExecute = false;
  #logsModifications = false;
  #apicPage = -1;
  #reservedHigh = 0;
  /** Makes a 64-bit number of halves: cheaper than to shift it together. */
  readonly #halves = new Uint32Array(2);
  readonly #whole = new BigUint64Array(this.#halves.buffer);

  constructor(context: VmxContext, sink: ExitSink) {
    this.#context = context;
    this.#memory = context.processor.physical;
    this.#sink = sink;
  }

  /** Takes over the controls of the guest that is entered; false when there is nothing to translate. */
  configure(): boolean {
    const context = this.#context;
    this.#apicPage = context.has(Control.apicAccesses) ? context.vmcs.getAddress(Field.apicAccessAddress) : -1;
    this.#hasUserExecute = context.has(Control.modeBasedExecute);
    this.#logsModifications = context.has(Control.pml);
    this.#reservedHigh = (0x000f_ffff & ~((1 << (context.capabilities.physicalAddressBits - 32)) - 1)) >>> 0;
    const usesTables = context.has(Control.ept);
    const low = context.vmcs.get32(Field.eptPointer);
    this.root = usesTables ? context.vmcs.getAddress(Field.eptPointer) - (low & pageOffsetMask) : -1;
    this.#tracksUse = usesTables && (low & accessedDirtyMask) !== 0;
    return this.root >= 0 || this.#apicPage >= 0;
  }

  translate(address: number, kind: AccessKind, target: "table" | "final"): number {
    this.mayWrite = true;
    this.mayFetch = true;
    this.isLargePage = false;
    const physical = this.root < 0 ? address : this.#walk(address, kind, target);
    if (physical < 0 || this.#apicPage < 0 || physical - (physical % pageBytes) !== this.#apicPage) return physical;
    return this.#onApicPage(physical % pageBytes, kind, target);
  }

  /** The page's own memory is out of reach: data accesses go to the virtual page, others become exits. */
  #onApicPage(offset: number, kind: AccessKind, target: "table" | "final"): number {
    if (target === "final" && kind !== "fetch") return virtualPageStart + offset;
    const type = target === "table" ? ApicAccessType.guestPhysical : ApicAccessType.fetch;
    this.#sink.record(accessExit(ExitReason.apicAccess, apicAccessQualification(target === "table" ? 0 : offset, type)));
    return -1;
  }

  #linearAddress(): bigint {
    const { walker } = this.#context.processor.memory;
    this.#halves[0] = walker.low;
    this.#halves[1] = walker.high;
    return this.#whole[0];
  }

  #walk(address: number, kind: AccessKind, target: "table" | "final"): number {
    const memory = this.#memory;
    // With accessed and dirty flags an access to the guest's paging structures counts as a write.
    const isWrite = kind === "write" || (target === "table" && this.#tracksUse);
    if (address >= 2 ** 48) return this.#violate(address, kind, target, isWrite, 0);
    const low = address >>> 0, high = Math.floor(address / twoPow32);
    let rights = Entry.read | Entry.write | Entry.execute | Entry.userExecute;
    let table = this.root;
    for (let level = topLevel; ; level--) {
      const index = level === 4 ? (high >>> 7) & 0x1ff : level === 3 ? ((high & 0x7f) << 2) | (low >>> 30)
        : level === 2 ? (low >>> 21) & 0x1ff : (low >>> 12) & 0x1ff;
      const entryAt = table + index * 8;
      memory.readEntry(entryAt);
      const entryLow = memory.entry[0], entryHigh = memory.entry[1];
      this.isConvertible = (entryHigh & suppressVeMask) === 0;
      if (!this.#isPresent(entryLow)) return this.#violate(address, kind, target, isWrite, 0);
      const isLarge = level > 1 && (entryLow & Entry.large) !== 0;
      if (this.#isMisconfigured(entryLow, entryHigh, level, isLarge)) return this.#misconfigured(address);
      rights &= entryLow;
      const isLast = level === 1 || isLarge;
      if (!isLast) {
        if (this.#tracksUse && (entryLow & Entry.accessed) === 0) memory.write32(entryAt, entryLow | Entry.accessed);
        table = (entryHigh & 0xf_ffff) * twoPow32 + ((entryLow & 0xffff_f000) >>> 0);
        continue;
      }
      if (!this.#isAllowed(rights, kind, target, isWrite)) return this.#violate(address, kind, target, isWrite, rights);
      if (!this.#markUse(entryAt, entryLow, isWrite, address)) return -1;
      this.isLargePage = isLarge;
      const offsetMask = level === 3 ? 0x3fff_ffff : level === 2 ? 0x1f_ffff : 0xfff;
      return (entryHigh & 0xf_ffff) * twoPow32 + ((entryLow & ~offsetMask & 0xffff_f000) >>> 0) + (low & offsetMask);
    }
  }

  #isPresent(entry: number): boolean {
    return (entry & (Entry.read | Entry.write | Entry.execute | (this.#hasUserExecute ? Entry.userExecute : 0))) !== 0;
  }

  #isMisconfigured(entryLow: number, entryHigh: number, level: number, isLarge: boolean): boolean {
    if ((entryLow & (Entry.read | Entry.write)) === Entry.write || (entryHigh & this.#reservedHigh) !== 0) return true;
    if (level === 1 || isLarge) {
      const reservedOffset = level === 3 ? 0x3fff_f000 : level === 2 ? 0x1f_f000 : 0;
      const isTooLarge = level === 4 || (level === 3 && !this.#context.processor.model.hasFeature("pdpe1gb"));
      return isTooLarge || (entryLow & reservedOffset) !== 0 || reservedTypes.has((entryLow >>> Entry.memoryTypeShift) & 7);
    }
    const reserved = level === 4 ? 0xf8 : 0x78;
    return (entryLow & reserved) !== 0;
  }

  #isAllowed(rights: number, kind: AccessKind, target: "table" | "final", isWrite: boolean): boolean {
    const { walker } = this.#context.processor.memory;
    const executeMask = this.#hasUserExecute && walker.isUserPage ? Entry.userExecute : Entry.execute;
    this.mayFetch = (rights & executeMask) !== 0;
    this.mayWrite = (rights & Entry.write) !== 0;
    if (target === "final" && kind === "fetch") return this.mayFetch;
    return (rights & Entry.read) !== 0 && (!isWrite || this.mayWrite);
  }

  /** Sets accessed and dirty flags; false when the modification cannot be logged. */
  #markUse(entryAt: number, entry: number, isWrite: boolean, address: number): boolean {
    if (!this.#tracksUse) return true;
    const wanted = Entry.accessed | (isWrite ? Entry.dirty : 0);
    if (isWrite && (entry & Entry.dirty) === 0 && this.#logsModifications && !this.#log(address)) return false;
    if ((entry & wanted) !== wanted) this.#memory.write32(entryAt, entry | wanted);
    this.mayWrite &&= ((entry | wanted) & Entry.dirty) !== 0;
    return true;
  }

  /** Page-modification logging (SDM volume 3, "Page-Modification Logging"). */
  #log(address: number): boolean {
    const { vmcs } = this.#context;
    const index = vmcs.get32(Field.pmlIndex);
    if (index > 511) {
      this.#sink.record(accessExit(ExitReason.pmlFull, 0n, {}));
      return false;
    }
    const at = vmcs.getAddress(Field.pmlAddress) + index * 8;
    const page = address - (address % pageBytes);
    this.#memory.write32(at, page >>> 0);
    this.#memory.write32(at + 4, Math.floor(page / twoPow32));
    vmcs.set32(Field.pmlIndex, (index - 1) & 0xffff);
    return true;
  }

  #violate(address: number, kind: AccessKind, target: "table" | "final", isWrite: boolean, rights: number): number {
    const isTable = target === "table";
    const { hasLinearAddress } = this.#context.processor.memory.walker;
    let qualification = hasLinearAddress ? Violation.hasLinearAddress | (isTable ? 0 : Violation.isFinal | this.#pageInformation()) : 0;
    if (!isTable && kind === "fetch") qualification |= Violation.fetch;
    else if (isWrite && !isTable) qualification |= Violation.write;
    else qualification |= Violation.read | (isWrite ? Violation.write : 0);
    if (rights & Entry.read) qualification |= Violation.readable;
    if (rights & Entry.write) qualification |= Violation.writable;
    if (rights & Entry.execute) qualification |= Violation.executable;
    if (this.#hasUserExecute && (rights & Entry.userExecute) !== 0) qualification |= Violation.userExecutable;
    this.#sink.record(accessExit(ExitReason.eptViolation, BigInt(qualification), {
      guestPhysicalAddress: address, guestLinearAddress: this.#linearAddress(),
    }));
    return -1;
  }

  #pageInformation(): number {
    const { isUserPage, isWritablePage, isExecuteDisabledPage } = this.#context.processor.memory.walker;
    return (isUserPage ? Violation.userPage : 0) | (isWritablePage ? Violation.writablePage : 0) |
      (isExecuteDisabledPage ? Violation.executeDisabledPage : 0);
  }

  #misconfigured(address: number): number {
    this.#sink.record(accessExit(ExitReason.eptMisconfiguration, 0n, { guestPhysicalAddress: address }));
    return -1;
  }
}
