/** The processor's state to and from a VMCB's state save area (AMD APM volume 2, "VMRUN", "#VMEXIT", "VMSAVE and VMLOAD Instructions"). */
import { allFlagsMask, FlagMask, readFlags, writeFlags } from "../../isa/flags.ts";
import type { StateField } from "../../isa/state.ts";
import * as layout from "../../isa/state.ts";
import type { StateView } from "../../isa/state-view.ts";
import { normalizeDebugControl, normalizeDebugStatus } from "../../isa/system/debug.ts";
import { Cr0Mask, EferMask, SegmentAttribute, SegmentIndex } from "../../isa/system/mode.ts";
import { loadSegmentCache } from "../../isa/system/segments.ts";
import { Save, SaveSegment, type VmcbSegment } from "./vmcb.ts";

/** Copies 64 bits without making a number of them. */
export function copy64(from: StateView, source: StateField, to: StateView, target: StateField): void {
  const at = (from.base + source.offset) >>> 2, place = (to.base + target.offset) >>> 2;
  to.u32[place] = from.u32[at];
  to.u32[place + 1] = from.u32[at + 1];
}

/** Attributes as the VMCB packs them: bits 55:52 and 47:40 of a descriptor, in twelve bits. */
function unpackAttributes(packed: number): number {
  return (packed & 0xff) | ((packed & 0xf00) << 4);
}

function packAttributes(attributes: number): number {
  if ((attributes & SegmentAttribute.unusable) !== 0) return attributes & SegmentAttribute.dplMask;
  return (attributes & 0xff) | ((attributes >>> 4) & 0xf00);
}

function loadSegment(state: StateView, index: number, vmcb: StateView, source: VmcbSegment, attributes: number): void {
  loadSegmentCache(state, index, vmcb.get16(source.selector), {
    base: vmcb.get64(source.base), limit: vmcb.get32(source.limit), attributes,
  });
}

function saveSegment(state: StateView, index: number, vmcb: StateView, target: VmcbSegment): void {
  const fields = layout.segments[index];
  vmcb.set16(target.selector, state.get16(fields.selector));
  vmcb.set16(target.attributes, packAttributes(state.get32(fields.attributes)));
  vmcb.set32(target.limit, state.get32(fields.limit));
  copy64(state, fields.base, vmcb, target.base);
}

const runSegments = [
  [SegmentIndex.ES, SaveSegment.es], [SegmentIndex.CS, SaveSegment.cs], [SegmentIndex.SS, SaveSegment.ss], [SegmentIndex.DS, SaveSegment.ds],
] as const;

/** Loads what VMRUN loads. Consistency has been checked; `p.modeChanged` is left to the caller. */
export function loadGuest(state: StateView, vmcb: StateView): void {
  const cr0 = vmcb.get32(Save.cr0);
  const flags = vmcb.get32(Save.rflags);
  const isReal = (cr0 & Cr0Mask.PE) === 0, isVirtual8086 = !isReal && (flags & FlagMask.VM) !== 0;
  const cpl = isReal ? 0 : isVirtual8086 ? 3 : vmcb.get8(Save.cpl) & 3;
  state.set64(layout.cr0, BigInt((cr0 | Cr0Mask.ET) >>> 0));
  for (const [source, target] of [[Save.cr2, layout.cr2], [Save.cr3, layout.cr3], [Save.cr4, layout.cr4]] as const) {
    copy64(vmcb, source, state, target);
  }
  const efer = vmcb.get32(Save.efer) & ~EferMask.LMA;
  const isLong = (cr0 & Cr0Mask.PG) !== 0 && (efer & EferMask.LME) !== 0;
  state.set64(layout.efer, BigInt(efer | (isLong ? EferMask.LMA : 0)));
  for (const [index, source] of runSegments) {
    loadSegment(state, index, vmcb, source, attributesFor(index, vmcb.get16(source.attributes), isReal || isVirtual8086, cpl));
  }
  state.set32(layout.cpl, cpl);
  copy64(vmcb, SaveSegment.gdtr.base, state, layout.gdtrBase);
  state.set32(layout.gdtrLimit, vmcb.get32(SaveSegment.gdtr.limit) & 0xffff);
  copy64(vmcb, SaveSegment.idtr.base, state, layout.idtrBase);
  state.set32(layout.idtrLimit, vmcb.get32(SaveSegment.idtr.limit) & 0xffff);
  state.set64(layout.dr[6], normalizeDebugStatus(vmcb.get64(Save.dr6)));
  state.set64(layout.dr[7], normalizeDebugControl(vmcb.get64(Save.dr7)));
  writeFlags(state, flags, allFlagsMask);
  copy64(vmcb, Save.rip, state, layout.rip);
  if (!isLong) state.set64(layout.rip, BigInt(state.get32(layout.rip)));
  copy64(vmcb, Save.rsp, state, layout.gpr[4]);
  copy64(vmcb, Save.rax, state, layout.gpr[0]);
}

/**
 * Hidden attributes of ES, CS, SS or DS: in real and virtual-8086 mode every segment is usable; else one that is not
 * present is not. The privilege level of SS is the processor's.
 */
function attributesFor(index: number, packed: number, isRealOrVirtual8086: boolean, cpl: number): number {
  const attributes = unpackAttributes(packed);
  if (isRealOrVirtual8086) return attributes | SegmentAttribute.present | SegmentAttribute.codeOrData;
  const isUnusable = (attributes & SegmentAttribute.present) === 0 && index !== SegmentIndex.CS;
  const usable = isUnusable ? attributes | SegmentAttribute.unusable : attributes;
  if (index !== SegmentIndex.SS) return usable;
  return (usable & ~SegmentAttribute.dplMask) | (cpl << SegmentAttribute.dplShift);
}

/** Saves what #VMEXIT saves. */
export function saveGuest(state: StateView, vmcb: StateView): void {
  for (const [index, target] of runSegments) saveSegment(state, index, vmcb, target);
  vmcb.set8(Save.cpl, state.get32(layout.cpl));
  copy64(state, layout.gdtrBase, vmcb, SaveSegment.gdtr.base);
  vmcb.set32(SaveSegment.gdtr.limit, state.get32(layout.gdtrLimit));
  copy64(state, layout.idtrBase, vmcb, SaveSegment.idtr.base);
  vmcb.set32(SaveSegment.idtr.limit, state.get32(layout.idtrLimit));
  for (const [source, target] of guestRegisters) copy64(state, source, vmcb, target);
  vmcb.set32(Save.rflags, readFlags(state));
  vmcb.u32[((vmcb.base + Save.rflags.offset) >>> 2) + 1] = 0;
}

const guestRegisters = [
  [layout.cr0, Save.cr0], [layout.cr2, Save.cr2], [layout.cr3, Save.cr3], [layout.cr4, Save.cr4], [layout.efer, Save.efer],
  [layout.dr[6], Save.dr6], [layout.dr[7], Save.dr7], [layout.rip, Save.rip], [layout.gpr[4], Save.rsp], [layout.gpr[0], Save.rax],
] as const;

const loadSegments = [
  [SegmentIndex.FS, SaveSegment.fs], [SegmentIndex.GS, SaveSegment.gs], [SegmentIndex.LDTR, SaveSegment.ldtr], [SegmentIndex.TR, SaveSegment.tr],
] as const;

/** Registers of VMLOAD and VMSAVE; the second column must be canonical, and is made so by VMLOAD. */
const loadRegisters = [
  [layout.star, Save.star, false], [layout.lstar, Save.lstar, true], [layout.cstar, Save.cstar, true], [layout.fmask, Save.sfmask, false],
  [layout.kernelGsBase, Save.kernelGsBase, true], [layout.sysenterCs, Save.sysenterCs, false],
  [layout.sysenterEsp, Save.sysenterEsp, true], [layout.sysenterEip, Save.sysenterEip, true],
] as const;

/** VMLOAD: what VMRUN leaves out. */
export function loadAdditional(state: StateView, vmcb: StateView): void {
  const shift = state.get32(layout.canonicalShift);
  const canonicalBits = 64 - shift;
  for (const [index, source] of loadSegments) {
    const attributes = unpackAttributes(vmcb.get16(source.attributes));
    const isUnusable = (attributes & SegmentAttribute.present) === 0;
    loadSegment(state, index, vmcb, source, isUnusable ? attributes | SegmentAttribute.unusable : attributes);
  }
  for (const index of [SegmentIndex.FS, SegmentIndex.GS]) {
    const { base } = layout.segments[index];
    state.set64(base, BigInt.asUintN(64, BigInt.asIntN(canonicalBits, state.get64(base))));
  }
  for (const [target, source, isAddress] of loadRegisters) {
    copy64(vmcb, source, state, target);
    if (isAddress) state.set64(target, BigInt.asUintN(64, BigInt.asIntN(canonicalBits, state.get64(target))));
  }
}

export function saveAdditional(state: StateView, vmcb: StateView): void {
  for (const [index, target] of loadSegments) saveSegment(state, index, vmcb, target);
  for (const [source, target] of loadRegisters) copy64(state, source, vmcb, target);
}
