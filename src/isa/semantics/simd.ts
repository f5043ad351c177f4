/** What MMX and SSE definitions share: who may run, aligned operands, the MMX view of the x87 registers (SDM volume 1, chapters 9 and 10). */
import { type Bits, constant, shuffle, splat, vector, when } from "../../ir/index.ts";
import {
  type Cpu, instruction, type InstructionDefinition, linearAddress, type Operand, Vector,
} from "../definition.ts";
import { routine } from "../processor.ts";
import type { StateView } from "../state-view.ts";
import * as state from "../state.ts";
import { answerPending } from "./x87-definition.ts";

/** Bits of MXCSR that may be set. */
export const mxcsrMask = 0xffff;

const simdFaultRoutine = routine("simdFault", (p) => p.raise(p.state.get32(state.simdFault)));

const errorSummaryMask = 0x80;

const mmxFaultRoutine = routine("mmxFault", (p) => {
  const fault = p.state.get32(state.mmxFault);
  return fault === 0 ? answerPending(p) : p.raise(fault);
});

function requireSse(cpu: Cpu): void {
  when(cpu.field<32>(state.simdFault).read().ne(0), () => void cpu.call(simdFaultRoutine));
}

/** A pending x87 exception is raised by every MMX instruction, too. */
export function requireMmx(cpu: Cpu): void {
  const pending = cpu.field<16>(state.x87Status).read().and(errorSummaryMask).zext(32);
  when(cpu.field<32>(state.mmxFault).read().or(pending).ne(0), () => void cpu.call(mmxFaultRoutine));
}

/** An instruction on XMM registers or MXCSR. */
export function sseInstruction(definition: InstructionDefinition): InstructionDefinition {
  return instruction({
    ...definition,
    execute(context) {
      requireSse(context.cpu);
      definition.execute(context);
    },
  });
}

/** An instruction on MMX registers alone. */
export function mmxInstruction(definition: InstructionDefinition): InstructionDefinition {
  return instruction({
    ...definition,
    execute(context) {
      requireMmx(context.cpu);
      definition.execute(context);
    },
  });
}

/** An instruction on MMX and XMM registers. */
export function mixedInstruction(definition: InstructionDefinition): InstructionDefinition {
  return sseInstruction({
    ...definition,
    execute(context) {
      requireMmx(context.cpu);
      definition.execute(context);
    },
  });
}

const topMask = 0x3800;

/** TOP = 0 and all registers valid: what every MMX instruction commits. */
export function enterMmx(cpu: Cpu): void {
  const status = cpu.field<16>(state.x87Status);
  status.write(status.read().and(0xffff & ~topMask));
  cpu.field<16>(state.x87Tag).write(constant(16, 0xff));
}

/** The same from a routine. */
export function enterMmxNow(view: StateView): void {
  view.set16(state.x87Status, view.get16(state.x87Status) & ~topMask);
  view.set16(state.x87Tag, 0xff);
}

/** Value of an MMX register or memory operand in the lower half of a vector; what is above it is arbitrary. */
export function readMmx(operand: Operand): Bits<128> {
  return operand.isMemory ? (operand.read() as Bits).zext(128) : operand.as(128).read();
}

/** Writes the lower half of `value`; sign and exponent of the x87 register become ones. */
export function writeMmx(cpu: Cpu, operand: Operand, value: Bits<128>): void {
  operand.as(128).write(value.withLane(1, constant(64, 0xffff)));
  enterMmx(cpu);
}

/** #GP unless the memory operand is aligned to 16 bytes. */
export function requireAligned(cpu: Cpu, operand: Operand): void {
  when(linearAddress("operand", operand.offset()).and(15).ne(0), () => cpu.raise(Vector.GP, 0));
}

/** The whole 128-bit operand; memory must be aligned. */
export function readAligned(cpu: Cpu, operand: Operand): Bits<128> {
  if (operand.isMemory) requireAligned(cpu, operand);
  return operand.as(128).read();
}

/** A register, or memory of the operand's own width in the low part of a vector; what is above it is arbitrary. */
export function readLow(operand: Operand): Bits<128> {
  return operand.isMemory ? (operand.read() as Bits).zext(128) : operand.as(128).read();
}

/** The 8-bit immediate of the record. */
export function immediateByte(cpu: Cpu): Bits<32> {
  return cpu.immediate64().trunc(32).and(0xff);
}

// --- vectors -------------------------------------------------------------------------------------------------------

/** A constant vector from its lanes, lowest first. */
export function lanes(width: 8 | 16 | 32 | 64, values: readonly (number | bigint)[]): Bits<128> {
  let bits = 0n;
  for (let index = 128 / width - 1; index >= 0; index--) {
    bits = (bits << BigInt(width)) | BigInt.asUintN(width, BigInt(values[index % values.length]));
  }
  return constant(128, bits);
}

export function zeros(): Bits<128> {
  return constant(128, 0);
}

/** Byte `i` in lane `i`. */
export function byteNumbers(): Bits<128> {
  return lanes(8, range(16));
}

export function range(count: number, from: number = 0): number[] {
  return Array.from({ length: count }, (_, index) => from + index);
}

export function and(a: Bits<128>, b: Bits<128>): Bits<128> {
  return vector("v128.and", a, b);
}

export function or(a: Bits<128>, b: Bits<128>): Bits<128> {
  return vector("v128.or", a, b);
}

export function xor(a: Bits<128>, b: Bits<128>): Bits<128> {
  return vector("v128.xor", a, b);
}

/** `a AND NOT b`. */
export function without(a: Bits<128>, b: Bits<128>): Bits<128> {
  return vector("v128.andnot", a, b);
}

/** Bits of `whenSet` where `mask` is 1, of `whenClear` elsewhere. */
export function bitSelect(mask: Bits<128>, whenSet: Bits<128>, whenClear: Bits<128>): Bits<128> {
  return vector("v128.bitselect", whenSet, whenClear, mask);
}

/** The lower halves of two vectors: `low` first. */
export function joinLowHalves(low: Bits<128>, high: Bits<128>): Bits<128> {
  return shuffle(low, high, [...range(8), ...range(8, 16)]);
}

/** Bytes of `value` chosen at run time; a byte of 16 and more chooses zero. */
export function swizzle(value: Bits<128>, choice: Bits<128>): Bits<128> {
  return vector("i8x16.swizzle", value, choice);
}

/** Inserts at a lane chosen at run time, `index` in 0…lanes-1. */
export function insertLane(
  into: Bits<128>, value: Bits<8> | Bits<16> | Bits<32> | Bits<64>, index: Bits<32>,
): Bits<128> {
  const { width } = value;
  const laneBytes = width / 8;
  // Bytes that belong to lane k compare equal with k.
  const laneOfByte = lanes(8, range(16).map((byte) => Math.floor(byte / laneBytes)));
  const chosen = vector("i8x16.eq", laneOfByte, splat(index.trunc(8)));
  return bitSelect(chosen, splat(value), into);
}

/** The lane chosen at run time, `index` in 0…lanes-1. */
export function extractLane<W extends 8 | 16 | 32 | 64>(from: Bits<128>, width: W, index: Bits<32>): Bits<W> {
  const first = splat(index.mul(width / 8).trunc(8));
  const choice = vector("i8x16.add", first, lanes(8, range(16)));
  return swizzle(from, choice).lane(width, 0);
}

// --- the MMX and the SSE form of one packed operation -------------------------------------------------------------

/** `full` and `half` get both operands and give the result: of 16 bytes, and of the lower 8 bytes. */
export interface PackedPair {
  readonly name: string;
  /** Opcode bytes, `0F FC`. */
  readonly opcode: string;
  readonly features: { readonly half: string; readonly full: string };
  /** Operand code of the MMX form's source. */
  readonly halfSource?: string;
  readonly full: (a: Bits<128>, b: Bits<128>) => Bits<128>;
  readonly half?: (a: Bits<128>, b: Bits<128>) => Bits<128>;
}

/** `name mm, mm/m64` and `name xmm, xmm/m128`. */
export function packedPair({ name, opcode, features, halfSource = "Qq", full, half = full }: PackedPair): InstructionDefinition[] {
  return [
    mmxInstruction({
      name, feature: features.half, encodings: [`NP ${opcode} /r Pq,${halfSource}`],
      execute({ cpu, dst, src }) {
        writeMmx(cpu, dst, half(readMmx(dst), readMmx(src)));
      },
    }),
    packed(name, features.full, [`66 ${opcode} /r Vdq,Wdq`], full),
  ];
}

/** `name xmm, xmm/m128` with aligned memory. */
export function packed(
  name: string, feature: string, encodings: readonly string[], compute: (a: Bits<128>, b: Bits<128>, cpu: Cpu) => Bits<128>,
): InstructionDefinition {
  return sseInstruction({
    name, feature, encodings,
    execute({ cpu, dst, src }) {
      const b = readAligned(cpu, src);
      dst.as(128).write(compute(dst.as(128).read(), b, cpu));
    },
  });
}
