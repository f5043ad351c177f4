import { describe, expect, it } from "vitest";
import type { DiskBackend, DiskResult } from "../../disk/contract.ts";
import { MemoryDisk } from "../../disk/memory-disk.ts";
import { TestBoard } from "../../testing/board.ts";
import { VirtioDriver, version1 } from "../../testing/virtio-driver.ts";
import { virtioBlock } from "./index.ts";

const indirect = 1n << 28n;
const eventIndex = 1n << 29n;
const flush = 1n << 9n;
const headerAt = 0x20000;
const dataAt = 0x21000;
const statusAt = 0x30000;

function build(disk: DiskBackend = new MemoryDisk(Uint8Array.from({ length: 64 * 512 }, (_, i) => i >> 9)), features = flush) {
  const board = new TestBoard();
  const failures: string[] = [];
  const broken: string[] = [];
  const device = virtioBlock.create(
    { disk, serial: "disk-one", failed: ({ code }) => failures.push(code), broken: (reason) => broken.push(reason) },
    board.context,
  );
  const driver = new VirtioDriver(board, device.transport);
  const status = driver.start(version1 | features);
  const { view, bytes } = board.memory;
  /** Runs one request and returns its status byte; 0xEE when none was written. */
  function request(type: number, sector: number, data: { readonly out?: Uint8Array; readonly inBytes?: number } = {}): number {
    view.setUint32(headerAt, type, true);
    view.setBigUint64(headerAt + 8, BigInt(sector), true);
    view.setUint8(statusAt, 0xee);
    if (data.out !== undefined) bytes.set(data.out, dataAt);
    driver.offer(0, [
      { address: headerAt, sizeBytes: 16, isWritable: false },
      ...(data.out === undefined ? [] : [{ address: dataAt, sizeBytes: data.out.length, isWritable: false }]),
      ...(data.inBytes === undefined ? [] : [{ address: dataAt, sizeBytes: data.inBytes, isWritable: true }]),
      { address: statusAt, sizeBytes: 1, isWritable: true },
    ]);
    driver.notify(0);
    return view.getUint8(statusAt);
  }
  return { board, device, driver, status, request, bytes, view, failures, broken };
}

function range(sector: number, sectors: number, flags: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(16));
  view.setBigUint64(0, BigInt(sector), true);
  view.setUint32(8, sectors, true);
  view.setUint32(12, flags, true);
  return new Uint8Array(view.buffer);
}

describe("virtio block", () => {
  it("negotiates and describes itself", () => {
    const { driver, status } = build();
    expect(status).toBe(0xf);
    expect(driver.read(0x2000, 4)).toBe(64);
    expect(driver.read(0x2000 + 20, 4)).toBe(512);
    expect(driver.offeredFeatures() & version1).toBe(version1);
    expect(driver.transport.pciFunction.readConfig(0, 4)).toBe(0x10421af4);
  });

  it("reads and reports the written length", () => {
    const { driver, request, bytes, board } = build();
    expect(request(0, 5, { inBytes: 1024 })).toBe(0);
    expect([bytes[dataAt], bytes[dataAt + 512]]).toEqual([5, 6]);
    expect(driver.collect(0)).toEqual([{ head: 0, writtenBytes: 1025 }]);
    expect(board.levels.filter((level) => level)).toHaveLength(0);
    expect(driver.read(0x1000, 1)).toBe(1);
    expect(driver.read(0x1000, 1)).toBe(0);
  });

  it("writes, flushes and tells its name", () => {
    const disk = new MemoryDisk(new Uint8Array(4096));
    const { request, bytes } = build(disk);
    expect(request(1, 2, { out: new Uint8Array(512).fill(7) })).toBe(0);
    expect(disk.bytes[1024]).toBe(7);
    expect(request(4, 0)).toBe(0);
    expect(request(8, 0, { inBytes: 20 })).toBe(0);
    expect(new TextDecoder().decode(bytes.subarray(dataAt, dataAt + 8))).toBe("disk-one");
  });

  it("discards and writes zeroes", () => {
    const disk = new MemoryDisk(new Uint8Array(8192).fill(9));
    const { request } = build(disk);
    expect(request(11, 0, { out: range(1, 2, 0) })).toBe(0);
    expect(request(13, 0, { out: range(4, 1, 1) })).toBe(0);
    expect([...new Set(disk.bytes.subarray(512, 1536))]).toEqual([0]);
    expect(disk.bytes[2048]).toBe(0);
    expect(disk.bytes[2560]).toBe(9);
    expect(request(11, 0, { out: range(1, 1, 1) })).toBe(2);
    expect(request(11, 0, { out: range(15, 2, 0) })).toBe(1);
  });

  it("answers what it cannot do with a status", () => {
    const { request } = build();
    expect(request(99, 0)).toBe(2);
    expect(request(0, 64, { inBytes: 512 })).toBe(1);
    expect(request(0, 0, { inBytes: 100 })).toBe(1);
    expect(request(0, 2 ** 60, { inBytes: 512 })).toBe(1);
    const readOnly = build(new MemoryDisk(new Uint8Array(4096), { readOnly: true }));
    expect(readOnly.request(1, 0, { out: new Uint8Array(512) })).toBe(1);
  });

  it("completes with an error when the back end fails, at once or later", async () => {
    const failure: DiskResult = { code: "IO_ERROR", message: "gone" };
    for (const answer of [() => failure, () => Promise.resolve(failure)]) {
      const disk: DiskBackend = { sizeBytes: 4096, readOnly: false, read: answer, write: answer, flush: answer };
      const { request, view, failures, driver } = build(disk);
      request(0, 0, { inBytes: 512 });
      await new Promise((resolve) => setTimeout(resolve, 0));
      expect(view.getUint8(statusAt)).toBe(1);
      expect(failures).toEqual(["IO_ERROR"]);
      expect(driver.collect(0)).toEqual([{ head: 0, writtenBytes: 0 }]);
    }
  });

  it("forgets asynchronous requests at reset", async () => {
    const answer = () => Promise.resolve(undefined);
    const disk: DiskBackend = { sizeBytes: 4096, readOnly: false, read: answer, write: answer, flush: answer };
    const { request, view, driver } = build(disk);
    request(0, 0, { inBytes: 512 });
    driver.start(version1);
    await new Promise((resolve) => setTimeout(resolve, 0));
    expect(view.getUint8(statusAt)).toBe(0xee);
    expect(driver.collect(0)).toEqual([]);
  });

  it("makes every write durable for drivers without FLUSH", () => {
    let flushes = 0;
    const memory = new MemoryDisk(new Uint8Array(4096));
    const disk: DiskBackend = {
      sizeBytes: 4096,
      readOnly: false,
      read: (offset, target) => memory.read(offset, target),
      write: (offset, bytes) => memory.write(offset, bytes),
      flush: () => void flushes++,
    };
    build(disk).request(1, 0, { out: new Uint8Array(512) });
    expect(flushes).toBe(0);
    build(disk, 0n).request(1, 0, { out: new Uint8Array(512) });
    expect(flushes).toBe(1);
  });

  it("takes indirect descriptors and honours the event index", () => {
    const { driver, view, board } = build(undefined, flush | indirect | eventIndex);
    driver.enableMsix(2);
    const table = 0x40000;
    driver.writeDescriptor(table, 0, headerAt, 16, 1, 2);
    driver.writeDescriptor(table, 2, dataAt, 512, 3, 1);
    driver.writeDescriptor(table, 1, statusAt, 1, 2, 0);
    driver.writeDescriptor(driver.descriptors(0), 0, table, 48, 4, 0);
    view.setBigUint64(headerAt + 8, 3n, true);
    driver.publish(0, 0);
    driver.notify(0);
    expect(view.getUint8(dataAt)).toBe(3);
    expect(driver.collect(0)).toEqual([{ head: 0, writtenBytes: 513 }]);
    expect(board.messages).toEqual([{ address: 0xfee00000, data: 0x40 }]);
    // used_event says: not before index 3 was used.
    view.setUint16(driver.available(0) + 4 + 2 * driver.queueSize, 3, true);
    driver.publish(0, 0);
    driver.publish(0, 0);
    driver.notify(0);
    expect(board.messages).toHaveLength(1);
    driver.publish(0, 0);
    driver.notify(0);
    expect(board.messages).toHaveLength(2);
    expect(view.getUint16(driver.used(0) + 4 + 8 * driver.queueSize, true)).toBe(4);
  });

  it("needs a reset after a broken ring, and works again after it", () => {
    for (const breakIt of [
      ({ driver }: ReturnType<typeof build>) => driver.writeDescriptor(driver.descriptors(0), 0, headerAt, 16, 1, 0),
      ({ driver }: ReturnType<typeof build>) => driver.writeDescriptor(driver.descriptors(0), 0, headerAt, 16, 1, 99),
      ({ driver }: ReturnType<typeof build>) => driver.writeDescriptor(driver.descriptors(0), 0, headerAt, 16, 0, 0),
      ({ driver }: ReturnType<typeof build>) => driver.writeDescriptor(driver.descriptors(0), 0, headerAt, 16, 4, 0),
      ({ view, driver }: ReturnType<typeof build>) => view.setUint16(driver.available(0) + 2, 100, true),
    ]) {
      const context = build();
      context.driver.publish(0, 0);
      breakIt(context);
      context.driver.notify(0);
      expect(context.driver.read(0x14, 1)).toBe(0x4f);
      expect(context.broken).toHaveLength(1);
      expect(context.driver.read(0x1000, 1)).toBe(2);
      expect(context.request(4, 0)).toBe(0xee);
      expect(context.driver.start(version1)).toBe(0xf);
      expect(context.request(4, 0)).toBe(0);
    }
  });

  it("continues from a saved state", () => {
    const disk = new MemoryDisk(new Uint8Array(4096).fill(5));
    const { device, board, request, driver } = build(disk);
    request(0, 0, { inBytes: 512 });
    const saved = structuredClone(device.state);
    const second = new TestBoard();
    second.memory.bytes.set(board.memory.bytes);
    const clone = virtioBlock.create({ disk, serial: "" }, second.context, saved);
    expect(structuredClone(clone.state)).toEqual(saved);
    second.memory.view.setUint8(statusAt, 0xee);
    second.memory.view.setUint16(driver.available(0) + 2, 2, true);
    second.memory.bytes.copyWithin(driver.available(0) + 6, driver.available(0) + 4, driver.available(0) + 6);
    second.memoryBus.write(driver.registers + 0x3000, 2, 0);
    expect(second.memory.view.getUint8(statusAt)).toBe(0);
  });
});

describe("virtio transport", () => {
  it("refuses features it did not offer, and drivers without VERSION_1", () => {
    const { driver } = build();
    expect(driver.start(0n) & 0xc).toBe(0);
    expect(driver.start(version1 | (1n << 23n)) & 0xc).toBe(0);
    expect(driver.start(version1)).toBe(0xf);
  });

  it("interrupts through INTx until the status is read", () => {
    const { driver, request, device } = build();
    request(4, 0);
    expect(device.state.transport.pci.isInterruptRequested).toBe(true);
    expect(driver.read(0x1000, 1)).toBe(1);
    expect(device.state.transport.pci.isInterruptRequested).toBe(false);
  });

  it("is reachable through its configuration window alone", () => {
    const { device } = build();
    const { pciFunction } = device;
    let at = pciFunction.readConfig(0x34, 1);
    while (pciFunction.readConfig(at + 3, 1) !== 5) at = pciFunction.readConfig(at + 1, 1);
    pciFunction.writeConfig(at + 4, 1, 4);
    pciFunction.writeConfig(at + 8, 4, 0x2000);
    pciFunction.writeConfig(at + 12, 4, 4);
    expect(pciFunction.readConfig(at + 16, 4)).toBe(64);
    pciFunction.writeConfig(at + 8, 4, 0x14);
    pciFunction.writeConfig(at + 12, 4, 1);
    pciFunction.writeConfig(at + 16, 1, 0);
    expect(device.state.transport.status).toBe(0);
  });

  it("keeps queue sizes to powers of two within its limit", () => {
    const { driver } = build();
    driver.write(0x14, 1, 0);
    driver.write(0x16, 2, 0);
    expect(driver.read(0x18, 2)).toBe(256);
    for (const size of [0, 3, 512, 0xffff]) driver.write(0x18, 2, size);
    expect(driver.read(0x18, 2)).toBe(256);
    driver.write(0x16, 2, 7);
    expect(driver.read(0x18, 2)).toBe(0);
    driver.write(0x1a, 2, 1);
    driver.write(0x10, 2, 0x77);
    expect(driver.read(0x10, 2)).toBe(0xffff);
  });
});
