/** Reads ELF executables for x86: header, program headers and notes (System V gABI, chapters 4 and 5). */
import { UserError } from "../base/errors.ts";
import { alignUp, dataView, hasAsciiAt, hex, readAscii } from "./bytes.ts";

const machine = { i386: 3, x86_64: 62 } as const;
const segmentType = { load: 1, note: 4 } as const;
const typeExecutable = 2;
const typeSharedObject = 3;
const programHeaderCountMaximum = 256;
const noteCountMaximum = 1024;

export interface ElfSegment {
  readonly type: number;
  readonly virtualAddress: number;
  readonly physicalAddress: number;
  readonly bytes: Uint8Array;
  /** In memory; what the file does not hold is zero. */
  readonly sizeBytes: number;
}

export interface ElfNote {
  readonly owner: string;
  readonly type: number;
  readonly content: Uint8Array;
}

export interface ElfImage {
  readonly is64Bit: boolean;
  readonly entry: number;
  /** Segments to load, in the file's order; empty ones are left out. */
  readonly loadSegments: readonly ElfSegment[];
  readonly notes: readonly ElfNote[];
}

function badElf(reason: string): UserError {
  return new UserError("BAD_IMAGE", `this ELF file cannot be booted: ${reason}`);
}

export function isElf(bytes: Uint8Array): boolean {
  return hasAsciiAt(bytes, 0, "\x7fELF");
}

/** Reads the fields of one class; addresses above 2^53 are no memory of ours. */
class ElfReader {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly is64Bit: boolean;

  constructor(bytes: Uint8Array, is64Bit: boolean) {
    this.bytes = bytes;
    this.view = dataView(bytes);
    this.is64Bit = is64Bit;
  }

  word(offset64: number, offset32: number): number {
    if (!this.is64Bit) return this.view.getUint32(offset32, true);
    return Number(this.view.getBigUint64(offset64, true));
  }

  slice(offset: number, sizeBytes: number, what: string): Uint8Array {
    if (offset + sizeBytes > this.bytes.length) throw badElf(`the file is cut off: ${what} ends at ${hex(offset + sizeBytes)}, the file at ${hex(this.bytes.length)}`);
    return this.bytes.subarray(offset, offset + sizeBytes);
  }
}

function readNotes(content: Uint8Array): ElfNote[] {
  const notes: ElfNote[] = [];
  const view = dataView(content);
  let offset = 0;
  while (offset + 12 <= content.length && notes.length < noteCountMaximum) {
    const ownerBytes = view.getUint32(offset, true);
    const contentBytes = view.getUint32(offset + 4, true);
    const contentOffset = offset + 12 + alignUp(ownerBytes, 4);
    if (contentOffset + contentBytes > content.length) break;
    notes.push({
      owner: readAscii(content, offset + 12, ownerBytes),
      type: view.getUint32(offset + 8, true),
      content: content.subarray(contentOffset, contentOffset + contentBytes),
    });
    offset = contentOffset + alignUp(contentBytes, 4);
  }
  return notes;
}

/**
 * Reads an executable.
 * @throws UserError BAD_IMAGE when it is no ELF file for x86, is cut off, or has nothing to load.
 */
export function parseElf(bytes: Uint8Array): ElfImage {
  if (!isElf(bytes)) throw badElf("it has no ELF header");
  if (bytes.length < 52 || (bytes[4] === 2 && bytes.length < 64)) throw badElf(`the file ends after ${bytes.length} bytes, within its header`);
  if ((bytes[4] !== 1 && bytes[4] !== 2) || bytes[5] !== 1) throw badElf("it is not a little-endian file of 32 or 64 bits");
  const is64Bit = bytes[4] === 2;
  const reader = new ElfReader(bytes, is64Bit);
  const type = reader.view.getUint16(16, true);
  const machineType = reader.view.getUint16(18, true);
  if (type !== typeExecutable && type !== typeSharedObject) throw badElf(`its type is ${type}; only executables can be booted`);
  if (machineType !== machine.i386 && machineType !== machine.x86_64) throw badElf(`it is for another processor (machine ${machineType})`);

  const entrySizeBytes = reader.view.getUint16(is64Bit ? 54 : 42, true);
  const count = reader.view.getUint16(is64Bit ? 56 : 44, true);
  const start = reader.word(32, 28);
  if (count > programHeaderCountMaximum) throw badElf(`it has ${count} program headers`);
  if (count > 0 && entrySizeBytes < (is64Bit ? 56 : 32)) throw badElf(`its program headers have ${entrySizeBytes} bytes`);
  reader.slice(start, count * entrySizeBytes, "the program header table");

  const loadSegments: ElfSegment[] = [];
  const notes: ElfNote[] = [];
  for (let i = 0; i < count; i++) {
    const at = start + i * entrySizeBytes;
    const header = {
      type: reader.view.getUint32(at, true),
      offset: reader.word(at + 8, at + 4),
      virtualAddress: reader.word(at + 16, at + 8),
      physicalAddress: reader.word(at + 24, at + 12),
      fileBytes: reader.word(at + 32, at + 16),
      sizeBytes: reader.word(at + 40, at + 20),
    };
    if (header.type === segmentType.note) notes.push(...readNotes(reader.slice(header.offset, header.fileBytes, `note segment ${i}`)));
    if (header.type !== segmentType.load || header.sizeBytes === 0) continue;
    if (header.fileBytes > header.sizeBytes) throw badElf(`segment ${i} has more bytes in the file than in memory`);
    if (!Number.isSafeInteger(header.physicalAddress + header.sizeBytes)) throw badElf(`segment ${i} wants to be loaded at ${hex(header.physicalAddress)}`);
    loadSegments.push({
      type: header.type,
      virtualAddress: header.virtualAddress,
      physicalAddress: header.physicalAddress,
      bytes: reader.slice(header.offset, header.fileBytes, `segment ${i}`),
      sizeBytes: header.sizeBytes,
    });
  }
  if (loadSegments.length === 0) throw badElf("it has no segment to load");
  return { is64Bit, entry: reader.word(24, 24), loadSegments, notes };
}
