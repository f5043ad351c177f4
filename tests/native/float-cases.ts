/** Seeded operands for floating-point differential tests: special values and hard neighbourhoods far above their natural share. */

/** A seeded generator (splitmix64). */
export class Random {
  #state: bigint;

  constructor(seed: number) {
    this.#state = BigInt(seed);
  }

  bits64(): bigint {
    this.#state = BigInt.asUintN(64, this.#state + 0x9e3779b97f4a7c15n);
    let z = this.#state;
    z = BigInt.asUintN(64, (z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n);
    z = BigInt.asUintN(64, (z ^ (z >> 27n)) * 0x94d049bb133111ebn);
    return z ^ (z >> 31n);
  }

  below(limit: number): number {
    return Number(this.bits64() >> 11n) % limit;
  }

  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)];
  }
}

/** Widths of an encoding's fields; the x87 one has its integer bit as the top fraction bit. */
export interface Layout {
  readonly exponentBits: number;
  readonly fractionBits: number;
  readonly explicitInteger: boolean;
}

export const layoutF32: Layout = { exponentBits: 8, fractionBits: 23, explicitInteger: false };
export const layoutF64: Layout = { exponentBits: 11, fractionBits: 52, explicitInteger: false };
export const layoutF80: Layout = { exponentBits: 15, fractionBits: 64, explicitInteger: true };

/** A fraction with interesting bits: sparse, dense, runs, near halfway of a shorter format, or random. */
function fraction(random: Random, width: number): bigint {
  const mask = (1n << BigInt(width)) - 1n;
  const bit = (): bigint => 1n << BigInt(random.below(width));
  switch (random.below(10)) {
    case 0:
      return 0n;
    case 1:
      return mask;
    case 2:
      return bit();
    case 3:
      return mask ^ bit();
    case 4:
      return (bit() - 1n) & mask;
    case 5:
      return mask & ~(bit() - 1n);
    case 6: {
      // Next to a tie of a format with fewer bits.
      const keep = bit();
      return (
        (((random.bits64() & mask & ~(keep - 1n)) | (keep >> 1n)) + BigInt(random.below(3) - 1)) &
        mask
      );
    }
    default:
      return random.bits64() & mask;
  }
}

function exponent(random: Random, layout: Layout, near: number | undefined): number {
  const top = 2 ** layout.exponentBits - 1;
  const bias = (top - 1) / 2;
  const clamp = (value: number): number => Math.min(Math.max(value, 0), top);
  switch (random.below(12)) {
    case 0:
      return 0;
    case 1:
      return random.below(4);
    case 2:
      return top;
    case 3:
      return top - 1 - random.below(4);
    case 4:
    case 5:
    case 6:
      return clamp((near ?? bias) + random.below(9) - 4);
    case 7:
    case 8:
      return clamp(
        (near ?? bias) + random.below(2 * layout.fractionBits + 20) - layout.fractionBits - 10,
      );
    case 9:
      return clamp(bias + random.below(80) - 8);
    default:
      return random.below(top + 1);
  }
}

/** An operand of the layout; `near` pulls its exponent towards that of another operand. */
export function floatOperand(random: Random, layout: Layout, near?: bigint): bigint {
  const { exponentBits, fractionBits, explicitInteger } = layout;
  const exponentMask = (1n << BigInt(exponentBits)) - 1n;
  if (near !== undefined && random.below(16) === 0) {
    // The same magnitude or its neighbour.
    const width = BigInt(exponentBits + fractionBits + 1);
    return (
      BigInt.asUintN(Number(width), near + BigInt(random.below(3) - 1)) ^
      (BigInt(random.below(2)) << (width - 1n))
    );
  }
  const sign = BigInt(random.below(2));
  const nearExponent =
    near === undefined ? undefined : Number((near >> BigInt(fractionBits)) & exponentMask);
  const biased = BigInt(exponent(random, layout, nearExponent));
  let significand = fraction(random, explicitInteger ? 63 : fractionBits);
  if (explicitInteger) {
    // Mostly canonical; one in sixteen is a pseudo-denormal, unnormal, pseudo-NaN or pseudo-infinity.
    const canonical = biased !== 0n;
    if (canonical !== (random.below(16) === 0)) significand |= 1n << 63n;
  }
  return (((sign << BigInt(exponentBits)) | biased) << BigInt(fractionBits)) | significand;
}

/** A signed integer of `width` bits, as its unsigned pattern. */
export function integerOperand(random: Random, width: number): bigint {
  const value =
    random.below(3) === 0
      ? random.bits64()
      : fraction(random, width) >> BigInt(random.below(width));
  return BigInt.asUintN(width, random.below(2) === 0 ? value : -value);
}

/** MXCSR with random rounding, DAZ and FTZ; two in three have every exception masked. */
export function randomMxcsr(random: Random): number {
  const masks = random.below(3) === 0 ? random.below(64) : 63;
  const modes = random.below(4) === 0 ? random.pick([0x8000, 0x0040, 0x8040]) : 0;
  return (masks << 7) | (random.below(4) << 13) | modes;
}

/** A control word with random rounding and precision; two in three have every exception masked. */
export function randomControlWord(random: Random): number {
  const masks = random.below(3) === 0 ? random.below(64) : 63;
  const precision = random.below(2) === 0 ? 3 : random.pick([0, 2]);
  return masks | (precision << 8) | (random.below(4) << 10);
}
