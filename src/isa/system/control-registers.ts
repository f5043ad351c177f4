/** Writes of control and debug registers with their checks (SDM volume 3, "Control Registers"; volume 2, "MOV—Move to/from Control Registers"). */
import { Status } from "../../ir/index.ts";
import { Vector } from "../definition.ts";
import type { Processor } from "../processor.ts";
import * as layout from "../state.ts";
import {
  DebugStatusMask, detectsDebugRegisterAccess, normalizeDebugControl, normalizeDebugStatus, raiseDebugStatus,
} from "./debug.ts";
import {
  Cr0Mask, Cr4Mask, EferMask, SegmentAttribute, SegmentIndex, hasCr4, is64BitMode, isCanonical, isCanonicalHigh, isLongMode,
} from "./mode.ts";
import { isConcealed, isIntercepted, type Interceptable } from "../virtualization.ts";
import { refreshSegmentEnds } from "./segments.ts";
import { isWideTaskState } from "./task-state.ts";

const cr0Writable = Object.values(Cr0Mask).reduce((mask, bit) => mask | bit, 0) >>> 0;
/** Bits whose change makes cached translations or rights wrong. */
const cr0FlushMask = Cr0Mask.PG | Cr0Mask.WP | Cr0Mask.PE;
const cr4FlushMask = Cr4Mask.PSE | Cr4Mask.PAE | Cr4Mask.PGE | Cr4Mask.LA57 | Cr4Mask.PCIDE | Cr4Mask.SMEP | Cr4Mask.SMAP | Cr4Mask.PKE;
/** Bits whose change makes the processor load the page-directory pointers of PAE paging anew (SDM volume 3, "PDPTE Registers"). */
const cr0PointerMask = Cr0Mask.PG | Cr0Mask.CD | Cr0Mask.NW;
const cr4PointerMask = Cr4Mask.PAE | Cr4Mask.PGE | Cr4Mask.PSE | Cr4Mask.SMEP;
const keepTranslationsMask = 1n << 63n;

/** CR4 bits and the CPUID features they come with. */
const cr4Features: readonly (readonly [mask: number, feature: string])[] = [
  [Cr4Mask.VME, "vme"], [Cr4Mask.PVI, "vme"], [Cr4Mask.TSD, "tsc"], [Cr4Mask.DE, "de"], [Cr4Mask.PSE, "pse"],
  [Cr4Mask.PAE, "pae"], [Cr4Mask.MCE, "mce"], [Cr4Mask.PGE, "pge"], [Cr4Mask.PCE, "fpu"], [Cr4Mask.OSFXSR, "fxsr"],
  [Cr4Mask.OSXMMEXCPT, "sse"], [Cr4Mask.UMIP, "umip"], [Cr4Mask.LA57, "la57"], [Cr4Mask.FSGSBASE, "fsgsbase"],
  [Cr4Mask.PCIDE, "pcid"], [Cr4Mask.OSXSAVE, "xsave"], [Cr4Mask.SMEP, "smep"], [Cr4Mask.SMAP, "smap"], [Cr4Mask.PKE, "pku"],
];

/** MOV to CR0, CR2, CR3, CR4 or CR8; the decoder admits no other. */
export function writeControlRegister(p: Processor, number: number, value: bigint): Status {
  if (p.state.get32(layout.cpl) !== 0) return p.raise(Vector.GP, 0);
  if (isIntercepted(p, { kind: "write cr", number, value })) return Status.Fault;
  switch (number) {
    case 0:
      return writeCr0(p, value);
    case 2:
      p.state.set64(layout.cr2, value);
      return Status.Next;
    case 3:
      return writeCr3(p, value);
    case 4:
      return writeCr4(p, value);
    case 8:
      if (value > 15n) return p.raise(Vector.GP, 0);
      if (p.virtualization?.isGuest !== true || !p.virtualization.setGuestTaskPriority(Number(value))) {
        p.bus.setTaskPriority(Number(value));
      }
      return Status.Next;
    default:
      return p.raise(Vector.UD);
  }
}

function writeCr0(p: Processor, written: bigint): Status {
  const { state } = p;
  const value = p.virtualization === undefined ? written : p.virtualization.admitControlValue(0, written);
  if (value === undefined || value >> 32n !== 0n) return p.raise(Vector.GP, 0);
  const old = state.get32(layout.cr0);
  const next = ((Number(value) & cr0Writable) | Cr0Mask.ET) >>> 0;
  const has = (mask: number): boolean => (next & mask) !== 0;
  if ((has(Cr0Mask.PG) && !has(Cr0Mask.PE)) || (has(Cr0Mask.NW) && !has(Cr0Mask.CD))) return p.raise(Vector.GP, 0);
  const changed = old ^ next;
  const loadsPointers = (changed & cr0PointerMask) !== 0 && usesPointers(p, next, state.get32(layout.cr4));
  if (loadsPointers && !checkPointers(p, state.get64(layout.cr3))) return Status.Fault;
  if ((changed & Cr0Mask.PG) !== 0 && !switchPaging(p, has(Cr0Mask.PG))) return p.raise(Vector.GP, 0);
  state.set64(layout.cr0, BigInt(next));
  if ((changed & Cr0Mask.PE) !== 0) for (let index = 0; index < 6; index++) refreshSegmentEnds(state, index);
  p.modeChanged();
  if ((changed & cr0FlushMask) !== 0) p.memory.flush({ keepGlobal: false });
  if (loadsPointers) p.memory.switchAddressSpace(undefined, false);
  return Status.Next;
}

/** Whether these control registers mean PAE paging with page-directory pointers loaded from where CR3 points to. */
function usesPointers({ state, memory }: Processor, cr0: number, cr4: number): boolean {
  const isPae = (cr0 & Cr0Mask.PG) !== 0 && (cr4 & Cr4Mask.PAE) !== 0 && (state.get32(layout.efer) & EferMask.LME) === 0;
  return isPae && !memory.readsPointersOnDemand;
}

/** False after #GP(0) because one of the four page-directory pointers is present with a reserved bit set. */
function checkPointers(p: Processor, cr3: bigint): boolean {
  const lowReservedMask = 0x1e6n;
  const first = cr3 & 0xffff_ffe0n;
  for (const offset of [0n, 8n, 16n, 24n]) {
    const entry = p.memory.loadPhysical(first + offset);
    if (entry === undefined) return false;
    const isReserved = (entry & lowReservedMask) !== 0n || entry >> BigInt(p.model.physicalAddressBits) !== 0n;
    if ((entry & 1n) !== 0n && isReserved) {
      p.raise(Vector.GP, 0);
      return false;
    }
  }
  return true;
}

/** Enters or leaves IA-32e mode with paging; false when the change is refused. */
function switchPaging({ state }: Processor, isOn: boolean): boolean {
  const efer = state.get32(layout.efer);
  if (!isOn) {
    if (is64BitMode(state) || hasCr4(state, Cr4Mask.PCIDE)) return false;
    state.set64(layout.efer, BigInt(efer & ~EferMask.LMA));
    return true;
  }
  if ((efer & EferMask.LME) === 0) return true;
  const code = state.get32(layout.segments[SegmentIndex.CS].attributes);
  const task = state.get32(layout.segments[SegmentIndex.TR].attributes);
  const isTask16 = (task & (SegmentAttribute.present | SegmentAttribute.unusable)) === SegmentAttribute.present && !isWideTaskState(task);
  if (!hasCr4(state, Cr4Mask.PAE) || (code & SegmentAttribute.long) !== 0 || isTask16) return false;
  state.set64(layout.efer, BigInt(efer | EferMask.LMA));
  return true;
}

function writeCr3(p: Processor, value: bigint): Status {
  const { state } = p;
  const hasContexts = hasCr4(state, Cr4Mask.PCIDE);
  const keepsTranslations = hasContexts && (value & keepTranslationsMask) !== 0n;
  const root = keepsTranslations ? value & ~keepTranslationsMask : value;
  if (root >> BigInt(p.model.physicalAddressBits) !== 0n && isLongMode(state)) return p.raise(Vector.GP, 0);
  const hasPointers = usesPointers(p, state.get32(layout.cr0), state.get32(layout.cr4));
  if (hasPointers && !checkPointers(p, root)) return Status.Fault;
  state.set64(layout.cr3, root);
  p.modeChanged();
  p.memory.switchAddressSpace(hasContexts ? Number(root & 0xfffn) : undefined, keepsTranslations);
  return Status.Next;
}

/** Bits of CR4 that software may set. */
export function supportedCr4(p: Processor): number {
  return cr4Features.reduce(
    (mask, [bit, feature]) => (p.model.hasFeature(feature) ? mask | bit : mask), p.virtualization?.writableCr4Mask ?? 0);
}

function writeCr4(p: Processor, written: bigint): Status {
  const { state } = p;
  const old = state.get32(layout.cr4);
  const value = p.virtualization === undefined ? written : p.virtualization.admitControlValue(4, written);
  if (value === undefined || value >> 32n !== 0n) return p.raise(Vector.GP, 0);
  const next = Number(value);
  const changed = old ^ next;
  const isSet = (mask: number): boolean => (changed & next & mask) !== 0;
  const isLong = isLongMode(state);
  const processContextMask = 0xfff;
  const isRefused = (next & ~supportedCr4(p)) !== 0 ||
    (isLong && ((next & Cr4Mask.PAE) === 0 || (changed & Cr4Mask.LA57) !== 0)) ||
    (isSet(Cr4Mask.PCIDE) && (!isLong || (state.get32(layout.cr3) & processContextMask) !== 0));
  if (isRefused) return p.raise(Vector.GP, 0);
  const loadsPointers = (changed & cr4PointerMask) !== 0 && usesPointers(p, state.get32(layout.cr0), next);
  if (loadsPointers && !checkPointers(p, state.get64(layout.cr3))) return Status.Fault;
  state.set64(layout.cr4, BigInt(next >>> 0));
  p.modeChanged();
  if ((changed & cr4FlushMask) !== 0) p.memory.flush({ keepGlobal: false });
  if (loadsPointers) p.memory.switchAddressSpace(undefined, false);
  return Status.Next;
}

/** LMSW: the low four bits of CR0, of which PE can only be set. */
export function loadMachineStatusWord(p: Processor, word: number): Status {
  const { state } = p;
  if (state.get32(layout.cpl) !== 0) return p.raise(Vector.GP, 0);
  const old = state.get32(layout.cr0);
  const stickyMask = 0xffff_fff1;
  const value = BigInt(((old & stickyMask) | (word & 0xf)) >>> 0);
  return isIntercepted(p, { kind: "lmsw", value, word }) ? Status.Fault : writeCr0(p, value);
}

export function clearTaskSwitched(p: Processor): Status {
  const { state } = p;
  if (state.get32(layout.cpl) !== 0) return p.raise(Vector.GP, 0);
  if (isIntercepted(p, { kind: "clts" })) return Status.Fault;
  const cleared = state.get64(layout.cr0) & ~BigInt(Cr0Mask.TS);
  state.set64(layout.cr0, p.virtualization?.admitControlValue(0, cleared) ?? cleared);
  p.modeChanged();
  return Status.Next;
}

/** The debug register that an access names, DR4 and DR5 being DR6 and DR7; undefined after #UD, #GP, #DB or an exit. */
function debugRegister(p: Processor, number: number, access: Interceptable): number | undefined {
  const { state } = p;
  const isAlias = number === 4 || number === 5;
  if (isIntercepted(p, { kind: "mov dr", number, isWrite: access.kind === "write dr" })) return undefined;
  if (number > 7 || (isAlias && hasCr4(state, Cr4Mask.DE))) p.raise(Vector.UD);
  else if (state.get32(layout.cpl) !== 0) p.raise(Vector.GP, 0);
  else if (isIntercepted(p, access)) return undefined;
  else if (detectsDebugRegisterAccess(state)) raiseDebugStatus(p, DebugStatusMask.generalDetect);
  else return isAlias ? number + 2 : number;
  return undefined;
}

/** MOV from a debug register: the value is result 0. */
export function readDebugRegister(p: Processor, number: number): Status {
  const register = debugRegister(p, number, { kind: "read dr", number });
  if (register === undefined) return Status.Fault;
  p.state.result64(0, p.state.get64(layout.dr[register]));
  return Status.Next;
}

export function writeDebugRegister(p: Processor, number: number, value: bigint): Status {
  const { state } = p;
  const register = debugRegister(p, number, { kind: "write dr", number, value });
  if (register === undefined) return Status.Fault;
  if (register >= 6) {
    if (value >> 32n !== 0n) return p.raise(Vector.GP, 0);
    state.set64(layout.dr[register], register === 6 ? normalizeDebugStatus(value) : normalizeDebugControl(value));
  } else {
    state.set64(layout.dr[register], value);
  }
  p.modeChanged();
  return Status.Next;
}

const Xcr0Mask = { x87: 1n, sse: 2n, pkru: 0x200n } as const;

/** State components that XCR0 may enable on this model. */
function supportedXcr0(p: Processor): bigint {
  return Xcr0Mask.x87 | Xcr0Mask.sse | (p.model.hasFeature("pku") ? Xcr0Mask.pkru : 0n);
}

/** XGETBV: the value is result 0. ECX = 1 reads which enabled components are in use. */
export function getExtendedControlRegister(p: Processor, index: number): Status {
  const { state } = p;
  if (!hasCr4(state, Cr4Mask.OSXSAVE)) return p.raise(Vector.UD);
  if (index > 1 || (index === 1 && !p.model.hasFeature("xgetbv1"))) return p.raise(Vector.GP, 0);
  state.result64(0, state.get64(layout.xcr0));
  return Status.Next;
}

export function setExtendedControlRegister(p: Processor, index: number, value: bigint): Status {
  const { state } = p;
  if (!hasCr4(state, Cr4Mask.OSXSAVE)) return p.raise(Vector.UD);
  if (state.get32(layout.cpl) !== 0) return p.raise(Vector.GP, 0);
  if (isIntercepted(p, { kind: "xsetbv", index, value })) return Status.Fault;
  const isRefused = index !== 0 || (value & Xcr0Mask.x87) === 0n || (value & ~supportedXcr0(p)) !== 0n;
  if (isRefused) return p.raise(Vector.GP, 0);
  state.set64(layout.xcr0, value);
  p.modeChanged();
  return Status.Next;
}

/** INVLPG. */
export function invalidatePage(p: Processor, low: number, high: number): Status {
  const { state, virtualization } = p;
  if (state.get32(layout.cpl) !== 0) return p.raise(Vector.GP, 0);
  if (virtualization?.isGuest === true && virtualization.intercepts({ kind: "invlpg", linear: joinHalves(low, high) })) return Status.Fault;
  if (isCanonicalHigh(state, high)) p.memory.invalidatePage(low, high);
  return Status.Next;
}

function joinHalves(low: number, high: number): bigint {
  return (BigInt(high) << 32n) | BigInt(low);
}

/** What INVPCID does before it reads its descriptor. */
export function prepareProcessContextInvalidation(p: Processor): Status {
  if (isConcealed(p, "invpcid")) return p.raise(Vector.UD);
  if (p.state.get32(layout.cpl) !== 0) return p.raise(Vector.GP, 0);
  return isIntercepted(p, { kind: "invpcid" }) ? Status.Fault : Status.Next;
}

/** INVPCID with its descriptor `[process context, linear address]`. */
export function invalidateProcessContext(p: Processor, type: bigint, context: bigint, linear: bigint): Status {
  const { state } = p;
  const usesContext = type < 2n;
  const current = hasCr4(state, Cr4Mask.PCIDE) ? state.get64(layout.cr3) & 0xfffn : 0n;
  const isRefused = type > 3n || context > 0xfffn || (type === 0n && !isCanonical(state, linear)) ||
    (usesContext && context !== 0n && !hasCr4(state, Cr4Mask.PCIDE));
  if (isRefused) return p.raise(Vector.GP, 0);
  if (type === 2n) {
    p.memory.flush({ keepGlobal: false });
  } else if (type === 0n && context === current) {
    p.memory.invalidatePage(Number(linear & 0xffff_ffffn), Number(linear >> 32n));
  } else {
    // More may be forgotten than was asked for; other contexts are not kept apart here.
    p.memory.flush({ keepGlobal: true });
  }
  return Status.Next;
}
