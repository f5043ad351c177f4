/** What x87 instructions note of themselves for FNSTENV: opcode (FOP) and segment of the memory operand (SDM volume 1, "Last Instruction Opcode"). */
import type { EncodedInstruction } from "./decode-table.ts";
import { OpcodeMap } from "./encoding.ts";
import type { DecodedInstruction } from "./operand.ts";

/** Bits 2:0 of the opcode byte and the ModRM byte. */
export const opcodeMask = 0x7ff;
export const segmentShift = 16;
/** There is a memory operand: the segment counts. */
export const hasMemoryMask = 0x8_0000;

/** The word that stands for the immediate, which no x87 instruction has; undefined for other instructions. */
export function x87InstructionWord(decoded: DecodedInstruction<EncodedInstruction>): number | undefined {
  const { map, opcode } = decoded.encoding;
  if (map !== OpcodeMap.oneByte || opcode < 0xd8 || opcode > 0xdf) return undefined;
  const word = ((opcode & 7) << 8) | decoded.modrm;
  const memory = decoded.operands.find((operand) => operand.kind === "memory");
  return memory === undefined ? word : word | (memory.segment << segmentShift) | hasMemoryMask;
}
