/** RDMSR, WRMSR, CPUID and the time stamp counter (SDM volume 4; volume 2, "CPUID"). */
import { Status } from "../../ir/index.ts";
import { Vector } from "../definition.ts";
import type { Processor } from "../processor.ts";
import * as layout from "../state.ts";
import type { StateField } from "../state.ts";
import { isConcealed, isIntercepted } from "../virtualization.ts";
import { stateAreaSizeBytes } from "./extended-state.ts";
import { Cr0Mask, Cr4Mask, EferMask, SegmentIndex, hasCr4, isCanonical } from "./mode.ts";

/** Numbers of the registers that are part of the core. */
export const Msr = {
  TSC: 0x10, APIC_BASE: 0x1b, SYSENTER_CS: 0x174, SYSENTER_ESP: 0x175, SYSENTER_EIP: 0x176, PAT: 0x277, XSS: 0xda0,
  EFER: 0xc000_0080, STAR: 0xc000_0081, LSTAR: 0xc000_0082, CSTAR: 0xc000_0083, FMASK: 0xc000_0084,
  FS_BASE: 0xc000_0100, GS_BASE: 0xc000_0101, KERNEL_GS_BASE: 0xc000_0102, TSC_AUX: 0xc000_0103,
} as const;

type Rule = "any" | "canonical" | "low32";

/** Registers that are a field of the state, and what may be written to them. */
const fieldRegisters: ReadonlyMap<number, readonly [StateField, Rule]> = new Map([
  [Msr.SYSENTER_CS, [layout.sysenterCs, "low32"]],
  [Msr.SYSENTER_ESP, [layout.sysenterEsp, "canonical"]],
  [Msr.SYSENTER_EIP, [layout.sysenterEip, "canonical"]],
  [Msr.STAR, [layout.star, "any"]],
  [Msr.LSTAR, [layout.lstar, "canonical"]],
  [Msr.CSTAR, [layout.cstar, "canonical"]],
  [Msr.FMASK, [layout.fmask, "low32"]],
  [Msr.FS_BASE, [layout.segments[SegmentIndex.FS].base, "canonical"]],
  [Msr.GS_BASE, [layout.segments[SegmentIndex.GS].base, "canonical"]],
  [Msr.KERNEL_GS_BASE, [layout.kernelGsBase, "canonical"]],
  [Msr.TSC_AUX, [layout.tscAux, "low32"]],
]);

/** The value of a model-specific register, or undefined where RDMSR raises #GP. */
export function readMsr(p: Processor, index: number): bigint | undefined {
  const field = fieldRegisters.get(index);
  if (field !== undefined) return p.state.get64(field[0]);
  switch (index) {
    case Msr.TSC:
      return timeStampCounter(p);
    case Msr.PAT:
      return p.state.get64(layout.pat);
    case Msr.EFER:
      return p.state.get64(layout.efer);
    case Msr.XSS:
      return p.model.hasFeature("xsaves") ? 0n : undefined;
    default:
      return p.virtualization?.readMsr(index) ?? p.bus.readMsr(index) ?? p.msrs.get(index) ?? p.model.msr(index)?.value;
  }
}

/** Writes a model-specific register; false where WRMSR raises #GP. */
export function writeMsr(p: Processor, index: number, value: bigint): boolean {
  const field = fieldRegisters.get(index);
  if (field !== undefined) {
    const [location, rule] = field;
    if (rule === "canonical" && !isCanonical(p.state, value)) return false;
    if (rule === "low32" && value >> 32n !== 0n) return false;
    p.state.set64(location, value);
    return true;
  }
  switch (index) {
    case Msr.TSC:
      p.bus.setTimeStampCounter(value);
      return true;
    case Msr.PAT:
      return writePat(p, value);
    case Msr.EFER:
      return writeEfer(p, value);
    case Msr.XSS:
      return p.model.hasFeature("xsaves") && value === 0n;
    default: {
      const isExtension = p.virtualization?.writeMsr(index, value) ?? "unknown";
      if (isExtension !== "unknown") return isExtension;
      const isWritten = p.bus.writeMsr(index, value);
      return isWritten === "unknown" ? writeStorage(p, index, value) : isWritten;
    }
  }
}

/** Plain storage of the CPU model: bits that are not writable keep their values and must be written as they are. */
function writeStorage(p: Processor, index: number, value: bigint): boolean {
  const register = p.model.msr(index);
  if (register === undefined || register.writable === 0n) return false;
  const old = p.msrs.get(index) ?? register.value;
  if (((old ^ value) & ~register.writable) !== 0n) return false;
  p.msrs.set(index, value);
  return true;
}

function writePat(p: Processor, value: bigint): boolean {
  for (let shift = 0n; shift < 64n; shift += 8n) {
    const type = Number((value >> shift) & 0xffn);
    if (type > 7 || type === 2 || type === 3) return false;
  }
  p.state.set64(layout.pat, value);
  return true;
}

/** Bits of EFER that software may set; LMA is among them, since it is ignored. */
export function supportedEfer({ model, virtualization }: Processor): number {
  let mask = EferMask.LMA | (virtualization?.writableEferMask ?? 0);
  if (model.hasFeature("syscall")) mask |= EferMask.SCE;
  if (model.hasFeature("lm")) mask |= EferMask.LME;
  if (model.hasFeature("nx")) mask |= EferMask.NXE;
  if (model.hasFeature("fxsr_opt")) mask |= EferMask.FFXSR;
  return mask;
}

function writeEfer(p: Processor, value: bigint): boolean {
  const { state } = p;
  const old = state.get64(layout.efer);
  if ((value & ~BigInt(supportedEfer(p))) !== 0n) return false;
  // LMA is read-only and ignored on writes; LME cannot change while paging is on.
  const lma = BigInt(EferMask.LMA);
  const next = (value & ~lma) | (old & lma);
  const hasPaging = (state.get32(layout.cr0) & Cr0Mask.PG) !== 0;
  if (hasPaging && ((old ^ next) & BigInt(EferMask.LME)) !== 0n) return false;
  state.set64(layout.efer, next);
  p.modeChanged();
  if (((old ^ next) & BigInt(EferMask.NXE)) !== 0n) p.memory.flush({ keepGlobal: false });
  return true;
}

/** RDMSR: the value is result 0. */
export function readModelSpecificRegister(p: Processor, index: number): Status {
  if (p.state.get32(layout.cpl) !== 0) return p.raise(Vector.GP, 0);
  if (isIntercepted(p, { kind: "rdmsr", index })) return Status.Fault;
  const value = readMsr(p, index);
  if (value === undefined) return p.raise(Vector.GP, 0);
  p.state.result64(0, value);
  return Status.Next;
}

export function writeModelSpecificRegister(p: Processor, index: number, value: bigint): Status {
  if (p.state.get32(layout.cpl) !== 0) return p.raise(Vector.GP, 0);
  if (isIntercepted(p, { kind: "wrmsr", index, value })) return Status.Fault;
  return writeMsr(p, index, value) ? Status.Next : p.raise(Vector.GP, 0);
}

const osxsaveMask = 1 << 27;
const ospkeMask = 1 << 4;
const apicMask = 1 << 9;

/** CPUID: EAX, EBX, ECX and EDX are results 0 to 3. Some bits mirror what the operating system has set. */
export function identify(p: Processor, leaf: number, subleaf: number): Status {
  const { state } = p;
  if (isIntercepted(p, { kind: "cpuid" })) return Status.Fault;
  let { eax, ebx, ecx, edx } = p.model.cpuid(leaf, subleaf);
  if (leaf === 1) {
    ecx = hasCr4(state, Cr4Mask.OSXSAVE) ? ecx | osxsaveMask : ecx & ~osxsaveMask;
    if (!isApicEnabled(p)) edx &= ~apicMask;
  } else if (leaf === 7 && subleaf === 0) {
    ecx = hasCr4(state, Cr4Mask.PKE) ? ecx | ospkeMask : ecx & ~ospkeMask;
  } else if (leaf === 0xd && subleaf < 2 && p.model.hasFeature("xsave")) {
    ebx = stateAreaSizeBytes(state.get64(layout.xcr0), subleaf === 1);
  } else if (leaf === 0x8000_0001 && !isApicEnabled(p)) {
    edx &= ~apicMask;
  }
  for (const [index, value] of [eax, ebx, ecx, edx].entries()) state.result32(index, value >>> 0);
  return Status.Next;
}

function isApicEnabled(p: Processor): boolean {
  const enableMask = 1n << 11n;
  const base = p.bus.peekMsr === undefined ? p.bus.readMsr(Msr.APIC_BASE) : p.bus.peekMsr(Msr.APIC_BASE);
  return base === undefined || (base & enableMask) !== 0n;
}

/** RDTSC and RDTSCP: the counter is result 0. */
export function readTimeStampCounter(p: Processor, kind: "rdtsc" | "rdtscp"): Status {
  const { state } = p;
  if (kind === "rdtscp" && isConcealed(p, kind)) return p.raise(Vector.UD);
  if (hasCr4(state, Cr4Mask.TSD) && state.get32(layout.cpl) !== 0) return p.raise(Vector.GP, 0);
  const isGuest = p.virtualization?.isGuest === true;
  if (isGuest && isIntercepted(p, { kind })) return Status.Fault;
  const ticks = isGuest ? -1 : p.bus.timeStampTicks?.() ?? -1;
  if (ticks < 0) {
    state.result64(0, timeStampCounter(p));
    return Status.Next;
  }
  const high = Math.floor(ticks / 2 ** 32);
  state.setHalves(layout.scratch[0], ticks - high * 2 ** 32, high);
  return Status.Next;
}

/** The time stamp counter as the program sees it: a guest's has an offset, and perhaps another rate. */
function timeStampCounter(p: Processor): bigint {
  const counter = p.bus.timeStampCounter();
  const { virtualization } = p;
  return virtualization?.isGuest === true ? virtualization.guestTimeStampCounter(counter) : counter;
}
