/** Decoded instructions and their operands: what the decoder makes and all else reads. */
import type { EncodedInstruction } from "./decode-table.ts";
import type { ParsedEncoding } from "./encoding.ts";
import type { RegisterFile } from "./registers.ts";

export type Size = 16 | 32 | 64;

export interface RegisterOperand {
  readonly kind: "register";
  readonly file: RegisterFile;
  readonly number: number;
  readonly widthBits: number;
  /** AH, CH, DH, BH; `number` is then 0 to 3. */
  readonly highByte: boolean;
}

/** The effective address is the sum, modulo 2^addressSize. */
export interface MemoryOperand {
  readonly kind: "memory";
  /** 0 where the instruction does not fix a size. */
  readonly widthBits: number;
  /** Segment register number, 0 to 5, default or override; in 64-bit mode only FS and GS have a base. */
  readonly segment: number;
  /** General register number; "rip" means the address of the next instruction. */
  readonly base: number | "rip" | undefined;
  readonly index: number | undefined;
  readonly scaleLog2: number;
  /** Signed; a bigint only for the 64-bit offset of MOV moffs with address size 64, unsigned there. */
  readonly displacement: number | bigint;
}

export interface ImmediateOperand {
  readonly kind: "immediate";
  /** Unsigned, already extended to `widthBits`: a number up to 32 bits, a bigint at 64. */
  readonly value: number | bigint;
  readonly widthBits: number;
}

/** A branch target relative to the next instruction; the instruction pointer is then cut to `widthBits`. */
export interface RelativeOperand {
  readonly kind: "relative";
  /** Signed. */
  readonly displacement: number;
  readonly widthBits: number;
}

/** A far pointer in the instruction; `widthBits` is the offset's. */
export interface FarOperand {
  readonly kind: "far";
  readonly selector: number;
  readonly offset: number;
  readonly widthBits: number;
}

export type Operand = RegisterOperand | MemoryOperand | ImmediateOperand | RelativeOperand | FarOperand;

export type Repeat = "none" | "rep" | "repne";

export interface DecodedInstruction<I extends EncodedInstruction> {
  readonly kind: "instruction";
  readonly instruction: I;
  /** The same object for every decode that matches the same encoding string. */
  readonly encoding: ParsedEncoding;
  /** In bytes, prefixes included. */
  readonly length: number;
  /** Of the address that ModRM names. */
  readonly displacementBytes: number;
  /** What follows that address: immediates, relative displacements, far pointers, offsets. */
  readonly immediateBytes: number;
  /** The ModRM byte, -1 where there is none. */
  readonly modrm: number;
  readonly mode: Size;
  readonly operandSize: Size;
  readonly addressSize: Size;
  readonly operands: readonly Operand[];
  /** False where LOCK is part of the opcode (MOV CR8 on AMD). */
  readonly lock: boolean;
  /** "none" where F3 or F2 is part of the opcode. */
  readonly repeat: Repeat;
  /** The override in effect; ES, CS, SS and DS have none in 64-bit mode. */
  readonly segmentOverride: number | undefined;
  readonly hasRex: boolean;
}

/** Undefined opcode or forbidden prefix: #UD. */
export interface InvalidInstruction {
  readonly kind: "invalid";
}

/** More than 15 bytes: #GP(0). */
export interface TooLongInstruction {
  readonly kind: "tooLong";
}

/** The bytes end before the instruction does. */
export interface TruncatedInstruction {
  readonly kind: "truncated";
}

export type DecodeResult<I extends EncodedInstruction> =
  | DecodedInstruction<I>
  | InvalidInstruction
  | TooLongInstruction
  | TruncatedInstruction;
