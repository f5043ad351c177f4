import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type DiskBackend, whenDone } from "./contract.ts";
import { MemoryDisk } from "./memory-disk.ts";
import { OverlayDisk } from "./overlay-disk.ts";

function later(disk: DiskBackend): DiskBackend {
  return {
    sizeBytes: disk.sizeBytes,
    readOnly: disk.readOnly,
    read: async (offset, target) => disk.read(offset, target),
    write: async (offset, bytes) => disk.write(offset, bytes),
    flush: async () => disk.flush(),
  };
}

describe("memory disk", () => {
  it("refuses ranges that are not on it and writes to what is read-only", () => {
    const disk = new MemoryDisk(new Uint8Array(1024), { readOnly: true });
    expect(disk.read(1000, new Uint8Array(25))).toMatchObject({ code: "OUT_OF_RANGE" });
    expect(disk.write(0, new Uint8Array(1))).toMatchObject({ code: "READ_ONLY" });
    expect(disk.read(1000, new Uint8Array(24))).toBeUndefined();
  });
});

describe("overlay disk", () => {
  it("answers like one disk, leaves its base alone, at once or later", async () => {
    const operations = fc.array(
      fc.record({ offset: fc.nat(4999), sizeBytes: fc.nat(3000), value: fc.integer({ min: 1, max: 255 }), isWrite: fc.boolean() }),
      { maxLength: 30 },
    );
    await fc.assert(
      fc.asyncProperty(operations, fc.boolean(), async (list, isLater) => {
        const original = Uint8Array.from({ length: 5000 }, (_, i) => i % 251);
        const base = new MemoryDisk(original.slice(), { readOnly: true });
        const model = original.slice();
        const overlay = new OverlayDisk(isLater ? later(base) : base, { blockBytes: 512 });
        for (const { offset, sizeBytes, value, isWrite } of list) {
          const size = Math.min(sizeBytes, 5000 - offset);
          const bytes = new Uint8Array(size).fill(value);
          const result = isWrite ? overlay.write(offset, bytes) : overlay.read(offset, bytes);
          if (!isLater) expect(result instanceof Promise).toBe(false);
          expect(await result).toBeUndefined();
          if (isWrite) model.fill(value, offset, offset + size);
          else expect(bytes).toEqual(model.slice(offset, offset + size));
        }
        expect(base.bytes).toEqual(original);
      }),
      { numRuns: 200 },
    );
  });

  it("keeps both of two writes to one block that a slow base is still copying", async () => {
    const overlay = new OverlayDisk(later(new MemoryDisk(new Uint8Array(1024))), { blockBytes: 512 });
    await Promise.all([overlay.write(0, Uint8Array.of(1)), overlay.write(1, Uint8Array.of(2)), overlay.write(512, new Uint8Array(512).fill(3))]);
    const result = new Uint8Array(514);
    await overlay.read(0, result);
    expect([result[0], result[1], result[2], result[512]]).toEqual([1, 2, 0, 3]);
  });

  it("passes the base's failure on and can be tried again", async () => {
    let isBroken = true;
    const base = new MemoryDisk(new Uint8Array(1024));
    const flaky: DiskBackend = {
      sizeBytes: 1024,
      readOnly: true,
      read: (offset, target) => (isBroken ? { code: "IO_ERROR", message: "no" } : base.read(offset, target)),
      write: () => undefined,
      flush: () => undefined,
    };
    const overlay = new OverlayDisk(flaky);
    expect(overlay.write(3, Uint8Array.of(1))).toMatchObject({ code: "IO_ERROR" });
    isBroken = false;
    expect(overlay.write(3, Uint8Array.of(1))).toBeUndefined();
  });
});

it("whenDone continues at once", () => {
  expect(whenDone(1, (value) => value + 1)).toBe(2);
});
