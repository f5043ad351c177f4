/** Names of the x86 registers, as the Intel SDM (volume 1, "Basic Execution Environment") spells them. */

/** A set of registers an instruction's operand can be drawn from. */
export type RegisterFile = "gpr" | "segment" | "control" | "debug" | "mmx" | "xmm" | "x87";

const gpr8Names: readonly string[] = [
  "al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil", "r8b", "r9b", "r10b", "r11b", "r12b", "r13b", "r14b", "r15b",
];
const highByteNames: readonly string[] = ["ah", "ch", "dh", "bh"];
const gpr16Names: readonly string[] = [
  "ax", "cx", "dx", "bx", "sp", "bp", "si", "di", "r8w", "r9w", "r10w", "r11w", "r12w", "r13w", "r14w", "r15w",
];
const gpr32Names: readonly string[] = [
  "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi",
  "r8d", "r9d", "r10d", "r11d", "r12d", "r13d", "r14d", "r15d",
];
const gpr64Names: readonly string[] = [
  "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
];
const segmentNames: readonly string[] = ["es", "cs", "ss", "ds", "fs", "gs"];

/** Segment register numbers as encoded in ModRM.reg and in segment overrides. */
export const SegmentNumber = { ES: 0, CS: 1, SS: 2, DS: 3, FS: 4, GS: 5 } as const;

/** General register numbers as encoded in ModRM with REX. */
export const GprNumber = {
  AX: 0, CX: 1, DX: 2, BX: 3, SP: 4, BP: 5, SI: 6, DI: 7,
  R8: 8, R9: 9, R10: 10, R11: 11, R12: 12, R13: 13, R14: 14, R15: 15,
} as const;

/** Name of a general register; `isHighByte` selects AH, CH, DH, BH for numbers 0 to 3. */
export function gprName(number: number, widthBits: number, isHighByte: boolean = false): string {
  if (isHighByte) return highByteNames[number];
  switch (widthBits) {
    case 8:
      return gpr8Names[number];
    case 16:
      return gpr16Names[number];
    case 32:
      return gpr32Names[number];
    default:
      return gpr64Names[number];
  }
}

/** Name of a segment register, 0 to 5. */
export function segmentName(number: number): string {
  return segmentNames[number];
}

/** Name of any register an operand can name, in the assembler's lower case. */
export function registerName(file: RegisterFile, number: number, widthBits: number, isHighByte: boolean = false): string {
  switch (file) {
    case "gpr":
      return gprName(number, widthBits, isHighByte);
    case "segment":
      return segmentName(number);
    case "control":
      return `cr${number}`;
    case "debug":
      return `dr${number}`;
    case "mmx":
      return `mm${number}`;
    case "xmm":
      return `${widthBits === 256 ? "ymm" : "xmm"}${number}`;
    case "x87":
      return `st(${number})`;
  }
}
