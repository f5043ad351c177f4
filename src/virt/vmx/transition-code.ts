/** What VM entries and exits do with registers, in generated code (SDM volume 3, "VM Entries" and "VM Exits"). */
import { KeptContext } from "../../engine/mode-context.ts";
import { pathFunctions, type PathFunction } from "../../engine/path-functions.ts";
import type { WasmMemory } from "../../engine/web-assembly.ts";
import { constant, fastPath, readMemory, when, writeMemory, type Bits, type FastPath } from "../../ir/index.ts";
import { field, has, loadRegisters, refuseIf, saveRegisters, setField, setRegisters, statusFlags } from "../../isa/fast-path-parts.ts";
import { allFlagsMask, FlagMask, statusFlagsMask } from "../../isa/flags.ts";
import * as layout from "../../isa/state.ts";
import { Activity, Cr0Mask, Cr4Mask, EferMask, SegmentAttribute, SegmentIndex } from "../../isa/system/mode.ts";
import { Control } from "./controls.ts";
import { Field, type VmcsField } from "./fields.ts";
import { cr0KeptMask } from "./guest-state.ts";
import { debugControlAfterExit, RegisterCopy } from "./register-copies.ts";

const longMask: number = EferMask.LMA | EferMask.LME;

/** The VMCS whose place in linear memory is an argument. */
class VmcsBits {
  readonly place: Bits<32>;

  constructor(place: Bits<32>) {
    this.place = place;
  }

  get32({ offset }: VmcsField): Bits<32> {
    return readMemory(32, this.place.add(offset));
  }

  get64({ offset }: VmcsField): Bits<64> {
    return readMemory(64, this.place.add(offset));
  }

  set32({ offset }: VmcsField, value: Bits<32>): void {
    writeMemory(this.place.add(offset), value);
  }

  set64({ offset }: VmcsField, value: Bits<64>): void {
    writeMemory(this.place.add(offset), value);
  }

  has({ mask }: Control, controls: VmcsField): Bits<1> {
    return has(this.get32(controls), mask);
  }
}

function allOf(conditions: readonly Bits<1>[]): Bits<1> {
  return conditions.reduce((all, condition) => all.and(condition));
}

/** CR0 in a transition that loads `value`: see `loadCr0`. */
function cr0With(value: Bits<32>): Bits<64> {
  return value.xor(value.xor(field(layout.cr0, 32)).and(cr0KeptMask >>> 0)).zext(64);
}

/** Registers that the mode depends on, as the transition is going to leave them. */
type ModeRegisters = Readonly<Record<"cr0" | "cr3" | "cr4" | "efer" | "dr7", Bits<64>>>;

/** Whether they are those with which the context at `place` ended; PKRU is nobody's. */
function areKept(place: Bits<32>, { cr0, cr3, cr4, efer, dr7 }: ModeRegisters): Bits<1> {
  return allOf([
    KeptContext.register(place, layout.cr0).eq(cr0), KeptContext.register(place, layout.cr3).eq(cr3), KeptContext.register(place, layout.cr4).eq(cr4),
    KeptContext.register(place, layout.efer).eq(efer), KeptContext.register(place, layout.dr[7]).eq(dr7),
    KeptContext.register(place, layout.pkru).eq(field(layout.pkru, 32).zext(64)),
  ]);
}

/** Sets RFLAGS; status flags as `writeFlags` has them. */
function setFlags(value: Bits<32>): void {
  const carry = value.and(FlagMask.CF), overflow = value.shr(11).and(1);
  const aux = carry.shl(31).or(carry.xor(overflow).shl(30)).or(value.and(FlagMask.AF).shr(1)).or(value.and(FlagMask.SF).shr(7))
    .or(value.and(FlagMask.PF).xor(FlagMask.PF).shl(6));
  setField(layout.flagsAux, aux);
  setField(layout.flagsResult, value.and(FlagMask.ZF).xor(FlagMask.ZF).shl(2).zext(64));
  setField(layout.systemFlags, value.and((allFlagsMask & ~statusFlagsMask) >>> 0));
}

const patField = (vmcsField: VmcsField): { offset: number; width: 64; at: number } => ({ offset: layout.pat.offset, width: 64, at: vmcsField.offset });

/**
 * VM entry to a guest that goes on as it ended, where nothing but its RIP has been written since. Arguments: places of the VMCS, of
 * what is kept of the host, and of the guest.
 */
const resumeGuest: () => FastPath = fastPath([32, 32, 32], (place, left, entered) => {
  const vmcs = new VmcsBits(place as Bits<32>), host = left as Bits<32>, guest = entered as Bits<32>;
  const controls = Field.entryControls;
  const waiting = vmcs.get32(Field.guestInterruptibility).or(vmcs.get32(Field.guestActivity)).or(vmcs.get32(Field.guestPendingDebugExceptions));
  const loadsDebug = vmcs.has(Control.loadDebugControls, controls);
  const value = vmcs.get32(Field.guestCr0), hostEfer = field(layout.efer, 32);
  // Where EFER is not loaded, LMA is the guest's, and LME too while it pages.
  const changed = has(value, Cr0Mask.PG).select(constant(32, longMask), constant(32, EferMask.LMA));
  const derivedEfer = hostEfer.and(changed.not()).or(vmcs.has(Control.ia32eModeGuest, controls).select(changed, constant(32, 0)));
  const registers = {
    cr0: cr0With(value), cr3: vmcs.get64(Field.guestCr3), cr4: vmcs.get64(Field.guestCr4),
    efer: vmcs.has(Control.entryLoadEfer, controls).select(vmcs.get64(Field.guestEfer), derivedEfer.zext(64)),
    dr7: loadsDebug.select(vmcs.get32(Field.guestDr7).zext(64), field(layout.dr[7], 64)),
  };
  refuseIf(allOf([
    waiting.isZero(), has(hostEfer, EferMask.LMA), areKept(guest, registers), loadsDebug.and(vmcs.get64(Field.guestDebugControl).ne(0)).xor(1),
  ]).xor(1));
  KeptContext.keep(host);
  RegisterCopy.loadGuest(vmcs.place);
  setField(layout.cr0, registers.cr0);
  setField(layout.efer, registers.efer);
  setField(layout.dr[7], registers.dr7);
  when(vmcs.has(Control.entryLoadPat, controls), () => loadRegisters([patField(Field.guestPat)], vmcs.place));
  setFlags(vmcs.get32(Field.guestRflags));
  setField(layout.cpl, field(layout.segments[SegmentIndex.SS].attributes, 32).shr(SegmentAttribute.dplShift).and(3));
  setRegisters([[layout.interruptShadow, 0], [layout.nmiBlocked, 0], [layout.activity, Activity.active]]);
  KeptContext.restore(guest);
});

/**
 * VM exit to a 64-bit host that goes on as it ended, from a guest without blocking. Arguments: places of the VMCS, of what is kept
 * of the guest, and of the host; RF as it is saved, at its place.
 */
const resumeHost: () => FastPath = fastPath([32, 32, 32, 32], (place, left, entered, resumeFlag) => {
  const vmcs = new VmcsBits(place as Bits<32>), guest = left as Bits<32>, host = entered as Bits<32>;
  const controls = Field.exitControls;
  const efer = field(layout.efer, 64);
  const isLong = has(efer.trunc(32), EferMask.LMA);
  const hostEfer = vmcs.has(Control.exitLoadEfer, controls).select(vmcs.get32(Field.hostEfer), efer.trunc(32));
  const registers = {
    cr0: cr0With(vmcs.get32(Field.hostCr0)), cr3: vmcs.get64(Field.hostCr3), cr4: vmcs.get32(Field.hostCr4).or(Cr4Mask.PAE).zext(64),
    efer: hostEfer.or(longMask).zext(64), dr7: constant(64, debugControlAfterExit),
  };
  refuseIf(allOf([
    field(layout.nmiBlocked, 32).or(field(layout.activity, 32)).or(field(layout.interruptShadow, 32)).isZero(),
    // The "IA-32e mode guest" control would have to follow.
    isLong.eq(vmcs.has(Control.ia32eModeGuest, Field.entryControls)),
    KeptContext.isAtKernelLevel(host), areKept(host, registers),
  ]).xor(1));
  KeptContext.keep(guest);
  RegisterCopy.saveGuest(vmcs.place);
  when(vmcs.has(Control.saveDebugControls, controls), () => {
    vmcs.set64(Field.guestDr7, field(layout.dr[7], 64));
    vmcs.set64(Field.guestDebugControl, constant(64, 0));
  });
  when(vmcs.has(Control.savePat, controls), () => saveRegisters([patField(Field.guestPat)], vmcs.place));
  when(vmcs.has(Control.saveEfer, controls), () => vmcs.set64(Field.guestEfer, efer));
  const systemFlags = field(layout.systemFlags, 32).and(~FlagMask.RF >>> 0).or(resumeFlag as Bits<32>);
  vmcs.set64(Field.guestRflags, statusFlags().or(systemFlags).or(FlagMask.fixed).zext(64));
  for (const none of [Field.guestInterruptibility, Field.guestActivity]) vmcs.set32(none, constant(32, 0));
  vmcs.set64(Field.guestPendingDebugExceptions, constant(64, 0));
  RegisterCopy.loadHost(vmcs.place);
  RegisterCopy.loadHostSegments(vmcs.place);
  setField(layout.cr0, registers.cr0);
  setField(layout.cr4, registers.cr4);
  setField(layout.efer, registers.efer);
  when(vmcs.has(Control.exitLoadPat, controls), () => loadRegisters([patField(Field.hostPat)], vmcs.place));
  setFlags(constant(32, 0));
  KeptContext.restore(host);
});

type Name = "loadGuest" | "saveGuest" | "loadHost" | "loadHostSegments" | "keepHostSegments" | "resumeGuest" | "resumeHost";

/** The first argument of each is the processor's area, the second one the VMCS's place. */
export type TransitionFunctions = Readonly<Record<Name, PathFunction>>;

export function transitionFunctions(memory: WasmMemory): TransitionFunctions {
  const alone = (part: (vmcs: Bits<32>) => void): (() => FastPath) => fastPath([32], (vmcs) => part(vmcs as Bits<32>));
  return pathFunctions(memory, {
    loadGuest: alone(RegisterCopy.loadGuest), saveGuest: alone(RegisterCopy.saveGuest), loadHost: alone(RegisterCopy.loadHost),
    loadHostSegments: alone(RegisterCopy.loadHostSegments), keepHostSegments: alone(RegisterCopy.keepHostSegments), resumeGuest, resumeHost,
  });
}
