/** The intermediate representation: a structured list of typed nodes that every back end consumes. */

/** Bits of a value. 8- and 16-bit values are kept zero-extended. */
export type Width = 1 | 8 | 16 | 32 | 64 | 128;

export type BinaryOp =
  | "add" | "sub" | "mul" | "and" | "or" | "xor"
  | "shl" | "shr" | "sar" | "rotl" | "rotr"
  | "mulHighU" | "mulHighS" | "divU" | "divS" | "remU" | "remS";
export type CompareOp = "eq" | "ne" | "ltU" | "leU" | "ltS" | "leS";
export type UnaryOp = "clz" | "ctz" | "popcnt" | "not" | "neg" | "zext" | "sext" | "trunc";

export type Flag = "cf" | "pf" | "af" | "zf" | "sf" | "of";
export const flagNames: readonly Flag[] = ["cf", "pf", "af", "zf", "sf", "of"];

/** A location of the state area, by byte offset. */
export interface StateLocation {
  readonly offset: number;
  readonly width: 8 | 16 | 32 | 64 | 128;
}

/** Whether the bits of `mask` in a location of 32 bits have a certain value. */
export interface StateMatch {
  readonly location: StateLocation;
  readonly mask: number;
  readonly value: number;
}

/** Sums and differences, products, quotients, square roots. */
export type ModerateOperation = "sum" | "product" | "quotient" | "root";

/** A row of equal locations of the state area: `count` of them, the first at `first.offset`, `strideBytes` apart. */
export interface StateRow {
  readonly first: StateLocation;
  readonly strideBytes: number;
  readonly count: number;
}

/** Which segment an access goes through: that of the memory operand, or a fixed one (ES CS SS DS FS GS = 0..5). */
export type SegmentReference = "operand" | 0 | 1 | 2 | 3 | 4 | 5;

/** `readForWrite` checks for writing too, so that the store that follows cannot fault. */
export type AccessIntent = "read" | "readForWrite";

/** Arguments by index are the values in `args`; what is known when the code is generated is in the other properties. */
export type NodeKind =
  | { readonly op: "const"; readonly value: bigint }
  /** The record's immediate, truncated to the width. */
  | { readonly op: "immediate" }
  /** RIP of the next instruction. */
  | { readonly op: "nextRip" }
  /** RIP that a relative branch leads to, not yet wrapped to the operand size. */
  | { readonly op: "branchTarget" }
  /** RIP of this instruction. */
  | { readonly op: "thisRip" }
  | { readonly op: BinaryOp | CompareOp | UnaryOp | "select" }
  /** A SIMD operation named as in the WebAssembly specification, e.g. `i8x16.add_sat_s`. */
  | { readonly op: "vector"; readonly name: string }
  | { readonly op: "extractLane" | "insertLane"; readonly lane: number }
  /** Lanes selected from the concatenation of two vectors by constant byte numbers. */
  | { readonly op: "shuffle"; readonly lanes: readonly number[] }
  | { readonly op: "splat"; readonly laneWidth: 8 | 16 | 32 | 64 }
  /**
   * args: an operation's operands and its result, rounded to nearest. 1 only if the state matches, the result is a normal
   * number of moderate size and no operand is denormal, so that it may be inexact and nothing else; 0 says nothing. See
   * `moderation.ts`.
   */
  | {
    readonly op: "isModerate"; readonly operation: ModerateOperation; readonly format: 32 | 64; readonly isPacked: boolean;
    readonly when: StateMatch;
  }
  /** A scalar IEEE operation on raw bits, named as in the WebAssembly specification, e.g. `f64.add`. */
  | { readonly op: "float"; readonly name: string }
  | { readonly op: "readState"; readonly location: StateLocation }
  /** The bits of a location that are set in `mask`, in their places; the location has at most 32 bits. */
  | { readonly op: "readStateBits"; readonly location: StateLocation; readonly mask: number }
  | { readonly op: "writeState"; readonly location: StateLocation }
  /** The register operand `slot` of the record. */
  | { readonly op: "readRegister"; readonly slot: number }
  | { readonly op: "writeRegister"; readonly slot: number }
  | { readonly op: "readFlag"; readonly flag: Flag }
  /** Whether condition `code` of Jcc, SETcc and CMOVcc holds, 0..15. */
  | { readonly op: "condition"; readonly code: number }
  /** args: one 1-bit value per flag, in the order of `flags`; the other status flags keep their values. */
  | { readonly op: "writeFlags"; readonly flags: readonly Flag[] }
  /**
   * args: result, carry-out vector, and the operands a and b. Sets all six status flags: CF and OF from the top carries,
   * AF from carry 3. With `hasCarryIn` the result is not just a + b or a - b.
   */
  | { readonly op: "arithmeticFlags"; readonly kind: "sum" | "difference"; readonly hasCarryIn: boolean; readonly keepCarry: boolean }
  /** args: result. CF = OF = AF = 0. */
  | { readonly op: "logicFlags" }
  /** Offset of the memory operand within its segment, 64 bits, already wrapped to the address size. */
  | { readonly op: "effectiveAddress" }
  /** args: offset. Linear address, 64 bits. */
  | { readonly op: "linearAddress"; readonly segment: SegmentReference }
  /** args: offset. */
  | { readonly op: "load"; readonly segment: SegmentReference; intent: AccessIntent }
  /** args: offset, value. `prepared` is the readForWrite load of the same offset, when there is one. */
  | { readonly op: "store"; readonly segment: SegmentReference; prepared?: Node }
  /** args: offset. Faults as a store of `sizeBytes` would, and stores nothing. */
  | { readonly op: "checkWrite"; readonly segment: SegmentReference; readonly sizeBytes: number }
  | { readonly op: "if"; readonly then: Node[]; readonly otherwise: Node[] }
  | { readonly op: "variable" }
  | { readonly op: "readVariable" | "writeVariable"; readonly variable: Node }
  /** Ends the instruction with an exception; no state has been committed. */
  | { readonly op: "raise"; readonly vector: number; readonly errorCode: number | undefined }
  /** args: target RIP, 64 bits. Continues there. */
  | { readonly op: "jump" }
  /** Continues at the record's own branch target. */
  | { readonly op: "jumpTarget" }
  /** args: passed through the scratch area. The routine decides by its status how execution goes on. */
  | { readonly op: "routine"; readonly routine: Routine; readonly resultWidths: readonly Width[] }
  /** Result `index` of a routine. args: the routine node. */
  | { readonly op: "routineResult"; readonly index: number }
  /** In a fast path. args: index (32 bits, below the row's count), and the value to write. */
  | { readonly op: "readStateRow" | "writeStateRow"; readonly row: StateRow }
  /** In a fast path of the engine's own: linear memory. args: address there (32 bits), and the value to write. */
  | { readonly op: "readMemory" | "writeMemory" }
  /** In a fast path. args: index. Whether what `note` said last of a row's location was true; 0 where nobody keeps notes. */
  | { readonly op: "isNoted"; readonly row: StateRow }
  /** In a fast path. args: index, and the note, which is known while code is generated. */
  | { readonly op: "note"; readonly row: StateRow }
  /** In a fast path: argument `index` of the routine. */
  | { readonly op: "parameter"; readonly index: number }
  /** In a fast path: ends it. args: not 0 when the routine's work is done, 0 when nothing was. */
  | { readonly op: "answer" };

export type Node = NodeKind & {
  readonly id: number;
  /** Width of the value; 1 for effects, where it means nothing. */
  readonly width: Width;
  readonly args: readonly Node[];
};

/** How execution goes on after a routine or an out-of-line handler. */
export const Status = {
  /** With the next instruction. */
  Next: 0,
  /** At state.rip, in a new block; processor mode or mappings may have changed. */
  Branch: 1,
  /** An exception is recorded in the state; nothing else was committed. */
  Fault: 2,
  /** Leave generated code; state.rip is exact. */
  Exit: 3,
} as const;
export type Status = (typeof Status)[keyof typeof Status];

/**
 * The ordinary cases of a routine. The body ends with an answer on every path. When that is 1 the routine has been
 * carried out, with its results in the scratch slots and status `Next`; when it is 0 nothing has been committed, and `run`
 * is to be asked. An instruction's touches scratch slots, x87 state, MXCSR and the current VMCS, and reads other state: neither memory, nor
 * general or XMM registers, nor status flags, nor the record.
 */
export interface FastPath {
  /** Widths of the routine's arguments. */
  readonly parameters: readonly Width[];
  readonly body: readonly Node[];
  /** Whether every answer is 1. */
  readonly isTotal: boolean;
}

/** Host function behind a `routine` node. `Processor` is opaque here; the isa room gives it its shape. */
export interface Routine {
  readonly name: string;
  // The parameter is contravariant: every room types its own view of the processor.
  readonly run: (processor: never) => Status;
  /** What generated code tries before it calls `run`; the same object at every call. */
  readonly fast?: () => FastPath;
  /** `run` changes nothing but its results: it can be asked again, and while registers are elsewhere. */
  readonly observes?: boolean;
}

/** What one execution of a definition recorded. */
export interface Recording {
  readonly body: readonly Node[];
}
