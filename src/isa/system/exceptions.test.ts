import { expect, test } from "vitest";
import { FlagMask, allFlagsMask, readFlags, writeFlags } from "../flags.ts";
import * as layout from "../state.ts";
import {
  At, Selector, gate, longModeProcessor, protectedModeProcessor, realModeProcessor, segmentDescriptor, setGdt, setIdt,
  setLongIdt, virtual8086Processor,
} from "../testing/descriptors.ts";
import type { FlatProcessor } from "../testing/flat-processor.ts";
import { deliverEvent } from "./exceptions.ts";
import { Activity, SegmentIndex } from "./mode.ts";
import { parseDescriptor } from "./segments.ts";

function stackWords(p: FlatProcessor, count: number): number[] {
  const base = Number(p.state.get64(layout.segments[SegmentIndex.SS].base));
  const pointer = Number(p.state.get64(layout.gpr[4]));
  return Array.from({ length: count }, (_, index) => p.guest.getUint32(base + pointer + index * 4, true));
}

function selectorOf(p: FlatProcessor, index: number): number {
  return p.state.get16(layout.segments[index].selector);
}

test("descriptors are parsed with base, granularity and attributes", () => {
  const raw = segmentDescriptor(0x1234_5678, 0x0a_bcde, 0x93, 0xd);
  const parsed = parseDescriptor({ low: Number(raw & 0xffff_ffffn), high: Number(raw >> 32n) });
  expect(parsed).toEqual({ base: 0x1234_5678n, limit: 0xabcd_efff, attributes: 0xd093 });
});

test("real mode goes through the vector table", () => {
  const p = realModeProcessor();
  p.guest.setUint32(0x21 * 4, 0x2000_0123, true);
  p.state.set64(layout.rip, 0x100n);
  p.state.set64(layout.gpr[4], 0xabcd_1000n);
  writeFlags(p.state, FlagMask.IF | FlagMask.CF | FlagMask.TF, allFlagsMask);
  expect(deliverEvent(p, { vector: 0x21, kind: "software", instructionLength: 2 })).toBe(true);
  expect(p.state.get64(layout.rip)).toBe(0x123n);
  expect(selectorOf(p, SegmentIndex.CS)).toBe(0x2000);
  expect(p.state.get64(layout.gpr[4])).toBe(0xabcd_0ffan);
  expect(p.guest.getUint16(0xffa, true)).toBe(0x102);
  expect(p.guest.getUint16(0xffe, true)).toBe(FlagMask.IF | FlagMask.CF | FlagMask.TF | FlagMask.fixed);
  expect(readFlags(p.state)).toBe(FlagMask.CF | FlagMask.fixed);
});

test("an exception in user mode switches to the stack of the TSS and pushes the error code", () => {
  const p = protectedModeProcessor(3);
  setIdt(p, 14, gate(Selector.code0, 0x3000, 0x8e));
  writeFlags(p.state, FlagMask.IF, allFlagsMask);
  expect(deliverEvent(p, { vector: 14, errorCode: 6, kind: "exception" })).toBe(true);
  expect(stackWords(p, 6)).toEqual([
    6, At.code, Selector.code3, FlagMask.IF | FlagMask.RF | FlagMask.fixed, At.stack3, Selector.data3,
  ]);
  expect(p.state.get64(layout.gpr[4])).toBe(BigInt(At.stack0 - 24));
  expect(p.state.get32(layout.cpl)).toBe(0);
  expect(selectorOf(p, SegmentIndex.CS)).toBe(Selector.code0);
  expect(selectorOf(p, SegmentIndex.SS)).toBe(Selector.data0);
  expect(readFlags(p.state)).toBe(FlagMask.fixed);
});

test("a trap gate keeps IF and stays on the stack of the same level", () => {
  const p = protectedModeProcessor(0);
  setIdt(p, 0x30, gate(Selector.code0, 0x3000, 0x8f));
  writeFlags(p.state, FlagMask.IF, allFlagsMask);
  expect(deliverEvent(p, { vector: 0x30, kind: "external" })).toBe(true);
  expect(stackWords(p, 3)).toEqual([At.code, Selector.code0, FlagMask.IF | FlagMask.fixed]);
  expect(readFlags(p.state)).toBe(FlagMask.IF | FlagMask.fixed);
});

test("INT n through a privileged gate becomes #GP with the IDT's error code", () => {
  const p = protectedModeProcessor(3);
  setIdt(p, 0x30, gate(Selector.code0, 0x3000, 0x8e));
  setIdt(p, 13, gate(Selector.code0, 0x4000, 0x8e));
  expect(deliverEvent(p, { vector: 0x30, kind: "software", instructionLength: 2 })).toBe(true);
  expect(p.state.get64(layout.rip)).toBe(0x4000n);
  expect(stackWords(p, 2)).toEqual([0x30 * 8 + 2, At.code]);
});

test("an external interrupt without a gate reports EXT", () => {
  const p = protectedModeProcessor(3);
  setIdt(p, 13, gate(Selector.code0, 0x4000, 0x8e));
  expect(deliverEvent(p, { vector: 0x31, kind: "external" })).toBe(true);
  expect(stackWords(p, 1)).toEqual([0x31 * 8 + 3]);
});

test("virtual-8086 mode saves its segments and leaves null ones", () => {
  const p = virtual8086Processor();
  setIdt(p, 13, gate(Selector.code0, 0x4000, 0x8e));
  expect(deliverEvent(p, { vector: 13, errorCode: 0, kind: "exception" })).toBe(true);
  expect(stackWords(p, 10)).toEqual([
    0, 0x100, 0x200, FlagMask.VM | FlagMask.IF | FlagMask.RF | FlagMask.fixed, 0xfffe, 0x300, 0x100, 0x400, 0x500, 0x600,
  ]);
  expect(selectorOf(p, SegmentIndex.DS)).toBe(0);
  expect(readFlags(p.state) & FlagMask.VM).toBe(0);
});

test("64-bit mode pushes five aligned words and uses the interrupt stack table", () => {
  const p = longModeProcessor(3);
  setLongIdt(p, 2, gate(Selector.long0, 0x5000, 0x8e, 1));
  p.state.set64(layout.gpr[4], 0xa003n);
  expect(deliverEvent(p, { vector: 2, kind: "nmi" })).toBe(true);
  expect(p.state.get64(layout.gpr[4])).toBe(0x9000n - 40n);
  const frame = [0, 1, 2, 3, 4].map((index) => p.guest.getBigUint64(0x9000 - 40 + index * 8, true));
  expect(frame).toEqual([BigInt(At.code), BigInt(Selector.long3), 2n, 0xa003n, BigInt(Selector.data3)]);
  expect(selectorOf(p, SegmentIndex.SS)).toBe(0);
  expect(p.state.get32(layout.nmiBlocked)).toBe(1);
  expect(p.state.get32(layout.cpl)).toBe(0);
});

test("64-bit mode refuses a 32-bit code segment in a gate", () => {
  const p = longModeProcessor(0);
  setLongIdt(p, 0x40, gate(Selector.code0, 0x5000, 0x8e));
  setLongIdt(p, 13, gate(Selector.long0, 0x6000, 0x8e));
  expect(deliverEvent(p, { vector: 0x40, kind: "external" })).toBe(true);
  expect(p.guest.getUint32(At.stack0 - 48, true)).toBe(Selector.code0 | 1);
});

test("a page fault while a page fault is delivered is a double fault, and then a shutdown", () => {
  const p = protectedModeProcessor(0);
  setIdt(p, 14, gate(Selector.code0, 0x3000, 0x8e));
  setIdt(p, 8, gate(Selector.code0, 0x7000, 0x8e));
  p.state.set64(layout.gpr[4], BigInt(At.stack0));
  p.absentPages.add((At.stack0 - 4) >> 12);
  const before = p.state.get64(layout.gpr[4]);
  expect(deliverEvent(p, { vector: 14, errorCode: 2, kind: "exception" })).toBe(false);
  expect(p.state.get32(layout.activity)).toBe(Activity.shutdown);
  expect(p.state.get64(layout.gpr[4])).toBe(before);
  expect(p.state.get64(layout.rip)).toBe(BigInt(At.code));
});

test("#GP while #GP is delivered enters the double fault handler with error code 0", () => {
  const p = protectedModeProcessor(0);
  setIdt(p, 8, gate(Selector.code0, 0x7000, 0x8e));
  expect(deliverEvent(p, { vector: 13, errorCode: 0x10, kind: "exception" })).toBe(true);
  expect(p.state.get64(layout.rip)).toBe(0x7000n);
  expect(stackWords(p, 4)).toEqual([0, At.code, Selector.code0, FlagMask.fixed]);
});

test("a task gate switches tasks, links back and pushes the error code there", () => {
  const p = protectedModeProcessor(3);
  setGdt(p, Selector.otherTss, segmentDescriptor(At.otherTss, 0x67, 0x89, 0));
  setIdt(p, 8, gate(Selector.otherTss, 0, 0x85));
  const set = (offset: number, value: number): void => p.guest.setUint32(At.otherTss + offset, value, true);
  set(0x20, 0x6000);
  set(0x24, FlagMask.fixed);
  set(0x28, 0x1111);
  set(0x38, 0xb000);
  set(0x4c, Selector.code0);
  set(0x50, Selector.data0);
  p.state.set64(layout.gpr[3], 0x33n);
  expect(deliverEvent(p, { vector: 8, errorCode: 0, kind: "exception" })).toBe(true);
  expect(p.state.get64(layout.rip)).toBe(0x6000n);
  expect(p.state.get64(layout.gpr[0])).toBe(0x1111n);
  expect(p.state.get64(layout.gpr[4])).toBe(0xaffcn);
  expect(p.guest.getUint32(0xaffc, true)).toBe(0);
  expect(p.guest.getUint16(At.otherTss, true)).toBe(Selector.tss);
  expect(p.guest.getUint32(At.tss + 0x34, true)).toBe(0x33);
  expect(p.guest.getUint32(At.tss + 0x20, true)).toBe(At.code);
  expect(p.guest.getUint8(At.gdt + Selector.otherTss + 5)).toBe(0x8b);
  expect(p.guest.getUint8(At.gdt + Selector.tss + 5)).toBe(0x8b);
  expect(readFlags(p.state) & FlagMask.NT).toBe(FlagMask.NT);
  expect(p.state.get32(layout.cpl)).toBe(0);
});
