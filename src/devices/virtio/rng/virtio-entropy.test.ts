import { expect, it } from "vitest";
import { TestBoard } from "../../testing/board.ts";
import { VirtioDriver, version1 } from "../../testing/virtio-driver.ts";
import { virtioEntropy } from "./index.ts";

it("fills what the driver offers, over several segments", () => {
  const board = new TestBoard();
  let next = 0;
  const source = (target: Uint8Array): void => target.forEach((_, i) => (target[i] = ++next));
  const device = virtioEntropy.create({ source }, board.context);
  const driver = new VirtioDriver(board, device.transport);
  expect(driver.start(version1)).toBe(0xf);
  driver.offer(0, [
    { address: 0x20000, sizeBytes: 3, isWritable: true },
    { address: 0x30000, sizeBytes: 2, isWritable: true },
  ]);
  driver.notify(0);
  expect(driver.collect(0)).toEqual([{ head: 0, writtenBytes: 5 }]);
  expect(Array.from(board.memory.bytes.subarray(0x20000, 0x20004))).toEqual([1, 2, 3, 0]);
  expect(Array.from(board.memory.bytes.subarray(0x30000, 0x30003))).toEqual([4, 5, 0]);
});

it("needs a reset after a buffer outside of RAM", () => {
  const board = new TestBoard();
  const device = virtioEntropy.create({ source: () => {} }, board.context);
  const driver = new VirtioDriver(board, device.transport);
  driver.start(version1);
  driver.offer(0, [{ address: 0xf000_0000, sizeBytes: 0xffff_ffff, isWritable: true }]);
  driver.notify(0);
  expect(driver.read(0x14, 1) & 0x40).toBe(0x40);
});
