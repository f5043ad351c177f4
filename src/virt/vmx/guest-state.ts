/** The guest-state area: loaded by VM entry, saved by VM exits (SDM volume 3, "Loading Guest State" and "Saving Guest State"). */
import { allFlagsMask, readFlags, writeFlags } from "../../isa/flags.ts";
import type { StateView } from "../../isa/state-view.ts";
import * as layout from "../../isa/state.ts";
import type { StateField } from "../../isa/state.ts";
import { normalizeDebugControl } from "../../isa/system/debug.ts";
import { Cr0Mask, EferMask, SegmentIndex } from "../../isa/system/mode.ts";
import { refreshSegmentEnds } from "../../isa/system/segments.ts";
import { Control } from "./controls.ts";
import type { VmxContext } from "./context.ts";
import { allUnchecked } from "./checks/pending.ts";
import { Field, guestPageDirectoryPointers, type VmcsField } from "./fields.ts";
import type { Vmcs } from "./vmcs.ts";

/** Bits of CR0 that no transition changes: ET, NW, CD and what is reserved. */
export const cr0KeptMask: number = ~(Cr0Mask.PE | Cr0Mask.MP | Cr0Mask.EM | Cr0Mask.TS | Cr0Mask.NE | Cr0Mask.WP | Cr0Mask.AM | Cr0Mask.PG);
export const debugControlMsr = 0x1d9;
/** DR7 after reset: no breakpoints. */
const debugControlReset = 0x400;
const dplShift = 5;
const privilegeMask = 3;
/** CR0 in a transition that loads `value`. */
export function loadCr0(state: StateView, value: number): void {
  state.setHalves(layout.cr0, ((value & ~cr0KeptMask) | (state.get32(layout.cr0) & cr0KeptMask)) >>> 0, 0);
}

export function load64(state: StateView, vmcs: Vmcs, target: StateField, source: VmcsField): void {
  state.setHalves(target, vmcs.get32(source), vmcs.getHigh32(source));
}

function save64(state: StateView, vmcs: Vmcs, source: StateField, target: VmcsField): void {
  vmcs.set32(target, state.get32(source));
  vmcs.setHigh32(target, state.getHigh32(source));
}

/**
 * Everything but interruptibility, activity and pending debug exceptions, and without telling the engine. `areSegmentsNew`:
 * the fields of segment registers, or CR0, may have been written since they were saved.
 */
export function loadGuestState(context: VmxContext, areSegmentsNew: boolean): void {
  const { state, vmcs, processor } = context;
  const isLong = context.has(Control.ia32eModeGuest);
  loadCr0(state, vmcs.get32(Field.guestCr0));
  context.functions.loadGuest(state.base, vmcs.place);
  if (context.has(Control.loadDebugControls)) {
    const value = vmcs.get32(Field.guestDr7);
    if (value === debugControlReset) state.setHalves(layout.dr[7], value, 0);
    else state.set64(layout.dr[7], normalizeDebugControl(BigInt(value)));
    loadDebugControl(processor.msrs, vmcs.get32(Field.guestDebugControl) === 0 && vmcs.getHigh32(Field.guestDebugControl) === 0
      ? 0n : vmcs.get(Field.guestDebugControl));
  }
  if (context.has(Control.entryLoadPat)) load64(state, vmcs, layout.pat, Field.guestPat);
  if (context.has(Control.entryLoadEfer)) load64(state, vmcs, layout.efer, Field.guestEfer);
  else state.setHalves(layout.efer, derivedEfer(state, isLong, (vmcs.get32(Field.guestCr0) & Cr0Mask.PG) !== 0), 0);
  if (areSegmentsNew) for (let index = 0; index < 8; index++) refreshSegmentEnds(state, index);
  writeFlags(state, vmcs.get32(Field.guestRflags), allFlagsMask);
  state.set32(layout.cpl, (state.get32(layout.segments[SegmentIndex.SS].attributes) >>> dplShift) & privilegeMask);
}

/** IA32_DEBUGCTL: plain storage, absent while it is 0. */
export function loadDebugControl(msrs: Map<number, bigint>, value: bigint): void {
  if (value !== 0n || msrs.has(debugControlMsr)) msrs.set(debugControlMsr, value);
}

/** IA32_EFER where it is not loaded: LMA is the guest's, and LME too while it pages. */
function derivedEfer(state: StateView, isLong: boolean, hasPaging: boolean): number {
  const efer = state.get32(layout.efer);
  const changed = hasPaging ? EferMask.LMA | EferMask.LME : EferMask.LMA;
  return (efer & ~changed) | (isLong ? changed : 0);
}

/** What VM exits save of registers. */
export function saveGuestState(context: VmxContext, resumeFlag: boolean): void {
  const { state, vmcs, processor } = context;
  context.functions.saveGuest(state.base, vmcs.place);
  if (context.has(Control.saveDebugControls)) {
    save64(state, vmcs, layout.dr[7], Field.guestDr7);
    vmcs.set(Field.guestDebugControl, processor.msrs.get(debugControlMsr) ?? 0n);
  }
  if (context.has(Control.savePat)) save64(state, vmcs, layout.pat, Field.guestPat);
  if (context.has(Control.saveEfer)) save64(state, vmcs, layout.efer, Field.guestEfer);
  const resumeMask = 0x1_0000;
  vmcs.set32(Field.guestRflags, (readFlags(state) & ~resumeMask) | (resumeFlag ? resumeMask : 0));
  vmcs.setHigh32(Field.guestRflags, 0);
  saveLongMode(context);
  if (context.has(Control.ept) && processor.memory.paging.mode === "pae") savePageDirectoryPointers(context);
}

/** The "IA-32e mode guest" control follows IA32_EFER.LMA. */
function saveLongMode({ state, vmcs }: VmxContext): void {
  const controls = vmcs.get32(Field.entryControls);
  const { mask } = Control.ia32eModeGuest;
  const isLong = (state.get32(layout.efer) & EferMask.LMA) !== 0;
  const updated = (isLong ? controls | mask : controls & ~mask) >>> 0;
  if (updated === controls) return;
  vmcs.set32(Field.entryControls, updated);
  vmcs.unchecked = allUnchecked;
}

function savePageDirectoryPointers({ vmcs, processor }: VmxContext): void {
  const words = processor.memory.paging.pdpte;
  for (const [index, field] of guestPageDirectoryPointers.entries()) {
    vmcs.set32(field, words[index * 2]);
    vmcs.setHigh32(field, words[index * 2 + 1]);
  }
}

/** With EPT the page-directory pointers of PAE paging are the VMCS's; otherwise memory has them. */
export function loadPageDirectoryPointers(context: VmxContext): void {
  const { vmcs, processor: { memory } } = context;
  if (memory.paging.mode !== "pae") return;
  if (!context.has(Control.ept)) return memory.loadPageDirectoryPointers();
  const words = memory.paging.pdpte;
  for (const [index, field] of guestPageDirectoryPointers.entries()) {
    words[index * 2] = vmcs.get32(field);
    words[index * 2 + 1] = vmcs.getHigh32(field);
  }
}

