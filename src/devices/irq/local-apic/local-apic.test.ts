import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { VirtualClock } from "../../clock.ts";
import { hammer, runUntil } from "../../testing/wires.ts";
import { IoApic } from "../ioapic/ioapic.ts";
import { decodeMessageSignal, isMessageAddress } from "../message.ts";
import { ApicBus } from "./apic-bus.ts";
import { LocalApic } from "./local-apic.ts";
import type { LocalApicState } from "./state.ts";

/** The guest TSC runs at 2 GHz. */
const tscPerNs = 2n;

function processor(bus: ApicBus, clock: VirtualClock, id: number, state?: LocalApicState) {
  const log: string[] = [];
  const apic = new LocalApic(
    { id, isBootProcessor: id === 0 },
    {
      clock,
      bus,
      processor: {
        interruptPendingChanged: (isPending) => log.push(isPending ? "pending" : "idle"),
        nmi: () => log.push("nmi"),
        smi: () => log.push("smi"),
        init: () => {
          log.push("init");
          apic.initialize();
        },
        startUp: (vector) => log.push(`sipi ${vector}`),
        acknowledgeExternal: () => 0x08,
      },
      tscDeadlineToNs: (tsc) => Number((tsc + tscPerNs - 1n) / tscPerNs),
    },
    state,
  );
  bus.attach(apic);
  return { apic, log };
}

function build(count = 1) {
  const clock = new VirtualClock();
  const bus = new ApicBus();
  const cpus = Array.from({ length: count }, (_, id) => processor(bus, clock, id));
  for (const { apic } of cpus) apic.write(0xf0, 4, 0x1ff);
  return { clock, bus, cpus, apic: cpus[0].apic, log: cpus[0].log };
}

const selfInterrupt = (apic: LocalApic, vector: number): void => apic.write(0x300, 4, 0x4_4000 | vector);

describe("LocalApic priorities", () => {
  test("nests by class and ends in order", () => {
    const { apic } = build();
    selfInterrupt(apic, 0x41);
    selfInterrupt(apic, 0x52);
    expect(apic.acknowledge()).toBe(0x52);
    expect(apic.hasInterrupt()).toBe(false);
    selfInterrupt(apic, 0x5f);
    expect(apic.hasInterrupt()).toBe(false);
    expect(apic.read(0xa0, 4)).toBe(0x50);
    apic.write(0xb0, 4, 0);
    expect(apic.acknowledge()).toBe(0x5f);
    apic.write(0xb0, 4, 0);
    expect(apic.acknowledge()).toBe(0x41);
    apic.write(0xb0, 4, 0);
    expect(apic.hasInterrupt()).toBe(false);
    expect(apic.acknowledge()).toBe(0xff);
  });

  test("task priority, by register and by CR8", () => {
    const { apic, log } = build();
    apic.setCr8(5);
    expect(apic.read(0x80, 4)).toBe(0x50);
    selfInterrupt(apic, 0x5e);
    expect(log).toEqual([]);
    apic.write(0x80, 4, 0x4f);
    expect(apic.getCr8()).toBe(4);
    expect(log).toEqual(["pending"]);
    apic.setCr8(15);
    expect(log).toEqual(["pending", "idle"]);
  });

  test("IRR, ISR and TMR read back", () => {
    const { apic } = build();
    selfInterrupt(apic, 0x3f);
    expect(apic.read(0x210, 4)).toBe(0x8000_0000);
    apic.acknowledge();
    expect([apic.read(0x210, 4), apic.read(0x110, 4), apic.read(0x190, 4)]).toEqual([0, 0x8000_0000, 0]);
  });

  test("illegal vectors are errors, the error entry reports them, ESR shows them after a write", () => {
    const { apic } = build();
    apic.write(0x370, 4, 0xfe);
    selfInterrupt(apic, 0x0f);
    expect(apic.read(0x280, 4)).toBe(0);
    apic.write(0x280, 4, 0);
    expect(apic.read(0x280, 4)).toBe(0x20);
    expect(apic.acknowledge()).toBe(0xfe);
    apic.read(0x3f0, 4);
    apic.write(0x280, 4, 0);
    expect(apic.read(0x280, 4)).toBe(0x80);
  });

  test("disabling by software masks the LVT and refuses fixed interrupts", () => {
    const { apic } = build();
    apic.write(0x320, 4, 0x40);
    apic.write(0xf0, 4, 0xff);
    expect(apic.read(0x320, 4)).toBe(0x1_0040);
    apic.write(0x320, 4, 0x40);
    expect(apic.read(0x320, 4)).toBe(0x1_0040);
    selfInterrupt(apic, 0x50);
    expect(apic.hasInterrupt()).toBe(false);
  });
});

describe("LocalApic timer", () => {
  test("one-shot with divider", () => {
    const { apic, clock } = build();
    apic.write(0x320, 4, 0x40);
    apic.write(0x3e0, 4, 0x3);
    apic.write(0x380, 4, 1000);
    expect(clock.nextDeadlineNs()).toBe(16_000);
    clock.advanceTo(8000);
    expect(apic.read(0x390, 4)).toBe(500);
    apic.write(0x3e0, 4, 0xb);
    expect(apic.read(0x390, 4)).toBe(500);
    runUntil(clock, 8500);
    expect(apic.acknowledge()).toBe(0x40);
    expect(apic.read(0x390, 4)).toBe(0);
    expect(clock.nextDeadlineNs()).toBeUndefined();
  });

  test("periodic without drift; late periods coalesce", () => {
    const { apic, clock } = build();
    apic.write(0x3e0, 4, 0xb);
    apic.write(0x320, 4, 0x2_0040);
    apic.write(0x380, 4, 1000);
    runUntil(clock, 1000);
    expect(apic.acknowledge()).toBe(0x40);
    apic.write(0xb0, 4, 0);
    clock.advanceTo(5500);
    expect(apic.acknowledge()).toBe(0x40);
    apic.write(0xb0, 4, 0);
    expect(apic.hasInterrupt()).toBe(false);
    expect(clock.nextDeadlineNs()).toBe(6000);
    expect(apic.read(0x390, 4)).toBe(500);
  });

  test("a masked timer wakes nobody and does not interrupt late", () => {
    const { apic, clock } = build();
    apic.write(0x3e0, 4, 0xb);
    apic.write(0x320, 4, 0x1_0040);
    apic.write(0x380, 4, 1000);
    expect(clock.nextDeadlineNs()).toBeUndefined();
    clock.advanceTo(2000);
    apic.write(0x320, 4, 0x40);
    runUntil(clock, 3000);
    expect(apic.hasInterrupt()).toBe(false);
    apic.write(0x380, 4, 1000);
    runUntil(clock, 4000);
    expect(apic.hasInterrupt()).toBe(true);
  });

  test("TSC deadline", () => {
    const { apic, clock } = build();
    expect(apic.writeMsr(0x6e0, 5000n)).toBe(true);
    expect(apic.readMsr(0x6e0)).toBe(0n);
    apic.write(0x320, 4, 0x4_0040);
    apic.writeMsr(0x6e0, 5000n);
    expect(apic.readMsr(0x6e0)).toBe(5000n);
    apic.write(0x380, 4, 7);
    expect(apic.read(0x380, 4)).toBe(0);
    runUntil(clock, 2500);
    expect(apic.readMsr(0x6e0)).toBe(0n);
    expect(apic.acknowledge()).toBe(0x40);
    apic.write(0xb0, 4, 0);
    apic.writeMsr(0x6e0, 1n);
    runUntil(clock, 2501);
    expect(apic.acknowledge()).toBe(0x40);
    apic.writeMsr(0x6e0, 9000n);
    apic.writeMsr(0x6e0, 0n);
    expect(clock.nextDeadlineNs()).toBeUndefined();
  });

  test("a restored APIC continues", () => {
    const before = build();
    before.apic.write(0x320, 4, 0x2_0040);
    before.apic.write(0x380, 4, 1000);
    selfInterrupt(before.apic, 0x90);
    runUntil(before.clock, 5000);
    const clock = new VirtualClock({ startNs: before.clock.nowNs() });
    const { apic, log } = processor(new ApicBus(), clock, 0, JSON.parse(JSON.stringify(before.apic.state)));
    expect(log).toEqual(["pending"]);
    expect(clock.nextDeadlineNs()).toBe(before.clock.nextDeadlineNs());
    expect(apic.acknowledge()).toBe(0x90);
  });
});

describe("LocalApic pins", () => {
  test("virtual wire: ExtINT follows LINT0, whatever the task priority", () => {
    const { apic } = build();
    apic.setCr8(15);
    apic.setLint(0, true);
    expect(apic.hasInterrupt()).toBe(true);
    expect(apic.acknowledge()).toBe(0x08);
    apic.setLint(0, false);
    expect(apic.hasInterrupt()).toBe(false);
    apic.write(0x350, 4, 0x1_0700);
    apic.setLint(0, true);
    expect(apic.hasInterrupt()).toBe(false);
  });

  test("LINT1 as NMI", () => {
    const { apic, log } = build();
    apic.setLint(1, true);
    apic.setLint(1, false);
    expect(log).toEqual([]);
    apic.write(0x360, 4, 0x400);
    apic.setLint(1, true);
    expect(log).toEqual(["nmi"]);
  });

  test("level-triggered fixed LINT0 repeats after EOI", () => {
    const { apic } = build();
    apic.write(0x350, 4, 0x8044);
    apic.setLint(0, true);
    expect(apic.acknowledge()).toBe(0x44);
    expect(apic.read(0x350, 4)).toBe(0xc044);
    apic.write(0xb0, 4, 0);
    expect(apic.acknowledge()).toBe(0x44);
    apic.setLint(0, false);
    apic.write(0xb0, 4, 0);
    expect(apic.hasInterrupt()).toBe(false);
    expect(apic.read(0x350, 4)).toBe(0x8044);
  });

  test("a disabled APIC leaves the pins to the processor", () => {
    const { apic, log } = build();
    expect(apic.writeMsr(0x1b, 0xfee0_0000n)).toBe(true);
    expect(apic.mappedBase()).toBeUndefined();
    apic.setLint(0, true);
    expect(apic.acknowledge()).toBe(0x08);
    apic.setLint(1, true);
    expect(log).toContain("nmi");
  });
});

describe("inter-processor interrupts", () => {
  const pending = (cpus: { apic: LocalApic }[]): number[] => cpus.filter(({ apic }) => apic.hasInterrupt()).map(({ apic }) => apic.id);

  test("physical, shorthands and broadcast", () => {
    const { apic, cpus } = build(3);
    apic.write(0x310, 4, 2 << 24);
    apic.write(0x300, 4, 0x4050);
    expect(pending(cpus)).toEqual([2]);
    apic.write(0x300, 4, 0xc_4051);
    expect(pending(cpus)).toEqual([1, 2]);
    apic.write(0x300, 4, 0x8_4052);
    expect(pending(cpus)).toEqual([0, 1, 2]);
    expect(cpus[2].apic.acknowledge()).toBe(0x52);
    const other = build(2);
    other.apic.write(0x310, 4, 0xff00_0000);
    other.apic.write(0x300, 4, 0x4050);
    expect(pending(other.cpus)).toEqual([0, 1]);
  });

  test("INIT, SIPI and NMI start and stop other processors", () => {
    const { apic, cpus } = build(2);
    apic.write(0x310, 4, 1 << 24);
    apic.write(0x300, 4, 0xc500);
    apic.write(0x300, 4, 0x8500);
    apic.write(0x300, 4, 0x4699);
    apic.write(0x300, 4, 0x4400);
    expect(cpus[1].log).toEqual(["init", "sipi 153", "nmi"]);
    expect(cpus[1].apic.read(0xf0, 4)).toBe(0xff);
    expect(cpus[1].apic.read(0x350, 4)).toBe(0x1_0000);
  });

  test("logical destinations, flat and cluster; lowest priority", () => {
    const { apic, cpus } = build(4);
    for (const cpu of cpus) cpu.apic.write(0xd0, 4, (1 << cpu.apic.id) << 24);
    apic.write(0x310, 4, 0x0600_0000);
    apic.write(0x300, 4, 0x4850);
    expect(pending(cpus)).toEqual([1, 2]);
    cpus[1].apic.acknowledge();
    cpus[2].apic.acknowledge();
    apic.write(0x300, 4, 0x4960);
    expect(pending(cpus)).toEqual([1]);
    cpus[1].apic.acknowledge();
    apic.write(0x300, 4, 0x4961);
    expect(pending(cpus)).toEqual([2]);
    const clustered = build(3);
    for (const [index, cpu] of clustered.cpus.entries()) {
      cpu.apic.write(0xe0, 4, 0);
      expect(cpu.apic.read(0xe0, 4)).toBe(0x0fff_ffff);
      cpu.apic.write(0xd0, 4, [0x11, 0x12, 0x21][index] << 24);
    }
    clustered.apic.write(0x310, 4, 0x1300_0000);
    clustered.apic.write(0x300, 4, 0x4850);
    expect(pending(clustered.cpus)).toEqual([0, 1]);
  });

  test("x2APIC: mode changes, 64-bit ICR, logical IDs, self IPI", () => {
    const { apic, cpus } = build(20);
    expect(apic.readMsr(0x802)).toBeUndefined();
    expect(apic.writeMsr(0x1b, 0xfee0_0400n)).toBe(false);
    expect(apic.writeMsr(0x1b, 0xfee0_0802n)).toBe(false);
    for (const cpu of cpus) expect(cpu.apic.writeMsr(0x1b, 0xfee0_0c00n)).toBe(true);
    expect(apic.mappedBase()).toBeUndefined();
    expect(apic.readMsr(0x1b)).toBe(0xfee0_0d00n);
    expect(apic.writeMsr(0x1b, 0xfee0_0800n)).toBe(false);
    expect(cpus[18].apic.readMsr(0x80d)).toBe(0x1_0004n);
    expect(apic.writeMsr(0x830, (0x1_0006n << 32n) | 0x4850n)).toBe(true);
    expect(pending(cpus)).toEqual([17, 18]);
    expect(apic.writeMsr(0x830, (0xffff_ffffn << 32n) | 0x4051n)).toBe(true);
    expect(pending(cpus)).toHaveLength(20);
    expect(cpus[3].apic.acknowledge()).toBe(0x51);
    expect(apic.writeMsr(0x83f, 0xe1n)).toBe(true);
    expect(apic.acknowledge()).toBe(0xe1);
    expect(apic.writeMsr(0x80b, 0n)).toBe(true);
    expect(apic.writeMsr(0x80b, 1n)).toBe(false);
    for (const msr of [0x802, 0x803, 0x80a, 0x80d, 0x80e, 0x831, 0x839]) expect(apic.writeMsr(msr, 0n)).toBe(false);
    for (const msr of [0x80e, 0x831, 0x80c, 0x809, 0x840, 0x8ff]) expect(apic.readMsr(msr)).toBeUndefined();
    expect(apic.writeMsr(0x808, 0x100n)).toBe(false);
    expect(apic.writeMsr(0x1b, 0xfee0_0000n)).toBe(true);
    expect(apic.readMsr(0x802)).toBeUndefined();
  });
});

describe("messages", () => {
  test("MSI decodes", () => {
    expect(isMessageAddress(0xfee1_2000)).toBe(true);
    expect(isMessageAddress(0xfed0_0000)).toBe(false);
    expect(isMessageAddress(0x1_fee0_0000)).toBe(false);
    expect(decodeMessageSignal(0xfee0_500c, 0xc031)).toEqual({
      target: "destination",
      destination: 5,
      isLogical: true,
      deliveryMode: 1,
      vector: 0x31,
      isLevelTriggered: true,
    });
  });

  test("I/O APIC and local APIC keep a level interrupt going until its wire falls", () => {
    const { apic, bus } = build();
    const ioApic = new IoApic((message) => bus.send(message));
    bus.onEndOfInterrupt((vector) => ioApic.endOfInterrupt(vector));
    ioApic.write(0, 4, 0x10 + 2 * 17);
    ioApic.write(0x10, 4, 0x8061);
    ioApic.setPin(17, true);
    for (let round = 0; round < 3; round++) {
      expect(apic.acknowledge()).toBe(0x61);
      apic.write(0xb0, 4, 0);
    }
    ioApic.setPin(17, false);
    expect(apic.acknowledge()).toBe(0x61);
    apic.write(0xb0, 4, 0);
    expect(apic.hasInterrupt()).toBe(false);
    apic.write(0xf0, 4, 0x11ff);
    ioApic.setPin(17, true);
    apic.acknowledge();
    apic.write(0xb0, 4, 0);
    expect(apic.hasInterrupt()).toBe(false);
    ioApic.write(0x40, 4, 0x61);
    expect(apic.hasInterrupt()).toBe(true);
  });
});

describe("random accesses", () => {
  test("by memory", () => {
    hammer(() => {
      const { apic, clock } = build(2);
      return { registers: apic, clock, sizeBytes: 0x400, after: () => apic.acknowledge() };
    });
  });

  test("by MSR", () => {
    const msr = fc.oneof(fc.constantFrom(0x1b, 0x6e0), fc.integer({ min: 0x800, max: 0x8ff }));
    fc.assert(
      fc.property(fc.array(fc.tuple(msr, fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.nat(3))), (writes) => {
        const { apic, clock } = build(2);
        apic.writeMsr(0x1b, 0xfee0_0c00n);
        for (const [index, value, shift] of writes) {
          apic.writeMsr(index, value >> BigInt(shift * 20));
          const read = apic.readMsr(index);
          if (read !== undefined) expect(BigInt.asUintN(64, read)).toBe(read);
          if (apic.hasInterrupt()) apic.acknowledge();
          clock.advanceTo(clock.nowNs() + 1000);
        }
      }),
    );
  });
});
