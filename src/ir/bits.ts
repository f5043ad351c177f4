/** Typed values of the IR: `Bits<64>` plus `Bits<8>` does not compile, and does not record either. */
import { invariant } from "../base/errors.ts";
import type { BinaryOp, CompareOp, FastPath, Flag, Node, NodeKind, ModerateOperation, StateLocation, StateMatch, StateRow, UnaryOp, Width } from "./node.ts";

/** Collects nodes while a definition runs. */
export class Recorder {
  #nextId = 0;
  #block: Node[] = [];

  get body(): Node[] {
    return this.#block;
  }

  emit(kind: NodeKind, width: Width, args: readonly Node[] = []): Node {
    const node = Object.assign({ id: this.#nextId++, width, args }, kind) as Node;
    this.#block.push(node);
    return node;
  }

  /** Records what `action` emits into a block of its own. */
  nested(action: () => void): Node[] {
    const outer = this.#block;
    const inner: Node[] = [];
    this.#block = inner;
    try {
      action();
    } finally {
      this.#block = outer;
    }
    return inner;
  }
}

let current: Recorder | undefined;

/** The recorder of the definition that is running. */
export function recorder(): Recorder {
  invariant(current !== undefined, "IR is recorded only inside record()");
  return current;
}

/** Runs `action` and returns the nodes it recorded. */
export function record(action: () => void): Node[] {
  const outer = current;
  current = new Recorder();
  try {
    action();
    return current.body;
  } finally {
    current = outer;
  }
}

export type Operandish<W extends Width> = Bits<W> | number | bigint;

/** An immutable value of W bits. */
export class Bits<W extends Width = Width> {
  readonly width: W;
  readonly node: Node;

  constructor(node: Node) {
    this.node = node;
    this.width = node.width as W;
  }

  #binary(op: BinaryOp, other: Operandish<W>): Bits<W> {
    return value({ op }, this.width, this, coerce(this.width, other));
  }

  #compare(op: CompareOp, other: Operandish<W>): Bits<1> {
    return value({ op }, 1, this, coerce(this.width, other));
  }

  #unary(op: UnaryOp): Bits<W> {
    return value({ op }, this.width, this);
  }

  add(other: Operandish<W>): Bits<W> { return this.#binary("add", other); }
  sub(other: Operandish<W>): Bits<W> { return this.#binary("sub", other); }
  mul(other: Operandish<W>): Bits<W> { return this.#binary("mul", other); }
  and(other: Operandish<W>): Bits<W> { return this.#binary("and", other); }
  or(other: Operandish<W>): Bits<W> { return this.#binary("or", other); }
  xor(other: Operandish<W>): Bits<W> { return this.#binary("xor", other); }
  /** Shifts and rotates by `count` modulo nothing: the count must be below the width. */
  shl(count: Operandish<W>): Bits<W> { return this.#binary("shl", count); }
  shr(count: Operandish<W>): Bits<W> { return this.#binary("shr", count); }
  sar(count: Operandish<W>): Bits<W> { return this.#binary("sar", count); }
  rotl(count: Operandish<W>): Bits<W> { return this.#binary("rotl", count); }
  rotr(count: Operandish<W>): Bits<W> { return this.#binary("rotr", count); }
  /** Upper half of the product; width 64 only. */
  mulHighU(other: Operandish<W>): Bits<W> { return this.#binary("mulHighU", other); }
  mulHighS(other: Operandish<W>): Bits<W> { return this.#binary("mulHighS", other); }
  /** Divisions: the divisor must not be 0 nor the quotient overflow; widths 32 and 64. */
  divU(other: Operandish<W>): Bits<W> { return this.#binary("divU", other); }
  divS(other: Operandish<W>): Bits<W> { return this.#binary("divS", other); }
  remU(other: Operandish<W>): Bits<W> { return this.#binary("remU", other); }
  remS(other: Operandish<W>): Bits<W> { return this.#binary("remS", other); }

  eq(other: Operandish<W>): Bits<1> { return this.#compare("eq", other); }
  ne(other: Operandish<W>): Bits<1> { return this.#compare("ne", other); }
  ltU(other: Operandish<W>): Bits<1> { return this.#compare("ltU", other); }
  leU(other: Operandish<W>): Bits<1> { return this.#compare("leU", other); }
  ltS(other: Operandish<W>): Bits<1> { return this.#compare("ltS", other); }
  leS(other: Operandish<W>): Bits<1> { return this.#compare("leS", other); }
  isZero(): Bits<1> { return this.eq(0); }

  not(): Bits<W> { return this.#unary("not"); }
  neg(): Bits<W> { return this.#unary("neg"); }
  clz(): Bits<W> { return this.#unary("clz"); }
  ctz(): Bits<W> { return this.#unary("ctz"); }
  popcnt(): Bits<W> { return this.#unary("popcnt"); }

  /** Zero-extends; the same width is a no-op. */
  zext<T extends Width>(width: T): Bits<T> { return this.#extend("zext", width); }
  /** Sign-extends; the same width is a no-op. */
  sext<T extends Width>(width: T): Bits<T> { return this.#extend("sext", width); }
  /** Keeps the low bits; the same width is a no-op. */
  trunc<T extends Width>(width: T): Bits<T> {
    invariant(width <= this.width, `trunc from ${this.width} to ${width}`);
    return (this.width as Width) === width ? (this as unknown as Bits<T>) : value({ op: "trunc" }, width, this);
  }

  #extend<T extends Width>(op: "zext" | "sext", width: T): Bits<T> {
    invariant(width >= this.width, `${op} from ${this.width} to ${width}`);
    return (this.width as Width) === width ? (this as unknown as Bits<T>) : value({ op }, width, this);
  }

  /** Bit `index` as a 1-bit value. */
  bit(index: number): Bits<1> {
    return index === 0 ? this.trunc(1) : this.shr(index).trunc(1);
  }

  sign(): Bits<1> { return this.bit(this.width - 1); }

  /** For a 1-bit value: `this ? whenTrue : whenFalse`, both evaluated. */
  select<T extends Width>(whenTrue: Bits<T>, whenFalse: Operandish<T>): Bits<T> {
    const otherwise = coerce(whenTrue.width, whenFalse);
    return value({ op: "select" }, whenTrue.width, this, whenTrue, otherwise);
  }

  /** A lane of a 128-bit value. */
  lane<T extends 8 | 16 | 32 | 64>(width: T, lane: number): Bits<T> {
    return value({ op: "extractLane", lane }, width, this);
  }

  /** This 128-bit value with one lane replaced. */
  withLane(lane: number, replacement: Bits<8> | Bits<16> | Bits<32> | Bits<64>): Bits<128> {
    return value({ op: "insertLane", lane }, 128, this, replacement as Bits);
  }
}

function value<W extends Width>(kind: NodeKind, width: W, ...args: readonly Bits[]): Bits<W> {
  const op = kind.op;
  if (args.length === 2 && op !== "insertLane" && op !== "vector" && op !== "shuffle" && op !== "float") {
    invariant(args[0].width === args[1].width, `${op} of ${args[0].width} and ${args[1].width} bits`);
  }
  return new Bits<W>(recorder().emit(kind, width, args.map((argument) => argument.node)));
}

export function constant<W extends Width>(width: W, bits: number | bigint): Bits<W> {
  return value({ op: "const", value: BigInt.asUintN(width, BigInt(bits)) }, width);
}

function coerce<W extends Width>(width: W, operand: Operandish<W>): Bits<W> {
  return typeof operand === "object" ? operand : constant(width, operand);
}

/** A SIMD operation on 128-bit values, named as in WebAssembly (`i16x8.mul`); shifts take a 32-bit count. */
export function vector(name: string, ...args: readonly Bits[]): Bits<128> {
  return value({ op: "vector", name }, 128, ...args);
}

/** Vector reductions to a scalar: `i8x16.bitmask`, `v128.any_true`, … */
export function vectorToScalar(name: string, argument: Bits<128>): Bits<32> {
  return value({ op: "vector", name }, 32, argument);
}

export function shuffle(a: Bits<128>, b: Bits<128>, lanes: readonly number[]): Bits<128> {
  return value({ op: "shuffle", lanes }, 128, a, b);
}

export function splat(lane: Bits<8> | Bits<16> | Bits<32> | Bits<64>): Bits<128> {
  return value({ op: "splat", laneWidth: lane.width }, 128, lane as Bits);
}

/** A scalar floating-point operation on raw bits, named as in WebAssembly (`f64.mul`, `f32.lt`). */
export function float<W extends Width>(width: W, name: string, ...args: readonly Bits[]): Bits<W> {
  return value({ op: "float", name }, width, ...args);
}

/** A mutable value, for results of conditional code. */
export class Variable<W extends Width> {
  readonly #node: Node;
  readonly #width: W;

  constructor(initial: Bits<W>) {
    this.#width = initial.width;
    this.#node = recorder().emit({ op: "variable" }, initial.width, [initial.node]);
  }

  get(): Bits<W> {
    return new Bits<W>(recorder().emit({ op: "readVariable", variable: this.#node }, this.#width));
  }

  set(to: Bits<W>): void {
    invariant(to.width === this.#width, `variable of ${this.#width} bits set to ${to.width}`);
    recorder().emit({ op: "writeVariable", variable: this.#node }, this.#width, [to.node]);
  }
}

/** Structured condition; values made inside do not leave it, except through a `Variable`. */
export function when(condition: Bits<1>, then: () => void, otherwise: () => void = () => {}): void {
  const here = recorder();
  const thenBlock = here.nested(then);
  const otherwiseBlock = here.nested(otherwise);
  here.emit({ op: "if", then: thenBlock, otherwise: otherwiseBlock }, 1, [condition.node]);
}

/** See the node's description; vectors if `isPacked`, else numbers of `format` bits. */
export function isModerate(
  operation: ModerateOperation, format: 32 | 64, isPacked: boolean, when: StateMatch, operands: readonly Bits[], result: Bits,
): Bits<1> {
  return new Bits<1>(recorder().emit({ op: "isModerate", operation, format, isPacked, when }, 1, [...operands, result].map(({ node }) => node)));
}

/** The bits of `mask` in a location of at most 32 bits, in their places. */
export function readStateBits({ offset, width }: StateLocation, mask: number): Bits<32> {
  invariant(width <= 32, `bits of ${width} bits of state`);
  return new Bits<32>(recorder().emit({ op: "readStateBits", location: { offset, width }, mask }, 32));
}

/** Location `index` of a row; `index` must be below the row's count. */
export function readStateRow<W extends Width>(width: W, row: StateRow, index: Bits<32>): Bits<W> {
  invariant(width === row.first.width, `row of ${row.first.width} bits read as ${width}`);
  return value({ op: "readStateRow", row }, width, index);
}

export function writeStateRow(row: StateRow, index: Bits<32>, written: Bits): void {
  invariant(written.width === row.first.width, `row of ${row.first.width} bits written with ${written.width}`);
  recorder().emit({ op: "writeStateRow", row }, 1, [index.node, written.node]);
}

/** Linear memory at an address there, for fast paths of the engine's own. */
export function readMemory<W extends Width>(width: W, address: Bits<32>): Bits<W> {
  return new Bits<W>(recorder().emit({ op: "readMemory" }, width, [address.node]));
}

export function writeMemory(address: Bits<32>, written: Bits): void {
  recorder().emit({ op: "writeMemory" }, 1, [address.node, written.node]);
}

/** In a fast path: leaves it with a number. */
export function answerWith(result: Bits<32>): void {
  recorder().emit({ op: "answer" }, 1, [result.node]);
}

/** What generated code may know of location `index` of a row: whatever `note` said of what is in it now. */
export function isNoted(row: StateRow, index: Bits<32>): Bits<1> {
  return new Bits<1>(recorder().emit({ op: "isNoted", row }, 1, [index.node]));
}

/** Keeps a note about location `index` of a row. Whoever writes it renews the note. */
export function note(row: StateRow, index: Bits<32>, isTrue: Bits<1>): void {
  recorder().emit({ op: "note", row }, 1, [index.node, isTrue.node]);
}

/** In a fast path: leaves it, `isDone` saying whether the routine's work is done. */
export function answer(isDone: boolean): void {
  recorder().emit({ op: "answer" }, 1, [constant(1, isDone ? 1 : 0).node]);
}

function hasRefusal(block: readonly Node[]): boolean {
  return block.some((node) =>
    (node.op === "answer" && node.args[0].op === "const" && node.args[0].value === 0n) ||
    (node.op === "if" && (hasRefusal(node.then) || hasRefusal(node.otherwise))));
}

/**
 * The fast path of a routine with arguments of the given widths. `definition` may refuse by `answer(false)` as long as it has
 * committed nothing; where it ends the work is done. It runs once, when the path is first asked for.
 */
export function fastPath(parameters: readonly Width[], definition: (...args: Bits[]) => void): () => FastPath {
  let made: FastPath | undefined;
  return () => {
    if (made !== undefined) return made;
    const body = record(() => {
      definition(...parameters.map((width, index) => value({ op: "parameter", index }, width)));
      answer(true);
    });
    made = { parameters, body, isTotal: !hasRefusal(body) };
    return made;
  };
}

export function flag(name: Flag): Bits<1> {
  return new Bits<1>(recorder().emit({ op: "readFlag", flag: name }, 1));
}
