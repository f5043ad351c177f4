/** Rings, descriptors and registers with any contents: no exception, no endless loop, nothing written outside of what was offered. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { MemoryDisk } from "../../disk/memory-disk.ts";
import { TestBoard } from "../../testing/board.ts";
import { VirtioDriver, version1 } from "../../testing/virtio-driver.ts";
import { virtioBlock } from "./index.ts";
import { parseRequest, Status } from "./request.ts";

const halfword = fc.oneof(fc.nat(9), fc.nat(0xffff));
const address = fc.oneof(fc.nat(0x3ffff), fc.constantFrom(0x1000, 0x2000, 0x3000, 0x20000, 0x3fff0, 0xffffffff, 2 ** 52));
const descriptor = fc.record({ address, sizeBytes: fc.oneof(fc.nat(64), fc.constantFrom(1, 16, 512, 4096, 0xffffffff)), flags: fc.nat(7), next: halfword });
const step = fc.oneof(
  fc.record({ kind: fc.constant("descriptor" as const), index: fc.nat(15), descriptor }),
  fc.record({ kind: fc.constant("publish" as const), head: halfword }),
  fc.record({ kind: fc.constant("index" as const), value: halfword }),
  fc.record({ kind: fc.constant("register" as const), offset: fc.oneof(fc.nat(0x3f), fc.nat(0x3fff)), sizeBytes: fc.constantFrom<1 | 2 | 4>(1, 2, 4), value: fc.oneof(fc.nat(0xf), fc.nat(0xffffffff)) }),
  fc.record({ kind: fc.constant("start" as const), features: fc.constantFrom(0n, 3n << 28n, 1n << 28n, 1n << 9n) }),
  fc.constant({ kind: "notify" as const }),
);

it("survives any guest", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const board = new TestBoard(0x40000);
      const device = virtioBlock.create({ disk: new MemoryDisk(new Uint8Array(0x4000)) }, board.context);
      const driver = new VirtioDriver(board, device.transport);
      driver.start(version1);
      for (const action of steps) {
        if (action.kind === "descriptor") {
          const { address: at, sizeBytes, flags, next } = action.descriptor;
          driver.writeDescriptor(driver.descriptors(0), action.index, at, sizeBytes, flags, next);
        } else if (action.kind === "publish") driver.publish(0, action.head);
        else if (action.kind === "index") board.memory.view.setUint16(driver.available(0) + 2, action.value, true);
        else if (action.kind === "register") {
          driver.write(action.offset, action.sizeBytes, action.value);
          const read = driver.read(action.offset, action.sizeBytes);
          expect(read >= 0 && read < 2 ** (8 * action.sizeBytes)).toBe(true);
        } else if (action.kind === "start") driver.start(version1 | action.features);
        else driver.notify(0);
      }
      expect(driver.start(version1)).toBe(0xf);
    }),
    { numRuns: 400 },
  );
});

it("parses any request into a kind or a status, with ranges on the disk", () => {
  const limits = fc.record({
    capacitySectors: fc.nat(1000),
    isReadOnly: fc.boolean(),
    hasDiscard: fc.boolean(),
    maximumRanges: fc.constant(2),
    maximumRangeSectors: fc.constant(100),
  });
  fc.assert(
    fc.property(
      fc.constantFrom(0, 1, 2, 4, 8, 10, 11, 13, 14, 0xffffffff),
      fc.uint8Array({ minLength: 16, maxLength: 16 }),
      fc.boolean(),
      fc.oneof(fc.nat(40), fc.nat(2 ** 31)),
      fc.nat(0x10000),
      fc.uint8Array({ maxLength: 40 }),
      limits,
      (type, header, isNear, outBytes, inBytes, ranges, bounds) => {
        new DataView(header.buffer).setUint32(0, type, true);
        if (isNear) header.fill(0, 10);
        const request = parseRequest({ header, outBytes, inBytes, ranges }, bounds);
        if (request.kind === "refused") expect(request.status).not.toBe(Status.ok);
        const touched = "range" in request ? [request.range] : "ranges" in request ? request.ranges : [];
        for (const { offset, sizeBytes } of touched) expect(offset + sizeBytes <= bounds.capacitySectors * 512).toBe(true);
        if (bounds.isReadOnly) expect(["in", "flush", "getId", "refused"]).toContain(request.kind);
      },
    ),
    { numRuns: 3000 },
  );
});
