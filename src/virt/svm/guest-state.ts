/** The processor's state to and from a VMCB's state save area (AMD APM volume 2, "VMRUN", "#VMEXIT", "VMSAVE and VMLOAD Instructions"). */
import { allFlagsMask, FlagMask, readFlags, writeFlags } from "../../isa/flags.ts";
import * as layout from "../../isa/state.ts";
import type { StateView } from "../../isa/state-view.ts";
import { normalizeDebugControl, normalizeDebugStatus } from "../../isa/system/debug.ts";
import { Cr0Mask, EferMask, SegmentAttribute, SegmentIndex } from "../../isa/system/mode.ts";
import { refreshSegmentEnds } from "../../isa/system/segments.ts";
import { Save, SaveSegment, type VmcbField, type VmcbSegment } from "./vmcb.ts";

/** Attributes as the VMCB packs them: bits 55:52 and 47:40 of a descriptor, in twelve bits. */
export function unpackAttributes(packed: number): number {
  return (packed & 0xff) | ((packed & 0xf00) << 4);
}

function packAttributes(attributes: number): number {
  if ((attributes & SegmentAttribute.unusable) !== 0) return attributes & SegmentAttribute.dplMask;
  return (attributes & 0xff) | ((attributes >>> 4) & 0xf00);
}

/** A segment register and its place in the VMCB. */
interface SegmentPair {
  readonly index: number;
  readonly fields: layout.SegmentFields;
  readonly place: VmcbSegment;
}

/** A 64-bit register and its place in the VMCB. */
interface RegisterPair {
  readonly field: layout.StateField;
  readonly place: VmcbField;
}

function segmentPair(index: number, place: VmcbSegment): SegmentPair {
  return { index, fields: layout.segments[index], place };
}

function registerPairs(pairs: readonly (readonly [field: layout.StateField, place: VmcbField])[]): RegisterPair[] {
  return pairs.map(([field, place]) => ({ field, place }));
}

function loadSegment(state: StateView, { index, fields, place }: SegmentPair, vmcb: StateView, attributes: number): void {
  state.set16(fields.selector, vmcb.get16(place.selector));
  state.copy64(fields.base, place.base, vmcb);
  state.set32(fields.limit, vmcb.get32(place.limit));
  state.set32(fields.attributes, attributes);
  refreshSegmentEnds(state, index);
}

function saveSegment(state: StateView, { fields, place }: SegmentPair, vmcb: StateView): void {
  vmcb.set16(place.selector, state.get16(fields.selector));
  vmcb.set16(place.attributes, packAttributes(state.get32(fields.attributes)));
  vmcb.set32(place.limit, state.get32(fields.limit));
  vmcb.copy64(place.base, fields.base, state);
}

const runSegments: readonly SegmentPair[] = [
  segmentPair(SegmentIndex.ES, SaveSegment.es), segmentPair(SegmentIndex.CS, SaveSegment.cs),
  segmentPair(SegmentIndex.SS, SaveSegment.ss), segmentPair(SegmentIndex.DS, SaveSegment.ds),
];

/** What VMRUN copies as it is. */
const loadedRegisters = registerPairs([
  [layout.cr2, Save.cr2], [layout.cr3, Save.cr3], [layout.cr4, Save.cr4], [layout.gdtrBase, SaveSegment.gdtr.base],
  [layout.idtrBase, SaveSegment.idtr.base], [layout.rip, Save.rip], [layout.gpr[4], Save.rsp], [layout.gpr[0], Save.rax],
]);

/** Loads what VMRUN loads. Consistency has been checked; `p.modeChanged` is left to the caller. */
export function loadGuest(state: StateView, vmcb: StateView): void {
  const cr0 = vmcb.get32(Save.cr0);
  const flags = vmcb.get32(Save.rflags);
  const isReal = (cr0 & Cr0Mask.PE) === 0, isVirtual8086 = !isReal && (flags & FlagMask.VM) !== 0;
  const cpl = isReal ? 0 : isVirtual8086 ? 3 : vmcb.get8(Save.cpl) & 3;
  state.setHalves(layout.cr0, cr0 | Cr0Mask.ET, 0);
  for (const { field, place } of loadedRegisters) state.copy64(field, place, vmcb);
  const efer = vmcb.get32(Save.efer) & ~EferMask.LMA;
  const isLong = (cr0 & Cr0Mask.PG) !== 0 && (efer & EferMask.LME) !== 0;
  state.setHalves(layout.efer, efer | (isLong ? EferMask.LMA : 0), 0);
  for (const pair of runSegments) {
    loadSegment(state, pair, vmcb, attributesFor(pair.index, vmcb.get16(pair.place.attributes), isReal || isVirtual8086, cpl));
  }
  state.set32(layout.cpl, cpl);
  state.set32(layout.gdtrLimit, vmcb.get32(SaveSegment.gdtr.limit) & 0xffff);
  state.set32(layout.idtrLimit, vmcb.get32(SaveSegment.idtr.limit) & 0xffff);
  state.set64(layout.dr[6], normalizeDebugStatus(vmcb.get64(Save.dr6)));
  state.set64(layout.dr[7], normalizeDebugControl(vmcb.get64(Save.dr7)));
  writeFlags(state, flags, allFlagsMask);
  if (!isLong) state.setHalves(layout.rip, state.get32(layout.rip), 0);
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
  for (const pair of runSegments) saveSegment(state, pair, vmcb);
  vmcb.set8(Save.cpl, state.get32(layout.cpl));
  vmcb.set32(SaveSegment.gdtr.limit, state.get32(layout.gdtrLimit));
  vmcb.set32(SaveSegment.idtr.limit, state.get32(layout.idtrLimit));
  for (const { field, place } of savedRegisters) vmcb.copy64(place, field, state);
  vmcb.setHalves(Save.rflags, readFlags(state), 0);
}

const savedRegisters = registerPairs([
  [layout.cr0, Save.cr0], [layout.cr2, Save.cr2], [layout.cr3, Save.cr3], [layout.cr4, Save.cr4], [layout.efer, Save.efer],
  [layout.dr[6], Save.dr6], [layout.dr[7], Save.dr7], [layout.rip, Save.rip], [layout.gpr[4], Save.rsp], [layout.gpr[0], Save.rax],
  [layout.gdtrBase, SaveSegment.gdtr.base], [layout.idtrBase, SaveSegment.idtr.base],
]);

const additionalSegments: readonly SegmentPair[] = [
  segmentPair(SegmentIndex.FS, SaveSegment.fs), segmentPair(SegmentIndex.GS, SaveSegment.gs),
  segmentPair(SegmentIndex.LDTR, SaveSegment.ldtr), segmentPair(SegmentIndex.TR, SaveSegment.tr),
];

const additionalRegisters = registerPairs([
  [layout.star, Save.star], [layout.lstar, Save.lstar], [layout.cstar, Save.cstar], [layout.fmask, Save.sfmask],
  [layout.kernelGsBase, Save.kernelGsBase], [layout.sysenterCs, Save.sysenterCs], [layout.sysenterEsp, Save.sysenterEsp],
  [layout.sysenterEip, Save.sysenterEip],
]);

/** Of what VMLOAD loads, the addresses, which it makes canonical. */
const additionalAddresses: readonly layout.StateField[] = [
  layout.segments[SegmentIndex.FS].base, layout.segments[SegmentIndex.GS].base, layout.lstar, layout.cstar, layout.kernelGsBase,
  layout.sysenterEsp, layout.sysenterEip,
];

/** VMLOAD: what VMRUN leaves out. */
export function loadAdditional(state: StateView, vmcb: StateView): void {
  for (const pair of additionalSegments) {
    const attributes = unpackAttributes(vmcb.get16(pair.place.attributes));
    const isUnusable = (attributes & SegmentAttribute.present) === 0;
    loadSegment(state, pair, vmcb, isUnusable ? attributes | SegmentAttribute.unusable : attributes);
  }
  for (const { field, place } of additionalRegisters) state.copy64(field, place, vmcb);
  const shift = state.get32(layout.canonicalShift);
  for (const field of additionalAddresses) {
    const high = state.getHigh32(field);
    state.setHalves(field, state.get32(field), (high << shift) >> shift);
  }
}

export function saveAdditional(state: StateView, vmcb: StateView): void {
  for (const pair of additionalSegments) saveSegment(state, pair, vmcb);
  for (const { field, place } of additionalRegisters) vmcb.copy64(place, field, state);
}
