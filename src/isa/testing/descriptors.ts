/** Descriptors, gates and ready-made processors of each mode, for unit tests of system routines. */
import { FlagMask } from "../flags.ts";
import * as layout from "../state.ts";
import { Cr0Mask, Cr4Mask, EferMask, SegmentIndex } from "../system/mode.ts";
import { loadSegmentCache, parseDescriptor, setRealModeSegment } from "../system/segments.ts";
import { FlatProcessor } from "./flat-processor.ts";

/** Where the test tables lie. */
export const At = { gdt: 0x1000, idt: 0x2000, tss: 0x4000, otherTss: 0x5000, stack0: 0x8000, stack3: 0xa000, code: 0x1_0000 } as const;

/** Selectors of the test GDT. */
export const Selector = {
  code0: 0x08, data0: 0x10, code3: 0x1b, data3: 0x23, tss: 0x28, otherTss: 0x38, long0: 0x48, long3: 0x53,
  conforming0: 0x58, callGate: 0x63, code16: 0x70, taskGate: 0x7b,
} as const;

/** Two 32-bit words of a segment descriptor; `access` is the byte P, DPL, S, type and `flags` are G, D, L, AVL. */
export function segmentDescriptor(base: number, limit: number, access: number, flags: number): bigint {
  const low = ((base & 0xffff) << 16 | limit & 0xffff) >>> 0;
  const high = (base & 0xff00_0000 | (flags & 0xf) << 20 | limit & 0xf_0000 | access << 8 | (base >>> 16) & 0xff) >>> 0;
  return BigInt(high) << 32n | BigInt(low);
}

/** Low eight bytes of a gate. */
export function gate(selector: number, offset: number, access: number, count: number = 0): bigint {
  const low = (selector << 16 | offset & 0xffff) >>> 0;
  const high = ((offset & 0xffff_0000) | access << 8 | count) >>> 0;
  return BigInt(high) << 32n | BigInt(low);
}

export function setGdt(p: FlatProcessor, selector: number, descriptor: bigint): void {
  p.guest.setBigUint64(At.gdt + (selector & 0xfff8), descriptor, true);
}

export function setIdt(p: FlatProcessor, vector: number, descriptor: bigint): void {
  p.guest.setBigUint64(At.idt + vector * 8, descriptor, true);
}

export function setLongIdt(p: FlatProcessor, vector: number, descriptor: bigint): void {
  p.guest.setBigUint64(At.idt + vector * 16, descriptor, true);
}

/** Loads a segment register from the test GDT without checks. */
function forceSegment(p: FlatProcessor, index: number, selector: number): void {
  const descriptor = p.guest.getBigUint64(At.gdt + (selector & 0xfff8), true);
  const raw = { low: Number(descriptor & 0xffff_ffffn), high: Number(descriptor >> 32n) };
  loadSegmentCache(p.state, index, selector, parseDescriptor(raw));
}

export function realModeProcessor(): FlatProcessor {
  const p = new FlatProcessor();
  for (let index = 0; index < 6; index++) {
    loadSegmentCache(p.state, index, 0, { base: 0n, limit: 0xffff, attributes: 0x93 });
  }
  p.state.set32(layout.idtrLimit, 0x3ff);
  return p;
}

/** 32-bit protected mode at privilege level `cpl`, with a GDT, an IDT and a TSS. */
export function protectedModeProcessor(cpl: 0 | 3): FlatProcessor {
  const p = new FlatProcessor();
  const { state } = p;
  state.set64(layout.gdtrBase, BigInt(At.gdt));
  state.set32(layout.gdtrLimit, 0xff);
  state.set64(layout.idtrBase, BigInt(At.idt));
  state.set32(layout.idtrLimit, 0xfff);
  setGdt(p, Selector.code0, segmentDescriptor(0, 0xf_ffff, 0x9b, 0xc));
  setGdt(p, Selector.data0, segmentDescriptor(0, 0xf_ffff, 0x93, 0xc));
  setGdt(p, Selector.code3, segmentDescriptor(0, 0xf_ffff, 0xfb, 0xc));
  setGdt(p, Selector.data3, segmentDescriptor(0, 0xf_ffff, 0xf3, 0xc));
  setGdt(p, Selector.tss, segmentDescriptor(At.tss, 0x2067, 0x8b, 0));
  setGdt(p, Selector.otherTss, segmentDescriptor(At.otherTss, 0x67, 0x89, 0));
  setGdt(p, Selector.long0, segmentDescriptor(0, 0, 0x9b, 0xa));
  setGdt(p, Selector.long3, segmentDescriptor(0, 0, 0xfb, 0xa));
  setGdt(p, Selector.conforming0, segmentDescriptor(0, 0xf_ffff, 0x9f, 0xc));
  setGdt(p, Selector.code16, segmentDescriptor(0, 0xffff, 0x9b, 0));
  p.guest.setUint32(At.tss + 4, At.stack0, true);
  p.guest.setUint16(At.tss + 8, Selector.data0, true);
  state.set64(layout.cr0, BigInt(Cr0Mask.PE | Cr0Mask.ET));
  state.set32(layout.cpl, cpl);
  forceSegment(p, SegmentIndex.CS, cpl === 0 ? Selector.code0 : Selector.code3);
  for (const index of [SegmentIndex.ES, SegmentIndex.SS, SegmentIndex.DS, SegmentIndex.FS, SegmentIndex.GS]) {
    forceSegment(p, index, cpl === 0 ? Selector.data0 : Selector.data3);
  }
  forceSegment(p, SegmentIndex.TR, Selector.tss);
  state.set64(layout.gpr[4], BigInt(cpl === 0 ? At.stack0 : At.stack3));
  state.set64(layout.rip, BigInt(At.code));
  return p;
}

export function virtual8086Processor(): FlatProcessor {
  const p = protectedModeProcessor(3);
  const { state } = p;
  state.set32(layout.systemFlags, FlagMask.VM | FlagMask.IF);
  for (let index = 0; index < 6; index++) {
    setRealModeSegment(state, index, 0x100 * (index + 1));
    const fields = layout.segments[index];
    loadSegmentCache(state, index, 0x100 * (index + 1), { base: state.get64(fields.base), limit: 0xffff, attributes: 0xf3 });
  }
  state.set64(layout.gpr[4], 0xfffen);
  state.set64(layout.rip, 0x100n);
  return p;
}

/** 64-bit mode at privilege level `cpl`. */
export function longModeProcessor(cpl: 0 | 3): FlatProcessor {
  const p = protectedModeProcessor(cpl);
  const { state } = p;
  state.set64(layout.cr0, BigInt(Cr0Mask.PE | Cr0Mask.ET | Cr0Mask.PG));
  state.set64(layout.cr4, BigInt(Cr4Mask.PAE));
  state.set64(layout.efer, BigInt(EferMask.LME | EferMask.LMA | EferMask.SCE));
  forceSegment(p, SegmentIndex.CS, cpl === 0 ? Selector.long0 : Selector.long3);
  p.guest.setBigUint64(At.tss + 4, BigInt(At.stack0), true);
  p.guest.setBigUint64(At.tss + 0x24, 0x9008n, true);
  return p;
}
