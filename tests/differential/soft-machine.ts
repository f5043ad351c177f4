/**
 * Our soft processor in the place that `layout.ts` describes: CPL 3, flat or limited segments, and paging that gives the
 * code, data and guard pages the addresses and rights they have in the native runner. 32- and 16-bit cases run in
 * compatibility mode, as under a 64-bit kernel (SDM volume 3, "Protected-Mode Memory Management", "Paging", "Task
 * Management in 64-bit Mode").
 */
import { PhysicalMemory } from "../../src/engine/physical-memory.ts";
import { recordSizeBytes } from "../../src/engine/record.ts";
import type { JitSettings } from "../../src/engine/jit/settings.ts";
import { SoftProcessor } from "../../src/engine/processor.ts";
import { wasm } from "../../src/engine/web-assembly.ts";
import type { DecoderOptions } from "../../src/isa/decode.ts";
import type { InstructionDefinition } from "../../src/isa/definition.ts";
import type { CpuModel, ProcessorBus } from "../../src/isa/processor.ts";
import * as state from "../../src/isa/state.ts";
import { Cr0Mask, Cr4Mask, EferMask, SegmentIndex } from "../../src/isa/system/mode.ts";
import { loadNullSegment, loadSegmentCache, parseDescriptor } from "../../src/isa/system/segments.ts";
import { codeBase, defaultSelectors, globalDescriptors, globalDescriptorTableLimit, localDescriptors, MemoryMap, readOnlyByte } from "./layout.ts";
import type { CodeBits } from "./layout.ts";

const { pageBytes } = MemoryMap;
const stateOffset = 0x1_0000;
const codeArenaBytes = 0x40_0000;
const ramBytes = 0x10_0000;
const ramOffset = Math.ceil((stateOffset + state.processorAreaSizeBytes + codeArenaBytes) / 0x1_0000) * 0x1_0000;

/** Guest-physical places. */
const At = {
  gdt: 0x1000, ldt: 0x2000, idt: 0x3000, tss: 0x4000, stack: 0x6000, code: 0x1_0000, data: 0x1_1000, pageTables: 0x4_0000,
} as const;
const topTable = At.pageTables;
/** The tables of the system lie in the upper half, as a 64-bit kernel's do. */
const systemBase = 0xffff_8000_0000_0000n;
const handlerBase = 0xffff_9000_0000_0000n;
const handlerBytes = 16n;
const kernelCode = 0x10;
const vectorsWithErrorCode: ReadonlySet<number> = new Set([8, 10, 11, 12, 13, 14, 17]);
const taskSelector = 0x40;
const tableSelector = 0x50;

const Entry = { present: 1n, writable: 2n, user: 4n, accessed: 0x20n, dirty: 0x40n, noExecute: 1n << 63n } as const;

/** A model with every instruction we define: forms that the host lacks are not run. */
function modelOf(vendor: CpuModel["vendor"]): CpuModel {
  return {
    name: "differential", vendor, physicalAddressBits: 40, linearAddressBits: 48,
    hasFeature: () => true,
    cpuid: () => ({ eax: 0, ebx: 0, ecx: 0, edx: 0 }),
    msr: () => undefined,
  };
}

const nothing: ProcessorBus = {
  portRead: () => 0,
  portWrite: () => undefined,
  timeStampCounter: () => 0n,
  setTimeStampCounter: () => undefined,
  readMsr: () => undefined,
  writeMsr: () => "unknown",
  taskPriority: () => 0,
  setTaskPriority: () => undefined,
  random64: () => 0n,
};

/** What an interrupt gate pushed, for those that INT n, INT3 and INTO went through. */
export interface Delivered {
  readonly vector: number;
  readonly errorCode: number;
  readonly rip: bigint;
  readonly cs: number;
  readonly rflags: bigint;
  readonly rsp: bigint;
  readonly ss: number;
}

export class SoftMachine {
  readonly bits: CodeBits;
  readonly processor: SoftProcessor;
  /** Linear memory with the processor's state and guest RAM. */
  readonly bytes: Uint8Array;
  readonly ints: Int32Array;
  readonly codeOffset: number = ramOffset + At.code;
  /** A place for a record that no block uses. */
  readonly recordOffset: number = ramOffset - recordSizeBytes;
  readonly decoderOptions: DecoderOptions;
  private readonly view: DataView;
  private readonly template: Uint8Array;
  private readonly segmentImages = new Map<string, Uint8Array>();
  private nextTable = At.pageTables + pageBytes;

  constructor(bits: CodeBits, vendor: string, instructions: readonly InstructionDefinition[], jit?: JitSettings) {
    this.bits = bits;
    const pages = (ramOffset + ramBytes) / 0x1_0000;
    const memory = new wasm.Memory({ initial: pages, maximum: pages, shared: true });
    this.bytes = new Uint8Array(memory.buffer);
    this.ints = new Int32Array(memory.buffer);
    this.view = new DataView(memory.buffer, ramOffset, ramBytes);
    const model = modelOf(vendor === "AuthenticAMD" ? "amd" : "intel");
    this.decoderOptions = { hasFeature: (name) => model.hasFeature(name), vendor: model.vendor === "amd" ? "amd" : "intel" };
    const physical = new PhysicalMemory(memory.buffer, { read: () => 0, write: () => undefined });
    physical.map(0, ramBytes, ramOffset);
    this.writeTables();
    this.processor = new SoftProcessor({
      memory, physical, stateOffset, codeStart: stateOffset + state.processorAreaSizeBytes, codeEnd: this.recordOffset, instructions,
      model, bus: nothing, ...(jit === undefined ? {} : { jit }),
      interrupts: { hasInterrupt: () => false, acknowledge: () => -1 },
    });
    this.setState();
    this.keepCodePage();
    this.template = this.registerArea().slice();
  }

  /** Offset in linear memory of the data page that holds a linear address. */
  dataOffset(linear: number): number {
    return ramOffset + At.data + (linear - MemoryMap.dataA);
  }

  /** Offset of the read-only page. */
  get readOnlyOffset(): number {
    return this.dataOffset(MemoryMap.readOnly);
  }

  /** Everything in the state area as it was before the first case; the caller tells the processor if modes differ. */
  restore(): void {
    this.bytes.set(this.template, stateOffset);
  }

  /** Writes code as a device would, so that what was decoded of it is void. */
  writeCode(offset: number, code: Uint8Array): void {
    this.processor.physical.writeRange(At.code + offset, code);
  }

  private registerArea(): Uint8Array {
    return this.bytes.subarray(stateOffset, stateOffset + state.registerAreaSizeBytes);
  }

  /** Loads ES, CS, SS, DS, FS, GS from the tables without checks. */
  loadSegments(selectors: readonly number[]): void {
    const first = state.segments[0].base.offset, last = state.segments[6].base.offset;
    const area = this.bytes.subarray(stateOffset + first, stateOffset + last);
    const key = selectors.join();
    const known = this.segmentImages.get(key);
    if (known !== undefined) return area.set(known);
    for (const [index, selector] of selectors.entries()) this.loadSegment(index, selector);
    this.segmentImages.set(key, area.slice());
  }

  private loadSegment(index: number, selector: number): void {
    const s = this.processor.state;
    if ((selector & 0xfffc) === 0) return loadNullSegment(s, index, selector);
    const table = selector & 4 ? At.ldt : At.gdt;
    const at = table + (selector & 0xfff8);
    loadSegmentCache(s, index, selector, parseDescriptor({ low: this.view.getUint32(at, true), high: this.view.getUint32(at + 4, true) }));
  }

  /** The frame on the kernel's stack, when the processor stands at a handler. */
  delivered(): Delivered | undefined {
    const s = this.processor.state;
    const offset = s.get64(state.rip) - handlerBase;
    if (s.get32(state.cpl) !== 0 || offset < 0n || offset >= 256n * handlerBytes) return undefined;
    const at = Number(s.get64(state.gpr[4]) - systemBase);
    const vector = Number(offset / handlerBytes);
    const hasErrorCode = vectorsWithErrorCode.has(vector);
    const word = (index: number): bigint => this.view.getBigUint64(at + (index + (hasErrorCode ? 1 : 0)) * 8, true);
    return {
      vector, errorCode: hasErrorCode ? Number(word(-1)) : 0, rip: word(0), cs: Number(word(1) & 0xffffn), rflags: word(2), rsp: word(3),
      ss: Number(word(4) & 0xffffn),
    };
  }

  private writeTables(): void {
    const { view, bits } = this;
    const gdt = new Map<number, bigint>([
      [1, 0x00cf_9b00_0000_ffffn], [2, 0x00af_9b00_0000_ffffn], [3, 0x00cf_9300_0000_ffffn], ...globalDescriptors(bits),
      [taskSelector >> 3, systemDescriptor(At.tss, 0x67, 0x8b)], [(taskSelector >> 3) + 1, systemBase >> 32n],
      [tableSelector >> 3, systemDescriptor(At.ldt, localDescriptors.length * 8 - 1, 0x82)],
      [(tableSelector >> 3) + 1, systemBase >> 32n],
    ]);
    for (const [index, descriptor] of gdt) view.setBigUint64(At.gdt + index * 8, descriptor, true);
    for (const [index, descriptor] of localDescriptors.entries()) view.setBigUint64(At.ldt + index * 8, descriptor, true);
    for (let vector = 0; vector < 256; vector++) {
      const handler = handlerBase + BigInt(vector) * handlerBytes;
      const privilege = vector === 3 || vector === 4 ? 0xee00n : 0x8e00n;
      view.setBigUint64(At.idt + vector * 16, (handler & 0xffffn) | BigInt(kernelCode << 16) | (privilege << 32n) | ((handler >> 16n & 0xffffn) << 48n), true);
      view.setBigUint64(At.idt + vector * 16 + 8, handler >> 32n, true);
    }
    view.setBigUint64(At.tss + 4, systemBase + BigInt(At.stack + pageBytes), true);
    view.setUint16(At.tss + 0x66, 0x68, true);
    for (let offset = 0; offset < pageBytes; offset++) {
      view.setUint8(At.code + offset, 0xcc);
      view.setUint8(At.data + pageBytes + offset, readOnlyByte(offset));
    }
    const { present, writable, user, accessed, dirty, noExecute } = Entry;
    const data = present | user | accessed | dirty | noExecute;
    this.mapPage(BigInt(MemoryMap.codePage), At.code, present | writable | user | accessed | dirty);
    this.mapPage(BigInt(MemoryMap.dataA), At.data, data | writable);
    this.mapPage(BigInt(MemoryMap.readOnly), At.data + pageBytes, data);
    this.mapPage(BigInt(MemoryMap.dataB), At.data + 2 * pageBytes, data | writable);
    for (let page = 0; page < 16; page++) {
      this.mapPage(systemBase + BigInt(page * pageBytes), page * pageBytes, present | writable | accessed | dirty | noExecute);
    }
  }

  private mapPage(linear: bigint, physical: number, flags: bigint): void {
    let table: number = topTable;
    for (let shift = 39n; shift > 12n; shift -= 9n) {
      const at = table + Number((linear >> shift) & 0x1ffn) * 8;
      if (this.view.getBigUint64(at, true) === 0n) {
        this.view.setBigUint64(at, BigInt(this.nextTable) | 0x67n, true);
        this.nextTable += pageBytes;
      }
      table = Number(this.view.getBigUint64(at, true) & 0xf_ffff_f000n);
    }
    this.view.setBigUint64(table + Number((linear >> 12n) & 0x1ffn) * 8, BigInt(physical) | flags, true);
  }

  private setState(): void {
    const s = this.processor.state;
    const { PE, MP, ET, NE, WP, AM, PG } = Cr0Mask;
    s.set64(state.cr0, BigInt((PE | MP | ET | NE | WP | AM | PG) >>> 0));
    const { PAE, PGE, OSFXSR, OSXMMEXCPT, FSGSBASE, OSXSAVE, SMEP, SMAP } = Cr4Mask;
    s.set64(state.cr4, BigInt(PAE | PGE | OSFXSR | OSXMMEXCPT | FSGSBASE | OSXSAVE | SMEP | SMAP));
    s.set64(state.efer, BigInt(EferMask.SCE | EferMask.LME | EferMask.LMA | EferMask.NXE));
    s.set64(state.cr3, BigInt(topTable));
    s.set64(state.xcr0, 7n);
    s.set64(state.gdtrBase, systemBase + BigInt(At.gdt));
    s.set32(state.gdtrLimit, globalDescriptorTableLimit);
    s.set64(state.idtrBase, systemBase + BigInt(At.idt));
    s.set32(state.idtrLimit, 0xfff);
    loadSegmentCache(s, SegmentIndex.LDTR, tableSelector, {
      base: systemBase + BigInt(At.ldt), limit: localDescriptors.length * 8 - 1, attributes: 0x82,
    });
    loadSegmentCache(s, SegmentIndex.TR, taskSelector, { base: systemBase + BigInt(At.tss), limit: 0x67, attributes: 0x8b });
    s.set32(state.cpl, 3);
    s.set32(state.systemFlags, 0x200);
    // A breakpoint that nothing reaches makes blocks of one instruction.
    s.set64(state.dr[0], systemBase);
    s.set64(state.dr[7], 0x401n);
    this.loadSegment(SegmentIndex.CS, defaultSelectors(this.bits).cs);
    this.loadSegment(SegmentIndex.SS, defaultSelectors(this.bits).ss);
    this.processor.modeChanged();
  }

  /** While one block of the page stays decoded, decoding another need not take write access to the page from the TLB. */
  private keepCodePage(): void {
    const s = this.processor.state;
    s.set64(state.rip, BigInt(MemoryMap.codePage - codeBase(this.bits)));
    s.set32(state.budget, 1);
    this.bytes[this.codeOffset] = 0x90;
    this.processor.interpreter.run();
    this.bytes[this.codeOffset] = 0xcc;
  }
}

function systemDescriptor(physical: number, limit: number, access: number): bigint {
  const base = systemBase + BigInt(physical);
  return BigInt(limit) | ((base & 0xff_ffffn) << 16n) | (BigInt(access) << 40n) | ((base >> 24n & 0xffn) << 56n);
}
