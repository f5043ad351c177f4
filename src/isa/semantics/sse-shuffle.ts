/** Shuffles, unpacks, packs, blends, insertions, extractions and widenings (SDM volume 1, "SSE Shuffle and Unpack Instructions" and relatives). */
import { type Bits, constant, shuffle, splat, vector } from "../../ir/index.ts";
import type { InstructionDefinition, Operand } from "../definition.ts";
import {
  and, bitSelect, byteNumbers, extractLane, immediateByte, insertLane, joinLowHalves, lanes, mmxInstruction, packed,
  packedPair, range, readAligned, readLow, readMmx, sseInstruction, swizzle, without, writeMmx, zeros,
  enterMmx,
} from "./simd.ts";

const mmx = { half: "mmx", full: "sse2" };
const ssse3 = { half: "ssse3", full: "ssse3" };

type Binary = (a: Bits<128>, b: Bits<128>) => Bits<128>;

/** Alternates the elements of the lower (or upper) halves of `halfBytes` bytes of `a` and `b`. */
function interleave(elementBytes: number, firstByte: number, halfBytes: number): Binary {
  const elements = range(halfBytes / elementBytes);
  const choice = elements.flatMap((element) => {
    const at = firstByte + element * elementBytes;
    return [...range(elementBytes, at), ...range(elementBytes, at + 16)];
  });
  // A half result leaves the upper bytes open.
  const padded = [...choice, ...range(16 - choice.length)];
  return (a, b) => shuffle(a, b, padded);
}

function unpack(name: string, opcode: string, elementBytes: 1 | 2 | 4, isHigh: boolean): InstructionDefinition[] {
  return packedPair({
    name, opcode: `0F ${opcode}`, features: mmx, ...(isHigh ? {} : { halfSource: "Qd" }),
    full: interleave(elementBytes, isHigh ? 8 : 0, 8), half: interleave(elementBytes, isHigh ? 4 : 0, 4),
  });
}

function fullUnpack(name: string, feature: string, encoding: string, elementBytes: 4 | 8, isHigh: boolean): InstructionDefinition {
  return packed(name, feature, [encoding], interleave(elementBytes, isHigh ? 8 : 0, 8));
}

function pack(name: string, opcode: string, operation: string): InstructionDefinition[] {
  return packedPair({
    name, opcode: `0F ${opcode}`, features: mmx,
    full: (a, b) => vector(operation, a, b),
    half: (a, b) => {
      const both = joinLowHalves(a, b);
      return vector(operation, both, both);
    },
  });
}

/**
 * Byte numbers that two immediate bits per element choose: the multiplication puts the bits of each element at the
 * same place of its lane, a second one spreads them over the lane's bytes.
 */
function choiceOfDoublewords(immediate: Bits<32>): Bits<128> {
  const bits = and(vector("i32x4.mul", splat(immediate), lanes(32, [64, 16, 4, 1])), lanes(32, [0xc0]));
  const firstBytes = vector("i32x4.mul", vector("i32x4.shr_u", bits, constant(32, 4)), lanes(32, [0x0101_0101]));
  return vector("i8x16.add", firstBytes, lanes(32, [0x0302_0100]));
}

/** As above for the four words of one half; the other half keeps its order. */
function choiceOfWords(immediate: Bits<32>, half: 0 | 1): Bits<128> {
  const factors = half === 0 ? [64, 16, 4, 1, 0, 0, 0, 0] : [0, 0, 0, 0, 64, 16, 4, 1];
  const bits = and(vector("i16x8.mul", splat(immediate.trunc(16)), lanes(16, factors)), lanes(16, [0xc0]));
  const firstBytes = vector("i16x8.mul", vector("i16x8.shr_u", bits, constant(32, 5)), lanes(16, [0x0101]));
  const pair = (word: number): number => word * 0x0202 + 0x0100;
  const bases = range(8).map((word) => (word >> 2 === half ? pair(half * 4) : pair(word)));
  return vector("i8x16.add", firstBytes, lanes(16, bases));
}

/** `name xmm, xmm/m128, imm8`; `compute` gets the destination, the source and the immediate. */
function packedWithImmediate(
  name: string, feature: string, encoding: string, compute: (a: Bits<128>, b: Bits<128>, immediate: Bits<32>) => Bits<128>,
): InstructionDefinition {
  return sseInstruction({
    name, feature, encodings: [encoding],
    execute({ cpu, dst, src }) {
      const b = readAligned(cpu, src);
      dst.as(128).write(compute(dst.as(128).read(), b, immediateByte(cpu)));
    },
  });
}

const pshufw = mmxInstruction({
  name: "pshufw", feature: "sse", encodings: ["NP 0F 70 /r ib Pq,Qq,Ib"],
  execute({ cpu, dst, src }) {
    writeMmx(cpu, dst, swizzle(readMmx(src), choiceOfWords(immediateByte(cpu), 0)));
  },
});

function shufps(a: Bits<128>, b: Bits<128>, immediate: Bits<32>): Bits<128> {
  const choice = choiceOfDoublewords(immediate);
  return shuffle(swizzle(a, choice), swizzle(b, choice), [...range(8), ...range(8, 24)]);
}

function shufpd(a: Bits<128>, b: Bits<128>, immediate: Bits<32>): Bits<128> {
  const pick = (value: Bits<128>, bit: number): Bits<64> =>
    immediate.bit(bit).select(value.lane(64, 1), value.lane(64, 0));
  return splat(pick(a, 0)).withLane(1, pick(b, 1));
}

/** All ones in the lanes whose bit of the immediate is set. */
function laneMask(shape: string, width: 16 | 32 | 64, immediate: Bits<32>): Bits<128> {
  const bits = range(128 / width).map((lane) => 1 << lane);
  const spread = width === 64 ? splat(immediate.zext(64)) : splat(immediate.trunc(width as 16));
  const own = lanes(width, bits);
  return vector(`${shape}.eq`, and(spread, own), own);
}

function blend(name: string, opcode: string, shape: string, width: 16 | 32 | 64, code: string): InstructionDefinition {
  return packedWithImmediate(name, "sse4_1", `66 0F 3A ${opcode} /r ib V${code},W${code},Ib`, (a, b, immediate) =>
    bitSelect(laneMask(shape, width, immediate), b, a));
}

/** Blends by the sign of each lane of XMM0. */
function variableBlend(name: string, opcode: string, shape: string, width: 8 | 32 | 64): InstructionDefinition {
  return packed(name, "sse4_1", [`66 0F 38 ${opcode} /r Vdq,Wdq`], (a, b, cpu) => {
    const mask = vector(`${shape}.shr_s`, cpu.xmm(0).read(), constant(32, width - 1));
    return bitSelect(mask, b, a);
  });
}

/** Bytes `immediate` and up of 32 (or, for MMX, 16) bytes: `high` above `low`. */
const palignr: readonly InstructionDefinition[] = [
  mmxInstruction({
    name: "palignr", feature: "ssse3", encodings: ["NP 0F 3A 0F /r ib Pq,Qq,Ib"],
    execute({ cpu, dst, src }) {
      const both = joinLowHalves(readMmx(src), readMmx(dst));
      const first = splat(immediateByte(cpu).trunc(8));
      writeMmx(cpu, dst, swizzle(both, vector("i8x16.add_sat_u", byteNumbers(), first)));
    },
  }),
  packedWithImmediate("palignr", "ssse3", "66 0F 3A 0F /r ib Vdq,Wdq,Ib", (high, low, immediate) => {
    const choice = vector("i8x16.add_sat_u", byteNumbers(), splat(immediate.trunc(8)));
    const fromHigh = swizzle(high, vector("i8x16.sub", choice, lanes(8, [16])));
    return vector("v128.or", swizzle(low, choice), fromHigh);
  }),
];

/** A choice with bit 7 set gives zero, otherwise its low bits count. */
const pshufb = packedPair({
  name: "pshufb", opcode: "0F 38 00", features: ssse3,
  full: (a, b) => swizzle(a, and(b, lanes(8, [0x8f]))),
  half: (a, b) => swizzle(a, and(b, lanes(8, [0x87]))),
});

// --- insertions and extractions ------------------------------------------------------------------------------------

type LaneWidth = 8 | 16 | 32 | 64;

/** The low bits of a general register or memory. */
function lowPart<W extends LaneWidth>(operand: Operand, width: W): Bits<W> {
  return operand.as(width).read();
}

function insert(name: string, feature: string, encoding: string, width: LaneWidth): InstructionDefinition {
  return sseInstruction({
    name, feature, encodings: [encoding],
    execute({ cpu, dst, src }) {
      const value = lowPart(src, width) as Bits<32>;
      const index = immediateByte(cpu).and(128 / width - 1);
      dst.as(128).write(insertLane(dst.as(128).read(), value, index));
    },
  });
}

/** A register destination gets the lane zero-extended. */
function extract(name: string, feature: string, encoding: string, width: LaneWidth): InstructionDefinition {
  return sseInstruction({
    name, feature, encodings: [encoding],
    execute({ cpu, dst, src }) {
      const value = extractLane(src.as(128).read(), width, immediateByte(cpu).and(128 / width - 1));
      if (dst.isMemory) dst.as(width).write(value);
      else dst.write(value.zext(dst.width) as Bits as never);
    },
  });
}

const mmxPinsrw = mmxInstruction({
  name: "pinsrw", feature: "sse", encodings: ["NP 0F C4 /r ib Pq,Ry/Mw,Ib"],
  execute({ cpu, dst, src }) {
    const value = lowPart(src, 16);
    writeMmx(cpu, dst, insertLane(readMmx(dst), value, immediateByte(cpu).and(3)));
  },
});

const mmxPextrw = mmxInstruction({
  name: "pextrw", feature: "sse", encodings: ["NP 0F C5 /r ib Gy,Nq,Ib"],
  execute({ cpu, dst, src, width }) {
    const value = extractLane(readMmx(src), 16, immediateByte(cpu).and(3));
    dst.write(value.zext(width) as Bits as never);
    enterMmx(cpu);
  },
});

const insertps = sseInstruction({
  name: "insertps", feature: "sse4_1", encodings: ["66 0F 3A 21 /r ib Vdq,Udq/Md,Ib"],
  execute({ cpu, dst, src }) {
    const immediate = immediateByte(cpu);
    const value = src.isMemory ? src.as(32).read() : extractLane(src.as(128).read(), 32, immediate.shr(6));
    const inserted = insertLane(dst.as(128).read(), value, immediate.shr(4).and(3));
    dst.as(128).write(without(inserted, laneMask("i32x4", 32, immediate)));
  },
});

/** PMOVSX and PMOVZX: elements from the low part of the source, widened step by step. */
function widen(name: string, opcode: string, memory: string, steps: readonly string[]): InstructionDefinition {
  return sseInstruction({
    name, feature: "sse4_1", encodings: [`66 0F 38 ${opcode} /r Vdq,Udq/${memory}`],
    execute({ dst, src }) {
      dst.as(128).write(steps.reduce((value, step) => vector(step, value), readLow(src)));
    },
  });
}

function widenings(signLetter: "s" | "z", firstOpcode: number): InstructionDefinition[] {
  const suffix = signLetter === "s" ? "s" : "u";
  const toWord = `i16x8.extend_low_i8x16_${suffix}`;
  const toDoubleword = `i32x4.extend_low_i16x8_${suffix}`;
  const toQuadword = `i64x2.extend_low_i32x4_${suffix}`;
  const rows: [string, string, string[]][] = [
    ["bw", "Mq", [toWord]], ["bd", "Md", [toWord, toDoubleword]], ["bq", "Mw", [toWord, toDoubleword, toQuadword]],
    ["wd", "Mq", [toDoubleword]], ["wq", "Md", [toDoubleword, toQuadword]], ["dq", "Mq", [toQuadword]],
  ];
  return rows.map(([types, memory, steps], index) =>
    widen(`pmov${signLetter}x${types}`, (firstOpcode + index).toString(16), memory, steps));
}

/** Sums of absolute differences of four bytes of `b` with eight windows of `a`; the immediate chooses where both begin. */
function mpsadbw(a: Bits<128>, b: Bits<128>, immediate: Bits<32>): Bits<128> {
  const windows = swizzle(a, vector("i8x16.add", byteNumbers(), splat(immediate.and(4).trunc(8))));
  const block = splat(extractLane(b, 32, immediate.and(3)));
  const zero = zeros();
  return range(4).map((byte) => {
    const left = shuffle(windows, zero, range(8).flatMap((window) => [window + byte, 16]));
    const right = shuffle(block, zero, range(8).flatMap(() => [byte, 16]));
    return vector("i16x8.abs", vector("i16x8.sub", left, right));
  }).reduce((sum, difference) => vector("i16x8.add", sum, difference));
}

export const sseShuffle: readonly InstructionDefinition[] = [
  ...unpack("punpcklbw", "60", 1, false), ...unpack("punpcklwd", "61", 2, false), ...unpack("punpckldq", "62", 4, false),
  ...unpack("punpckhbw", "68", 1, true), ...unpack("punpckhwd", "69", 2, true), ...unpack("punpckhdq", "6A", 4, true),
  fullUnpack("punpcklqdq", "sse2", "66 0F 6C /r Vdq,Wdq", 8, false),
  fullUnpack("punpckhqdq", "sse2", "66 0F 6D /r Vdq,Wdq", 8, true),
  fullUnpack("unpcklps", "sse", "NP 0F 14 /r Vps,Wps", 4, false),
  fullUnpack("unpckhps", "sse", "NP 0F 15 /r Vps,Wps", 4, true),
  fullUnpack("unpcklpd", "sse2", "66 0F 14 /r Vpd,Wpd", 8, false),
  fullUnpack("unpckhpd", "sse2", "66 0F 15 /r Vpd,Wpd", 8, true),
  ...pack("packsswb", "63", "i8x16.narrow_i16x8_s"), ...pack("packuswb", "67", "i8x16.narrow_i16x8_u"),
  ...pack("packssdw", "6B", "i16x8.narrow_i32x4_s"),
  packed("packusdw", "sse4_1", ["66 0F 38 2B /r Vdq,Wdq"], (a, b) => vector("i16x8.narrow_i32x4_u", a, b)),
  pshufw,
  packedWithImmediate("pshufd", "sse2", "66 0F 70 /r ib Vdq,Wdq,Ib", (_, b, i) => swizzle(b, choiceOfDoublewords(i))),
  packedWithImmediate("pshuflw", "sse2", "F2 0F 70 /r ib Vdq,Wdq,Ib", (_, b, i) => swizzle(b, choiceOfWords(i, 0))),
  packedWithImmediate("pshufhw", "sse2", "F3 0F 70 /r ib Vdq,Wdq,Ib", (_, b, i) => swizzle(b, choiceOfWords(i, 1))),
  packedWithImmediate("shufps", "sse", "NP 0F C6 /r ib Vps,Wps,Ib", shufps),
  packedWithImmediate("shufpd", "sse2", "66 0F C6 /r ib Vpd,Wpd,Ib", shufpd),
  ...pshufb, ...palignr,
  blend("blendps", "0C", "i32x4", 32, "ps"), blend("blendpd", "0D", "i64x2", 64, "pd"), blend("pblendw", "0E", "i16x8", 16, "dq"),
  variableBlend("pblendvb", "10", "i8x16", 8), variableBlend("blendvps", "14", "i32x4", 32), variableBlend("blendvpd", "15", "i64x2", 64),
  mmxPinsrw, mmxPextrw, insertps,
  insert("pinsrb", "sse4_1", "66 0F 3A 20 /r ib Vdq,Ry/Mb,Ib", 8),
  insert("pinsrw", "sse2", "66 0F C4 /r ib Vdq,Ry/Mw,Ib", 16),
  insert("pinsrd", "sse4_1", "W0 66 0F 3A 22 /r ib Vdq,Ed,Ib", 32),
  insert("pinsrq", "sse4_1", "REX.W 66 0F 3A 22 /r ib Vdq,Eq,Ib", 64),
  extract("pextrb", "sse4_1", "66 0F 3A 14 /r ib Ry/Mb,Vdq,Ib", 8),
  extract("pextrw", "sse2", "66 0F C5 /r ib Gy,Udq,Ib", 16),
  extract("pextrw", "sse4_1", "66 0F 3A 15 /r ib Ry/Mw,Vdq,Ib", 16),
  extract("pextrd", "sse4_1", "W0 66 0F 3A 16 /r ib Ed,Vdq,Ib", 32),
  extract("pextrq", "sse4_1", "REX.W 66 0F 3A 16 /r ib Eq,Vdq,Ib", 64),
  extract("extractps", "sse4_1", "66 0F 3A 17 /r ib Ry/Md,Vdq,Ib", 32),
  ...widenings("s", 0x20), ...widenings("z", 0x30),
  packedWithImmediate("mpsadbw", "sse4_1", "66 0F 3A 42 /r ib Vdq,Wdq,Ib", mpsadbw),
];
