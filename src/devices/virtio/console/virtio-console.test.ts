import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { TestBoard } from "../../testing/board.ts";
import { VirtioDriver, version1 } from "../../testing/virtio-driver.ts";
import { virtioConsole } from "./index.ts";

const at = (address: number, sizeBytes: number, isWritable: boolean) => ({ address, sizeBytes, isWritable });

function build(isMultiport: boolean) {
  const board = new TestBoard();
  const output: string[] = [];
  let roomOffers = 0;
  const device = virtioConsole.create(
    {
      transmit: (bytes) => output.push(new TextDecoder("latin1").decode(bytes)),
      receiveReady: () => roomOffers++,
      columns: 100,
      rows: 40,
      isMultiport,
    },
    board.context,
  );
  const driver = new VirtioDriver(board, device.transport);
  driver.start(version1 | (isMultiport ? 3n : 1n));
  const text = (address: number, sizeBytes: number): string =>
    new TextDecoder("latin1").decode(board.memory.bytes.subarray(address, address + sizeBytes));
  return { board, device: device.device, driver, output, text, roomOffers: () => roomOffers };
}

describe("virtio console", () => {
  it("passes bytes both ways, with back-pressure", () => {
    const { board, device, driver, output, text, roomOffers } = build(false);
    board.memory.bytes.set(new TextEncoder().encode("hello"), 0x20000);
    driver.offer(1, [at(0x20000, 2, false), at(0x20002, 3, false)]);
    driver.notify(1);
    expect(output.join("")).toBe("hello");
    expect(device.feed(new TextEncoder().encode("abcdef"))).toBe(0);
    driver.offer(0, [at(0x21000, 4, true)]);
    driver.notify(0);
    expect(roomOffers()).toBe(1);
    expect(device.feed(new TextEncoder().encode("abcdef"))).toBe(4);
    expect(text(0x21000, 4)).toBe("abcd");
    expect(driver.collect(0)).toEqual([{ head: 0, writtenBytes: 4 }]);
  });

  it("tells its size and a change of it", () => {
    const { device, driver } = build(false);
    expect([driver.read(0x2000, 2), driver.read(0x2002, 2), driver.read(0x2004, 4)]).toEqual([100, 40, 1]);
    const generation = driver.read(0x15, 1);
    device.resize(132, 50);
    expect([driver.read(0x2000, 2), driver.read(0x2002, 2)]).toEqual([132, 50]);
    expect(driver.read(0x15, 1)).toBe(generation + 1);
    expect(driver.read(0x1000, 1)).toBe(2);
  });

  it("takes emergency writes from a driver that is not set up", () => {
    const { driver, output } = build(false);
    driver.write(0x14, 1, 0);
    driver.write(0x2008, 4, 0x21);
    expect(output).toEqual(["!"]);
  });

  it("introduces its port over the control queues", () => {
    const { board, device, driver } = build(true);
    for (let i = 0; i < 6; i++) driver.offer(2, [at(0x30000 + 16 * i, 16, true)]);
    const say = (port: number, event: number): void => {
      board.memory.view.setUint32(0x20000, port, true);
      board.memory.view.setUint16(0x20004, event, true);
      board.memory.view.setUint16(0x20006, 1, true);
      driver.offer(3, [at(0x20000, 8, false)]);
      driver.notify(3);
    };
    say(0xffffffff, 0);
    say(0, 3);
    device.resize(90, 30);
    const lengths = driver.collect(2).map(({ writtenBytes }) => writtenBytes);
    expect(lengths).toEqual([8, 8, 12, 8, 12]);
    const events = lengths.map((_, i) => board.memory.view.getUint16(0x30004 + 16 * i, true));
    expect(events).toEqual([1, 4, 5, 6, 5]);
    expect(board.memory.view.getUint16(0x30048, true)).toBe(90);
  });

  it("keeps few messages for a guest that does not fetch them", () => {
    const { device } = build(true);
    for (let i = 0; i < 1000; i++) device.resize(i, i);
    expect(device.state.messages.length).toBeLessThanOrEqual(32);
  });

  it("survives any control message", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ minLength: 1, maxLength: 20 }), { maxLength: 8 }), fc.nat(20), (messages, room) => {
        const { board, driver } = build(true);
        if (room > 0) driver.offer(2, [at(0x30000, room, true)]);
        for (const message of messages) {
          board.memory.bytes.set(message, 0x20000);
          driver.offer(3, [at(0x20000, message.length, false)]);
          driver.notify(3);
        }
        expect(driver.start(version1)).toBe(0xf);
      }),
      { numRuns: 200 },
    );
  });
});
