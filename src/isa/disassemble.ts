/** Intel-syntax text of decoded instructions. */
import type { EncodedInstruction } from "./decode-table.ts";
import type { DecodedInstruction, MemoryOperand, Operand, Size } from "./operand.ts";
import { GprNumber, gprName, registerName, segmentName, SegmentNumber } from "./registers.ts";

const sizeWords: ReadonlyMap<number, string> = new Map([
  [8, "byte"], [16, "word"], [32, "dword"], [48, "fword"], [64, "qword"], [80, "tbyte"], [128, "xmmword"], [256, "ymmword"],
]);

/** The mnemonic at the instruction's operand size. */
export function mnemonicOf(decoded: DecodedInstruction<EncodedInstruction>): string {
  return decoded.instruction.names?.[decoded.operandSize] ?? decoded.instruction.name;
}

/** Text such as `lock add dword ptr [rax+rcx*4+0x10], eax`; `address` is the instruction's own, for branch targets. */
export function disassemble(decoded: DecodedInstruction<EncodedInstruction>, address: bigint): string {
  const prefix = decoded.lock ? "lock " : decoded.repeat === "none" ? "" : `${decoded.repeat} `;
  const operands = decoded.operands.map((operand) => operandText(decoded, operand, address));
  return `${prefix}${mnemonicOf(decoded)} ${operands.join(", ")}`.trimEnd();
}

function operandText(decoded: DecodedInstruction<EncodedInstruction>, operand: Operand, address: bigint): string {
  switch (operand.kind) {
    case "register":
      return registerName(operand.file, operand.number, operand.widthBits, operand.highByte);
    case "memory":
      return memoryText(operand, decoded.addressSize);
    case "immediate":
      return hex(operand.value);
    case "relative":
      return hex(relativeTarget(decoded, operand.displacement, operand.widthBits, address));
    case "far":
      return `${hex(operand.selector)}:${hex(operand.offset)}`;
  }
}

function relativeTarget(
  decoded: DecodedInstruction<EncodedInstruction>, displacement: number, widthBits: number, address: bigint,
): bigint {
  return BigInt.asUintN(widthBits, address + BigInt(decoded.length) + BigInt(displacement));
}

function memoryText(memory: MemoryOperand, addressSize: Size): string {
  const sizeWord = sizeWords.get(memory.widthBits);
  const isStackBase = memory.base === GprNumber.SP || memory.base === GprNumber.BP;
  const defaultSegment = isStackBase ? SegmentNumber.SS : SegmentNumber.DS;
  const segment = memory.segment === defaultSegment ? "" : `${segmentName(memory.segment)}:`;
  const size = sizeWord === undefined ? "" : `${sizeWord} ptr `;
  return `${size}${segment}[${addressText(memory, addressSize)}]`;
}

function addressText({ base, index, scaleLog2, displacement }: MemoryOperand, addressSize: Size): string {
  const terms: string[] = [];
  if (base === "rip") terms.push(addressSize === 64 ? "rip" : "eip");
  else if (base !== undefined) terms.push(gprName(base, addressSize));
  if (index !== undefined) terms.push(gprName(index, addressSize) + (scaleLog2 === 0 ? "" : `*${1 << scaleLog2}`));
  if (terms.length === 0) return hex(BigInt.asUintN(addressSize, BigInt(displacement)));
  return terms.join("+") + (displacement === 0 ? "" : signedHex(displacement));
}

function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}

function signedHex(value: number | bigint): string {
  return value < 0 ? `-${hex(-value)}` : `+${hex(value)}`;
}
