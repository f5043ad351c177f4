/** What every accelerator must do alike: tiny guests, given as bytes, seen only through the contract. */
import { beforeEach, describe, expect, test } from "vitest";
import type { Accelerator, AcceleratorInstance, BootState, MemoryMapping, VirtualProcessor } from "../../src/accel/contract.ts";
import type { ProcessorState } from "../../src/accel/processor-state.ts";
import { softAccelerator } from "../../src/accel/soft/index.ts";
import { createCpuModel } from "../../src/isa/models/index.ts";

const accelerators: readonly Accelerator[] = [softAccelerator];

const ramBytes = 0x20_0000, romOffset = ramBytes, romBytes = 0x1_0000, romAddress = 0xffff_0000;
const deviceAddress = 0xfe00_0000;
const codeAddress = 0x1000, resultAddress = 0x7000, stackAddress = 0x8000, handlerAddress = 0x2000;
const generalRegisterCount = 16;

const zeros: readonly number[] = Array.from({ length: generalRegisterCount }, () => 0);
const flatCode = { selector: 8, base: 0, limit: 0xffff_ffff, attributes: 0xc09b };
const flatLongCode = { selector: 8, base: 0, limit: 0xffff_ffff, attributes: 0xa09b };
const flatData = { selector: 16, base: 0, limit: 0xffff_ffff, attributes: 0xc093 };
const realData = { selector: 0, base: 0, limit: 0xffff, attributes: 0x93 };
const unusable = { selector: 0, base: 0, limit: 0, attributes: 0x1_0000 };
const taskState = { selector: 24, base: 0x3000, limit: 0x67, attributes: 0x8b };

function realMode(general: readonly number[] = zeros): BootState {
  const withStack = general.map((value, register) => (register === 4 ? stackAddress : value));
  return {
    rip: codeAddress, rflags: 2, general: withStack,
    segments: [realData, { ...realData, attributes: 0x9b }, realData, realData, realData, realData, { ...unusable, limit: 0xffff, attributes: 0x82 }, { ...taskState, selector: 0, base: 0, limit: 0xffff }],
    gdtr: { base: 0, limit: 0xffff }, idtr: { base: 0, limit: 0x3ff }, cr0: 0x10, cr3: 0, cr4: 0, efer: 0,
  };
}

function protectedMode(general: readonly number[] = zeros): BootState {
  return {
    ...realMode(general), cr0: 0x11,
    segments: [flatData, flatCode, flatData, flatData, flatData, flatData, unusable, taskState],
  };
}

function longMode(general: readonly number[] = zeros): BootState {
  return {
    ...realMode(general), cr0: 0x8000_0011, cr3: 0x9000, cr4: 0x20, efer: 0x500,
    segments: [flatData, flatLongCode, flatData, flatData, flatData, flatData, unusable, taskState],
  };
}

function bytesOf(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex.replaceAll(" ", ""), "hex"));
}

class Fixture {
  readonly instance: AcceleratorInstance;
  readonly processor: VirtualProcessor;
  readonly portWrites: (readonly [port: number, sizeBytes: number, value: number])[] = [];
  readonly busAccesses: (readonly [kind: "read" | "write", offset: number, sizeBytes: number, value: number])[] = [];
  readonly pending: number[] = [];
  /** Answer of every port. */
  portValue = 0;
  onPortWrite: (port: number, value: number) => void = () => {};
  onBusAccess: () => void = () => {};

  constructor(accelerator: Accelerator) {
    const model = createCpuModel("intel-v2", { tscFrequencyHz: 1_000_000_000, apicId: 0, processors: 1 });
    this.instance = accelerator.create({
      storageBytes: ramBytes + romBytes, processorCount: 1, model,
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
      timeStampCounter: () => 0n,
      setTimeStampCounter: () => undefined,
      readMsr: () => undefined,
      writeMsr: () => "unknown",
      taskPriority: () => 0,
      setTaskPriority: () => undefined,
      random64: () => 0n,
    }, {
      hasInterrupt: () => this.pending.length > 0,
      acknowledge: () => this.pending.shift() ?? -1,
    });
    this.identityTables();
  }

  map(mapping: MemoryMapping): void {
    this.instance.map(mapping);
  }

  write(address: number, hex: string): void {
    expect(this.instance.writeMemory(address, bytesOf(hex))).toBe(true);
  }

  word(address: number): number {
    const bytes = new Uint8Array(4);
    expect(this.instance.readMemory(address, bytes)).toBe(true);
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

  /** Runs until the processor waits. */
  runToHalt(): void {
    for (let round = 0; round < 100; round++) {
      const stop = this.processor.run(10_000);
      if (stop === "halted") return;
      expect(stop).toBe("budget");
    }
    expect.unreachable("the guest does not halt");
  }
}

describe.each(accelerators.map((accelerator) => [accelerator.name, accelerator] as const))("%s", (_name, accelerator) => {
  let f: Fixture;

  beforeEach(() => {
    f = new Fixture(accelerator);
  });

  describe("modes", () => {
    test("real mode", () => {
      // mov al, 0x42; out 0x80, al; mov dx, 0x1234; in ax, dx; inc ax; out dx, ax; hlt
      f.start(realMode(), "b042 e680 ba3412 ed 40 ef f4");
      f.portValue = 0xabcd;
      f.runToHalt();
      expect(f.portWrites).toEqual([[0x80, 1, 0x42], [0x1234, 2, 0xabce]]);
    });

    test("protected mode", () => {
      // mov eax, [0xfe000010]; mov [0x7000], eax; mov edx, 0x80; in eax, dx; out dx, eax; hlt
      f.start(protectedMode(), "a1100000fe a300700000 ba80000000 ed ef f4");
      f.portValue = 0x1234_5678;
      f.runToHalt();
      expect(f.word(resultAddress)).toBe(0x110);
      expect(f.portWrites).toEqual([[0x80, 4, 0x1234_5678]]);
    });

    test("the boot state's general registers, in the order of their numbers", () => {
      const values = zeros.map((_, register) => register * 0x1_0000_0001 + 7);
      // mov [absolute], register, for each
      const stores = zeros.map((_, register) => {
        const address = Buffer.alloc(4);
        address.writeUInt32LE(resultAddress + register * 8);
        return `${register < 8 ? "48" : "4c"} 89 ${(0x04 | (register & 7) << 3).toString(16).padStart(2, "0")} 25 ${address.toString("hex")}`;
      });
      f.start(longMode(values), `${stores.join("")} f4`);
      f.runToHalt();
      const seen = zeros.map((_, register) => f.word(resultAddress + register * 8) + f.word(resultAddress + register * 8 + 4) * 0x1_0000_0000);
      expect(seen).toEqual(values.map((value, register) => (register === 4 ? stackAddress : value)));
    });

    test("from real to protected to long mode", () => {
      f.write(0x1100, "1f00 08110000");
      f.write(0x1108, "0000000000000000 ffff0000009bcf00 ffff00000093cf00 ffff0000009baf00");
      f.start(realMode(),
        "fa 0f01160011 0f20c0 0c01 0f22c0 66ea161000000800" +
        "b810000000 8ed8 8ed0 8ec0 bc00800000 b800900000 0f22d8 0f20e0 83c820 0f22e0 b9800000c0 0f32 0d00010000 0f30 0f20c0 0d00000080 0f22c0 ea571000001800" +
        "48b88877665544332211 4889042500700000 bf000000fe c74704aa550000 8b5f08 891c2508700000 f4");
      f.runToHalt();
      expect([f.word(resultAddress), f.word(resultAddress + 4), f.word(resultAddress + 8)]).toEqual([0x5566_7788, 0x1122_3344, 0x108]);
      expect(f.busAccesses).toEqual([["write", deviceAddress + 4, 4, 0x55aa], ["read", deviceAddress + 8, 4, 0x108]]);
    });
  });

  describe("memory", () => {
    test("devices see accesses of 1, 2 and 4 bytes", () => {
      // mov [rdi], al; mov [rdi+2], ax; mov [rdi+4], eax; movzx ebx, byte [rdi+1]; hlt
      f.start(longMode([0x1122_3344, 0, 0, 0, 0, 0, 0, deviceAddress, 0, 0, 0, 0, 0, 0, 0, 0]), "8807 66894702 894704 0fb65f01 f4");
      f.runToHalt();
      expect(f.busAccesses).toEqual([
        ["write", deviceAddress, 1, 0x44], ["write", deviceAddress + 2, 2, 0x3344], ["write", deviceAddress + 4, 4, 0x1122_3344],
        ["read", deviceAddress + 1, 1, 1],
      ]);
    });

    test("ROM is read from storage and written to the bus", () => {
      f.instance.storage.set(bytesOf("78563412"), romOffset);
      // mov eax, [0xffff0000]; mov [0x7000], eax; mov [0xffff0000], edx; mov eax, [0xffff0000]; mov [0x7004], eax; hlt
      f.start(protectedMode([0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), "a10000ffff a300700000 89150000ffff a10000ffff a304700000 f4");
      f.runToHalt();
      expect([f.word(resultAddress), f.word(resultAddress + 4)]).toEqual([0x1234_5678, 0x1234_5678]);
      expect(f.busAccesses).toEqual([["write", romAddress, 4, 5]]);
    });

    test("a range can be mapped elsewhere while the guest runs: reads from ROM, writes to RAM, then RAM", () => {
      f.instance.storage.set(bytesOf("11000000"), romOffset);
      f.map({ address: 0xf_0000, sizeBytes: romBytes, readOffset: romOffset, writeOffset: 0xf_0000 });
      f.onPortWrite = () => f.map({ address: 0xf_0000, sizeBytes: romBytes, readOffset: 0xf_0000, writeOffset: 0xf_0000 });
      // mov eax, [0xf0000]; inc eax; mov [0xf0000], eax; mov ebx, [0xf0000]; out 0x80, al; mov ecx, [0xf0000]; store both; hlt
      f.start(protectedMode(), "a100000f00 40 a300000f00 8b1d00000f00 e680 8b0d00000f00 891d00700000 890d04700000 f4");
      f.runToHalt();
      expect([f.word(resultAddress), f.word(resultAddress + 4)]).toEqual([0x11, 0x12]);
    });

    test("code is what the mapping says at the time", () => {
      f.instance.storage.set(bytesOf("b802000000 c3"), romOffset);
      f.write(0xf_0000, "b801000000 c3");
      f.onPortWrite = () => f.map({ address: 0xf_0000, sizeBytes: romBytes, readOffset: romOffset, writeOffset: undefined });
      // mov ebx, 0xf0000; call ebx; mov [0x7000], eax; out 0x80, al; call ebx; mov [0x7004], eax; hlt
      f.start(protectedMode(), "bb00000f00 ffd3 a300700000 e680 ffd3 a304700000 f4");
      f.runToHalt();
      expect([f.word(resultAddress), f.word(resultAddress + 4)]).toEqual([1, 2]);
    });

    test("copies from outside reach RAM only, all or nothing, and void decoded code", () => {
      expect(f.instance.writeMemory(ramBytes - 2, bytesOf("01020304"))).toBe(false);
      expect(f.word(ramBytes - 4)).toBe(0);
      expect(f.instance.writeMemory(romAddress, bytesOf("01"))).toBe(false);
      expect(f.instance.readMemory(deviceAddress, new Uint8Array(1))).toBe(false);
      expect(f.instance.readMemory(2 ** 60, new Uint8Array(1))).toBe(false);
      f.onPortWrite = () => f.write(codeAddress + 2, "b803000000");
      // out 0x80, al; mov eax, 1 (becomes 3); mov [0x7000], eax; hlt
      f.start(protectedMode(), "e680 b801000000 a300700000 f4");
      f.runToHalt();
      expect(f.word(resultAddress)).toBe(3);
    });
  });

  describe("interrupts", () => {
    const countForever = "fb ff060070 ebfa"; // sti; L: inc word [0x7000]; jmp L

    beforeEach(() => {
      f.setVector(0x21, handlerAddress);
      f.setVector(2, handlerAddress + 0x10);
      f.write(handlerAddress, "b021 e681 f4"); // mov al, 0x21; out 0x81, al; hlt
      f.write(handlerAddress + 0x10, "b002 e682 cf"); // mov al, 2; out 0x82, al; iret
    });

    test("come to a running guest", () => {
      f.start(realMode(), countForever);
      expect(f.processor.run(1000)).toBe("budget");
      f.interrupt(0x21);
      f.runToHalt();
      expect(f.portWrites).toEqual([[0x81, 1, 0x21]]);
      expect(f.word(resultAddress)).toBeGreaterThan(100);
      expect(f.pending).toEqual([]);
    });

    test("come soon when a device raises one", () => {
      f.onPortWrite = (port) => {
        if (port === 0x80) f.interrupt(0x21);
      };
      f.start(realMode(), "fb 90 e680 ff060070 ebfa");
      f.runToHalt();
      expect(f.portWrites).toEqual([[0x80, 1, 0], [0x81, 1, 0x21]]);
      expect(f.word(resultAddress)).toBeLessThan(32);
    });

    test("wait while the guest does not want them, halted or not", () => {
      f.start(realMode(), "f4 f4");
      f.interrupt(0x21);
      expect(f.processor.run(100)).toBe("halted");
      expect(f.processor.run(100)).toBe("halted");
      expect([f.pending, f.portWrites]).toEqual([[0x21], []]);
    });

    test("wake a halted processor", () => {
      f.start(realMode(), "fb f4 f4");
      expect(f.processor.run(100)).toBe("halted");
      expect(f.processor.run(100)).toBe("halted");
      f.interrupt(0x21);
      f.runToHalt();
      expect(f.portWrites).toEqual([[0x81, 1, 0x21]]);
    });

    test("that have gone do nothing", () => {
      f.start(realMode(), "fb 90 90 ff060070 f4");
      f.interrupt(-1);
      f.runToHalt();
      expect([f.word(resultAddress), f.portWrites]).toEqual([1, []]);
    });

    test("NMI comes whatever the flags are, and wakes", () => {
      f.start(realMode(), "fa f4 ff060070 f4");
      expect(f.processor.run(100)).toBe("halted");
      expect(f.word(resultAddress)).toBe(0);
      f.processor.signalNmi();
      f.runToHalt();
      expect([f.word(resultAddress), f.portWrites]).toEqual([1, [[0x82, 1, 2]]]);
    });
  });

  describe("stopping", () => {
    const writeForever = "e680 40 ebfb"; // L: out 0x80, al; inc eax; jmp L

    test("a budget ends a loop, soon after the instructions that it allows", () => {
      f.start(protectedMode(), "40 ebfd");
      for (const budget of [1, 10, 1000, 12_345]) {
        const before = f.processor.retiredInstructions;
        expect(f.processor.run(budget)).toBe("budget");
        const retired = f.processor.retiredInstructions - before;
        expect(retired).toBeGreaterThanOrEqual(budget);
        expect(retired).toBeLessThan(budget + 32);
      }
    });

    test("stop ends run before the next instruction of a device's access", () => {
      f.onPortWrite = () => f.processor.stop();
      f.start(protectedMode(), writeForever);
      expect(f.processor.run(1_000_000)).toBe("stopped");
      expect(f.portWrites).toEqual([[0x80, 1, 0]]);
      expect(f.processor.run(1_000_000)).toBe("stopped");
      expect(f.portWrites).toEqual([[0x80, 1, 0], [0x80, 1, 1]]);
    });

    test("stop before run is not lost", () => {
      f.start(protectedMode(), writeForever);
      f.processor.stop();
      expect(f.processor.run(100)).toBe("stopped");
      expect(f.portWrites).toEqual([]);
    });

    test("attending from a device's access loses and repeats nothing", () => {
      f.onPortWrite = () => f.processor.attend();
      f.onBusAccess = () => f.processor.attend();
      // mov ecx, 20; L: out 0x80, al; mov [0xfe000000], eax; inc eax; loop L; hlt
      f.start(protectedMode(), "b914000000 e680 a3000000fe 40 e2f6 f4");
      f.runToHalt();
      expect(f.portWrites.map(([, , value]) => value)).toEqual(Array.from({ length: 20 }, (_, index) => index));
      expect(f.busAccesses.map(([, , , value]) => value)).toEqual(Array.from({ length: 20 }, (_, index) => index));
    });

    test("retired instructions are exact when a device is accessed", () => {
      const counts: number[] = [];
      f.onPortWrite = () => counts.push(f.processor.retiredInstructions);
      f.onBusAccess = () => counts.push(f.processor.retiredInstructions);
      // mov ecx, 3; L: nop; out 0x80, al; mov [0xfe000000], eax; nop; dec ecx; jnz L; hlt
      f.start(protectedMode(), "b903000000 90 e680 a3000000fe 90 49 75f4 f4");
      f.runToHalt();
      expect(counts).toEqual([2, 3, 8, 9, 14, 15]);
      expect(f.processor.retiredInstructions).toBe(1 + 3 * 6 + 1);
    });

    test("a triple fault is shutdown until reset, which starts at the reset vector", () => {
      f.instance.storage.set(bytesOf("b055 e680 f4"), romOffset + romBytes - 16); // mov al, 0x55; out 0x80, al; hlt
      f.start({ ...protectedMode(), idtr: { base: 0, limit: 0 } }, "0f0b");
      expect(f.processor.run(100)).toBe("shutdown");
      expect(f.processor.run(100)).toBe("shutdown");
      f.processor.reset("reset");
      f.runToHalt();
      expect(f.portWrites).toEqual([[0x80, 1, 0x55]]);
    });

    test("reset from a device's access takes effect at once", () => {
      f.instance.storage.set(bytesOf("b055 e681 f4"), romOffset + romBytes - 16);
      f.onPortWrite = (port) => {
        if (port === 0x80) f.processor.reset("init");
      };
      f.start(protectedMode(), "e680 b877000000 a300700000 f4");
      f.runToHalt();
      expect(f.portWrites).toEqual([[0x80, 1, 0], [0x81, 1, 0x55]]);
      expect(f.word(resultAddress)).toBe(0);
    });
  });

  describe("state", () => {
    /** As text, for comparisons that show what differs. */
    const shown = (state: ProcessorState): unknown => JSON.parse(JSON.stringify(state, (_key, value: unknown) => (typeof value === "bigint" ? `0x${value.toString(16)}` : value)));

    test("after reset", () => {
      f.processor.reset("reset");
      const { rip, rflags, segments, cr0, activity, dr6, dr7, mxcsr, pendingEvent } = f.processor.getState();
      expect([rip, rflags, cr0, activity, dr6, dr7, mxcsr, pendingEvent]).toEqual([0xfff0n, 2, 0x6000_0010n, "active", 0xffff_0ff0n, 0x400n, 0x1f80, undefined]);
      expect(segments[1]).toEqual({ selector: 0xf000, base: 0xffff_0000n, limit: 0xffff, attributes: 0x9b });
    });

    test("what is set is what is got", () => {
      f.start(longMode(), "f4");
      const before = f.processor.getState();
      const changed: ProcessorState = {
        ...before,
        general: before.general.map((_, number) => 0x1122_3344_5566_7780n + BigInt(number)),
        rip: 0x1234n, rflags: 0xad7, cr2: 0xdead_beef_0000n,
        segments: before.segments.map((segment, index) => (index === 4 || index === 5 ? { ...segment, base: 0xffff_8000_0000_0000n + BigInt(index) } : segment)),
        breakpointAddresses: [1n, 2n, 3n, 4n], dr6: 0xffff_4ff0n,
        floatingPoint: {
          ...before.floatingPoint, controlWord: 0x37f, statusWord: 0x3800, abridgedTagWord: 0x80, lastOpcode: 0x123,
          stack: before.floatingPoint.stack.map((_, index) => ({ significand: 0x8000_0000_0000_0000n + BigInt(index), signAndExponent: 0x3fff + index })),
        },
        mxcsr: 0x1fa0,
        xmm: before.xmm.map((_, index) => ({ low: BigInt(index), high: 0xffff_0000_0000_0000n + BigInt(index) })),
        msrs: {
          ...before.msrs, star: 0x23_0010_0000_0000n, lstar: 0xffff_8000_0000_1000n, fmask: 0x4_7700n, kernelGsBase: 0x1000n,
          sysenterCs: 0x10n, sysenterEsp: 0x2000n, sysenterEip: 0x3000n, tscAux: 7n, pat: 0x0007_0406_0007_0400n,
        },
        isNmiBlocked: true,
      };
      f.processor.setState(changed);
      expect(shown(f.processor.getState())).toEqual(shown(changed));
    });

    test("moves a guest to another machine between any two instructions", () => {
      // mov ecx, 40; L: imul eax, eax, 3; add eax, ecx; xor [0x7000], eax; movd xmm0, eax; paddd xmm1, xmm0; dec ecx; jnz L; movd [0x7004], xmm1; hlt
      const program = "b928000000 6bc003 01c8 310425 00700000 660f6ec0 660ffec8 ffc9 75e8 660f7e0c2504700000 f4";
      const registers = zeros.map((_, register) => (register === 0 ? 5 : 0));
      f.start({ ...longMode(registers), cr4: 0x620 }, program);
      f.runToHalt();
      const undisturbed = [f.word(resultAddress), f.word(resultAddress + 4), shown(f.processor.getState())];
      let here = new Fixture(accelerator);
      here.start({ ...longMode(registers), cr4: 0x620 }, program);
      let hasHalted = false;
      for (let move = 0; move < 1000 && !hasHalted; move++) {
        hasHalted = here.processor.run(3) === "halted";
        if (move % 8 !== 0) continue;
        const there = new Fixture(accelerator);
        there.instance.storage.set(here.instance.storage);
        there.processor.setState(here.processor.getState());
        here = there;
      }
      expect(hasHalted).toBe(true);
      expect([here.word(resultAddress), here.word(resultAddress + 4), shown(here.processor.getState())]).toEqual(undisturbed);
    });

    test("a shadow, a blocked and a pending NMI go along", () => {
      f.setVector(2, handlerAddress);
      f.setVector(0x21, handlerAddress + 0x10);
      f.write(handlerAddress, "e682 f4");
      f.write(handlerAddress + 0x10, "e681 f4");
      f.start(realMode(), "e680 e690 f4"); // out 0x80, al; out 0x90, al; hlt
      f.processor.setState({ ...f.processor.getState(), shadow: "sti", rflags: 0x202 });
      f.interrupt(0x21);
      f.runToHalt();
      expect(f.portWrites.map(([port]) => port)).toEqual([0x80, 0x81]);

      f.start(realMode(), "e680 e690 f4");
      f.processor.setState({ ...f.processor.getState(), activity: "active", isNmiBlocked: true, isNmiPending: true, rflags: 2 });
      f.runToHalt();
      expect(f.portWrites.map(([port]) => port)).toEqual([0x80, 0x81, 0x80, 0x90]);
      f.start(realMode(), "e680 e690 f4");
      f.processor.setState({ ...f.processor.getState(), activity: "halted", isNmiBlocked: false, isNmiPending: true });
      f.runToHalt();
      expect(f.portWrites.map(([port]) => port)).toEqual([0x80, 0x81, 0x80, 0x90, 0x82]);
    });

    test("a pending event comes before the next instruction", () => {
      f.setVector(0x21, handlerAddress);
      f.write(handlerAddress, "e681 f4");
      f.start(realMode(), "e680 f4");
      f.processor.setState({ ...f.processor.getState(), pendingEvent: { kind: "external", vector: 0x21 } });
      expect(f.processor.getState().pendingEvent).toEqual({ kind: "external", vector: 0x21 });
      f.runToHalt();
      expect(f.portWrites.map(([port]) => port)).toEqual([0x81]);
      expect(f.processor.getState().pendingEvent).toBeUndefined();
    });

    test("a halted and a shut-down processor stay so", () => {
      f.start(realMode(), "f4");
      f.runToHalt();
      expect(f.processor.getState().activity).toBe("halted");
      const other = new Fixture(accelerator);
      other.processor.setState(f.processor.getState());
      expect(other.processor.run(100)).toBe("halted");
      f.start({ ...protectedMode(), idtr: { base: 0, limit: 0 } }, "0f0b");
      f.processor.setState({ ...f.processor.getState(), activity: "active" });
      expect(f.processor.run(100)).toBe("shutdown");
      other.processor.setState(f.processor.getState());
      expect(other.processor.run(100)).toBe("shutdown");
    });

    test("page directory pointers of PAE paging are the processor's, whatever memory says by now", () => {
      // Pointer table at 0x6000, directory at 0xb000 (2 MiB pages).
      f.write(0x6000, "01b0000000000000 01c0000000000000 01d0000000000000 01e0000000000000");
      f.start({ ...protectedMode(), cr0: 0x8000_0011, cr3: 0x6000, cr4: 0x20 }, "c7050070000055000000 f4");
      const state = f.processor.getState();
      expect(state.pageDirectoryPointers).toEqual([0xb001n, 0xc001n, 0xd001n, 0xe001n]);
      f.write(0x6000, "0000000000000000");
      f.processor.setState(state);
      f.runToHalt();
      expect(f.word(resultAddress)).toBe(0x55);
    });
  });
});
