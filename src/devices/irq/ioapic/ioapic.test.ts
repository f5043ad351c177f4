import { describe, expect, test } from "vitest";
import { VirtualClock } from "../../clock.ts";
import { hammer } from "../../testing/wires.ts";
import { DeliveryMode, type InterruptMessage } from "../message.ts";
import { IoApic } from "./ioapic.ts";

function build() {
  const sent: InterruptMessage[] = [];
  const apic = new IoApic((message) => sent.push(message));
  const read = (register: number): number => {
    apic.write(0, 4, register);
    return apic.read(0x10, 4);
  };
  const write = (register: number, value: number): void => {
    apic.write(0, 4, register);
    apic.write(0x10, 4, value);
  };
  const route = (pin: number, low: number, destination = 0): void => {
    write(0x11 + 2 * pin, destination << 24);
    write(0x10 + 2 * pin, low);
  };
  return { apic, sent, read, write, route };
}

describe("IoApic", () => {
  test("identifies itself", () => {
    const { read, write } = build();
    expect(read(1)).toBe(0x0017_0020);
    write(0, 0xff00_0000);
    expect(read(0)).toBe(0x0f00_0000);
    expect(read(0x10)).toBe(0x1_0000);
    expect(read(0x40)).toBe(0);
  });

  test("edges interrupt once, masked edges are lost", () => {
    const { apic, sent, route } = build();
    route(4, 0x1_0034, 3);
    apic.setPin(4, true);
    route(4, 0x34, 3);
    expect(sent).toEqual([]);
    apic.setPin(4, false);
    apic.setPin(4, true);
    apic.setPin(4, true);
    expect(sent).toEqual([
      { target: "destination", destination: 3, isLogical: false, deliveryMode: DeliveryMode.fixed, vector: 0x34, isLevelTriggered: false },
    ]);
  });

  test("levels repeat after EOI, by broadcast or by register, until the wire falls", () => {
    const { apic, sent, route, read } = build();
    apic.setPin(16, true);
    route(16, 0x8950, 0xff);
    expect(sent).toHaveLength(1);
    expect(sent[0]).toMatchObject({ target: "all", isLogical: true, deliveryMode: 1, isLevelTriggered: true });
    expect(read(0x30)).toBe(0xc950);
    apic.endOfInterrupt(0x51);
    expect(sent).toHaveLength(1);
    apic.endOfInterrupt(0x50);
    expect(sent).toHaveLength(2);
    apic.setPin(16, false);
    apic.write(0x40, 4, 0x50);
    expect(sent).toHaveLength(2);
    expect(read(0x30)).toBe(0x8950);
  });

  test("switching to edge clears remote IRR", () => {
    const { apic, sent, route, read } = build();
    route(20, 0x8060);
    apic.setPin(20, true);
    route(20, 0x1_0060);
    expect(read(0x38)).toBe(0x1_0060);
    route(20, 0x8060);
    expect(sent).toHaveLength(2);
  });

  test("random accesses", () => {
    hammer(() => {
      const { apic } = build();
      const registers = {
        read: (offset: number, size: 1 | 2 | 4) => apic.read(offset & 0x5f, size),
        write: (offset: number, size: 1 | 2 | 4, value: number) =>
          offset > 0x60 ? apic.setPin(value % 24, offset > 0x80) : apic.write(offset & ~3, size, value),
      };
      return { registers, clock: new VirtualClock(), sizeBytes: 0xa0 };
    });
  });
});
