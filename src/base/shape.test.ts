/** Described data goes to JSON and back unchanged, and what is not as described is refused with its place. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  absent, anything, boolean, bytes, checked, count, finite, integer, type Json, list, mapped, noRegions, object, oneOf, optional, pair,
  record, region, row, type Shape, ShapeError, signed, text, triple, uint16, uint32, uint8, unsigned, word32, words16, words32,
} from "./shape.ts";

interface Example {
  small: number;
  word: number;
  time: number;
  isOn: boolean;
  name: string;
  mode: "fast" | "slow";
  wide: bigint;
  offset: bigint;
  perhaps: number | undefined;
  fifo: number[];
  levels: [boolean, boolean];
  channels: [number, number, number];
  mixed: (number | string)[];
  files: Record<string, Uint8Array>;
  nothing: undefined;
  table: Uint32Array;
  halves: Uint16Array;
}

const example: Shape<Example> = object<Example>({
  small: integer(1, 9), word: word32, time: finite, isOn: boolean, name: text(8), mode: oneOf("fast", "slow"), wide: unsigned(64),
  offset: signed(65), perhaps: optional(uint8), fifo: list(uint16, { maximum: 4 }), levels: pair(boolean), channels: triple(uint32),
  mixed: row([uint8 as Shape<number | string>, text(3) as Shape<number | string>]), files: record(bytes({ maximum: 4 }), 3), nothing: absent,
  table: words32(2), halves: words16(1),
});

const values: fc.Arbitrary<Example> = fc.record({
  small: fc.integer({ min: 1, max: 9 }), word: fc.integer(), time: fc.integer(), isOn: fc.boolean(), name: fc.string({ maxLength: 8 }),
  mode: fc.constantFrom("fast" as const, "slow" as const), wide: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  offset: fc.bigInt({ min: -(2n ** 64n), max: 2n ** 64n - 1n }), perhaps: fc.option(fc.nat(255), { nil: undefined }),
  fifo: fc.array(fc.nat(65535), { maxLength: 4 }), levels: fc.tuple(fc.boolean(), fc.boolean()), channels: fc.tuple(fc.nat(), fc.nat(), fc.nat()),
  mixed: fc.tuple(fc.nat(255), fc.string({ maxLength: 3 })), files: fc.dictionary(fc.constantFrom("etc/a", "b-1"), fc.uint8Array({ maxLength: 4 })),
  nothing: fc.constant(undefined), table: fc.uint32Array({ minLength: 2, maxLength: 2 }), halves: fc.uint16Array({ minLength: 1, maxLength: 1 }),
});

test("values survive text", () => {
  fc.assert(fc.property(values, (value) => {
    const json = JSON.parse(JSON.stringify(example.encode(value, "", noRegions))) as Json;
    expect(example.decode(json, "", noRegions)).toEqual({ ...value, files: { ...value.files } });
  }));
});

describe("refuses", () => {
  const refusals: readonly [string, Shape<unknown>, unknown, string][] = [
    ["a fraction", uint8, 0.5, "it should be a whole number from 0 to 255 and is 0.5"],
    ["what is out of range", uint8, 256, "it should be a whole number from 0 to 255 and is 256"],
    ["an infinite time", finite, 1e300, "it should be a number and is 1e+300"],
    ["a missing property", object({ a: uint8 }), {}, "a should be a whole number from 0 to 255 and is missing"],
    ["an inherited property", object({ constructor: uint8 }), {}, "constructor should be a whole number from 0 to 255 and is missing"],
    ["an unknown property", object({}), { a: 1 }, "a should be absent and is 1"],
    ["a list instead of an object", object({}), [], "it should be an object and is a list of 0"],
    ["a long list", list(uint8, { maximum: 1 }), [1, 2], "it should be a list of at most 1 and is a list of 2"],
    ["a wrong element", list(list(uint8, 1), 1), [[-1]], "0.0 should be a whole number from 0 to 255 and is -1"],
    ["a large number", unsigned(8), "0x100", "it should be a number of 8 bits in hexadecimal and is \"0x100\""],
    ["a signed number that is too large", signed(8), "128", "it should be a number of 8 bits and is \"128\""],
    ["odd digits", bytes(1), "0", "it should be 1 bytes in hexadecimal and is \"0\""],
    ["wrong bytes", bytes(1), "zz", "it should be 1 bytes in hexadecimal and is \"zz\""],
    ["a strange name", record(uint8, 1), JSON.parse('{"__proto__": 1}'), "it should be an object with plain names and is \"__proto__\""],
    ["an unknown word", oneOf("a", "b"), "c", "it should be one of a, b and is \"c\""],
    ["what a check does not accept", checked(uint8, (value) => value % 2 === 0, "even"), 3, "it should be even and is 3"],
    ["a region that is not there", region(4), { regionBytes: 4 }, "it should be a region of 4 bytes and is \"absent\""],
    ["a region of another size", region(4), { regionBytes: 5 }, "it should be a region of 4 bytes and is an object"],
    ["nothing", anything, undefined, "it should be there and is missing"],
    ["negative counts", count, -1, "it should be a whole number from 0 to 9007199254740991 and is -1"],
    ["anything but nothing", absent, 0, "it should be null and is 0"],
  ];

  test.each(refusals)("%s", (_, shape, json, message) => {
    const decode = (): unknown => shape.decode(json as Json, "", noRegions);
    expect(decode).toThrow(ShapeError);
    expect(decode).toThrow(message);
  });
});

test("regions are kept beside, by their path", () => {
  const shape = object({ memory: region(3), name: mapped(text(9), (upper: string) => upper.toLowerCase(), (lower) => lower.toUpperCase()) });
  const kept = new Map<string, Uint8Array>();
  const json = shape.encode({ memory: Uint8Array.of(1, 2, 3), name: "AB" }, "", { put: (path, of) => void kept.set(path, of) });
  expect(json).toEqual({ memory: { regionBytes: 3 }, name: "ab" });
  expect(shape.decode(json, "", { take: (path) => kept.get(path) })).toEqual({ memory: Uint8Array.of(1, 2, 3), name: "AB" });
});
