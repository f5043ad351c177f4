import { describe, expect, test } from "vitest";
import { type TestContext, testContext } from "../../testing/context.ts";
import { FwCfgItem, fwCfg, type FwCfgState } from "./index.ts";

function build(state?: FwCfgState) {
  const context = testContext();
  return { context, device: fwCfg.create({}, context, state), ...guest(context) };
}

function guest(context: TestContext) {
  const { ports, ram } = context;
  const view = new DataView(ram.buffer);
  const readItem = (selector: number, length: number): number[] => {
    ports.write(0x510, 2, selector);
    return Array.from({ length }, () => ports.read(0x511, 1));
  };
  const swap = (value: number): number => {
    const swapped = new DataView(new ArrayBuffer(4));
    swapped.setUint32(0, value);
    return swapped.getUint32(0, true);
  };
  /** Runs a request that lies at 0x100 and returns its control word afterwards. */
  const dma = (control: number, length: number, address: number, addressHigh = 0): number => {
    view.setUint32(0x100, control);
    view.setUint32(0x104, length);
    view.setUint32(0x108, addressHigh);
    view.setUint32(0x10c, address);
    ports.write(0x514, 4, 0);
    ports.write(0x518, 4, swap(0x100));
    return view.getUint32(0x100);
  };
  return { readItem, dma, swap, view };
}

const text = (bytes: Iterable<number>): string => String.fromCharCode(...bytes);

describe("fw_cfg by port", () => {
  test("signature, version with DMA, DMA signature", () => {
    const { readItem, context } = build();
    expect(text(readItem(FwCfgItem.signature, 4))).toBe("QEMU");
    expect(readItem(FwCfgItem.interfaceVersion, 6)).toEqual([3, 0, 0, 0, 0, 0]);
    expect(text(Array.from({ length: 8 }, (_, index) => context.ports.read(0x514 + index, 1)))).toBe("QEMU CFG");
    expect(context.ports.read(0x514, 4)).toBe(0x554d4551);
  });

  test("files appear in the directory and read back", () => {
    const { readItem, device } = build();
    device.addFile("etc/e820", Uint8Array.of(1, 2, 3));
    device.addFile("bootorder", Uint8Array.of(9));
    device.addFile("etc/e820", Uint8Array.of(4, 5));
    const directory = readItem(FwCfgItem.fileDirectory, 4 + 2 * 64);
    expect(directory.slice(0, 12)).toEqual([0, 0, 0, 2, 0, 0, 0, 2, 0, 0x20, 0, 0]);
    expect(text(directory.slice(12, 21))).toBe("etc/e820\0");
    expect(directory.slice(68, 76)).toEqual([0, 0, 0, 1, 0, 0x21, 0, 0]);
    expect(readItem(0x20, 4)).toEqual([4, 5, 0, 0]);
    expect(readItem(0x4021, 1)).toEqual([9]);
  });

  test("architecture-local items have a space of their own", () => {
    const { readItem, device } = build();
    device.addItem(FwCfgItem.e820Table, Uint8Array.of(7));
    expect([readItem(0x8003, 1), readItem(0x0003, 1), readItem(0xc003, 1)]).toEqual([[7], [0], [7]]);
  });

  test("unknown selectors and narrow selector writes are harmless", () => {
    const { readItem, context } = build();
    expect(readItem(0x3fff, 3)).toEqual([0, 0, 0]);
    context.ports.write(0x510, 1, 0);
    context.ports.write(0x511, 1, 0xff);
    expect(context.ports.read(0x510, 2)).toBe(0);
  });
});

describe("fw_cfg by DMA", () => {
  test("select and read, then skip, then read on past the end", () => {
    const { device, dma, context } = build();
    device.addFile("data", Uint8Array.of(1, 2, 3, 4, 5, 6));
    context.ram.fill(0xcc, 0x200, 0x210);
    expect(dma(0x0020_000a, 2, 0x200)).toBe(0);
    expect(dma(0x04, 2, 0)).toBe(0);
    expect(dma(0x02, 4, 0x202)).toBe(0);
    expect([...context.ram.subarray(0x200, 0x208)]).toEqual([1, 2, 5, 6, 0, 0, 0xcc, 0xcc]);
  });

  test("writes go to writable files only, within their size", () => {
    const { device, dma, context } = build();
    const seen: number[][] = [];
    device.addFile("fixed", Uint8Array.of(1, 2));
    device.addFile("open", new Uint8Array(4), { isWritable: true, onWrite: (bytes) => seen.push([...bytes]) });
    context.ram.set([5, 6, 7, 8, 9], 0x300);
    expect(dma(0x0020_0018, 2, 0x300)).toBe(1);
    expect(dma(0x0021_0018, 5, 0x300)).toBe(1);
    expect(dma(0x0021_0018, 4, 0x300)).toBe(0);
    expect(dma(0x10, 1, 0x300)).toBe(1);
    expect(seen).toEqual([[5, 6, 7, 8]]);
  });

  test("what the guest wrote survives in the state", () => {
    const before = build();
    before.device.addFile("open", new Uint8Array(2), { isWritable: true });
    before.context.ram.set([5, 6], 0x300);
    before.dma(0x0020_0018, 2, 0x300);
    before.context.ports.write(0x510, 2, 0x20);
    before.context.ports.read(0x511, 1);
    const after = build(structuredClone(before.device.state));
    after.device.addFile("open", new Uint8Array(2), { isWritable: true });
    expect(after.context.ports.read(0x511, 1)).toBe(6);
  });

  test("targets outside RAM are errors, and a request outside RAM is dropped", () => {
    const { device, dma, context, swap } = build();
    device.addFile("data", new Uint8Array(16));
    expect(dma(0x0020_000a, 16, 0xfff8)).toBe(1);
    expect(dma(0x0020_000a, 16, 0, 0xffff_ffff)).toBe(1);
    expect(dma(0x0020_000a, 0xffff_ffff, 0x200)).toBe(1);
    context.ports.write(0x514, 4, 0xffff_ffff);
    context.ports.write(0x518, 4, 0xffff_ffff);
    context.ports.write(0x518, 4, swap(0xfff8));
    context.ports.write(0x518, 2, 0x100);
  });

  test("reset forgets selection and half an address, not the files", () => {
    const { device, readItem, context } = build();
    device.addFile("data", Uint8Array.of(1));
    context.ports.write(0x514, 4, 1);
    device.reset();
    expect(device.state.dmaAddressHigh).toBe(0);
    expect(readItem(0x20, 1)).toEqual([1]);
  });
});
