/** Deterministic mode: the same inputs give the same run, instruction by instruction, however it is cut into slices. */
import { describe, expect, test } from "vitest";
import type { Accelerator } from "../accel/contract.ts";
import { softAccelerator } from "../accel/soft/index.ts";
import { guestPhysical } from "../base/address.ts";
import type { MachineEnd } from "./config.ts";
import { Machine } from "./machine.ts";
import { hashedBytes, imageOf, machineConfig, nsPerInstruction, program, tickAddress } from "./testing/ticking-guest.ts";

/** The soft accelerator with slices of at most `instructions`. */
function slicedAccelerator(instructions: number): Accelerator {
  return {
    ...softAccelerator,
    create: (options) => {
      const instance = softAccelerator.create(options);
      const createProcessor = instance.createProcessor.bind(instance);
      instance.createProcessor = (index, bus, interrupts) => {
        const processor = createProcessor(index, bus, interrupts);
        const run = processor.run.bind(processor);
        processor.run = (budget) => run({ ...budget, instructions: Math.min(budget.instructions, instructions) });
        return processor;
      };
      return instance;
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
  const machine = new Machine(machineConfig, accelerator);
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
