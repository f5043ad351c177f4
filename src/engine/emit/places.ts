/** Where operands, flags and memory are, and how execution goes on: what differs between the tiers. */
import type { Node, StateMatch } from "../../ir/index.ts";
import type { Local } from "../../wasm/index.ts";

export type NodeOf<Op extends Node["op"]> = Extract<Node, { op: Op }>;

/** Nodes whose value comes from outside of the handler's own values. */
export type ReadNode = Extract<Node, {
  op: "immediate" | "nextRip" | "thisRip" | "branchTarget" | "readState" | "readStateBits" | "readRegister" | "readFlag" | "condition" | "effectiveAddress" |
    "linearAddress" | "load" | "routineResult";
}>;

/** Nodes that change state or the way execution goes. */
export type EffectNode = Extract<Node, {
  op: "writeState" | "writeRegister" | "writeFlags" | "arithmeticFlags" | "logicFlags" | "store" | "checkWrite" | "raise" | "jump" |
    "jumpTarget" | "routine";
}>;

/** Nodes that only fast paths of routines have. */
export type FastPathNode = Extract<Node, { op: "parameter" | "readStateRow" | "writeStateRow" | "isNoted" | "note" | "readMemory" | "writeMemory" | "answer" }>;

export interface Places {
  /** A value that is known while code is generated. */
  constant(node: ReadNode | FastPathNode): bigint | undefined;
  /** Pushes the value. A load may put it into `destination` on its way. */
  read(node: ReadNode, destination: Local | undefined): void;
  perform(node: EffectNode): void;
  /** Pushes the value or does the work of a node of a fast path; absent where no fast path is compiled. */
  fastPath?(node: FastPathNode): void;
  /** Whether an operand of `isModerate` is known not to be denormal; without it, none is. */
  isOrdinary?(node: NodeOf<"isModerate">, operand: Node): boolean;
  /** Pushes all ones if the state matches, else 0; without it, the state is asked. */
  matches?(match: StateMatch): void;
  /** Before the condition of an `if` is evaluated, and around each of its bodies. */
  beforeIf(node: NodeOf<"if">): void;
  enterConditional(): void;
  leaveConditional(body: readonly Node[]): void;
}
