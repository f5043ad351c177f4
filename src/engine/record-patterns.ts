/**
 * Records by the bytes they come from: code repeats itself, and an instruction that differs from one decoded before in
 * its displacement and immediate alone need not be decoded. What is known is learned from the decoder's own results.
 */
import type { InstructionDefinition } from "../isa/definition.ts";
import type { DecodedInstruction } from "../isa/operand.ts";
import { RecordField, recordSizeBytes } from "./record.ts";

const recordWords = recordSizeBytes / 4;
const [startWord, displacementWord, immediateWord] = [RecordField.start, RecordField.displacement, RecordField.immediate].map((at) => at / 4);
const countShift = (RecordField.count % 4) * 8;

/** Words of a pattern: the record as it is in any place, with zeros for what depends on that, and how to complete it. */
const PatternWord = { lengthBytes: recordWords, displacementBytes: recordWords + 1, immediateBytes: recordWords + 2, immediateMask: recordWords + 3, flags: recordWords + 4 };
const patternWords = recordWords + 5;

/** What else there is to know of an instruction with a pattern. */
export const PatternFlag = {
  endsBlock: 1,
  /** The immediate word is a branch's target, relative to the block. */
  isRelative: 2,
  /** The displacement counts from the following instruction. */
  isRipRelative: 4,
  /** The immediate's upper half is its sign. */
  isSignExtended: 8,
} as const;

/** Modes, without that of single steps: it changes no record. */
const rootCount = 32;
const nodeEntries = 256;
const maximumNodes = 4096;
const maximumPatterns = 16_384;

export class RecordPatterns {
  /** A tree by byte: 0 is unknown, positive the next node, negative the complement of a pattern. The first nodes are roots, by mode. */
  #nodes = new Int32Array(rootCount * 4 * nodeEntries);
  #nodeCount = rootCount;
  #patterns = new Int32Array(1024 * patternWords);
  #patternCount = 0;

  /** The pattern of the instruction at `at`; -1 when none is known or the instruction does not end before `end`. */
  find(bytes: Uint8Array, at: number, end: number, modeNumber: number): number {
    const nodes = this.#nodes;
    let node = modeNumber % rootCount;
    for (let position = at; position < end; position++) {
      const next = nodes[node * nodeEntries + bytes[position]];
      if (next === 0) return -1;
      if (next > 0) node = next;
      else return at + this.#patterns[~next * patternWords + PatternWord.lengthBytes] <= end ? ~next : -1;
    }
    return -1;
  }

  get sizeBytes(): number {
    return this.#nodes.byteLength + this.#patterns.byteLength;
  }

  lengthBytesOf(pattern: number): number {
    return this.#patterns[pattern * patternWords + PatternWord.lengthBytes];
  }

  /** In `PatternFlag`s. */
  flagsOf(pattern: number): number {
    return this.#patterns[pattern * patternWords + PatternWord.flags];
  }

  /** Writes the record, `at` words from the beginning, of the instruction whose bytes begin at `from`. */
  write(pattern: number, words: Uint32Array, at: number, bytes: Uint8Array, from: number, offset: number, count: number): void {
    const patterns = this.#patterns, first = pattern * patternWords;
    const next = offset + patterns[first + PatternWord.lengthBytes], flags = patterns[first + PatternWord.flags];
    for (let word = 0; word < recordWords; word++) words[at + word] = patterns[first + word];
    words[at] |= count << countShift;
    words[at + startWord] = offset | (next << 16);
    const immediateBytes = patterns[first + PatternWord.immediateBytes], displacementBytes = patterns[first + PatternWord.displacementBytes];
    const immediateAt = from + next - offset - immediateBytes;
    if (displacementBytes !== 0) {
      const displacement = signedAt(bytes, immediateAt - displacementBytes, displacementBytes);
      words[at + displacementWord] += displacement + ((flags & PatternFlag.isRipRelative) === 0 ? 0 : next);
    }
    if (immediateBytes === 0) return;
    if (immediateBytes === 8) {
      words[at + immediateWord] = signedAt(bytes, immediateAt, 4);
      words[at + immediateWord + 1] = signedAt(bytes, immediateAt + 4, 4);
      return;
    }
    const immediate = signedAt(bytes, immediateAt, immediateBytes);
    words[at + immediateWord] = (flags & PatternFlag.isRelative) === 0 ? immediate & patterns[first + PatternWord.immediateMask] : next + immediate;
    if ((flags & PatternFlag.isSignExtended) !== 0) words[at + immediateWord + 1] = immediate >> 31;
  }

  /** Takes over the record of a decoded instruction. */
  learn(decoded: DecodedInstruction<InstructionDefinition>, bytes: Uint8Array, record: Uint32Array, modeNumber: number, endsBlock: boolean): void {
    const completion = completionOf(decoded);
    if (completion === undefined) return;
    const { length, displacementBytes, immediateBytes } = decoded;
    const opcodeEnd = length - displacementBytes - immediateBytes;
    if (this.#patternCount === maximumPatterns || this.#nodeCount + length > maximumNodes) this.forget();
    const leaf = this.#leafOf(bytes, opcodeEnd, modeNumber);
    if (this.#patterns.length < (this.#patternCount + 1) * patternWords) this.#patterns = grown(this.#patterns);
    const patterns = this.#patterns, first = this.#patternCount * patternWords;
    patterns.set(record, first);
    const next = patterns[first + startWord] >>> 16;
    patterns[first] &= ~(0xff << countShift);
    patterns[first + startWord] = 0;
    if (displacementBytes !== 0) {
      patterns[first + displacementWord] -= signedAt(bytes, opcodeEnd, displacementBytes) + (completion.flags & PatternFlag.isRipRelative ? next : 0);
    }
    if (immediateBytes !== 0) patterns.fill(0, first + immediateWord, first + immediateWord + 2);
    patterns[first + PatternWord.lengthBytes] = length;
    patterns[first + PatternWord.displacementBytes] = displacementBytes;
    patterns[first + PatternWord.immediateBytes] = immediateBytes;
    patterns[first + PatternWord.immediateMask] = completion.immediateMask;
    patterns[first + PatternWord.flags] = completion.flags | (endsBlock ? PatternFlag.endsBlock : 0);
    this.#nodes[leaf] = ~this.#patternCount++;
  }

  /** Index of the entry that the bytes lead to; there are nodes for all of them afterwards. */
  #leafOf(bytes: Uint8Array, end: number, modeNumber: number): number {
    let entry = (modeNumber % rootCount) * nodeEntries + bytes[0];
    for (let position = 1; position < end; position++) {
      if (this.#nodes[entry] === 0) {
        if (this.#nodes.length < (this.#nodeCount + 1) * nodeEntries) this.#nodes = grown(this.#nodes);
        this.#nodes[entry] = this.#nodeCount++;
      }
      entry = this.#nodes[entry] * nodeEntries + bytes[position];
    }
    return entry;
  }

  forget(): void {
    this.#nodes.fill(0);
    this.#nodeCount = rootCount;
    this.#patternCount = 0;
  }
}

function grown(words: Int32Array<ArrayBuffer>): Int32Array<ArrayBuffer> {
  const larger = new Int32Array(words.length * 2);
  larger.set(words);
  return larger;
}

/** A little-endian number of 1, 2 or 4 bytes. */
function signedAt(bytes: Uint8Array, at: number, sizeBytes: number): number {
  if (sizeBytes === 1) return (bytes[at] << 24) >> 24;
  if (sizeBytes === 2) return ((bytes[at] << 16) | (bytes[at + 1] << 24)) >> 16;
  return bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24);
}

/** How displacement and immediate get into the record; undefined where the immediate is more than one number. */
function completionOf({ operands, encoding, immediateBytes }: DecodedInstruction<InstructionDefinition>): { flags: number; immediateMask: number } | undefined {
  let flags = 0, immediateMask = -1, immediates = 0;
  for (const [slot, operand] of operands.entries()) {
    const { source, immediate } = encoding.operands[slot];
    if (operand.kind === "memory" && operand.base === "rip") flags |= PatternFlag.isRipRelative;
    if (source === "relative") {
      immediates++;
      flags |= PatternFlag.isRelative;
    } else if (source === "immediate") {
      immediates++;
      if (operand.widthBits === 64) flags |= PatternFlag.isSignExtended;
      else immediateMask = lowMask(immediate.isSigned ? operand.widthBits : immediateBytes * 8);
    }
  }
  // Not so: far pointers, offsets, registers named by an immediate, and the two immediates of ENTER, EXTRQ and INSERTQ.
  return immediates === (immediateBytes === 0 ? 0 : 1) ? { flags, immediateMask } : undefined;
}

function lowMask(bits: number): number {
  return bits === 32 ? -1 : (1 << bits) - 1;
}
