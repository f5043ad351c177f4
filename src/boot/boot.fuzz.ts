import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { UserError } from "../base/errors.ts";
import { ascii, concatBytes, mebibyte } from "./bytes.ts";
import { loadKernel, type ProtocolChoice } from "./kernel.ts";
import { decompressLz4Legacy } from "./lz4.ts";
import { createMemoryMap } from "./memory-map.ts";
import { makeBzImage, makeElf, multiboot1Header, multiboot2Header, pvhNote } from "./testing/images.ts";

const memory = createMemoryMap(64 * mebibyte);
const protocols: readonly ProtocolChoice[] = ["auto", "linux", "pvh", "multiboot1", "multiboot2"];
const code = new Uint8Array(3000).fill(0x90);
const lz4Payload = concatBytes([ascii("\x02\x21\x4c\x18"), Uint8Array.of(20, 0, 0, 0), new Uint8Array(40).fill(0x11)]);
const seeds: readonly Uint8Array[] = [
  makeBzImage(),
  makeBzImage({ payload: lz4Payload }),
  makeBzImage({ payload: makeElf(true, 0, [{ physicalAddress: 0x100_0000, bytes: code }, { type: 4, physicalAddress: 0, bytes: pvhNote(0x100_0000) }]) }),
  makeElf(true, 0x100_0000, [{ physicalAddress: 0x100_0000, bytes: code }, { type: 4, physicalAddress: 0, bytes: pvhNote(0x100_0000) }]),
  makeElf(false, 0x10_0000, [{ physicalAddress: 0x10_0000, bytes: concatBytes([multiboot1Header(3), code]) }]),
  makeElf(false, 0x10_0000, [{ physicalAddress: 0x10_0000, bytes: concatBytes([new Uint8Array(4), multiboot2Header([[1, 0, 1, 6]]), code]) }]),
  concatBytes([multiboot1Header(0x1_0003, [0x10_0000, 0x10_0000, 0, 0x11_0000, 0x10_0040]), code]),
  concatBytes([multiboot2Header([[2, 0, 0x10_0000, 0x10_0000, 0, 0x11_0000], [3, 0, 0x10_0200]]), code]),
];

/** A working image with some bytes, words or its length changed. */
const damagedImage = fc.tuple(
  fc.constantFrom(...seeds),
  fc.array(fc.tuple(fc.nat(0x2800), fc.constantFrom(0, 1, 0x7f, 0x80, 0xff), fc.constantFrom(1, 2, 4, 8)), { maxLength: 6 }),
  fc.option(fc.nat(0x4000)),
).map(([seed, changes, length]) => {
  const bytes = seed.slice();
  for (const [offset, value, count] of changes) bytes.fill(value, offset, offset + count);
  return length === null ? bytes : bytes.subarray(0, length);
});

function check(kernel: Uint8Array, protocol: ProtocolChoice): void {
  try {
    const image = loadKernel({ kernel, commandLine: "x", initrd: code, memory, protocol });
    const sorted = image.writes.toSorted((a, b) => a.address - b.address);
    let end = 0;
    for (const write of sorted) {
      expect(write.sizeBytes).toBeGreaterThanOrEqual(write.bytes.length);
      if (write.sizeBytes === 0) continue;
      expect(write.address).toBeGreaterThanOrEqual(end);
      end = write.address + write.sizeBytes;
      expect(end).toBeLessThanOrEqual(64 * mebibyte);
    }
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    expect(["BAD_IMAGE", "BAD_MEMORY_SIZE", "BAD_ARGUMENT"]).toContain(error.code);
  }
}

describe("loaders, on any bytes, load within RAM without overlap or say why not", () => {
  test("random bytes", () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 2000 }), fc.constantFrom(...protocols), check), { numRuns: 2000 });
  });

  test("damaged images", () => {
    fc.assert(fc.property(damagedImage, fc.constantFrom(...protocols), check), { numRuns: 3000 });
  });

  test("LZ4", () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(5000), (block, sizeBytes) => {
      const frame = concatBytes([ascii("\x02\x21\x4c\x18"), Uint8Array.of(block.length, 0, 0, 0), block]);
      const result = decompressLz4Legacy(frame, sizeBytes);
      expect(result === undefined || result.length === sizeBytes).toBe(true);
    }), { numRuns: 3000 });
  });
});
