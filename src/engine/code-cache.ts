/** Decoded blocks: guest code as records in linear memory, found by physical address and mode, void when the code changes. */
import { instruction, Register, Segment, Vector, type InstructionDefinition, type OperandForm, type Variant } from "../isa/definition.ts";
import { maximumInstructionBytes } from "../isa/byte-cursor.ts";
import type { Decoder } from "../isa/decode.ts";
import type { ParsedEncoding } from "../isa/encoding.ts";
import type { DecodedInstruction, MemoryOperand, Operand } from "../isa/operand.ts";
import type { RegisterFile } from "../isa/registers.ts";
import * as state from "../isa/state.ts";
import { x87InstructionWord } from "../isa/x87-instruction-word.ts";
import type { HandlerForm } from "./handler.ts";
import type { RegisteredHandler } from "./handler-registry.ts";
import { SpecialHandler, type Interpreter } from "./interpreter.ts";
import { pageSizeBytes, type PhysicalMemory } from "./physical-memory.ts";
import { PatternFlag, RecordPatterns } from "./record-patterns.ts";
import { HeaderField, operandFields, RecordField, recordSizeBytes } from "./record.ts";

/** What of the processor's mode decoded code depends on. */
export interface CodeMode {
  readonly code: 16 | 32 | 64;
  readonly stack: 16 | 32 | 64;
  readonly isRealOrVirtual8086: boolean;
  /** One instruction per block: single-stepping, breakpoints. */
  readonly single: boolean;
}

/** The mode as a small number, part of every key. */
export function codeModeNumber(mode: CodeMode): number {
  const code = mode.code === 64 ? 2 : mode.code === 32 ? 1 : 0;
  const stack = mode.stack === 64 ? 2 : mode.stack === 32 ? 1 : 0;
  return code | (stack << 2) | (mode.isRealOrVirtual8086 ? 16 : 0) | (mode.single ? 32 : 0);
}

const codeModes = 64;
export const maximumBlockInstructions = 32;
/** More entries than a block has in any machine's life. */
export const neverHot = 0x7fff_ffff;

/** Something that was made from a block and is void with it. */
export interface Dependent {
  blockVoided(): void;
}

export interface Block {
  /** The header; the instructions' records and one that ends the block follow. */
  readonly record: number;
  readonly instructions: number;
  /** Bytes of code, for limit checks. */
  readonly lengthBytes: number;
  /** Range in linear memory; code that crosses into another page has that part in `second`. */
  readonly start: number;
  readonly end: number;
  readonly second: { readonly start: number; readonly end: number } | undefined;
  /** Guest-physical address of the first byte. */
  readonly physical: number;
  /** The mode that it was decoded for, as `codeModeNumber` numbers it. */
  readonly modeNumber: number;
  /** Records that link to this block; undefined for none, as with most. */
  links: number[] | undefined;
  dependents: Set<Dependent> | undefined;
}

/** Blocks that begin in one page, in one mode, by their offset there. */
interface CodePage {
  readonly blocks: Map<number, Block>;
  /** Records there that would link to a block of the page once it exists, by the block's offset. */
  readonly wantedLinks: Map<number, number[]>;
}

function offsetInPage(physical: number): number {
  return physical % pageSizeBytes;
}

function noteLink(to: Block, record: number): void {
  if (to.links === undefined) to.links = [record];
  else to.links.push(record);
}

const foundEntries = 65_536;
const foundWords = 4;

function foundAt(physicalLow: number, modeNumber: number): number {
  return ((physicalLow ^ (physicalLow >>> 16) ^ (modeNumber << 9)) & (foundEntries - 1)) * foundWords;
}

const undefinedOpcode: InstructionDefinition = instruction({
  name: "(undefined)", encodings: [], execute: ({ cpu }) => cpu.raise(Vector.UD),
});
const overlongInstruction: InstructionDefinition = instruction({
  name: "(overlong)", encodings: [], execute: ({ cpu }) => cpu.raise(Vector.GP, 0),
});

/** Where the code at an address is: offset in linear memory, or the bytes themselves when it is not memory. */
export interface CodeSource {
  readonly physical: number;
  /** Translates the first byte of the following page; -1 after recording a fault. */
  nextPage(): number;
  /** Bytes until the segment limit, at least 1. */
  readonly bytesToLimit: number;
}

export class CodeCache {
  readonly #words: Uint32Array;
  readonly #halves: Uint16Array;
  readonly #bytes: Uint8Array;
  readonly #memory: PhysicalMemory;
  readonly #interpreter: Interpreter;
  readonly #decoder: Decoder<InstructionDefinition>;
  readonly #arenaStart: number;
  readonly #arenaEnd: number;
  #next: number;
  /** By the page's number with the mode: small numbers, which make good keys. */
  readonly #pages = new Map<number, CodePage>();
  /** Some blocks, those within one page, by a hash: physical address, its upper half with the mode, record, length. */
  readonly #found = new Uint32Array(foundEntries * foundWords);
  readonly #byRecord = new Map<number, Block>();
  /** Blocks by page of linear memory. */
  readonly #byPage = new Map<number, Set<Block>>();
  readonly #handlers = new Map<ParsedEncoding, Map<number, RegisteredHandler>>();
  readonly #patterns = new RecordPatterns();
  readonly #onProtect: (offset: number) => void;
  readonly #onFlush: () => void;
  /** The block found last has code outside of memory, which may read differently the next time: not to be kept. */
  isVolatile = false;
  /** Entries of a block after which the JIT looks at it. */
  startingHeat: number = neverHot;
  /** The same while instructions are executed one by one. */
  startingHeatOfSteps: number = neverHot;
  /** Machine code of one instruction per handler, kept while somebody profiles. */
  examples: Map<number, Uint8Array> | undefined = undefined;
  readonly counters = { blocks: 0, instructions: 0, invalidations: 0, flushes: 0 };

  constructor(options: {
    memory: PhysicalMemory; interpreter: Interpreter; decoder: Decoder<InstructionDefinition>;
    arenaStart: number; arenaEnd: number; onProtect: (offset: number) => void; onFlush: () => void;
  }) {
    this.#memory = options.memory;
    this.#bytes = options.memory.bytes;
    this.#words = options.memory.words;
    this.#halves = new Uint16Array(options.memory.bytes.buffer);
    this.#interpreter = options.interpreter;
    this.#decoder = options.decoder;
    this.#arenaStart = options.arenaStart;
    this.#arenaEnd = options.arenaEnd;
    this.#next = options.arenaStart;
    this.#onProtect = options.onProtect;
    this.#onFlush = options.onFlush;
    options.memory.onCodeWrite = (offset, sizeBytes) => this.invalidate(offset, sizeBytes);
  }

  /** Record of a block at a physical address that was found before, 0 when it has to be looked for. */
  recent(physical: number, modeNumber: number, bytesToLimit: number): number {
    const low = physical >>> 0, high = Math.floor(physical / 2 ** 32) * codeModes + modeNumber;
    const found = this.#found, at = foundAt(low, modeNumber);
    this.isVolatile = false;
    return found[at] === low && found[at + 1] === high && found[at + 3] <= bytesToLimit ? found[at + 2] : 0;
  }

  #noteFound(block: Block): number {
    if (block.second !== undefined) return block.record;
    const { physical, modeNumber } = block;
    const found = this.#found, at = foundAt(physical >>> 0, modeNumber);
    found[at] = physical >>> 0;
    found[at + 1] = Math.floor(physical / 2 ** 32) * codeModes + modeNumber;
    found[at + 2] = block.record;
    found[at + 3] = block.lengthBytes;
    return block.record;
  }

  #forgetFound(block: Block): void {
    const at = foundAt(block.physical >>> 0, block.modeNumber);
    if (this.#found[at + 2] === block.record) this.#found.fill(0, at, at + foundWords);
  }

  /** Record of the block at a physical address, decoding it if need be; 0 after a fault was recorded by `source`. */
  find(source: CodeSource, mode: CodeMode): number {
    const modeNumber = codeModeNumber(mode);
    this.isVolatile = false;
    const known = this.#blockAt(source.physical, modeNumber);
    if (known !== undefined && known.lengthBytes <= source.bytesToLimit) {
      // The second page's mapping may have changed since: only blocks within one page are known by one address.
      if (known.second === undefined) return this.#noteFound(known);
      const next = source.nextPage();
      if (next < 0) return 0;
      if (this.#memory.readable(next) === known.second.start) return known.record;
    }
    if (this.#next + (maximumBlockInstructions + 3) * recordSizeBytes > this.#arenaEnd) this.flush();
    const block = this.#decode(source, mode, modeNumber);
    if (block === undefined) return 0;
    this.#interpreter.flush();
    if (known !== undefined) this.#remove(known);
    this.isVolatile = block.start === 0 || block.second?.start === 0;
    if (!this.isVolatile) this.#add(block);
    return this.isVolatile ? block.record : this.#noteFound(block);
  }

  #blockAt(physical: number, modeNumber: number): Block | undefined {
    return this.#pages.get(Math.floor(physical / pageSizeBytes) * codeModes + modeNumber)?.blocks.get(offsetInPage(physical));
  }

  /** The page that a physical address lies in. */
  #pageOf(physical: number, modeNumber: number): CodePage {
    const key = Math.floor(physical / pageSizeBytes) * codeModes + modeNumber;
    let page = this.#pages.get(key);
    if (page === undefined) {
      page = { blocks: new Map(), wantedLinks: new Map() };
      this.#pages.set(key, page);
    }
    return page;
  }

  /** After mappings changed: voids the blocks whose code is no longer where it was. */
  forgetMoved(): void {
    for (const block of this.#byRecord.values()) {
      if (block.second !== undefined || this.#memory.readable(block.physical) !== block.start) this.#remove(block);
    }
  }

  /** Forgets all decoded code. Must not be called while a record is being executed. */
  flush(): void {
    this.counters.flushes++;
    for (const page of this.#byPage.keys()) this.#memory.markCode(page * pageSizeBytes, false);
    for (const block of this.#byRecord.values()) this.#voidDependents(block);
    this.#pages.clear();
    this.#byRecord.clear();
    this.#found.fill(0);
    this.#byPage.clear();
    this.#patterns.forget();
    this.#next = this.#arenaStart;
    this.#onFlush();
  }

  /** Place in linear memory of the instruction that a record was made from; 0 when its block is void, lies in two pages, or not in memory. */
  placeOf(record: number): number {
    const block = this.#byRecord.get(record - this.#bytes[record + RecordField.count] * recordSizeBytes);
    return block === undefined || block.second !== undefined || block.end === 0 ? 0 : block.start + this.#halves[(record + RecordField.start) >>> 1];
  }

  /** Voids every block with code in the range; what runs right now leaves after its current instruction. */
  invalidate(offset: number, sizeBytes: number): void {
    const page = Math.floor(offset / pageSizeBytes);
    const blocks = this.#byPage.get(page);
    if (blocks === undefined) return;
    const end = offset + sizeBytes;
    for (const block of blocks) {
      const hit = (block.start < end && offset < block.end) ||
        (block.second !== undefined && block.second.start < end && offset < block.second.end);
      if (hit) this.#remove(block);
    }
  }

  #remove(block: Block): void {
    this.counters.invalidations++;
    for (let index = 0; index < block.instructions + 2; index++) {
      this.#halves[(block.record + index * recordSizeBytes) >>> 1] = SpecialHandler.Invalid;
    }
    this.#byRecord.delete(block.record);
    this.#forgetFound(block);
    this.#voidDependents(block);
    const page = this.#pageOf(block.physical, block.modeNumber), offset = offsetInPage(block.physical);
    if (page.blocks.get(offset) === block) page.blocks.delete(offset);
    this.#unlink(block, page);
    this.#leavePage(block, block.start);
    if (block.second !== undefined) this.#leavePage(block, block.second.start);
  }

  #voidDependents(block: Block): void {
    const { dependents } = block;
    if (dependents === undefined) return;
    block.dependents = undefined;
    for (const dependent of dependents) dependent.blockVoided();
  }

  /** The valid block whose header this is. */
  blockOf(record: number): Block | undefined {
    return this.#byRecord.get(record);
  }

  /** The block that begins `distance` bytes from the beginning of another one in the same page, in the same mode. */
  blockNear(block: Block, distance: number): Block | undefined {
    const physical = block.physical + distance;
    if (Math.floor(physical / pageSizeBytes) !== Math.floor(block.physical / pageSizeBytes)) return undefined;
    return this.#blockAt(physical, block.modeNumber);
  }

  /** Whoever linked to the block looks it up, and is linked again to the one that takes its place. */
  #unlink(block: Block, { wantedLinks }: CodePage): void {
    const { links } = block;
    if (links === undefined) return;
    for (const record of links) this.#words[(record + RecordField.link) >>> 2] = 0;
    const offset = offsetInPage(block.physical), waiting = wantedLinks.get(offset);
    if (waiting === undefined) wantedLinks.set(offset, links);
    else waiting.push(...links);
    block.links = undefined;
  }

  #leavePage(block: Block, offset: number): void {
    const page = Math.floor(offset / pageSizeBytes);
    const blocks = this.#byPage.get(page);
    blocks?.delete(block);
    if (blocks?.size === 0) {
      this.#byPage.delete(page);
      this.#memory.markCode(offset, false);
    }
  }

  #add(block: Block): void {
    this.counters.blocks++;
    this.counters.instructions += block.instructions;
    const page = this.#pageOf(block.physical, block.modeNumber), offset = offsetInPage(block.physical);
    page.blocks.set(offset, block);
    this.#byRecord.set(block.record, block);
    this.#enterPage(block, block.start);
    if (block.second !== undefined) this.#enterPage(block, block.second.start);
    const waiting = page.wantedLinks.get(offset);
    if (waiting !== undefined && block.second === undefined) {
      for (const record of waiting) this.#words[(record + RecordField.link) >>> 2] = block.record;
      block.links = waiting;
      page.wantedLinks.delete(offset);
    }
  }

  #enterPage(block: Block, offset: number): void {
    const page = Math.floor(offset / pageSizeBytes);
    let blocks = this.#byPage.get(page);
    if (blocks === undefined) {
      blocks = new Set();
      this.#byPage.set(page, blocks);
      this.#memory.markCode(offset, true);
      this.#onProtect(offset);
    }
    blocks.add(block);
  }

  #decode(source: CodeSource, mode: CodeMode, modeNumber: number): Block | undefined {
    const at = this.#memory.readable(source.physical);
    const start = offsetInPage(source.physical), inPage = pageSizeBytes - start;
    const available = Math.min(inPage, source.bytesToLimit);
    const isFetched = at === 0;
    const bytes = isFetched ? this.#fetch(source.physical, Math.min(available, maximumInstructionBytes)) : this.#bytes;
    const end = isFetched ? bytes.length : at + available;
    const record = this.#writeHeader(mode);
    // Links stay within a page. Only 64-bit code goes on without a look at the segment limit.
    const page = isFetched || mode.single || mode.code !== 64 ? undefined : this.#pageOf(source.physical, modeNumber);
    let offset = 0, count = 0, ended = false;
    const limit = mode.single || isFetched ? 1 : maximumBlockInstructions;
    while (count < limit && !ended && at + offset < end) {
      const place = this.#next, begin = at + offset;
      const pattern = this.#patterns.find(bytes, begin, end, modeNumber);
      if (pattern >= 0) {
        ended = this.#writeKnown(pattern, bytes, begin, offset, ++count, page, start);
        offset += this.#patterns.lengthBytesOf(pattern);
      } else {
        const rest = bytes.subarray(begin, Math.min(begin + maximumInstructionBytes, end));
        const decoded = this.#decoder.decode(rest, 0, mode.code, mode.isRealOrVirtual8086);
        if (decoded.kind === "truncated") {
          if (count > 0) break;
          this.#next = record;
          return this.#decodeAcross(source, mode, modeNumber, rest);
        }
        count++;
        if (decoded.kind !== "instruction") {
          this.#writeInvalid(decoded.kind, mode, offset, count);
          offset++;
          ended = true;
          break;
        }
        ended = this.#writeRecord(decoded, mode, offset, count, page, start);
        this.#patterns.learn(decoded, rest, this.#words.subarray(place >>> 2, this.#next >>> 2), modeNumber, ended);
        offset += decoded.length;
      }
      this.examples?.set(this.#halves[(place + RecordField.handler) >>> 1], bytes.slice(begin, at + offset));
    }
    this.#writeEnd(offset, count, !ended && offset < inPage ? page : undefined, start);
    this.#halves[(record + HeaderField.instructions) >>> 1] = count;
    return { record, instructions: count, lengthBytes: offset, start: at, end: isFetched ? 0 : at + offset, second: undefined, physical: source.physical, modeNumber, links: undefined, dependents: undefined };
  }

  /** One instruction that continues in the following page, or runs into the segment limit. */
  #decodeAcross(source: CodeSource, mode: CodeMode, modeNumber: number, first: Uint8Array): Block | undefined {
    const at = this.#memory.readable(source.physical);
    if (first.length >= source.bytesToLimit) {
      const record = this.#writeHeader(mode);
      this.#writeInvalid("tooLong", mode, 0, 1);
      this.#writeEnd(first.length, 1, undefined, 0);
      return { record, instructions: 1, lengthBytes: first.length, start: at, end: at === 0 ? 0 : at + first.length, second: undefined, physical: source.physical, modeNumber, links: undefined, dependents: undefined };
    }
    const next = source.nextPage();
    if (next < 0) return undefined;
    const rest = Math.min(15, source.bytesToLimit - first.length);
    const bytes = new Uint8Array(first.length + rest);
    bytes.set(first);
    bytes.set(this.#fetch(next, rest), first.length);
    const decoded = this.#decoder.decode(bytes, 0, mode.code, mode.isRealOrVirtual8086);
    const record = this.#writeHeader(mode);
    let length = 15;
    if (decoded.kind === "instruction") {
      this.#writeRecord(decoded, mode, 0, 1, undefined, 0);
      length = decoded.length;
    } else this.#writeInvalid(decoded.kind === "truncated" ? "tooLong" : decoded.kind, mode, 0, 1);
    this.#writeEnd(length, 1, undefined, 0);
    const secondStart = this.#memory.readable(next);
    return {
      record, instructions: 1, lengthBytes: Math.min(length, source.bytesToLimit), start: at, end: at === 0 ? 0 : at + first.length, physical: source.physical, modeNumber, links: undefined, dependents: undefined,
      second: { start: secondStart, end: secondStart + Math.max(length - first.length, 1) },
    };
  }

  /** The same as `#writeRecord`, of an instruction whose bytes are known, at `begin`. */
  #writeKnown(pattern: number, bytes: Uint8Array, begin: number, offset: number, count: number, page: CodePage | undefined, start: number): boolean {
    const at = this.#next, flags = this.#patterns.flagsOf(pattern);
    this.#next += recordSizeBytes;
    this.#patterns.write(pattern, this.#words, at >>> 2, bytes, begin, offset, count);
    if ((flags & PatternFlag.isRelative) !== 0) this.#linkTarget(at, page, start);
    return (flags & PatternFlag.endsBlock) !== 0;
  }

  #fetch(physical: number, sizeBytes: number): Uint8Array {
    const bytes = new Uint8Array(sizeBytes);
    this.#memory.readRange(physical, bytes);
    return bytes;
  }

  #allocate(handler: number, offset: number, count: number, length: number): number {
    const at = this.#next;
    this.#next += recordSizeBytes;
    for (let word = at >>> 2; word < (at + recordSizeBytes) >>> 2; word++) this.#words[word] = 0;
    this.#halves[(at + RecordField.handler) >>> 1] = handler;
    this.#bytes[at + RecordField.count] = count;
    this.#halves[(at + RecordField.start) >>> 1] = offset;
    this.#halves[(at + RecordField.next) >>> 1] = offset + length;
    return at;
  }

  #writeHeader(mode: CodeMode): number {
    const at = this.#allocate(SpecialHandler.Enter, 0, 1, 0);
    this.#halves[(at + HeaderField.instructions) >>> 1] = 1;
    this.#words[(at + HeaderField.heat) >>> 2] = mode.single ? this.startingHeatOfSteps : this.startingHeat;
    return at;
  }

  /** `page`: where the block goes on, if it is linked; `start` is its own offset there. */
  #writeEnd(offset: number, count: number, page: CodePage | undefined, start: number): void {
    const at = this.#allocate(SpecialHandler.End, offset, count + 1, 0);
    if (page !== undefined) this.#link(at, page, start + offset);
  }

  #writeInvalid(kind: "invalid" | "tooLong", mode: CodeMode, offset: number, count: number): void {
    const definition = kind === "invalid" ? undefinedOpcode : overlongInstruction;
    const variant: Variant = {
      long: mode.code === 64, operandSize: 32, addressSize: mode.code, stackSize: mode.stack, repeat: "none", lock: false,
    };
    const { number } = this.#interpreter.handler({
      definition, operands: [], variant, address: { hasIndex: false, absolute: false, segmentation: variant.long ? "flat" : "checked" },
    });
    this.#allocate(number, offset, count, 1);
  }

  /** `page`: where the block of the branch begins at `start`, if branches there are linked. */
  #linkTarget(record: number, page: CodePage | undefined, start: number): void {
    const target = start + (this.#words[(record + RecordField.immediate) >>> 2] | 0);
    if (page !== undefined && target >= 0 && target < pageSizeBytes) this.#link(record, page, target);
  }

  #link(record: number, page: CodePage, offset: number): void {
    const known = page.blocks.get(offset);
    if (known !== undefined) {
      if (known.second !== undefined) return;
      this.#words[(record + RecordField.link) >>> 2] = known.record;
      return noteLink(known, record);
    }
    const waiting = page.wantedLinks.get(offset);
    if (waiting === undefined) page.wantedLinks.set(offset, [record]);
    else waiting.push(record);
  }

  /** The handler of an instruction. Most forms have been seen before: their key is a number, and no form is made. */
  #handlerOf(decoded: DecodedInstruction<InstructionDefinition>, mode: CodeMode, memory: MemoryOperand | undefined): RegisteredHandler {
    const key = formKey(decoded, mode, memory);
    let handlers = this.#handlers.get(decoded.encoding);
    if (handlers === undefined) {
      handlers = new Map();
      this.#handlers.set(decoded.encoding, handlers);
    }
    const known = handlers.get(key);
    // Processors of other vendors may give the same encoding to another instruction.
    if (known?.handler.form.definition === decoded.instruction) return known;
    const registered = this.#interpreter.handler(handlerFormOf(decoded, mode));
    handlers.set(key, registered);
    return registered;
  }

  /** Returns whether the block ends here. `page`: where the block begins at `start`, if branches there are linked. */
  #writeRecord(
    decoded: DecodedInstruction<InstructionDefinition>, mode: CodeMode, offset: number, count: number,
    page: CodePage | undefined, start: number,
  ): boolean {
    const memory = memoryOperandOf(decoded);
    const { number, handler } = this.#handlerOf(decoded, mode, memory);
    const at = this.#allocate(number, offset, count, decoded.length);
    const next = offset + decoded.length;
    let low = x87InstructionWord(decoded) ?? 0, high = 0, immediateBits = 0;
    let isRelative = false;
    this.#bytes[at + RecordField.segment] = operandSegmentOf(decoded, memory);
    for (let slot = 0; slot < decoded.operands.length; slot++) {
      const operand = decoded.operands[slot];
      switch (operand.kind) {
        case "register":
          this.#halves[(at + operandFields[slot]) >>> 1] = registerOffset(operand);
          break;
        case "memory":
          if (operand !== memory) break;
          this.#writeMemoryOperand(at, operand, decoded, next);
          if (typeof operand.displacement === "bigint") [low, high] = halvesOf(operand.displacement);
          break;
        case "immediate":
          // Several immediates follow each other; together they have at most 32 bits, or it is one of 64.
          if (typeof operand.value === "bigint") [low, high] = halvesOf(operand.value);
          else low |= operand.value << immediateBits;
          immediateBits += operand.widthBits;
          break;
        case "relative":
          isRelative = true;
          low = next + operand.displacement;
          break;
        case "far":
          [low, high] = [operand.offset, operand.selector];
      }
    }
    this.#words[(at + RecordField.immediate) >>> 2] = low;
    this.#words[(at + RecordField.immediate + 4) >>> 2] = high;
    if (isRelative) this.#linkTarget(at, page, start);
    return handler.endsBlock;
  }

  #writeMemoryOperand(at: number, operand: MemoryOperand, decoded: DecodedInstruction<InstructionDefinition>, next: number): void {
    let displacement = typeof operand.displacement === "bigint" ? 0 : operand.displacement;
    if (operand.base === "rip") displacement += next;
    // POP to memory addresses with the stack pointer after the increment (SDM volume 2, "POP").
    if (decoded.instruction.name === "pop" && operand.base === Register.RSP) displacement += operand.widthBits / 8;
    const base = operand.base === "rip" ? state.ripBase : operand.base === undefined ? state.zero : state.gpr[operand.base];
    const index = operand.index === undefined ? state.zero : state.gpr[operand.index];
    this.#halves[(at + RecordField.base) >>> 1] = base.offset;
    this.#halves[(at + RecordField.index) >>> 1] = index.offset;
    this.#bytes[at + RecordField.scale] = operand.scaleLog2;
    this.#words[(at + RecordField.displacement) >>> 2] = displacement >>> 0;
  }
}

/** The operand that segment overrides and "operand" accesses mean: of MOVS and CMPS the source. */
function memoryOperandOf({ operands, encoding }: DecodedInstruction<InstructionDefinition>): MemoryOperand | undefined {
  let destination: MemoryOperand | undefined;
  for (let index = 0; index < operands.length; index++) {
    const operand = operands[index];
    if (operand.kind !== "memory") continue;
    if (encoding.operands[index].source !== "stringDestination") return operand;
    destination = operand;
  }
  return destination;
}

function halvesOf(value: bigint): [low: number, high: number] {
  return [Number(value & 0xffff_ffffn), Number((value >> 32n) & 0xffff_ffffn)];
}

/** Segment of "operand" accesses. XLAT, MASKMOVQ and MASKMOVDQU have one in DS although no operand names it. */
function operandSegmentOf({ segmentOverride }: DecodedInstruction<InstructionDefinition>, memory: MemoryOperand | undefined): number {
  return memory?.segment ?? segmentOverride ?? Segment.DS;
}

function registerOffset(operand: Extract<Operand, { kind: "register" }>): number {
  switch (operand.file) {
    case "gpr": return state.gpr[operand.number].offset + (operand.highByte ? 1 : 0);
    case "xmm": return state.xmm[operand.number].offset;
    case "mmx": return state.x87[operand.number].offset;
    default: return 0;
  }
}

const repeatNumbers = { none: 0, rep: 1, repne: 2 } as const;

/** What of an instruction's form its encoding does not tell, as a number: equal keys of one encoding mean equal forms. */
function formKey({ operands, operandSize, addressSize, repeat, lock, segmentOverride }: DecodedInstruction<InstructionDefinition>, mode: CodeMode, memory: MemoryOperand | undefined): number {
  // Sizes are 16, 32 and 64.
  let key = (mode.code >>> 5) | (mode.stack >>> 5) << 2 | (operandSize >>> 5) << 4 | (addressSize >>> 5) << 6 | repeatNumbers[repeat] << 8;
  if (lock) key |= 1 << 10;
  if (memory?.index !== undefined) key |= 1 << 11;
  if ((memory?.segment ?? segmentOverride ?? Segment.DS) >= Segment.FS) key |= 1 << 12;
  let place = 1 << 13;
  for (const operand of operands) {
    if (operand.kind === "memory") key += place;
    else if (operand.kind === "register" && isNumbered(operand.file)) key += place * 2 * operand.number;
    place *= 32;
  }
  return key;
}

/** Whether the register is part of the handler's form: each has a meaning of its own, or a place that moves. */
function isNumbered(file: RegisterFile): file is Exclude<RegisterFile, "gpr" | "xmm" | "mmx"> {
  return file !== "gpr" && file !== "xmm" && file !== "mmx";
}

function operandFormOf(operand: Operand): OperandForm {
  switch (operand.kind) {
    case "register": {
      const { file, number } = operand;
      const width = operand.widthBits as 64;
      return isNumbered(file) ? { kind: "numbered", file, number, width } : { kind: "register", file, width };
    }
    case "memory": return { kind: "memory", width: operand.widthBits as 64 };
    case "immediate": return { kind: "immediate", width: operand.widthBits as 64 };
    case "relative": return { kind: "relative" };
    case "far": return { kind: "far" };
  }
}

/** The handler form of a decoded instruction in a mode. */
export function handlerFormOf(decoded: DecodedInstruction<InstructionDefinition>, mode: Pick<CodeMode, "code" | "stack">): HandlerForm {
  const long = mode.code === 64;
  const memory = memoryOperandOf(decoded);
  const isAbsolute = memory !== undefined && typeof memory.displacement === "bigint";
  return {
    definition: decoded.instruction,
    operands: decoded.operands.map(operandFormOf),
    variant: {
      long, operandSize: decoded.operandSize, addressSize: decoded.addressSize, stackSize: mode.stack,
      // Forms that do the same share a handler: a guest that varies prefixes must not use their numbers up.
      repeat: decoded.instruction.repeatable === true ? decoded.repeat : "none", lock: decoded.lock,
    },
    address: {
      hasIndex: memory?.index !== undefined,
      absolute: isAbsolute,
      segmentation: !long ? "checked" : operandSegmentOf(decoded, memory) >= Segment.FS ? "based" : "flat",
    },
  };
}
