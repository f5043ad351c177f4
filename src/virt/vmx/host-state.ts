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

const flatLimit = 0xffff_ffff;
const codeAttributes = 0x8000 | 0x80 | 0x10 | 0xb;
const dataAttributes = 0x8000 | 0x4000 | 0x80 | 0x10 | 0x3;
const taskAttributes = 0x8b;
const taskLimit = 0x67;
const tableLimit = 0xffff;
const bases: ReadonlyMap<number, VmcsField> = new Map([
  [SegmentIndex.FS, Field.hostFSBase], [SegmentIndex.GS, Field.hostGSBase], [SegmentIndex.TR, Field.hostTRBase],
]);

const dataSegments: readonly (readonly [index: number, selector: VmcsField])[] = [
  [SegmentIndex.ES, Field.hostESSelector], [SegmentIndex.SS, Field.hostSSSelector], [SegmentIndex.DS, Field.hostDSSelector],
  [SegmentIndex.FS, Field.hostFSSelector], [SegmentIndex.GS, Field.hostGSSelector],
];

/** Registers of the host, and what goes with the instruction that was left; without telling the engine. */
export function loadHostState(context: VmxContext): void {
  const { state, vmcs, processor } = context;
  const isLong = context.has(Control.hostAddressSpaceSize);
  loadCr0(state, vmcs.get32(Field.hostCr0));
  const areSegmentsKnown = (vmcs.unchecked & Unchecked.hostSegments) === 0;
  context.functions.loadHost(state.base, vmcs.place);
  if (areSegmentsKnown) context.functions.loadHostSegments(state.base, vmcs.place);
  state.setHalves(layout.cr4, vmcs.get32(Field.hostCr4) | (isLong ? Cr4Mask.PAE : 0), 0);
  loadDebugControl(processor.msrs, 0n);
  const longMask = EferMask.LMA | EferMask.LME;
  const efer = context.has(Control.exitLoadEfer) ? vmcs.get32(Field.hostEfer) : state.get32(layout.efer);
  state.setHalves(layout.efer, isLong ? efer | longMask : efer & ~longMask, 0);
  if (context.has(Control.exitLoadPat)) load64(state, vmcs, layout.pat, Field.hostPat);
  if (!areSegmentsKnown) makeSegments(context, isLong);
  writeFlags(state, 0, allFlagsMask);
}

/** The block that VM exits load is made once and kept until its fields are written. */
function makeSegments({ state, vmcs, functions }: VmxContext, isLong: boolean): void {
  const load = (index: number, selector: number, limit: number, attributes: number): void => {
    const fields = layout.segments[index];
    state.set16(fields.selector, selector);
    const base = bases.get(index);
    if (base === undefined) state.setHalves(fields.base, 0, 0);
    else load64(state, vmcs, fields.base, base);
    state.set32(fields.limit, limit);
    state.set32(fields.attributes, attributes);
    refreshSegmentEnds(state, index);
  };
  const code = codeAttributes | (isLong ? SegmentAttribute.long : SegmentAttribute.big);
  load(SegmentIndex.CS, vmcs.get32(Field.hostCSSelector), flatLimit, code);
  for (const [index, selectorField] of dataSegments) {
    const selector = vmcs.get32(selectorField);
    load(index, selector, flatLimit, selector === 0 ? SegmentAttribute.unusable : dataAttributes);
  }
  load(SegmentIndex.TR, vmcs.get32(Field.hostTRSelector), taskLimit, taskAttributes);
  load(SegmentIndex.LDTR, 0, 0, SegmentAttribute.unusable);
  load64(state, vmcs, layout.gdtrBase, Field.hostGdtrBase);
  load64(state, vmcs, layout.idtrBase, Field.hostIdtrBase);
  state.set32(layout.gdtrLimit, tableLimit);
  state.set32(layout.idtrLimit, tableLimit);
  functions.keepHostSegments(state.base, vmcs.place);
  vmcs.unchecked &= ~Unchecked.hostSegments;
}
