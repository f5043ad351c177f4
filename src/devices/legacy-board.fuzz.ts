/** All legacy devices on one board: random guests never break it, and a board restored at any moment continues the same. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { pmBlock, type PmState } from "./acpi/pm-block/index.ts";
import { DispatchBus, memorySpaceBytes, portSpaceBytes } from "./bus.ts";
import { VirtualClock } from "./clock.ts";
import type { AccessSize, DeviceContext, IrqLine } from "./contract.ts";
import { fwCfg, type FwCfgState } from "./firmware/fw-cfg/index.ts";
import { i8042, type I8042State } from "./input/i8042/index.ts";
import { ioapic, type IoApicState } from "./irq/ioapic/index.ts";
import { ApicBus, LocalApic, type LocalApicState } from "./irq/local-apic/index.ts";
import { decodeMessageSignal } from "./irq/message.ts";
import { pic, type PicPairState } from "./irq/pic/index.ts";
import { fanOut, wiredOr } from "./irq/wired-or.ts";
import { resetPorts, type ResetPortsState } from "./reset/reset-ports/index.ts";
import { uart16550, type SerialState } from "./serial/uart16550/index.ts";
import { hpet, type HpetState, LegacyGate } from "./timers/hpet/index.ts";
import { pit, type PitState } from "./timers/pit/index.ts";
import { rtc, type RtcState } from "./timers/rtc/index.ts";

interface States {
  pic: PicPairState;
  ioapic: IoApicState;
  apic: LocalApicState;
  hpet: HpetState;
  pit: PitState;
  rtc: RtcState;
  pm: PmState;
  reset: ResetPortsState;
  i8042: I8042State;
  uart: SerialState;
  fwCfg: FwCfgState;
}

const ramBytes = 0x1000;

function board(startNs = 0, saved?: States) {
  const clock = new VirtualClock({ startNs });
  const ports = new DispatchBus(portSpaceBytes);
  const memoryBus = new DispatchBus(memorySpaceBytes);
  const ram = new Uint8Array(ramBytes);
  const events: string[] = [];
  const bus = new ApicBus();
  // The wires need the chips and the chips' states need no wires: inputs are found when they are driven.
  const wires: readonly IrqLine[] = Array.from({ length: 24 }, (_, line) => ({
    set: (level: boolean) => inputs[line].set(level),
  }));
  const ors = wires.map((wire) => wiredOr(wire));
  const isRam = (address: number, length: number): boolean => address + length <= ramBytes;
  const context: DeviceContext = {
    ports,
    memoryBus,
    clock,
    memory: {
      sizeBytes: ramBytes,
      read: (address, target) => isRam(address, target.length) && (target.set(ram.subarray(address, address + target.length)), true),
      write: (address, source) => isRam(address, source.length) && (ram.set(source, address), true),
    },
    signalMessage: (address, data) => bus.send(decodeMessageSignal(address, data)),
    irq: (line) => ors[line](),
  };
  const apic = new LocalApic(
    { id: 0, isBootProcessor: true },
    {
      clock,
      bus,
      processor: {
        interruptPendingChanged: (isPending) => events.push(`intr ${isPending}`),
        nmi: () => events.push("nmi"),
        smi: () => events.push("smi"),
        init: () => apic.initialize(),
        startUp: () => events.push("sipi"),
        acknowledgeExternal: () => pics.acknowledge(),
      },
      tscDeadlineToNs: Number,
    },
    saved?.apic,
  );
  bus.attach(apic);
  const pics = pic.create({ output: { set: (level) => apic.setLint(0, level) } }, context, saved?.pic);
  const ioApic = ioapic.create({ base: 0xfec0_0000, deliver: (message) => bus.send(message) }, context, saved?.ioapic);
  bus.onEndOfInterrupt((vector) => ioApic.endOfInterrupt(vector));
  const inputs = wires.map((_, line) =>
    line < 16 ? fanOut(pics.input(line), ioApic.input(line === 0 ? 2 : line)) : ioApic.input(line),
  );
  memoryBus.map(0xfee0_0000, 0x1000, apic, "local-apic");
  const a20 = wiredOr({ set: (level) => events.push(`a20 ${level}`) });
  const gate = new LegacyGate();
  const onReset = (): number => events.push("reset");
  const devices = {
    pic: pics,
    ioapic: ioApic,
    apic,
    hpet: hpet.create({ base: 0xfed0_0000, legacyReplacement: (isActive) => gate.setClosed(isActive) }, context, saved?.hpet),
    pit: pit.create({ interrupt: gate.through(context.irq(0)) }, context, saved?.pit),
    rtc: rtc.create({ startEpochMs: 1.7e12, interrupt: gate.through(context.irq(8)) }, context, saved?.rtc),
    pm: pmBlock.create({ base: 0x600, sciLine: 9, onPowerOff: () => events.push("off") }, context, saved?.pm),
    reset: resetPorts.create({ onReset, a20: a20() }, context, saved?.reset),
    i8042: i8042.create({ a20: a20(), onReset }, context, saved?.i8042),
    uart: uart16550.create({ basePort: 0x3f8, irqLine: 4, transmit: (byte) => events.push(`tx ${byte}`) }, context, saved?.uart),
    fwCfg: fwCfg.create({}, context, saved?.fwCfg),
  };
  devices.fwCfg.addFile("open", new Uint8Array(32), { isWritable: true });
  events.length = 0;
  const states = (): States => ({
    pic: pics.state,
    ioapic: ioApic.state,
    apic: apic.state,
    hpet: devices.hpet.state,
    pit: devices.pit.state,
    rtc: devices.rtc.state,
    pm: devices.pm.state,
    reset: devices.reset.state,
    i8042: devices.i8042.state,
    uart: devices.uart.state,
    fwCfg: devices.fwCfg.state,
  });
  return { clock, ports, memoryBus, ram, events, apic, devices, states };
}

type Board = ReturnType<typeof board>;
type Step = (on: Board) => unknown;

const byte = fc.nat(255);
const word = fc.oneof(byte, fc.nat(0xffff_ffff));
const size = fc.constantFrom<AccessSize>(1, 2, 4);
const somePorts = [
  0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1, 0x40, 0x41, 0x42, 0x43, 0x61, 0x70, 0x71, 0x72, 0x73, 0x60, 0x64, 0x92, //
  0xb2, 0xb3, 0xcf9, 0x510, 0x511, 0x514, 0x518, 0x3f8, 0x3f9, 0x3fa, 0x3fb, 0x3fc, 0x3fd, 0x3fe, 0x3ff, //
  0x600, 0x602, 0x604, 0x608, 0x620, 0x628, 0x630, //
];
const port = fc.constantFrom(...somePorts);
const register = fc.oneof(
  fc.nat(0x3f).map((index) => 0xfee0_0000 + index * 16),
  fc.constantFrom(0xfec0_0000, 0xfec0_0010, 0xfec0_0040),
  fc.nat(0x5f).map((index) => 0xfed0_0000 + index * 4),
  fc.constantFrom(0xfed0_0010, 0xfed0_0020, 0xfed0_00f0, 0xfed0_0100, 0xfed0_0108),
);
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.tuple(port, byte).map(([at, value]): Step => (on) => on.ports.write(at, 1, value)),
  fc.tuple(port, size, word).map(([at, bytes, value]): Step => (on) => on.ports.write(at, bytes, value)),
  fc.tuple(port, size).map(([at, bytes]): Step => (on) => on.ports.read(at, bytes)),
  fc.tuple(register, word).map(([at, value]): Step => (on) => on.memoryBus.write(at, 4, value)),
  register.map((at): Step => (on) => on.memoryBus.read(at, 4)),
  fc.oneof(fc.nat(2000), fc.nat(1e6), fc.nat(4e9)).map((ns): Step => (on) => on.clock.advanceTo(on.clock.nowNs() + ns)),
  fc.constant<Step>((on) => {
    const deadline = on.clock.nextDeadlineNs();
    if (deadline !== undefined) on.clock.advanceTo(deadline);
    return deadline;
  }),
  fc.constant<Step>((on) => (on.apic.hasInterrupt() ? on.apic.acknowledge() : undefined)),
  byte.map((value): Step => (on) => on.devices.uart.feed(Uint8Array.of(value, value, value))),
  byte.map((value): Step => (on) => on.devices.i8042.sendScancodes(Uint8Array.of(value))),
  fc.constant<Step>((on) => on.devices.pm.block.pressPowerButton()),
);

test("a board restored at any moment continues as the one it was saved from", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 150 }), fc.array(step, { maxLength: 60 }), (before, after) => {
      const original = board();
      for (const apply of before) apply(original);
      // A copy as a snapshot makes it; time stands at a whole moment, with nothing due.
      const restored = board(original.clock.nowNs(), structuredClone(original.states()));
      restored.ram.set(original.ram);
      original.events.length = 0;
      expect(restored.states()).toEqual(original.states());
      for (const apply of after) {
        expect(restored.clock.nextDeadlineNs()).toBe(original.clock.nextDeadlineNs());
        expect(apply(restored)).toEqual(apply(original));
      }
      expect(restored.states()).toEqual(original.states());
      expect(restored.events).toEqual(original.events);
    }),
    { numRuns: 400 },
  );
});

test("resetting brings every register back to where it started", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
      const used = board();
      for (const apply of steps) apply(used);
      // The controllers last: what drives their inputs must have let go.
      const { pic: controllers, ioapic: ioApic, apic: localApic, ...rest } = used.devices;
      for (const device of [...Object.values(rest), controllers, ioApic, localApic]) device.reset();
      const { pic: pics, apic, uart, pit: timer, hpet: hpetState, i8042: keyboard } = used.states();
      const fresh = board().states();
      expect({ ...pics.master, pins: 0 }).toEqual({ ...fresh.pic.master, pins: 0 });
      expect({ ...apic, lintLevels: 0 }).toEqual({ ...fresh.apic, lintLevels: 0 });
      expect(uart).toEqual(fresh.uart);
      expect(timer.channels).toEqual(fresh.pit.channels);
      expect(hpetState).toEqual(fresh.hpet);
      expect(keyboard).toEqual(fresh.i8042);
    }),
  );
});
