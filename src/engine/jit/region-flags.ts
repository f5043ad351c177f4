/** Status flags inside of a region: what is known of the operation that set them last, and code for whoever asks. */
import { flagNames, type Flag, type Node } from "../../ir/index.ts";
import type { FuncIndex, FunctionBuilder, Local } from "../../wasm/index.ts";
import type { EmitterCore } from "../emit/core.ts";
import type { NodeOf } from "../emit/places.ts";
import { FlagOperation, widthLog2 } from "./flag-code.ts";

/** An operation of `FlagOperation`, or undefined when only the locals know it. */
type Operation = number | undefined;

/** What is known at a point of the code. `carry` 0: CF is of the same operation; else one more than its own. */
export interface FlagState {
  readonly operation: Operation;
  readonly carry: Operation;
}

export const explicitFlags: FlagState = { operation: FlagOperation.explicit, carry: 0 };
export const unknownFlags: FlagState = { operation: undefined, carry: undefined };

export interface FlagLocals {
  readonly operation: Local<"i32">;
  readonly x: Local<"i64">;
  readonly y: Local<"i64">;
  readonly carry: Local<"i32">;
  readonly carryX: Local<"i64">;
  readonly carryY: Local<"i64">;
}

export interface FlagCalls {
  readonly auxiliary: FuncIndex;
  readonly result: FuncIndex;
}

export function addFlagLocals(f: FunctionBuilder): FlagLocals {
  return {
    operation: f.addLocal("i32"), x: f.addLocal("i64"), y: f.addLocal("i64"),
    carry: f.addLocal("i32"), carryX: f.addLocal("i64"), carryY: f.addLocal("i64"),
  };
}

export class RegionFlags {
  readonly #f: FunctionBuilder;
  readonly #locals: FlagLocals;
  readonly #calls: FlagCalls;
  readonly #keepsCarry: boolean;
  #state: FlagState = explicitFlags;

  /** `keepsCarry`: some instruction sets the other flags only. */
  constructor(f: FunctionBuilder, locals: FlagLocals, calls: FlagCalls, keepsCarry: boolean) {
    this.#f = f;
    this.#locals = locals;
    this.#calls = calls;
    this.#keepsCarry = keepsCarry;
  }

  get state(): FlagState {
    return this.#state;
  }

  set state(state: FlagState) {
    this.#state = this.#keepsCarry ? state : { operation: state.operation, carry: 0 };
  }

  /** Writes down in locals what is known only here, for code that many come to. */
  publish(): void {
    const { operation, carry } = this.state;
    if (operation !== undefined) {
      this.#f.i32.const(operation);
      this.#f.local.set(this.#locals.operation);
    }
    if (carry === undefined || !this.#keepsCarry) return;
    this.#f.i32.const(carry);
    this.#f.local.set(this.#locals.carry);
  }

  /** X and Y become the state area's fields. */
  makeExplicit(): void {
    const { operation, carry } = this.state;
    if (operation === FlagOperation.explicit && carry === 0) return;
    const f = this.#f, { x, y } = this.#locals;
    this.pushAuxiliary();
    this.pushResult();
    f.local.set(x);
    f.i64.extend_i32_u();
    f.local.set(y);
    const wasUnknown = operation === undefined || carry === undefined;
    this.state = explicitFlags;
    // Elsewhere it may still be taken for unknown.
    if (wasUnknown) this.publish();
  }

  #pushOperation(): void {
    if (this.state.operation === undefined) this.#f.local.get(this.#locals.operation);
    else this.#f.i32.const(this.state.operation);
  }

  /** Pushes `flagsAux`. */
  pushAuxiliary(): void {
    const f = this.#f, { x, y, carry, carryX, carryY } = this.#locals;
    if (this.state.operation === FlagOperation.explicit && this.state.carry === 0) {
      f.local.get(y);
      return f.i32.wrap_i64();
    }
    if (this.state.operation === FlagOperation.logic && this.state.carry === 0) return f.i32.const(0);
    this.#pushOperation();
    f.local.get(x);
    f.local.get(y);
    if (this.state.carry === undefined) f.local.get(carry);
    else f.i32.const(this.state.carry);
    f.local.get(carryX);
    f.local.get(carryY);
    f.call(this.#calls.auxiliary);
  }

  /** Pushes `flagsResult`. */
  pushResult(): void {
    const f = this.#f, { operation } = this.state;
    if (operation !== undefined && operation < FlagOperation.difference) return f.local.get(this.#locals.x);
    this.#pushOperation();
    f.local.get(this.#locals.x);
    f.local.get(this.#locals.y);
    f.call(this.#calls.result);
  }

  /** The operation that all flags but CF are of. */
  #known(): number {
    if (this.state.operation === undefined) this.makeExplicit();
    return this.state.operation!;
  }

  /** The operation that CF is of: its own, if not 0 one more than that; and the common one. */
  #knownCarry(): { operation: number; carry: number } {
    const { operation, carry } = this.state;
    if (carry === undefined || (carry === 0 && operation === undefined)) this.makeExplicit();
    return { operation: this.state.operation ?? FlagOperation.explicit, carry: this.state.carry! };
  }

  readFlag(flag: Flag): void {
    const { x, y, carryX, carryY } = this.#locals;
    if (flag === "cf") {
      const known = this.#knownCarry();
      return known.carry === 0 ? this.#carryFlag(known.operation, x, y) : this.#carryFlag(known.carry - 1, carryX, carryY);
    }
    const operation = this.#known();
    if (operation === FlagOperation.explicit) return this.#explicitFlag(flag);
    const f = this.#f;
    const isDifference = operation >= FlagOperation.difference, isLogic = operation === FlagOperation.logic;
    const shift = isLogic ? 0 : 64 - 2 ** (operation & 7);
    switch (flag) {
      case "zf":
        f.local.get(x);
        if (!isDifference) return f.i64.eqz();
        f.local.get(y);
        return f.i64.eq();
      case "sf":
        this.#pushRawResult(isDifference);
        return this.#isNegative(isDifference ? shift : 0);
      case "of": {
        if (isLogic) return f.i32.const(0);
        // Difference: (a ^ b) & (a ^ result); sum: (a ^ result) & (b ^ result), with a = result - b.
        const other = f.addLocal("i64");
        f.local.get(x);
        f.local.get(y);
        f.i64.sub();
        f.local.set(other);
        f.local.get(x);
        f.local.get(other);
        f.i64.xor();
        f.local.get(x);
        f.local.get(y);
        f.i64.xor();
        f.i64.and();
        f.freeLocal(other);
        return this.#isNegative(shift);
      }
      case "af":
        if (isLogic) return f.i32.const(0);
        f.local.get(x);
        f.local.get(y);
        f.i64.xor();
        f.local.get(x);
        f.local.get(y);
        f.i64.sub();
        f.i64.xor();
        f.i32.wrap_i64();
        // What was carried into bit 4.
        f.i32.const(4);
        f.i32.shr_u();
        f.i32.const(1);
        return f.i32.and();
      default:
        this.#pushRawResult(isDifference);
        f.i32.wrap_i64();
        return this.#evenParity();
    }
  }

  #pushRawResult(isDifference: boolean): void {
    this.#f.local.get(this.#locals.x);
    if (!isDifference) return;
    this.#f.local.get(this.#locals.y);
    this.#f.i64.sub();
  }

  #isNegative(shift: number): void {
    const f = this.#f;
    if (shift !== 0) {
      f.i64.const(shift);
      f.i64.shl();
    }
    f.i64.const(0);
    f.i64.lt_s();
  }

  #evenParity(): void {
    const f = this.#f;
    f.i32.const(0xff);
    f.i32.and();
    f.i32.popcnt();
    f.i32.const(-1);
    f.i32.xor();
    f.i32.const(1);
    f.i32.and();
  }

  #carryFlag(operation: number, x: Local<"i64">, y: Local<"i64">): void {
    const f = this.#f;
    if (operation === FlagOperation.logic) return f.i32.const(0);
    if (operation === FlagOperation.explicit) {
      f.local.get(y);
      f.i32.wrap_i64();
      f.i32.const(31);
      return f.i32.shr_u();
    }
    // Sign extension keeps the order of unsigned numbers.
    f.local.get(x);
    f.local.get(y);
    f.i64.lt_u();
  }

  #explicitFlag(flag: Flag): void {
    const f = this.#f, { x, y } = this.#locals;
    const auxiliary = (): void => {
      f.local.get(y);
      f.i32.wrap_i64();
    };
    switch (flag) {
      case "zf":
        f.local.get(x);
        return f.i64.eqz();
      case "of":
        auxiliary();
        auxiliary();
        f.i32.const(1);
        f.i32.shl();
        f.i32.xor();
        f.i32.const(31);
        return f.i32.shr_u();
      case "sf":
        f.local.get(x);
        f.i64.const(63);
        f.i64.shr_u();
        f.i32.wrap_i64();
        auxiliary();
        f.i32.const(1);
        f.i32.and();
        return f.i32.xor();
      case "af":
        auxiliary();
        f.i32.const(3);
        f.i32.shr_u();
        f.i32.const(1);
        return f.i32.and();
      default:
        f.local.get(x);
        f.i32.wrap_i64();
        auxiliary();
        f.i32.const(8);
        f.i32.shr_u();
        f.i32.xor();
        this.#evenParity();
    }
  }

  /** One of the sixteen conditions; comparisons are made of the operands themselves. */
  condition(code: number): void {
    const f = this.#f;
    this.#holds(code >> 1);
    if (code & 1) f.i32.eqz();
  }

  #holds(pair: number): void {
    const f = this.#f, { x, y } = this.#locals;
    const operation = this.#known();
    const isFused = operation >= FlagOperation.difference || operation === FlagOperation.logic;
    const compare = (name: "lt_u" | "le_u" | "lt_s" | "le_s"): void => {
      f.local.get(x);
      if (operation === FlagOperation.logic) f.i64.const(0);
      else f.local.get(y);
      f.i64[name]();
    };
    switch (pair) {
      case 0: return this.readFlag("of");
      case 1: return this.readFlag("cf");
      case 2: return this.readFlag("zf");
      case 3:
        if (isFused && this.state.carry === 0) return compare("le_u");
        this.readFlag("cf");
        this.readFlag("zf");
        return f.i32.or();
      case 4: return this.readFlag("sf");
      case 5: return this.readFlag("pf");
      case 6:
        if (isFused) return compare("lt_s");
        return this.#isLess();
      default:
        if (isFused) return compare("le_s");
        this.#isLess();
        this.readFlag("zf");
        return f.i32.or();
    }
  }

  #isLess(): void {
    this.readFlag("sf");
    this.readFlag("of");
    this.#f.i32.xor();
  }

  arithmetic(core: EmitterCore, node: NodeOf<"arithmeticFlags">): void {
    const f = this.#f, { x, y } = this.#locals;
    const [result, carries, a, b] = node.args;
    const push = (value: Node): void => {
      core.pushSigned(value);
      if (value.width !== 64) f.i64.extend_i32_s();
    };
    if (node.hasCarryIn) {
      pushCarriesAsAuxiliary(core, carries);
      f.i64.extend_i32_u();
      push(result);
      f.local.set(x);
      f.local.set(y);
      this.state = explicitFlags;
      return;
    }
    let carry: Operation = 0;
    if (node.keepCarry) carry = this.#keepCarry();
    push(node.kind === "sum" ? result : a);
    push(b);
    f.local.set(y);
    f.local.set(x);
    this.state = { operation: FlagOperation[node.kind] + widthLog2(result.width), carry };
  }

  /** Sets what CF is made of aside, without computing it. */
  #keepCarry(): Operation {
    const f = this.#f, { x, y, operation: operationLocal, carry: carryLocal, carryX, carryY } = this.#locals;
    const { operation, carry } = this.state;
    if (carry !== undefined && carry !== 0) return carry;
    if (carry === 0) {
      f.local.get(x);
      f.local.set(carryX);
      f.local.get(y);
      f.local.set(carryY);
      if (operation !== undefined) return operation + 1;
      f.local.get(operationLocal);
      f.i32.const(1);
      f.i32.add();
      f.local.set(carryLocal);
      return undefined;
    }
    const choose = (own: () => void, kept: Local): void => {
      own();
      f.local.get(kept);
      f.local.get(carryLocal);
      f.i32.eqz();
      f.select();
      f.local.set(kept);
    };
    choose(() => f.local.get(x), carryX);
    choose(() => f.local.get(y), carryY);
    choose(() => {
      this.#pushOperation();
      f.i32.const(1);
      f.i32.add();
    }, carryLocal);
    return undefined;
  }

  logic(core: EmitterCore, result: Node): void {
    core.pushSigned(result);
    if (result.width !== 64) this.#f.i64.extend_i32_s();
    this.#f.local.set(this.#locals.x);
    this.state = { operation: FlagOperation.logic, carry: 0 };
  }

  /** Some flags from values of their own; the others keep theirs. */
  write(core: EmitterCore, flags: readonly Flag[], values: readonly Node[]): void {
    const f = this.#f, { x, y } = this.#locals;
    if (this.state.operation === undefined || this.state.carry === undefined) this.makeExplicit();
    const touchesResult = flags.some((flag) => flag === "zf" || flag === "sf" || flag === "pf");
    const locals = new Map<Flag, Local<"i32">>();
    for (const flag of flagNames) {
      const index = flags.indexOf(flag);
      if (index < 0 && !touchesResult && (flag === "zf" || flag === "sf" || flag === "pf")) continue;
      const local = core.local("i32");
      if (index < 0) this.readFlag(flag);
      else core.push(values[index]);
      f.local.set(local);
      locals.set(flag, local);
    }
    const place = (flag: Flag, bit: number): void => {
      f.local.get(locals.get(flag)!);
      f.i32.const(bit);
      f.i32.shl();
    };
    place("cf", 31);
    f.local.get(locals.get("cf")!);
    f.local.get(locals.get("of")!);
    f.i32.xor();
    f.i32.const(30);
    f.i32.shl();
    f.i32.or();
    place("af", 3);
    f.i32.or();
    if (touchesResult) {
      f.local.get(locals.get("sf")!);
      f.i32.or();
      f.local.get(locals.get("pf")!);
      f.local.get(locals.get("zf")!);
      f.i32.xor();
      f.i32.const(8);
      f.i32.shl();
      f.i32.or();
      f.local.get(locals.get("zf")!);
      f.i32.eqz();
      f.i64.extend_i32_u();
      f.local.set(x);
    } else if (this.state.operation === FlagOperation.explicit) {
      f.local.get(y);
      f.i32.wrap_i64();
      f.i32.const(0xff01);
      f.i32.and();
      f.i32.or();
    } else {
      // SF and PF of other operations come from the result alone.
      this.pushResult();
      f.local.set(x);
    }
    f.i64.extend_i32_u();
    f.local.set(y);
    this.state = explicitFlags;
  }
}

/** Pushes a vector of carries as an auxiliary word. */
function pushCarriesAsAuxiliary(core: EmitterCore, carries: Node): void {
  const { f } = core;
  const { width } = carries;
  const c = core.local("i64");
  core.push64(carries);
  f.local.tee(c);
  f.i64.const(64 - width);
  f.i64.shl();
  f.i64.const(32);
  f.i64.shr_u();
  f.i32.wrap_i64();
  f.i32.const(0xc000_0000 | 0);
  f.i32.and();
  f.local.get(c);
  f.i32.wrap_i64();
  f.i32.const(8);
  f.i32.and();
  f.i32.or();
}
