/** The guest-state area: loaded by VM entry, saved by VM exits (SDM volume 3, "Loading Guest State" and "Saving Guest State"). */
import { allFlagsMask, readFlags, writeFlags } from "../../isa/flags.ts";
import type { StateView } from "../../isa/state-view.ts";
import * as layout from "../../isa/state.ts";
import type { StateField } from "../../isa/state.ts";
import { normalizeDebugControl } from "../../isa/system/debug.ts";
import { Cr0Mask, EferMask, SegmentIndex } from "../../isa/system/mode.ts";
import { loadSegmentCache } from "../../isa/system/segments.ts";
import { Control } from "./controls.ts";
import type { VmxContext } from "./context.ts";
import { Field, guestPageDirectoryPointers, guestSegments, type VmcsField } from "./fields.ts";
import type { Vmcs } from "./vmcs.ts";

/** Bits of CR0 that no transition changes: ET, NW, CD and what is reserved. */
const cr0KeptMask = ~(Cr0Mask.PE | Cr0Mask.MP | Cr0Mask.EM | Cr0Mask.TS | Cr0Mask.NE | Cr0Mask.WP | Cr0Mask.AM | Cr0Mask.PG);
export const debugControlMsr = 0x1d9;
const dplShift = 5;
const privilegeMask = 3;
const stackPointer = layout.gpr[4];

/** CR0 after a transition that loads `value`. */
export function loadedCr0(state: StateView, value: number): bigint {
  return BigInt(((value & ~cr0KeptMask) | (state.get32(layout.cr0) & cr0KeptMask)) >>> 0);
}

function load64(state: StateView, vmcs: Vmcs, target: StateField, source: VmcsField): void {
  const at = (state.base + target.offset) >>> 2;
  state.u32[at] = vmcs.get32(source);
  state.u32[at + 1] = vmcs.getHigh32(source);
}

function save64(state: StateView, vmcs: Vmcs, source: StateField, target: VmcsField): void {
  vmcs.set32(target, state.get32(source));
  vmcs.setHigh32(target, state.getHigh32(source));
}

/** Registers of 64 bits that are loaded and saved as they are. */
const plainRegisters: readonly (readonly [StateField, VmcsField])[] = [
  [layout.cr3, Field.guestCr3], [layout.cr4, Field.guestCr4], [layout.rip, Field.guestRip], [stackPointer, Field.guestRsp],
  [layout.gdtrBase, Field.guestGdtrBase], [layout.idtrBase, Field.guestIdtrBase],
  [layout.sysenterEsp, Field.guestSysenterEsp], [layout.sysenterEip, Field.guestSysenterEip],
];

/** Everything but interruptibility, activity and pending debug exceptions, and without telling the engine. */
export function loadGuestState(context: VmxContext): void {
  const { state, vmcs, processor } = context;
  const isLong = context.has(Control.ia32eModeGuest);
  state.set64(layout.cr0, loadedCr0(state, vmcs.get32(Field.guestCr0)));
  for (const [target, source] of plainRegisters) load64(state, vmcs, target, source);
  state.set32(layout.gdtrLimit, vmcs.get32(Field.guestGdtrLimit));
  state.set32(layout.idtrLimit, vmcs.get32(Field.guestIdtrLimit));
  state.set64(layout.sysenterCs, BigInt(vmcs.get32(Field.guestSysenterCs)));
  if (context.has(Control.loadDebugControls)) {
    state.set64(layout.dr[7], normalizeDebugControl(vmcs.get(Field.guestDr7)));
    processor.msrs.set(debugControlMsr, vmcs.get(Field.guestDebugControl));
  }
  if (context.has(Control.entryLoadPat)) load64(state, vmcs, layout.pat, Field.guestPat);
  if (context.has(Control.entryLoadEfer)) load64(state, vmcs, layout.efer, Field.guestEfer);
  else state.set64(layout.efer, BigInt(derivedEfer(state, isLong, (vmcs.get32(Field.guestCr0) & Cr0Mask.PG) !== 0)));
  loadSegments(state, vmcs);
  writeFlags(state, vmcs.get32(Field.guestRflags), allFlagsMask);
  state.set32(layout.cpl, (state.get32(layout.segments[SegmentIndex.SS].attributes) >>> dplShift) & privilegeMask);
}

/** IA32_EFER where it is not loaded: LMA is the guest's, and LME too while it pages. */
function derivedEfer(state: StateView, isLong: boolean, hasPaging: boolean): number {
  const efer = state.get32(layout.efer);
  const changed = hasPaging ? EferMask.LMA | EferMask.LME : EferMask.LMA;
  return (efer & ~changed) | (isLong ? changed : 0);
}

function loadSegments(state: StateView, vmcs: Vmcs): void {
  for (let index = 0; index < 8; index++) {
    const { selector, base, limit, accessRights } = guestSegments[index];
    loadSegmentCache(state, index, vmcs.get32(selector), {
      base: vmcs.get(base), limit: vmcs.get32(limit), attributes: vmcs.get32(accessRights),
    });
  }
}

/** What VM exits save of registers. */
export function saveGuestState(context: VmxContext, resumeFlag: boolean): void {
  const { state, vmcs, processor } = context;
  save64(state, vmcs, layout.cr0, Field.guestCr0);
  for (const [source, target] of plainRegisters) save64(state, vmcs, source, target);
  vmcs.set32(Field.guestGdtrLimit, state.get32(layout.gdtrLimit));
  vmcs.set32(Field.guestIdtrLimit, state.get32(layout.idtrLimit));
  vmcs.set32(Field.guestSysenterCs, state.get32(layout.sysenterCs));
  if (context.has(Control.saveDebugControls)) {
    save64(state, vmcs, layout.dr[7], Field.guestDr7);
    vmcs.set(Field.guestDebugControl, processor.msrs.get(debugControlMsr) ?? 0n);
  }
  if (context.has(Control.savePat)) save64(state, vmcs, layout.pat, Field.guestPat);
  if (context.has(Control.saveEfer)) save64(state, vmcs, layout.efer, Field.guestEfer);
  for (let index = 0; index < 8; index++) {
    const { selector, base, limit, accessRights } = guestSegments[index];
    const fields = layout.segments[index];
    vmcs.set32(selector, state.get16(fields.selector));
    save64(state, vmcs, fields.base, base);
    vmcs.set32(limit, state.get32(fields.limit));
    vmcs.set32(accessRights, state.get32(fields.attributes));
  }
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
  vmcs.set32(Field.entryControls, (isLong ? controls | mask : controls & ~mask) >>> 0);
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

