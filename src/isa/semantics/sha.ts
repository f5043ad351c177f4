/** SHA-1 and SHA-256 extensions (SDM volume 1, "Intel SHA Extensions"). */
import { type Bits, constant, splat } from "../../ir/index.ts";
import type { Cpu, InstructionDefinition } from "../definition.ts";
import { immediateByte, sseInstruction } from "./simd.ts";

type Word = Bits<32>;

/** The four doublewords, highest first, as the manual names them. */
function words(value: Bits<128>): [Word, Word, Word, Word] {
  return [value.lane(32, 3), value.lane(32, 2), value.lane(32, 1), value.lane(32, 0)];
}

function join(highest: Word, second: Word, third: Word, lowest: Word): Bits<128> {
  return splat(lowest).withLane(1, third).withLane(2, second).withLane(3, highest);
}

/** Intel's manual wants aligned memory, AMD's processors take any: nothing can depend on the fault, so nobody gets it. */
function sha(
  name: string, opcode: string, compute: (a: Bits<128>, b: Bits<128>, cpu: Cpu) => Bits<128>,
): InstructionDefinition {
  return sseInstruction({
    name, feature: "sha", encodings: [`NP 0F 38 ${opcode} /r Vdq,Wdq`],
    execute({ cpu, dst, src }) {
      dst.as(128).write(compute(dst.as(128).read(), src.as(128).read(), cpu));
    },
  });
}

function choice(x: Word, y: Word, z: Word): Word {
  return x.and(y).xor(x.not().and(z));
}

function majority(x: Word, y: Word, z: Word): Word {
  return x.and(y).xor(x.and(z)).xor(y.and(z));
}

/** Four rounds of SHA-1; the immediate's low bits choose the function and constant. */
const sha1rnds4 = sseInstruction({
  name: "sha1rnds4", feature: "sha", encodings: ["NP 0F 3A CC /r ib Vdq,Wdq,Ib"],
  execute({ cpu, dst, src }) {
    const rounds = words(src.as(128).read());
    const stage = immediateByte(cpu).and(3);
    const pick = (first: Word, second: Word, third: Word, fourth: Word): Word =>
      stage.bit(1).select(stage.bit(0).select(fourth, third), stage.bit(0).select(second, first));
    const roundConstant = pick(
      constant(32, 0x5a82_7999), constant(32, 0x6ed9_eba1), constant(32, 0x8f1b_bcdc), constant(32, 0xca62_c1d6),
    );
    let [a, b, c, d] = words(dst.as(128).read());
    let e = constant(32, 0);
    for (const word of rounds) {
      const parity = b.xor(c).xor(d);
      const mixed = pick(choice(b, c, d), parity, majority(b, c, d), parity);
      const next = mixed.add(a.rotl(5)).add(word).add(e).add(roundConstant);
      [a, b, c, d, e] = [next, a, b.rotl(30), c, d];
    }
    dst.as(128).write(join(a, b, c, d));
  },
});

function sha1nexte(a: Bits<128>, b: Bits<128>): Bits<128> {
  return b.withLane(3, b.lane(32, 3).add(a.lane(32, 3).rotl(30)));
}

function sha1msg1(a: Bits<128>, b: Bits<128>): Bits<128> {
  const [w0, w1, w2, w3] = words(a), [w4, w5] = words(b);
  return join(w2.xor(w0), w3.xor(w1), w4.xor(w2), w5.xor(w3));
}

function sha1msg2(a: Bits<128>, b: Bits<128>): Bits<128> {
  const [x0, x1, x2, x3] = words(a), [, w13, w14, w15] = words(b);
  const w16 = x0.xor(w13).rotl(1);
  return join(w16, x1.xor(w14).rotl(1), x2.xor(w15).rotl(1), x3.xor(w16).rotl(1));
}

function rotations(x: Word, first: number, second: number, third: number): Word {
  return x.rotr(first).xor(x.rotr(second)).xor(x.rotr(third));
}

/** Two rounds of SHA-256; the words with their constants added are in XMM0. */
const sha256rnds2 = sha("sha256rnds2", "CB", (first, second, cpu) => {
  let [c, d, g, h] = words(first), [a, b, e, f] = words(second);
  const inputs = cpu.xmm(0).read();
  for (const round of [0, 1]) {
    const sum = choice(e, f, g).add(rotations(e, 6, 11, 25)).add(inputs.lane(32, round)).add(h);
    const next = sum.add(majority(a, b, c)).add(rotations(a, 2, 13, 22));
    [a, b, c, d, e, f, g, h] = [next, a, b, c, sum.add(d), e, f, g];
  }
  return join(a, b, e, f);
});

function smallSigma(x: Word, first: number, second: number, shift: number): Word {
  return x.rotr(first).xor(x.rotr(second)).xor(x.shr(shift));
}

function sha256msg1(a: Bits<128>, b: Bits<128>): Bits<128> {
  const [w3, w2, w1, w0] = words(a), w4 = b.lane(32, 0);
  const sigma = (x: Word): Word => smallSigma(x, 7, 18, 3);
  return join(w3.add(sigma(w4)), w2.add(sigma(w3)), w1.add(sigma(w2)), w0.add(sigma(w1)));
}

function sha256msg2(a: Bits<128>, b: Bits<128>): Bits<128> {
  const [x3, x2, x1, x0] = words(a), [w15, w14] = words(b);
  const sigma = (x: Word): Word => smallSigma(x, 17, 19, 10);
  const w16 = x0.add(sigma(w14)), w17 = x1.add(sigma(w15));
  return join(x3.add(sigma(w17)), x2.add(sigma(w16)), w17, w16);
}

export const shaExtensions: readonly InstructionDefinition[] = [
  sha1rnds4, sha("sha1nexte", "C8", sha1nexte), sha("sha1msg1", "C9", sha1msg1), sha("sha1msg2", "CA", sha1msg2),
  sha256rnds2, sha("sha256msg1", "CC", sha256msg1), sha("sha256msg2", "CD", sha256msg2),
];
