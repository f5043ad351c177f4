import { describe, expect, test } from "vitest";
import { byteRegisterBlock } from "../../byte-registers.ts";
import { VirtualClock } from "../../clock.ts";
import { hammer, recordingLine, runUntil } from "../../testing/wires.ts";
import { type SerialState, Uart16550 } from "./uart16550.ts";

function build(state?: SerialState) {
  const clock = new VirtualClock();
  const line = recordingLine();
  const sent: number[] = [];
  let roomOffers = 0;
  const uart = new Uart16550(
    { clock, interrupt: line, transmit: (byte) => sent.push(byte), receiveReady: () => roomOffers++ },
    state,
  );
  return { clock, line, sent, uart, roomOffers: () => roomOffers };
}

const bytes = (length: number): Uint8Array => Uint8Array.from({ length }, (_, index) => index + 1);

describe("Uart16550", () => {
  test("divisor latch, scratch and line control", () => {
    const { uart, sent } = build();
    uart.write(3, 0x83);
    uart.write(0, 0x34);
    uart.write(1, 0x12);
    expect([uart.read(0), uart.read(1), uart.read(3)]).toEqual([0x34, 0x12, 0x83]);
    uart.write(3, 0x03);
    uart.write(7, 0x5a);
    uart.write(0, 0x41);
    expect([uart.read(7), uart.read(1), sent]).toEqual([0x5a, 0, [0x41]]);
    expect(uart.read(5)).toBe(0x60);
  });

  test("probes as a 16550A", () => {
    const { uart } = build();
    expect(uart.read(2)).toBe(0x01);
    uart.write(2, 0x01);
    expect(uart.read(2)).toBe(0xc1);
    uart.write(4, 0x1a);
    expect(uart.read(6) & 0xf0).toBe(0x90);
    uart.write(1, 0xff);
    expect(uart.read(1)).toBe(0x0f);
  });

  test("transmitter-empty interrupt: raised by enabling and by writing, cleared by reading IIR", () => {
    const { uart, line } = build();
    uart.write(4, 0x08);
    uart.write(1, 0x02);
    expect(line.level).toBe(true);
    expect(uart.read(2)).toBe(0x02);
    expect(line.level).toBe(false);
    expect(uart.read(2)).toBe(0x01);
    uart.write(0, 0x41);
    expect(line.level).toBe(true);
    uart.write(1, 0);
    expect(line.level).toBe(false);
  });

  test("OUT2 gates the line", () => {
    const { uart, line } = build();
    uart.write(1, 0x02);
    expect(line.level).toBe(false);
    uart.write(4, 0x08);
    expect(line.level).toBe(true);
  });

  test("back-pressure: one byte without FIFO, sixteen with it, and an offer when room is back", () => {
    const { uart, roomOffers } = build();
    expect(uart.feed(bytes(3))).toBe(1);
    expect(uart.read(0)).toBe(1);
    expect(roomOffers()).toBe(1);
    uart.write(2, 0x01);
    expect(uart.feed(bytes(20))).toBe(16);
    expect(uart.feed(bytes(1))).toBe(0);
    for (let index = 1; index <= 16; index++) expect(uart.read(0)).toBe(index);
    expect(roomOffers()).toBe(2);
    expect(uart.read(5) & 1).toBe(0);
  });

  test("trigger level and character timeout", () => {
    const { uart, line, clock } = build();
    uart.write(3, 0x83);
    uart.write(0, 1);
    uart.write(3, 0x03);
    uart.write(2, 0xc1);
    uart.write(4, 0x08);
    uart.write(1, 0x01);
    uart.feed(bytes(13));
    expect(line.level).toBe(false);
    const deadline = clock.nextDeadlineNs() ?? 0;
    expect(deadline).toBeGreaterThan(340_000);
    expect(deadline).toBeLessThan(350_000);
    runUntil(clock, deadline);
    expect(uart.read(2)).toBe(0xcc);
    uart.read(0);
    expect(line.level).toBe(false);
    uart.feed(bytes(2));
    expect(uart.read(2)).toBe(0xc4);
    expect(clock.nextDeadlineNs()).toBeUndefined();
  });

  test("a restored UART still times out", () => {
    const before = build();
    before.uart.write(2, 0xc1);
    before.uart.write(4, 0x08);
    before.uart.write(1, 0x01);
    before.uart.feed(bytes(2));
    const after = build(JSON.parse(JSON.stringify(before.uart.state)));
    expect(after.line.level).toBe(false);
    runUntil(after.clock, after.clock.nextDeadlineNs() ?? 0);
    expect(after.line.level).toBe(true);
  });

  test("loopback turns data and modem lines around and overruns", () => {
    const { uart, sent } = build();
    uart.write(4, 0x1f);
    expect(uart.read(6)).toBe(0xf0);
    uart.write(4, 0x10);
    expect(uart.read(6)).toBe(0x0f);
    uart.write(0, 0x11);
    uart.write(0, 0x22);
    expect(uart.read(5)).toBe(0x63);
    expect(uart.read(0)).toBe(0x22);
    expect(uart.feed(bytes(1))).toBe(0);
    expect(sent).toEqual([]);
  });

  test("break is a line-status interrupt with a zero character", () => {
    const { uart, line } = build();
    uart.write(4, 0x08);
    uart.write(1, 0x05);
    expect(uart.feedBreak()).toBe(true);
    expect(uart.read(2)).toBe(0x06);
    expect(uart.read(5)).toBe(0x71);
    expect(uart.read(2)).toBe(0x04);
    expect(uart.read(0)).toBe(0);
    expect(line.level).toBe(false);
  });

  test("modem line changes interrupt once", () => {
    const { uart, line } = build();
    uart.write(4, 0x08);
    uart.write(1, 0x08);
    uart.setModemInputs({ isClearToSend: true, isDataSetReady: true, isRinging: false, isCarrierDetected: false });
    expect(line.level).toBe(true);
    expect(uart.read(6)).toBe(0x38);
    expect(line.level).toBe(false);
  });

  test("random accesses", () => {
    hammer(() => {
      const { uart, clock } = build();
      return { registers: byteRegisterBlock(uart), clock, sizeBytes: 8, after: () => uart.feed(bytes(40)) };
    });
  });
});
