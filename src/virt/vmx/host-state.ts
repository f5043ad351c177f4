/** The host-state area, loaded by VM exits (SDM volume 3, "Loading Host State"). */
import { allFlagsMask, writeFlags } from "../../isa/flags.ts";
import * as layout from "../../isa/state.ts";
import { Cr4Mask, EferMask, SegmentAttribute, SegmentIndex } from "../../isa/system/mode.ts";
import { refreshSegmentEnds } from "../../isa/system/segments.ts";
import { Unchecked } from "./checks/pending.ts";
import { Control } from "./controls.ts";
import type { VmxContext } from "./context.ts";
import { Field, type VmcsField } from "./fields.ts";
import { load64, loadCr0, loadDebugControl } from "./guest-state.ts";

const debugControlAfterExit = 0x400;
const flatLimit = 0xffff_ffff;
const codeAttributes = 0x8000 | 0x80 | 0x10 | 0xb;
const dataAttributes = 0x8000 | 0x4000 | 0x80 | 0x10 | 0x3;
const taskAttributes = 0x8b;
const taskLimit = 0x67;
const tableLimit = 0xffff;
const stackPointer = layout.gpr[4];

const dataSegments: readonly (readonly [index: number, selector: VmcsField, base: VmcsField | undefined])[] = [
  [SegmentIndex.ES, Field.hostESSelector, undefined], [SegmentIndex.SS, Field.hostSSSelector, undefined],
  [SegmentIndex.DS, Field.hostDSSelector, undefined], [SegmentIndex.FS, Field.hostFSSelector, Field.hostFSBase],
  [SegmentIndex.GS, Field.hostGSSelector, Field.hostGSBase],
];

/** Registers of the host, without telling the engine. */
export function loadHostState(context: VmxContext): void {
  const { state, vmcs, processor } = context;
  const isLong = context.has(Control.hostAddressSpaceSize);
  loadCr0(state, vmcs.get32(Field.hostCr0));
  load64(state, vmcs, layout.cr3, Field.hostCr3);
  state.setHalves(layout.cr4, vmcs.get32(Field.hostCr4) | (isLong ? Cr4Mask.PAE : 0), 0);
  state.setHalves(layout.dr[7], debugControlAfterExit, 0);
  loadDebugControl(processor.msrs, 0n);
  state.setHalves(layout.sysenterCs, vmcs.get32(Field.hostSysenterCs), 0);
  load64(state, vmcs, layout.sysenterEsp, Field.hostSysenterEsp);
  load64(state, vmcs, layout.sysenterEip, Field.hostSysenterEip);
  const longMask = EferMask.LMA | EferMask.LME;
  const efer = context.has(Control.exitLoadEfer) ? vmcs.get32(Field.hostEfer) : state.get32(layout.efer);
  state.setHalves(layout.efer, isLong ? efer | longMask : efer & ~longMask, 0);
  if (context.has(Control.exitLoadPat)) load64(state, vmcs, layout.pat, Field.hostPat);
  loadSegments(context, isLong);
  load64(state, vmcs, layout.rip, Field.hostRip);
  load64(state, vmcs, stackPointer, Field.hostRsp);
  writeFlags(state, 0, allFlagsMask);
  state.set32(layout.cpl, 0);
}

/** The block that VM exits load is made once and kept until its fields are written. */
function loadSegments({ state, vmcs, segmentWords }: VmxContext, isLong: boolean): void {
  if ((vmcs.unchecked & Unchecked.hostSegments) === 0) return segmentWords.set(vmcs.hostSegmentWords);
  const load = (index: number, selector: number, base: VmcsField | undefined, limit: number, attributes: number): void => {
    const fields = layout.segments[index];
    state.set16(fields.selector, selector);
    if (base === undefined) state.setHalves(fields.base, 0, 0);
    else load64(state, vmcs, fields.base, base);
    state.set32(fields.limit, limit);
    state.set32(fields.attributes, attributes);
    refreshSegmentEnds(state, index);
  };
  const code = codeAttributes | (isLong ? SegmentAttribute.long : SegmentAttribute.big);
  load(SegmentIndex.CS, vmcs.get32(Field.hostCSSelector), undefined, flatLimit, code);
  for (const [index, selectorField, base] of dataSegments) {
    const selector = vmcs.get32(selectorField);
    load(index, selector, base, flatLimit, selector === 0 ? SegmentAttribute.unusable : dataAttributes);
  }
  load(SegmentIndex.TR, vmcs.get32(Field.hostTRSelector), Field.hostTRBase, taskLimit, taskAttributes);
  load(SegmentIndex.LDTR, 0, undefined, 0, SegmentAttribute.unusable);
  load64(state, vmcs, layout.gdtrBase, Field.hostGdtrBase);
  load64(state, vmcs, layout.idtrBase, Field.hostIdtrBase);
  state.set32(layout.gdtrLimit, tableLimit);
  state.set32(layout.idtrLimit, tableLimit);
  vmcs.hostSegmentWords.set(segmentWords);
  vmcs.unchecked &= ~Unchecked.hostSegments;
}
