/** A tiny machine around an accelerator: RAM, ROM, a device everywhere else, ports, and guests given as bytes. */
import assert from "node:assert/strict";
import type { Accelerator, AcceleratorInstance, BootState, MemoryMapping, RunStop, VirtualProcessor } from "../../../src/accel/contract.ts";
import { createCpuModel } from "../../../src/isa/models/index.ts";
import type { CpuModel } from "../../../src/isa/processor.ts";

export const ramBytes = 0x20_0000, romOffset: number = ramBytes, romBytes = 0x1_0000, romAddress = 0xffff_0000;
export const deviceAddress = 0xfe00_0000;
export const codeAddress = 0x1000, resultAddress = 0x7000, stackAddress = 0x8000, handlerAddress = 0x2000;
const generalRegisterCount = 16;

export const zeros: readonly number[] = Array.from({ length: generalRegisterCount }, () => 0);
const flatCode = { selector: 8, base: 0, limit: 0xffff_ffff, attributes: 0xc09b };
const flatLongCode = { selector: 8, base: 0, limit: 0xffff_ffff, attributes: 0xa09b };
const flatData = { selector: 16, base: 0, limit: 0xffff_ffff, attributes: 0xc093 };
const realData = { selector: 0, base: 0, limit: 0xffff, attributes: 0x93 };
const unusable = { selector: 0, base: 0, limit: 0, attributes: 0x1_0000 };
const taskState = { selector: 24, base: 0x3000, limit: 0x67, attributes: 0x8b };

export function realMode(general: readonly number[] = zeros): BootState {
  const withStack = general.map((value, register) => (register === 4 ? stackAddress : value));
  return {
    rip: codeAddress, rflags: 2, general: withStack,
    segments: [realData, { ...realData, attributes: 0x9b }, realData, realData, realData, realData, { ...unusable, limit: 0xffff, attributes: 0x82 }, { ...taskState, selector: 0, base: 0, limit: 0xffff }],
    gdtr: { base: 0, limit: 0xffff }, idtr: { base: 0, limit: 0x3ff }, cr0: 0x10, cr3: 0, cr4: 0, efer: 0,
  };
}

export function protectedMode(general: readonly number[] = zeros): BootState {
  return {
    ...realMode(general), cr0: 0x11,
    segments: [flatData, flatCode, flatData, flatData, flatData, flatData, unusable, taskState],
  };
}

export function longMode(general: readonly number[] = zeros): BootState {
  return {
    ...realMode(general), cr0: 0x8000_0011, cr3: 0x9000, cr4: 0x20, efer: 0x500,
    segments: [flatData, flatLongCode, flatData, flatData, flatData, flatData, unusable, taskState],
  };
}

export function bytesOf(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex.replaceAll(" ", ""), "hex"));
}

/** What the machine's registers do not take. */
export const refusedMsrValue = 0xbadn;

export class Fixture {
  readonly #accelerator: Accelerator;
  readonly #others: Fixture[] = [];
  readonly model: CpuModel;
  readonly instance: AcceleratorInstance;
  readonly processor: VirtualProcessor;
  readonly portWrites: (readonly [port: number, sizeBytes: number, value: number])[] = [];
  readonly busAccesses: (readonly [kind: "read" | "write", offset: number, sizeBytes: number, value: number])[] = [];
  readonly pending: number[] = [];
  /** Answer of every port. */
  portValue = 0;
  taskPriority = 0;
  timeStamp = 0n;
  /** Registers that are the machine's, as those of a local APIC are. */
  readonly machineMsrs: Map<number, bigint> = new Map();
  onPortWrite: (port: number, value: number) => void = () => {};
  onBusAccess: () => void = () => {};

  /** `features`: changes of the CPU model, such as "+kvmclock". */
  constructor(accelerator: Accelerator, features: readonly string[] = []) {
    this.#accelerator = accelerator;
    const timeStampFrequencyHz = accelerator.timeStampFrequencyHz(1_000_000_000);
    const facts = { tscFrequencyHz: timeStampFrequencyHz, apicId: 0, processors: 1 };
    const missing = accelerator.missingFeatures(createCpuModel("intel-v2", facts));
    this.model = createCpuModel(["intel-v2", ...missing.map((name) => `-${name}`), ...features].join(","), facts);
    this.instance = accelerator.create({
      storageBytes: ramBytes + romBytes, processorCount: 1, model: this.model, timeStampFrequencyHz,
      memoryBus: {
        read: (address, sizeBytes) => {
          const value = address % 0x100 + 0x100;
          const truncated = sizeBytes === 1 ? value & 0xff : value;
          this.busAccesses.push(["read", address, sizeBytes, truncated]);
          this.onBusAccess();
          return truncated;
        },
        write: (address, sizeBytes, value) => {
          this.busAccesses.push(["write", address, sizeBytes, value]);
          this.onBusAccess();
        },
      },
    });
    this.map({ address: 0, sizeBytes: ramBytes, readOffset: 0, writeOffset: 0 });
    this.map({ address: romAddress, sizeBytes: romBytes, readOffset: romOffset, writeOffset: undefined });
    this.processor = this.instance.createProcessor(0, {
      portRead: () => this.portValue,
      portWrite: (port, sizeBytes, value) => {
        this.portWrites.push([port, sizeBytes, value]);
        this.onPortWrite(port, value);
      },
      timeStampCounter: () => this.timeStamp,
      setTimeStampCounter: (value) => {
        this.timeStamp = value;
      },
      readMsr: (index) => this.machineMsrs.get(index),
      writeMsr: (index, value) => {
        if (!this.machineMsrs.has(index)) return "unknown";
        if (value === refusedMsrValue) return false;
        this.machineMsrs.set(index, value);
        return true;
      },
      taskPriority: () => this.taskPriority,
      setTaskPriority: (value) => {
        this.taskPriority = value;
      },
      random64: () => 0n,
    }, {
      hasInterrupt: () => this.pending.length > 0,
      acknowledge: () => this.pending.shift() ?? -1,
    });
    this.identityTables();
  }

  get countsInstructions(): boolean {
    return this.#accelerator.countsInstructions;
  }

  /** A second machine; closed with this one. */
  another(): Fixture {
    const other = new Fixture(this.#accelerator);
    this.#others.push(other);
    return other;
  }

  close(): void {
    for (const other of this.#others) other.close();
    this.instance.close();
  }

  map(mapping: MemoryMapping): void {
    this.instance.map(mapping);
  }

  write(address: number, hex: string): void {
    assert.equal(this.instance.writeMemory(address, bytesOf(hex)), true);
  }

  word(address: number): number {
    const bytes = new Uint8Array(4);
    assert.equal(this.instance.readMemory(address, bytes), true);
    return new DataView(bytes.buffer).getUint32(0, true);
  }

  /** Four-level tables at 0x9000 that map 4 GiB to itself. */
  identityTables(): void {
    const bytes = new Uint8Array(0x6000);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, 0xa003, true);
    for (let index = 0; index < 4; index++) view.setUint32(0x1000 + index * 8, (0xb000 + index * 0x1000) | 3, true);
    for (let index = 0; index < 2048; index++) view.setUint32(0x2000 + index * 8, index * 0x20_0000 + 0x83, true);
    this.instance.writeMemory(0x9000, bytes);
  }

  /** A real-mode vector. */
  setVector(vector: number, address: number): void {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint16(0, address, true);
    this.instance.writeMemory(vector * 4, bytes);
  }

  interrupt(vector: number): void {
    this.pending.push(vector);
    this.processor.attend();
  }

  start(state: BootState, hex: string): void {
    this.write(codeAddress, hex);
    this.processor.setBootState(state);
  }

  run(instructions: number = 10_000): RunStop {
    return this.processor.run({ instructions, nanoseconds: 20_000_000 });
  }

  /** Runs until `run` comes back for this reason, however often its budget is used up before. */
  runTo(expected: Exclude<RunStop, "budget">): void {
    for (let round = 0; round < 200; round++) {
      const stop = this.run();
      if (stop === expected) return;
      assert.equal(stop, "budget", this.processor.failure ?? `instead of "${expected}"`);
    }
    assert.fail(`the guest does not come to "${expected}"`);
  }

  runToHalt(): void {
    this.runTo("halted");
  }
}
