/** AES round instructions (SDM volume 1, "Intel AES New Instructions"; FIPS 197 for the cipher's parts). */
import { type Routine, Status } from "../../ir/index.ts";
import type { InstructionDefinition } from "../definition.ts";
import { routine } from "../processor.ts";
import type { StateView } from "../state-view.ts";
import { immediateByte, range, readAligned, sseInstruction } from "./simd.ts";
import { lane32, setLane32 } from "./simd-routine.ts";

/** Product in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1. */
function multiply(a: number, b: number): number {
  let product = 0;
  for (let factor = a, rest = b; rest !== 0; rest >>>= 1) {
    if (rest & 1) product ^= factor;
    factor = (factor << 1) ^ (factor & 0x80 ? 0x11b : 0);
  }
  return product;
}

function rotateByte(value: number, count: number): number {
  return ((value << count) | (value >>> (8 - count))) & 0xff;
}

/** SubBytes: the multiplicative inverse, then an affine map. */
const substitution: Uint8Array = (() => {
  const table = new Uint8Array(256);
  // 3 generates the field's units; its inverse is F6H.
  for (let power = 0, value = 1, inverse = 1; power < 255; power++) {
    const affine = inverse ^ rotateByte(inverse, 1) ^ rotateByte(inverse, 2) ^ rotateByte(inverse, 3) ^ rotateByte(inverse, 4);
    table[value] = affine ^ 0x63;
    value = multiply(value, 3);
    inverse = multiply(inverse, 0xf6);
  }
  table[0] = 0x63;
  return table;
})();

const inverseSubstitution: Uint8Array = (() => {
  const table = new Uint8Array(256);
  substitution.forEach((substitute, byte) => { table[substitute] = byte; });
  return table;
})();

/** A byte in row 0 times the first column of a MixColumns matrix. */
function columnTable(source: Uint8Array, factors: readonly [number, number, number, number]): Uint32Array {
  return Uint32Array.from(source, (byte) =>
    factors.reduce((column, factor, row) => column | (multiply(byte, factor) << (row * 8)), 0));
}

const mixedSubstitution = columnTable(substitution, [2, 1, 1, 3]);
const unmixedSubstitution = columnTable(inverseSubstitution, [14, 9, 13, 11]);
const unmixed = columnTable(Uint8Array.from(range(256)), [14, 9, 13, 11]);

function rotateLeft(value: number, count: number): number {
  return (value << count) | (value >>> (32 - count));
}

// Reused by every round.
const columns = new Uint32Array(4);

/** Column `column` after its rows come from the columns `step` apart each and pass the table. */
function tableColumn(column: number, step: number, table: Uint32Array): number {
  return table[columns[column] & 0xff] ^
    rotateLeft(table[(columns[(column + step) & 3] >>> 8) & 0xff], 8) ^
    rotateLeft(table[(columns[(column + 2 * step) & 3] >>> 16) & 0xff], 16) ^
    rotateLeft(table[columns[(column + 3 * step) & 3] >>> 24], 24);
}

/** As above with bytes only: the last round mixes no columns. */
function byteColumn(column: number, step: number, table: Uint8Array): number {
  return table[columns[column] & 0xff] |
    (table[(columns[(column + step) & 3] >>> 8) & 0xff] << 8) |
    (table[(columns[(column + 2 * step) & 3] >>> 16) & 0xff] << 16) |
    (table[columns[(column + 3 * step) & 3] >>> 24] << 24);
}

type Column = (column: number) => number;

function readColumns(view: StateView): void {
  for (let lane = 0; lane < 4; lane++) columns[lane] = lane32(view, 0, lane);
}

/** Arguments: the state, and a round key to add unless `addsKey` is false. */
function round(name: string, makeColumn: Column, addsKey: boolean = true): Routine {
  return routine(name, (p) => {
    readColumns(p.state);
    for (let lane = 0; lane < 4; lane++) {
      const key = addsKey ? lane32(p.state, 1, lane) : 0;
      setLane32(p.state, 0, lane, makeColumn(lane) ^ key);
    }
    return Status.Next;
  });
}

/** ShiftRows takes row r from r columns to the right, its inverse from the left. */
const right = 1, left = 3;

function roundInstruction(name: string, opcode: string, makeColumn: Column): InstructionDefinition {
  const exact = round(name, makeColumn);
  return sseInstruction({
    name, feature: "aes", encodings: [`66 0F 38 ${opcode} /r Vdq,Wdq`],
    execute({ cpu, dst, src }) {
      const key = readAligned(cpu, src);
      const [result] = cpu.call(exact, [dst.as(128).read(), key], [128]);
      dst.as(128).write(result);
    },
  });
}

const unmixColumns = round("aesimc", (column) => tableColumn(column, 0, unmixed), false);

const aesimc = sseInstruction({
  name: "aesimc", feature: "aes", encodings: ["66 0F 38 DB /r Vdq,Wdq"],
  execute({ cpu, dst, src }) {
    const [result] = cpu.call(unmixColumns, [readAligned(cpu, src)], [128]);
    dst.as(128).write(result);
  },
});

/** Arguments: the key and the round constant. */
const assistKeyGeneration = routine("aeskeygenassist", (p) => {
  readColumns(p.state);
  const roundConstant = p.state.argument32(1);
  for (const pair of [0, 1]) {
    const word = byteColumn(pair * 2 + 1, 0, substitution);
    setLane32(p.state, 0, pair * 2, word);
    setLane32(p.state, 0, pair * 2 + 1, rotateLeft(word, 24) ^ roundConstant);
  }
  return Status.Next;
});

const aeskeygenassist = sseInstruction({
  name: "aeskeygenassist", feature: "aes", encodings: ["66 0F 3A DF /r ib Vdq,Wdq,Ib"],
  execute({ cpu, dst, src }) {
    const [result] = cpu.call(assistKeyGeneration, [readAligned(cpu, src), immediateByte(cpu)], [128]);
    dst.as(128).write(result);
  },
});

export const aes: readonly InstructionDefinition[] = [
  roundInstruction("aesenc", "DC", (column) => tableColumn(column, right, mixedSubstitution)),
  roundInstruction("aesenclast", "DD", (column) => byteColumn(column, right, substitution)),
  roundInstruction("aesdec", "DE", (column) => tableColumn(column, left, unmixedSubstitution)),
  roundInstruction("aesdeclast", "DF", (column) => byteColumn(column, left, inverseSubstitution)),
  aesimc, aeskeygenassist,
];
