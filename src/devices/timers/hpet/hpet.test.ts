import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { VirtualClock } from "../../clock.ts";
import { hammer, type RecordingLine, recordingLine, runUntil } from "../../testing/wires.ts";
import { advance, join, resetHpetTimerState, split } from "./comparator.ts";
import { Hpet, type HpetState } from "./hpet.ts";
import { LegacyGate } from "./legacy-gate.ts";

function build(state?: HpetState, startNs = 0) {
  const clock = new VirtualClock({ startNs });
  const lines = new Map<number, RecordingLine>();
  const line = (number: number): RecordingLine => {
    const found = lines.get(number) ?? recordingLine();
    lines.set(number, found);
    return found;
  };
  const signals: [number, number][] = [];
  const legacy: boolean[] = [];
  const hpet = new Hpet(
    {
      clock,
      irq: line,
      signalMessage: (address, data) => signals.push([address, data]),
      legacyReplacement: (isActive) => legacy.push(isActive),
    },
    state,
  );
  /** Route 20, 32 bits wide, enabled, plus what is given. */
  const configure = (timer: number, bits: number): void => hpet.write(0x100 + 0x20 * timer, 4, (20 << 9) | 0x104 | bits);
  const compare = (timer: number, value: number): void => hpet.write(0x108 + 0x20 * timer, 4, value);
  const enable = (bits = 1): void => hpet.write(0x10, 4, bits);
  return { clock, hpet, line, signals, legacy, configure, compare, enable };
}

describe("Hpet counter", () => {
  test("identifies itself", () => {
    const { hpet } = build();
    expect(hpet.read(0, 4)).toBe(0x8086_a201);
    expect(hpet.read(4, 4)).toBe(10_000_000);
    expect(hpet.read(0x100, 4)).toBe(0x8030);
    expect(hpet.read(0x104, 4)).toBe(0x00ff_0104);
    expect(hpet.read(0x160, 4)).toBe(0);
  });

  test("runs while enabled, in 64 bits", () => {
    const { hpet, clock, enable } = build();
    clock.advanceTo(1000);
    expect(hpet.read(0xf0, 4)).toBe(0);
    hpet.write(0xf0, 4, 0xffff_fff0);
    enable();
    clock.advanceTo(2000);
    expect([hpet.read(0xf0, 4), hpet.read(0xf4, 4)]).toEqual([84, 1]);
    enable(0);
    clock.advanceTo(3000);
    expect(hpet.read(0xf0, 4)).toBe(84);
    enable();
    clock.advanceTo(3010);
    expect(hpet.read(0xf0, 4)).toBe(85);
  });
});

describe("Hpet timers", () => {
  test("one-shot, edge", () => {
    const { clock, line, configure, compare, enable } = build();
    configure(2, 0);
    compare(2, 500);
    enable();
    runUntil(clock, 4999);
    expect(line(20).risingEdges).toBe(0);
    runUntil(clock, 5000);
    expect([line(20).risingEdges, line(20).level]).toEqual([1, false]);
    runUntil(clock, 1e9);
    expect(line(20).risingEdges).toBe(1);
  });

  test("periodic as Linux programs it, 32 bits wide, over the wrap", () => {
    const { hpet, clock, line, configure, compare, enable } = build();
    hpet.write(0xf0, 4, 0xffff_ff00);
    enable();
    configure(0, 0x148);
    compare(0, 0xffff_ff80);
    compare(0, 0x1000);
    runUntil(clock, 0x80 * 10);
    expect(line(20).risingEdges).toBe(1);
    expect(hpet.read(0x108, 4)).toBe(0x0f80);
    runUntil(clock, (0x80 + 0x3000) * 10);
    expect(line(20).risingEdges).toBe(4);
  });

  test("late periods coalesce and keep their phase", () => {
    const { hpet, clock, line, compare, enable } = build();
    enable();
    hpet.write(0x100, 4, (20 << 9) | 0x4c);
    compare(0, 100);
    hpet.write(0x10c, 4, 0);
    compare(0, 100);
    clock.advanceTo(10_550);
    expect(line(20).risingEdges).toBe(1);
    expect(clock.nextDeadlineNs()).toBe(11_000);
  });

  test("level: status bit and line hold until the status is written", () => {
    const { hpet, clock, line, configure, compare, enable } = build();
    configure(1, 0x02);
    compare(1, 10);
    enable();
    runUntil(clock, 100);
    expect([line(20).level, hpet.read(0x20, 4)]).toEqual([true, 2]);
    expect(clock.nextDeadlineNs()).toBeUndefined();
    hpet.write(0x20, 4, 2);
    expect([line(20).level, hpet.read(0x20, 4)]).toEqual([false, 0]);
  });

  test("message delivery", () => {
    const { hpet, clock, signals, configure, compare, enable } = build();
    hpet.write(0x110, 4, 0x4041);
    hpet.write(0x114, 4, 0xfee0_0000);
    configure(0, 0x4000);
    compare(0, 10);
    enable();
    runUntil(clock, 100);
    expect(signals).toEqual([[0xfee0_0000, 0x4041]]);
  });

  test("legacy replacement takes lines 0 and 8", () => {
    const { clock, line, legacy, configure, compare, enable } = build();
    enable(3);
    expect(legacy).toEqual([false, true]);
    configure(0, 0);
    configure(1, 0);
    compare(0, 10);
    compare(1, 20);
    runUntil(clock, 200);
    expect([line(0).risingEdges, line(8).risingEdges, line(20).risingEdges]).toEqual([1, 1, 0]);
  });

  test("a route that does not exist is not taken", () => {
    const { hpet } = build();
    hpet.write(0x100, 4, (21 << 9) | 4);
    hpet.write(0x100, 4, (5 << 9) | 4);
    expect((hpet.read(0x100, 4) >> 9) & 0x1f).toBe(21);
  });

  test("a restored HPET keeps counter, deadlines and levels", () => {
    const before = build();
    before.configure(0, 0x02);
    before.compare(0, 10);
    before.configure(1, 0);
    before.compare(1, 1000);
    before.enable();
    runUntil(before.clock, 500);
    const after = build(JSON.parse(JSON.stringify(before.hpet.state)), 500);
    expect(after.line(20).level).toBe(true);
    expect(after.clock.nextDeadlineNs()).toBe(10_000);
    expect(after.hpet.read(0xf0, 4)).toBe(50);
  });
});

test("advance agrees with stepping", () => {
  const word = fc.bigInt({ min: 0n, max: 40n });
  fc.assert(
    fc.property(fc.boolean(), fc.boolean(), word, word, word, fc.nat(80), (isPeriodic, isNarrow, offset, comparator, period, run) => {
      const start = (isNarrow ? 0xffff_fff0n : 0xffff_ffff_ffff_fff0n) + offset;
      const make = () => ({
        ...resetHpetTimerState(),
        configuration: (isPeriodic ? 0x08 : 0) | (isNarrow ? 0x100 : 0),
        comparator: split(isNarrow ? BigInt.asUintN(32, 0xffff_fff0n + comparator) : 0xffff_ffff_ffff_fff0n + comparator),
        period: split(period),
      });
      const whole = make();
      const stepped = make();
      const from = BigInt.asUintN(64, start);
      const matched = advance(whole, from, BigInt.asUintN(64, from + BigInt(run)));
      let hasMatched = false;
      for (let tick = 0; tick < run; tick++) {
        const at = BigInt.asUintN(64, from + BigInt(tick));
        if (advance(stepped, at, BigInt.asUintN(64, at + 1n))) hasMatched = true;
      }
      expect(matched).toBe(hasMatched);
      expect(join(whole.comparator)).toBe(join(stepped.comparator));
    }),
  );
});

test("the gate passes, blocks, and restores what it blocked", () => {
  const gate = new LegacyGate();
  const target = recordingLine();
  const wire = gate.through(target);
  wire.set(true);
  expect(target.level).toBe(true);
  gate.setClosed(true);
  expect(target.level).toBe(false);
  wire.set(false);
  wire.set(true);
  expect(target.level).toBe(false);
  gate.setClosed(false);
  expect(target.level).toBe(true);
});

test("random accesses", () => {
  hammer(() => {
    const { hpet, clock } = build();
    return { registers: hpet, clock, sizeBytes: 0x180 };
  });
});
