/** Packed shifts (SDM volume 1, "MMX Shift Instructions" and relatives): counts beyond the element shift everything out. */
import { type Bits, constant, splat, vector } from "../../ir/index.ts";
import type { Cpu, InstructionDefinition } from "../definition.ts";
import {
  byteNumbers, immediateByte, mmxInstruction, packed, readMmx, sseInstruction, swizzle, writeMmx, zeros, lanes,
} from "./simd.ts";

interface Shift {
  readonly name: string;
  /** Opcode with the count in a register or memory, then with an immediate count, and the latter's digit. */
  readonly byRegister: string;
  readonly byImmediate: string;
  readonly digit: number;
  readonly operation: string;
  readonly width: 16 | 32 | 64;
}

function shift({ operation, width }: Shift, value: Bits<128>, count: Bits<64>): Bits<128> {
  const isWithin = count.ltU(width);
  const low = count.trunc(32);
  if (operation.endsWith("shr_s")) return vector(operation, value, isWithin.select(low, constant(32, width - 1)));
  return isWithin.select(vector(operation, value, low), zeros());
}

function immediateCount(cpu: Cpu): Bits<64> {
  return immediateByte(cpu).zext(64);
}

function shifts(kind: Shift): InstructionDefinition[] {
  const { name, byRegister, byImmediate, digit } = kind;
  return [
    mmxInstruction({
      name, feature: "mmx", encodings: [`NP 0F ${byRegister} /r Pq,Qq`],
      execute({ cpu, dst, src }) {
        writeMmx(cpu, dst, shift(kind, readMmx(dst), readMmx(src).lane(64, 0)));
      },
    }),
    mmxInstruction({
      name, feature: "mmx", encodings: [`NP 0F ${byImmediate} /${digit} ib Nq,Ib`],
      execute({ cpu, dst }) {
        writeMmx(cpu, dst, shift(kind, readMmx(dst), immediateCount(cpu)));
      },
    }),
    packed(name, "sse2", [`66 0F ${byRegister} /r Vdq,Wdq`], (a, b) => shift(kind, a, b.lane(64, 0))),
    sseInstruction({
      name, feature: "sse2", encodings: [`66 0F ${byImmediate} /${digit} ib Udq,Ib`],
      execute({ cpu, dst }) {
        dst.as(128).write(shift(kind, dst.as(128).read(), immediateCount(cpu)));
      },
    }),
  ];
}

/** PSLLDQ and PSRLDQ: the register by whole bytes. */
function byteShift(name: string, digit: number, direction: 1 | -1): InstructionDefinition {
  return sseInstruction({
    name, feature: "sse2", encodings: [`66 0F 73 /${digit} ib Udq,Ib`],
    execute({ cpu, dst }) {
      // With counts up to 16 the byte numbers do not wrap into the vector again.
      const count = vector("i8x16.min_u", splat(immediateByte(cpu).trunc(8)), lanes(8, [16]));
      const choice = vector(direction === 1 ? "i8x16.add" : "i8x16.sub", byteNumbers(), count);
      dst.as(128).write(swizzle(dst.as(128).read(), choice));
    },
  });
}

const kinds: readonly Shift[] = [
  ...([16, 32, 64] as const).map((width, index): Shift => ({
    name: `psrl${"wdq"[index]}`, byRegister: `D${1 + index}`, byImmediate: `7${1 + index}`, digit: 2,
    operation: `i${width}x${128 / width}.shr_u`, width,
  })),
  ...([16, 32] as const).map((width, index): Shift => ({
    name: `psra${"wd"[index]}`, byRegister: `E${1 + index}`, byImmediate: `7${1 + index}`, digit: 4,
    operation: `i${width}x${128 / width}.shr_s`, width,
  })),
  ...([16, 32, 64] as const).map((width, index): Shift => ({
    name: `psll${"wdq"[index]}`, byRegister: `F${1 + index}`, byImmediate: `7${1 + index}`, digit: 6,
    operation: `i${width}x${128 / width}.shl`, width,
  })),
];

export const sseShift: readonly InstructionDefinition[] = [
  ...kinds.flatMap(shifts), byteShift("psrldq", 3, 1), byteShift("pslldq", 7, -1),
];
