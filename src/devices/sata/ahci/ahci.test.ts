import { describe, expect, it } from "vitest";
import type { DiskBackend } from "../../disk/contract.ts";
import { MemoryDisk } from "../../disk/memory-disk.ts";
import { AhciDriver, commandListAt, dataAt, receivedAt } from "../../testing/ahci-driver.ts";
import { TestBoard } from "../../testing/board.ts";
import { ahci, type CdRom } from "./index.ts";

function buildDisk(disk: DiskBackend = new MemoryDisk(Uint8Array.from({ length: 256 * 512 }, (_, i) => i >> 9))) {
  const board = new TestBoard();
  const failures: string[] = [];
  const device = ahci.create(
    { drives: [{ kind: "disk", disk, serial: "SERIAL-7" }], failed: ({ code }) => failures.push(code) },
    board.context,
  );
  return { board, device, failures, driver: new AhciDriver(board, device) };
}

function buildCd(disc: DiskBackend | undefined = new MemoryDisk(Uint8Array.from({ length: 40 * 2048 }, (_, i) => i >> 11), { readOnly: true })) {
  const board = new TestBoard();
  const device = ahci.create({ drives: [{ kind: "cdrom", ...(disc === undefined ? {} : { disc }) }] }, board.context);
  const driver = new AhciDriver(board, device);
  const packet = (bytes: readonly number[], sizeBytes = 4096) =>
    driver.run({ command: 0xa0, features: 1, packet: bytes, regions: [sizeBytes] });
  /** Key and additional code of the last failure. */
  const sense = (): number[] => {
    packet([0x03, 0, 0, 0, 18], 18);
    const data = driver.data(14);
    return [data[2], data[12]];
  };
  return { board, device, cdrom: device.drives[0] as CdRom, driver, packet, sense };
}

describe("AHCI controller", () => {
  it("says what it is", () => {
    const { board, device, driver } = buildDisk();
    expect(device.pciFunction.readConfig(0, 4)).toBe(0x29228086);
    expect(device.pciFunction.readConfig(8, 4)).toBe(0x01060102);
    expect(board.memoryBus.read(driver.base + 0x0c, 4)).toBe(1);
    expect(board.memoryBus.read(driver.base + 0x10, 4)).toBe(0x10300);
    expect(driver.read(0x28)).toBe(0x113);
    expect(driver.read(0x24)).toBe(0x101);
    expect(board.memory.bytes[receivedAt + 0x40]).toBe(0x34);
    expect(buildCd().driver.read(0x24)).toBe(0xeb140101);
  });

  it("interrupts by level and by message", () => {
    const { board, device, driver } = buildDisk();
    driver.write(0x14, 0x7dc0007f);
    driver.run({ command: 0xe7 });
    expect(device.state.controller.pci.isInterruptRequested).toBe(false);
    board.memoryBus.write(driver.base + 4, 4, 0x80000002);
    expect(device.state.controller.pci.isInterruptRequested).toBe(true);
    expect(board.memoryBus.read(driver.base + 8, 4)).toBe(1);
    driver.write(0x10, driver.read(0x10));
    expect(device.state.controller.pci.isInterruptRequested).toBe(false);
    const at = device.pciFunction.readConfig(0x34, 1);
    device.pciFunction.writeConfig(at + 4, 4, 0xfee00000);
    device.pciFunction.writeConfig(at + 12, 2, 0x31);
    device.pciFunction.writeConfig(at + 2, 2, 1);
    driver.run({ command: 0xe7 });
    driver.run({ command: 0xe7 });
    expect(board.messages).toEqual([{ address: 0xfee00000, data: 0x31 }, { address: 0xfee00000, data: 0x31 }]);
  });

  it("resets by COMRESET, by software reset and as a whole", () => {
    const { board, driver } = buildDisk();
    driver.write(0x2c, 1);
    expect([driver.read(0x28), driver.read(0x20) & 0x80]).toEqual([0, 0x80]);
    driver.write(0x2c, 0);
    expect([driver.read(0x28), driver.read(0x20)]).toEqual([0x113, 0x150]);
    expect(driver.read(0x30)).toBe(0x04000000);
    board.memory.bytes.fill(0, receivedAt, receivedAt + 0x100);
    for (const control of [4, 0]) {
      driver.prepare({ command: 0 }, control);
      driver.write(0x38, 1);
      expect(driver.read(0x38)).toBe(0);
    }
    expect(board.memory.bytes[receivedAt + 0x40]).toBe(0x34);
    board.memoryBus.write(driver.base + 4, 4, 1);
    expect([driver.read(0), driver.read(0x18) & 1]).toEqual([0, 0]);
  });

  it("reports command memory that is not RAM, and goes on after a restart", () => {
    const { board, driver } = buildDisk();
    driver.prepare({ command: 0xe7 });
    board.memory.view.setUint32(commandListAt + 8, 0xf0000000, true);
    driver.write(0x38, 1);
    expect(driver.read(0x10) & 0x20000000).toBe(0x20000000);
    driver.restart();
    expect(driver.run({ command: 0xe7 }).status).toBe(0x50);
  });

  it("has a port for each drive", () => {
    const board = new TestBoard();
    const device = ahci.create({ drives: [{ kind: "cdrom" }, { kind: "disk", disk: new MemoryDisk(new Uint8Array(512)) }] }, board.context);
    const driver = new AhciDriver(board, device, 1);
    expect(board.memoryBus.read(driver.base + 0x0c, 4)).toBe(3);
    expect(driver.run({ command: 0xe7 }).status).toBe(0x50);
    expect(board.memoryBus.read(driver.base + 0x200 + 0x28, 4)).toBe(0);
  });
});

describe("SATA disk", () => {
  it("identifies itself", () => {
    const { board, driver } = buildDisk();
    expect(driver.run({ command: 0xec, regions: [512] })).toEqual({ status: 0x50, error: 0, movedBytes: 512 });
    const words = new Uint16Array(driver.data(512).buffer);
    expect(words[60]).toBe(256);
    expect(words[100]).toBe(256);
    const serial = Array.from(words.slice(10, 20), (word) => String.fromCharCode(word >> 8, word & 0xff)).join("");
    expect(serial.trim()).toBe("SERIAL-7");
    expect(board.memory.bytes[receivedAt + 0x20]).toBe(0x5f);
    expect(board.memory.bytes[receivedAt + 0x2f]).toBe(0x50);
    expect(driver.read(0x10) & 2).toBe(2);
  });

  it("reads and writes by DMA and PIO, with 28 and 48 address bits", () => {
    const { board, driver } = buildDisk();
    expect(driver.run({ command: 0x25, lba: 7, count: 2, regions: [100, 924] })).toEqual({ status: 0x50, error: 0, movedBytes: 1024 });
    expect([driver.data(1024)[0], driver.data(1024)[1023]]).toEqual([7, 8]);
    expect(driver.run({ command: 0x20, lba: 9, count: 1, regions: [512] }).status).toBe(0x50);
    expect(driver.data(1)[0]).toBe(9);
    board.memory.bytes.fill(0xaa, dataAt, dataAt + 512);
    expect(driver.run({ command: 0x35, lba: 3, count: 1, isWrite: true, regions: [512] }).status).toBe(0x50);
    driver.run({ command: 0xc8, lba: 3, count: 1, regions: [512] });
    expect(driver.data(1)[0]).toBe(0xaa);
    expect(driver.run({ command: 0xc8, lba: 0, count: 0, regions: [0x20000] }).movedBytes).toBe(0x20000);
  });

  it("answers what it cannot do with an error, and works on", () => {
    const { driver } = buildDisk();
    expect(driver.run({ command: 0x25, lba: 255, count: 2, regions: [1024] })).toMatchObject({ status: 0x51, error: 0x10 });
    expect(driver.run({ command: 0x25, lba: 0, count: 2, regions: [512] })).toMatchObject({ status: 0x51, error: 4 });
    expect(driver.run({ command: 0xb0 })).toMatchObject({ status: 0x51, error: 4 });
    expect(driver.read(0x38)).toBe(0);
    expect(driver.run({ command: 0xea }).status).toBe(0x50);
    const readOnly = buildDisk(new MemoryDisk(new Uint8Array(4096), { readOnly: true }));
    expect(readOnly.driver.run({ command: 0xca, count: 1, regions: [512] })).toMatchObject({ status: 0x51, error: 4 });
  });

  it("reports a failing back end, at once or later", async () => {
    const failure = { code: "IO_ERROR", message: "gone" } as const;
    for (const answer of [() => failure, () => Promise.resolve(failure)]) {
      const { driver, failures } = buildDisk({ sizeBytes: 4096, readOnly: false, read: answer, write: answer, flush: answer });
      driver.prepare({ command: 0xc8, count: 1, regions: [512] });
      driver.write(0x38, 1);
      await new Promise((resolve) => setTimeout(resolve, 0));
      expect(driver.read(0x20)).toBe(0x4051);
      expect(failures).toEqual(["IO_ERROR"]);
    }
  });

  it("moves nothing for a command that a reset abandoned", async () => {
    const read = async (_offset: number, target: Uint8Array) => void target.fill(0xdd);
    const { driver } = buildDisk({ sizeBytes: 4096, readOnly: false, read, write: () => undefined, flush: () => undefined });
    driver.prepare({ command: 0xc8, count: 1, regions: [512] });
    driver.write(0x38, 1);
    expect(driver.read(0x20) & 0x80).toBe(0x80);
    driver.write(0x2c, 1);
    driver.write(0x2c, 0);
    await new Promise((resolve) => setTimeout(resolve, 0));
    expect(driver.data(1)[0]).toBe(0);
    expect(driver.read(0x20)).toBe(0x150);
  });

  it("trims", () => {
    const disk = new MemoryDisk(new Uint8Array(64 * 512).fill(1));
    const { board, driver } = buildDisk(disk);
    board.memory.view.setUint32(dataAt, 4, true);
    board.memory.view.setUint16(dataAt + 6, 2, true);
    expect(driver.run({ command: 0x06, features: 1, count: 1, isWrite: true, regions: [512] }).status).toBe(0x50);
    expect([disk.bytes[4 * 512 - 1], disk.bytes[4 * 512], disk.bytes[6 * 512]]).toEqual([1, 0, 1]);
  });
});

describe("CD-ROM", () => {
  it("reads blocks and tells its size", () => {
    const { driver, packet } = buildCd();
    expect(packet([0x25], 8).status).toBe(0x50);
    expect(Array.from(driver.data(8))).toEqual([0, 0, 0, 39, 0, 0, 8, 0]);
    expect(packet([0x28, 0, 0, 0, 0, 3, 0, 0, 2, 0])).toEqual({ status: 0x50, error: 0, movedBytes: 4096 });
    expect([driver.data(1)[0], driver.data(4096)[4095]]).toEqual([3, 4]);
    expect(packet([0xa8, 0, 0, 0, 0, 9, 0, 0, 0, 1]).movedBytes).toBe(2048);
    expect(packet([0xbe, 0, 0, 0, 0, 5, 0, 0, 1, 0x10]).movedBytes).toBe(2048);
    expect(driver.data(1)[0]).toBe(5);
  });

  it("introduces itself", () => {
    const { driver, packet } = buildCd();
    expect(packet([0x12, 0, 0, 0, 36]).movedBytes).toBe(36);
    expect(Array.from(driver.data(5))).toEqual([5, 0x80, 0, 0x21, 31]);
    expect(driver.run({ command: 0xa1, regions: [512] }).status).toBe(0x50);
    expect(driver.data(2)).toEqual(Uint8Array.of(0xc0, 0x85));
    expect(driver.run({ command: 0xec, regions: [512] })).toMatchObject({ status: 0x51, error: 4 });
    expect(packet([0x43, 2, 0, 0, 0, 0, 0, 0, 20]).movedBytes).toBe(20);
    expect(Array.from(driver.data(20))).toEqual([0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 2, 0, 0, 0x14, 0xaa, 0, 0, 0, 2, 40]);
    expect(packet([0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 255]).movedBytes).toBe(28);
    expect(packet([0x46, 0, 0, 0, 0, 0, 0, 0, 255]).movedBytes).toBe(8 + 12 + 12 + 8 + 12);
    expect(packet([0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8]).movedBytes).toBe(8);
    expect(Array.from(driver.data(8))).toEqual([0, 6, 4, 16, 0, 2, 0, 0]);
    expect(packet([0x51, 0, 0, 0, 0, 0, 0, 0, 34]).movedBytes).toBe(34);
  });

  it("keeps sense for what failed", () => {
    const { packet, sense } = buildCd();
    expect(packet([0x28, 0, 0, 0, 0, 39, 0, 0, 2])).toMatchObject({ status: 0x51, error: 0x54 });
    expect(sense()).toEqual([5, 0x21]);
    expect(sense()).toEqual([0, 0]);
    packet([0xff]);
    expect(sense()).toEqual([5, 0x20]);
    packet([0x12, 1, 0, 0, 36]);
    expect(sense()).toEqual([5, 0x24]);
  });

  it("changes discs", () => {
    const { cdrom, packet, sense } = buildCd(undefined);
    expect(packet([0x00]).status).toBe(0x50);
    expect(packet([0x1b, 0, 0, 0, 2]).status).toBe(0x50);
    expect(packet([0x00]).error).toBe(0x24);
    expect(sense()).toEqual([2, 0x3a]);
    expect(packet([0x1b, 0, 0, 0, 3]).status).toBe(0x50);
    packet([0x1e, 0, 0, 0, 1]);
    expect(cdrom.insert(undefined)).toBe(false);
    expect(packet([0x1b, 0, 0, 0, 2]).status).toBe(0x51);
    expect(sense()).toEqual([5, 0x53]);
    packet([0x1e, 0, 0, 0, 0]);
    expect(cdrom.insert(new MemoryDisk(new Uint8Array(2048)))).toBe(true);
    expect(packet([0x00]).error).toBe(0x64);
    expect(sense()).toEqual([6, 0x28]);
    expect(packet([0x00]).status).toBe(0x50);
  });
});

it("continues from a saved state", () => {
  const disk = new MemoryDisk(new Uint8Array(4096).fill(5));
  const { board, device, driver } = buildDisk(disk);
  driver.run({ command: 0xef, features: 0x82 });
  driver.prepare({ command: 0xc8, count: 1, regions: [512] });
  const saved = structuredClone(device.state);
  const second = new TestBoard();
  second.memory.bytes.set(board.memory.bytes);
  const clone = ahci.create({ drives: [{ kind: "disk", disk }] }, second.context, saved);
  expect(structuredClone(clone.state)).toEqual(saved);
  second.memoryBus.write(driver.port + 0x38, 4, 1);
  expect(second.memory.bytes[dataAt]).toBe(5);
});
