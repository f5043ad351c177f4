/** Compares our decoder with iced-x86 on the same bytes: length, mnemonic, operands and prefixes. */
import * as iced from "iced-x86";
import type { Decoder } from "../src/isa/decode.ts";
import type { EncodedInstruction } from "../src/isa/decode-table.ts";
import { disassemble, mnemonicOf } from "../src/isa/disassemble.ts";
import type { DecodedInstruction, Operand, Size } from "../src/isa/operand.ts";
import { registerName } from "../src/isa/registers.ts";

/** Bytes per sample: more than the longest instruction. */
export const sampleBytes = 18;

/** What the two decoders say of one sample, as far as they differ. */
export interface Difference {
  /** Samples of the same kind share it. */
  readonly key: string;
  readonly mode: Size;
  /** "" where there is no instruction. */
  readonly ourMnemonic: string;
  readonly theirMnemonic: string;
  readonly ourEncoding: string;
  readonly example: string;
}

/** A small generator with a seed, so that a failure can be replayed. */
export function seededBytes(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 24;
  };
}

const prefixes: readonly number[] = [0x66, 0xf2, 0xf3, 0x67, 0xf0, 0x2e, 0x36, 0x64, 0x65, 0x40, 0x41, 0x44, 0x48, 0x4f];

/** Random prefixes, an opcode of a random map, then random bytes. */
export function randomSample(bytes: Uint8Array, start: number, random: () => number): void {
  for (let index = start; index < start + sampleBytes; index++) bytes[index] = random();
  let position = start;
  const prefixCount = [0, 0, 1, 1, 1, 2, 2, 3][random() & 7];
  for (let index = 0; index < prefixCount; index++) bytes[position++] = prefixes[random() % prefixes.length];
  switch (random() % 8) {
    case 0:
    case 1:
    case 2:
      bytes[position++] = 0x0f;
      break;
    case 3:
    case 4:
      bytes[position++] = 0x0f;
      bytes[position++] = (random() & 1) === 0 ? 0x38 : 0x3a;
      break;
    case 5:
      bytes[position] = 0xc4 | (random() & 1);
      if (bytes[position++] === 0xc4) bytes[position++] = (random() & 0xe0) | (1 + (random() % 3));
      break;
    default:
      break;
  }
}

/** Decodes every sample with both; calls `report` for each difference. Returns how many both call an instruction. */
export function compareDecoders<I extends EncodedInstruction>(
  decoder: Decoder<I>, bytes: Uint8Array, mode: Size, vendor: "intel" | "amd", report: (difference: Difference) => void,
): number {
  const reference = new iced.Decoder(mode, bytes, vendor === "amd" ? iced.DecoderOptions.AMD : iced.DecoderOptions.None);
  const theirs = new iced.Instruction();
  let agreed = 0;
  for (let start = 0; start < bytes.length; start += sampleBytes) {
    reference.position = start;
    reference.ip = 0n;
    reference.decodeOut(theirs);
    const ours = decoder.decode(bytes, start, mode);
    const ourMnemonic = ours.kind === "instruction" ? mnemonicOf(ours) : "";
    const theirMnemonic = theirs.code === iced.Code.INVALID ? "" : iced.Mnemonic[theirs.mnemonic].toLowerCase();
    let aspect = "";
    if (ours.kind !== "instruction" && theirMnemonic === "") continue;
    if (ours.kind !== "instruction" || ourMnemonic !== theirMnemonic) aspect = "mnemonic";
    else aspect = aspectThatDiffers(ours, theirs);
    if (aspect === "") {
      agreed++;
      continue;
    }
    const ourEncoding = ours.kind === "instruction" ? ours.encoding.text : "";
    const hexBytes = Array.from(bytes.subarray(start, start + 15), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const ourText = ours.kind === "instruction" ? disassemble(ours, 0n) : ours.kind;
    report({
      key: `${aspect}: ${ourMnemonic || "invalid"} (${ourEncoding}), iced ${theirMnemonic || "invalid"}`,
      mode, ourMnemonic, theirMnemonic, ourEncoding,
      example: `${mode}-bit ${hexBytes}: ${ourText} | iced: ${theirs.toString()}`,
    });
  }
  theirs.free();
  reference.free();
  return agreed;
}

function aspectThatDiffers(ours: DecodedInstruction<EncodedInstruction>, theirs: iced.Instruction): string {
  if (ours.length !== theirs.length) return "length";
  const theirRepeat = theirs.hasRepePrefix ? "rep" : theirs.hasRepnePrefix ? "repne" : "none";
  if (ours.lock !== theirs.hasLockPrefix || ours.repeat !== theirRepeat) return "prefixes";
  const ourOperands = ours.operands.map((operand) => ourOperandText(operand, ours));
  const theirOperands = Array.from({ length: theirs.opCount }, (_, index) => theirOperandText(theirs, index, ours));
  return ourOperands.join() === theirOperands.join() ? "" : "operands";
}

function ourOperandText(operand: Operand, decoded: DecodedInstruction<EncodedInstruction>): string {
  switch (operand.kind) {
    case "register": {
      const name = registerName(operand.file, operand.number, operand.widthBits, operand.highByte);
      return name.replace(/^(r\d+)b$/, "$1l").replace(/^st\((\d)\)$/, "st$1");
    }
    case "immediate":
      return `immediate ${operand.value.toString(16)}`;
    case "relative": {
      const target = BigInt(decoded.length + operand.displacement);
      return `relative ${BigInt.asUintN(operand.widthBits, target).toString(16)}`;
    }
    case "far":
      return `far${operand.widthBits} ${operand.selector}:${operand.offset}`;
    case "memory": {
      const { base, index, displacement, scaleLog2, widthBits } = operand;
      const { addressSize, length } = decoded;
      const baseName = base === "rip" ? (addressSize === 64 ? "rip" : "eip") : gprOrNone(base, addressSize);
      const total = BigInt(displacement) + BigInt(base === "rip" ? length : 0);
      const segment = segmentText(registerName("segment", operand.segment, 16), decoded.mode);
      return memoryText(segment, baseName, gprOrNone(index, addressSize), scaleLog2, BigInt.asUintN(addressSize, total), widthBits);
    }
  }
}

function gprOrNone(number: number | undefined, widthBits: number): string {
  return number === undefined ? "none" : registerName("gpr", number, widthBits);
}

/** iced keeps the overrides that 64-bit mode ignores. */
function segmentText(name: string, mode: Size): string {
  return mode === 64 && name !== "fs" && name !== "gs" ? "flat" : name;
}

function memoryText(
  segment: string, base: string, index: string, scaleLog2: number, displacement: bigint, widthBits: number,
): string {
  return `memory${widthBits} ${segment}:${base}+${index}<<${scaleLog2}+${displacement.toString(16)}`;
}

function theirOperandText(theirs: iced.Instruction, index: number, ours: DecodedInstruction<EncodedInstruction>): string {
  const kind = theirs.opKind(index);
  const kindName = iced.OpKind[kind];
  const nameOf = (register: iced.Register): string => iced.Register[register].toLowerCase();
  if (kind === iced.OpKind.Register) return nameOf(theirs.opRegister(index));
  if (kindName.startsWith("NearBranch")) return `relative ${theirs.nearBranchTarget.toString(16)}`;
  if (kind === iced.OpKind.FarBranch16) return `far16 ${theirs.farBranchSelector}:${theirs.farBranch16}`;
  if (kind === iced.OpKind.FarBranch32) return `far32 ${theirs.farBranchSelector}:${theirs.farBranch32}`;
  if (kindName.startsWith("Immediate")) {
    const widthBits = Number(/(\d+)(?:_2nd)?$/.exec(kindName)?.[1]);
    return `immediate ${BigInt.asUintN(widthBits, theirs.immediate(index)).toString(16)}`;
  }
  const widthBits = iced.MemorySizeExt.size(theirs.memorySize) * 8;
  if (kind === iced.OpKind.Memory) {
    const scaleLog2 = theirs.memoryIndex === iced.Register.None ? 0 : Math.log2(theirs.memoryIndexScale);
    const displacement = BigInt.asUintN(ours.addressSize, theirs.memoryDisplacement);
    const segment = segmentText(nameOf(theirs.memorySegment), ours.mode);
    return memoryText(segment, nameOf(theirs.memoryBase), nameOf(theirs.memoryIndex), scaleLog2, displacement, widthBits);
  }
  const isDestination = kindName.startsWith("MemoryES");
  const segment = segmentText(isDestination ? "es" : nameOf(theirs.memorySegment), ours.mode);
  const base = kindName.slice(isDestination ? "MemoryES".length : "MemorySeg".length).toLowerCase();
  return memoryText(segment, base, "none", 0, 0n, widthBits);
}
