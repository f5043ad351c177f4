/** SSE4.2 string comparisons and CRC32 (SDM volume 2, "Imm8 Control Byte Operation for PCMPESTRI …", and CRC32). */
import { type Bits, constant, type Routine, Status } from "../../ir/index.ts";
import { type Cpu, instruction, type InstructionDefinition, type Operand, Register } from "../definition.ts";
import { routine } from "../processor.ts";
import type { StateView } from "../state-view.ts";
import * as state from "../state.ts";
import { immediateByte, sseInstruction } from "./simd.ts";

/** Fields of the immediate. */
const Control = {
  words: 1, signed: 2, aggregationShift: 2, negative: 0x10, maskedByValidity: 0x20, mostSignificantOrExpanded: 0x40,
} as const;

const Aggregation = { equalAny: 0, ranges: 1, equalEach: 2, equalOrdered: 3 } as const;

// Reused by every comparison: these instructions are the inner loops of string functions.
const aElements = new Int32Array(16);
const bElements = new Int32Array(16);

/** Elements of a scratch slot as numbers; returns how many there are. */
function readElements(view: StateView, slot: number, control: number, into: Int32Array): number {
  const hasWords = (control & Control.words) !== 0;
  const isSigned = (control & Control.signed) !== 0;
  const count = hasWords ? 8 : 16;
  const first = view.base + state.scratch[slot].offset;
  const unused = hasWords ? 16 : 24;
  for (let index = 0; index < count; index++) {
    const element = hasWords ? view.u16[(first >>> 1) + index] : view.u8[first + index];
    into[index] = isSigned ? (element << unused) >> unused : element;
  }
  return count;
}

/** IntRes1: one bit per element of b; the first `aLength` and `bLength` of `count` elements are valid. */
function aggregate(count: number, aLength: number, bLength: number, aggregation: number): number {
  const a = aElements, b = bElements;
  let result = 0;
  switch (aggregation) {
    case Aggregation.equalAny:
      for (let position = 0; position < bLength; position++) {
        for (let index = 0; index < aLength; index++) {
          if (a[index] === b[position]) result |= 1 << position;
        }
      }
      return result;
    case Aggregation.ranges:
      for (let position = 0; position < bLength; position++) {
        for (let index = 0; index + 1 < aLength; index += 2) {
          if (a[index] <= b[position] && b[position] <= a[index + 1]) result |= 1 << position;
        }
      }
      return result;
    case Aggregation.equalEach:
      for (let position = 0; position < count; position++) {
        const isInA = position < aLength, isInB = position < bLength;
        if (isInA && isInB ? a[position] === b[position] : isInA === isInB) result |= 1 << position;
      }
      return result;
    default:
      for (let position = 0; position < count; position++) {
        let index = 0;
        while (index < aLength && position + index < bLength && a[index] === b[position + index]) index++;
        // What lies beyond the vector cannot contradict.
        if (index === aLength || position + index === count) result |= 1 << position;
      }
      return result;
  }
}

/** Elements before the terminating zero. */
function implicitLength(values: Int32Array, count: number): number {
  let length = 0;
  while (length < count && values[length] !== 0) length++;
  return length;
}

/** Index in ECX from the set bits of the result. */
function indexOf(result: number, count: number, wantsMostSignificant: boolean): number {
  if (result === 0) return count;
  return 31 - Math.clz32(wantsMostSignificant ? result : result & -result);
}

function writeMask(view: StateView, result: number, control: number): void {
  view.result128(0, 0n, 0n);
  if ((control & Control.mostSignificantOrExpanded) === 0) return view.result32(0, result);
  const first = view.base + state.scratch[0].offset;
  const elementBytes = (control & Control.words) !== 0 ? 2 : 1;
  for (let byte = 0; byte < 16; byte++) {
    if ((result >> Math.floor(byte / elementBytes)) & 1) view.u8[first + byte] = 0xff;
  }
}

/** Flags that the routine returns in slot 1. */
const FlagBit = { cf: 0, zf: 1, sf: 2, of: 3 } as const;

/** Arguments: the two operands, the immediate, and two lengths (at most the number of elements) where they are explicit. */
function comparison(name: string, isExplicit: boolean, wantsIndex: boolean): Routine {
  return routine(name, (p) => {
    const view = p.state;
    const control = view.argument32(2);
    const count = readElements(view, 0, control, aElements);
    readElements(view, 1, control, bElements);
    const aLength = isExplicit ? view.argument32(3) : implicitLength(aElements, count);
    const bLength = isExplicit ? view.argument32(4) : implicitLength(bElements, count);
    let result = aggregate(count, aLength, bLength, (control >> Control.aggregationShift) & 3);
    if ((control & Control.negative) !== 0) {
      result ^= (1 << ((control & Control.maskedByValidity) !== 0 ? bLength : count)) - 1;
    }
    const flags = (result !== 0 ? 1 << FlagBit.cf : 0) | (bLength < count ? 1 << FlagBit.zf : 0) |
      (aLength < count ? 1 << FlagBit.sf : 0) | ((result & 1) << FlagBit.of);
    if (wantsIndex) view.result32(0, indexOf(result, count, (control & Control.mostSignificantOrExpanded) !== 0));
    else writeMask(view, result, control);
    view.result32(1, flags);
    return Status.Next;
  });
}

/** |length|, at most the number of elements, of a length in RAX or RDX. */
function explicitLength(cpu: Cpu, register: number, width: 32 | 64, control: Bits<32>): Bits<32> {
  const length = (cpu.gpr(register, width).read() as Bits).sext(64);
  const magnitude = length.sign().select(length.neg(), length);
  const count = control.bit(0).select(constant(64, 8), 16);
  return magnitude.ltU(count).select(magnitude, count).trunc(32);
}

/** Memory need not be aligned. */
function compareStrings(name: string, opcode: string, isExplicit: boolean, wantsIndex: boolean): InstructionDefinition {
  const exact = comparison(name, isExplicit, wantsIndex);
  return sseInstruction({
    name, feature: "sse4_2", encodings: [`66 0F 3A ${opcode} /r ib Vdq,Wdq,Ib`],
    execute({ cpu, dst, src, variant }) {
      const a = dst.as(128).read(), b = src.as(128).read();
      const lengthWidth = variant.operandSize === 64 ? 64 : 32;
      const control = immediateByte(cpu);
      const lengths = isExplicit ? [Register.RAX, Register.RDX].map((register) => explicitLength(cpu, register, lengthWidth, control)) : [];
      const [result, flags] = cpu.call(exact, [a, b, control, ...lengths], [wantsIndex ? 32 : 128, 32]);
      if (wantsIndex) cpu.gpr(Register.RCX, 32).write(result as Bits as Bits<32>);
      else cpu.xmm(0).write(result as Bits as Bits<128>);
      const clear = constant(1, 0);
      cpu.writeFlags({
        cf: flags.bit(FlagBit.cf), pf: clear, af: clear, zf: flags.bit(FlagBit.zf), sf: flags.bit(FlagBit.sf), of: flags.bit(FlagBit.of),
      });
    },
  });
}

/** CRC-32C, polynomial 11EDC6F41H reflected, by bytes. */
const crcTable: Uint32Array = Uint32Array.from({ length: 256 }, (_, byte) => {
  const reflectedPolynomial = 0x82f6_3b78;
  let remainder = byte;
  for (let bit = 0; bit < 8; bit++) remainder = (remainder >>> 1) ^ (remainder & 1 ? reflectedPolynomial : 0);
  return remainder;
});

/** Arguments: the CRC so far and the data. */
function checksum(sizeBytes: number): Routine {
  return routine(`crc32/${sizeBytes}`, (p) => {
    const view = p.state;
    const data = view.base + state.scratch[1].offset;
    let crc = view.argument32(0);
    for (let byte = 0; byte < sizeBytes; byte++) crc = (crc >>> 8) ^ crcTable[(crc ^ view.u8[data + byte]) & 0xff];
    view.result32(0, crc);
    return Status.Next;
  });
}

const checksums: Readonly<Record<number, Routine>> = { 8: checksum(1), 16: checksum(2), 32: checksum(4), 64: checksum(8) };

function updateChecksum(cpu: Cpu, dst: Operand, src: Operand): void {
  const [crc] = cpu.call(checksums[src.width], [dst.as(32).read(), src.read()], [32]);
  dst.write(crc.zext(dst.width));
}

/** Works on general registers, so CR0 and CR4 do not matter. */
const crc32 = instruction({
  name: "crc32", feature: "sse4_2", encodings: ["F2 0F 38 F0 /r Gy,Eb", "F2 0F 38 F1 /r Gy,Ev"],
  execute({ cpu, dst, src }) {
    updateChecksum(cpu, dst, src);
  },
});

export const sseString: readonly InstructionDefinition[] = [
  compareStrings("pcmpestrm", "60", true, false), compareStrings("pcmpestri", "61", true, true),
  compareStrings("pcmpistrm", "62", false, false), compareStrings("pcmpistri", "63", false, true),
  crc32,
];
