/**
 * Lazy status flags of compiled code: the operation that set them last, as a number, and two values. Only whoever needs a
 * flag computes it. This file has what several places agree on, and the functions for when the operation is not known
 * while code is generated.
 */
import type { FuncIndex, FunctionBuilder, Local } from "../../wasm/index.ts";

/**
 * Operations. `explicit`: X and Y are `flagsResult` and `flagsAux` of the state. `logic`: X is the result. `sum`: X is the
 * result, Y the second operand. `difference`: X and Y are the operands. All but explicit Ys are sign-extended. The numbers
 * of sums and differences have the width's logarithm added.
 */
export const FlagOperation = { explicit: 0, logic: 1, sum: 8, difference: 16 } as const;

/** Logarithm of an operand's width, 3..6. */
export function widthLog2(width: number): number {
  return 31 - Math.clz32(width);
}

/** Types of the functions for flags. */
export const flagFunctions = {
  /** (operation, X, Y) → `flagsAux` of that operation alone. */
  single: { params: ["i32", "i64", "i64"], results: ["i32"] },
  /** (operation, X, Y, carry operation, carry X, carry Y) → `flagsAux`. Carry operation 0: as the first; else one more than it. */
  auxiliary: { params: ["i32", "i64", "i64", "i32", "i64", "i64"], results: ["i32"] },
  /** (operation, X, Y) → `flagsResult`. */
  result: { params: ["i32", "i64", "i64"], results: ["i64"] },
} as const;

const topBits = 0xc000_0000 | 0;
const afterCarry = 0x3fff_ffff;
const carryMask = 0x8000_0000 | 0;

/** Pushes X - Y sign-extended from the operation's width. */
function pushDifference(f: FunctionBuilder, operation: Local<"i32">, x: Local<"i64">, y: Local<"i64">, shift: Local<"i64">): void {
  f.i64.const(64);
  f.i64.const(1);
  f.local.get(operation);
  f.i32.const(7);
  f.i32.and();
  f.i64.extend_i32_u();
  f.i64.shl();
  f.i64.sub();
  f.local.set(shift);
  f.local.get(x);
  f.local.get(y);
  f.i64.sub();
  f.local.get(shift);
  f.i64.shl();
  f.local.get(shift);
  f.i64.shr_s();
}

/** Writes `result`. */
export function emitResult(f: FunctionBuilder): void {
  const operation = f.param<"i32">(0), x = f.param<"i64">(1), y = f.param<"i64">(2);
  f.local.get(operation);
  f.i32.const(FlagOperation.difference);
  f.i32.ge_u();
  f.if("i64");
  pushDifference(f, operation, x, y, f.addLocal("i64"));
  f.else();
  f.local.get(x);
  f.end();
}

/** Writes `single`, the auxiliary word of one operation: bits 31 and 30 the top carries, bit 3 carry 3. */
export function emitSingle(f: FunctionBuilder): void {
  const operation = f.param<"i32">(0), x = f.param<"i64">(1), y = f.param<"i64">(2);
  const shift = f.addLocal("i64"), other = f.addLocal("i64"), carries = f.addLocal("i64");
  f.local.get(operation);
  f.i32.eqz();
  f.if();
  f.local.get(y);
  f.i32.wrap_i64();
  f.return();
  f.end();
  f.local.get(operation);
  f.i32.const(FlagOperation.logic);
  f.i32.eq();
  f.if();
  f.i32.const(0);
  f.return();
  f.end();
  pushDifference(f, operation, x, y, shift);
  f.local.set(other);
  f.local.get(operation);
  f.i32.const(FlagOperation.difference);
  f.i32.lt_u();
  f.if("i64");
  // a = other, b = y, sum = x: a & b | (a | b) & ~sum
  f.local.get(other); f.local.get(y); f.i64.and();
  f.local.get(other); f.local.get(y); f.i64.or();
  f.local.get(x); f.i64.const(-1); f.i64.xor(); f.i64.and();
  f.i64.or();
  f.else();
  // a = x, b = y, difference = other: ~a & b | (~a | b) & difference
  f.local.get(x); f.i64.const(-1); f.i64.xor(); f.local.get(y); f.i64.and();
  f.local.get(x); f.i64.const(-1); f.i64.xor(); f.local.get(y); f.i64.or();
  f.local.get(other); f.i64.and();
  f.i64.or();
  f.end();
  f.local.tee(carries);
  f.local.get(shift);
  f.i64.shl();
  f.i64.const(32);
  f.i64.shr_u();
  f.i32.wrap_i64();
  f.i32.const(topBits);
  f.i32.and();
  f.local.get(carries);
  f.i32.wrap_i64();
  f.i32.const(8);
  f.i32.and();
  f.i32.or();
}

/** Writes `auxiliary`. */
export function emitAuxiliary(f: FunctionBuilder, single: FuncIndex): void {
  const [operation, x, y, carryOperation, carryX, carryY] =
    [f.param<"i32">(0), f.param<"i64">(1), f.param<"i64">(2), f.param<"i32">(3), f.param<"i64">(4), f.param<"i64">(5)];
  const main = f.addLocal("i32"), carry = f.addLocal("i32");
  f.local.get(operation);
  f.local.get(x);
  f.local.get(y);
  f.call(single);
  f.local.set(main);
  f.local.get(carryOperation);
  f.i32.eqz();
  f.if();
  f.local.get(main);
  f.return();
  f.end();
  f.local.get(carryOperation);
  f.i32.const(1);
  f.i32.sub();
  f.local.get(carryX);
  f.local.get(carryY);
  f.call(single);
  f.i32.const(carryMask);
  f.i32.and();
  f.local.tee(carry);
  pushReplacedCarry(f, main, carry);
}

/** With the new CF in bit 31 on the stack: the auxiliary word with CF replaced and OF kept. */
function pushReplacedCarry(f: FunctionBuilder, main: Local<"i32">, carry: Local<"i32">): void {
  f.local.get(main);
  f.local.get(main);
  f.i32.const(1);
  f.i32.shl();
  f.i32.xor();
  f.i32.const(carryMask);
  f.i32.and();
  f.local.get(carry);
  f.i32.xor();
  f.i32.const(1);
  f.i32.shr_u();
  f.i32.or();
  f.local.get(main);
  f.i32.const(afterCarry);
  f.i32.and();
  f.i32.or();
}

