import { describe, expect, it } from "vitest";
import type { F80, X87Environment } from "./index.ts";
import * as soft from "./index.ts";

function f80(signExponent: number, significand: bigint): F80 {
  return { signExponent, significand };
}

const integerBit = 1n << 63n;
const one = f80(0x3fff, integerBit);
const three = f80(0x4000, 0xc000_0000_0000_0000n);
const largest = f80(0x7ffe, (1n << 64n) - 1n);

function environment(controlWord = 0x037f): X87Environment {
  return soft.x87Environment(controlWord);
}

describe("arithmetic", () => {
  it("rounds to the precision control and says in which direction", () => {
    const full = environment();
    expect(soft.f80Divide(one, three, full)).toEqual(f80(0x3ffd, 0xaaaa_aaaa_aaaa_aaabn));
    expect(full).toMatchObject({ exceptions: soft.precisionMask, roundedUp: true });
    const single = environment(0x0f7f & ~0x0300);
    expect(soft.f80Divide(one, three, single)).toEqual(f80(0x3ffd, 0xaaaa_aa00_0000_0000n));
    expect(single).toMatchObject({ exceptions: soft.precisionMask, roundedUp: false });
  });

  it("delivers the bias-adjusted result of an unmasked overflow", () => {
    const masked = environment();
    expect(soft.f80Add(largest, largest, masked)).toEqual(soft.f80Infinity(false));
    expect(masked.exceptions).toBe(soft.overflowMask | soft.precisionMask);
    const unmasked = environment(0x037f & ~soft.overflowMask);
    expect(soft.f80Add(largest, largest, unmasked)).toEqual(f80(0x7fff - 0x6000, (1n << 64n) - 1n));
    expect(unmasked.exceptions).toBe(soft.overflowMask);
  });

  it("refuses unnormals, pseudo-infinities and pseudo-NaNs", () => {
    for (const operand of [f80(0x4000, 1n), f80(0x7fff, 0n), f80(0x7fff, 1n << 62n)]) {
      const e = environment();
      expect(soft.f80Add(operand, one, e)).toEqual(soft.f80Indefinite);
      expect(e.exceptions).toBe(soft.invalidMask);
      expect(soft.f80Examine(operand)).toBe(soft.classUnsupported);
    }
  });

  it("takes pseudo-denormals at their value", () => {
    const e = environment();
    expect(soft.f80Multiply(f80(0, integerBit), one, e)).toEqual(f80(1, integerBit));
    expect(e.exceptions).toBe(soft.denormalMask);
  });

  it("prefers the NaN with the larger significand", () => {
    const small = f80(0x7fff, integerBit | (1n << 62n) | 1n);
    const large = f80(0xffff, integerBit | (1n << 62n) | 2n);
    expect(soft.f80Add(small, large, environment())).toEqual(large);
    expect(soft.f80Add(large, small, environment())).toEqual(large);
  });
});

describe("loads and stores", () => {
  it("round-trips integers and packed BCD", () => {
    const e = environment();
    for (const value of [0n, 1n, -1n, 1234567890123456789n, -(1n << 63n)]) {
      expect(soft.f80ToInteger(soft.f80FromInteger(value), 64, soft.roundNearest, e)).toBe(value);
    }
    const image = 0x80_12_34_56_78_90_12_34_56_78n;
    expect(soft.f80ToBcd(soft.f80FromBcd(image), e)).toBe(image);
    expect(e.exceptions).toBe(0);
    expect(soft.f80ToBcd(largest, e)).toBe(0xffff_c000_0000_0000_0000n);
    expect(e.exceptions).toBe(soft.invalidMask);
  });

  it("suppresses a store whose overflow is unmasked", () => {
    const e = environment(0x037f & ~soft.overflowMask);
    soft.f80ToF32(largest, e);
    expect(e.exceptions).toBe(soft.overflowMask);
    expect(soft.storeIsSuppressed(e)).toBe(true);
  });
});

describe("partial remainder", () => {
  it("needs several steps for distant exponents", () => {
    const step = soft.f80Remainder(f80(0x3fff + 100, integerBit), three, false, environment());
    expect(step.complete).toBe(false);
    let { result, complete, quotient } = step;
    for (let steps = 0; !complete && steps < 4; steps++) {
      ({ result, complete, quotient } = soft.f80Remainder(result, three, false, environment()));
    }
    // 2^100 = 3 × …5 + 1.
    expect(result).toEqual(one);
    expect(quotient & 1).toBe(1);
  });

  it("rounds the quotient to nearest for FPREM1", () => {
    const two = f80(0x4000, integerBit);
    const { result, quotient } = soft.f80Remainder(two, three, true, environment());
    expect(result).toEqual(soft.f80ChangeSign(one));
    expect(quotient).toBe(1);
  });
});

describe("transcendentals", () => {
  it("knows exact values", () => {
    const e = environment();
    expect(soft.f80ExponentialMinusOne(one, e)).toEqual(one);
    expect(soft.f80Logarithm(f80(0x4002, integerBit), three, e)).toEqual(soft.f80FromInteger(9n));
    expect(soft.f80Arctangent(one, one, e)).toEqual(f80(0x3ffe, 0xc90f_daa2_2168_c235n));
    expect(soft.f80Constant("pi", soft.roundDown)).toEqual(f80(0x4000, 0xc90f_daa2_2168_c234n));
  });

  it("leaves operands of 2^63 and more", () => {
    const far = f80(0x3fff + 63, integerBit);
    expect(soft.f80Sine(far, environment())).toEqual({ result: far, complete: false });
  });

  it("reduces by the 66-bit π", () => {
    // fsin of the double extended nearest to π, shifted by 2^62: the processor's answer, not the mathematical one.
    const { result } = soft.f80Sine(f80(0x3fff + 62, 0xc90f_daa2_2168_c235n), environment());
    expect(result).toEqual(f80(0x3ffb, 0xff55_7774_3771_ae50n));
  });
});
