/** Packed integer arithmetic, comparison and logic on MMX and XMM registers (SDM volume 1, "MMX Packed Arithmetic Instructions" and relatives). */
import { type Bits, constant, shuffle, vector, vectorToScalar } from "../../ir/index.ts";
import type { InstructionDefinition } from "../definition.ts";
import {
  and, joinLowHalves, lanes, or, packed, packedPair, range, sseInstruction, readAligned, without, xor, zeros,
} from "./simd.ts";

type Binary = (a: Bits<128>, b: Bits<128>) => Bits<128>;

const mmx = { half: "mmx", full: "sse2" };
/** MMX forms that came with SSE. */
const extendedMmx = { half: "sse", full: "sse2" };
const sse2 = { half: "sse2", full: "sse2" };
const ssse3 = { half: "ssse3", full: "ssse3" };

/** One WebAssembly operation. */
function operation(name: string): Binary {
  return (a, b) => vector(name, a, b);
}

function count(bits: number): Bits<32> {
  return constant(32, bits);
}

/** Upper halves of the products of words. */
function multiplyHigh(signedness: "s" | "u"): Binary {
  return (a, b) => {
    const low = vector(`i32x4.extmul_low_i16x8_${signedness}`, a, b);
    const high = vector(`i32x4.extmul_high_i16x8_${signedness}`, a, b);
    return shuffle(low, high, range(8).flatMap((word) => [word * 4 + 2, word * 4 + 3]));
  };
}

/** Products of the even doublewords. */
function multiplyEven(signedness: "s" | "u"): Binary {
  const even = (value: Bits<128>): Bits<128> => shuffle(value, value, [...range(4), ...range(4, 8), ...range(8)]);
  return (a, b) => vector(`i64x2.extmul_low_i32x4_${signedness}`, even(a), even(b));
}

/** The one product that does not fit, -1 times -1, is -1. */
function multiplyHighRounded(a: Bits<128>, b: Bits<128>): Bits<128> {
  const minusOne = lanes(16, [0x8000]);
  const overflow = and(vector("i16x8.eq", a, minusOne), vector("i16x8.eq", b, minusOne));
  return xor(vector("i16x8.q15mulr_sat_s", a, b), overflow);
}

/** Unsigned bytes of `a` times signed bytes of `b`, neighbours added with saturation. */
function multiplyAddBytes(a: Bits<128>, b: Bits<128>): Bits<128> {
  const even = vector("i16x8.mul", and(a, lanes(16, [0xff])), vector("i16x8.shr_s", vector("i16x8.shl", b, count(8)), count(8)));
  const odd = vector("i16x8.mul", vector("i16x8.shr_u", a, count(8)), vector("i16x8.shr_s", b, count(8)));
  return vector("i16x8.add_sat_s", even, odd);
}

/** Sum of absolute differences of eight bytes, in the low word of each quadword. */
function sumOfDifferences(a: Bits<128>, b: Bits<128>): Bits<128> {
  const differences = or(vector("i8x16.sub_sat_u", a, b), vector("i8x16.sub_sat_u", b, a));
  const words = vector("i16x8.extadd_pairwise_i8x16_u", differences);
  const doublewords = vector("i32x4.extadd_pairwise_i16x8_u", words);
  const upper = vector("i64x2.shr_u", doublewords, count(32));
  return vector("i64x2.add", upper, and(doublewords, lanes(64, [0xffff_ffff])));
}

/** Even and odd elements of two vectors, those of the first in the lower half. */
function evenAndOdd(a: Bits<128>, b: Bits<128>, elementBytes: 2 | 4): [Bits<128>, Bits<128>] {
  const elements = range(16 / elementBytes);
  const choose = (offset: number): Bits<128> =>
    shuffle(a, b, elements.flatMap((element) => range(elementBytes, (element * 2 + offset) * elementBytes)));
  return [choose(0), choose(1)];
}

function horizontal(name: string, opcode: string, elementBytes: 2 | 4, combine: Binary): InstructionDefinition[] {
  return packedPair({
    name, opcode: `0F 38 ${opcode}`, features: ssse3,
    full: (a, b) => combine(...evenAndOdd(a, b, elementBytes)),
    half: (a, b) => {
      const both = joinLowHalves(a, b);
      return combine(...evenAndOdd(both, both, elementBytes));
    },
  });
}

/** `a` negated, zeroed or kept as the sign of `b` says. */
function sign(shape: "i8x16" | "i16x8" | "i32x4", width: 8 | 16 | 32): Binary {
  return (a, b) => {
    const negative = vector(`${shape}.shr_s`, b, count(width - 1));
    const negated = vector(`${shape}.sub`, xor(a, negative), negative);
    return without(negated, vector(`${shape}.eq`, b, zeros()));
  };
}

/** Least word in bits 15:0, its number in bits 18:16. */
function minimumPosition(words: Bits<128>): Bits<128> {
  let least: Bits<32> | undefined;
  for (const index of range(8)) {
    const key = words.lane(16, index).zext(32).shl(16).or(index);
    least = least === undefined ? key : key.ltU(least).select(key, least);
  }
  return least!.rotl(16).zext(128);
}

function pair(name: string, opcode: string, features: { half: string; full: string }, full: Binary): InstructionDefinition[] {
  return packedPair({ name, opcode: `0F ${opcode}`, features, full });
}

function ssse3Pair(name: string, opcode: string, full: Binary): InstructionDefinition[] {
  return packedPair({ name, opcode: `0F 38 ${opcode}`, features: ssse3, full });
}

function sse4(name: string, opcode: string, compute: Binary, feature: string = "sse4_1"): InstructionDefinition {
  return packed(name, feature, [`66 0F 38 ${opcode} /r Vdq,Wdq`], compute);
}

/** PABSB and relatives have one source. */
function absolute(shape: string): Binary {
  return (_, b) => vector(`${shape}.abs`, b);
}

/** ANDNPS, PANDN: the first operand is complemented. */
export const notAnd: Binary = (a, b) => without(b, a);

const ptest = sseInstruction({
  name: "ptest", feature: "sse4_1", encodings: ["66 0F 38 17 /r Vdq,Wdq"],
  execute({ cpu, dst, src }) {
    const a = dst.as(128).read(), b = readAligned(cpu, src);
    const none = (value: Bits<128>): Bits<1> => vectorToScalar("v128.any_true", value).eq(0);
    const clear = constant(1, 0);
    cpu.writeFlags({ cf: none(without(b, a)), pf: clear, af: clear, zf: none(and(a, b)), sf: clear, of: clear });
  },
});

export const sseInteger: readonly InstructionDefinition[] = [
  ...pair("paddb", "FC", mmx, operation("i8x16.add")),
  ...pair("paddw", "FD", mmx, operation("i16x8.add")),
  ...pair("paddd", "FE", mmx, operation("i32x4.add")),
  ...pair("paddq", "D4", sse2, operation("i64x2.add")),
  ...pair("paddsb", "EC", mmx, operation("i8x16.add_sat_s")),
  ...pair("paddsw", "ED", mmx, operation("i16x8.add_sat_s")),
  ...pair("paddusb", "DC", mmx, operation("i8x16.add_sat_u")),
  ...pair("paddusw", "DD", mmx, operation("i16x8.add_sat_u")),
  ...pair("psubb", "F8", mmx, operation("i8x16.sub")),
  ...pair("psubw", "F9", mmx, operation("i16x8.sub")),
  ...pair("psubd", "FA", mmx, operation("i32x4.sub")),
  ...pair("psubq", "FB", sse2, operation("i64x2.sub")),
  ...pair("psubsb", "E8", mmx, operation("i8x16.sub_sat_s")),
  ...pair("psubsw", "E9", mmx, operation("i16x8.sub_sat_s")),
  ...pair("psubusb", "D8", mmx, operation("i8x16.sub_sat_u")),
  ...pair("psubusw", "D9", mmx, operation("i16x8.sub_sat_u")),
  ...pair("pmullw", "D5", mmx, operation("i16x8.mul")),
  ...pair("pmulhw", "E5", mmx, multiplyHigh("s")),
  ...pair("pmulhuw", "E4", extendedMmx, multiplyHigh("u")),
  ...pair("pmuludq", "F4", sse2, multiplyEven("u")),
  ...pair("pmaddwd", "F5", mmx, operation("i32x4.dot_i16x8_s")),
  ...pair("psadbw", "F6", extendedMmx, sumOfDifferences),
  ...pair("pavgb", "E0", extendedMmx, operation("i8x16.avgr_u")),
  ...pair("pavgw", "E3", extendedMmx, operation("i16x8.avgr_u")),
  ...pair("pminub", "DA", extendedMmx, operation("i8x16.min_u")),
  ...pair("pmaxub", "DE", extendedMmx, operation("i8x16.max_u")),
  ...pair("pminsw", "EA", extendedMmx, operation("i16x8.min_s")),
  ...pair("pmaxsw", "EE", extendedMmx, operation("i16x8.max_s")),
  ...pair("pcmpeqb", "74", mmx, operation("i8x16.eq")),
  ...pair("pcmpeqw", "75", mmx, operation("i16x8.eq")),
  ...pair("pcmpeqd", "76", mmx, operation("i32x4.eq")),
  ...pair("pcmpgtb", "64", mmx, operation("i8x16.gt_s")),
  ...pair("pcmpgtw", "65", mmx, operation("i16x8.gt_s")),
  ...pair("pcmpgtd", "66", mmx, operation("i32x4.gt_s")),
  ...pair("pand", "DB", mmx, and),
  ...pair("pandn", "DF", mmx, notAnd),
  ...pair("por", "EB", mmx, or),
  ...pair("pxor", "EF", mmx, xor),
  ...ssse3Pair("pmaddubsw", "04", multiplyAddBytes),
  ...ssse3Pair("pmulhrsw", "0B", multiplyHighRounded),
  ...ssse3Pair("psignb", "08", sign("i8x16", 8)),
  ...ssse3Pair("psignw", "09", sign("i16x8", 16)),
  ...ssse3Pair("psignd", "0A", sign("i32x4", 32)),
  ...ssse3Pair("pabsb", "1C", absolute("i8x16")),
  ...ssse3Pair("pabsw", "1D", absolute("i16x8")),
  ...ssse3Pair("pabsd", "1E", absolute("i32x4")),
  ...horizontal("phaddw", "01", 2, operation("i16x8.add")),
  ...horizontal("phaddd", "02", 4, operation("i32x4.add")),
  ...horizontal("phaddsw", "03", 2, operation("i16x8.add_sat_s")),
  ...horizontal("phsubw", "05", 2, operation("i16x8.sub")),
  ...horizontal("phsubd", "06", 4, operation("i32x4.sub")),
  ...horizontal("phsubsw", "07", 2, operation("i16x8.sub_sat_s")),
  ptest,
  sse4("pmuldq", "28", multiplyEven("s")),
  sse4("pmulld", "40", operation("i32x4.mul")),
  sse4("pcmpeqq", "29", operation("i64x2.eq")),
  sse4("pcmpgtq", "37", operation("i64x2.gt_s"), "sse4_2"),
  sse4("pminsb", "38", operation("i8x16.min_s")),
  sse4("pminsd", "39", operation("i32x4.min_s")),
  sse4("pminuw", "3A", operation("i16x8.min_u")),
  sse4("pminud", "3B", operation("i32x4.min_u")),
  sse4("pmaxsb", "3C", operation("i8x16.max_s")),
  sse4("pmaxsd", "3D", operation("i32x4.max_s")),
  sse4("pmaxuw", "3E", operation("i16x8.max_u")),
  sse4("pmaxud", "3F", operation("i32x4.max_u")),
  sse4("phminposuw", "41", (_, b) => minimumPosition(b)),
];
