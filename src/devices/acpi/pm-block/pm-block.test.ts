import { describe, expect, test } from "vitest";
import { VirtualClock } from "../../clock.ts";
import { hammer, recordingLine, runUntil } from "../../testing/wires.ts";
import { PmBlock, type PmState } from "./pm-block.ts";

function build(state?: PmState, startNs = 0) {
  const clock = new VirtualClock({ startNs });
  const sci = recordingLine();
  let powerOffs = 0;
  const block = new PmBlock({ clock, sci, onPowerOff: () => powerOffs++ }, state);
  return { clock, sci, block, powerOffs: () => powerOffs };
}

describe("PmBlock", () => {
  test("the timer counts 3.579545 MHz in 24 bits", () => {
    const { block, clock } = build();
    clock.advanceTo(1e9);
    expect(block.read(8, 4)).toBe(3_579_545);
    clock.advanceTo(10e9);
    expect(block.read(8, 4)).toBe(35_795_450 % 2 ** 24);
    expect(block.read(9, 2)).toBe((35_795_450 % 2 ** 24) >> 8);
    block.write(8, 4, 0);
    expect(block.read(8, 4)).toBe(35_795_450 % 2 ** 24);
  });

  test("timer carry: status always, interrupt only when asked for", () => {
    const { block, clock, sci } = build();
    expect(clock.nextDeadlineNs()).toBeUndefined();
    clock.advanceTo(2.4e9);
    expect(block.read(0, 2)).toBe(1);
    block.write(0, 2, 1);
    expect(block.read(0, 2)).toBe(0);
    block.write(2, 2, 1);
    block.writeApm(0, 2);
    runUntil(clock, 4.8e9);
    expect(sci.level).toBe(true);
    expect(clock.nextDeadlineNs()).toBeUndefined();
    block.write(0, 2, 1);
    expect(sci.level).toBe(false);
    expect(clock.nextDeadlineNs()).toBeGreaterThan(7e9);
  });

  test("ACPI mode goes on and off by the APM port", () => {
    const { block } = build();
    expect(block.read(4, 2)).toBe(0);
    block.writeApm(0, 2);
    expect(block.read(4, 2)).toBe(1);
    block.writeApm(0, 3);
    block.writeApm(1, 0x77);
    expect([block.read(4, 2), block.readApm(0), block.readApm(1)]).toEqual([0, 3, 0x77]);
  });

  test("the power button reaches a guest that listens", () => {
    const { block, sci } = build();
    expect(block.pressPowerButton()).toBe(false);
    block.write(0, 2, 0x100);
    block.writeApm(0, 2);
    block.write(2, 2, 0x100);
    expect(block.pressPowerButton()).toBe(true);
    expect(sci.level).toBe(true);
    block.write(1, 1, 0x01);
    expect(sci.level).toBe(false);
  });

  test.each([0, 7])("sleep type %i with SLP_EN powers off", (type) => {
    const { block, powerOffs } = build();
    block.write(4, 2, type << 10);
    expect(powerOffs()).toBe(0);
    block.write(4, 2, (type << 10) | 0x2000);
    expect(powerOffs()).toBe(1);
    expect(block.read(4, 2) & 0x2000).toBe(0);
  });

  test("other sleep types do not", () => {
    const { block, powerOffs } = build();
    block.write(4, 2, (5 << 10) | 0x2000);
    expect(powerOffs()).toBe(0);
  });

  test("general-purpose events", () => {
    const { block, sci } = build();
    block.writeApm(0, 2);
    block.write(0x28, 4, 0x02);
    block.raiseGpe(1);
    expect(block.read(0x20, 4)).toBe(2);
    expect(sci.level).toBe(true);
    block.write(0x20, 1, 2);
    expect(sci.level).toBe(false);
  });

  test("firmware finds SMM already set up", () => {
    const { block } = build();
    expect(block.read(0x30, 4)).toBe(0x20);
    block.write(0x30, 4, 0x8000_0021);
    expect(block.read(0x30, 4)).toBe(0x8000_0021);
    expect(block.read(0x34, 4)).toBe(0);
  });

  test("a restored block keeps its line and its deadline", () => {
    const before = build();
    before.block.writeApm(0, 2);
    before.block.write(2, 2, 0x101);
    const idle = build(JSON.parse(JSON.stringify(before.block.state)));
    expect(idle.clock.nextDeadlineNs()).toBe(before.clock.nextDeadlineNs());
    before.block.pressPowerButton();
    expect(build(JSON.parse(JSON.stringify(before.block.state))).sci.level).toBe(true);
  });

  test("random accesses", () => {
    hammer(() => {
      const { block, clock } = build();
      return { registers: block, clock, sizeBytes: 128 };
    });
  });
});
