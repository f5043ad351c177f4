/** Any registers, command memory and packets: no exception, and the controller works again after a reset. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { MemoryDisk } from "../../disk/memory-disk.ts";
import { AhciDriver, commandListAt, commandTableAt } from "../../testing/ahci-driver.ts";
import { TestBoard } from "../../testing/board.ts";
import { parseAtaRequest } from "../ata-disk/request.ts";
import { parsePacket } from "../cd-rom/request.ts";
import { ahci } from "./index.ts";

const command = fc.oneof(fc.nat(255), fc.constantFrom(0xa0, 0xa0, 0xa1, 0xec, 0x25, 0x35, 0xc8, 0xca, 0x06, 0xea, 0x20, 0x42));
const packetByte = fc.oneof(fc.constantFrom(0, 1, 2, 0x10, 0xff), fc.nat(255));
const packet = fc.tuple(
  fc.constantFrom(0x00, 0x03, 0x12, 0x1a, 0x1b, 0x1e, 0x25, 0x28, 0xa8, 0xbe, 0x2b, 0x43, 0x46, 0x4a, 0x51, 0x5a, 0xbd, 0xbb, 0x77),
  fc.array(packetByte, { minLength: 15, maxLength: 15 }),
);
const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("task" as const),
      command,
      features: fc.nat(3),
      lba: fc.oneof(fc.nat(40), fc.constantFrom(2 ** 48 - 1, 2 ** 24)),
      count: fc.oneof(fc.nat(4), fc.nat(0xffff)),
      packet,
      regions: fc.array(fc.oneof(fc.integer({ min: 1, max: 4096 }), fc.constant(0x400000)), { maxLength: 4 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("register" as const), offset: fc.oneof(fc.nat(0x3f), fc.nat(0x2ff)), value: fc.oneof(fc.nat(0x1f), fc.nat(0xffffffff)) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("memory" as const), at: fc.oneof(fc.nat(31).map((i) => commandListAt + i), fc.nat(0xff).map((i) => commandTableAt + i)), value: fc.nat(255) }) },
  { weight: 2, arbitrary: fc.constant({ kind: "issue" as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: "restart" as const }) },
);

it("survives any guest", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), fc.nat(1), (steps, portIndex) => {
      const board = new TestBoard(0x40000);
      const device = ahci.create(
        {
          drives: [
            { kind: "disk", disk: new MemoryDisk(new Uint8Array(40 * 512)) },
            { kind: "cdrom", disc: new MemoryDisk(new Uint8Array(10 * 2048)) },
          ],
        },
        board.context,
      );
      const driver = new AhciDriver(board, device, portIndex);
      for (const action of steps) {
        if (action.kind === "task") driver.run({ ...action, packet: [action.packet[0], ...action.packet[1]] });
        else if (action.kind === "register") {
          board.memoryBus.write(driver.base + (action.offset & ~3), 4, action.value);
          const read = board.memoryBus.read(driver.base + action.offset, 1);
          expect(read >= 0 && read <= 0xff).toBe(true);
        } else if (action.kind === "memory") board.memory.bytes[action.at] = action.value;
        else if (action.kind === "issue") driver.write(0x38, 0xffffffff);
        else driver.restart();
      }
      board.memoryBus.write(driver.base + 4, 4, 1);
      driver.start();
      if (portIndex === 1) driver.run({ command: 0x08 });
      expect(driver.run({ command: 0xef, features: 3 }).status).toBe(0x50);
    }),
    { numRuns: 300 },
  );
});

it("parses any packet and any task, and lets no range leave the disk", () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 16, maxLength: 16 }),
      command,
      fc.nat(0xffff),
      fc.oneof(fc.nat(1000), fc.nat(2 ** 48 - 1)),
      fc.nat(0xffff),
      fc.nat(255),
      fc.nat(2000),
      (bytes, code, features, lba, count, device, capacity) => {
        expect(parsePacket(bytes).kind).toBeTypeOf("string");
        const request = parseAtaRequest({ command: code, features, lba, count, device, packet: bytes }, capacity);
        if ("range" in request) expect(request.range.offset + request.range.sizeBytes <= capacity * 512).toBe(true);
      },
    ),
    { numRuns: 3000 },
  );
});
