import fc from "fast-check";
import { expect, test } from "vitest";
import { encodingFixtures } from "../../tests/encoding-fixtures.ts";
import { Decoder } from "./decode.ts";
import { disassemble } from "./disassemble.ts";

const decoder = new Decoder(encodingFixtures, { hasFeature: () => true });
const mode = fc.constantFrom(16 as const, 32 as const, 64 as const);
const prefix = fc.constantFrom(0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x40, 0x48, 0x4f);
const map = fc.constantFrom([], [0x0f], [0x0f, 0x38], [0x0f, 0x3a], [0xc4], [0xc5]);
const code = fc
  .tuple(fc.array(prefix, { maxLength: 14 }), map, fc.array(fc.nat(255), { maxLength: 16 }))
  .map(([prefixes, lead, rest]) => Uint8Array.from([...prefixes, ...lead, ...rest]));

test("any bytes decode to a result, and any instruction to text", () => {
  fc.assert(
    fc.property(code, mode, fc.boolean(), (bytes, size, isReal) => {
      const result = decoder.decode(bytes, 0, size, isReal);
      if (result.kind !== "instruction") return;
      expect(result.length).toBeGreaterThan(0);
      expect(result.length).toBeLessThanOrEqual(Math.min(15, bytes.length));
      expect(disassemble(result, 0xffff_ffff_ffff_fff0n)).not.toMatch(/undefined|NaN/);
    }),
    { numRuns: 20_000 },
  );
});

test("an instruction needs exactly its own bytes", () => {
  fc.assert(
    fc.property(code, mode, (bytes, size) => {
      const result = decoder.decode(bytes, 0, size);
      if (result.kind !== "instruction") return;
      expect(decoder.decode(bytes.slice(0, result.length), 0, size)).toEqual(result);
      for (let length = 0; length < result.length; length++) {
        expect(decoder.decode(bytes.slice(0, length), 0, size).kind).toBe("truncated");
      }
    }),
    { numRuns: 5_000 },
  );
});
