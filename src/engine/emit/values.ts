/** Values in generated code that depend on other values only: arithmetic, conversions and lanes. */
import { invariant } from "../../base/errors.ts";
import { operandsToCheck, windows, type Node, type StateMatch, type Width } from "../../ir/index.ts";
import type { Local } from "../../wasm/index.ts";
import type { EmitterCore } from "./core.ts";
import type { NodeOf, Places } from "./places.ts";

export class ValueEmitter {
  readonly #core: EmitterCore;
  readonly #places: Places;

  constructor(core: EmitterCore, places: Places) {
    this.#core = core;
    this.#places = places;
  }

  compute(node: Node, destination: Local | undefined): void {
    const { f } = this.#core;
    const { width, args } = node;
    const wide = width === 64;
    switch (node.op) {
      case "const":
        if (width === 128) {
          const bytes = new Uint8Array(16);
          const view = new DataView(bytes.buffer);
          view.setBigUint64(0, BigInt.asUintN(64, node.value), true);
          view.setBigUint64(8, node.value >> 64n, true);
          return f.v128.const(bytes);
        }
        if (wide) return f.i64.const(node.value);
        return f.i32.const(Number(BigInt.asIntN(32, node.value)));
      case "shl":
        this.#core.push(args[0]);
        this.#pushCount(args[1]);
        f[wide ? "i64" : "i32"].shl();
        return this.#core.mask(width);
      case "add": case "sub": case "mul":
        this.#core.pushAll(args);
        f[wide ? "i64" : "i32"][node.op]();
        return this.#core.mask(width);
      case "and": case "or": case "xor":
        if (width === 1 && node.op === "xor" && this.#core.constants[args[1].id] === 1n) {
          // Compilers turn a comparison around rather than its result.
          this.#core.push(args[0]);
          return f.i32.eqz();
        }
        this.#core.pushAll(args);
        return f[wide ? "i64" : "i32"][node.op]();
      case "shr":
        this.#core.push(args[0]);
        this.#pushCount(args[1]);
        return wide ? f.i64.shr_u() : f.i32.shr_u();
      case "sar":
        this.#core.pushSigned(args[0]);
        this.#pushCount(args[1]);
        if (wide) return f.i64.shr_s();
        f.i32.shr_s();
        return this.#core.mask(width);
      case "rotl": case "rotr": return this.#rotate(node.op, width, args);
      case "divU": case "divS": case "remU": case "remS": {
        invariant(width >= 32, "divisions are 32 or 64 bits wide");
        this.#core.pushAll(args);
        const group = wide ? f.i64 : f.i32;
        if (node.op === "divU") return group.div_u();
        if (node.op === "divS") return group.div_s();
        return node.op === "remU" ? group.rem_u() : group.rem_s();
      }
      case "mulHighU": return this.#mulHigh(args[0], args[1], false);
      case "mulHighS": return this.#mulHigh(args[0], args[1], true);
      case "eq": case "ne": {
        this.#core.pushAll(args);
        const group = args[0].width === 64 ? f.i64 : f.i32;
        return group[node.op]();
      }
      case "ltU": case "leU": {
        this.#core.pushAll(args);
        const group = args[0].width === 64 ? f.i64 : f.i32;
        return node.op === "ltU" ? group.lt_u() : group.le_u();
      }
      case "ltS": case "leS": {
        this.#core.pushSigned(args[0]);
        this.#core.pushSigned(args[1]);
        const group = args[0].width === 64 ? f.i64 : f.i32;
        return node.op === "ltS" ? group.lt_s() : group.le_s();
      }
      case "not":
        this.#core.push(args[0]);
        if (wide) {
          f.i64.const(-1);
          return f.i64.xor();
        }
        f.i32.const(-1);
        f.i32.xor();
        return this.#core.mask(width);
      case "neg":
        if (wide) f.i64.const(0);
        else f.i32.const(0);
        this.#core.push(args[0]);
        if (wide) return f.i64.sub();
        f.i32.sub();
        return this.#core.mask(width);
      case "clz":
        this.#core.push(args[0]);
        if (wide) return f.i64.clz();
        f.i32.clz();
        f.i32.const(32 - width);
        return f.i32.sub();
      case "ctz":
        this.#core.push(args[0]);
        if (wide) return f.i64.ctz();
        if (width < 32) {
          f.i32.const(1 << width);
          f.i32.or();
        }
        return f.i32.ctz();
      case "popcnt":
        this.#core.push(args[0]);
        return wide ? f.i64.popcnt() : f.i32.popcnt();
      case "zext": return this.#zext(args[0], width);
      case "sext":
        this.#core.pushSigned(args[0]);
        if (wide) return f.i64.extend_i32_s();
        return this.#core.mask(width);
      case "trunc":
        this.#core.push(args[0]);
        if (args[0].width === 128) f.i64x2.extract_lane(0);
        if (args[0].width >= 64 && width < 64) f.i32.wrap_i64();
        return this.#core.mask(width);
      case "select":
        this.#core.pushAll([args[1], args[2], args[0]]);
        return f.select();
      case "extractLane": return this.#extractLane(args[0], width, node.lane);
      case "insertLane": {
        this.#core.pushAll(args);
        const lane = args[1].width;
        if (lane === 8) return f.i8x16.replace_lane(node.lane);
        if (lane === 16) return f.i16x8.replace_lane(node.lane);
        return lane === 32 ? f.i32x4.replace_lane(node.lane) : f.i64x2.replace_lane(node.lane);
      }
      case "splat":
        this.#core.push(args[0]);
        if (node.laneWidth === 8) return f.i8x16.splat();
        if (node.laneWidth === 16) return f.i16x8.splat();
        return node.laneWidth === 32 ? f.i32x4.splat() : f.i64x2.splat();
      case "shuffle":
        this.#core.pushAll(args);
        return f.i8x16.shuffle(node.lanes);
      case "vector": {
        this.#core.pushAll(args);
        return this.#named(node.name);
      }
      case "isModerate": return this.#isModerate(node);
      case "float": return this.#float(node.name, args, width);
      case "parameter": case "readStateRow": case "readMemory": return this.#places.fastPath!(node);
      case "readVariable": return f.local.get(this.#core.values[node.variable.id]!);
      case "immediate": case "nextRip": case "thisRip": case "branchTarget": case "readState": case "readStateBits": case "readRegister":
      case "readFlag": case "condition": case "effectiveAddress": case "linearAddress": case "load": case "routineResult":
        return this.#places.read(node, destination);
      default:
        invariant(false, `${node.op} has no value`);
    }
  }

  /** Pushes the count of a shift, which WebAssembly itself takes modulo 32 or 64. */
  #pushCount(count: Node): void {
    const isMasked = count.op === "and" && count.width >= 32 && this.#core.values[count.id] === undefined && this.#core.constants[count.id] === undefined &&
      this.#core.constants[count.args[1].id] === BigInt(count.width - 1);
    this.#core.push(isMasked ? count.args[0] : count);
  }

  #named(name: string): void {
    const [group, operation] = name.split(".") as ["i32x4", "add"];
    const emit = this.#core.f[group]?.[operation] as ((this: unknown) => void) | undefined;
    invariant(emit !== undefined, `no operation ${name}`);
    emit.call(this.#core.f[group]);
  }

  /** Signs that say "within the window" are gathered by AND. */
  #isModerate(node: NodeOf<"isModerate">): void {
    const { f } = this.#core;
    const { format, isPacked, args } = node;
    const operands = args.slice(0, -1), result = args[args.length - 1];
    const isKnown = operands.map((operand) => this.#places.isOrdinary?.(node, operand) ?? false);
    const checked = operandsToCheck(node.operation, isKnown).map((index) => operands[index]);
    const { operand: operandWindow, result: resultWindow } = windows[format];
    this.#pushWithin(format, isPacked, result, resultWindow);
    for (const operand of checked) {
      this.#pushWithin(format, isPacked, operand, operandWindow);
      if (isPacked) f.v128.and();
      else f[`i${format}`].and();
    }
    if (isPacked) f[format === 64 ? "i64x2" : "i32x4"].bitmask();
    this.#pushMatch(node.when);
    if (isPacked || format === 32) {
      f.i32.wrap_i64();
      f.i32.and();
      f.i32.const(isPacked ? (1 << (128 / format)) - 1 : 0);
      return isPacked ? f.i32.eq() : f.i32.lt_s();
    }
    f.i64.and();
    f.i64.const(0);
    f.i64.lt_s();
  }

  #pushWithin(format: 32 | 64, isPacked: boolean, value: Node, window: bigint): void {
    const { f } = this.#core;
    this.#core.push(value);
    if (isPacked) {
      const group = f[format === 64 ? "i64x2" : "i32x4"];
      f.i32.const(1);
      group.shl();
      const doubled = format === 64 ? window | (window << 64n) : Array.from({ length: 4 }, () => window).reduce((lanes, lane) => (lanes << 32n) | lane);
      this.#core.pushConstant(128, doubled);
      return group.add();
    }
    this.#core.pushConstant(format, 1n);
    f[`i${format}`].shl();
    this.#core.pushConstant(format, window);
    f[`i${format}`].add();
  }

  #pushMatch(match: StateMatch): void {
    if (this.#places.matches !== undefined) return this.#places.matches(match);
    const { f } = this.#core;
    f.i64.const(0);
    this.#places.read({ op: "readStateBits", location: match.location, mask: match.mask, id: -1, width: 32, args: [] }, undefined);
    f.i32.const(match.value);
    f.i32.eq();
    f.i64.extend_i32_u();
    f.i64.sub();
  }

  /** Raw bits in, raw bits out; comparisons give 0 or 1. */
  #float(name: string, args: readonly Node[], width: Width): void {
    const f = this.#core.f;
    const reinterpret = (node: Node): void => {
      this.#core.push(node);
      if (node.width === 64) f.f64.reinterpret_i64();
      else f.f32.reinterpret_i32();
    };
    if (name.includes("convert_i")) this.#core.pushAll(args);
    else for (const argument of args) reinterpret(argument);
    this.#named(name);
    if (width === 1 || name.startsWith("i")) return;
    if (width === 64) f.i64.reinterpret_f64();
    else f.i32.reinterpret_f32();
  }

  #rotate(op: "rotl" | "rotr", width: Width, args: readonly Node[]): void {
    const f = this.#core.f;
    if (width >= 32) {
      this.#core.pushAll(args);
      return width === 64 ? f.i64[op]() : f.i32[op]();
    }
    // (v << c | v >> (width - c)), or mirrored; the count is below the width.
    this.#core.push(args[0]);
    this.#core.push(args[1]);
    if (op === "rotl") f.i32.shl();
    else f.i32.shr_u();
    this.#core.push(args[0]);
    f.i32.const(width);
    this.#core.push(args[1]);
    f.i32.sub();
    if (op === "rotl") f.i32.shr_u();
    else f.i32.shl();
    f.i32.or();
    this.#core.mask(width);
  }

  #mulHigh(a: Node, b: Node, signed: boolean): void {
    invariant(a.width === 64, "high products are of 64-bit values");
    const f = this.#core.f;
    const [x, y, t] = [this.#core.local("i64"), this.#core.local("i64"), this.#core.local("i64")];
    this.#core.push(a);
    f.local.set(x);
    this.#core.push(b);
    f.local.set(y);
    const low = (local: Local<"i64">): void => {
      f.local.get(local);
      f.i64.const(0xffff_ffffn);
      f.i64.and();
    };
    const high = (local: Local<"i64">): void => {
      f.local.get(local);
      f.i64.const(32);
      f.i64.shr_u();
    };
    // t = xh*yl + (xl*yl >> 32); u = xl*yh + low(t); result = xh*yh + (t >> 32) + (u >> 32)
    high(x); low(y); f.i64.mul();
    low(x); low(y); f.i64.mul(); f.i64.const(32); f.i64.shr_u();
    f.i64.add();
    f.local.set(t);
    high(x); high(y); f.i64.mul();
    high(t); f.i64.add();
    low(x); high(y); f.i64.mul(); low(t); f.i64.add(); f.i64.const(32); f.i64.shr_u();
    f.i64.add();
    if (!signed) return;
    for (const [sign, other] of [[x, y], [y, x]] as const) {
      f.local.get(sign);
      f.i64.const(63);
      f.i64.shr_s();
      f.local.get(other);
      f.i64.and();
      f.i64.sub();
    }
  }

  #zext(value: Node, width: Width): void {
    const f = this.#core.f;
    if (width === 128) {
      f.v128.const(new Uint8Array(16));
      this.#core.push64(value);
      return f.i64x2.replace_lane(0);
    }
    this.#core.push(value);
    if (width === 64) f.i64.extend_i32_u();
  }

  #extractLane(vector: Node, width: Width, lane: number): void {
    this.#core.push(vector);
    const f = this.#core.f;
    if (width === 8) return f.i8x16.extract_lane_u(lane);
    if (width === 16) return f.i16x8.extract_lane_u(lane);
    return width === 32 ? f.i32x4.extract_lane(lane) : f.i64x2.extract_lane(lane);
  }
}
