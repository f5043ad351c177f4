/** Runs of repeated MOVS and STOS against the same instruction one element at a time: registers, memory and counts. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FlagMask } from "../isa/flags.ts";
import * as state from "../isa/state.ts";
import { bytesOf, EngineMachine, PageBit, Place, Select } from "./testing/engine-machine.ts";

const [RAX, RCX, RSI, RDI] = [0, 1, 6, 7];
const all = PageBit.present | PageBit.writable | PageBit.user;
const nop = "90", hlt = "f4";

/** What lies behind the code. */
const noiseStart = Place.code + 0x1000;
const noise = Uint8Array.from({ length: 0x4_0000 }, (_, at) => (at * 167 + (at >>> 8)) & 0xff);

interface Case {
  readonly code: string;
  readonly count: bigint;
  readonly source: bigint;
  readonly target: bigint;
  readonly budgets: readonly number[];
  /** RAX; not 0 in all bits unless given. */
  readonly value?: bigint;
  readonly bits: 32 | 64;
  readonly paged: boolean;
  readonly limit: number;
}

interface Outcome {
  readonly retired: number;
  readonly hash: number;
  readonly vector: number | undefined;
  readonly cr2: bigint | undefined;
}

/** Two pages of the range are mapped to one, one is absent, one holds code. */
function setUp(machine: EngineMachine, { code, count, source, target, bits, paged, limit, value = 0x8877_6655_4433_2211n }: Case): void {
  if (bits === 64) machine.longMode();
  else machine.protectedMode();
  machine.ram.fill(0, Place.handlers - 0x3000, Place.handlers);
  machine.ram.set(noise.subarray(0, machine.ram.length - noiseStart), noiseStart);
  machine.physical.writeRange(Place.code, bytesOf(nop + code + hlt));
  if (bits === 64 && paged) {
    machine.setPage(Place.data + 0x3000, BigInt(Place.data + 0x2000) | all);
    machine.setPage(Place.data + 0x6000, 0n);
  }
  if (bits === 32) {
    machine.view.setUint32(Place.gdt + Select.data32, (Place.data & 0xffff) << 16 | limit, true);
    machine.view.setUint32(Place.gdt + Select.data32 + 4, 0x0040_9300 | Place.data >>> 16, true);
    machine.loadSegment(0, Select.data32);
    machine.loadSegment(3, Select.data32);
  }
  const base = bits === 64 ? BigInt(Place.data) : 0n;
  machine.setRegister(RAX, value);
  machine.setRegister(RCX, count);
  machine.setRegister(RSI, base + source);
  machine.setRegister(RDI, base + target);
}

function outcomeOf(machine: EngineMachine, setting: Case, isSingle: boolean): Outcome {
  setUp(machine, setting);
  const s = machine.processor.state;
  // A data breakpoint that nothing hits: one instruction at a time.
  s.set64(state.dr[0], 0x1f_0000n);
  s.set64(state.dr[7], isSingle ? 0xd_0402n : 0x400n);
  machine.processor.modeChanged();
  const before = machine.processor.retired;
  for (let slice = 0; machine.run(setting.budgets[slice % setting.budgets.length]) !== "halted"; slice++) expect(slice).toBeLessThan(100_000);
  const delivered = machine.delivered();
  return { retired: machine.processor.retired - before, hash: machine.hash(), vector: delivered?.vector, cr2: delivered?.cr2 };
}

const codes64 = ["f3a4", "f366a5", "f3a5", "f348a5", "f3aa", "f366ab", "f3ab", "f348ab", "67f3a4", "67f348ab", "fdf3a4", "fdf348ab", "64f3a4"];
const codes32 = ["f3a4", "f366a5", "f3a5", "f3aa", "f366ab", "f3ab", "67f3a5", "67f3aa", "fdf3a5"];
const place = fc.oneof(fc.integer({ min: 0, max: 0x7fff }), fc.integer({ min: 0xfe0, max: 0x1020 }), fc.integer({ min: 0x1ff0, max: 0x2010 })).map(BigInt);
const near = fc.tuple(place, fc.integer({ min: -40, max: 40 })).map(([source, distance]) => [source, BigInt.asUintN(32, source + BigInt(distance)) & 0x7fffn] as const);

function cases(bits: 32 | 64): fc.Arbitrary<Case> {
  return fc.record({
    code: fc.constantFrom(...(bits === 64 ? codes64 : codes32)),
    count: fc.oneof(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 0, max: 5000 })).map(BigInt),
    places: fc.oneof(fc.tuple(place, place), near),
    budgets: fc.array(fc.oneof(fc.integer({ min: 1, max: 90 }), fc.constant(100_000)), { minLength: 1, maxLength: 4 }),
    value: fc.constantFrom(0x8877_6655_4433_2211n, 0n, 0xff00n, 0x1_0000_0000n),
    paged: fc.boolean(),
    limit: fc.constantFrom(0x7fff, 0x1fff, 0x1003, 0xffff),
  }).map(({ places: [source, target], ...rest }) => ({ ...rest, source, target, bits }));
}

/** So that the data begin at 2 GiB of linear memory. */
const highOffset = 0x8000_0000 - Place.data;

describe("runs end where single elements do", () => {
  test.each([
    ["64-bit code", 64, {}], ["32-bit code", 32, {}], ["64-bit code beyond 2 GiB", 64, { ramOffset: highOffset }],
  ] as const)("in %s", (_name, bits, where) => {
    const machine = new EngineMachine({ ramBytes: 0x4_0000, ...where });
    fc.assert(fc.property(cases(bits), (setting) => {
      expect(outcomeOf(machine, setting, false)).toEqual(outcomeOf(machine, setting, true));
    }), { numRuns: 150 });
    expect(machine.processor.strings.counters.elements).toBeGreaterThan(1000);
  });
});

test("a page is filled by few runs, and every element is an instruction", () => {
  const machine = new EngineMachine();
  const setting: Case = { code: "f348ab", count: 512n, source: 0n, target: 0n, budgets: [10_000], bits: 64, paged: false, limit: 0 };
  expect(outcomeOf(machine, setting, false).retired).toBe(512 + 2);
  expect(machine.processor.strings.counters).toEqual({ runs: 1, elements: 510 });
  expect(machine.view.getBigUint64(Place.data + 4088, true)).toBe(0x8877_6655_4433_2211n);
});

test("runs go on from page to page, known to the TLB or not", () => {
  const machine = new EngineMachine();
  const setting: Case = { code: "f348a5", count: 2048n, source: 0n, target: 0x4000n, budgets: [10_000], bits: 64, paged: false, limit: 0 };
  expect(outcomeOf(machine, setting, false).retired).toBe(2048 + 2);
  expect(machine.processor.strings.counters).toEqual({ runs: 4, elements: 2046 });
});

test("interrupts come between two elements, in the middle of a page", () => {
  const machine = new EngineMachine();
  setUp(machine, { code: "f348ab", count: 512n, source: 0n, target: 0n, budgets: [], bits: 64, paged: false, limit: 0 });
  machine.setFlags(0x200);
  expect(machine.run(100)).toBe("budget");
  machine.interrupt(0x40);
  expect(machine.run(1000)).toBe("halted");
  expect(machine.delivered()).toMatchObject({ vector: 0x40, rip: BigInt(Place.code + 1) });
  expect(machine.register(RCX)).toBe(512n - 99n);
  expect(machine.register(RDI)).toBe(BigInt(Place.data) + 99n * 8n);
});

test("where budgets cut a string instruction, RFLAGS does not tell", () => {
  const machine = new EngineMachine();
  setUp(machine, { code: "f348ab", count: 512n, source: 0n, target: 0n, budgets: [], bits: 64, paged: false, limit: 0 });
  for (const budget of [1, 7, 100]) {
    expect(machine.run(budget)).toBe("budget");
    expect(machine.processor.state.get32(state.systemFlags) & FlagMask.RF).toBe(0);
  }
});

test("pointers carry into their upper halves", () => {
  const machine = new EngineMachine();
  setUp(machine, { code: "f348ab", count: 40n, source: 0n, target: 0n, budgets: [], bits: 64, paged: false, limit: 0 });
  // The page before 4 GiB and the one after it are the same ones as at 2 MiB and before.
  machine.view.setBigUint64(Place.level3 + 3 * 8, BigInt(Place.level2) | all, true);
  machine.view.setBigUint64(Place.level3 + 4 * 8, BigInt(Place.level2) | all, true);
  machine.view.setBigUint64(Place.level2 + 511 * 8, BigInt(Place.level1) | all, true);
  machine.setRegister(RDI, 0xffff_ff00n);
  expect(machine.run(1000)).toBe("halted");
  expect(machine.register(RDI)).toBe(0xffff_ff00n + 320n);
  expect(machine.register(RCX)).toBe(0n);
});
