/** Any sequence of configuration accesses leaves identity and read-only bits alone and never throws. */
import fc from "fast-check";
import { expect, it } from "vitest";
import type { AccessSize } from "../contract.ts";
import { TestBoard } from "../testing/board.ts";
import { PciFunction } from "./function.ts";
import { hostBridge } from "./host-bridge/index.ts";
import { lpcBridge } from "./lpc-bridge/index.ts";

const access = fc.record({
  device: fc.constantFrom(0, 2, 0x1f, 9),
  offset: fc.oneof(fc.nat(0xfff), fc.nat(0x6f)),
  sizeBytes: fc.constantFrom<AccessSize>(1, 2, 4),
  value: fc.oneof(fc.nat(0xffffffff), fc.constantFrom(0xffffffff, 0, 0x80000000, 7)),
  throughEcam: fc.boolean(),
});

it("survives any configuration writes", () => {
  fc.assert(
    fc.property(fc.array(access, { maxLength: 80 }), (accesses) => {
      const board = new TestBoard();
      const host = hostBridge.create({ shadowChanged: () => {} }, board.context);
      const lpc = lpcBridge.create({}, board.context);
      const scratch = { read: () => 0, write: () => {} };
      const victim = new PciFunction({ vendorId: 0x1234, deviceId: 1, classCode: 0xff0000, interruptPin: 1 }, board.context, [
        { kind: "memory64", index: 0, sizeBytes: 0x4000, registers: scratch, name: "a" },
        { kind: "io", index: 2, sizeBytes: 4, registers: scratch, name: "b" },
        { kind: "memory32", index: 3, sizeBytes: 0x100_0000, registers: scratch, name: "c" },
        { kind: "rom", index: 0, sizeBytes: 0x800, registers: scratch, name: "d" },
      ]);
      victim.addMsix(4, 3, 0, 0x800);
      victim.addMsi();
      board.pci.attach(victim);
      for (const { device, offset, sizeBytes, value, throughEcam } of accesses) {
        const ecam = host.ecamBase;
        if (throughEcam && ecam !== undefined) {
          board.memoryBus.write(ecam + (device << 15) + offset, sizeBytes, value);
        } else {
          board.ports.write(0xcf8, 4, 0x80000000 + (device << 11) + (offset & 0xfc));
          board.ports.write(0xcfc + (offset & 3), sizeBytes, value);
        }
        victim.setInterrupt((value & 1) !== 0);
        const read = board.pci.readConfig(device << 3, offset, sizeBytes);
        expect(read >= 0 && read <= 0xffffffff).toBe(true);
      }
      expect(host.pciFunction.readConfig(0, 4)).toBe(0x29c08086);
      expect(lpc.pciFunction.readConfig(0, 4)).toBe(0x29188086);
      expect(victim.readConfig(0, 4)).toBe(0x00011234);
      expect(victim.readConfig(0x0b, 1)).toBe(0xff);
      lpc.reset();
      host.reset();
      victim.reset();
      expect(board.levels.some((level) => level)).toBe(false);
    }),
    { numRuns: 300 },
  );
});
