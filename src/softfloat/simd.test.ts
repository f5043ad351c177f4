import { describe, expect, it } from "vitest";
import { Random, floatOperand, layoutF32, layoutF64 } from "../../tests/native/float-cases.ts";
import type { RoundingMode, SimdEnvironment } from "./index.ts";
import * as soft from "./index.ts";
import * as arithmetic from "./simd-arithmetic.ts";
import { formatF32, formatF64 } from "./simd-format.ts";

const one = 0x3ff0_0000_0000_0000n;
const three = 0x4008_0000_0000_0000n;

function environment(mxcsr = 0x1f80): SimdEnvironment {
  return soft.simdEnvironment(mxcsr);
}

describe("environment", () => {
  it("reads MXCSR", () => {
    expect(soft.simdEnvironment(0xffc0)).toEqual({
      rounding: soft.roundZero,
      denormalsAreZero: true,
      flushToZero: true,
      masks: 0x3f,
      exceptions: 0,
    });
  });

  it("reads the x87 control word, the reserved precision as 64 bits", () => {
    expect(soft.x87Environment(0x037f).precision).toBe(64);
    expect(soft.x87Environment(0x027f).precision).toBe(53);
    expect(soft.x87Environment(0x017f).precision).toBe(64);
    expect(soft.x87Environment(0x0c7f)).toMatchObject({
      precision: 24,
      rounding: soft.roundZero,
      masks: 0x3f,
    });
  });

  it("lets an unmasked pre-computation exception hide the others", () => {
    const raised = soft.denormalMask | soft.underflowMask | soft.precisionMask;
    expect(soft.settledExceptions(raised, 0x3f)).toBe(raised);
    expect(soft.settledExceptions(raised, 0x3f & ~soft.denormalMask)).toBe(soft.denormalMask);
    expect(soft.settledExceptions(raised, 0x3f & ~soft.underflowMask)).toBe(raised);
  });
});

describe("binary64", () => {
  it("rounds one third by the rounding mode and raises precision", () => {
    const results = ([0, 1, 2, 3] as const).map((rounding: RoundingMode) => {
      const e = { ...environment(), rounding };
      const result = soft.f64Divide(one, three, e);
      expect(e.exceptions).toBe(soft.precisionMask);
      return result & 0xfn;
    });
    expect(results).toEqual([5n, 5n, 6n, 5n]);
  });

  it("reports only division by zero for a denormal dividend", () => {
    const e = environment();
    expect(soft.f64Divide(1n, 0n, e)).toBe(0x7ff0_0000_0000_0000n);
    expect(e.exceptions).toBe(soft.divideByZeroMask);
  });

  it("prefers the first NaN and quiets it", () => {
    const e = environment();
    expect(soft.f64Add(0x7ff0_0000_0000_0001n, 0xfff8_0000_0000_0002n, e)).toBe(
      0x7ff8_0000_0000_0001n,
    );
    expect(e.exceptions).toBe(soft.invalidMask);
  });

  it("flushes tiny results and denormal operands when asked", () => {
    const smallestNormal = 0x0010_0000_0000_0000n;
    const half = 0x3fe0_0000_0000_0000n;
    const kept = environment();
    expect(soft.f64Multiply(smallestNormal, half, kept)).toBe(0x0008_0000_0000_0000n);
    expect(kept.exceptions).toBe(0);
    const flushed = environment(0x9f80);
    expect(soft.f64Multiply(smallestNormal, half, flushed)).toBe(0n);
    expect(flushed.exceptions).toBe(soft.underflowMask | soft.precisionMask);
    const zeroed = environment(0x1fc0);
    expect(soft.f64Add(1n, 1n, zeroed)).toBe(0n);
    expect(zeroed.exceptions).toBe(0);
  });

  it("answers conversions out of range with the integer indefinite", () => {
    const e = environment();
    expect(soft.f64ToInt32(0x41e0_0000_0000_0000n, soft.roundZero, e)).toBe(-(2 ** 31));
    expect(soft.f64ToInt64(0x7ff0_0000_0000_0000n, soft.roundZero, e)).toBe(-(1n << 63n));
    expect(e.exceptions).toBe(soft.invalidMask);
  });
});

describe("the shortcut for ordinary operands", () => {
  const binary64 = [
    ["add", soft.f64Add],
    ["subtract", soft.f64Subtract],
    ["multiply", soft.f64Multiply],
    ["divide", soft.f64Divide],
  ] as const;
  const binary32 = [
    ["add", soft.f32Add],
    ["subtract", soft.f32Subtract],
    ["multiply", soft.f32Multiply],
    ["divide", soft.f32Divide],
  ] as const;

  it.each(binary64)("agrees with the exact path: f64 %s", (name, operation) => {
    const random = new Random(1);
    for (let round = 0; round < 5000; round++) {
      const a = floatOperand(random, layoutF64, one);
      const b = floatOperand(random, layoutF64, a);
      const rounding = random.below(4) as RoundingMode;
      const ours = { ...environment(), rounding };
      const exact = { ...environment(), rounding };
      const result = operation(a, b, ours);
      expect([result, ours.exceptions, a, b]).toEqual([
        arithmetic[name](formatF64, a, b, exact),
        exact.exceptions,
        a,
        b,
      ]);
    }
  });

  it.each(binary32)("agrees with the exact path: f32 %s", (name, operation) => {
    const random = new Random(2);
    for (let round = 0; round < 5000; round++) {
      const a = floatOperand(random, layoutF32, 0x3f80_0000n);
      const b = floatOperand(random, layoutF32, a);
      const rounding = random.below(4) as RoundingMode;
      const ours = { ...environment(), rounding };
      const exact = { ...environment(), rounding };
      const result = operation(Number(a), Number(b), ours);
      expect([BigInt(result), ours.exceptions, a, b]).toEqual([
        arithmetic[name](formatF32, a, b, exact),
        exact.exceptions,
        a,
        b,
      ]);
    }
  });
});

describe("approximations", () => {
  it("stay within 1.5 × 2^-12 and follow the special cases", () => {
    const float = new Float32Array(1);
    const pattern = new Uint32Array(float.buffer);
    const value = (bits: number): number => {
      pattern[0] = bits;
      return float[0];
    };
    for (let bits = 0x3e80_0000; bits < 0x4100_0000; bits += 1021) {
      const x = value(bits);
      expect(Math.abs(value(soft.f32Reciprocal(bits)) * x - 1)).toBeLessThanOrEqual(1.5 * 2 ** -12);
      const root = value(soft.f32ReciprocalSquareRoot(bits));
      expect(Math.abs(root * Math.sqrt(x) - 1)).toBeLessThanOrEqual(1.5 * 2 ** -12);
    }
    expect(soft.f32Reciprocal(0x8000_0001)).toBe(0xff80_0000);
    expect(soft.f32Reciprocal(0x7f00_0000)).toBe(0);
    expect(soft.f32ReciprocalSquareRoot(0xbf80_0000)).toBe(0xffc0_0000);
    expect(soft.f32ReciprocalSquareRoot(0x7f80_0001)).toBe(0x7fc0_0001);
  });
});
