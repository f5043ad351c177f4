/** Deterministic mode: the same inputs give the same run, instruction by instruction, however it is cut into slices. */
import { describe, expect, test } from "vitest";
import type { Accelerator } from "../accel/contract.ts";
import { softAccelerator } from "../accel/soft/index.ts";
import { guestPhysical } from "../base/address.ts";
import type { BootImage, MemoryWrite } from "../boot/contract.ts";
import { createDescriptorTable, protectedModeRegisters } from "../boot/registers.ts";
import { defaultDevices, type MachineEnd } from "./config.ts";
import { Machine } from "./machine.ts";

const codeAddress = 0x1_0000, handlerAddress = 0x1_1000, tableAddress = 0x8000, pointerAddress = 0x9000, tickAddress = 0x9100;
const idtAddress = 0x9800, timerVector = 0x20;
const nsPerInstruction = 10;
const hashedBytes = 0x3_0000;

/**
 * The local APIC's timer ticks every 20 µs while a loop changes memory and halts now and then; each tick's handler mixes
 * into a word what the loop had come to. Ends through isa-debug-exit after 60 ticks.
 */
const program =
  "0f011d00900000" + // lidt [0x9000]
  "c705f000e0feff010000 c705e003e0fe0b000000" + // spurious vector and enable; divide by 1
  "c7052003e0fe20000200 c7058003e0fe204e0000" + // periodic, vector 0x20; initial count 20000
  "fb f4" + // sti; hlt
  "43 89d9 81e1ff0f0000 011c8d00000200" + // L: inc ebx; mov ecx, ebx; and ecx, 0xfff; add [0x20000+ecx*4], ebx
  "f7c3ff070000 75e8 f4" + // test ebx, 0x7ff; jnz L; hlt
  "833d009100003c 72de b001 e6f4 f4"; // cmp dword [0x9100], 60; jb L; mov al, 1; out 0xf4, al
const handler =
  "50 ff0500910000 a104910000 c1c005 31d8 01c8 a304910000" + // push eax; inc [0x9100]; [0x9104] = rol 5 ^ ebx + ecx
  "c705b000e0fe00000000 58 cf"; // EOI; pop eax; iretd

function bytesOf(hex: string): Uint8Array {
  return Uint8Array.from(hex.replaceAll(" ", "").match(/../g) ?? [], (byte) => Number.parseInt(byte, 16));
}

function imageOf(code: string): BootImage {
  const gate = new Uint8Array(8), pointer = new Uint8Array(6);
  const gateView = new DataView(gate.buffer), pointerView = new DataView(pointer.buffer);
  gateView.setUint16(0, handlerAddress & 0xffff, true);
  gateView.setUint16(2, 0x10, true);
  gateView.setUint32(4, (handlerAddress & 0xffff_0000) | 0x8e00, true);
  pointerView.setUint16(0, 0x7ff, true);
  pointerView.setUint32(2, idtAddress, true);
  const place = (name: string, address: number, bytes: Uint8Array): MemoryWrite => ({ name, address, bytes, sizeBytes: bytes.length });
  return {
    protocol: "multiboot1", mode: "protected32",
    writes: [
      place("code", codeAddress, bytesOf(code)), place("handler", handlerAddress, bytesOf(handler)),
      place("gdt", tableAddress, createDescriptorTable(0xc09b)), place("idt", idtAddress + timerVector * 8, gate),
      place("idtr", pointerAddress, pointer),
    ],
    registers: protectedModeRegisters({ rip: codeAddress, general: { rsp: 0x7000 }, descriptorTable: tableAddress }),
  };
}

/** The soft accelerator with slices of at most `instructions`. */
function slicedAccelerator(instructions: number): Accelerator {
  return {
    ...softAccelerator,
    create: (options) => {
      const instance = softAccelerator.create(options);
      return {
        storage: instance.storage,
        map: (mapping) => instance.map(mapping),
        readMemory: (address, target) => instance.readMemory(address, target),
        writeMemory: (address, source) => instance.writeMemory(address, source),
        createProcessor: (index, bus, interrupts) => {
          const processor = instance.createProcessor(index, bus, interrupts);
          const run = processor.run.bind(processor);
          processor.run = (maximum) => run(Math.min(maximum, instructions));
          return processor;
        },
      };
    },
  };
}

interface Run {
  readonly end: MachineEnd;
  readonly retired: number;
  readonly nowNs: number;
  readonly ticks: number;
  readonly hash: number;
}

function run(code: string, accelerator: Accelerator = softAccelerator): Run {
  const machine = new Machine({
    memorySizeBytes: 16 << 20, cpu: "intel-v2", clock: { mode: "deterministic", nsPerInstruction }, startEpochMs: 0,
    fillRandom: (target) => void target.fill(4), disks: [], devices: defaultDevices, onSerial: () => undefined,
  }, accelerator);
  machine.load(imageOf(code));
  for (let slice = 0; slice < 1_000_000; slice++) {
    const result = machine.runSlice();
    if (result.kind === "running") continue;
    if (result.kind === "idle") throw new Error("a deterministic machine with timers is never idle");
    const memory = new Uint8Array(hashedBytes);
    machine.guestMemory().read(guestPhysical(0), memory);
    const hash = memory.reduce((sum, byte) => Math.imul(sum ^ byte, 0x0100_0193) >>> 0, 0x811c_9dc5);
    const ticks = new DataView(memory.buffer).getUint32(tickAddress, true);
    return { end: result.end, retired: machine.retiredInstructions, nowNs: machine.clock.nowNs(), ticks, hash };
  }
  throw new Error("the guest does not come to its end");
}

describe("deterministic mode", () => {
  const expected = run(program);

  test("two runs are the same", () => {
    expect(expected.end).toEqual({ kind: "debug-exit", status: 3 });
    expect(expected.ticks).toBeGreaterThanOrEqual(60);
    expect(run(program)).toEqual(expected);
  });

  test.each([1, 7, 100, 1999, 50_000])("slices of %i instructions change nothing", (instructions) => {
    expect(run(program, slicedAccelerator(instructions))).toEqual(expected);
  });

  test("waiting skips time and retires nothing", () => {
    // The same, with a loop that only halts until the next tick: L: hlt; cmp dword [0x9100], 60; jb L
    const waiting = `${program.slice(0, program.indexOf("43 89d9"))} f4 833d009100003c 72f6 b001 e6f4 f4`;
    const { ticks, retired, nowNs } = run(waiting);
    expect(ticks).toBe(60);
    expect(retired).toBeLessThan(60 * 20);
    expect(nowNs).toBeGreaterThanOrEqual(60 * 20_000);
    expect(nowNs).toBeLessThan(61 * 20_000 + retired * nsPerInstruction);
  });
});
