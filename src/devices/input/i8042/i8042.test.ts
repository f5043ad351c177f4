import { describe, expect, test } from "vitest";
import { byteRegisterBlock } from "../../byte-registers.ts";
import { VirtualClock } from "../../clock.ts";
import { hammer, recordingLine } from "../../testing/wires.ts";
import { I8042, type I8042State } from "./i8042.ts";
import { translateScancode } from "./translation.ts";

function build(state?: I8042State) {
  const irq1 = recordingLine();
  const irq12 = recordingLine();
  const a20 = recordingLine();
  let resets = 0;
  let ready = 0;
  const device = new I8042(
    { keyboardInterrupt: irq1, auxiliaryInterrupt: irq12, a20, onReset: () => resets++, scancodesReady: () => ready++ },
    state,
  );
  /** All bytes there are, as a polling driver reads them. */
  const drain = (): string => {
    const bytes: string[] = [];
    while (device.readStatus() & 1) bytes.push((device.readStatus() & 0x20 ? "aux:" : "") + device.readData().toString(16));
    return bytes.join(" ");
  };
  const command = (byte: number, data?: number): string => {
    device.writeCommand(byte);
    if (data !== undefined) device.writeData(data);
    return drain();
  };
  const keyboard = (...bytes: number[]): string =>
    bytes
      .map((byte) => {
        device.writeData(byte);
        return drain();
      })
      .join(" ");
  const mouse = (...bytes: number[]): string => bytes.map((byte) => command(0xd4, byte)).join(" ");
  return { device, irq1, irq12, a20, drain, command, keyboard, mouse, resets: () => resets, ready: () => ready };
}

describe("controller", () => {
  test("self-test, interface tests, configuration byte", () => {
    const { command, device } = build();
    expect(command(0xaa)).toBe("55");
    expect(device.readStatus() & 0x04).toBe(0x04);
    expect([command(0xab), command(0xa9), command(0xa4)]).toEqual(["0", "0", "f1"]);
    expect(command(0x60, 0x47)).toBe("");
    expect(command(0x20)).toBe("47");
    command(0xad);
    command(0xa7);
    expect(command(0x20)).toBe("77");
    command(0xae);
    command(0xa8);
    expect(command(0x20)).toBe("47");
    command(0x75, 0x99);
    expect(command(0x35)).toBe("99");
  });

  test("A20 and reset", () => {
    const { command, a20, resets } = build();
    expect(a20.level).toBe(true);
    command(0xd1, 0xdd);
    expect(a20.level).toBe(false);
    command(0xdf);
    expect(a20.level).toBe(true);
    expect(command(0xd0)).toBe("cf");
    expect(resets()).toBe(0);
    command(0xfe);
    command(0xd1, 0xde);
    expect(resets()).toBe(2);
    command(0xff);
    expect(resets()).toBe(2);
  });

  test("bytes into the buffers, as if a device had sent them", () => {
    const { command, irq12 } = build();
    expect(command(0xd2, 0x5a)).toBe("5a");
    expect(command(0xd3, 0xa5)).toBe("aux:a5");
    expect(irq12.risingEdges).toBe(1);
  });

  test("interrupt edges, one per byte, only when enabled", () => {
    const { device, irq1, drain } = build();
    device.writeCommand(0x60);
    device.writeData(0x41);
    device.sendScancodes(Uint8Array.of(0x1c, 0xf0, 0x1c));
    expect(irq1.risingEdges).toBe(1);
    device.readData();
    expect([irq1.risingEdges, irq1.level]).toEqual([2, true]);
    expect(drain()).toBe("9e");
    expect(irq1.level).toBe(false);
    device.writeCommand(0x60);
    device.writeData(0x40);
    device.sendScancodes(Uint8Array.of(0x1c));
    expect(irq1.level).toBe(false);
  });

  test("a disabled keyboard holds its codes back", () => {
    const { device, command, drain } = build();
    command(0xad);
    device.sendScancodes(Uint8Array.of(0x5a));
    expect(drain()).toBe("");
    expect(command(0xae)).toBe("1c");
  });
});

describe("keyboard", () => {
  test("reset, identification, echo, unknown", () => {
    const { keyboard, command } = build();
    expect(keyboard(0xff)).toBe("fa aa");
    expect(keyboard(0xf2)).toBe("fa ab 41");
    command(0x60, 0x00);
    expect(keyboard(0xf2)).toBe("fa ab 83");
    expect([keyboard(0xee), keyboard(0x12), keyboard(0xfe)]).toEqual(["ee", "fe", "fe"]);
  });

  test("lights and scan code sets", () => {
    const { keyboard, device, command, drain } = build();
    expect(keyboard(0xed, 0x05)).toBe("fa fa");
    expect(device.indicators).toBe(5);
    command(0x60, 0x00);
    expect(keyboard(0xf0, 0x00)).toBe("fa fa 2");
    expect(keyboard(0xf0, 0x01)).toBe("fa fa");
    device.sendScancodes(Uint8Array.of(0xe0, 0xf0, 0x75));
    expect(drain()).toBe("e0 c8");
    expect(keyboard(0xf0, 0x07)).toBe("fa fe");
  });

  test("a command instead of a parameter starts anew", () => {
    const { keyboard, device } = build();
    expect(keyboard(0xed, 0xf4)).toBe("fa fa");
    expect(device.indicators).toBe(0);
  });

  test("back-pressure keeps codes whole", () => {
    const { device, drain, ready } = build();
    const codes = Uint8Array.from({ length: 30 }, (_, index) => (index % 3 === 1 ? 0xf0 : 0x1c));
    const taken = device.sendScancodes(codes);
    expect(taken).toBe(16);
    expect(device.sendScancodes(codes.subarray(taken))).toBe(0);
    expect(ready()).toBe(0);
    drain();
    expect(ready()).toBe(1);
    expect(device.sendScancodes(codes.subarray(taken))).toBe(14);
  });

  test("translation is one-to-one on the codes of keys", () => {
    const translated = new Set(Array.from({ length: 0x7f }, (_, index) => translateScancode(index + 1)));
    expect(translated.size).toBe(0x7f);
    expect([0x1c, 0x5a, 0x76, 0x29, 0x66, 0x83, 0xe0].map(translateScancode)).toEqual([0x1e, 0x1c, 0x01, 0x39, 0x0e, 0x41, 0xe0]);
  });
});

describe("mouse", () => {
  test("reset, identification, wheel knock, status", () => {
    const { mouse } = build();
    expect(mouse(0xff)).toBe("aux:fa aux:aa aux:0");
    expect(mouse(0xf2)).toBe("aux:fa aux:0");
    mouse(0xf3, 200, 0xf3, 100, 0xf3, 80);
    expect(mouse(0xf2)).toBe("aux:fa aux:3");
    expect(mouse(0xe9)).toBe("aux:fa aux:0 aux:2 aux:50");
    expect(mouse(0xe8, 3)).toBe("aux:fa aux:fa");
  });

  test("reports movement, large steps in pieces", () => {
    const { mouse, device, drain, irq12 } = build();
    device.moveMouse({ deltaX: 1, deltaY: 0, buttons: 0 });
    expect(drain()).toBe("");
    mouse(0xf6, 0xf4);
    const edges = irq12.risingEdges;
    device.moveMouse({ deltaX: 5, deltaY: -3, buttons: 1 });
    expect(drain()).toBe("aux:29 aux:5 aux:fd");
    expect(irq12.risingEdges - edges).toBe(3);
    device.moveMouse({ deltaX: 300, deltaY: 0, buttons: 1 });
    device.moveMouse({ deltaX: 0, deltaY: 0, buttons: 1 });
    expect(drain()).toBe("aux:9 aux:ff aux:0 aux:9 aux:2d aux:0");
  });

  test("remote and wrap modes", () => {
    const { mouse, device } = build();
    mouse(0xf0);
    device.moveMouse({ deltaX: 2, deltaY: 2, buttons: 4 });
    expect(mouse(0xeb)).toBe("aux:fa aux:c aux:2 aux:2");
    expect(mouse(0xee, 0x55, 0xec)).toBe("aux:fa aux:55 aux:fa");
  });
});

test("a restored controller continues in the middle of a command and of a byte", () => {
  const before = build();
  before.device.sendScancodes(Uint8Array.of(0xf0, 0x1c));
  before.device.writeCommand(0xd4);
  const after = build(JSON.parse(JSON.stringify(before.device.state)));
  expect(after.irq1.level).toBe(true);
  expect(after.drain()).toBe("9e");
  after.device.writeData(0xf2);
  expect(after.drain()).toBe("aux:fa aux:0");
});

test("random accesses", () => {
  hammer(() => {
    const { device } = build();
    const registers = byteRegisterBlock({
      read: (offset) => (offset & 1 ? device.readStatus() : device.readData()),
      write: (offset, value) => {
        if (offset === 0) device.writeData(value);
        else if (offset === 1) device.writeCommand(value);
        else if (offset === 2) device.sendScancodes(Uint8Array.of(value, 0xf0, value));
        else device.moveMouse({ deltaX: value - 128, deltaY: 128 - value, buttons: value & 7, deltaWheel: value });
      },
    });
    const after = (): void => {
      const { keyboard, mouse, answers } = device.state;
      for (const queue of [keyboard.replies, keyboard.scancodes, mouse.replies, mouse.packets, answers]) {
        expect(queue.length).toBeLessThan(24);
      }
    };
    return { registers, clock: new VirtualClock(), sizeBytes: 4, after };
  });
});
