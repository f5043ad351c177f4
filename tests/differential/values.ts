/** Values that find mistakes: boundaries of every width, special floating-point encodings, BCD; as bytes and as words. */
import { Random } from "./random.ts";

const poolSeed = 0x52_69_6e_67;
const random = new Random(poolSeed, 1, 2);

/** 64-bit values for general registers; a power of two of them. */
export const integers: BigUint64Array = new BigUint64Array(4096).map((_, index) => interestingInteger(index));

function interestingInteger(index: number): bigint {
  switch (index & 3) {
    case 0: {
      const power = 1n << BigInt(random.pick([0, 1, 3, 4, 5, 6, 7, 8, 12, 15, 16, 24, 30, 31, 32, 33, 47, 48, 62, 63]));
      const boundary = power + BigInt(random.between(-1, 1));
      return BigInt.asUintN(64, random.chance(50) ? boundary : -boundary);
    }
    case 1:
      return BigInt.asUintN(64, BigInt(random.between(-40, 70)));
    case 2: {
      const widthBits = random.pick([8, 16, 32]);
      return BigInt.asUintN(64, BigInt.asIntN(widthBits, random.next64()));
    }
    default:
      return random.next64();
  }
}

const float32Specials: readonly number[] = [
  0, 0x8000_0000, 0x3f80_0000, 0xbf80_0000, 1, 0x8000_0001, 0x007f_ffff, 0x0080_0000, 0x7f7f_ffff, 0xff7f_ffff,
  0x7f80_0000, 0xff80_0000, 0x7fc0_0000, 0xffc0_0000, 0x7f80_0001, 0xffbf_ffff, 0x7fff_ffff, 0x7fa0_0000, 0x4f00_0000,
  0xcf00_0000, 0xcf00_0001, 0x4eff_ffff, 0x5f00_0000, 0xdf00_0000, 0x4f80_0000, 0x3f00_0000, 0x3fc0_0000, 0x4020_0000,
  0xbf00_0000, 0xbfc0_0000, 0x3f7f_ffff, 0x3f80_0001, 0x4b00_0000, 0x4b00_0001, 0x4b7f_ffff, 0x3380_0000, 0x2000_0000,
  0x1fff_ffff, 0x0c80_0000, 0x0040_0000,
];

const float64Specials: readonly bigint[] = [
  0n, 0x8000_0000_0000_0000n, 0x3ff0_0000_0000_0000n, 0xbff0_0000_0000_0000n, 1n, 0x8000_0000_0000_0001n,
  0x000f_ffff_ffff_ffffn, 0x0010_0000_0000_0000n, 0x7fef_ffff_ffff_ffffn, 0x7ff0_0000_0000_0000n,
  0xfff0_0000_0000_0000n, 0x7ff8_0000_0000_0000n, 0xfff8_0000_0000_0000n, 0x7ff0_0000_0000_0001n,
  0xfff7_ffff_ffff_ffffn, 0x7fff_ffff_ffff_ffffn, 0x41e0_0000_0000_0000n, 0xc1e0_0000_0000_0000n,
  0x41df_ffff_ffc0_0000n, 0xc1e0_0000_0020_0000n, 0x43e0_0000_0000_0000n, 0xc3e0_0000_0000_0000n,
  0x43df_ffff_ffff_ffffn, 0x3fe0_0000_0000_0000n, 0x3ff8_0000_0000_0000n, 0x4004_0000_0000_0000n,
  0x47ef_ffff_e000_0000n, 0x47ef_ffff_f000_0000n, 0x3690_0000_0000_0000n, 0x36a0_0000_0000_0000n,
  0x3810_0000_0000_0000n, 0x380f_ffff_ffff_ffffn, 0x3fef_ffff_ffff_ffffn, 0x3ff0_0000_0000_0001n,
  0x4330_0000_0000_0000n, 0x4330_0000_0000_0001n, 0x3ca0_0000_0000_0000n, 0x1ff0_0000_0000_0000n,
];

/** Sign and exponent, significand. */
const float80Specials: readonly (readonly [number, bigint])[] = [
  [0, 0n], [0x8000, 0n], [0x3fff, 1n << 63n], [0xbfff, 1n << 63n], [0, 1n], [0x8000, 1n], [0, (1n << 63n) - 1n],
  [0, 1n << 63n], [1, 1n << 63n], [0x7ffe, (1n << 64n) - 1n], [0x7fff, 1n << 63n], [0xffff, 1n << 63n],
  [0x7fff, 3n << 62n], [0xffff, 3n << 62n], [0x7fff, (1n << 63n) | 1n], [0xffff, (1n << 63n) | 5n], [0x7fff, (3n << 62n) | 1n],
  [0x7fff, 0n], [0x7fff, 1n], [0x7fff, 1n << 62n], [0x3fff, 0n], [0x4000, 1n], [0x3fff, 1n << 62n], [0x401e, 1n << 63n],
  [0xc01e, 1n << 63n], [0x401d, 0xffff_ffff_0000_0000n], [0x403e, 1n << 63n], [0xc03e, 1n << 63n],
  [0x403d, (1n << 64n) - 1n], [0x3ffe, 1n << 63n], [0x3fff, 3n << 62n], [0x4000, 0xa000_0000_0000_0000n],
  [0x4000, 0xc90f_daa2_2168_c235n], [0x3fff, 0xc90f_daa2_2168_c235n], [0x3ffe, 0xb172_17f7_d1cf_79acn],
  [0x407e, (1n << 64n) - 1n], [0x3f81, 1n << 63n], [0x43fe, 0xffff_ffff_ffff_f800n], [0x3c01, 1n << 63n],
  [0x400e, 1n << 63n], [0xc00e, 1n << 63n], [0x403a, 0x9184_e72a_0000_0000n], [0x4034, 0xde0b_6b3a_763f_fff0n],
  [0x3fbe, 1n << 63n], [0x3fff, (1n << 63n) | 1n], [0x3ffe, (1n << 64n) - 1n],
];

/** What an instruction takes the bytes for. */
export type ValueKind = "integer" | "float32" | "float64" | "float80" | "bcd";

export const poolBytes = 32768;

/** Bytes of one kind; slices from any place that is a multiple of 16 hold whole values. */
export const pools: Readonly<Record<ValueKind, Uint8Array>> = {
  integer: makePool((view, at) => view.setBigUint64(at, random.chance(15) ? repeatedByte() : random.pick([...integers]), true), 8),
  float32: makePool((view, at) => view.setUint32(at, float32(), true), 4),
  float64: makePool((view, at) => view.setBigUint64(at, float64(), true), 8),
  float80: makePool(writeFloat80, 16),
  bcd: makePool(writeBcd, 16),
};

function makePool(write: (view: DataView, at: number) => void, stepBytes: number): Uint8Array {
  const bytes = new Uint8Array(poolBytes);
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < poolBytes; at += stepBytes) write(view, at);
  return bytes;
}

function repeatedByte(): bigint {
  return 0x0101_0101_0101_0101n * BigInt(random.pick([0, 1, 0x7f, 0x80, 0x81, 0xfe, 0xff, 0x61]));
}

function float32(): number {
  const choice = random.below(10);
  if (choice < 5) return random.pick(float32Specials);
  if (choice < 8) return ((random.next() & 0x807f_ffff) | (random.between(120, 134) << 23)) >>> 0;
  return choice === 8 ? ((random.next() & 0x807f_f000) | (random.between(100, 190) << 23)) >>> 0 : random.next();
}

function float64(): bigint {
  const choice = random.below(10);
  if (choice < 5) return random.pick(float64Specials);
  if (choice === 9) return random.next64();
  const exponent = BigInt(choice === 8 ? random.between(850, 1200) : random.between(1016, 1030));
  return (random.next64() & 0x800f_ffff_ffff_ffffn) | (exponent << 52n);
}

function writeFloat80(view: DataView, at: number): void {
  const choice = random.below(10);
  let [signAndExponent, significand] = random.pick(float80Specials);
  if (choice >= 5) {
    significand = random.next64() | (1n << 63n);
    if (choice === 7) significand &= 0xffff_ff80_0000_0000n;
    if (choice === 8) significand &= 0xffff_ffff_ffff_f800n;
    const isNear = choice < 9;
    signAndExponent = (random.next() & 0x8000) | (isNear ? random.between(0x3ff0, 0x4010) : random.below(0x8000));
  }
  view.setBigUint64(at, significand, true);
  view.setUint16(at + 8, signAndExponent, true);
}

function writeBcd(view: DataView, at: number): void {
  for (let digit = 0; digit < 9; digit++) {
    view.setUint8(at + digit, random.chance(97) ? random.below(10) | (random.below(10) << 4) : random.next() & 0xff);
  }
  view.setUint8(at + 9, random.pick([0, 0x80, 0, 0x80, 0x7f, 0xff]));
}
