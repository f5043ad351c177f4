/**
 * Compares what the host's processor and ours made of a case. Everything counts: outcome, registers, flags, x87, MMX
 * and SSE state, memory. What is excused is excused by a rule of `excuses.ts`, which has a name and a source.
 */
import { excusesOf } from "./excuses.ts";
import type { Form } from "./forms.ts";
import { FxsaveOffset, Outcome, recordBytes, RecordOffset, wroteOutsideFlag } from "./layout.ts";
import type { CaseBatch, CodeBits, RecordBatch, ResultBatch } from "./layout.ts";

export interface Difference {
  /** Register, flag or memory address. */
  readonly field: string;
  readonly host: string;
  readonly ours: string;
}

export interface Comparison {
  readonly differences: readonly Difference[];
  /** Names of the rules that made a difference go away. */
  readonly excused: readonly string[];
}

/** Flags that CPL 3 can change: CF PF AF ZF SF TF DF OF NT AC ID. */
export const comparedFlagsMask = 0x0024_4dd5;

const equal: Comparison = { differences: [], excused: [] };

/** For every 32-bit word of a result, the bits that count. */
function countedBits(bits: CodeBits): Int32Array {
  const mask = new Uint8Array(recordBytes).fill(0xff);
  const ignore = (offset: number, sizeBytes: number): void => void mask.fill(0, offset, offset + sizeBytes);
  const { fxsave } = RecordOffset;
  ignore(RecordOffset.selectors + 12, 4);
  ignore(fxsave + 5, 19);
  ignore(fxsave + 28, 4);
  for (let register = 0; register < 8; register++) ignore(fxsave + FxsaveOffset.st + 16 * register + 10, 6);
  const vectorsEnd = FxsaveOffset.xmm + 16 * (bits === 64 ? 16 : 8);
  ignore(fxsave + vectorsEnd, 512 - vectorsEnd);
  if (bits !== 64) {
    ignore(RecordOffset.fsBase, 16);
    ignore(RecordOffset.gpr + 64, 64);
  }
  const view = new DataView(mask.buffer);
  view.setUint32(RecordOffset.rflags, comparedFlagsMask, true);
  view.setUint32(RecordOffset.rflags + 4, 0, true);
  return new Int32Array(mask.buffer);
}

export class Comparer {
  private readonly mask: Int32Array;
  private readonly bits: CodeBits;

  constructor(bits: CodeBits) {
    this.bits = bits;
    this.mask = countedBits(bits);
  }

  /** Compares record `index` of two results of the same batch. */
  compare(form: Form, cases: CaseBatch, index: number, host: ResultBatch, ours: ResultBatch): Comparison {
    if (this.isSame(index, host, ours)) return equal;
    const excused: string[] = [];
    let differences = this.differences(index, host, ours);
    for (const excuse of excusesOf(form)) {
      const left = differences.filter((difference) => !excuse.covers({ difference, form, cases, index, host, ours }));
      if (left.length < differences.length) excused.push(excuse.name);
      differences = left;
    }
    return { differences, excused };
  }

  private isSame(index: number, host: ResultBatch, ours: ResultBatch): boolean {
    const { mask } = this;
    const start = (index * recordBytes) / 4;
    for (let word = 0; word < mask.length; word++) {
      if (((host.ints[start + word] ^ ours.ints[start + word]) & mask[word]) !== 0) return false;
    }
    return true;
  }

  private differences(index: number, host: ResultBatch, ours: ResultBatch): Difference[] {
    const found: Difference[] = [];
    const hostFields = describe(this.bits, index, host);
    const ourFields = describe(this.bits, index, ours);
    for (const [field, value] of hostFields) {
      const other = ourFields.get(field) ?? "";
      if (value !== other) found.push({ field, host: value, ours: other });
    }
    const hostWindow = host.window(index);
    const ourWindow = ours.window(index);
    for (const [offset, byte] of hostWindow.entries()) {
      if (byte === ourWindow[offset]) continue;
      found.push({ field: `memory+${offset}`, host: hex(byte), ours: hex(ourWindow[offset]) });
    }
    return found;
  }
}

const registerNames: readonly string[] = [
  "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
];
/** Status flags by bit number. */
const flagBits: readonly (readonly [name: string, bit: number])[] = [
  ["cf", 0], ["pf", 2], ["af", 4], ["zf", 6], ["sf", 7], ["tf", 8], ["df", 10], ["of", 11], ["nt", 14], ["ac", 18], ["id", 21],
];

function hex(value: bigint | number): string {
  return `0x${value.toString(16)}`;
}

/** A result's fields by name, memory left out. */
function describe(bits: CodeBits, index: number, result: ResultBatch): Map<string, string> {
  const fields = new Map([
    ["outcome", describeOutcome(index, result)],
    ["rip", hex(result.rip(index))],
    ["cr2", hex(result.cr2(index))],
    ["outside", String(result.resultFlags(index) & wroteOutsideFlag)],
  ]);
  for (const [field, value] of describeState(bits, index, result)) fields.set(field, value);
  return fields;
}

/** Registers and flags of a case or a result, by name. */
export function describeState(bits: CodeBits, index: number, result: RecordBatch): Map<string, string> {
  const fields = new Map<string, string>();
  const count = bits === 64 ? 16 : 8;
  for (let register = 0; register < count; register++) fields.set(registerNames[register], hex(result.gpr(index, register)));
  const flags = result.rflags(index);
  for (const [name, bit] of flagBits) fields.set(name, String((flags >> BigInt(bit)) & 1n));
  for (const [name, selector] of Object.entries(result.selectors(index))) fields.set(name, hex(selector));
  if (bits === 64) {
    fields.set("fsBase", hex(result.words[(index * recordBytes + RecordOffset.fsBase) / 8]));
    fields.set("gsBase", hex(result.words[(index * recordBytes + RecordOffset.gsBase) / 8]));
  }
  const image = result.fxsave(index);
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  fields.set("fcw", hex(view.getUint16(FxsaveOffset.fcw, true)));
  fields.set("fsw", hex(view.getUint16(FxsaveOffset.fsw, true)));
  fields.set("ftw", hex(image[FxsaveOffset.ftw]));
  fields.set("mxcsr", hex(view.getUint32(FxsaveOffset.mxcsr, true)));
  for (let register = 0; register < 8; register++) {
    const at = FxsaveOffset.st + 16 * register;
    fields.set(`st${register}`, `${hex(view.getUint16(at + 8, true))}:${hex(view.getBigUint64(at, true))}`);
  }
  for (let register = 0; register < count; register++) {
    const at = FxsaveOffset.xmm + 16 * register;
    fields.set(`xmm${register}`, hex((view.getBigUint64(at + 8, true) << 64n) | view.getBigUint64(at, true)));
  }
  return fields;
}

function describeOutcome(index: number, result: ResultBatch): string {
  switch (result.outcome(index)) {
    case Outcome.completed:
      return "completed";
    case Outcome.fault:
      return `exception ${result.vector(index)} error ${hex(result.errorCode(index))}`;
    case Outcome.timeout:
      return "timeout";
    default:
      return "rejected";
  }
}
