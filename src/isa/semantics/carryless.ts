/** PCLMULQDQ: products of polynomials over GF(2) (SDM volume 2, PCLMULQDQ). */
import { type Bits, splat } from "../../ir/index.ts";
import type { InstructionDefinition } from "../definition.ts";
import { immediateByte, range, readAligned, sseInstruction } from "./simd.ts";

/** Every fourth bit, from bit `first`. */
function comb(first: number): bigint {
  return 0x1111_1111_1111_1111n << BigInt(first);
}

function xorAll(values: readonly Bits<64>[]): Bits<64> {
  return values.reduce((sum, value) => sum.xor(value));
}

/**
 * Product of two 32-bit polynomials in 64-bit values. With only every fourth bit of each factor an integer product has
 * room for all carries (at most 8 terms meet in four bits), so its bits in the comb are the polynomial's.
 */
function multiply32(a: Bits<64>, b: Bits<64>): Bits<64> {
  const combsOf = (value: Bits<64>): Bits<64>[] => range(4).map((first) => value.and(BigInt.asUintN(32, comb(first))));
  const as = combsOf(a), bs = combsOf(b);
  return range(4).map((first) =>
    xorAll(range(4).map((index) => as[index].mul(bs[(first - index) & 3]))).and(BigInt.asUintN(64, comb(first))),
  ).reduce((sum, value) => sum.or(value));
}

/** Karatsuba's three products of halves. */
function multiply64(a: Bits<64>, b: Bits<64>): { low: Bits<64>; high: Bits<64> } {
  const halves = (value: Bits<64>): [Bits<64>, Bits<64>] => [value.and(0xffff_ffff), value.shr(32)];
  const [a0, a1] = halves(a), [b0, b1] = halves(b);
  const lower = multiply32(a0, b0), upper = multiply32(a1, b1);
  const middle = multiply32(a0.xor(a1), b0.xor(b1)).xor(lower).xor(upper);
  return { low: lower.xor(middle.shl(32)), high: upper.xor(middle.shr(32)) };
}

const pclmulqdq = sseInstruction({
  name: "pclmulqdq", feature: "pclmulqdq", encodings: ["66 0F 3A 44 /r ib Vdq,Wdq,Ib"],
  execute({ cpu, dst, src }) {
    const b = readAligned(cpu, src), a = dst.as(128).read();
    const immediate = immediateByte(cpu);
    const half = (value: Bits<128>, bit: number): Bits<64> => immediate.bit(bit).select(value.lane(64, 1), value.lane(64, 0));
    const { low, high } = multiply64(half(a, 0), half(b, 4));
    dst.as(128).write(splat(low).withLane(1, high));
  },
});

export const carryless: readonly InstructionDefinition[] = [pclmulqdq];
