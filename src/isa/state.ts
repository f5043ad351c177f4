/** Layout of one processor's architectural and engine state in linear memory. Every back end and snapshot names fields from here. */

/** A field of the state area: byte offset from the processor's base and width in bits. */
export interface StateField {
  readonly name: string;
  readonly offset: number;
  readonly width: 8 | 16 | 32 | 64 | 128;
}

const fields: StateField[] = [];
let cursor = 0;

function field(name: string, width: StateField["width"]): StateField {
  const sizeBytes = width / 8;
  cursor = Math.ceil(cursor / sizeBytes) * sizeBytes;
  const made: StateField = { name, offset: cursor, width };
  cursor += sizeBytes;
  fields.push(made);
  return made;
}

function array(name: string, count: number, width: StateField["width"], strideBytes: number = width / 8): StateField[] {
  cursor = Math.ceil(cursor / strideBytes) * strideBytes;
  return Array.from({ length: count }, (_, index) => {
    const made: StateField = { name: `${name}${index}`, offset: cursor, width };
    cursor += strideBytes;
    fields.push(made);
    return made;
  });
}

export const gpr: readonly StateField[] = array("gpr", 16, 64);

/** Always zero: what an absent base or index register, or an ignored segment base, reads. */
export const zero: StateField = field("zero", 64);
/** Instruction pointer; exact whenever control is outside of generated code. */
export const rip: StateField = field("rip", 64);
/** Instruction pointer of the first instruction of the running block. */
export const ripBase: StateField = field("ripBase", 64);
/** Lazy status flags: ZF, SF and PF derive from this result, sign-extended to 64 bits. See `flagsAux`. */
export const flagsResult: StateField = field("flagsResult", 64);
/**
 * Lazy status flags: bit 31 CF; bit 30 CF xor OF; bit 3 AF; bit 0 inverts the SF, bits 15:8 are xored into the byte
 * whose parity is PF.
 */
export const flagsAux: StateField = field("flagsAux", 32);
/** RFLAGS without the status flags (CF PF AF ZF SF OF) and the fixed bit 1. */
export const systemFlags: StateField = field("systemFlags", 32);

export interface SegmentFields {
  readonly base: StateField;
  readonly limit: StateField;
  /** Descriptor bits 55:40 shifted down by 40 with bits 51:48 cleared (VMX access-rights format); bit 16 = unusable. */
  readonly attributes: StateField;
  readonly selector: StateField;
  /** Offsets below this may be read without a slow check (0 when never). */
  readonly readEnd: StateField;
  /** Offsets below this may be written without a slow check (0 when never). */
  readonly writeEnd: StateField;
}

function segment(name: string): SegmentFields {
  return {
    base: field(`${name}.base`, 64),
    readEnd: field(`${name}.readEnd`, 64),
    writeEnd: field(`${name}.writeEnd`, 64),
    limit: field(`${name}.limit`, 32),
    attributes: field(`${name}.attributes`, 32),
    selector: field(`${name}.selector`, 16),
  };
}

export const segmentNames = ["es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"] as const;
/** Indexed as in ModRM.reg: ES CS SS DS FS GS, then LDTR and TR. */
export const segments: readonly SegmentFields[] = segmentNames.map(segment);

export const gdtrBase: StateField = field("gdtr.base", 64);
export const idtrBase: StateField = field("idtr.base", 64);
export const gdtrLimit: StateField = field("gdtr.limit", 32);
export const idtrLimit: StateField = field("idtr.limit", 32);

export const cr0: StateField = field("cr0", 64);
export const cr2: StateField = field("cr2", 64);
export const cr3: StateField = field("cr3", 64);
export const cr4: StateField = field("cr4", 64);
export const dr: readonly StateField[] = array("dr", 8, 64);
export const xcr0: StateField = field("xcr0", 64);
export const pkru: StateField = field("pkru", 32);
export const cpl: StateField = field("cpl", 32);

/**
 * Vector of the exception that SSE instructions raise before anything else, 0 for none: 6 while CR0.EM = 1 or
 * CR4.OSFXSR = 0, else 7 while CR0.TS = 1. Derived whenever CR0 or CR4 changes.
 */
export const simdFault: StateField = field("simdFault", 32);
/** The same for MMX instructions: 6 while CR0.EM = 1, else 7 while CR0.TS = 1. */
export const mmxFault: StateField = field("mmxFault", 32);

/** All ones where the processor notes opcode and selectors of every x87 instruction (AMD), else 0. A property of the model. */
export const x87NotesMask: StateField = field("x87NotesMask", 16);
/**
 * TOP as x87 instructions left it, but for those that load all of the status word: a guess, which holds if the status word
 * agrees. The status word itself is ready only when the result before it is.
 */
export const x87TopGuess: StateField = field("x87TopGuess", 16);

/** 64 minus the number of linear-address bits: shifting an address up and arithmetically down by it keeps canonical ones. */
export const canonicalShift: StateField = field("canonicalShift", 64);

export const efer: StateField = field("efer", 64);
export const star: StateField = field("star", 64);
export const lstar: StateField = field("lstar", 64);
export const cstar: StateField = field("cstar", 64);
export const fmask: StateField = field("fmask", 64);
export const kernelGsBase: StateField = field("kernelGsBase", 64);
export const sysenterCs: StateField = field("sysenterCs", 64);
export const sysenterEsp: StateField = field("sysenterEsp", 64);
export const sysenterEip: StateField = field("sysenterEip", 64);
export const tscAux: StateField = field("tscAux", 64);
export const pat: StateField = field("pat", 64);

export const x87Control: StateField = field("x87Control", 16);
/** Status word with TOP in bits 13:11. */
export const x87Status: StateField = field("x87Status", 16);
/** One bit per physical register: 1 = not empty (as FXSAVE's abridged tag word). */
export const x87Tag: StateField = field("x87Tag", 16);
export const x87Opcode: StateField = field("x87Opcode", 16);
export const x87InstructionPointer: StateField = field("x87InstructionPointer", 64);
export const x87DataPointer: StateField = field("x87DataPointer", 64);
export const x87InstructionSelector: StateField = field("x87InstructionSelector", 16);
export const x87DataSelector: StateField = field("x87DataSelector", 16);
export const mxcsr: StateField = field("mxcsr", 32);
/** Physical x87 registers R0..R7: 64-bit significand, then sign and exponent in the next 16 bits. MMi is the significand of Ri. */
export const x87: readonly StateField[] = array("x87r", 8, 128, 16);
/** XMM0..15; the stride leaves room for the 512-bit registers. */
export const xmm: readonly StateField[] = array("xmm", 16, 128, 64);

/** Exception raised by the current instruction: its vector, or -1. */
export const exceptionVector: StateField = field("exceptionVector", 32);
export const exceptionErrorCode: StateField = field("exceptionErrorCode", 32);
/** Linear address of the page fault recorded last; CR2 takes it when the fault is delivered. */
export const pageFaultAddress: StateField = field("pageFaultAddress", 64);
/** Instructions without a routine that ask for interception: see `InterceptionMask`. 0 outside of a guest. */
export const interception: StateField = field("interception", 32);
/** Bits of `interruptShadow`. The last is STI's as generated code casts it: it holds for the instruction at `shadowRip`. */
export const ShadowMask = { sti: 1, stackSegment: 2, stiAtRip: 4 } as const;
/** Instruction boundary that blocks interrupts. */
export const interruptShadow: StateField = field("interruptShadow", 32);
export const nmiBlocked: StateField = field("nmiBlocked", 32);
/** RIP of the instruction that an interrupt shadow cast by generated code covers: see `ShadowMask`. */
export const shadowRip: StateField = field("shadowRip", 64);
/** Not 0 while an interrupt or NMI may be waiting: who sets RFLAGS.IF then has to tell the engine. */
export const eventWaiting: StateField = field("eventWaiting", 32);
/**
 * Not 0 while generated code may by itself change the privilege level and RFLAGS.IF: nothing is traced or watched,
 * and no hypervisor wants to know. Derived whenever the mode changes, and between slices.
 */
export const isPlain: StateField = field("isPlain", 32);
/**
 * Not 0 in 32-bit code of legacy protected mode, with a 32-bit stack, whose code segment is all of the address space, while
 * nothing is traced or watched. Derived with the code key.
 */
export const isFlat: StateField = field("isFlat", 32);
/** Not 0 while generated code may deliver page faults, too: it is 64-bit, and no hypervisor intercepts them. */
export const deliversFaults: StateField = field("deliversFaults", 32);
/** How `tlbContext` follows from the privilege level and RFLAGS.AC: bit 0, SMAP is off; bit 1, alignment checking is on. */
export const contextRule: StateField = field("contextRule", 32);
/** Place in linear memory of the VMCS that VMREAD and VMWRITE reach; 0: none, or a guest runs, whose VMREAD and VMWRITE are the extension's. */
export const currentVmcs: StateField = field("currentVmcs", 32);
/** 0 active, 1 halted, 2 shutdown, 3 waiting for SIPI. */
export const activity: StateField = field("activity", 32);

/** Instructions that may still retire before generated code returns. */
export const budget: StateField = field("budget", 32);
/** Low 12 bits of every TLB tag: address-space slot and privilege. */
export const tlbContext: StateField = field("tlbContext", 64);
/** Added to RIP to form the linear address of code: the base of CS, 0 in 64-bit mode. */
export const fetchBase: StateField = field("fetchBase", 64);
/** What besides the linear address selects a decoded block: mode bits and address-space slot. */
export const codeKey: StateField = field("codeKey", 32);
/** Record under execution, valid while a slow path or routine runs and after a fault. */
export const currentRecord: StateField = field("currentRecord", 32);
/** Not 0 after a routine that compiled code must not go on after: it changed code, or something wants attention. */
export const leaveRequested: StateField = field("leaveRequested", 32);
/** Linear address of a slow-path access. */
export const slowAddress: StateField = field("slowAddress", 64);
/**
 * What generated code needs to walk page tables by itself (see `translation-code.ts`). Mode: `WalkMode`.
 * Root: physical address of the top table. Rules: `WalkRule`. Reserved: bits of an entry's upper half that must be 0.
 */
export const walkMode: StateField = field("walkMode", 32);
export const walkRoot: StateField = field("walkRoot", 32);
export const walkRules: StateField = field("walkRules", 32);
export const walkReserved: StateField = field("walkReserved", 32);
/** Guest-physical memory that is in linear memory in one piece: first address, size, and what to add. */
export const ramFirst: StateField = field("ramFirst", 64);
export const ramSize: StateField = field("ramSize", 64);
export const ramAddend: StateField = field("ramAddend", 32);
/** Offset in linear memory of a byte per page of linear memory: not 0 where decoded code depends on it. */
export const codePages: StateField = field("codePages", 32);
/** Result of a walk: guest-physical address, and `WalkResult`. */
export const walkAddress: StateField = field("walkAddress", 64);
export const walkResult: StateField = field("walkResult", 32);
/** Entries of the TLB that have been filled for pages that are not global: their number; they are listed at `localEntriesOffset`. */
export const localEntryCount: StateField = field("localEntryCount", 32);
/** Arguments and results of routines and slow paths. */
export const scratch: readonly StateField[] = array("scratch", 16, 128);

/** All fields in layout order. */
export const stateFields: readonly StateField[] = fields;

/** Size of the register part; the TLB and jump cache follow at the next 4 KiB boundary. */
export const registerAreaSizeBytes: number = Math.ceil(cursor / 4096) * 4096;

/** Direct-mapped TLB: entries of {read tag i64, write tag i64, addend i32, isListed i32, unused}; is the entry among the local ones? */
export const tlbEntries = 4096;
export const tlbEntrySizeBytes = 32;
export const tlbOffset: number = registerAreaSizeBytes;
/** Direct-mapped cache of block entry points: {linear address i64, code key i32, record i32}. */
export const jumpCacheEntries = 65_536;
export const jumpCacheEntrySizeBytes = 16;
export const jumpCacheOffset: number = tlbOffset + tlbEntries * tlbEntrySizeBytes;
/** Numbers of TLB entries, u16: see `localEntryCount`. */
export const localEntriesOffset: number = jumpCacheOffset + jumpCacheEntries * jumpCacheEntrySizeBytes;
/**
 * Large pages are in the TLB as many small ones: regions of 2 MiB that hold such, each at its hash. Words, 0 for none, else the
 * low 32 bits of the linear address shifted down by 21, plus 1.
 */
export const largeRegionsOffset: number = localEntriesOffset + tlbEntries * 2;
export const largeRegionEntries = 2048;
/** What VMREAD and VMWRITE need to know of fields, for generated code: words at numbers made of encodings, see `semantics/vmcs-access.ts`. */
export const vmcsFieldsOffset: number = largeRegionsOffset + largeRegionEntries * 4;
export const vmcsFieldEntries = 1024;
/** What is kept of host and guest while the other one runs, a place for each: see `ModeContext`. */
export const keptContextsOffset: number = vmcsFieldsOffset + vmcsFieldEntries * 4;
export const keptContextSizeBytes = 128;
/** The VMCSs that are active: each a region, and as much again for what the processor keeps about it. */
export const vmcsOffset: number = Math.ceil((keptContextsOffset + 2 * keptContextSizeBytes) / 4096) * 4096;
export const vmcsCount = 64;
export const vmcsSizeBytes = 8192;
/** Of each, behind the region: a word for what VM entry has to check again, and the host's segment registers as exits load them. */
export const vmcsUncheckedOffset = 4096;
export const vmcsHostSegmentsOffset = 4104;
/** Bytes of one processor's area. */
export const processorAreaSizeBytes: number = Math.ceil((vmcsOffset + vmcsCount * vmcsSizeBytes) / 65536) * 65536;
