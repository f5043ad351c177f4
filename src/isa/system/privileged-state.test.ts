import { expect, test } from "vitest";
import { Status } from "../../ir/index.ts";
import { FlagMask, allFlagsMask, readFlags, writeFlags } from "../flags.ts";
import { createCpuModel } from "../models/index.ts";
import * as layout from "../state.ts";
import { At, Selector, longModeProcessor, protectedModeProcessor } from "../testing/descriptors.ts";
import { FlatProcessor } from "../testing/flat-processor.ts";
import { writeControlRegister, writeDebugRegister } from "./control-registers.ts";
import { hasDataBreakpoints, hasInstructionBreakpoints, matchData, matchInstruction } from "./debug.ts";
import { fxrstor, fxsave, xrstor, xsave } from "./extended-state.ts";
import { systemCall, systemReturn } from "./fast-calls.ts";
import { Cr0Mask, Cr4Mask, EferMask, SegmentIndex, is64BitMode, isLongMode } from "./mode.ts";
import { Msr, readMsr, writeMsr } from "./model-specific.ts";
import { checkPortAccess, readPort, writePort } from "./port-io.ts";
import { loadTaskRegister } from "./selector-queries.ts";

test("SYSCALL and SYSRET change levels and keep flags and stack", () => {
  const p = longModeProcessor(3);
  const { state } = p;
  state.set64(layout.star, (0x0013n << 48n) | (0x0008n << 32n));
  state.set64(layout.lstar, 0xffff_ffff_8100_0000n);
  state.set64(layout.fmask, BigInt(FlagMask.IF | FlagMask.DF));
  writeFlags(state, FlagMask.IF | FlagMask.DF | FlagMask.ZF, allFlagsMask);
  expect(systemCall(p)).toBe(Status.Branch);
  expect(state.get64(layout.rip)).toBe(0xffff_ffff_8100_0000n);
  expect(state.get64(layout.gpr[1])).toBe(BigInt(At.code + 2));
  expect(readFlags(state)).toBe(FlagMask.ZF | FlagMask.fixed);
  expect([state.get32(layout.cpl), state.get16(layout.segments[SegmentIndex.CS].selector)]).toEqual([0, 8]);
  expect(is64BitMode(state)).toBe(true);
  expect(systemReturn(p, 64)).toBe(Status.Branch);
  expect(state.get64(layout.rip)).toBe(BigInt(At.code + 2));
  expect(readFlags(state)).toBe(FlagMask.IF | FlagMask.DF | FlagMask.ZF | FlagMask.fixed);
  expect([state.get16(layout.segments[SegmentIndex.CS].selector), state.get16(layout.segments[SegmentIndex.SS].selector)]).toEqual([0x23, 0x1b]);
  expect(state.get32(layout.cpl)).toBe(3);
});

test("SYSRET to a non-canonical address is #GP at level 0", () => {
  const p = longModeProcessor(0);
  p.state.set64(layout.gpr[1], 0x8000_0000_0000n);
  expect(systemReturn(p, 64)).toBe(Status.Fault);
  expect(p.fault).toEqual([13, 0]);
});

test("long mode is entered by LME, PAE and PG in that order", () => {
  const p = protectedModeProcessor(0);
  const { state } = p;
  expect(writeMsr(p, Msr.EFER, BigInt(EferMask.LME))).toBe(true);
  const paged = BigInt(Cr0Mask.PE | Cr0Mask.ET) | BigInt(Cr0Mask.PG);
  expect(writeControlRegister(p, 0, paged)).toBe(Status.Fault);
  p.clearFault();
  expect(writeControlRegister(p, 4, BigInt(Cr4Mask.PAE))).toBe(Status.Next);
  expect(writeControlRegister(p, 0, paged)).toBe(Status.Next);
  expect([isLongMode(state), is64BitMode(state)]).toEqual([true, false]);
  expect(writeControlRegister(p, 4, 0n)).toBe(Status.Fault);
  p.clearFault();
  expect(writeMsr(p, Msr.EFER, 0n)).toBe(false);
  expect(writeControlRegister(p, 0, BigInt(Cr0Mask.PE))).toBe(Status.Next);
  expect(isLongMode(state)).toBe(false);
});

test.each([
  ["PG without PE", 0, 0x8000_0000n], ["NW without CD", 0, 0x2000_0001n], ["upper half of CR0", 0, 1n << 32n],
  ["an unknown bit of CR4", 4, 1n << 31n], ["PCIDE outside of long mode", 4, BigInt(Cr4Mask.PCIDE)], ["CR8 above 15", 8, 16n],
] as const)("%s is refused", (_, register, value) => {
  const p = protectedModeProcessor(0);
  expect(writeControlRegister(p, register, value)).toBe(Status.Fault);
  expect(p.fault).toEqual([13, 0]);
});

test("model-specific registers check what is written", () => {
  const p = new FlatProcessor(createCpuModel("intel-v2", { tscFrequencyHz: 2e9, apicId: 0, processors: 1 }));
  expect(writeMsr(p, Msr.LSTAR, 1n << 47n)).toBe(false);
  expect(writeMsr(p, Msr.PAT, 0x0202_0202_0202_0202n)).toBe(false);
  expect(writeMsr(p, Msr.PAT, 0x0007_0106_0007_0106n)).toBe(true);
  expect(writeMsr(p, Msr.EFER, BigInt(EferMask.FFXSR))).toBe(false);
  expect(writeMsr(p, 0xfe, 0n)).toBe(false);
  expect(writeMsr(p, 0x200, 0xffff_ffff_ffff_f000n)).toBe(false);
  expect(writeMsr(p, 0x200, 0x8000_0006n)).toBe(true);
  expect(readMsr(p, 0x200)).toBe(0x8000_0006n);
  expect(readMsr(p, 0x1234)).toBeUndefined();
});

test("LTR marks the task busy and takes it only once", () => {
  const p = protectedModeProcessor(0);
  expect(loadTaskRegister(p, Selector.otherTss)).toBe(Status.Next);
  expect(p.guest.getUint8(At.gdt + Selector.otherTss + 5)).toBe(0x8b);
  expect(loadTaskRegister(p, Selector.otherTss)).toBe(Status.Fault);
  expect(p.fault).toEqual([13, Selector.otherTss]);
});

test("the I/O permission bitmap opens single ports to user programs", () => {
  const p = protectedModeProcessor(3);
  p.guest.setUint16(At.tss + 0x66, 0x68, true);
  for (let byte = 0; byte < 0x1f00; byte++) p.guest.setUint8(At.tss + 0x68 + byte, 0xff);
  p.guest.setUint8(At.tss + 0x68 + 0x3f8 / 8, 0xfe);
  const input = { kind: "in", isString: false } as const;
  expect(checkPortAccess(p, 0x3f8, 1, input)).toBe(Status.Next);
  expect(checkPortAccess(p, 0x3f8, 2, input)).toBe(Status.Fault);
  expect(p.fault).toEqual([13, 0]);
  expect(checkPortAccess(p, 0xffff, 1, input)).toBe(Status.Fault);
});

test("breakpoints match by kind, size and enable bits", () => {
  const p = protectedModeProcessor(0);
  const { state } = p;
  expect(writeDebugRegister(p, 0, 0x5000n)).toBe(Status.Next);
  expect(writeDebugRegister(p, 1, 0x6004n)).toBe(Status.Next);
  // L0 on execution, G1 on writes of four bytes.
  expect(writeDebugRegister(p, 7, BigInt(1 | 8 | (0xd << 20)))).toBe(Status.Next);
  expect([hasInstructionBreakpoints(state), hasDataBreakpoints(state)]).toEqual([true, true]);
  expect([matchInstruction(state, 0x5000n), matchInstruction(state, 0x5001n)]).toEqual([1, 0]);
  expect([matchData(state, 0x6000n, 8, "write"), matchData(state, 0x6004n, 1, "read"), matchData(state, 0x6008n, 1, "write")]).toEqual([2, 0, 0]);
  writeFlags(state, FlagMask.RF, FlagMask.RF);
  expect(matchInstruction(state, 0x5000n)).toBe(0);
});

test("breakpoints on ports need CR4.DE", () => {
  const p = protectedModeProcessor(0);
  writeDebugRegister(p, 2, 0x3f8n);
  writeDebugRegister(p, 7, BigInt(0x10 | (2 << 24)));
  readPort(p, 0x3f8, 1);
  expect(p.breakpoints).toBe(0);
  writeControlRegister(p, 4, BigInt(Cr4Mask.DE));
  readPort(p, 0x3f9, 1);
  expect(p.breakpoints).toBe(0);
  writePort(p, 0x3f7, 2, 0);
  expect(p.breakpoints).toBe(4);
});

test("general detect protects the debug registers", () => {
  const p = protectedModeProcessor(0);
  writeDebugRegister(p, 7, 1n << 13n);
  expect(writeDebugRegister(p, 0, 1n)).toBe(Status.Fault);
  expect(p.fault).toEqual([1, 0]);
  expect(p.state.get64(layout.dr[6]) & (1n << 13n)).not.toBe(0n);
});

function fillExtendedState(p: FlatProcessor, seed: bigint): void {
  for (const [index, field] of [...layout.xmm, ...layout.x87].entries()) {
    p.state.set64(field, seed * BigInt(index + 1));
    p.state.u64[(p.state.base + field.offset + 8) >>> 3] = (seed + BigInt(index)) & 0xffffn;
  }
  p.state.set16(layout.x87Control, 0x27f);
  p.state.set16(layout.x87Status, 0x3800);
  p.state.set16(layout.x87Tag, 0x81);
  p.state.set32(layout.mxcsr, 0x1fa0);
}

function extendedImage(p: FlatProcessor): unknown {
  const values = [...layout.xmm, ...layout.x87].flatMap((field) => [
    p.state.get64(field), p.state.u64[(p.state.base + field.offset + 8) >>> 3],
  ]);
  return [values, p.state.get16(layout.x87Control), p.state.get16(layout.x87Status), p.state.get16(layout.x87Tag), p.state.get32(layout.mxcsr)];
}

test("FXSAVE and FXRSTOR are inverse, with ST(0) first", () => {
  const p = longModeProcessor(0);
  fillExtendedState(p, 0x1234_5678_9abcn);
  const before = extendedImage(p);
  expect(fxsave(p, 0x3000n, true)).toBe(Status.Next);
  expect(p.guest.getBigUint64(0x3020, true)).toBe(p.state.get64(layout.x87[7]));
  expect(p.guest.getUint32(0x3018, true)).toBe(0x1fa0);
  fillExtendedState(p, 3n);
  expect(fxrstor(p, 0x3000n, true)).toBe(Status.Next);
  expect(extendedImage(p)).toEqual(before);
});

test("FXRSTOR refuses reserved bits of MXCSR", () => {
  const p = longModeProcessor(0);
  fxsave(p, 0x3000n, true);
  p.guest.setUint32(0x3018, 0x1_0000, true);
  expect(fxrstor(p, 0x3000n, true)).toBe(Status.Fault);
  expect(p.fault).toEqual([13, 0]);
});

const compacted = { hasWidePointers: true, isCompacted: true, leavesOutInitial: true };

test("XSAVEC leaves out what is initial, and XRSTOR makes it initial", () => {
  const p = longModeProcessor(0);
  const { state } = p;
  state.set64(layout.xcr0, 0x203n);
  fillExtendedState(p, 5n);
  state.set32(layout.pkru, 0x5555_5554);
  for (const field of layout.xmm) {
    state.set64(field, 0n);
    state.u64[(state.base + field.offset + 8) >>> 3] = 0n;
  }
  state.set32(layout.mxcsr, 0x1f80);
  const before = extendedImage(p);
  expect(xsave(p, 0x3000n, 0xffff_ffff_ffff_ffffn, compacted)).toBe(Status.Next);
  expect(p.guest.getBigUint64(0x3200, true)).toBe(0x201n);
  expect(p.guest.getBigUint64(0x3208, true)).toBe((1n << 63n) | 0x203n);
  expect(p.guest.getUint32(0x3240, true)).toBe(0x5555_5554);
  fillExtendedState(p, 9n);
  state.set32(layout.pkru, 0);
  expect(xrstor(p, 0x3000n, 0x203n, true, false)).toBe(Status.Next);
  expect(extendedImage(p)).toEqual(before);
  expect(state.get32(layout.pkru)).toBe(0x5555_5554);
});

test("XRSTOR refuses components that are not enabled", () => {
  const p = longModeProcessor(0);
  p.state.set64(layout.xcr0, 3n);
  p.guest.setBigUint64(0x3200, 4n, true);
  expect(xrstor(p, 0x3000n, 7n, true, false)).toBe(Status.Fault);
  expect(p.fault).toEqual([13, 0]);
});
