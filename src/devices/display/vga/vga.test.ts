import { describe, expect, it } from "vitest";
import { TestBoard } from "../../testing/board.ts";
import { textLines, vga } from "./index.ts";

function build(rom?: Uint8Array) {
  const board = new TestBoard();
  const device = vga.create(rom === undefined ? {} : { rom }, board.context);
  const { ports, memoryBus } = board;
  const dispi = (index: number, value: number): void => {
    ports.write(0x1ce, 2, index);
    ports.write(0x1cf, 2, value);
  };
  const readDispi = (index: number): number => {
    ports.write(0x1ce, 2, index);
    return ports.read(0x1d0, 2);
  };
  const indexed = (port: number, index: number, value: number): void => ports.write(port, 2, index | (value << 8));
  return { board, device, ports, memoryBus, dispi, readDispi, indexed };
}

describe("text", () => {
  it("shows what was written to 0xB8000", () => {
    const { device, memoryBus, indexed } = build();
    device.vga.programTextMode();
    for (const [i, character] of [..."Hi"].entries()) memoryBus.write(0xb8000 + 160 + 2 * i, 2, 0x1e00 | character.charCodeAt(0));
    memoryBus.write(0xb8000, 1, 0xdb);
    indexed(0x3d4, 0x0e, 0);
    indexed(0x3d4, 0x0f, 82);
    const screen = device.textScreen();
    expect(screen).toMatchObject({ columns: 80, rows: 25, cursor: { column: 2, row: 1 } });
    expect(textLines(screen!).slice(0, 3)).toEqual(["█", "Hi", ""]);
    expect(screen!.cells[80]).toEqual({ character: "H", code: 0x48, foreground: 14, background: 1, isBlinking: false });
    expect(memoryBus.read(0xb80a0, 2)).toBe(0x1e48);
    expect(memoryBus.read(0xa0000, 1)).toBe(0xff);
    indexed(0x3d4, 0x0d, 80);
    expect(textLines(device.textScreen()!)[0]).toBe("Hi");
  });

  it("draws glyphs from plane 2", () => {
    const { device, memoryBus, indexed } = build();
    device.vga.programTextMode();
    indexed(0x3c4, 2, 4);
    indexed(0x3c4, 4, 6);
    indexed(0x3ce, 5, 0);
    indexed(0x3ce, 6, 4);
    memoryBus.write(0xa0000 + 32 * 0x41, 1, 0x80);
    indexed(0x3c4, 2, 3);
    indexed(0x3c4, 4, 2);
    indexed(0x3ce, 5, 0x10);
    indexed(0x3ce, 6, 0x0e);
    memoryBus.write(0xb8000, 2, 0x0f41);
    const { width, height, data } = device.readPixels();
    expect([width, height]).toEqual([720, 400]);
    expect(Array.from(data.slice(0, 8))).toEqual([255, 255, 255, 255, 0, 0, 0, 255]);
  });
});

describe("registers", () => {
  it("answers at 0x3Dx or at 0x3Bx", () => {
    const { ports } = build();
    expect(ports.read(0x3d4, 1)).toBe(0xff);
    ports.write(0x3b4, 1, 5);
    expect(ports.read(0x3b4, 1)).toBe(5);
    ports.write(0x3c2, 1, 0x67);
    expect(ports.read(0x3cc, 1)).toBe(0x67);
    expect(ports.read(0x3b4, 1)).toBe(0xff);
    expect(ports.read(0x3d4, 1)).toBe(5);
  });

  it("protects the timing registers", () => {
    const { device, ports, indexed } = build();
    device.vga.programTextMode();
    indexed(0x3d4, 1, 0x27);
    expect(ports.read(0x3d5, 1)).toBe(0x4f);
    indexed(0x3d4, 0x11, 0x0e);
    indexed(0x3d4, 1, 0x27);
    expect(ports.read(0x3d5, 1)).toBe(0x27);
  });

  it("turns attribute index and data around, and starts over with status 1", () => {
    const { device, ports } = build();
    device.vga.programTextMode();
    ports.read(0x3da, 1);
    ports.write(0x3c0, 1, 0x11);
    ports.write(0x3c0, 1, 0x05);
    ports.write(0x3c0, 1, 0x11);
    expect(ports.read(0x3c1, 1)).toBe(5);
    ports.read(0x3da, 1);
    expect(ports.read(0x3c0, 1)).toBe(0x11);
  });

  it("reads back the palette it was given", () => {
    const { ports } = build();
    ports.write(0x3c8, 1, 7);
    for (const value of [1, 2, 3, 4]) ports.write(0x3c9, 1, value);
    ports.write(0x3c7, 1, 7);
    expect([1, 2, 3, 4].map(() => ports.read(0x3c9, 1))).toEqual([1, 2, 3, 4]);
  });

  it("shows a beam that passes through retrace", () => {
    const { board, device, ports } = build();
    device.vga.programTextMode();
    const seen = new Set<number>();
    for (let i = 0; i < 1000; i++) {
      board.clock.advanceTo(i * 17_000);
      seen.add(ports.read(0x3da, 1));
    }
    expect([...seen].sort((a, b) => a - b)).toEqual([0, 1, 9]);
  });
});

describe("planar memory", () => {
  function mode12(context: ReturnType<typeof build>): void {
    context.device.vga.programTextMode();
    context.device.state.vga.memory.fill(0);
    context.indexed(0x3c4, 4, 6);
    context.indexed(0x3c4, 2, 0x0f);
    context.indexed(0x3ce, 5, 0);
    context.indexed(0x3ce, 6, 5);
    context.indexed(0x3d4, 0x11, 0);
    context.indexed(0x3d4, 9, 0x40);
    context.indexed(0x3d4, 0x12, 0xdf);
    context.indexed(0x3d4, 7, 0x3e);
  }

  it("draws a pixel by set/reset and bit mask, and finds it by color compare", () => {
    const context = build();
    const { memoryBus, indexed, device } = context;
    mode12(context);
    indexed(0x3ce, 0, 0x0c);
    indexed(0x3ce, 1, 0x0f);
    indexed(0x3ce, 8, 0x40);
    memoryBus.read(0xa0000, 1);
    memoryBus.write(0xa0000, 1, 0xff);
    for (const [plane, expected] of [0, 0, 0x40, 0x40].entries()) {
      indexed(0x3ce, 4, plane);
      expect(memoryBus.read(0xa0000, 1)).toBe(expected);
    }
    indexed(0x3ce, 2, 0x0c);
    indexed(0x3ce, 7, 0x0f);
    indexed(0x3ce, 5, 8);
    expect(memoryBus.read(0xa0000, 1)).toBe(0x40);
    const { width, height, data } = device.readPixels();
    expect([width, height]).toEqual([640, 480]);
    expect(Array.from(data.slice(0, 8))).toEqual([0, 0, 0, 255, 255, 85, 85, 255]);
  });

  it("copies latches in write mode 1 and combines in modes 2 and 3", () => {
    const context = build();
    const { memoryBus, indexed } = context;
    mode12(context);
    indexed(0x3ce, 5, 2);
    memoryBus.write(0xa0000, 1, 0x05);
    indexed(0x3ce, 5, 1);
    memoryBus.read(0xa0000, 1);
    memoryBus.write(0xa0001, 1, 0x00);
    indexed(0x3ce, 4, 2);
    expect(memoryBus.read(0xa0001, 1)).toBe(0xff);
    indexed(0x3ce, 5, 3);
    indexed(0x3ce, 0, 0);
    memoryBus.write(0xa0001, 1, 0x0f);
    expect(memoryBus.read(0xa0001, 1)).toBe(0xf0);
    indexed(0x3ce, 4, 1);
    expect(memoryBus.read(0xa0001, 1)).toBe(0x00);
  });

  it("is linear in mode 13h", () => {
    const { device, memoryBus, indexed, ports } = build();
    device.vga.programTextMode();
    indexed(0x3c4, 4, 0x0e);
    indexed(0x3c4, 2, 0x0f);
    indexed(0x3ce, 5, 0x40);
    indexed(0x3ce, 6, 0x05);
    indexed(0x3d4, 9, 0x41);
    ports.write(0x3c8, 1, 9);
    for (const value of [63, 0, 0]) ports.write(0x3c9, 1, value);
    memoryBus.write(0xa0000 + 320, 1, 9);
    const { width, height, data } = device.readPixels();
    expect([width, height]).toEqual([320, 200]);
    expect(Array.from(data.slice(4 * 320, 4 * 320 + 4))).toEqual([255, 0, 0, 255]);
  });
});

describe("Bochs VBE", () => {
  it("sets a mode with a linear frame buffer", () => {
    const { board, device, memoryBus, dispi, readDispi } = build();
    board.pci.assignResources();
    const [frameBuffer] = device.pciFunction.baseAddresses;
    expect(readDispi(0)).toBe(0xb0c5);
    expect(readDispi(10)).toBe(256);
    dispi(4, 0);
    dispi(1, 800);
    dispi(2, 600);
    dispi(3, 32);
    dispi(4, 0x41);
    expect([readDispi(6), readDispi(7)]).toEqual([800, 5242]);
    memoryBus.write(frameBuffer.address + 4, 4, 0x112233);
    const picture = device.readPixels();
    expect([picture.width, picture.height]).toEqual([800, 600]);
    expect(Array.from(picture.data.slice(4, 8))).toEqual([0x11, 0x22, 0x33, 255]);
    dispi(9, 1);
    expect(device.readPixels().data[4]).toBe(0);
    expect(device.textScreen()).toBeUndefined();
    dispi(4, 0);
    expect(device.textScreen()).toBeDefined();
  });

  it("tells its limits and refuses modes that do not fit", () => {
    const { dispi, readDispi } = build();
    dispi(4, 2);
    expect([readDispi(1), readDispi(2), readDispi(3)]).toEqual([16000, 12000, 32]);
    dispi(4, 0);
    dispi(1, 16000);
    dispi(2, 12000);
    dispi(3, 32);
    dispi(4, 1);
    expect(readDispi(4)).toBe(0);
  });

  it("is reached through the MMIO region too, as are the VGA ports", () => {
    const { board, device, memoryBus, ports } = build();
    board.pci.assignResources();
    const mmio = device.pciFunction.baseAddresses[1].address;
    memoryBus.write(mmio + 0x502, 2, 640);
    expect(memoryBus.read(mmio + 0x502, 2)).toBe(640);
    expect(memoryBus.read(mmio + 0x500, 2)).toBe(0xb0c5);
    expect(memoryBus.read(mmio + 0x604, 4)).toBe(0x1e1e1e1e);
    memoryBus.write(mmio + 0x404, 2, 0x0f02);
    ports.write(0x3c4, 1, 2);
    expect(ports.read(0x3c5, 1)).toBe(0x0f);
  });

  it("carries its BIOS in the expansion ROM", () => {
    const { board, device, memoryBus } = build(Uint8Array.from({ length: 3000 }, (_, i) => i));
    board.pci.assignResources();
    const rom = device.pciFunction.baseAddresses[2];
    rom.enableRom(true);
    device.pciFunction.update();
    expect(memoryBus.read(rom.address + 0x100, 4)).toBe(0x03020100);
    expect(memoryBus.read(rom.address + 4000, 1)).toBe(0xff);
  });
});
