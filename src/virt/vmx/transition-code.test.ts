/** Transitions in one function do what TypeScript does with fields and registers one by one, byte for byte; or nothing. */
import { beforeEach, expect, test } from "vitest";
import { modeFunctions } from "../../engine/mode-context.ts";
import { allFlagsMask, FlagMask, statusFlagsMask } from "../../isa/flags.ts";
import * as layout from "../../isa/state.ts";
import { Cr0Mask, EferMask } from "../../isa/system/mode.ts";
import { Random } from "../testing/random.ts";
import { Control } from "./controls.ts";
import { Field, type VmcsField } from "./fields.ts";
import { loadGuestState, saveGuestState } from "./guest-state.ts";
import { loadHostState } from "./host-state.ts";
import { FuzzedGuest } from "./testing/fuzzed-guest.ts";
import { Vmcs } from "./vmcs.ts";

const { vmx: { context }, machine: { processor } } = new FuzzedGuest();
const { state, functions } = context;
const { base } = state;
const modes = modeFunctions(processor.linearMemory);
const vmcs = new Vmcs(0x7000, state.u8.buffer, base + layout.vmcsOffset);
const leftPlace = base + layout.keptContextsOffset, enteredPlace = leftPlace + layout.keptContextSizeBytes;
const registersBytes = layout.scratch[0].offset;
const rounds = 200;
let random = new Random(0);

beforeEach(() => {
  random = new Random(77);
});

function fill(start: number, end: number): void {
  for (let at = start >>> 2; at < end >>> 2; at++) state.u32[at] = random.next();
}

function copyOf(start: number, sizeBytes: number): Uint8Array {
  return state.u8.slice(start, start + sizeBytes);
}

/** Registers, VMCS and both places of what is kept. */
function everything(): Uint8Array[] {
  return [copyOf(base, registersBytes), copyOf(vmcs.place, layout.vmcsSizeBytes), copyOf(leftPlace, layout.keptContextSizeBytes), copyOf(enteredPlace, layout.keptContextSizeBytes)];
}

function restore([registers, fields]: readonly Uint8Array[]): void {
  state.u8.set(registers, base);
  state.u8.set(fields, vmcs.place);
}

function setControl({ mask }: Control, field: VmcsField, isOn: boolean): void {
  vmcs.set32(field, isOn ? vmcs.get32(field) | mask : vmcs.get32(field) & ~mask);
}

/** Random registers and fields; of both only what transitions leave to the long way is ruled out. */
function prepare(): void {
  fill(base, base + registersBytes);
  fill(vmcs.place, vmcs.place + layout.vmcsSizeBytes);
  vmcs.unchecked = 0;
  state.set32(layout.systemFlags, state.get32(layout.systemFlags) & allFlagsMask & ~statusFlagsMask);
  state.setHalves(layout.cr0, state.get32(layout.cr0), 0);
  state.setHalves(layout.dr[7], state.get32(layout.dr[7]), 0);
  for (const none of [Field.guestInterruptibility, Field.guestActivity, Field.guestPendingDebugExceptions, Field.guestDebugControl]) vmcs.set(none, 0n);
  vmcs.set(Field.guestDr7, 0x400n | (vmcs.get(Field.guestDr7) & 0xffff_2bffn));
  setControl(Control.hostAddressSpaceSize, Field.exitControls, true);
  context.adopt(vmcs);
}

/** Before an entry; `after` is what TypeScript makes of it, and what is kept of the guest. */
function prepareEntry(): { readonly before: Uint8Array[]; readonly after: Uint8Array } {
  prepare();
  state.set32(layout.efer, state.get32(layout.efer) | EferMask.LMA);
  const before = everything();
  loadGuestState(context, false);
  for (const none of [layout.interruptShadow, layout.nmiBlocked, layout.activity]) state.set32(none, 0);
  modes.keep(base, enteredPlace);
  const after = copyOf(base, registersBytes);
  restore(before);
  return { before, after };
}

function prepareExit(): { readonly before: Uint8Array[]; readonly after: Uint8Array; readonly fields: Uint8Array; readonly resumeFlag: number } {
  prepare();
  for (const none of [layout.interruptShadow, layout.nmiBlocked, layout.activity]) state.set32(none, 0);
  setControl(Control.ia32eModeGuest, Field.entryControls, (state.get32(layout.efer) & EferMask.LMA) !== 0);
  context.adopt(vmcs);
  const before = everything(), resumeFlag = random.below(2) * FlagMask.RF;
  saveGuestState(context, resumeFlag !== 0);
  loadHostState(context);
  modes.keep(base, enteredPlace);
  const after = copyOf(base, registersBytes), fields = copyOf(vmcs.place, layout.vmcsSizeBytes);
  restore(before);
  return { before, after, fields, resumeFlag };
}

function enter(): number {
  return functions.resumeGuest(base, vmcs.place, leftPlace, enteredPlace);
}

function leave(resumeFlag: number): number {
  return functions.resumeHost(base, vmcs.place, leftPlace, enteredPlace, resumeFlag);
}

/** What is kept of the registers in `area`. */
function keptOf(area: Uint8Array): Uint8Array {
  const now = copyOf(base, registersBytes);
  state.u8.set(area, base);
  modes.keep(base, leftPlace);
  state.u8.set(now, base);
  return copyOf(leftPlace, layout.keptContextSizeBytes);
}

test("an entry loads what TypeScript loads, and keeps the host", () => {
  for (let round = 0; round < rounds; round++) {
    const { before, after } = prepareEntry();
    expect(enter()).toBe(1);
    expect(Buffer.compare(copyOf(base, registersBytes), after), `round ${round}`).toBe(0);
    expect(Buffer.compare(copyOf(vmcs.place, layout.vmcsSizeBytes), before[1]), `round ${round}`).toBe(0);
    const kept = copyOf(leftPlace, layout.keptContextSizeBytes);
    expect(Buffer.compare(kept, keptOf(before[0])), `round ${round}`).toBe(0);
  }
});

test("an exit saves and loads what TypeScript does, and keeps the guest", () => {
  for (let round = 0; round < rounds; round++) {
    const { before, after, fields, resumeFlag } = prepareExit();
    expect(leave(resumeFlag)).toBe(1);
    expect(Buffer.compare(copyOf(base, registersBytes), after), `round ${round}`).toBe(0);
    expect(Buffer.compare(copyOf(vmcs.place, layout.vmcsSizeBytes), fields), `round ${round}`).toBe(0);
    const kept = copyOf(leftPlace, layout.keptContextSizeBytes);
    expect(Buffer.compare(kept, keptOf(before[0])), `round ${round}`).toBe(0);
  }
});

/** Changes a word of the state area or of the VMCS. */
const inState = (field: layout.StateField, mask: number) => () => state.set32(field, state.get32(field) ^ mask);
const inFields = (field: VmcsField, mask: number) => () => vmcs.set32(field, vmcs.get32(field) ^ mask);
const inKept = (word: number, mask: number) => () => void (state.u32[(enteredPlace >>> 2) + word] ^= mask);
const kept = { cr0: 0, cr3: 2, cr4: 4, efer: 6, dr7: 8, pkru: 10 } as const;

const refusals = {
  "CR0 of the other one": inKept(kept.cr0, Cr0Mask.WP), "CR3 of the other one": inKept(kept.cr3, 0x1000), "upper half of CR3": inKept(kept.cr3 + 1, 1),
  "CR4 of the other one": inKept(kept.cr4, 0x80), "EFER of the other one": inKept(kept.efer, EferMask.NXE), "DR7 of the other one": inKept(kept.dr7, 1),
  "PKRU of the other one": inKept(kept.pkru, 4), "PKRU since": inState(layout.pkru, 8),
} as const;
const entryRefusals = {
  ...refusals, "the guest's CR0": inFields(Field.guestCr0, Cr0Mask.TS), "the guest's CR3": inFields(Field.guestCr3, 0x1000), "the guest's CR4": inFields(Field.guestCr4, 0x10),
  "blocking by STI": inFields(Field.guestInterruptibility, 1), "a halted guest": inFields(Field.guestActivity, 1),
  "a pending debug exception": inFields(Field.guestPendingDebugExceptions, 1), "a host outside of IA-32e mode": inState(layout.efer, EferMask.LMA),
} as const;
const exitRefusals = {
  ...refusals, "the host's CR0": inFields(Field.hostCr0, Cr0Mask.TS), "the host's CR3": inFields(Field.hostCr3, 0x1000), "the host's CR4": inFields(Field.hostCr4, 0x10),
  "blocking of NMIs": inState(layout.nmiBlocked, 1), "an interrupt shadow": inState(layout.interruptShadow, 1), "a halted guest": inState(layout.activity, 1),
  "another mode of the guest": inFields(Field.entryControls, Control.ia32eModeGuest.mask),
} as const;

test.each(Object.entries(entryRefusals))("an entry is refused for %s, with nothing changed", (_, change) => {
  prepareEntry();
  change();
  const changed = everything();
  expect(enter()).toBe(0);
  expect(everything()).toEqual(changed);
});

test("an entry that loads debug controls is refused for IA32_DEBUGCTL", () => {
  for (const loads of [true, false]) {
    prepareEntry();
    setControl(Control.loadDebugControls, Field.entryControls, loads);
    context.adopt(vmcs);
    const before = everything();
    loadGuestState(context, false);
    modes.keep(base, enteredPlace);
    restore(before);
    vmcs.set(Field.guestDebugControl, 1n);
    expect(enter()).toBe(loads ? 0 : 1);
  }
});

test.each(Object.entries(exitRefusals))("an exit is refused for %s, with nothing changed", (_, change) => {
  const { resumeFlag } = prepareExit();
  change();
  const changed = everything();
  expect(leave(resumeFlag)).toBe(0);
  expect(everything()).toEqual(changed);
});

test.each([["level", 3], ["flags", FlagMask.TF], ["flags", FlagMask.AC]] as const)("an exit is refused for another %s of the host, %i", (what, value) => {
  const { resumeFlag } = prepareExit();
  const now = copyOf(base, registersBytes);
  loadHostState(context);
  state.set32(what === "level" ? layout.cpl : layout.systemFlags, value);
  modes.keep(base, enteredPlace);
  state.u8.set(now, base);
  const changed = everything();
  expect(leave(resumeFlag)).toBe(0);
  expect(everything()).toEqual(changed);
});
