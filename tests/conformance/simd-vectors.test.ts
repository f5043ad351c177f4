/** Published test vectors run instruction by instruction: AES (FIPS 197), SHA (FIPS 180-4), CRC-32C (RFC 3720), PCLMULQDQ and string comparisons. */
import { expect, test } from "vitest";
import { instructions } from "../../src/isa/instructions.ts";
import * as state from "../../src/isa/state.ts";
import { MemoryMap } from "../differential/layout.ts";
import { SoftMachine } from "../differential/soft-machine.ts";

const machine = new SoftMachine(64, "AuthenticAMD", instructions);
const { processor } = machine;
const { state: view } = processor;

function setXmm(register: number, value: bigint): void {
  const at = (view.base + state.xmm[register].offset) / 8;
  view.u64[at] = BigInt.asUintN(64, value);
  view.u64[at + 1] = value >> 64n;
}

function xmm(register: number): bigint {
  const at = (view.base + state.xmm[register].offset) / 8;
  return view.u64[at] | (view.u64[at + 1] << 64n);
}

/** Executes one instruction given in hexadecimal. */
function execute(hex: string): void {
  machine.writeCode(0, Buffer.from(hex.replaceAll(" ", ""), "hex"));
  view.set64(state.rip, BigInt(MemoryMap.codePage));
  view.set32(state.budget, 1);
  processor.interpreter.run();
}

/** `instruction xmm1, xmm2` with an optional XMM0; returns XMM1. */
function compute(hex: string, first: bigint, second: bigint, implicit: bigint = 0n): bigint {
  machine.restore();
  setXmm(0, implicit);
  setXmm(1, first);
  setXmm(2, second);
  execute(hex);
  return xmm(1);
}

/** Bytes in memory order as a vector. */
function bytes(hex: string): bigint {
  return [...Buffer.from(hex, "hex")].reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
}

function hexOf(value: bigint): string {
  return Buffer.from(Buffer.from(value.toString(16).padStart(32, "0"), "hex").toReversed()).toString("hex");
}

function lane(value: bigint, index: number): bigint {
  return (value >> BigInt(32 * index)) & 0xffff_ffffn;
}

function fromLanes(lanes: readonly bigint[]): bigint {
  return lanes.reduceRight((value, part) => (value << 32n) | part, 0n);
}

const aesenc = "66 0F 38 DC CA", aesenclast = "66 0F 38 DD CA", aesdec = "66 0F 38 DE CA", aesdeclast = "66 0F 38 DF CA";

function aes128Keys(key: bigint): bigint[] {
  const keys = [key];
  for (const constant of ["01", "02", "04", "08", "10", "20", "40", "80", "1B", "36"]) {
    const previous = keys[keys.length - 1];
    const assisted = lane(compute(`66 0F 3A DF CA ${constant}`, 0n, previous), 3);
    const words = [0, 1, 2, 3].map((index) => lane(previous, index));
    let carried = assisted;
    keys.push(fromLanes(words.map((word) => (carried ^= word))));
  }
  return keys;
}

test("AES-128 of FIPS 197, appendix C.1, there and back", () => {
  const keys = aes128Keys(bytes("000102030405060708090a0b0c0d0e0f"));
  const plain = bytes("00112233445566778899aabbccddeeff");
  let block = plain ^ keys[0];
  for (let round = 1; round < 10; round++) block = compute(aesenc, block, keys[round]);
  block = compute(aesenclast, block, keys[10]);
  expect(hexOf(block)).toBe("69c4e0d86a7b0430d8cdb78070b4c55a");
  block ^= keys[10];
  for (let round = 9; round >= 1; round--) block = compute(aesdec, block, compute("66 0F 38 DB CA", 0n, keys[round]));
  expect(compute(aesdeclast, block, keys[0])).toBe(plain);
});

const sha256Constants = [
  0x428a2f98n, 0x71374491n, 0xb5c0fbcfn, 0xe9b5dba5n, 0x3956c25bn, 0x59f111f1n, 0x923f82a4n, 0xab1c5ed5n, 0xd807aa98n,
  0x12835b01n, 0x243185ben, 0x550c7dc3n, 0x72be5d74n, 0x80deb1fen, 0x9bdc06a7n, 0xc19bf174n, 0xe49b69c1n, 0xefbe4786n,
  0x0fc19dc6n, 0x240ca1ccn, 0x2de92c6fn, 0x4a7484aan, 0x5cb0a9dcn, 0x76f988dan, 0x983e5152n, 0xa831c66dn, 0xb00327c8n,
  0xbf597fc7n, 0xc6e00bf3n, 0xd5a79147n, 0x06ca6351n, 0x14292967n, 0x27b70a85n, 0x2e1b2138n, 0x4d2c6dfcn, 0x53380d13n,
  0x650a7354n, 0x766a0abbn, 0x81c2c92en, 0x92722c85n, 0xa2bfe8a1n, 0xa81a664bn, 0xc24b8b70n, 0xc76c51a3n, 0xd192e819n,
  0xd6990624n, 0xf40e3585n, 0x106aa070n, 0x19a4c116n, 0x1e376c08n, 0x2748774cn, 0x34b0bcb5n, 0x391c0cb3n, 0x4ed8aa4an,
  0x5b9cca4fn, 0x682e6ff3n, 0x748f82een, 0x78a5636fn, 0x84c87814n, 0x8cc70208n, 0x90befffan, 0xa4506cebn, 0xbef9a3f7n,
  0xc67178f2n,
];

/** The one padded block of "abc" as message words. */
const abcWords: readonly bigint[] = [0x6162_6380n, ...Array.from({ length: 14 }, () => 0n), 24n];

function sum32(a: bigint, b: bigint): bigint {
  return BigInt.asUintN(32, a + b);
}

function addLanes(a: bigint, b: bigint): bigint {
  return fromLanes([0, 1, 2, 3].map((index) => sum32(lane(a, index), lane(b, index))));
}

test("SHA-256 of \"abc\"", () => {
  const [a, b, c, d, e, f, g, h] = [
    0x6a09e667n, 0xbb67ae85n, 0x3c6ef372n, 0xa54ff53an, 0x510e527fn, 0x9b05688cn, 0x1f83d9abn, 0x5be0cd19n,
  ];
  let abef = fromLanes([f, e, b, a]), cdgh = fromLanes([h, g, d, c]);
  const initial = [abef, cdgh];
  const groups = [0, 4, 8, 12].map((first) => fromLanes(abcWords.slice(first, first + 4)));
  for (let group = 0; group < 16; group++) {
    if (group >= 4) {
      const [w0, w4, w8, w12] = groups.slice(group - 4);
      const sum = addLanes(compute("0F 38 CC CA", w0, w4), ((w12 << 96n) | (w8 >> 32n)) & ((1n << 128n) - 1n));
      groups.push(compute("0F 38 CD CA", sum, w12));
    }
    const inputs = addLanes(groups[group], fromLanes(sha256Constants.slice(group * 4, group * 4 + 4)));
    cdgh = compute("0F 38 CB CA", cdgh, abef, inputs);
    abef = compute("0F 38 CB CA", abef, cdgh, inputs >> 64n);
  }
  const left = addLanes(abef, initial[0]), right = addLanes(cdgh, initial[1]);
  const digest = [lane(left, 3), lane(left, 2), lane(right, 3), lane(right, 2), lane(left, 1), lane(left, 0), lane(right, 1), lane(right, 0)];
  expect(digest.map((word) => word.toString(16).padStart(8, "0")).join("")).toBe(
    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
  );
});

test("SHA-1 of \"abc\"", () => {
  const initial = { abcd: fromLanes([0x10325476n, 0x98badcfen, 0xefcdab89n, 0x67452301n]), e: 0xc3d2e1f0n };
  const groups = [0, 4, 8, 12].map((first) => fromLanes(abcWords.slice(first, first + 4).toReversed()));
  let { abcd } = initial;
  let previous = 0n;
  for (let group = 0; group < 20; group++) {
    if (group >= 4) {
      const [w0, w4, w8, w12] = groups.slice(group - 4);
      groups.push(compute("0F 38 CA CA", compute("0F 38 C9 CA", w0, w4) ^ w8, w12));
    }
    const words = groups[group];
    const inputs = group === 0 ? addLanes(words, initial.e << 96n) : compute("0F 38 C8 CA", previous, words);
    previous = abcd;
    abcd = compute(`0F 3A CC CA 0${Math.floor(group / 5)}`, abcd, inputs);
  }
  const e = lane(compute("0F 38 C8 CA", previous, initial.e << 96n), 3);
  const result = addLanes(abcd, initial.abcd);
  const digest = [3, 2, 1, 0].map((index) => lane(result, index)).concat(e);
  expect(digest.map((word) => word.toString(16).padStart(8, "0")).join("")).toBe("a9993e364706816aba3e25717850c26c9cd0d89d");
});

test("CRC-32C of \"123456789\"", () => {
  machine.restore();
  view.set64(state.gpr[0], 0xffff_ffffn);
  view.set64(state.gpr[1], Buffer.from("12345678").readBigUInt64LE());
  execute("F2 48 0F 38 F1 C1");
  view.set64(state.gpr[1], BigInt("9".charCodeAt(0)));
  execute("F2 0F 38 F0 C1");
  expect(view.get64(state.gpr[0]) ^ 0xffff_ffffn).toBe(0xe306_9283n);
});

test.each([
  ["00", 0x1d4d84c85c3440c0929633d5d36f0451n], ["10", 0x1bd17c8d556ab5a17fa540ac2a281315n],
  ["01", 0x1a2bf6db3a30862fbabf262df4b7d5c9n], ["11", 0x1d1e1f2c592e7c45d66ee03e410fd4edn],
])("PCLMULQDQ of halves %s", (immediate, product) => {
  const a = 0x7b5b54657374566563746f725d53475dn, b = 0x48692853686179295b477565726f6e5dn;
  expect(compute(`66 0F 3A 44 CA ${immediate}`, a, b).toString(16)).toBe(product.toString(16));
});

test("PCMPISTRI finds a needle, PCMPESTRI the first byte out of ranges", () => {
  const text = (content: string): bigint => bytes(Buffer.from(content.padEnd(16, "\0")).toString("hex"));
  compute("66 0F 3A 63 CA 0C", text("wor"), text("hello world"));
  expect(view.get64(state.gpr[1])).toBe(6n);
  machine.restore();
  view.set64(state.gpr[0], 4n);
  view.set64(state.gpr[2], 8n);
  setXmm(1, text("azAZ"));
  setXmm(2, text("Letters9"));
  execute("66 0F 3A 61 CA 14");
  expect(view.get64(state.gpr[1])).toBe(7n);
});
