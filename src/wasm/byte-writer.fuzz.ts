/** Reads back what the writer encodes, by the definition of LEB128 in exact integers. */

import fc from "fast-check";
import { expect, test } from "vitest";
import { ByteWriter } from "./byte-writer.ts";

function written(write: (writer: ByteWriter) => void): Uint8Array {
  const writer = new ByteWriter(1);
  write(writer);
  return writer.toBytes();
}

function decode(bytes: Uint8Array, isSigned: boolean): bigint {
  let value = 0n;
  bytes.forEach((byte, i) => {
    expect(byte >= 0x80).toBe(i < bytes.length - 1);
    value |= BigInt(byte & 0x7f) << BigInt(7 * i);
  });
  return isSigned ? BigInt.asIntN(7 * bytes.length, value) : value;
}

/** The fewest bytes that hold the value. */
function shortest(value: bigint, isSigned: boolean): number {
  let count = 1;
  while ((isSigned ? BigInt.asIntN(7 * count, value) : BigInt.asUintN(7 * count, value)) !== value) count++;
  return count;
}

function expectEncoding(bytes: Uint8Array, value: bigint, isSigned: boolean): void {
  expect(decode(bytes, isSigned)).toBe(value);
  expect(bytes.length).toBe(shortest(value, isSigned));
}

test("32-bit integers, whichever way they are signed", () => {
  fc.assert(
    fc.property(fc.integer(), (value) => {
      expectEncoding(written((w) => w.signed(value)), BigInt(value), true);
      expectEncoding(written((w) => w.signed(value >>> 0)), BigInt(value), true);
      expectEncoding(written((w) => w.unsigned(value)), BigInt(value >>> 0), false);
      expectEncoding(written((w) => w.unsigned(value >>> 0)), BigInt(value >>> 0), false);
    }),
    { numRuns: 2000 },
  );
});

test("64-bit integers from bigints, halves and numbers", () => {
  fc.assert(
    fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n }), fc.integer({ min: 0, max: 63 }), (wide, shift) => {
      const value = wide >> BigInt(shift);
      const signed = BigInt.asIntN(64, value);
      expectEncoding(written((w) => w.signedInteger(value)), signed, true);
      expectEncoding(written((w) => w.signed64(Number(value & 0xffff_ffffn), Number(BigInt.asUintN(32, value >> 32n)))), signed, true);
      if (Number.isSafeInteger(Number(value))) expectEncoding(written((w) => w.signedInteger(Number(value))), signed, true);
    }),
    { numRuns: 5000 },
  );
});

test("floating point and text", () => {
  fc.assert(
    fc.property(fc.double(), fc.string({ unit: "binary" }), (value, text) => {
      const float = new DataView(written((w) => w.float64(value)).buffer as ArrayBuffer);
      expect(float.getFloat64(0, true)).toBe(value);
      const single = new DataView(written((w) => w.float32(value)).buffer as ArrayBuffer);
      expect(single.getFloat32(0, true)).toBe(Math.fround(value));
      const encoded = new TextEncoder().encode(text);
      const size = written((w) => w.unsigned(encoded.length));
      expect(written((w) => w.name(text))).toEqual(Uint8Array.of(...size, ...encoded));
    }),
    { numRuns: 1000 },
  );
});
