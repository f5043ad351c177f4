/**
 * What both sides of the differential test agree on: the memory map and segments that a case runs in, and the records
 * in which cases and results travel. `native/runner.c` has the same numbers.
 */

/** Code size of a case: 64-bit mode, or the default operand size of its code segment at CPL 3 in protected mode. */
export type CodeBits = 16 | 32 | 64;

/** Addresses are linear; all mappings are user pages, and nothing else below 4 GiB may be relied upon. */
export const MemoryMap = {
  pageBytes: 4096,
  /** One readable, writable, executable page full of INT3; the pages around it are not mapped. */
  codePage: 0x1000_0000,
  /** Not accessible. */
  guardLow: 0x2000_0000,
  /** Readable and writable, zero outside the window. */
  dataA: 0x2000_1000,
  /** Read only; see `readOnlyByte`. */
  readOnly: 0x2000_2000,
  /** Readable and writable, zero outside the window. */
  dataB: 0x2000_3000,
  /** Not accessible. */
  guardHigh: 0x2000_4000,
  /** Never mapped. */
  unmapped: 0x3000_0000,
} as const;

/** Contents of the read-only page. */
export function readOnlyByte(offset: number): number {
  return (offset * 37 + 11) & 0xff;
}

/** Bytes of data memory that a case gives and a result returns. */
export const windowBytes = 1024;

/** The places of the window: each at one end of a page, so that operands can straddle into another kind of page. */
export const WindowPlace = {
  /** Inaccessible memory below. */
  startOfA: MemoryMap.dataA,
  /** Read-only memory above. */
  endOfA: MemoryMap.dataA + MemoryMap.pageBytes - windowBytes,
  /** Read-only memory below. */
  startOfB: MemoryMap.dataB,
  /** Inaccessible memory above. */
  endOfB: MemoryMap.dataB + MemoryMap.pageBytes - windowBytes,
} as const;

/** An 8-byte segment descriptor as the processor reads it, accessed bit set. */
function descriptor(base: number, limit: number, accessByte: number, flags: number): bigint {
  const low = BigInt(((limit & 0xffff) | ((base & 0xffff) << 16)) >>> 0);
  const high =
    ((base >>> 16) & 0xff) | (accessByte << 8) | (((limit >>> 16) & 0xf) << 16) | (flags << 20) | (base & 0xff00_0000);
  return low | (BigInt(high >>> 0) << 32n);
}

/** Flags nibble: G, D/B, L, AVL. */
const byteGranular16 = 0x0;
const byteGranular32 = 0x4;
const pageGranular32 = 0xc;
const pageGranular64 = 0xa;

/** Descriptors that instructions at CPL 3 can name in the GDT, by index; other entries are system segments of DPL 0. */
export function globalDescriptors(bits: CodeBits): ReadonlyMap<number, bigint> {
  const table = new Map([
    [4, descriptor(0, 0xfffff, 0xfb, pageGranular32)],
    [5, descriptor(0, 0xfffff, 0xf3, pageGranular32)],
    [6, descriptor(0, 0xfffff, 0xfb, pageGranular64)],
  ]);
  if (bits !== 64) {
    table.set(12, descriptor(MemoryMap.dataA, 0xfffff, 0xf3, pageGranular32));
    table.set(13, descriptor(MemoryMap.dataB, 0xfffff, 0xf3, pageGranular32));
  }
  return table;
}

/** Last valid byte of the GDT. */
export const globalDescriptorTableLimit = 0x7f;

/** The LDT, the same for all code sizes. */
export const localDescriptors: readonly bigint[] = [
  descriptor(MemoryMap.dataA, 0x3ff, 0xf3, byteGranular32),
  descriptor(MemoryMap.dataA, 0xfff, 0xf1, byteGranular32),
  descriptor(MemoryMap.dataA, 0x1ff, 0xf7, byteGranular32),
  descriptor(0, 0xfffff, 0xfb, pageGranular32),
  descriptor(MemoryMap.codePage, 0xfff, 0xfb, byteGranular16),
  descriptor(MemoryMap.dataA, 0xfff, 0x73, byteGranular32),
  descriptor(MemoryMap.dataA, 0xffff, 0xf3, byteGranular16),
  descriptor(MemoryMap.dataA, 0x1ff, 0xf7, byteGranular16),
  descriptor(MemoryMap.codePage, 0xfff, 0x7f, byteGranular32),
  descriptor(MemoryMap.codePage, 0xfff, 0xf9, byteGranular32),
];

/** Selectors of the segments above, all with RPL 3. */
export const Selector = {
  code32: 0x23,
  data: 0x2b,
  code64: 0x33,
  /** FS of 32-bit and 16-bit cases: flat from `dataA`. */
  fs32: 0x63,
  /** GS of 32-bit and 16-bit cases: flat from `dataB`. */
  gs32: 0x6b,
  limitedData: 0x07,
  readOnlyData: 0x0f,
  expandDown: 0x17,
  flatCode: 0x1f,
  code16: 0x27,
  absentData: 0x2f,
  data16: 0x37,
  expandDown16: 0x3f,
  absentConforming: 0x47,
  executeOnly: 0x4f,
} as const;

export interface SegmentSelectors {
  readonly ds: number;
  readonly es: number;
  readonly fs: number;
  readonly gs: number;
  readonly cs: number;
  readonly ss: number;
}

/** Segments of a case that does not load its own. In 64-bit mode FS and GS have the case's bases. */
export function defaultSelectors(bits: CodeBits): SegmentSelectors {
  const { data, data16, fs32, gs32 } = Selector;
  switch (bits) {
    case 64:
      return { ds: 0, es: 0, fs: 0, gs: 0, cs: Selector.code64, ss: data };
    case 32:
      return { ds: data, es: data, fs: fs32, gs: gs32, cs: Selector.code32, ss: data };
    case 16:
      return { ds: data16, es: data16, fs: fs32, gs: gs32, cs: Selector.code16, ss: data16 };
  }
}

/** Linear address of offset 0 in the code segment of cases of this size. */
export function codeBase(bits: CodeBits): number {
  return bits === 16 ? MemoryMap.codePage : 0;
}

/** Linear address of offset 0 in DS, ES and SS of cases of this size. */
export function dataBase(bits: CodeBits): number {
  return bits === 16 ? MemoryMap.dataA : 0;
}

/** Offsets in a record. A case's and a result's record differ in the first 24 bytes. */
export const RecordOffset = {
  // Case.
  lengthBytes: 0,
  caseFlags: 1,
  codeOffset: 2,
  windowAddress: 4,
  instruction: 8,
  // Result.
  outcome: 0,
  vector: 1,
  resultFlags: 2,
  errorCode: 4,
  rip: 8,
  cr2: 16,
  // Both.
  rflags: 24,
  fsBase: 32,
  gsBase: 40,
  selectors: 48,
  gpr: 64,
  fxsave: 192,
  window: 704,
} as const;

export const recordBytes = 1728;

/** Offsets in an FXSAVE image (SDM volume 1, "FXSAVE Area"). */
export const FxsaveOffset = { fcw: 0, fsw: 2, ftw: 4, mxcsr: 24, st: 32, xmm: 160 } as const;

/** How a case is entered and left. */
export const CaseFlag = {
  /** End by INT3 instead of a jump: the instruction changes CS, DS, SS or TF. */
  exitByTrap: 1,
  /** Load the record's segment selectors instead of the default ones. */
  loadSegments: 2,
} as const;

/** What became of a case. */
export const Outcome = {
  /** The instruction ended; `rip` is where execution goes on. */
  completed: 0,
  /** It raised the exception `vector`; `rip` is what the exception pushed. */
  fault: 1,
  /** It never ended. */
  timeout: 2,
  /** The case could not be run. */
  rejected: 3,
} as const;

/** The result's processor wrote to the data page outside of the window. */
export const wroteOutsideFlag = 1;

/** Records of cases or results in one buffer, with typed access to the fields both have. */
export class RecordBatch {
  readonly capacity: number;
  readonly bits: CodeBits;
  /** Records in use. */
  count = 0;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** All records as 64-bit words; `recordBytes / 8` words each. */
  readonly words: BigUint64Array;
  /** All records as 32-bit words; `recordBytes / 4` words each. */
  readonly ints: Int32Array;

  constructor(bits: CodeBits, capacity: number) {
    const buffer = new ArrayBuffer(capacity * recordBytes);
    this.bits = bits;
    this.capacity = capacity;
    this.bytes = new Uint8Array(buffer);
    this.view = new DataView(buffer);
    this.words = new BigUint64Array(buffer);
    this.ints = new Int32Array(buffer);
  }

  gpr(index: number, register: number): bigint {
    return this.words[(index * recordBytes + RecordOffset.gpr) / 8 + register];
  }

  rflags(index: number): bigint {
    return this.words[(index * recordBytes + RecordOffset.rflags) / 8];
  }

  selectors(index: number): SegmentSelectors {
    const at = index * recordBytes + RecordOffset.selectors;
    const [ds, es, fs, gs, cs, ss] = [0, 2, 4, 6, 8, 10].map((offset) => this.view.getUint16(at + offset, true));
    return { ds, es, fs, gs, cs, ss };
  }

  fxsave(index: number): Uint8Array {
    const at = index * recordBytes + RecordOffset.fxsave;
    return this.bytes.subarray(at, at + 512);
  }

  window(index: number): Uint8Array {
    const at = index * recordBytes + RecordOffset.window;
    return this.bytes.subarray(at, at + windowBytes);
  }
}

/** What to run. */
export class CaseBatch extends RecordBatch {
  lengthBytes(index: number): number {
    return this.bytes[index * recordBytes + RecordOffset.lengthBytes];
  }

  caseFlags(index: number): number {
    return this.bytes[index * recordBytes + RecordOffset.caseFlags];
  }

  /** Offset of the instruction in the code page. */
  codeOffset(index: number): number {
    return this.view.getUint16(index * recordBytes + RecordOffset.codeOffset, true);
  }

  windowAddress(index: number): number {
    return this.view.getUint32(index * recordBytes + RecordOffset.windowAddress, true);
  }

  instruction(index: number): Uint8Array {
    const at = index * recordBytes + RecordOffset.instruction;
    return this.bytes.subarray(at, at + this.lengthBytes(index));
  }

  /** Instruction pointer at which the case starts, an offset in its code segment. */
  entry(index: number): number {
    return MemoryMap.codePage - codeBase(this.bits) + this.codeOffset(index);
  }
}

/** What came of it: one result per case, at the same index. */
export class ResultBatch extends RecordBatch {
  outcome(index: number): number {
    return this.bytes[index * recordBytes + RecordOffset.outcome];
  }

  vector(index: number): number {
    return this.bytes[index * recordBytes + RecordOffset.vector];
  }

  resultFlags(index: number): number {
    return this.view.getUint16(index * recordBytes + RecordOffset.resultFlags, true);
  }

  errorCode(index: number): number {
    return this.view.getUint32(index * recordBytes + RecordOffset.errorCode, true);
  }

  rip(index: number): bigint {
    return this.words[(index * recordBytes + RecordOffset.rip) / 8];
  }

  cr2(index: number): bigint {
    return this.words[(index * recordBytes + RecordOffset.cr2) / 8];
  }
}

/** What compiled code did in a case. */
export const Way = {
  /** It executed the instruction. */
  executed: "executed",
  /** It came to the instruction's fault, or had a routine raise it. */
  faulted: "faulted",
  /** It left the instruction to the interpreter, as it does with what is rare. */
  handedBack: "handed back",
  /** There was none. */
  absent: "absent",
} as const;
export type Way = (typeof Way)[keyof typeof Way];

/**
 * Anything that can be compared with the host's processor. One instruction of each case is executed at CPL 3 with
 * CR0.AM, CR4.OSFXSR and CR4.OSXMMEXCPT set and IOPL 0; IDT gates 3 and 4 have DPL 3, all others DPL 0.
 */
export interface ProcessorUnderTest {
  readonly name: string;
  /** Of a processor that compiles: what compiled code did in each case of the last `run`. */
  readonly ways?: readonly Way[];
  /** Instructions that the tier under test itself has counted, so that a case cannot pass for it unnoticed. */
  readonly executed: number;
  /** Runs all cases of the batch and fills `results` from index 0. */
  run(cases: CaseBatch, results: ResultBatch): void;
}
