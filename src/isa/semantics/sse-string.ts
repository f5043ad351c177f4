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

/** Elements of a scratch slot as numbers. */
function elements(view: StateView, slot: number, control: number): number[] {
  const hasWords = (control & Control.words) !== 0;
  const isSigned = (control & Control.signed) !== 0;
  const count = hasWords ? 8 : 16;
  const first = view.base + state.scratch[slot].offset;
  const unused = hasWords ? 16 : 24;
  return Array.from({ length: count }, (_, index) => {
    const element = hasWords ? view.u16[(first >>> 1) + index] : view.u8[first + index];
    return isSigned ? (element << unused) >> unused : element;
  });
}

/** IntRes1: one bit per element of `b`; `aLength` and `bLength` elements are valid. */
function aggregate(a: readonly number[], b: readonly number[], aLength: number, bLength: number, aggregation: number): number {
  const count = a.length;
  let result = 0;
  for (let position = 0; position < count; position++) {
    if (holdsAt(position, a, b, aLength, bLength, aggregation)) result |= 1 << position;
  }
  return result;
}

function holdsAt(
  position: number, a: readonly number[], b: readonly number[], aLength: number, bLength: number, aggregation: number,
): boolean {
  switch (aggregation) {
    case Aggregation.equalAny: {
      if (position >= bLength) return false;
      const found = a.indexOf(b[position]);
      return found >= 0 && found < aLength;
    }
    case Aggregation.ranges:
      if (position >= bLength) return false;
      for (let index = 0; index + 1 < aLength; index += 2) {
        if (a[index] <= b[position] && b[position] <= a[index + 1]) return true;
      }
      return false;
    case Aggregation.equalEach:
      if (position >= aLength || position >= bLength) return position >= aLength && position >= bLength;
      return a[position] === b[position];
    default:
      for (let index = 0; index < aLength && position + index < a.length; index++) {
        if (position + index >= bLength || a[index] !== b[position + index]) return false;
      }
      return true;
  }
}

/** |length| of an explicit length, at most `count`. */
function explicitLength(length: bigint, count: number): number {
  const magnitude = length < 0n ? -length : length;
  return magnitude < BigInt(count) ? Number(magnitude) : count;
}

function implicitLength(values: readonly number[]): number {
  const end = values.indexOf(0);
  return end < 0 ? values.length : end;
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

/** Arguments: the two operands, the immediate, and two signed lengths where they are explicit. */
function comparison(name: string, isExplicit: boolean, wantsIndex: boolean): Routine {
  return routine(name, (p) => {
    const view = p.state;
    const control = view.argument32(2);
    const a = elements(view, 0, control), b = elements(view, 1, control);
    const count = a.length;
    const aLength = isExplicit ? explicitLength(BigInt.asIntN(64, view.argument64(3)), count) : implicitLength(a);
    const bLength = isExplicit ? explicitLength(BigInt.asIntN(64, view.argument64(4)), count) : implicitLength(b);
    let result = aggregate(a, b, aLength, bLength, (control >> Control.aggregationShift) & 3);
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

/** Memory need not be aligned. */
function compareStrings(name: string, opcode: string, isExplicit: boolean, wantsIndex: boolean): InstructionDefinition {
  const exact = comparison(name, isExplicit, wantsIndex);
  return sseInstruction({
    name, feature: "sse4_2", encodings: [`66 0F 3A ${opcode} /r ib Vdq,Wdq,Ib`],
    execute({ cpu, dst, src, variant }) {
      const a = dst.as(128).read(), b = src.as(128).read();
      const lengthWidth = variant.operandSize === 64 ? 64 : 32;
      const length = (register: number): Bits<64> => (cpu.gpr(register, lengthWidth).read() as Bits).sext(64);
      const lengths = isExplicit ? [length(Register.RAX), length(Register.RDX)] : [];
      const [result, flags] = cpu.call(exact, [a, b, immediateByte(cpu), ...lengths], [wantsIndex ? 32 : 128, 32]);
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
