/** The VM-exit instruction-information field and what exit qualifications tell of operands (SDM volume 3, "Information for VM Exits Due to Instruction Execution"). */
import type { SoftProcessor } from "../../engine/processor.ts";
import type { InstructionDefinition } from "../../isa/definition.ts";
import type { DecodedInstruction, MemoryOperand, Size } from "../../isa/operand.ts";
import * as layout from "../../isa/state.ts";

type Decoded = DecodedInstruction<InstructionDefinition>;

const addressSizeShift = 7;
const segmentShift = 15;
const indexShift = 18;
const noIndexMask = 1 << 22;
const baseShift = 23;
const noBaseMask = 1 << 27;
const firstRegisterShift = 3;
const registerFormMask = 1 << 10;
const secondRegisterShift = 28;
const identityShift = 28;
const firstFs = 4;

function sizeCode(size: Size): number {
  return size === 16 ? 0 : size === 32 ? 1 : 2;
}

function memoryBits(operand: MemoryOperand, addressSize: Size): number {
  const index = operand.index === undefined ? noIndexMask : operand.index << indexShift;
  const base = typeof operand.base === "number" ? operand.base << baseShift : noBaseMask;
  return operand.scaleLog2 | (sizeCode(addressSize) << addressSizeShift) | (operand.segment << segmentShift) | index | base;
}

function memoryOf({ operands }: Decoded): MemoryOperand | undefined {
  return operands.find((operand) => operand.kind === "memory");
}

/** Number of the general register among the operands. */
function registerOf({ operands }: Decoded): number {
  const found = operands.find((operand) => operand.kind === "register" && operand.file === "gpr");
  return found?.kind === "register" ? found.number : 0;
}

/** A memory operand and, in bits 31:28, a register: VMREAD and VMWRITE also with two registers. */
function operandsInformation(decoded: Decoded): number {
  const memory = memoryOf(decoded);
  if (memory !== undefined) return (memoryBits(memory, decoded.addressSize) | (registerOf(decoded) << secondRegisterShift)) >>> 0;
  const [first, second] = decoded.instruction.name === "vmread" ? decoded.operands : decoded.operands.toReversed();
  const number = (operand: typeof first): number => operand?.kind === "register" ? operand.number : 0;
  return (registerFormMask | (number(first) << firstRegisterShift) | (number(second) << secondRegisterShift)) >>> 0;
}

const tableIdentities: Readonly<Record<string, number>> = { sgdt: 0, sidt: 1, lgdt: 2, lidt: 3, sldt: 0, str: 1, lldt: 2, ltr: 3 };

function tableInformation(decoded: Decoded): number {
  const memory = memoryOf(decoded);
  const operandSizeMask = 1 << 11;
  const isWide = decoded.operandSize !== 16;
  const identity = tableIdentities[decoded.instruction.name] << identityShift;
  return ((memory === undefined ? 0 : memoryBits(memory, decoded.addressSize)) | (isWide ? operandSizeMask : 0) | identity) >>> 0;
}

function selectorInformation(decoded: Decoded): number {
  const memory = memoryOf(decoded);
  const place = memory === undefined ? registerFormMask | (registerOf(decoded) << firstRegisterShift) : memoryBits(memory, decoded.addressSize);
  return (place | (tableIdentities[decoded.instruction.name] << identityShift)) >>> 0;
}

function randomInformation(decoded: Decoded): number {
  const operandSizeShift = 11;
  return (registerOf(decoded) << firstRegisterShift) | (sizeCode(decoded.operandSize) << operandSizeShift);
}

function stringInformation(decoded: Decoded): number {
  return (sizeCode(decoded.addressSize) << addressSizeShift) | ((memoryOf(decoded)?.segment ?? 0) << segmentShift);
}

/** The field for an instruction, 0 where it has nothing to tell. */
export function instructionInformation(decoded: Decoded | undefined): number {
  if (decoded === undefined) return 0;
  switch (decoded.instruction.name) {
    case "vmclear": case "vmptrld": case "vmptrst": case "vmxon": case "vmread": case "vmwrite": case "invept":
    case "invvpid": case "invpcid":
      return operandsInformation(decoded);
    case "sgdt": case "sidt": case "lgdt": case "lidt":
      return tableInformation(decoded);
    case "sldt": case "str": case "lldt": case "ltr":
      return selectorInformation(decoded);
    case "rdrand": case "rdseed":
      return randomInformation(decoded);
    case "insb": case "ins": case "outsb": case "outs":
      return stringInformation(decoded);
    default:
      return 0;
  }
}

/** The displacement of the memory operand; of one relative to RIP, the sum with the next instruction's address. */
export function displacementQualification(p: SoftProcessor, decoded: Decoded | undefined): bigint {
  const memory = decoded && memoryOf(decoded);
  if (memory === undefined) return 0n;
  const displacement = BigInt(memory.displacement);
  return BigInt.asUintN(64, memory.base === "rip" ? displacement + p.nextRip() : displacement);
}

/** Linear address of the memory operand, unchecked. */
export function operandLinearAddress(p: SoftProcessor, decoded: Decoded | undefined): bigint {
  const memory = decoded && memoryOf(decoded);
  if (decoded === undefined || memory === undefined) return 0n;
  const register = (number: number): bigint => p.state.get64(layout.gpr[number]);
  const base = memory.base === undefined ? 0n : memory.base === "rip" ? p.nextRip() : register(memory.base);
  const index = memory.index === undefined ? 0n : register(memory.index) << BigInt(memory.scaleLog2);
  const offset = BigInt.asUintN(decoded.addressSize, base + index + BigInt(memory.displacement));
  const hasBase = decoded.mode !== 64 || memory.segment >= firstFs;
  const segmentBase = hasBase ? p.state.get64(layout.segments[memory.segment].base) : 0n;
  return BigInt.asUintN(decoded.mode === 64 ? 64 : 32, segmentBase + offset);
}

/** Number of the general register operand of the current instruction, as MOV to and from CR and DR have it. */
export function generalRegister(decoded: Decoded | undefined): number {
  return decoded === undefined ? 0 : registerOf(decoded);
}
