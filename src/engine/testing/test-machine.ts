/** A soft processor with a few MiB of RAM, brought into any mode with tables of its own, for tests of the engine. */
import { invariant } from "../../base/errors.ts";
import { instructions } from "../../isa/instructions.ts";
import type { CpuModel, ProcessorBus } from "../../isa/processor.ts";
import * as state from "../../isa/state.ts";
import { Activity, Cr0Mask, Cr4Mask, EferMask, SegmentIndex } from "../../isa/system/mode.ts";
import { loadSegmentCache, parseDescriptor } from "../../isa/system/segments.ts";
import { PhysicalMemory } from "../physical-memory.ts";
import { SoftProcessor, type StopReason } from "../processor.ts";
import { wasm } from "../web-assembly.ts";
import { EntryMask, PageTables } from "./page-tables.ts";

const stateOffset = 0x1_0000;
const codeArenaBytes = 0x10_0000;
const ramOffset: number = Math.ceil((stateOffset + state.processorAreaSizeBytes + codeArenaBytes) / 0x1_0000) * 0x1_0000;
const ramBytes = 0x40_0000;

/** Guest-physical places; paging maps the first 4 MiB to themselves unless a test changes it. */
export const At = {
  gdt: 0x1000, idt: 0x2000, tss: 0x4000, handlers: 0x8000, stack0: 0x7000, stack3: 0x1_8000, code: 0x1_0000, data: 0x2_0000,
  tables: 0x10_0000,
} as const;

/** Each vector's handler is HLT; for the others of a test see `code`. */
export const handlerBytes = 16;
/** Bits above the lower half: the same handlers and tables, as a 64-bit kernel maps them. */
export const upperHalf = 0xffff_8000_0000_0000n;

export const Selector = { code0: 0x08, data0: 0x10, code3: 0x1b, data3: 0x23, long3: 0x2b, tss: 0x30, long0: 0x40 } as const;

const descriptors: readonly (readonly [index: number, descriptor: bigint])[] = [
  [1, 0x00cf_9b00_0000_ffffn], [2, 0x00cf_9300_0000_ffffn], [3, 0x00cf_fb00_0000_ffffn], [4, 0x00cf_f300_0000_ffffn],
  [5, 0x00af_fb00_0000_ffffn], [8, 0x00af_9b00_0000_ffffn],
];

const model: CpuModel = {
  name: "test", vendor: "amd", physicalAddressBits: 40, linearAddressBits: 48,
  hasFeature: () => true,
  cpuid: () => ({ eax: 0, ebx: 0, ecx: 0, edx: 0 }),
  msr: () => undefined,
};

/** What an exception or interrupt pushed. */
export interface Frame {
  readonly vector: number;
  readonly errorCode: number | undefined;
  readonly rip: bigint;
  readonly cs: number;
  readonly rflags: bigint;
  readonly rsp: bigint;
}

export class TestMachine {
  readonly processor: SoftProcessor;
  readonly physical: PhysicalMemory;
  /** Guest RAM. */
  readonly ram: DataView;
  /** Vectors that wait at the interrupt input. */
  readonly pendingInterrupts: number[] = [];
  readonly portAccesses: string[] = [];
  tables: PageTables | undefined = undefined;

  constructor(options: { readonly linearAddressBits?: 48 | 57 } = {}) {
    const pages = (ramOffset + ramBytes) / 0x1_0000;
    const memory = new wasm.Memory({ initial: pages, maximum: pages, shared: true });
    this.physical = new PhysicalMemory(memory.buffer, { read: () => 0xff, write: () => undefined });
    this.physical.map(0, ramBytes, ramOffset);
    this.ram = new DataView(memory.buffer, ramOffset, ramBytes);
    this.processor = new SoftProcessor({
      memory, physical: this.physical, stateOffset, codeStart: stateOffset + state.processorAreaSizeBytes, codeEnd: ramOffset,
      instructions, model: { ...model, ...options }, bus: this.#bus(),
      interrupts: {
        hasInterrupt: () => this.pendingInterrupts.length > 0,
        acknowledge: () => this.pendingInterrupts.shift() ?? -1,
      },
    });
  }

  #bus(): ProcessorBus {
    return {
      portRead: (port, sizeBytes) => {
        this.portAccesses.push(`in ${port} ${sizeBytes}`);
        return 0x5a;
      },
      portWrite: (port, sizeBytes, value) => void this.portAccesses.push(`out ${port} ${sizeBytes} ${value}`),
      timeStampCounter: () => 0n,
      setTimeStampCounter: () => undefined,
      readMsr: () => undefined,
      writeMsr: () => "unknown",
      taskPriority: () => 0,
      setTaskPriority: () => undefined,
      random64: () => 0n,
    };
  }

  /** Writes machine code, given in hexadecimal (spaces allowed), as a device would. */
  code(address: number, ...parts: readonly string[]): void {
    const text = parts.join("").replaceAll(" ", "");
    const bytes = Uint8Array.from(text.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16));
    invariant(this.physical.writeRange(address, bytes), "code is written to RAM");
  }

  gpr(register: number): bigint {
    return this.processor.state.get64(state.gpr[register]);
  }

  setGpr(register: number, value: bigint | number): void {
    this.processor.state.set64(state.gpr[register], BigInt.asUintN(64, BigInt(value)));
  }

  get rip(): bigint {
    return this.processor.state.get64(state.rip);
  }

  /** Execution goes on there, after HLT too. */
  set rip(value: bigint | number) {
    this.processor.state.set64(state.rip, BigInt(value));
    this.processor.state.set32(state.activity, Activity.active);
  }

  /** Sets flags besides the status flags; bit 1 is always set. */
  setSystemFlags(flags: number): void {
    this.processor.state.set32(state.systemFlags, flags);
    this.processor.modeChanged();
  }

  run(instructionCount: number = 1000): StopReason {
    return this.processor.run(instructionCount);
  }

  /** Runs code at `At.code` up to its HLT or handler. */
  runCode(...parts: readonly string[]): StopReason {
    this.code(At.code, ...parts);
    this.rip = At.code;
    return this.run();
  }

  // --- modes ---------------------------------------------------------------------------------------------------------

  realMode(): void {
    const s = this.processor.state;
    loadSegmentCache(s, SegmentIndex.CS, 0, { base: 0n, limit: 0xffff, attributes: 0x9b });
    for (let vector = 0; vector < 256; vector++) {
      this.ram.setUint16(vector * 4, At.handlers + vector, true);
      this.ram.setUint16(vector * 4 + 2, 0, true);
      this.ram.setUint8(At.handlers + vector, 0xf4);
    }
    s.set32(state.idtrLimit, 0x3ff);
    this.setGpr(4, At.stack0);
    this.rip = At.code;
    this.processor.modeChanged();
  }

  /** 32-bit protected mode. */
  protectedMode(privilege: 0 | 3, paging: "none" | "legacy" | "pae" = "none"): void {
    const s = this.processor.state;
    this.#writeDescriptors(0n);
    const { ram } = this;
    for (let vector = 0; vector < 256; vector++) {
      const handler = BigInt(At.handlers + vector * handlerBytes);
      ram.setBigUint64(At.idt + vector * 8, (handler & 0xffffn) | BigInt(Selector.code0 << 16) | 0x8e00_0000_0000n | ((handler >> 16n) << 48n), true);
    }
    ram.setUint32(At.tss + 4, At.stack0, true);
    ram.setUint16(At.tss + 8, Selector.data0, true);
    s.set64(state.idtrBase, BigInt(At.idt));
    s.set32(state.idtrLimit, 0x7ff);
    const { PE, ET, NE, WP, PG } = Cr0Mask;
    if (paging !== "none") this.#startPaging(paging);
    s.set64(state.cr4, BigInt(Cr4Mask.OSFXSR | Cr4Mask.OSXMMEXCPT | Cr4Mask.PGE | Cr4Mask.PSE | (paging === "pae" ? Cr4Mask.PAE : 0)));
    s.set64(state.cr0, BigInt((PE | ET | NE | WP | (paging === "none" ? 0 : PG)) >>> 0));
    this.#loadSegments(privilege, privilege === 0 ? Selector.code0 : Selector.code3);
  }

  /** 64-bit mode, or compatibility mode below it. System tables lie in the upper half. */
  longMode(privilege: 0 | 3, options: { readonly compatibility?: boolean; readonly cr4?: number; readonly paging?: "level4" | "level5" } = {}): void {
    const s = this.processor.state;
    this.#writeDescriptors(upperHalf);
    const { ram } = this;
    for (let vector = 0; vector < 256; vector++) {
      const handler = upperHalf + BigInt(At.handlers + vector * handlerBytes);
      const privilegeBits = vector === 3 ? 0xee00n : 0x8e00n;
      ram.setBigUint64(At.idt + vector * 16, (handler & 0xffffn) | BigInt(Selector.long0 << 16) | (privilegeBits << 32n) | ((handler >> 16n & 0xffffn) << 48n), true);
      ram.setBigUint64(At.idt + vector * 16 + 8, handler >> 32n, true);
    }
    ram.setBigUint64(At.tss + 4, upperHalf + BigInt(At.stack0), true);
    s.set64(state.idtrBase, upperHalf + BigInt(At.idt));
    s.set32(state.idtrLimit, 0xfff);
    const paging = options.paging ?? "level4";
    this.#startPaging(paging);
    const { PAE, PGE, OSFXSR, OSXMMEXCPT, LA57 } = Cr4Mask;
    s.set64(state.cr4, BigInt(PAE | PGE | OSFXSR | OSXMMEXCPT | (paging === "level5" ? LA57 : 0) | (options.cr4 ?? 0)));
    s.set64(state.efer, BigInt(EferMask.SCE | EferMask.LME | EferMask.LMA | EferMask.NXE));
    const { PE, ET, NE, WP, PG } = Cr0Mask;
    s.set64(state.cr0, BigInt((PE | ET | NE | WP | PG) >>> 0));
    const isCompatible = options.compatibility === true;
    const code = privilege === 0 ? (isCompatible ? Selector.code0 : Selector.long0) : isCompatible ? Selector.code3 : Selector.long3;
    this.#loadSegments(privilege, code);
  }

  #writeDescriptors(base: bigint): void {
    const { ram } = this;
    const s = this.processor.state;
    for (const [index, descriptor] of descriptors) ram.setBigUint64(At.gdt + index * 8, descriptor, true);
    const tss = base + BigInt(At.tss);
    ram.setBigUint64(At.gdt + Selector.tss, 0x8b00_0000_2067n | ((tss & 0xff_ffffn) << 16n) | ((tss >> 24n & 0xffn) << 56n), true);
    ram.setBigUint64(At.gdt + Selector.tss + 8, tss >> 32n, true);
    // I/O permission bitmap: all ports allowed.
    ram.setUint16(At.tss + 0x66, 0x68, true);
    for (let vector = 0; vector < 256; vector++) ram.setUint8(At.handlers + vector * handlerBytes, 0xf4);
    s.set64(state.gdtrBase, base + BigInt(At.gdt));
    s.set32(state.gdtrLimit, 0x4f);
    loadSegmentCache(s, SegmentIndex.TR, Selector.tss, { base: tss, limit: 0x2067, attributes: 0x8b });
  }

  #startPaging(mode: "legacy" | "pae" | "level4" | "level5"): void {
    const tables = new PageTables(this.physical, mode, At.tables);
    this.tables = tables;
    const { present, writable, user } = EntryMask;
    for (let page = 0; page < At.tables; page += 0x1000) tables.map(BigInt(page), page, present | writable | user);
    if (mode === "level4" || mode === "level5") {
      for (let page = 0; page < At.tables; page += 0x1000) tables.map(upperHalf + BigInt(page), page, present | writable);
    }
    this.processor.state.set64(state.cr3, BigInt(tables.root));
  }

  #loadSegments(privilege: 0 | 3, code: number): void {
    const s = this.processor.state;
    const data = privilege === 0 ? Selector.data0 : Selector.data3;
    for (const [index, selector] of [data, code, data, data, data, data].entries()) {
      const at = At.gdt + (selector & 0xfff8);
      loadSegmentCache(s, index, selector, parseDescriptor({ low: this.ram.getUint32(at, true), high: this.ram.getUint32(at + 4, true) }));
    }
    s.set32(state.cpl, privilege);
    this.setGpr(4, privilege === 0 ? At.stack0 : At.stack3);
    this.rip = At.code;
    this.processor.modeChanged();
  }

  /** The frame on the stack when a handler's HLT has been executed; undefined when execution halted elsewhere. */
  frame(): Frame | undefined {
    const s = this.processor.state;
    const isLong = (s.get64(state.efer) & BigInt(EferMask.LMA)) !== 0n;
    const offset = Number((this.rip & ~upperHalf) - BigInt(At.handlers) - 1n);
    if (offset < 0 || offset >= 256 * handlerBytes || offset % handlerBytes !== 0) return undefined;
    const vector = offset / handlerBytes;
    const hasErrorCode = [8, 10, 11, 12, 13, 14, 17].includes(vector);
    const at = Number(this.gpr(4) & ~upperHalf);
    const word = (index: number): bigint =>
      isLong ? this.ram.getBigUint64(at + index * 8, true) : BigInt(this.ram.getUint32(at + index * 4, true));
    const first = hasErrorCode ? 1 : 0;
    return {
      vector, errorCode: hasErrorCode ? Number(word(0)) : undefined, rip: word(first), cs: Number(word(first + 1)),
      rflags: word(first + 2), rsp: word(first + 3),
    };
  }
}
