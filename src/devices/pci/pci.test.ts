import { describe, expect, it } from "vitest";
import { TestBoard } from "../testing/board.ts";
import { PciFunction } from "./function.ts";
import { hostBridge, type ShadowRegion } from "./host-bridge/index.ts";
import { lpcBridge } from "./lpc-bridge/index.ts";
import { Config } from "./registers.ts";

const scratch = { read: (offset: number) => offset, write: () => {} };

function board() {
  const machine = new TestBoard();
  const shadow: ShadowRegion[] = [];
  const pmBases: (number | undefined)[] = [];
  const host = hostBridge.create({ shadowChanged: (region) => shadow.push(region) }, machine.context);
  const lpc = lpcBridge.create({ pmBaseChanged: (base) => pmBases.push(base) }, machine.context);
  const config = (device: number, fn: number, offset: number): number => 0x80000000 + (device << 11) + (fn << 8) + offset;
  return {
    machine,
    host,
    lpc,
    shadow,
    pmBases,
    read(device: number, fn: number, offset: number): number {
      machine.ports.write(0xcf8, 4, config(device, fn, offset & 0xfc));
      return machine.ports.read(0xcfc, 4);
    },
    write(device: number, fn: number, offset: number, value: number): void {
      machine.ports.write(0xcf8, 4, config(device, fn, offset & 0xfc));
      machine.ports.write(0xcfc, 4, value);
    },
  };
}

function plug(machine: TestBoard) {
  const pciFunction = new PciFunction({ vendorId: 0x1234, deviceId: 0x5678, classCode: 0xff0000, interruptPin: 1 }, machine.context, [
    { kind: "memory64", index: 0, sizeBytes: 0x4000, isPrefetchable: true, registers: scratch, name: "m64" },
    { kind: "io", index: 2, sizeBytes: 0x40, registers: scratch, name: "io" },
    { kind: "memory32", index: 3, sizeBytes: 0x1000, registers: scratch, name: "m32" },
    { kind: "rom", index: 0, sizeBytes: 0x10000, registers: scratch, name: "rom" },
  ]);
  return { pciFunction, address: machine.pci.attach(pciFunction) };
}

describe("configuration access", () => {
  it("finds the bridges and floats elsewhere", () => {
    const { read } = board();
    expect(read(0, 0, 0)).toBe(0x29c08086);
    expect(read(0x1f, 0, 0)).toBe(0x29188086);
    expect(read(0x1f, 0, 0x0c) & 0x800000).toBe(0x800000);
    expect(read(7, 0, 0)).toBe(0xffffffff);
  });

  it("reaches bytes and words through the data port", () => {
    const { machine, read } = board();
    read(0, 0, 0);
    expect(machine.ports.read(0xcfe, 2)).toBe(0x29c0);
    expect(machine.ports.read(0xcfd, 1)).toBe(0x80);
  });

  it("ignores the data port while the enable bit is clear", () => {
    const { machine } = board();
    machine.ports.write(0xcf8, 4, 0);
    expect(machine.ports.read(0xcfc, 4)).toBe(0xffffffff);
  });

  it("opens the enhanced window where PCIEXBAR says", () => {
    const { machine, host } = board();
    expect(host.ecamBase).toBeUndefined();
    host.enableEcam();
    expect(host.ecamBase).toBe(0xb0000000);
    expect(machine.memoryBus.read(0xb0000000, 4)).toBe(0x29c08086);
    expect(machine.memoryBus.read(0xb0000000 + (0x1f << 15), 2)).toBe(0x8086);
    expect(machine.memoryBus.read(0xb0000000 + (1 << 20), 4)).toBe(0xffffffff);
    expect(machine.memoryBus.read(0xb0000100, 4)).toBe(0xffffffff);
    host.enableEcam(0xe0000000);
    expect(machine.memoryBus.isMapped(0xb0000000)).toBe(false);
    expect(machine.memoryBus.read(0xe0000000, 4)).toBe(0x29c08086);
  });
});

describe("base addresses", () => {
  it("tells its size and keeps type bits", () => {
    const { machine, read, write } = board();
    const { address } = plug(machine);
    for (const [offset, expected] of [
      [0x10, 0xffffc00c],
      [0x14, 0xffffffff],
      [0x18, 0xffffffc1],
      [0x1c, 0xfffff000],
      [0x20, 0],
      [0x30, 0xffff0001],
    ]) {
      write(address.device, 0, offset, 0xffffffff);
      expect(read(address.device, 0, offset)).toBe(expected);
    }
  });

  it("decodes only while the command register says so, and moves", () => {
    const { machine, write } = board();
    const { address } = plug(machine);
    write(address.device, 0, 0x1c, 0xd0000000);
    expect(machine.memoryBus.isMapped(0xd0000000)).toBe(false);
    write(address.device, 0, 4, 2);
    expect(machine.memoryBus.read(0xd0000010, 4)).toBe(0x10);
    write(address.device, 0, 0x1c, 0xd1000000);
    expect(machine.memoryBus.isMapped(0xd0000000)).toBe(false);
    expect(machine.memoryBus.isMapped(0xd1000000)).toBe(true);
    write(address.device, 0, 0x10, 0);
    write(address.device, 0, 0x14, 8);
    expect(machine.memoryBus.isMapped(0x8_0000_0000)).toBe(true);
    write(address.device, 0, 4, 0);
    expect(machine.memoryBus.isMapped(0xd1000000)).toBe(false);
  });

  it("gives addresses and lines without firmware", () => {
    const { machine, lpc } = board();
    const first = plug(machine);
    const second = plug(machine);
    lpc.assignResources(0x600);
    machine.pci.assignResources();
    const bases = [first, second].flatMap(({ pciFunction }) => pciFunction.baseAddresses.map((bar) => bar.address));
    expect(new Set(bases).size).toBe(8);
    expect(first.pciFunction.baseAddresses[1].address).toBe(0xc000);
    expect(machine.memoryBus.isMapped(first.pciFunction.baseAddresses[0].address)).toBe(true);
    // The ROM's own enable bit stays off.
    expect(machine.memoryBus.isMapped(first.pciFunction.baseAddresses[3].address)).toBe(false);
    expect([10, 11]).toContain(first.pciFunction.config.get(Config.interruptLine, 1));
    expect(lpc.pmBase).toBe(0x600);
  });
});

describe("interrupts", () => {
  it("reach the I/O APIC pin and the routed ISA interrupt, unless disabled", () => {
    const { machine, lpc, write } = board();
    const { pciFunction, address } = plug(machine);
    expect(address.device).toBe(2);
    const pin = lpc.ioApicPin(2, 0);
    expect(pin).toBe(22);
    pciFunction.setInterrupt(true);
    expect(machine.levels[pin]).toBe(true);
    lpc.assignResources(0x600);
    expect(machine.levels[lpc.isaInterrupt(2, 0)]).toBe(true);
    write(2, 0, 4, 0x400);
    expect(machine.levels.some((level) => level)).toBe(false);
    expect(pciFunction.config.get(Config.status, 2) & 8).toBe(8);
    write(2, 0, 4, 0);
    pciFunction.setInterrupt(false);
    expect(machine.levels.some((level) => level)).toBe(false);
  });

  it("are shared by functions on one pin", () => {
    const { machine, lpc } = board();
    const one = plug(machine);
    const four = [plug(machine), plug(machine), plug(machine), plug(machine)][3];
    const pin = lpc.ioApicPin(one.address.device, 0);
    expect(lpc.ioApicPin(four.address.device, 0)).toBe(pin);
    one.pciFunction.setInterrupt(true);
    four.pciFunction.setInterrupt(true);
    one.pciFunction.setInterrupt(false);
    expect(machine.levels[pin]).toBe(true);
    four.pciFunction.setInterrupt(false);
    expect(machine.levels[pin]).toBe(false);
  });

  it("are described for ACPI", () => {
    const { machine, lpc } = board();
    const routes = machine.pci.interruptRoutes();
    expect(routes).toHaveLength(128);
    expect(routes[4 * 3 + 1]).toEqual({ device: 3, pin: 1, globalInterrupt: lpc.ioApicPin(3, 1) });
    expect(routes.every(({ globalInterrupt }) => globalInterrupt >= 16 && globalInterrupt < 24)).toBe(true);
  });

  it("follow the chipset's route registers for device 31", () => {
    const { machine, lpc, write } = board();
    expect(lpc.ioApicPin(0x1f, 0)).toBe(16);
    expect(lpc.ioApicPin(0x1f, 1)).toBe(17);
    write(0x1f, 0, 0xf0, 0xfed1c001);
    expect(machine.memoryBus.read(0xfed1f140, 2)).toBe(0x3210);
    machine.memoryBus.write(0xfed1f140, 2, 0x3217);
    expect(lpc.ioApicPin(0x1f, 0)).toBe(23);
  });
});

describe("MSI-X", () => {
  it("sends, masks and remembers", () => {
    const { machine, write } = board();
    const { pciFunction, address } = plug(machine);
    const msix = pciFunction.addMsix(3, 3, 0, 0x800);
    const control = pciFunction.config.get(Config.capabilitiesPointer, 1);
    msix.table.write(16, 4, 0xfee01000);
    msix.table.write(24, 4, 0x41);
    msix.signal(1);
    expect(machine.messages).toEqual([]);
    write(address.device, 0, 4, 4);
    write(address.device, 0, control, 0x80000000);
    msix.signal(1);
    expect(msix.pendingBits.read(0, 4)).toBe(2);
    msix.table.write(28, 4, 0);
    expect(machine.messages).toEqual([{ address: 0xfee01000, data: 0x41 }]);
    expect(msix.pendingBits.read(0, 4)).toBe(0);
    write(address.device, 0, control, 0xc0000000);
    msix.signal(1);
    msix.signal(99);
    expect(machine.messages).toHaveLength(1);
    write(address.device, 0, control, 0x80000000);
    expect(machine.messages).toHaveLength(2);
  });
});

describe("MSI", () => {
  it("sends its one message while enabled", () => {
    const { machine, write, read } = board();
    const { pciFunction, address } = plug(machine);
    const msi = pciFunction.addMsi();
    const at = pciFunction.config.get(Config.capabilitiesPointer, 1);
    write(address.device, 0, at + 4, 0xfee00000);
    write(address.device, 0, at + 12, 0x4022);
    write(address.device, 0, 4, 4);
    msi.signal();
    write(address.device, 0, at, read(address.device, 0, at) | 0x10000);
    msi.signal();
    expect(machine.messages).toEqual([{ address: 0xfee00000, data: 0x4022 }]);
  });
});

describe("host bridge", () => {
  it("reports every shadow area at first and changes after that", () => {
    const { shadow, write, host } = board();
    expect(shadow).toHaveLength(13);
    shadow.length = 0;
    write(0, 0, 0x90, 0x30);
    expect(shadow).toEqual([{ start: 0xf0000, sizeBytes: 0x10000, readsRam: true, writesRam: true }]);
    shadow.length = 0;
    write(0, 0, 0x94, 0x21 << 8);
    expect(shadow).toEqual([
      { start: 0xe0000, sizeBytes: 0x4000, readsRam: true, writesRam: false },
      { start: 0xe4000, sizeBytes: 0x4000, readsRam: false, writesRam: true },
    ]);
    host.reset();
    expect(shadow.slice(-13).every(({ readsRam, writesRam }) => !readsRam && !writesRam)).toBe(true);
  });

  it("locks SMRAM until reset", () => {
    const { write, read, host } = board();
    write(0, 0, 0x9c, 0x4a00);
    expect((read(0, 0, 0x9c) >> 8) & 0xff).toBe(0x4a);
    write(0, 0, 0x9c, 0x1a00);
    write(0, 0, 0x9c, 0x4a00);
    expect((read(0, 0, 0x9c) >> 8) & 0xff).toBe(0x1a);
    host.reset();
    expect((read(0, 0, 0x9c) >> 8) & 0xff).toBe(0x02);
  });
});

describe("LPC bridge", () => {
  it("publishes the ACPI base while ACPI is on", () => {
    const { write, pmBases, lpc } = board();
    write(0x1f, 0, 0x40, 0x601);
    write(0x1f, 0, 0x44, 0x80);
    expect(pmBases.at(-1)).toBe(0x600);
    lpc.reset();
    expect(pmBases.at(-1)).toBeUndefined();
  });
});
