/** What holds for every way to cut a run into slices and code into blocks, and code that moves. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import * as state from "../isa/state.ts";
import { hotInstructions } from "./hot-instructions.ts";
import { jitSettingsNamed } from "./jit/settings.ts";
import { bytesOf, EngineMachine, Place, Select, type EngineMachineOptions } from "./testing/engine-machine.ts";

const rax = 0, rcx = 1;

/** Branches, calls, divisions, flags, memory and a repeated store: 200 rounds, about 5000 instructions. */
const mixture = bytesOf(
  "b9c8000000 31c0 bf00000200 89cb 69dbb179379e 48891ccf 480304cf e828000000 a803 7410 48c1c007 50 5a 4831da 89948f00100000" +
  "0fb6144f 11d0 ffc9 75cd 57 b925000000 f3aa 5f f4" +
  "488d545801 83ca01 50 52 31d2 89d8 5e 83ce01 f7f6 0117 58 39c2 410f92c0 480f42c2 c3",
);

interface Ending {
  readonly retired: number;
  readonly hash: number;
}

function runMixture(machine: EngineMachine, budgets: readonly number[], singleStepped: boolean = false): Ending {
  machine.longMode();
  machine.ram.fill(0, Place.data, Place.data + 0x4000);
  machine.ram.fill(0, Place.stack - 0x1000, Place.stack);
  for (let number = 0; number < 16; number++) if (number !== 4) machine.setRegister(number, 0n);
  machine.physical.writeRange(Place.code, mixture);
  const s = machine.processor.state;
  // A data breakpoint that nothing hits makes blocks of one instruction.
  s.set64(state.dr[7], singleStepped ? 0xd_0402n : 0x400n);
  s.set64(state.dr[0], 0x1f_0000n);
  machine.processor.modeChanged();
  const before = machine.processor.retired;
  for (let slice = 0; ; slice++) {
    const budget = budgets[slice % budgets.length];
    const start = machine.processor.retired;
    const stop = machine.run(budget);
    expect(machine.processor.retired - start).toBeLessThan(budget + 32);
    if (stop === "halted") break;
    expect(stop).toBe("budget");
    expect(slice).toBeLessThan(100_000);
  }
  return { retired: machine.processor.retired - before, hash: machine.hash() };
}

describe("a run ends in the same state with the same count", () => {
  const machine = new EngineMachine();
  const expected = runMixture(machine, [1_000_000]);

  test("whatever the budgets are", () => {
    expect(expected.retired).toBeGreaterThan(5000);
    fc.assert(fc.property(fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1, maxLength: 8 }), (budgets) => {
      expect(runMixture(machine, budgets)).toEqual(expected);
    }), { numRuns: 25 });
  });

  test("one instruction at a time", () => {
    expect(runMixture(machine, [5000], true)).toEqual(expected);
    expect(runMixture(machine, [1], true)).toEqual(expected);
  });

  test("with handlers inlined into the dispatch loop", () => {
    const hot = new EngineMachine({ hotInstructions });
    expect(runMixture(hot, [1_000_000])).toEqual(expected);
    expect(runMixture(hot, [7, 1, 40])).toEqual(expected);
  });

  test("with handlers inlined under way, one set of code for two machines", () => {
    const ending = [1, 2].map(() => {
      // Of a size that no other machine here has.
      const later = new EngineMachine({ arenaBytes: 0x7_0000, hotInstructions, inlineHotAfter: 2000, jit: jitSettingsNamed("off") });
      const before = later.processor.interpreter.generatedBytes;
      return [runMixture(later, [100]), later.processor.interpreter.generatedBytes - before] as const;
    });
    expect(ending.map(([end]) => end)).toEqual([expected, expected]);
    // The loop itself is made once.
    expect(ending[0][1]).toBeGreaterThan(50_000);
    expect(ending[1][1]).toBeLessThan(ending[0][1] / 2);
  });

  test("in an arena that is used up again and again", () => {
    const small = new EngineMachine({ arenaBytes: 0x800, jit: jitSettingsNamed("off") });
    expect(runMixture(small, [1_000_000])).toEqual(expected);
    expect(small.processor.code.counters.flushes).toBeGreaterThan(10);
  });

  test("with code that is voided under way", () => {
    const other = new EngineMachine();
    let rounds = 0;
    const original = other.processor.interpreter.run.bind(other.processor.interpreter);
    other.processor.interpreter.run = () => {
      other.physical.writeRange(Place.code, mixture.subarray(0, 1 + rounds++ % mixture.length));
      return original();
    };
    expect(runMixture(other, [50])).toEqual(expected);
    expect(other.processor.code.counters.invalidations).toBeGreaterThan(50);
  });
});

function longMachine(options: EngineMachineOptions = {}): EngineMachine {
  const machine = new EngineMachine(options);
  machine.longMode();
  return machine;
}

describe("code whose place changes", () => {
  test("memory that is mapped in its stead is decoded anew", () => {
    const machine = longMachine();
    machine.write(Place.code, "b801000000 f4"); // mov eax, 1; hlt
    machine.write(0x10_0000, "b802000000 f4");
    machine.run(10);
    expect(machine.register(rax)).toBe(1n);
    machine.physical.map(Place.code, 0x1000, machine.ramOffset + 0x10_0000);
    machine.enter(0);
    machine.run(10);
    expect(machine.register(rax)).toBe(2n);
  });

  test("by the code itself: what follows comes from the new place", () => {
    const machine = longMachine();
    machine.onAccess = () => machine.physical.map(Place.code, 0x1000, machine.ramOffset + 0x10_0000);
    machine.write(Place.code, "ebfe".repeat(20));
    machine.write(Place.code, "e680 b801000000 f4"); // out 0x80, al; mov eax, 1; hlt
    machine.write(0x10_0000, "e680 b802000000 f4");
    machine.run(10);
    expect(machine.register(rax)).toBe(2n);
  });

  test("code on a device is read each time", () => {
    const machine = longMachine();
    const put = (value: number): void => bytesOf(`b80${value}000000 c3`).forEach((byte, index) => machine.deviceBytes.set(Place.device + index, byte));
    machine.write(Place.code, "ffd3 89c1 ffd3 f4"); // call rbx; mov ecx, eax; call rbx; hlt
    machine.setRegister(3, BigInt(Place.device));
    put(1);
    const original = machine.processor.interpreter.run.bind(machine.processor.interpreter);
    machine.processor.interpreter.run = () => {
      if (machine.register(rcx) === 1n) put(2);
      return original();
    };
    while (machine.run(1) !== "halted");
    expect([machine.register(rcx), machine.register(rax)]).toEqual([1n, 2n]);
  });

  test("an instruction that reaches from memory to a device", () => {
    const machine = new EngineMachine({ ramBytes: 0x2_0000 });
    machine.protectedMode();
    machine.write(0x1_fffe, "b811"); // mov eax, imm32, whose last bytes are the device's
    [0x22, 0x33, 0x44, 0xf4].forEach((byte, index) => machine.deviceBytes.set(0x2_0000 + index, byte));
    machine.rip = 0x1_fffen;
    expect(machine.run(10)).toBe("halted");
    expect(machine.register(rax)).toBe(0x4433_2211n);
    machine.deviceBytes.set(0x2_0000, 0x55);
    machine.enter(0);
    machine.rip = 0x1_fffen;
    machine.run(10);
    expect(machine.register(rax)).toBe(0x4433_5511n);
  });
});

describe("the limit of CS", () => {
  const limited = (limit: number): bigint => 0x0040_9b00_0000_0000n | BigInt(limit & 0xffff) | (BigInt(limit >>> 16) << 48n);

  test.each([[3, "a short run"], [40, "a run longer than a block"]])("%i instructions: %s is not entered by what is known of another segment", (count) => {
    const machine = new EngineMachine();
    machine.protectedMode();
    machine.write(Place.code, `${"40".repeat(count)}f4`); // inc eax …
    expect(machine.run(100)).toBe("halted");
    expect(machine.delivered()).toBeUndefined();
    // The same code at the same linear addresses, in a segment that ends with its last INC but one.
    machine.view.setBigUint64(Place.gdt + Select.code32, limited(Place.code + count - 2), true);
    machine.enter(0);
    machine.loadSegment(1, Select.code32);
    machine.processor.modeChanged();
    machine.setRegister(rax, 0n);
    expect(machine.run(100)).toBe("halted");
    expect(machine.delivered()).toMatchObject({ vector: 13, errorCode: 0n, rip: BigInt(Place.code + count - 1) });
    expect(machine.register(rax)).toBe(BigInt(count - 1));
  });
});

test.each(["on", "forced"])("the bytes of the running instruction are found by its record, with the JIT %s", (jit) => {
  const machine = new EngineMachine({ jit: jitSettingsNamed(jit) });
  const { processor } = machine;
  const places: number[] = [], starts: string[] = [];
  machine.onAccess = () => {
    places.push(processor.code.placeOf(processor.state.get32(state.currentRecord)) - machine.ramOffset);
    starts.push(Buffer.from(processor.currentBytes().subarray(0, 2)).toString("hex"));
  };
  // Twice: nop; out 0x80, al; nop; out 0x80, al; and once more across the end of the page.
  machine.longMode();
  machine.write(Place.code, "bb02000000 90 e680 90 e680 ffcb 75f6 e9e80f0000");
  machine.write(Place.code + 0xffc, "90 90 90 e6 80 f4");
  expect(machine.run(1000)).toBe("halted");
  const first = Place.code + 6, second = Place.code + 9;
  expect(places.slice(0, 4)).toEqual([first, second, first, second]);
  expect(places[4]).toBe(-machine.ramOffset);
  expect(starts).toEqual(Array.from({ length: 5 }, () => "e680"));
});
