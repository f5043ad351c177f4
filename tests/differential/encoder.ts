/**
 * Writes the bytes of a form with random registers, addressing, prefixes and immediates (SDM volume 2, "Instruction
 * Format"). It shares the parsed encodings with the decoder, and nothing else.
 */
import { ConditionBit, OpcodeMap } from "../../src/isa/encoding.ts";
import type { ParsedEncoding } from "../../src/isa/encoding.ts";
import type { OperandTemplate } from "../../src/isa/operand-template.ts";
import { chooseAddress, littleEndian } from "./address.ts";
import type { Form } from "./forms.ts";
import type { Random } from "./random.ts";

const segmentPrefixes: readonly number[] = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65];

/** What is decided before the bytes are chosen. */
export interface EncodingRequest {
  /** Whether optional prefixes may appear. */
  readonly isFree: boolean;
  /** Registers (bit per number) that may not take part in an address. */
  readonly avoid: number;
  /** Linear address of the memory operand. */
  readonly target: number;
  /** Bases of ES, CS, SS, DS, FS, GS. */
  readonly segmentBases: readonly bigint[];
  /** Segment to override with, -1 for none. */
  readonly override: number;
  /** F3, F2 or 0. */
  readonly repeat: number;
  readonly addressSize: 16 | 32 | 64;
  /** Chooses an immediate of this many bits. */
  immediate(storedBits: number): bigint;
  /** Chooses where a relative branch leads, an offset in CS. */
  branchTarget(storedBits: number): bigint;
}

/** An encoded instruction, but for what depends on where it stands. */
export interface Encoded {
  readonly bytes: number[];
  /** ModRM.reg with REX.R, -1 if there is no ModRM. */
  readonly reg: number;
  /** The register of ModRM.rm or of the opcode, -1 if none. */
  readonly rm: number;
  readonly base: number;
  readonly index: number;
  readonly hasRex: boolean;
  readonly hasLock: boolean;
  /** The first immediate. */
  readonly immediate: bigint;
  /** Fields relative to the next instruction: where they are and what they shall reach, an offset in CS. */
  readonly relative: readonly { readonly at: number; readonly sizeBytes: number; readonly target: bigint }[];
}

/** XLAT, MASKMOVQ and MASKMOVDQU: their address is in registers that no operand names. */
function hasImplicitAddress({ map, opcode, rmOperand }: ParsedEncoding): boolean {
  return (map === OpcodeMap.oneByte && opcode === 0xd7) || (map === OpcodeMap["0F"] && opcode === 0xf7 && rmOperand !== undefined);
}

/** Whether the instruction has an address in it at all. */
export function usesAddress({ rm, encoding }: Form): boolean {
  return rm === "memory" || hasImplicitAddress(encoding) || encoding.operands.some(({ source }) => source === "offset" || source.startsWith("string"));
}

/** Address sizes that the encoding demands, or undefined. */
export function demandedAddressSize({ conditionMask, conditionValue }: ParsedEncoding): 16 | 32 | 64 | undefined {
  if ((conditionMask & (ConditionBit.address32 | ConditionBit.address64)) === 0) return undefined;
  if (conditionValue & ConditionBit.address64) return 64;
  return conditionValue & ConditionBit.address32 ? 32 : 16;
}

/** Encodes the form; registers that make up the address are set in `gpr`. */
export function encode(random: Random, form: Form, gpr: BigUint64Array, request: EncodingRequest): Encoded {
  const { encoding, bits } = form;
  const { isFree } = request;
  const anyRegister = (): number => random.below(bits === 64 ? 16 : 8);
  let rex = 0;
  let reg = -1;
  let rm = -1;
  let base = -1;
  let index = -1;
  let ripRelative = false;
  const tail: number[] = [];
  const relative: { at: number; sizeBytes: number; target: bigint }[] = [];

  let { opcode } = encoding;
  if (encoding.hasOpcodeRegister) {
    rm = anyRegister();
    opcode += rm & 7;
    rex |= rm >> 3;
  }
  if (encoding.modrmByte !== undefined) {
    rm = encoding.hasModrmIndex ? random.below(8) : -1;
    tail.push(encoding.modrmByte + Math.max(rm, 0));
  } else if (encoding.hasModrm) {
    reg = encoding.modrmReg ?? chooseReg(random, encoding, anyRegister());
    if (encoding.modrmReg === undefined) rex |= (reg >> 3) << 2;
    const regField = (reg & 7) << 3;
    if (form.rm === "register") {
      rm = anyRegister();
      rex |= rm >> 3;
      tail.push(0xc0 | regField | (rm & 7));
    } else {
      const { addressSize, avoid } = request;
      const offsetIn = (segment: number): bigint => offsetOf(request, form, segment);
      const address = chooseAddress(random, gpr, {
        bits, addressSize, avoid, stackOffset: offsetIn(2), dataOffset: offsetIn(3),
      });
      ({ base, index } = address);
      ripRelative = address.isRipRelative;
      rex |= address.rex;
      tail.push(address.modrm | regField, ...address.tail);
    }
  }

  const prefixes: number[] = [];
  if (needsOperandSizePrefix(form)) prefixes.push(0x66);
  if (request.addressSize !== bits) prefixes.push(0x67);
  if (request.override >= 0) prefixes.push(segmentPrefixes[request.override]);
  if (encoding.prefix === "F3") prefixes.push(0xf3);
  if (encoding.prefix === "F2") prefixes.push(0xf2);
  if (request.repeat !== 0) prefixes.push(request.repeat);
  const mayLock = form.rm === "memory" && form.definition.lockable === true;
  const hasLock = isFree && !ignoresLock(encoding) && random.chance(mayLock ? 15 : 1);
  if (hasLock) prefixes.push(0xf0);
  shuffle(random, prefixes);

  const bytes = [...prefixes];
  if (needsRexW(form, random, isFree)) rex |= 8;
  const hasRex = bits === 64 && (rex !== 0 || (isFree && random.chance(10)));
  if (hasRex) bytes.push(0x40 | rex);
  bytes.push(...escapeBytes(encoding.map), opcode);
  if (ripRelative) relative.push({ at: bytes.length + 1, sizeBytes: 4, target: offsetOf(request, form, 3) });
  bytes.push(...tail);

  let immediate: bigint | undefined;
  for (const operand of encoding.operands) {
    const sizeBytes = immediateBytes(operand, form, request.addressSize);
    if (sizeBytes === 0) continue;
    if (operand.source === "relative") {
      relative.push({ at: bytes.length, sizeBytes, target: request.branchTarget(sizeBytes * 8) });
    }
    const value = operand.source === "offset" ? offsetOf(request, form, 3) : request.immediate(sizeBytes * 8);
    immediate ??= value;
    bytes.push(...littleEndian(value, sizeBytes));
  }
  return { bytes, reg, rm, base, index, hasRex, hasLock, immediate: immediate ?? 0n, relative };
}

/** VERW executes with LOCK where microcode has made it clear buffers; the manuals call that #UD. */
function ignoresLock({ map, opcode, modrmReg }: ParsedEncoding): boolean {
  return map === OpcodeMap["0F"] && opcode === 0 && modrmReg === 5;
}

/** Fills in the relative fields for an instruction at `entry`, an offset in CS. */
export function place({ bytes, relative }: Encoded, entry: number): void {
  for (const { at, sizeBytes, target } of relative) {
    const displacement = littleEndian(target - BigInt(entry + bytes.length), sizeBytes);
    for (const [index, byte] of displacement.entries()) bytes[at + index] = byte;
  }
}

/** Offset in the segment that the operand uses: `segment` unless an override is in force. */
function offsetOf({ override, target, segmentBases }: EncodingRequest, { bits }: Form, segment: number): bigint {
  const isIgnored = override < 0 || (bits === 64 && override < 4);
  const effective = isIgnored ? segment : override;
  return BigInt.asUintN(64, BigInt(target) - segmentBases[effective]);
}

/** The register files with eight or fewer registers get numbers that exist, mostly. */
function chooseReg(random: Random, { operands }: ParsedEncoding, number: number): number {
  const operand = operands.find(({ source }) => source === "modrmReg");
  if (operand === undefined || operand.file === "gpr" || operand.file === "xmm") return number;
  if (operand.file === "segment" && !random.chance(5)) return number % 6;
  return random.chance(10) ? number : number & 7;
}

function needsOperandSizePrefix({ bits, operandSize, encoding }: Form): boolean {
  if (encoding.prefix === "66") return true;
  if (encoding.prefix === "NP" || encoding.operandSizeRule === "mode") return false;
  return bits === 64 ? operandSize === 16 : operandSize !== bits;
}

function needsRexW({ bits, operandSize, encoding }: Form, random: Random, isFree: boolean): boolean {
  if (bits !== 64 || encoding.operandSizeRule === "mode") return false;
  if ((encoding.conditionMask & ConditionBit.w) !== 0) return (encoding.conditionValue & ConditionBit.w) !== 0;
  const isOptional = isFree && random.chance(10);
  if (encoding.operandSizeRule !== "default") return operandSize === 64 && isOptional;
  if (operandSize === 64) return true;
  // REX.W changes nothing where no operand follows the operand size, beyond the legacy one-byte instructions.
  return encoding.prefix !== "any" && !encoding.followsOperandSize && isOptional;
}

function escapeBytes(map: number): readonly number[] {
  switch (map) {
    case OpcodeMap["0F"]:
      return [0x0f];
    case OpcodeMap["0F38"]:
      return [0x0f, 0x38];
    case OpcodeMap["0F3A"]:
      return [0x0f, 0x3a];
    default:
      return [];
  }
}

function immediateBytes({ source, immediate }: OperandTemplate, { operandSize }: Form, addressSize: number): number {
  const stored = immediate.storedBits[operandSize >> 5];
  switch (source) {
    case "immediate":
    case "relative":
      return stored / 8;
    case "far":
      return stored / 8 + 2;
    case "offset":
      return addressSize / 8;
    default:
      return 0;
  }
}

function shuffle(random: Random, items: number[]): void {
  for (let index = items.length - 1; index > 0; index--) {
    const other = random.below(index + 1);
    [items[index], items[other]] = [items[other], items[index]];
  }
}
