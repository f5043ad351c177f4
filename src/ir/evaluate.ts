/** What the integer operations of the IR mean, on big integers: the oracle and constant folding ask here. */
import { invariant } from "../base/errors.ts";
import type { Node, Width } from "./node.ts";

/** Number of ones in a value of any width. */
export function countOnes(value: bigint): number {
  let count = 0;
  for (let rest = value; rest !== 0n; rest &= rest - 1n) count++;
  return count;
}

export function evaluateUnary(op: "clz" | "ctz" | "popcnt" | "not" | "neg", width: Width, a: bigint): bigint {
  switch (op) {
    case "clz": return BigInt(a === 0n ? width : width - a.toString(2).length);
    case "ctz": return BigInt(a === 0n ? width : countOnes((a & -a) - 1n));
    case "popcnt": return BigInt(countOnes(a));
    case "not": return BigInt.asUintN(width, ~a);
    case "neg": return BigInt.asUintN(width, -a);
  }
}

export function evaluateComparison(op: "eq" | "ne" | "ltU" | "leU" | "ltS" | "leS", width: Width, a: bigint, b: bigint): boolean {
  const signedA = BigInt.asIntN(width, a), signedB = BigInt.asIntN(width, b);
  switch (op) {
    case "eq": return a === b;
    case "ne": return a !== b;
    case "ltU": return a < b;
    case "leU": return a <= b;
    case "ltS": return signedA < signedB;
    case "leS": return signedA <= signedB;
  }
}

export function evaluateBinary(op: Node["op"], width: Width, a: bigint, b: bigint): bigint {
  const wrap = (value: bigint): bigint => BigInt.asUintN(width, value);
  const signedA = BigInt.asIntN(width, a), signedB = BigInt.asIntN(width, b);
  const bits = BigInt(width);
  switch (op) {
    case "add": return wrap(a + b);
    case "sub": return wrap(a - b);
    case "mul": return wrap(a * b);
    case "and": return a & b;
    case "or": return a | b;
    case "xor": return a ^ b;
    case "mulHighU": return (a * b) >> bits;
    case "mulHighS": return wrap((signedA * signedB) >> bits);
    case "shl": case "shr": case "sar": case "rotl": case "rotr":
      invariant(b < bits, `${op} of ${width} bits by ${b}`);
      if (op === "shl") return wrap(a << b);
      if (op === "shr") return a >> b;
      if (op === "sar") return wrap(signedA >> b);
      return op === "rotl" ? wrap(a << b) | (a >> (bits - b)) : (a >> b) | wrap(a << (bits - b));
    case "divU": case "divS": case "remU": case "remS": {
      invariant(b !== 0n, `${op} by zero`);
      if (op === "divU") return a / b;
      if (op === "remU") return a % b;
      if (op === "remS") return wrap(signedA % signedB);
      invariant(signedA / signedB === BigInt.asIntN(width, signedA / signedB), "divS overflows");
      return wrap(signedA / signedB);
    }
    default: invariant(false, `${op} is no operation on two integers`);
  }
}
