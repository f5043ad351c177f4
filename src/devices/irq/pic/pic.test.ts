import { describe, expect, test } from "vitest";
import { byteRegisterBlock } from "../../byte-registers.ts";
import { VirtualClock } from "../../clock.ts";
import { hammer, recordingLine } from "../../testing/wires.ts";
import { PicPair, type PicPairState } from "./pic.ts";

function build(icw4 = 0x01, state?: PicPairState) {
  const intr = recordingLine();
  const pair = new PicPair(intr, state);
  if (state === undefined) {
    for (const [chip, base, icw3] of [
      [pair.master, 0x30, 4],
      [pair.slave, 0x38, 2],
    ] as const) {
      chip.write(0, 0x11);
      chip.write(1, base);
      chip.write(1, icw3);
      chip.write(1, icw4);
    }
  }
  return { pair, intr, pulse: (line: number) => [true, false].forEach((level) => pair.input(line).set(level)) };
}

describe("PicPair", () => {
  test("delivers by priority and nests", () => {
    const { pair, intr, pulse } = build();
    pulse(4);
    pulse(1);
    expect(intr.level).toBe(true);
    expect(pair.acknowledge()).toBe(0x31);
    expect(intr.level).toBe(false);
    pulse(0);
    expect(intr.level).toBe(true);
    expect(pair.acknowledge()).toBe(0x30);
    pair.master.write(0, 0x20);
    expect(intr.level).toBe(false);
    pair.master.write(0, 0x20);
    expect(pair.acknowledge()).toBe(0x34);
  });

  test("the slave goes through input 2 and needs two EOIs", () => {
    const { pair, intr, pulse } = build();
    pulse(12);
    expect(pair.acknowledge()).toBe(0x3c);
    expect([pair.state.master.inService, pair.state.slave.inService]).toEqual([4, 0x10]);
    pulse(9);
    expect(intr.level).toBe(false);
    pair.slave.write(0, 0x20);
    pair.master.write(0, 0x20);
    expect(pair.acknowledge()).toBe(0x39);
  });

  test("a better slave request that arrives during the acknowledge is not lost", () => {
    const { pair, pulse } = build(0x11);
    pulse(12);
    pair.master.acknowledge();
    pulse(9);
    expect(pair.slave.vectorOf(pair.slave.acknowledge())).toBe(0x39);
    pair.slave.write(0, 0x20);
    expect(pair.acknowledge()).toBe(0x3c);
  });

  test("special fully nested mode lets the slave interrupt itself", () => {
    const { pair, intr, pulse } = build(0x11);
    pulse(12);
    pair.acknowledge();
    pulse(9);
    expect(intr.level).toBe(true);
    expect(pair.acknowledge()).toBe(0x39);
  });

  test("edges are latched, levels follow the pin and give spurious 7 when gone", () => {
    const { pair, intr } = build();
    pair.master.writeElcr(0xff);
    pair.slave.writeElcr(0xff);
    expect([pair.master.readElcr(), pair.slave.readElcr()]).toEqual([0xf8, 0xde]);
    pair.input(5).set(true);
    expect(intr.level).toBe(true);
    pair.input(5).set(false);
    expect(intr.level).toBe(false);
    expect(pair.acknowledge()).toBe(0x37);
    expect(pair.state.master.inService).toBe(0);
    pair.input(5).set(true);
    expect(pair.acknowledge()).toBe(0x35);
    pair.master.write(0, 0x65);
    expect(pair.acknowledge()).toBe(0x35);
  });

  test("automatic EOI with rotation", () => {
    const { pair, pulse } = build(0x03);
    pair.master.write(0, 0x80);
    pulse(3);
    expect(pair.acknowledge()).toBe(0x33);
    expect(pair.state.master.inService).toBe(0);
    pulse(3);
    pulse(4);
    expect(pair.acknowledge()).toBe(0x34);
    expect(pair.acknowledge()).toBe(0x33);
  });

  test("specific rotation and set priority", () => {
    const { pair, pulse } = build();
    pair.master.write(0, 0xc3);
    pulse(0);
    pulse(4);
    expect(pair.acknowledge()).toBe(0x34);
    pair.master.write(0, 0xe4);
    pulse(5);
    expect(pair.acknowledge()).toBe(0x35);
  });

  test("special mask mode lets lower priorities through", () => {
    const { pair, intr, pulse } = build();
    pulse(1);
    pair.acknowledge();
    pulse(6);
    expect(intr.level).toBe(false);
    pair.master.write(1, 0x02);
    expect(intr.level).toBe(false);
    pair.master.write(0, 0x68);
    expect(intr.level).toBe(true);
    expect(pair.acknowledge()).toBe(0x36);
    pair.master.write(0, 0x48);
    expect(pair.state.master.isSpecialMaskMode).toBe(false);
  });

  test("poll command acknowledges", () => {
    const { pair, intr, pulse } = build();
    pair.master.write(0, 0x0c);
    expect(pair.master.read(0)).toBe(0);
    pulse(3);
    pair.master.write(0, 0x0c);
    expect(pair.master.read(0)).toBe(0x83);
    expect(intr.level).toBe(false);
    pair.master.write(0, 0x0b);
    expect(pair.master.read(0)).toBe(8);
  });

  test("the mask reads back, masked requests wait", () => {
    const { pair, intr, pulse } = build();
    pair.master.write(1, 0xfb);
    expect(pair.master.read(1)).toBe(0xfb);
    pulse(1);
    expect(intr.level).toBe(false);
    pair.master.write(0, 0x0a);
    expect(pair.master.read(0)).toBe(2);
    pair.master.write(1, 0);
    expect(intr.level).toBe(true);
  });

  test("a restored pair drives its output at once", () => {
    const before = build();
    before.pulse(10);
    const after = build(1, JSON.parse(JSON.stringify(before.pair.state)));
    expect(after.intr.level).toBe(true);
    expect(after.pair.acknowledge()).toBe(0x3a);
  });

  test("random accesses", () => {
    hammer(() => {
      const { pair } = build();
      const registers = byteRegisterBlock({
        read: (offset) => (offset < 2 ? pair.master.read(offset) : offset < 4 ? pair.slave.read(offset) : pair.acknowledge()),
        write: (offset, value) => {
          if (offset < 2) pair.master.write(offset, value);
          else if (offset < 4) pair.slave.write(offset, value);
          else if (offset === 4) pair.input(value & 15).set(value > 15);
          else pair.slave.writeElcr(value);
        },
      });
      return { registers, clock: new VirtualClock(), sizeBytes: 6 };
    });
  });
});
