/** What every emitter of code needs: values on the stack, in locals, or known beforehand. */
import { evaluateBinary, evaluateComparison, evaluateUnary, type Node, type Width } from "../../ir/index.ts";
import type { FunctionBuilder, Local, ValType } from "../../wasm/index.ts";

export function typeOfWidth(width: Width): "i32" | "i64" | "v128" {
  return width === 128 ? "v128" : width === 64 ? "i64" : "i32";
}

const narrowMask: Partial<Record<Width, number>> = { 1: 1, 8: 0xff, 16: 0xffff };

export class EmitterCore {
  readonly f: FunctionBuilder;
  /** Locals of the nodes that have one, by the node's number. */
  readonly values: (Local | undefined)[] = [];
  /** Values that are known, by the node's number. */
  readonly constants: (bigint | undefined)[] = [];
  readonly #owned: Local[] = [];
  /** Pushes a value that is in no local. */
  computeValue: (node: Node) => void = () => {};

  constructor(f: FunctionBuilder) {
    this.f = f;
  }

  /** Gives all locals back and forgets the values of nodes with numbers below `nodeCount`: another body's nodes have the same. */
  release(nodeCount: number): void {
    for (const local of this.#owned) this.f.freeLocal(local);
    this.#owned.length = 0;
    this.values.fill(undefined, 0, nodeCount);
    this.constants.fill(undefined, 0, nodeCount);
  }

  local<T extends ValType>(type: T): Local<T> {
    const local = this.f.addLocal(type);
    this.#owned.push(local);
    return local;
  }

  pushConstant(width: Width, value: bigint): void {
    const { f } = this;
    if (width === 128) {
      const bytes = new Uint8Array(16);
      const view = new DataView(bytes.buffer);
      view.setBigUint64(0, BigInt.asUintN(64, value), true);
      view.setBigUint64(8, value >> 64n, true);
      return f.v128.const(bytes);
    }
    if (width === 64) return f.i64.const(BigInt.asIntN(64, value));
    f.i32.const(Number(BigInt.asIntN(32, value)));
  }

  /** Pushes the value of a node. */
  push(node: Node): void {
    const known = this.constants[node.id];
    if (known !== undefined) return this.pushConstant(node.width, known);
    const local = this.values[node.id];
    if (local !== undefined) this.f.local.get(local);
    else this.computeValue(node);
  }

  pushAll(nodes: readonly Node[]): void {
    for (const node of nodes) this.push(node);
  }

  /** Pushes a node as i64, zero-extended. */
  push64(node: Node): void {
    this.push(node);
    if (node.width !== 64) this.f.i64.extend_i32_u();
  }

  loadWidth(width: Width, offset: number): void {
    const f = this.f;
    switch (width) {
      case 1: case 8: return f.i32.load8_u(offset);
      case 16: return f.i32.load16_u(offset);
      case 32: return f.i32.load({ offset, align: 1 });
      case 64: return f.i64.load({ offset, align: 1 });
      case 128: return f.v128.load({ offset, align: 1 });
    }
  }

  storeWidth(width: Width, offset: number): void {
    const f = this.f;
    switch (width) {
      case 1: case 8: return f.i32.store8(offset);
      case 16: return f.i32.store16(offset);
      case 32: return f.i32.store({ offset, align: 1 });
      case 64: return f.i64.store({ offset, align: 1 });
      case 128: return f.v128.store({ offset, align: 1 });
    }
  }

  mask(width: Width): void {
    const mask = narrowMask[width];
    if (mask === undefined) return;
    this.f.i32.const(mask);
    this.f.i32.and();
  }

  /** Pushes a value of 32 bits or less sign-extended within its wasm type. */
  pushSigned(node: Node): void {
    this.push(node);
    if (node.width === 8) this.f.i32.extend8_s();
    else if (node.width === 16) this.f.i32.extend16_s();
    else if (node.width === 1) {
      this.f.i32.const(31);
      this.f.i32.shl();
      this.f.i32.const(31);
      this.f.i32.shr_s();
    }
  }
}

/** The value of an operation on known values, if it is one that depends on nothing else. */
export function foldConstants(node: Node, args: readonly bigint[]): bigint | undefined {
  const { width } = node;
  switch (node.op) {
    case "const": return node.value;
    case "add": case "sub": case "mul": case "and": case "or": case "xor":
      return evaluateBinary(node.op, width, args[0], args[1]);
    case "shl": case "shr": case "sar": case "rotl": case "rotr":
      // Larger counts appear only where execution never comes.
      return args[1] < BigInt(width) ? evaluateBinary(node.op, width, args[0], args[1]) : undefined;
    case "eq": case "ne": case "ltU": case "leU": case "ltS": case "leS":
      return evaluateComparison(node.op, node.args[0].width, args[0], args[1]) ? 1n : 0n;
    case "not": case "neg": case "clz": case "ctz": case "popcnt": return evaluateUnary(node.op, width, args[0]);
    case "zext": return args[0];
    case "sext": return BigInt.asUintN(width, BigInt.asIntN(node.args[0].width, args[0]));
    case "trunc": return BigInt.asUintN(width, args[0]);
    case "select": return args[0] === 1n ? args[1] : args[2];
    default: return undefined;
  }
}
