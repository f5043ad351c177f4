import { describe, expect, test } from "vitest";
import { byteRegisterBlock } from "../../byte-registers.ts";
import { VirtualClock } from "../../clock.ts";
import { hammer, recordingLine, runUntil } from "../../testing/wires.ts";
import { nsOfTick } from "../../ticks.ts";
import { pitHertz } from "./channel.ts";
import { Pit, type PitState } from "./pit.ts";

function build(state?: PitState, startNs = 0) {
  const clock = new VirtualClock({ startNs });
  const line = recordingLine();
  const pit = new Pit({ clock, interrupt: line }, state);
  const program = (channel: number, mode: number, count: number): void => {
    pit.write(3, (channel << 6) | 0x30 | (mode << 1));
    pit.write(channel, count & 0xff);
    pit.write(channel, count >> 8);
  };
  const readCount = (channel: number): number => {
    pit.write(3, channel << 6);
    return pit.read(channel) | (pit.read(channel) << 8);
  };
  const toTick = (tick: number): void => runUntil(clock, nsOfTick(tick, pitHertz));
  return { clock, line, pit, program, readCount, toTick };
}

describe("Pit", () => {
  test("mode 0 interrupts once on terminal count", () => {
    const { line, program, toTick, readCount, clock } = build();
    program(0, 0, 1000);
    expect(line.level).toBe(false);
    toTick(1000);
    expect(line.level).toBe(false);
    expect(readCount(0)).toBe(1);
    toTick(1001);
    expect(line.level).toBe(true);
    expect(clock.nextDeadlineNs()).toBeUndefined();
    toTick(1003);
    expect(readCount(0)).toBe(0xfffe);
  });

  test.each([2, 3])("mode %i interrupts every period without drift", (mode) => {
    const { line, program, toTick } = build();
    program(0, mode, 11932);
    const before = line.risingEdges;
    toTick(1 + 11932 * 100 - 1);
    expect(line.risingEdges - before).toBe(99);
    toTick(1 + 11932 * 100);
    expect(line.risingEdges - before).toBe(100);
  });

  test("missed periods coalesce into one edge", () => {
    const { line, program, clock } = build();
    program(0, 2, 100);
    const before = line.risingEdges;
    clock.advanceTo(1e9);
    expect(line.risingEdges - before).toBe(1);
    expect(clock.nextDeadlineNs()).toBeGreaterThan(1e9);
    expect(clock.nextDeadlineNs()).toBeLessThan(1e9 + 100_000);
  });

  test("a count written in mode 2 waits for the end of the period", () => {
    const { line, program, toTick, pit } = build();
    program(0, 2, 1000);
    toTick(500);
    pit.write(0, 100);
    pit.write(0, 0);
    const before = line.risingEdges;
    toTick(1000);
    expect(line.risingEdges).toBe(before);
    toTick(1001);
    expect(line.risingEdges).toBe(before + 1);
    toTick(1101);
    expect(line.risingEdges).toBe(before + 2);
  });

  test("mode 3 counts down by two and toggles the output", () => {
    const { pit, program, toTick, readCount } = build();
    pit.writeControlB(1);
    program(2, 3, 10);
    const seen: string[] = [];
    for (let tick = 1; tick <= 11; tick++) {
      toTick(tick);
      seen.push(`${readCount(2)}${pit.readControlB() & 0x20 ? "H" : "L"}`);
    }
    expect(seen.join(" ")).toBe("10H 8H 6H 4H 2H 10L 8L 6L 4L 2L 10H");
  });

  test("channel 2 as calibration uses it: mode 0, gate on port 0x61, output on bit 5", () => {
    const { pit, program, toTick, readCount } = build();
    pit.writeControlB(0);
    program(2, 0, 0xffff);
    toTick(100);
    expect(readCount(2)).toBe(0xffff);
    pit.writeControlB(1);
    toTick(200);
    expect(readCount(2)).toBe(0xffff - 100);
    expect(pit.readControlB() & 0x21).toBe(0x01);
    toTick(100 + 0xffff);
    expect(pit.readControlB() & 0x20).toBe(0x20);
  });

  test("modes 1 and 5 start on the gate", () => {
    const { pit, program, toTick } = build();
    pit.writeControlB(0);
    program(2, 1, 50);
    toTick(10);
    expect(pit.readControlB() & 0x20).toBe(0x20);
    pit.writeControlB(1);
    toTick(60);
    expect(pit.readControlB() & 0x20).toBe(0);
    toTick(61);
    expect(pit.readControlB() & 0x20).toBe(0x20);
    pit.writeControlB(0);
    program(2, 5, 5);
    pit.writeControlB(1);
    toTick(67);
    expect(pit.readControlB() & 0x20).toBe(0);
    toTick(68);
    expect(pit.readControlB() & 0x20).toBe(0x20);
  });

  test("mode 4 strobes once", () => {
    const { line, program, toTick } = build();
    program(0, 4, 20);
    const before = line.risingEdges;
    toTick(21);
    expect(line.risingEdges).toBe(before);
    toTick(22);
    expect(line.risingEdges).toBe(before + 1);
    toTick(100_000);
    expect(line.risingEdges).toBe(before + 1);
  });

  test("read-back latches status and count of several channels", () => {
    const { pit, program, toTick } = build();
    program(0, 2, 0x1234);
    pit.write(3, 0xe2);
    expect(pit.read(0)).toBe(0xf4);
    toTick(5);
    pit.write(3, 0xc2);
    toTick(50);
    expect(pit.read(0)).toBe(0xb4);
    expect(pit.read(0) | (pit.read(0) << 8)).toBe(0x1230);
    expect(pit.read(0) | (pit.read(0) << 8)).toBe(0x1203);
  });

  test("BCD counting", () => {
    const { pit, toTick } = build();
    pit.write(3, 0x31);
    pit.write(0, 0x00);
    pit.write(0, 0x10);
    toTick(2);
    pit.write(3, 0);
    expect(pit.read(0) | (pit.read(0) << 8)).toBe(0x0999);
  });

  test("the refresh bit toggles about every 15 microseconds", () => {
    const { pit, clock } = build();
    let toggles = 0;
    let previous = pit.readControlB() & 0x10;
    for (let ns = 0; ns < 1_000_000; ns += 1000) {
      clock.advanceTo(ns);
      const now = pit.readControlB() & 0x10;
      if (now !== previous) toggles++;
      previous = now;
    }
    expect(toggles).toBe(66);
  });

  test("a restored timer interrupts at the same tick", () => {
    const before = build();
    before.program(0, 2, 5000);
    before.toTick(12_345);
    const after = build(JSON.parse(JSON.stringify(before.pit.state)), before.clock.nowNs());
    expect(after.clock.nextDeadlineNs()).toBe(before.clock.nextDeadlineNs());
    after.toTick(15_001);
    before.toTick(15_001);
    expect(after.pit.state).toEqual(before.pit.state);
  });

  test("random accesses", () => {
    hammer(() => {
      const { pit, clock } = build();
      const registers = byteRegisterBlock({
        read: (offset) => (offset === 4 ? pit.readControlB() : pit.read(offset)),
        write: (offset, value) => (offset === 4 ? pit.writeControlB(value) : pit.write(offset, value)),
      });
      return { registers, clock, sizeBytes: 5 };
    });
  });
});
