/**
 * The oracle: one instruction at a time, evaluated from its IR on big integers, as slowly and plainly as can be. It
 * shares nothing with the interpreter but the recorded definitions, the state layout and the Mmu's checked accesses:
 * operands and addresses come from the decoded instruction, every access goes through all its checks, and each status
 * flag is computed for itself. Flags are kept in the state layout's own encoding (see `flagsAux` in `isa/state.ts`),
 * which `isa/flags.ts` writes from the six values.
 */
import { invariant } from "../base/errors.ts";
import { countOnes, evaluateBinary, evaluateComparison, evaluateUnary, type Flag, type Node, operandsToCheck, type SegmentReference, Status, type Width, windows } from "../ir/index.ts";
import type { Decoder } from "../isa/decode.ts";
import { type InstructionDefinition, Register, Segment, Vector } from "../isa/definition.ts";
import { FlagMask, readFlags, statusFlagsMask, writeFlags } from "../isa/flags.ts";
import type { DecodedInstruction, DecodeResult, MemoryOperand, RegisterOperand } from "../isa/operand.ts";
import type { Processor } from "../isa/processor.ts";
import * as state from "../isa/state.ts";
import { hasRealModeSegments, is64BitMode, SegmentAttribute, stackSizeOf } from "../isa/system/mode.ts";
import { x87InstructionWord } from "../isa/x87-instruction-word.ts";
import { handlerFormOf } from "./code-cache.ts";
import { type Handler, handlerName, makeHandler } from "./handler.ts";
import type { Mmu } from "./mmu.ts";
import { evaluateFloat, evaluateVector, lanesOf, vectorOf } from "./oracle-vectors.ts";
import { pageSizeBytes } from "./physical-memory.ts";
import { RecordField, recordSizeBytes } from "./record.ts";
import { AccessFlag } from "./slow-access.ts";

const longestInstructionBytes = 15;
const valueField: state.StateField = state.scratch[15];

const flagMasks: Readonly<Record<Flag, number>> = {
  cf: FlagMask.CF, pf: FlagMask.PF, af: FlagMask.AF, zf: FlagMask.ZF, sf: FlagMask.SF, of: FlagMask.OF,
};

export interface OracleProcessor extends Processor {
  readonly memory: Mmu;
}

type Decoded = DecodedInstruction<InstructionDefinition>;

export class Oracle {
  /** Instructions evaluated so far. */
  evaluations = 0;
  readonly #processor: OracleProcessor;
  readonly #decoder: Decoder<InstructionDefinition>;
  readonly #recordOffset: number;
  readonly #handlers = new Map<InstructionDefinition, Map<string, Handler>>();

  /** `recordOffset`: a place in linear memory for the one record that says where the instruction is. */
  constructor(processor: OracleProcessor, decoder: Decoder<InstructionDefinition>, recordOffset: number) {
    this.#processor = processor;
    this.#decoder = decoder;
    this.#recordOffset = recordOffset;
  }

  /** Fetches, decodes and executes the instruction at state.rip. After a fault, state.rip is still the instruction's. */
  step(): Status {
    const s = this.#processor.state;
    s.set32(state.currentRecord, 0);
    const decoded = this.#fetch();
    if (decoded === undefined) return Status.Fault;
    if (decoded.kind === "invalid") return this.#processor.raise(Vector.UD);
    if (decoded.kind !== "instruction") return this.#processor.raise(Vector.GP, 0);
    return this.execute(decoded);
  }

  /** Executes an instruction that lies at state.rip. */
  execute(decoded: Decoded): Status {
    this.evaluations++;
    this.#writeRecord(decoded);
    return new Execution(this.#processor, decoded, this.#handlerOf(decoded)).run();
  }

  #fetch(): DecodeResult<InstructionDefinition> | undefined {
    const { state: s, memory } = this.#processor;
    const is64 = is64BitMode(s);
    const rip = s.get64(state.rip);
    const limit = BigInt(s.get32(state.segments[Segment.CS].limit));
    if (!is64 && rip > limit) return { kind: "tooLong" };
    const toLimit = is64 ? BigInt(longestInstructionBytes) : limit - rip + 1n;
    const available = Number(toLimit < longestInstructionBytes ? toLimit : BigInt(longestInstructionBytes));
    const linear = BigInt.asUintN(is64 ? 64 : 32, rip + (is64 ? 0n : s.get64(state.segments[Segment.CS].base)));
    const inPage = Math.min(available, pageSizeBytes - Number(linear & 0xfffn));
    const bytes = new Uint8Array(available);
    const mode = is64 ? 64 : s.get32(state.segments[Segment.CS].attributes) & SegmentAttribute.big ? 32 : 16;
    const decode = (part: Uint8Array): DecodeResult<InstructionDefinition> =>
      this.#decoder.decode(part, 0, mode, hasRealModeSegments(s));
    const first = memory.translateFetch(linear);
    if (first < 0) return undefined;
    memory.physical.readRange(first, bytes.subarray(0, inPage));
    const decoded = decode(bytes.subarray(0, inPage));
    if (decoded.kind !== "truncated" || inPage === available) return decoded;
    const second = memory.translateFetch(BigInt.asUintN(is64 ? 64 : 32, linear + BigInt(inPage)));
    if (second < 0) return undefined;
    memory.physical.readRange(second, bytes.subarray(inPage));
    return decode(bytes);
  }

  #handlerOf(decoded: Decoded): Handler {
    const s = this.#processor.state;
    const form = handlerFormOf(decoded, { code: decoded.mode, stack: stackSizeOf(s) });
    let handlers = this.#handlers.get(form.definition);
    if (handlers === undefined) {
      handlers = new Map();
      this.#handlers.set(form.definition, handlers);
    }
    const name = handlerName(form);
    let handler = handlers.get(name);
    if (handler === undefined) {
      handler = makeHandler(form);
      handlers.set(name, handler);
    }
    return handler;
  }

  /** What routines and the Mmu's faults look up: place, length and segment of the instruction under execution. */
  #writeRecord(decoded: Decoded): void {
    const s = this.#processor.state;
    const at = this.#recordOffset;
    s.u8.fill(0, at, at + recordSizeBytes);
    s.u8[at + RecordField.count] = 1;
    s.u8[at + RecordField.segment] = segmentOf(decoded);
    s.u16[(at + RecordField.next) >>> 1] = decoded.length;
    s.set64(state.ripBase, s.get64(state.rip));
    s.set32(state.currentRecord, at);
  }
}

/** The operand that "operand" accesses mean: of MOVS and CMPS the source. */
function memoryOperandOf({ operands, encoding }: Decoded): MemoryOperand | undefined {
  let found: MemoryOperand | undefined;
  for (const [index, operand] of operands.entries()) {
    if (operand.kind !== "memory") continue;
    if (found === undefined || encoding.operands[index].source !== "stringDestination") found = operand;
  }
  return found;
}

/** Segment of "operand" accesses; XLAT and MASKMOVDQU have no operand that names it. */
function segmentOf(decoded: Decoded): number {
  return memoryOperandOf(decoded)?.segment ?? decoded.segmentOverride ?? Segment.DS;
}

/** All immediates of the instruction in one, the first lowest; far pointers with the selector above 32 bits of offset. */
function immediateOf(decoded: Decoded): bigint {
  let immediate = BigInt(x87InstructionWord(decoded) ?? 0), shift = 0n;
  for (const operand of decoded.operands) {
    if (operand.kind === "immediate") {
      immediate |= BigInt(operand.value) << shift;
      shift += BigInt(operand.widthBits);
    } else if (operand.kind === "far") {
      immediate = (BigInt(operand.selector) << 32n) | BigInt(operand.offset >>> 0);
    } else if (operand.kind === "memory" && typeof operand.displacement === "bigint") {
      immediate = operand.displacement;
    }
  }
  return BigInt.asUintN(64, immediate);
}

function registerField({ file, number, highByte }: RegisterOperand): number {
  switch (file) {
    case "gpr": return state.gpr[number].offset + (highByte ? 1 : 0);
    case "xmm": return state.xmm[number].offset;
    case "mmx": return state.x87[number].offset;
    default: invariant(false, `${file} registers are no operands that code reads`);
  }
}

/** One instruction's evaluation: the values of its nodes, and nothing that outlives it. */
class Execution {
  readonly #processor: OracleProcessor;
  readonly #decoded: Decoded;
  readonly #handler: Handler;
  readonly #values = new Map<Node, bigint>();
  readonly #rip: bigint;
  readonly #isLong: boolean;

  constructor(processor: OracleProcessor, decoded: Decoded, handler: Handler) {
    this.#processor = processor;
    this.#decoded = decoded;
    this.#handler = handler;
    this.#rip = processor.state.get64(state.rip);
    this.#isLong = handler.form.variant.long;
  }

  run(): Status {
    const status = this.#block(this.#handler.body);
    if (status !== undefined) return status;
    this.#processor.state.set64(state.rip, this.#nextRip());
    return Status.Next;
  }

  /** Undefined when execution goes on after the block. */
  #block(block: readonly Node[]): Status | undefined {
    for (const node of block) {
      const status = this.#statement(node);
      if (status !== undefined) return status;
    }
    return undefined;
  }

  #value(node: Node): bigint {
    const value = this.#values.get(node);
    invariant(value !== undefined, `node ${node.id} (${node.op}) is used before it has a value`);
    return value;
  }

  #nextRip(): bigint {
    return BigInt.asUintN(64, this.#rip + BigInt(this.#decoded.length));
  }

  #branchTarget(): bigint {
    const relative = this.#decoded.operands.find((operand) => operand.kind === "relative");
    return BigInt.asUintN(64, this.#nextRip() + BigInt(relative?.displacement ?? 0));
  }

  #statement(node: Node): Status | undefined {
    const s = this.#processor.state;
    const args = (): bigint[] => node.args.map((argument) => this.#value(argument));
    switch (node.op) {
      case "if":
        return this.#block(this.#value(node.args[0]) === 1n ? node.then : node.otherwise);
      case "variable":
        this.#values.set(node, args()[0]);
        return undefined;
      case "writeVariable":
        this.#values.set(node.variable, args()[0]);
        return undefined;
      case "writeState":
        this.#writeBytes(node.location.offset, node.location.width, args()[0]);
        return undefined;
      case "writeRegister":
        this.#writeRegister(node.slot, node.width, args()[0]);
        return undefined;
      case "writeFlags": {
        const mask = node.flags.reduce((sum, flag) => sum | flagMasks[flag], 0);
        const values = node.flags.reduce((sum, flag, index) => sum | (args()[index] === 1n ? flagMasks[flag] : 0), 0);
        writeFlags(s, values, mask);
        return undefined;
      }
      case "arithmeticFlags": {
        const [result, carries] = args();
        this.#arithmeticFlags(node.args[0].width, result, carries, node.keepCarry);
        return undefined;
      }
      case "logicFlags":
        writeFlags(s, resultFlags(node.args[0].width, args()[0]), statusFlagsMask);
        return undefined;
      case "load": return this.#load(node);
      case "store": return this.#store(node, ...(args() as [bigint, bigint]));
      case "checkWrite":
        return this.#place(node.segment, args()[0], node.sizeBytes, true) &&
          this.#processor.memory.slowCheckWrite(node.sizeBytes, accessFlags(node.segment, true)) === 0 ? undefined : Status.Fault;
      case "raise": return this.#processor.raise(node.vector, node.errorCode);
      case "jump":
        s.set64(state.rip, args()[0]);
        return Status.Branch;
      case "jumpTarget":
        s.set64(state.rip, this.#branchTarget());
        return Status.Branch;
      case "routine": return this.#routine(node, args());
      default: {
        const value = this.#compute(node, args());
        invariant(value >= 0n && value >> BigInt(node.width) === 0n, `${node.op} gives ${value}, more than ${node.width} bits`);
        this.#values.set(node, value);
        return undefined;
      }
    }
  }

  #compute(node: Node, args: readonly bigint[]): bigint {
    const { width } = node;
    const [a, b] = args;
    switch (node.op) {
      case "const": return node.value;
      case "immediate": return BigInt.asUintN(width, immediateOf(this.#decoded));
      case "nextRip": return this.#nextRip();
      case "thisRip": return this.#rip;
      case "branchTarget": return this.#branchTarget();
      case "select": return a === 1n ? b : args[2];
      case "zext": return a;
      case "sext": return BigInt.asUintN(width, BigInt.asIntN(node.args[0].width, a));
      case "trunc": return BigInt.asUintN(width, a);
      case "vector": return evaluateVector(node.name, args);
      case "isModerate": return this.#isModerate(node, args) ? 1n : 0n;
      case "float": return evaluateFloat(node.name, args);
      case "extractLane": return lanesOf(a, width)[node.lane];
      case "insertLane": {
        const laneWidth = node.args[1].width;
        return vectorOf(lanesOf(a, laneWidth).with(node.lane, b), laneWidth);
      }
      case "splat": return vectorOf(Array.from({ length: 128 / node.laneWidth }, () => a), node.laneWidth);
      case "shuffle": {
        const bytes = [...lanesOf(a, 8), ...lanesOf(b, 8)];
        return vectorOf(node.lanes.map((lane) => bytes[lane]), 8);
      }
      case "readState": return this.#readBytes(node.location.offset, width);
      case "readStateBits": return this.#readBytes(node.location.offset, node.location.width) & BigInt(node.mask);
      case "readRegister": return this.#readRegister(node.slot, width);
      case "readFlag": return (readFlags(this.#processor.state) & flagMasks[node.flag]) === 0 ? 0n : 1n;
      case "condition": return conditionHolds(readFlags(this.#processor.state), node.code) ? 1n : 0n;
      case "readVariable": return this.#value(node.variable);
      case "effectiveAddress": return this.#effectiveAddress();
      case "linearAddress": return this.#linearAddress(node.segment, a);
      case "routineResult": return this.#readBytes(state.scratch[node.index].offset, width);
      case "clz": case "ctz": case "popcnt": case "not": case "neg": return evaluateUnary(node.op, width, a);
      case "eq": case "ne": case "ltU": case "leU": case "ltS": case "leS":
        return evaluateComparison(node.op, node.args[0].width, a, b) ? 1n : 0n;
      default:
        return evaluateBinary(node.op, width, a, b);
    }
  }

  #isModerate({ operation, format, isPacked, when: { location, mask, value } }: Extract<Node, { op: "isModerate" }>, args: readonly bigint[]): boolean {
    if (Number(this.#readBytes(location.offset, location.width) & BigInt(mask)) !== value) return false;
    const { operand, result } = windows[format];
    const isWithin = (number: bigint, window: bigint): boolean =>
      (isPacked ? lanesOf(number, format) : [number]).every((lane) => (BigInt.asUintN(format, lane * 2n + window) >> BigInt(format - 1)) === 1n);
    const operands = args.slice(0, -1);
    const checked = operandsToCheck(operation, operands.map(() => false)).map((index) => operands[index]);
    return isWithin(args[args.length - 1], result) && checked.every((number) => isWithin(number, operand));
  }

  // --- state ---------------------------------------------------------------------------------------------------------

  #readBytes(offset: number, width: Width): bigint {
    const { base, u8 } = this.#processor.state;
    let value = 0n;
    for (let byte = Math.max(width / 8, 1) - 1; byte >= 0; byte--) value = (value << 8n) | BigInt(u8[base + offset + byte]);
    return BigInt.asUintN(width, value);
  }

  #writeBytes(offset: number, width: number, value: bigint): void {
    const { base, u8 } = this.#processor.state;
    for (let byte = 0; byte < width / 8; byte++) u8[base + offset + byte] = Number((value >> BigInt(byte * 8)) & 0xffn);
  }

  #registerOperand(slot: number): RegisterOperand {
    const operand = this.#decoded.operands[slot];
    invariant(operand.kind === "register", `operand ${slot} is no register`);
    return operand;
  }

  #readRegister(slot: number, width: Width): bigint {
    return this.#readBytes(registerField(this.#registerOperand(slot)), width);
  }

  /** Writing 32 bits of a general register clears the other 32; anything else that is narrower leaves the rest. */
  #writeRegister(slot: number, width: Width, value: bigint): void {
    const operand = this.#registerOperand(slot);
    this.#writeBytes(registerField(operand), operand.file === "gpr" && width === 32 ? 64 : width, value);
  }

  /** CF: carry out of the top bit; OF: it differs from the carry into it; AF: carry out of bit 3. */
  #arithmeticFlags(width: Width, result: bigint, carries: bigint, keepCarry: boolean): void {
    const carry = (bit: number): boolean => ((carries >> BigInt(bit)) & 1n) === 1n;
    let flags = resultFlags(width, result);
    if (carry(width - 1)) flags |= FlagMask.CF;
    if (carry(width - 1) !== carry(width - 2)) flags |= FlagMask.OF;
    if (carry(3)) flags |= FlagMask.AF;
    writeFlags(this.#processor.state, flags, keepCarry ? statusFlagsMask & ~FlagMask.CF : statusFlagsMask);
  }

  // --- memory --------------------------------------------------------------------------------------------------------

  #effectiveAddress(): bigint {
    const { addressSize, instruction, length } = this.#decoded;
    const memory = memoryOperandOf(this.#decoded);
    invariant(memory !== undefined, `${instruction.name} has no memory operand`);
    const register = (number: number): bigint => this.#readBytes(state.gpr[number].offset, 64);
    let sum = BigInt(memory.displacement);
    if (memory.base === "rip") sum += this.#rip + BigInt(length);
    else if (memory.base !== undefined) sum += register(memory.base);
    // POP to an address based on the stack pointer uses it as it is after the increment (SDM volume 2, "POP").
    if (instruction.name === "pop" && memory.base === Register.RSP) sum += BigInt(memory.widthBits / 8);
    if (memory.index !== undefined) sum += register(memory.index) << BigInt(memory.scaleLog2);
    return BigInt.asUintN(addressSize, sum);
  }

  #segmentNumber(segment: SegmentReference): number {
    return segment === "operand" ? segmentOf(this.#decoded) : segment;
  }

  #linearAddress(segment: SegmentReference, offset: bigint): bigint {
    const number = this.#segmentNumber(segment);
    const base = this.#isLong && number < Segment.FS ? 0n : this.#processor.state.get64(state.segments[number].base);
    return BigInt.asUintN(this.#isLong ? 64 : 32, base + offset);
  }

  /** Checks the segment and leaves the linear address where the Mmu looks for it; false after a fault. */
  #place(segment: SegmentReference, offset: bigint, sizeBytes: number, forWrite: boolean): boolean {
    const { memory, state: s } = this.#processor;
    if (!this.#isLong && memory.linear(this.#segmentNumber(segment), offset, sizeBytes, forWrite ? "write" : "read") === undefined) {
      return false;
    }
    s.set64(state.slowAddress, this.#linearAddress(segment, offset));
    return true;
  }

  #load(node: Extract<Node, { op: "load" }>): Status | undefined {
    const { memory } = this.#processor;
    const sizeBytes = node.width / 8, forWrite = node.intent === "readForWrite";
    if (!this.#place(node.segment, this.#value(node.args[0]), sizeBytes, forWrite)) return Status.Fault;
    if (memory.slowLoad(sizeBytes, accessFlags(node.segment, forWrite)) !== 0) return Status.Fault;
    this.#values.set(node, this.#readBytes(valueField.offset, node.width));
    return undefined;
  }

  #store(node: Extract<Node, { op: "store" }>, offset: bigint, value: bigint): Status | undefined {
    const { width } = node.args[1];
    if (!this.#place(node.segment, offset, width / 8, true)) return Status.Fault;
    this.#writeBytes(valueField.offset, width, value);
    return this.#processor.memory.slowStore(width / 8, accessFlags(node.segment, true)) === 0 ? undefined : Status.Fault;
  }

  // --- routines ------------------------------------------------------------------------------------------------------

  #routine(node: Extract<Node, { op: "routine" }>, args: readonly bigint[]): Status | undefined {
    for (const [index, value] of args.entries()) {
      this.#writeBytes(state.scratch[index].offset, node.args[index].width === 128 ? 128 : 64, value);
    }
    const status = (node.routine.run as (processor: Processor) => Status)(this.#processor);
    // Results are read from the scratch slots by nodes of their own.
    this.#values.set(node, 0n);
    if (status === Status.Next) return undefined;
    if (status === Status.Exit) this.#processor.state.set64(state.rip, this.#nextRip());
    return status;
  }
}

function accessFlags(segment: SegmentReference, forWrite: boolean): number {
  return (forWrite ? AccessFlag.write : 0) | (segment === Segment.SS ? AccessFlag.stackSegment : 0) |
    (segment === "operand" ? AccessFlag.operandSegment : 0);
}

/** SDM volume 1, appendix B: "EFLAGS Condition Codes". */
function conditionHolds(flags: number, code: number): boolean {
  const has = (mask: number): boolean => (flags & mask) !== 0;
  const isLess = has(FlagMask.SF) !== has(FlagMask.OF);
  const holds = [
    has(FlagMask.OF), has(FlagMask.CF), has(FlagMask.ZF), has(FlagMask.CF) || has(FlagMask.ZF),
    has(FlagMask.SF), has(FlagMask.PF), isLess, has(FlagMask.ZF) || isLess,
  ][code >> 1];
  return holds !== ((code & 1) !== 0);
}

/** ZF, SF and PF of a result. */
function resultFlags(width: Width, result: bigint): number {
  let flags = result === 0n ? FlagMask.ZF : 0;
  if ((result >> BigInt(width - 1)) & 1n) flags |= FlagMask.SF;
  if (countOnes(result & 0xffn) % 2 === 0) flags |= FlagMask.PF;
  return flags;
}
