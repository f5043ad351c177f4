/** The host-state area, loaded by VM exits (SDM volume 3, "Loading Host State"). */
import { allFlagsMask, writeFlags } from "../../isa/flags.ts";
import * as layout from "../../isa/state.ts";
import { normalizeDebugControl } from "../../isa/system/debug.ts";
import { Cr4Mask, EferMask, SegmentAttribute, SegmentIndex } from "../../isa/system/mode.ts";
import { loadSegmentCache } from "../../isa/system/segments.ts";
import { Control } from "./controls.ts";
import type { VmxContext } from "./context.ts";
import { Field, type VmcsField } from "./fields.ts";
import { debugControlMsr, loadedCr0 } from "./guest-state.ts";

const debugControlAfterExit = 0x400n;
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
  state.set64(layout.cr0, loadedCr0(state, vmcs.get32(Field.hostCr0)));
  state.set64(layout.cr3, vmcs.get(Field.hostCr3));
  state.set64(layout.cr4, vmcs.get(Field.hostCr4) | (isLong ? BigInt(Cr4Mask.PAE) : 0n));
  state.set64(layout.dr[7], normalizeDebugControl(debugControlAfterExit));
  if (processor.msrs.has(debugControlMsr)) processor.msrs.set(debugControlMsr, 0n);
  state.set64(layout.sysenterCs, BigInt(vmcs.get32(Field.hostSysenterCs)));
  state.set64(layout.sysenterEsp, vmcs.get(Field.hostSysenterEsp));
  state.set64(layout.sysenterEip, vmcs.get(Field.hostSysenterEip));
  const longMask = EferMask.LMA | EferMask.LME;
  const efer = context.has(Control.exitLoadEfer) ? vmcs.get32(Field.hostEfer) : state.get32(layout.efer);
  state.set64(layout.efer, BigInt(isLong ? efer | longMask : efer & ~longMask));
  if (context.has(Control.exitLoadPat)) state.set64(layout.pat, vmcs.get(Field.hostPat));
  loadSegments(context, isLong);
  state.set64(layout.gdtrBase, vmcs.get(Field.hostGdtrBase));
  state.set64(layout.idtrBase, vmcs.get(Field.hostIdtrBase));
  state.set32(layout.gdtrLimit, tableLimit);
  state.set32(layout.idtrLimit, tableLimit);
  state.set64(layout.rip, vmcs.get(Field.hostRip));
  state.set64(stackPointer, vmcs.get(Field.hostRsp));
  writeFlags(state, 0, allFlagsMask);
  state.set32(layout.cpl, 0);
}

function loadSegments({ state, vmcs }: VmxContext, isLong: boolean): void {
  loadSegmentCache(state, SegmentIndex.CS, vmcs.get32(Field.hostCSSelector), {
    base: 0n, limit: flatLimit, attributes: codeAttributes | (isLong ? SegmentAttribute.long : SegmentAttribute.big),
  });
  for (const [index, selectorField, baseField] of dataSegments) {
    const selector = vmcs.get32(selectorField);
    loadSegmentCache(state, index, selector, {
      base: baseField === undefined ? 0n : vmcs.get(baseField), limit: flatLimit,
      attributes: selector === 0 ? SegmentAttribute.unusable : dataAttributes,
    });
  }
  loadSegmentCache(state, SegmentIndex.TR, vmcs.get32(Field.hostTRSelector), {
    base: vmcs.get(Field.hostTRBase), limit: taskLimit, attributes: taskAttributes,
  });
  loadSegmentCache(state, SegmentIndex.LDTR, 0, { base: 0n, limit: 0, attributes: SegmentAttribute.unusable });
}
