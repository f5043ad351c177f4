import { expect, test } from "vitest";
import { Status } from "../../ir/index.ts";
import { FlagMask, allFlagsMask, readFlags, writeFlags } from "../flags.ts";
import * as layout from "../state.ts";
import {
  At, Selector, gate, longModeProcessor, protectedModeProcessor, realModeProcessor, segmentDescriptor, setGdt, setIdt,
  setLongIdt, virtual8086Processor,
} from "../testing/descriptors.ts";
import type { FlatProcessor } from "../testing/flat-processor.ts";
import { deliverEvent } from "./exceptions.ts";
import { farReturn, farTransfer } from "./far-transfer.ts";
import { interruptReturn } from "./interrupt-return.ts";
import { SegmentIndex } from "./mode.ts";

const rsp = layout.gpr[4];

function selectorOf(p: FlatProcessor, index: number): number {
  return p.state.get16(layout.segments[index].selector);
}

/** All that a program can see of itself. */
function visibleState(p: FlatProcessor): unknown {
  return {
    rip: p.state.get64(layout.rip), rsp: p.state.get64(rsp), flags: readFlags(p.state), cpl: p.state.get32(layout.cpl),
    segments: layout.segments.slice(0, 6).map((fields) => [
      p.state.get16(fields.selector), p.state.get64(fields.base), p.state.get32(fields.limit),
      p.state.get32(fields.attributes) & ~0x1000, p.state.get64(fields.readEnd), p.state.get64(fields.writeEnd),
    ]),
  };
}

test("real mode calls and returns with 16-bit frames", () => {
  const p = realModeProcessor();
  p.state.set64(layout.rip, 0x100n);
  p.state.set64(rsp, 0x2000n);
  p.instructionLength = 5;
  expect(farTransfer(p, 0x1234, 0x10n, 16, true)).toBe(Status.Branch);
  expect([selectorOf(p, SegmentIndex.CS), p.state.get64(layout.rip)]).toEqual([0x1234, 0x10n]);
  expect(p.guest.getUint32(0x1ffc, true)).toBe(0x105);
  expect(farReturn(p, 16, 4)).toBe(Status.Branch);
  expect([selectorOf(p, SegmentIndex.CS), p.state.get64(layout.rip)]).toEqual([0, 0x105n]);
  expect(p.state.get64(rsp)).toBe(0x2004n);
});

test("real mode refuses an offset beyond the limit", () => {
  const p = realModeProcessor();
  expect(farTransfer(p, 0x1234, 0x1_0000n, 32, false)).toBe(Status.Fault);
  expect(p.fault).toEqual([13, 0]);
});

test.each([
  ["a null selector", 0, 3, [13, 0]], ["a data segment", Selector.data3, 3, [13, Selector.data3 & ~3]],
  ["a more privileged segment", Selector.code0, 3, [13, Selector.code0]],
  ["a selector beyond the table", 0x1000, 0, [13, 0x1000]], ["a busy task", Selector.tss, 0, [13, Selector.tss]],
] as const)("a jump to %s faults", (_, selector, cpl, fault) => {
  const p = protectedModeProcessor(cpl);
  const before = visibleState(p);
  expect(farTransfer(p, selector, 0x100n, 32, false)).toBe(Status.Fault);
  expect(p.fault).toEqual(fault);
  expect(visibleState(p)).toEqual(before);
});

test("a conforming segment is entered at the caller's level", () => {
  const p = protectedModeProcessor(3);
  expect(farTransfer(p, Selector.conforming0, 0x100n, 32, false)).toBe(Status.Branch);
  expect(selectorOf(p, SegmentIndex.CS)).toBe(Selector.conforming0 | 3);
  expect(p.state.get32(layout.cpl)).toBe(3);
});

test("a call gate copies parameters to the inner stack, and RET goes back", () => {
  const p = protectedModeProcessor(3);
  setGdt(p, Selector.callGate, gate(Selector.code0, 0x7000, 0xec, 2));
  p.state.set64(rsp, BigInt(At.stack3 - 8));
  p.guest.setUint32(At.stack3 - 8, 0x1111, true);
  p.guest.setUint32(At.stack3 - 4, 0x2222, true);
  p.instructionLength = 7;
  expect(farTransfer(p, Selector.callGate, 0xdeadn, 32, true)).toBe(Status.Branch);
  expect(p.state.get64(layout.rip)).toBe(0x7000n);
  expect(p.state.get32(layout.cpl)).toBe(0);
  const frame = Array.from({ length: 6 }, (_, index) => p.guest.getUint32(At.stack0 - 24 + index * 4, true));
  expect(frame).toEqual([At.code + 7, Selector.code3, 0x1111, 0x2222, At.stack3 - 8, Selector.data3]);
  expect(farReturn(p, 32, 8)).toBe(Status.Branch);
  expect(p.state.get64(rsp)).toBe(BigInt(At.stack3));
  expect([selectorOf(p, SegmentIndex.CS), selectorOf(p, SegmentIndex.SS)]).toEqual([Selector.code3, Selector.data3]);
  expect(p.state.get64(layout.rip)).toBe(BigInt(At.code + 7));
});

test("a 64-bit call gate takes RSP from the TSS and leaves a null SS", () => {
  const p = longModeProcessor(3);
  setGdt(p, Selector.callGate, gate(Selector.long0, 0x7000, 0xec));
  p.guest.setBigUint64(At.gdt + (Selector.callGate & 0xfff8) + 8, 0n, true);
  expect(farTransfer(p, Selector.callGate, 0n, 32, true)).toBe(Status.Branch);
  expect(selectorOf(p, SegmentIndex.SS)).toBe(0);
  expect(p.state.get64(rsp)).toBe(BigInt(At.stack0 - 32));
  expect(farReturn(p, 64, 0)).toBe(Status.Branch);
  expect(p.state.get32(layout.cpl)).toBe(3);
  expect(p.state.get64(rsp)).toBe(BigInt(At.stack3));
});

test("RET to an outer level empties segments that are too privileged for it", () => {
  const p = protectedModeProcessor(0);
  p.state.set64(rsp, 0x9000n);
  for (const [index, value] of [0x6000, Selector.code3, 0xa000, Selector.data3].entries()) {
    p.guest.setUint32(0x9000 + index * 4, value, true);
  }
  expect(farReturn(p, 32, 0)).toBe(Status.Branch);
  expect([SegmentIndex.DS, SegmentIndex.ES, SegmentIndex.FS].map((index) => selectorOf(p, index))).toEqual([0, 0, 0]);
  expect(p.state.get64(layout.segments[SegmentIndex.DS].readEnd)).toBe(0n);
});

function roundTrip(p: FlatProcessor, vector: number, operandSize: 16 | 32 | 64): void {
  const before = visibleState(p);
  expect(deliverEvent(p, { vector, kind: "external" })).toBe(true);
  expect(visibleState(p)).not.toEqual(before);
  expect(interruptReturn(p, operandSize)).toBe(Status.Branch);
  expect(visibleState(p)).toEqual(before);
}

const someFlags = FlagMask.IF | FlagMask.CF | FlagMask.DF | FlagMask.ID;

test("IRET undoes an interrupt in real mode", () => {
  const p = realModeProcessor();
  p.guest.setUint32(0x30 * 4, 0x2000_0123, true);
  p.state.set64(rsp, 0x1000n);
  writeFlags(p.state, FlagMask.IF | FlagMask.CF | FlagMask.DF, allFlagsMask);
  roundTrip(p, 0x30, 16);
});

test.each([0, 3] as const)("IRETD undoes an interrupt at level %i", (cpl) => {
  const p = protectedModeProcessor(cpl);
  setIdt(p, 0x30, gate(Selector.code0, 0x3000, 0x8e));
  writeFlags(p.state, someFlags, allFlagsMask);
  roundTrip(p, 0x30, 32);
});

test("IRETD goes back to virtual-8086 mode", () => {
  const p = virtual8086Processor();
  setIdt(p, 0x30, gate(Selector.code0, 0x3000, 0x8e));
  writeFlags(p.state, someFlags | FlagMask.VM, allFlagsMask);
  roundTrip(p, 0x30, 32);
});

test.each([0, 3] as const)("IRETQ undoes an interrupt in 64-bit mode at level %i", (cpl) => {
  const p = longModeProcessor(cpl);
  setLongIdt(p, 0x30, gate(Selector.long0, 0x3000, 0x8e));
  p.state.set64(rsp, 0xa00bn);
  writeFlags(p.state, someFlags, allFlagsMask);
  roundTrip(p, 0x30, 64);
});

test("IRETQ with a non-canonical RIP changes nothing", () => {
  const p = longModeProcessor(0);
  const frame = [0x8000_0000_0000_0000n, BigInt(Selector.long3), 2n, 0xa000n, BigInt(Selector.data3)];
  for (const [index, value] of frame.entries()) p.guest.setBigUint64(At.stack0 + index * 8, value, true);
  const before = visibleState(p);
  expect(interruptReturn(p, 64)).toBe(Status.Fault);
  expect(p.fault).toEqual([13, 0]);
  expect(visibleState(p)).toEqual(before);
});

function prepareOtherTask(p: FlatProcessor): void {
  setGdt(p, Selector.otherTss, segmentDescriptor(At.otherTss, 0x67, 0x89, 0));
  const fields: Readonly<Record<number, number>> = {
    0x20: 0x6000, 0x24: FlagMask.fixed, 0x38: 0xb000, 0x48: Selector.data0, 0x4c: Selector.code0, 0x50: Selector.data0,
    0x54: Selector.data0, 0x58: 0, 0x5c: 0,
  };
  for (const [offset, value] of Object.entries(fields)) p.guest.setUint32(At.otherTss + Number(offset), value, true);
}

test("a call to a task and IRET with NT come back to the instruction after it", () => {
  const p = protectedModeProcessor(0);
  prepareOtherTask(p);
  p.instructionLength = 7;
  expect(farTransfer(p, Selector.otherTss, 0n, 32, true)).toBe(Status.Branch);
  expect(p.state.get64(layout.rip)).toBe(0x6000n);
  expect(readFlags(p.state)).toBe(FlagMask.NT | FlagMask.fixed);
  expect(selectorOf(p, SegmentIndex.TR)).toBe(Selector.otherTss);
  expect(p.state.get64(layout.cr0) & 8n).toBe(8n);
  p.instructionLength = 1;
  expect(interruptReturn(p, 32)).toBe(Status.Branch);
  expect(p.state.get64(layout.rip)).toBe(BigInt(At.code + 7));
  expect(selectorOf(p, SegmentIndex.TR)).toBe(Selector.tss);
  expect(p.guest.getUint8(At.gdt + Selector.otherTss + 5)).toBe(0x89);
  expect(p.guest.getUint32(At.otherTss + 0x24, true)).toBe(FlagMask.fixed);
  expect(p.guest.getUint32(At.otherTss + 0x20, true)).toBe(0x6001);
});

test("a jump to a task makes the old one available", () => {
  const p = protectedModeProcessor(0);
  prepareOtherTask(p);
  expect(farTransfer(p, Selector.otherTss, 0n, 32, false)).toBe(Status.Branch);
  expect(p.guest.getUint8(At.gdt + Selector.tss + 5)).toBe(0x89);
  expect(p.guest.getUint8(At.gdt + Selector.otherTss + 5)).toBe(0x8b);
  expect(readFlags(p.state) & FlagMask.NT).toBe(0);
});

test("a bad segment in the new task faults there, after the switch", () => {
  const p = protectedModeProcessor(0);
  prepareOtherTask(p);
  p.guest.setUint32(At.otherTss + 0x54, Selector.code0 + 0x800, true);
  setIdt(p, 10, gate(Selector.code0, 0x7700, 0x8e));
  expect(farTransfer(p, Selector.otherTss, 0n, 32, false)).toBe(Status.Branch);
  expect(p.state.get64(layout.rip)).toBe(0x7700n);
  const frame = Array.from({ length: 3 }, (_, index) => p.guest.getUint32(0xb000 - 16 + index * 4, true));
  expect(frame).toEqual([Selector.code0 + 0x800, 0x6000, Selector.code0]);
});
