/** A soft processor with a little RAM, a device that notes what it is asked, and interrupt lines, for the engine's tests. */
import { instructions } from "../../isa/instructions.ts";
import { allFlagsMask, writeFlags } from "../../isa/flags.ts";
import type { CpuModel, ProcessorBus } from "../../isa/processor.ts";
import * as state from "../../isa/state.ts";
import type { Virtualization } from "../../isa/virtualization.ts";
import { Activity, Cr0Mask, Cr4Mask, EferMask, SegmentIndex } from "../../isa/system/mode.ts";
import { loadSegmentCache, parseDescriptor } from "../../isa/system/segments.ts";
import type { JitSettings } from "../jit/settings.ts";
import { PhysicalMemory } from "../physical-memory.ts";
import { SoftProcessor, type StopReason } from "../processor.ts";
import { wasm } from "../web-assembly.ts";

const granuleBytes = 0x1_0000;
const stateOffset: number = granuleBytes;

/** Guest-physical places. All below `code` belongs to the tables. */
export const Place = {
  gdt: 0x1000, idt: 0x2000, tss: 0x3000, level4: 0x4000, level3: 0x5000, level2: 0x6000, level1: 0x7000,
  stack: 0xa000, userStack: 0xc000, handlers: 0xd000, code: 0x1_0000, data: 0x2_0000,
  /** Beyond RAM: the device. */
  device: 0xfe00_0000,
} as const;

export const Select = { code0: 0x08, data0: 0x10, code3: 0x1b, data3: 0x23, tss: 0x28, code32: 0x38, data32: 0x40 } as const;

export const PageBit = {
  present: 1n, writable: 2n, user: 4n, accessed: 0x20n, dirty: 0x40n, large: 0x80n, global: 0x100n, noExecute: 0x8000_0000_0000_0000n,
} as const;

export interface DeviceAccess {
  readonly kind: "read" | "write";
  readonly address: number;
  readonly sizeBytes: number;
  readonly value: number;
}

export interface EngineMachineOptions {
  readonly ramBytes?: number;
  /** Where RAM begins in linear memory, a multiple of 64 KiB; as low as can be unless given. */
  readonly ramOffset?: number;
  /** Room for decoded code. */
  readonly arenaBytes?: number;
  readonly hotInstructions?: readonly Uint8Array[];
  readonly inlineHotAfter?: number;
  readonly model?: Partial<CpuModel>;
  readonly virtualization?: (processor: SoftProcessor) => Virtualization;
  readonly jit?: JitSettings;
}

export function bytesOf(hex: string): Uint8Array<ArrayBuffer> {
  const digits = hex.replaceAll(/[^0-9a-fA-F]/g, "");
  return Uint8Array.from({ length: digits.length / 2 }, (_, index) => Number.parseInt(digits.slice(index * 2, index * 2 + 2), 16));
}

export class EngineMachine {
  readonly processor: SoftProcessor;
  readonly physical: PhysicalMemory;
  readonly ram: Uint8Array;
  readonly view: DataView;
  readonly deviceAccesses: DeviceAccess[] = [];
  readonly portWrites: { readonly port: number; readonly sizeBytes: number; readonly value: number; readonly retired: number }[] = [];
  /** Vectors that wait, first come first served. */
  readonly interrupts: number[] = [];
  /** What the device answers, by byte of its address; elsewhere the address itself. */
  readonly deviceBytes: Map<number, number> = new Map();
  /** Called at each access to the device or a port. */
  onAccess: () => void = () => {};
  readonly ramOffset: number;

  constructor(options: EngineMachineOptions = {}) {
    const ramBytes = options.ramBytes ?? 0x20_0000, arenaBytes = options.arenaBytes ?? 0x10_0000;
    const codeStart = stateOffset + state.processorAreaSizeBytes;
    const pageBytesOffset = codeStart + arenaBytes;
    this.ramOffset = options.ramOffset ?? Math.ceil(pageBytesOffset / granuleBytes + 1) * granuleBytes;
    const pages = (this.ramOffset + ramBytes) / granuleBytes;
    const memory = new wasm.Memory({ initial: pages, maximum: pages, shared: true });
    const { buffer } = memory;
    this.ram = new Uint8Array(buffer, this.ramOffset, ramBytes);
    this.view = new DataView(buffer, this.ramOffset, ramBytes);
    const note = (kind: DeviceAccess["kind"], address: number, sizeBytes: number, value: number): void => {
      this.deviceAccesses.push({ kind, address, sizeBytes, value });
      this.onAccess();
    };
    this.physical = new PhysicalMemory(buffer, {
      read: (address, sizeBytes) => {
        let value = 0;
        for (let index = sizeBytes - 1; index >= 0; index--) value = value * 256 + (this.deviceBytes.get(address + index) ?? (address + index) & 0xff);
        note("read", address, sizeBytes, value);
        return value;
      },
      write: (address, sizeBytes, value) => note("write", address, sizeBytes, value),
    }, pageBytesOffset);
    this.physical.map(0, ramBytes, this.ramOffset);
    const bus: ProcessorBus = {
      portRead: (port) => {
        this.onAccess();
        return port;
      },
      portWrite: (port, sizeBytes, value) => {
        this.portWrites.push({ port, sizeBytes, value, retired: this.processor.retiredBeforeCurrent });
        this.onAccess();
      },
      timeStampCounter: () => 0n,
      setTimeStampCounter: () => undefined,
      readMsr: () => undefined,
      writeMsr: () => "unknown",
      taskPriority: () => 0,
      setTaskPriority: () => undefined,
      random64: () => 0n,
    };
    this.processor = new SoftProcessor({
      memory, physical: this.physical, stateOffset, codeStart, codeEnd: codeStart + arenaBytes,
      instructions, bus, hotInstructions: options.hotInstructions ?? [], inlineHotAfter: options.inlineHotAfter ?? 0,
      ...(options.jit === undefined ? {} : { jit: options.jit }),
      model: {
        name: "test", vendor: "intel", physicalAddressBits: 40, linearAddressBits: 57, hasFeature: () => true,
        cpuid: () => ({ eax: 0, ebx: 0, ecx: 0, edx: 0 }), msr: () => undefined, ...options.model,
      },
      ...(options.virtualization === undefined ? {} : { virtualization: options.virtualization }),
      interrupts: { hasInterrupt: () => this.interrupts.length > 0, acknowledge: () => this.interrupts.shift() ?? -1 },
    });
  }

  /** Makes an external interrupt pending, as a local APIC does. */
  interrupt(vector: number): void {
    this.interrupts.push(vector);
    this.processor.attend();
  }

  run(maximumInstructions: number): StopReason {
    return this.processor.run(maximumInstructions);
  }

  write(address: number, hex: string | Uint8Array): void {
    this.ram.set(typeof hex === "string" ? bytesOf(hex) : hex, address);
  }

  /** A general register by its number. */
  register(number: number): bigint {
    return this.processor.state.get64(state.gpr[number]);
  }

  setRegister(number: number, value: bigint): void {
    this.processor.state.set64(state.gpr[number], BigInt.asUintN(64, value));
  }

  get rip(): bigint {
    return this.processor.state.get64(state.rip);
  }

  set rip(value: bigint) {
    this.processor.state.set64(state.rip, value);
  }

  setFlags(flags: number): void {
    writeFlags(this.processor.state, flags, allFlagsMask);
    this.processor.modeChanged();
  }

  #tables(isLong: boolean): void {
    const descriptors = [
      0n, isLong ? 0x00af_9b00_0000_ffffn : 0x00cf_9b00_0000_ffffn, 0x00cf_9300_0000_ffffn,
      isLong ? 0x00af_fb00_0000_ffffn : 0x00cf_fb00_0000_ffffn, 0x00cf_f300_0000_ffffn,
      0x0000_8b00_0000_0067n | BigInt(Place.tss) << 16n, 0n, 0x00cf_9b00_0000_ffffn, 0x00cf_9300_0000_ffffn,
    ];
    descriptors.forEach((descriptor, index) => this.view.setBigUint64(Place.gdt + index * 8, descriptor, true));
    for (let vector = 0; vector < 256; vector++) this.setHandler(vector, Place.handlers + vector * 16, isLong);
    const s = this.processor.state;
    s.set64(state.gdtrBase, BigInt(Place.gdt));
    s.set32(state.gdtrLimit, descriptors.length * 8 - 1);
    s.set64(state.idtrBase, BigInt(Place.idt));
    s.set32(state.idtrLimit, 0xfff);
    this.ram.fill(0xf4, Place.handlers, Place.handlers + 0x1000);
  }

  /** An interrupt gate. Without one of its own, each vector's handler halts at `Place.handlers + 16 * vector`. */
  setHandler(vector: number, address: number, isLong: boolean = true, dpl: number = 3): void {
    const at = Place.idt + vector * (isLong ? 16 : 8);
    this.view.setUint32(at, Select.code0 << 16 | address & 0xffff, true);
    this.view.setUint32(at + 4, (address & 0xffff_0000) | 0x8e00 | dpl << 13, true);
    if (isLong) this.view.setBigUint64(at + 8, 0n, true);
  }

  loadSegment(index: number, selector: number): void {
    const descriptor = this.view.getBigUint64(Place.gdt + (selector & ~7), true);
    loadSegmentCache(this.processor.state, index, selector, parseDescriptor({
      low: Number(descriptor & 0xffff_ffffn), high: Number(descriptor >> 32n),
    }));
  }

  /** To the code at `Place.code`, with flat segments, an empty stack and interrupts off. */
  enter(cpl: 0 | 3): void {
    const s = this.processor.state;
    s.set32(state.activity, Activity.active);
    writeFlags(s, 0, allFlagsMask);
    s.set32(state.cpl, cpl);
    this.loadSegment(SegmentIndex.CS, cpl === 0 ? Select.code0 : Select.code3);
    for (const index of [SegmentIndex.ES, SegmentIndex.SS, SegmentIndex.DS, SegmentIndex.FS, SegmentIndex.GS]) {
      this.loadSegment(index, cpl === 0 ? Select.data0 : Select.data3);
    }
    this.loadSegment(SegmentIndex.TR, Select.tss);
    s.set64(state.gpr[4], BigInt(cpl === 0 ? Place.stack : Place.userStack));
    s.set64(state.rip, BigInt(Place.code));
    this.processor.modeChanged();
  }

  /** 32-bit protected mode with flat segments, paging off. */
  protectedMode(cpl: 0 | 3 = 0): void {
    this.#tables(false);
    this.view.setUint32(Place.tss + 4, Place.stack, true);
    this.view.setUint16(Place.tss + 8, Select.data0, true);
    const s = this.processor.state;
    s.set64(state.cr0, BigInt(Cr0Mask.PE | Cr0Mask.ET | Cr0Mask.NE));
    this.enter(cpl);
  }

  /** 64-bit mode; the first 2 MiB are mapped to themselves by 4 KiB pages for everybody, `Place.device` by a large page. */
  longMode(cpl: 0 | 3 = 0): void {
    this.#tables(true);
    this.view.setBigUint64(Place.tss + 4, BigInt(Place.stack), true);
    const all = PageBit.present | PageBit.writable | PageBit.user;
    const set = (table: number, index: number, entry: bigint): void => this.view.setBigUint64(table + index * 8, entry, true);
    set(Place.level4, 0, BigInt(Place.level3) | all);
    set(Place.level3, 0, BigInt(Place.level2) | all);
    set(Place.level3, 3, BigInt(Place.level2) | all);
    set(Place.level2, 0, BigInt(Place.level1) | all);
    set(Place.level2, (Place.device >>> 21) & 0x1ff, BigInt(Place.device) | all | PageBit.large);
    for (let page = 0; page < 512; page++) set(Place.level1, page, BigInt(page * 4096) | all);
    const s = this.processor.state;
    s.set64(state.cr0, BigInt(Cr0Mask.PE | Cr0Mask.ET | Cr0Mask.NE | Cr0Mask.WP | Cr0Mask.PG) & 0xffff_ffffn);
    s.set64(state.cr4, BigInt(Cr4Mask.PAE | Cr4Mask.PGE | Cr4Mask.OSFXSR));
    s.set64(state.cr3, BigInt(Place.level4));
    s.set64(state.efer, BigInt(EferMask.LME | EferMask.LMA | EferMask.NXE | EferMask.SCE));
    this.enter(cpl);
    this.processor.memory.flush({ keepGlobal: false });
  }

  /** Entry of the last-level table for a page of the first 2 MiB. The translation may still be in the TLB. */
  setPage(linear: number, entry: bigint): void {
    this.view.setBigUint64(Place.level1 + (linear >>> 12) * 8, entry, true);
  }

  page(linear: number): bigint {
    return this.view.getBigUint64(Place.level1 + (linear >>> 12) * 8, true);
  }

  /** After `run` came to a handler's HLT: the vector, and what was pushed. */
  delivered(): { vector: number; errorCode: bigint; rip: bigint; cr2: bigint } | undefined {
    const vector = (Number(this.rip) - 1 - Place.handlers) / 16;
    if (!Number.isInteger(vector) || vector < 0 || vector > 255) return undefined;
    const hasErrorCode = [8, 10, 11, 12, 13, 14, 17, 21].includes(vector);
    const isLong = (this.processor.state.get32(state.efer) & EferMask.LMA) !== 0;
    const top = Number(this.register(4));
    const word = (index: number): bigint => isLong ? this.view.getBigUint64(top + index * 8, true) : BigInt(this.view.getUint32(top + index * 4, true));
    return {
      vector, errorCode: hasErrorCode ? word(0) : -1n, rip: word(hasErrorCode ? 1 : 0),
      cr2: this.processor.state.get64(state.cr2),
    };
  }

  /** Registers, flags and RAM in one number: FNV-1a over 32-bit words. */
  hash(): number {
    const s = this.processor.state;
    let hash = 0x811c_9dc5;
    const mix = (word: number): void => {
      hash = Math.imul(hash ^ word, 0x0100_0193) >>> 0;
    };
    for (const field of [...state.gpr, state.rip, state.flagsResult, state.cr2, state.cr3]) {
      mix(s.get32(field));
      mix(s.getHigh32(field));
    }
    for (const field of [state.flagsAux, state.systemFlags, state.cpl]) mix(s.get32(field));
    const words = new Uint32Array(this.ram.buffer, this.ram.byteOffset, this.ram.length / 4);
    for (const word of words) mix(word);
    return hash;
  }
}
