/** IR to WebAssembly for one handler, operand numbers read from the record. The dispatch loop decides how execution goes on. */
import { invariant } from "../base/errors.ts";
import { type Flag, flagNames, type Node, type SegmentReference, type Width } from "../ir/index.ts";
import * as state from "../isa/state.ts";
import type { FuncIndex, FunctionBuilder, Local, ValType } from "../wasm/index.ts";
import type { HandlerForm } from "./handler.ts";
import { operandFields, RecordField } from "./record.ts";

/** Host functions that generated code calls. All find their input in the state area and return 0 or `fault`. */
export interface HostFunctions {
  /** (sizeBytes, AccessFlag bits): loads `slowAddress` into scratch 15. */
  readonly slowLoad: FuncIndex;
  /** (sizeBytes, AccessFlag bits): stores scratch 15 to `slowAddress`. */
  readonly slowStore: FuncIndex;
  /** (sizeBytes, AccessFlag bits): checks `slowAddress` for writing. */
  readonly slowCheckWrite: FuncIndex;
  /** (segment or -1 for the operand's, sizeBytes, intent): legacy segment check of the offset in `slowAddress`. */
  readonly segmentCheck: FuncIndex;
  /** (routine number): returns a Status. */
  readonly routine: FuncIndex;
}

/** How a handler's code leaves; the code that follows each is unreachable. */
export interface Exits {
  /** An exception is recorded. `currentRecord` is set. */
  fault(): void;
  /** `rip` holds the target. */
  jump(): void;
  /** To the record's own relative target. */
  jumpTarget(): void;
  /** Leaves generated code after this instruction; `rip` is set to the next one. */
  exit(): void;
}

export interface EmitterEnvironment {
  readonly f: FunctionBuilder;
  readonly cpu: Local<"i32">;
  readonly record: Local<"i32">;
  readonly host: HostFunctions;
  readonly exits: Exits;
  routineNumber(routine: { readonly name: string }): number;
}

/** What a slow path is told of an access. */
export const AccessFlag = { write: 1, stackSegment: 2, operandSegment: 4 } as const;

function accessFlags(segment: SegmentReference, forWrite: boolean): number {
  return (forWrite ? AccessFlag.write : 0) | (segment === 2 ? AccessFlag.stackSegment : 0) |
    (segment === "operand" ? AccessFlag.operandSegment : 0);
}

export const scratchValue: state.StateField = state.scratch[15];

function typeOfWidth(width: Width): "i32" | "i64" | "v128" {
  return width === 128 ? "v128" : width === 64 ? "i64" : "i32";
}

const impure: ReadonlySet<Node["op"]> = new Set([
  "readState", "readRegister", "readFlag", "readVariable", "load", "effectiveAddress", "linearAddress", "routineResult",
]);
/** Cheap enough to repeat at every use. */
const repeatable: ReadonlySet<Node["op"]> = new Set(["const", "immediate", "nextRip", "thisRip", "branchTarget"]);

function countUses(block: readonly Node[], uses: Map<Node, number>): Map<Node, number> {
  for (const node of block) {
    for (const argument of node.args) uses.set(argument, (uses.get(argument) ?? 0) + 1);
    if (node.op === "if") {
      countUses(node.then, uses);
      countUses(node.otherwise, uses);
    }
  }
  return uses;
}

const narrowMask: Partial<Record<Width, number>> = { 1: 1, 8: 0xff, 16: 0xffff };

/** Emits one handler's body. Locals are the builder's and are freed at the end. */
export class WasmEmitter {
  readonly #environment: EmitterEnvironment;
  readonly #f: FunctionBuilder;
  readonly #form: HandlerForm;
  readonly #uses: Map<Node, number>;
  readonly #values = new Map<Node, Local>();
  /** Host address local of each readForWrite load: 0 after a slow access. */
  readonly #hostAddresses = new Map<Node, Local<"i32">>();
  readonly #owned: Local[] = [];
  #effectiveAddress: Local<"i64"> | undefined;
  #depth = 0;

  constructor(environment: EmitterEnvironment, form: HandlerForm, body: readonly Node[]) {
    this.#environment = environment;
    this.#f = environment.f;
    this.#form = form;
    this.#uses = countUses(body, new Map());
    this.#block(body);
    for (const local of this.#owned) this.#f.freeLocal(local);
  }

  #local<T extends ValType>(type: T): Local<T> {
    const local = this.#f.addLocal(type);
    this.#owned.push(local);
    return local;
  }

  #block(block: readonly Node[]): void {
    for (const node of block) this.#statement(node);
  }

  #statement(node: Node): void {
    switch (node.op) {
      case "if": return this.#if(node);
      case "variable": {
        const local = this.#local(typeOfWidth(node.width));
        this.#push(node.args[0]);
        this.#f.local.set(local);
        this.#values.set(node, local);
        return;
      }
      case "writeVariable":
        this.#push(node.args[0]);
        this.#f.local.set(this.#values.get(node.variable)!);
        return;
      case "writeState": return this.#storeState(node.location, node.args[0]);
      case "writeRegister": return this.#writeRegister(node.slot, node.args[0]);
      case "writeFlags": return this.#writeFlags(node.flags, node.args);
      case "arithmeticFlags": return this.#arithmeticFlags(node.args[0], node.args[1], node.keepCarry);
      case "logicFlags":
        this.#storeFlagsResult(node.args[0]);
        this.#stateAddress();
        this.#f.i32.const(0);
        return this.#f.i32.store(state.flagsAux.offset);
      case "store": return this.#store(node);
      case "checkWrite": return this.#checkWrite(node);
      case "raise": return this.#raise(node.vector, node.errorCode);
      case "jump":
        this.#stateAddress();
        this.#push(node.args[0]);
        this.#f.i64.store(state.rip.offset);
        return this.#environment.exits.jump();
      case "jumpTarget": return this.#environment.exits.jumpTarget();
      case "routine": return this.#routine(node);
      default: {
        if (repeatable.has(node.op)) return;
        const uses = this.#uses.get(node) ?? 0;
        // A load is kept even when nobody wants the value: it may fault.
        if (uses === 0 && node.op !== "load") return;
        if (uses <= 1 && !impure.has(node.op)) return;
        if (node.op === "effectiveAddress" && this.#effectiveAddress !== undefined) {
          this.#values.set(node, this.#effectiveAddress);
          return;
        }
        const local = this.#local(typeOfWidth(node.width));
        this.#compute(node, local);
        this.#f.local.set(local);
        this.#values.set(node, local);
        if (node.op === "effectiveAddress" && this.#depth === 0) this.#effectiveAddress = local as Local<"i64">;
      }
    }
  }

  /** Pushes the value of a node. */
  #push(node: Node): void {
    const local = this.#values.get(node);
    if (local !== undefined) this.#f.local.get(local);
    else this.#compute(node, undefined);
  }

  #pushAll(nodes: readonly Node[]): void {
    for (const node of nodes) this.#push(node);
  }

  /** Pushes a node as i64, zero-extended. */
  #push64(node: Node): void {
    this.#push(node);
    if (node.width !== 64) this.#f.i64.extend_i32_u();
  }

  #stateAddress(): void {
    this.#f.local.get(this.#environment.cpu);
  }

  #recordField16(offset: number): void {
    this.#f.local.get(this.#environment.record);
    this.#f.i32.load16_u(offset);
  }

  /** Pushes the address of the register that a 16-bit record field names. */
  #registerAddress(recordOffset: number): void {
    this.#stateAddress();
    this.#recordField16(recordOffset);
    this.#f.i32.add();
  }

  #loadWidth(width: Width, offset: number): void {
    const f = this.#f;
    switch (width) {
      case 1: case 8: return f.i32.load8_u(offset);
      case 16: return f.i32.load16_u(offset);
      case 32: return f.i32.load({ offset, align: 1 });
      case 64: return f.i64.load({ offset, align: 1 });
      case 128: return f.v128.load({ offset, align: 1 });
    }
  }

  #storeWidth(width: Width, offset: number): void {
    const f = this.#f;
    switch (width) {
      case 1: case 8: return f.i32.store8(offset);
      case 16: return f.i32.store16(offset);
      case 32: return f.i32.store({ offset, align: 1 });
      case 64: return f.i64.store({ offset, align: 1 });
      case 128: return f.v128.store({ offset, align: 1 });
    }
  }

  #storeState(location: { readonly offset: number; readonly width: Width }, value: Node): void {
    this.#stateAddress();
    this.#push(value);
    this.#storeWidth(location.width, location.offset);
  }

  #writeRegister(slot: number, value: Node): void {
    const operand = this.#form.operands[slot];
    this.#registerAddress(operandFields[slot]);
    this.#push(value);
    if (operand.kind === "register" && operand.file === "gpr" && value.width === 32) {
      this.#f.i64.extend_i32_u();
      return this.#f.i64.store();
    }
    this.#storeWidth(value.width, 0);
  }

  #mask(width: Width): void {
    const mask = narrowMask[width];
    if (mask === undefined) return;
    this.#f.i32.const(mask);
    this.#f.i32.and();
  }

  /** Pushes a value of 32 bits or less sign-extended within its wasm type. */
  #pushSigned(node: Node): void {
    this.#push(node);
    if (node.width === 8) this.#f.i32.extend8_s();
    else if (node.width === 16) this.#f.i32.extend16_s();
    else if (node.width === 1) {
      this.#f.i32.const(31);
      this.#f.i32.shl();
      this.#f.i32.const(31);
      this.#f.i32.shr_s();
    }
  }

  #compute(node: Node, destination: Local | undefined): void {
    const { f } = { f: this.#f };
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
      case "immediate":
        f.local.get(this.#environment.record);
        if (width === 8 || width === 1) return f.i32.load8_u(RecordField.immediate);
        if (width === 16) return f.i32.load16_u(RecordField.immediate);
        return wide ? f.i64.load(RecordField.immediate) : f.i32.load(RecordField.immediate);
      case "nextRip": return this.#ripPlus(RecordField.next);
      case "thisRip": return this.#ripPlus(RecordField.start);
      case "branchTarget":
        this.#stateAddress();
        f.i64.load(state.ripBase.offset);
        f.local.get(this.#environment.record);
        f.i64.load32_s(RecordField.immediate);
        return f.i64.add();
      case "add": case "sub": case "mul": case "shl":
        this.#pushAll(args);
        f[wide ? "i64" : "i32"][node.op]();
        return this.#mask(width);
      case "and": case "or": case "xor":
        this.#pushAll(args);
        return f[wide ? "i64" : "i32"][node.op]();
      case "shr":
        this.#pushAll(args);
        return wide ? f.i64.shr_u() : f.i32.shr_u();
      case "sar":
        this.#pushSigned(args[0]);
        this.#push(args[1]);
        if (wide) return f.i64.shr_s();
        f.i32.shr_s();
        return this.#mask(width);
      case "rotl": case "rotr": return this.#rotate(node.op, width, args);
      case "divU": case "divS": case "remU": case "remS": {
        invariant(width >= 32, "divisions are 32 or 64 bits wide");
        this.#pushAll(args);
        const group = wide ? f.i64 : f.i32;
        if (node.op === "divU") return group.div_u();
        if (node.op === "divS") return group.div_s();
        return node.op === "remU" ? group.rem_u() : group.rem_s();
      }
      case "mulHighU": return this.#mulHigh(args[0], args[1], false);
      case "mulHighS": return this.#mulHigh(args[0], args[1], true);
      case "eq": case "ne": {
        this.#pushAll(args);
        const group = args[0].width === 64 ? f.i64 : f.i32;
        return group[node.op]();
      }
      case "ltU": case "leU": {
        this.#pushAll(args);
        const group = args[0].width === 64 ? f.i64 : f.i32;
        return node.op === "ltU" ? group.lt_u() : group.le_u();
      }
      case "ltS": case "leS": {
        this.#pushSigned(args[0]);
        this.#pushSigned(args[1]);
        const group = args[0].width === 64 ? f.i64 : f.i32;
        return node.op === "ltS" ? group.lt_s() : group.le_s();
      }
      case "not":
        this.#push(args[0]);
        if (wide) {
          f.i64.const(-1);
          return f.i64.xor();
        }
        f.i32.const(-1);
        f.i32.xor();
        return this.#mask(width);
      case "neg":
        if (wide) f.i64.const(0);
        else f.i32.const(0);
        this.#push(args[0]);
        if (wide) return f.i64.sub();
        f.i32.sub();
        return this.#mask(width);
      case "clz":
        this.#push(args[0]);
        if (wide) return f.i64.clz();
        f.i32.clz();
        f.i32.const(32 - width);
        return f.i32.sub();
      case "ctz":
        this.#push(args[0]);
        if (wide) return f.i64.ctz();
        if (width < 32) {
          f.i32.const(1 << width);
          f.i32.or();
        }
        return f.i32.ctz();
      case "popcnt":
        this.#push(args[0]);
        return wide ? f.i64.popcnt() : f.i32.popcnt();
      case "zext": return this.#zext(args[0], width);
      case "sext":
        this.#pushSigned(args[0]);
        if (wide) return f.i64.extend_i32_s();
        return this.#mask(width);
      case "trunc":
        this.#push(args[0]);
        if (args[0].width === 128) f.i64x2.extract_lane(0);
        if (args[0].width >= 64 && width < 64) f.i32.wrap_i64();
        return this.#mask(width);
      case "select":
        this.#pushAll([args[1], args[2], args[0]]);
        return f.select();
      case "extractLane": return this.#extractLane(args[0], width, node.lane);
      case "insertLane": {
        this.#pushAll(args);
        const lane = args[1].width;
        if (lane === 8) return f.i8x16.replace_lane(node.lane);
        if (lane === 16) return f.i16x8.replace_lane(node.lane);
        return lane === 32 ? f.i32x4.replace_lane(node.lane) : f.i64x2.replace_lane(node.lane);
      }
      case "splat":
        this.#push(args[0]);
        if (node.laneWidth === 8) return f.i8x16.splat();
        if (node.laneWidth === 16) return f.i16x8.splat();
        return node.laneWidth === 32 ? f.i32x4.splat() : f.i64x2.splat();
      case "shuffle":
        this.#pushAll(args);
        return f.i8x16.shuffle(node.lanes);
      case "vector": {
        this.#pushAll(args);
        return this.#named(node.name);
      }
      case "float": return this.#float(node.name, args, width);
      case "readState":
        this.#stateAddress();
        return this.#loadWidth(width, node.location.offset);
      case "readRegister":
        this.#registerAddress(operandFields[node.slot]);
        return this.#loadWidth(width, 0);
      case "readFlag": return this.#readFlag(node.flag);
      case "readVariable": return f.local.get(this.#values.get(node.variable)!);
      case "effectiveAddress": return this.#computeEffectiveAddress();
      case "linearAddress":
        this.#push(args[0]);
        return this.#addSegmentBase(node.segment);
      case "load": return this.#load(node, destination!);
      case "routineResult":
        this.#stateAddress();
        return this.#loadWidth(width, state.scratch[node.index].offset);
      default:
        invariant(false, `${node.op} has no value`);
    }
  }

  #named(name: string): void {
    const [group, operation] = name.split(".") as ["i32x4", "add"];
    const emit = this.#f[group]?.[operation] as ((this: unknown) => void) | undefined;
    invariant(emit !== undefined, `no operation ${name}`);
    emit.call(this.#f[group]);
  }

  /** Raw bits in, raw bits out; comparisons give 0 or 1. */
  #float(name: string, args: readonly Node[], width: Width): void {
    const f = this.#f;
    const reinterpret = (node: Node): void => {
      this.#push(node);
      if (node.width === 64) f.f64.reinterpret_i64();
      else f.f32.reinterpret_i32();
    };
    if (name.includes("convert_i")) this.#pushAll(args);
    else for (const argument of args) reinterpret(argument);
    this.#named(name);
    if (width === 1 || name.startsWith("i")) return;
    if (width === 64) f.i64.reinterpret_f64();
    else f.i32.reinterpret_f32();
  }

  #ripPlus(field: number): void {
    this.#stateAddress();
    this.#f.i64.load(state.ripBase.offset);
    this.#f.local.get(this.#environment.record);
    this.#f.i64.load16_u(field);
    this.#f.i64.add();
  }

  #rotate(op: "rotl" | "rotr", width: Width, args: readonly Node[]): void {
    const f = this.#f;
    if (width >= 32) {
      this.#pushAll(args);
      return width === 64 ? f.i64[op]() : f.i32[op]();
    }
    // (v << c | v >> (width - c)), or mirrored; the count is below the width.
    this.#push(args[0]);
    this.#push(args[1]);
    if (op === "rotl") f.i32.shl();
    else f.i32.shr_u();
    this.#push(args[0]);
    f.i32.const(width);
    this.#push(args[1]);
    f.i32.sub();
    if (op === "rotl") f.i32.shr_u();
    else f.i32.shl();
    f.i32.or();
    this.#mask(width);
  }

  #mulHigh(a: Node, b: Node, signed: boolean): void {
    invariant(a.width === 64, "high products are of 64-bit values");
    const f = this.#f;
    const [x, y, t] = [this.#local("i64"), this.#local("i64"), this.#local("i64")];
    this.#push(a);
    f.local.set(x);
    this.#push(b);
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
    const f = this.#f;
    if (width === 128) {
      f.v128.const(new Uint8Array(16));
      this.#push64(value);
      return f.i64x2.replace_lane(0);
    }
    this.#push(value);
    if (width === 64) f.i64.extend_i32_u();
  }

  #extractLane(vector: Node, width: Width, lane: number): void {
    this.#push(vector);
    const f = this.#f;
    if (width === 8) return f.i8x16.extract_lane_u(lane);
    if (width === 16) return f.i16x8.extract_lane_u(lane);
    return width === 32 ? f.i32x4.extract_lane(lane) : f.i64x2.extract_lane(lane);
  }

  // --- flags -------------------------------------------------------------------------------------------------------

  #aux(): void {
    this.#stateAddress();
    this.#f.i32.load(state.flagsAux.offset);
  }

  #result(): void {
    this.#stateAddress();
    this.#f.i64.load(state.flagsResult.offset);
  }

  #auxBit(bit: number): void {
    this.#aux();
    this.#f.i32.const(bit);
    this.#f.i32.shr_u();
    this.#f.i32.const(1);
    this.#f.i32.and();
  }

  #readFlag(flag: Flag): void {
    const f = this.#f;
    switch (flag) {
      case "cf":
        this.#aux();
        f.i32.const(31);
        return f.i32.shr_u();
      case "of":
        this.#aux();
        this.#aux();
        f.i32.const(1);
        f.i32.shl();
        f.i32.xor();
        f.i32.const(31);
        return f.i32.shr_u();
      case "af": return this.#auxBit(3);
      case "zf":
        this.#result();
        return f.i64.eqz();
      case "sf":
        this.#result();
        f.i64.const(63);
        f.i64.shr_u();
        f.i32.wrap_i64();
        this.#auxBit(0);
        return f.i32.xor();
      case "pf":
        this.#result();
        f.i32.wrap_i64();
        this.#aux();
        f.i32.const(8);
        f.i32.shr_u();
        f.i32.xor();
        f.i32.const(0xff);
        f.i32.and();
        f.i32.popcnt();
        f.i32.const(-1);
        f.i32.xor();
        f.i32.const(1);
        return f.i32.and();
    }
  }

  /** flagsResult = the node's value, sign-extended. */
  #storeFlagsResult(result: Node): void {
    this.#stateAddress();
    this.#pushSigned(result);
    if (result.width !== 64) this.#f.i64.extend_i32_s();
    this.#f.i64.store(state.flagsResult.offset);
  }

  /** Pushes the carry vector as an auxiliary word: bits 31 and 30 the two top carries, bit 3 carry 3, others 0. */
  #auxiliaryOfCarries(carries: Node): void {
    const f = this.#f;
    if (carries.width === 64) {
      const c = this.#local("i64");
      this.#push(carries);
      f.local.tee(c);
      f.i64.const(32);
      f.i64.shr_u();
      f.i32.wrap_i64();
      f.i32.const(0xc000_0000 | 0);
      f.i32.and();
      f.local.get(c);
      f.i32.wrap_i64();
      f.i32.const(8);
      f.i32.and();
      return f.i32.or();
    }
    this.#push(carries);
    if (carries.width < 32) {
      const c = this.#local("i32");
      f.local.tee(c);
      f.i32.const(32 - carries.width);
      f.i32.shl();
      f.local.get(c);
      f.i32.or();
    }
    f.i32.const(0xc000_0008 | 0);
    f.i32.and();
  }

  #arithmeticFlags(result: Node, carries: Node, keepCarry: boolean): void {
    const f = this.#f;
    if (keepCarry) {
      const aux = this.#local("i32");
      this.#auxiliaryOfCarries(carries);
      f.local.set(aux);
      this.#storeFlagsResult(result);
      this.#stateAddress();
      // OF in bit 31 of aux ^ aux << 1; bit 30 of the new word is the old CF xor that.
      this.#aux();
      f.i32.const(0x8000_0000 | 0);
      f.i32.and();
      const carry = this.#local("i32");
      f.local.tee(carry);
      f.local.get(carry);
      f.local.get(aux);
      f.local.get(aux);
      f.i32.const(1);
      f.i32.shl();
      f.i32.xor();
      f.i32.const(0x8000_0000 | 0);
      f.i32.and();
      f.i32.xor();
      f.i32.const(1);
      f.i32.shr_u();
      f.i32.or();
      f.local.get(aux);
      f.i32.const(8);
      f.i32.and();
      f.i32.or();
      return f.i32.store(state.flagsAux.offset);
    }
    this.#storeFlagsResult(result);
    this.#stateAddress();
    this.#auxiliaryOfCarries(carries);
    f.i32.store(state.flagsAux.offset);
  }

  /** Writes some flags; the others keep their values. */
  #writeFlags(flags: readonly Flag[], values: readonly Node[]): void {
    const f = this.#f;
    const locals = {} as Record<Flag, Local<"i32">>;
    const touchesResult = flags.some((flag) => flag === "zf" || flag === "sf" || flag === "pf");
    for (const flag of flagNames) {
      const index = flags.indexOf(flag);
      if (index < 0 && !touchesResult && (flag === "zf" || flag === "sf" || flag === "pf")) continue;
      locals[flag] = this.#local("i32");
      if (index < 0) this.#readFlag(flag);
      else this.#push(values[index]);
      f.local.set(locals[flag]);
    }
    const place = (flag: Flag, bit: number): void => {
      f.local.get(locals[flag]);
      f.i32.const(bit);
      f.i32.shl();
    };
    this.#stateAddress();
    place("cf", 31);
    f.local.get(locals.cf);
    f.local.get(locals.of);
    f.i32.xor();
    f.i32.const(30);
    f.i32.shl();
    f.i32.or();
    place("af", 3);
    f.i32.or();
    if (touchesResult) {
      f.local.get(locals.sf);
      f.i32.or();
      f.local.get(locals.pf);
      f.local.get(locals.zf);
      f.i32.xor();
      f.i32.const(8);
      f.i32.shl();
      f.i32.or();
    } else {
      this.#aux();
      f.i32.const(0x0000_ff01);
      f.i32.and();
      f.i32.or();
    }
    f.i32.store(state.flagsAux.offset);
    if (!touchesResult) return;
    this.#stateAddress();
    f.local.get(locals.zf);
    f.i32.eqz();
    f.i64.extend_i32_u();
    f.i64.store(state.flagsResult.offset);
  }

  // --- memory ------------------------------------------------------------------------------------------------------

  #computeEffectiveAddress(): void {
    const f = this.#f;
    const { address, variant } = this.#form;
    if (address.absolute) {
      f.local.get(this.#environment.record);
      f.i64.load(RecordField.immediate);
    } else {
      this.#registerAddress(RecordField.base);
      f.i64.load();
      if (address.hasIndex) {
        this.#registerAddress(RecordField.index);
        f.i64.load();
        f.local.get(this.#environment.record);
        f.i64.load8_u(RecordField.scale);
        f.i64.shl();
        f.i64.add();
      }
      f.local.get(this.#environment.record);
      f.i64.load32_s(RecordField.displacement);
      f.i64.add();
    }
    if (variant.addressSize === 64) return;
    f.i64.const(variant.addressSize === 32 ? 0xffff_ffffn : 0xffffn);
    f.i64.and();
  }

  #segmentation(segment: SegmentReference): "flat" | "based" | "checked" {
    if (!this.#form.variant.long) return "checked";
    if (segment === "operand") return this.#form.address.segmentation;
    return segment >= 4 ? "based" : "flat";
  }

  /** Pushes the address of the segment's fields in the state area: base, readEnd, writeEnd. */
  #segmentAddress(segment: SegmentReference): void {
    this.#stateAddress();
    if (segment !== "operand") return;
    const [first, second] = state.segments;
    this.#f.local.get(this.#environment.record);
    this.#f.i32.load8_u(RecordField.segment);
    this.#f.i32.const(second.base.offset - first.base.offset);
    this.#f.i32.mul();
    this.#f.i32.add();
  }

  #segmentFieldOffset(segment: SegmentReference, field: "base" | "readEnd" | "writeEnd"): number {
    return state.segments[segment === "operand" ? 0 : segment][field].offset;
  }

  /** Offset on the stack becomes a linear address, without a check. */
  #addSegmentBase(segment: SegmentReference): void {
    const f = this.#f;
    const segmentation = this.#segmentation(segment);
    if (segmentation === "flat") return;
    this.#segmentAddress(segment);
    f.i64.load(this.#segmentFieldOffset(segment, "base"));
    f.i64.add();
    if (segmentation === "based") return;
    f.i64.const(0xffff_ffffn);
    f.i64.and();
  }

  #setCurrentRecord(): void {
    this.#stateAddress();
    this.#f.local.get(this.#environment.record);
    this.#f.i32.store(state.currentRecord.offset);
  }

  /** Calls a host function whose non-zero answer means fault; its arguments are pushed by `push`. */
  #callOrFault(host: FuncIndex, push: () => void): void {
    const f = this.#f;
    this.#setCurrentRecord();
    push();
    f.call(host);
    f.if("void", "unlikely");
    this.#environment.exits.fault();
    f.end();
  }

  /** Leaves the linear address of an access in a local, after the segment check. */
  #linear(segment: SegmentReference, offset: Node, sizeBytes: number, forWrite: boolean): Local<"i64"> {
    const f = this.#f;
    const linear = this.#local("i64");
    if (this.#segmentation(segment) === "checked") {
      this.#push(offset);
      f.i64.const(sizeBytes);
      f.i64.add();
      this.#segmentAddress(segment);
      f.i64.load(this.#segmentFieldOffset(segment, forWrite ? "writeEnd" : "readEnd"));
      f.i64.gt_u();
      f.if("void", "unlikely");
      this.#stateAddress();
      this.#push(offset);
      f.i64.store(state.slowAddress.offset);
      this.#callOrFault(this.#environment.host.segmentCheck, () => {
        f.i32.const(segment === "operand" ? -1 : segment);
        f.i32.const(sizeBytes);
        f.i32.const(forWrite ? 1 : 0);
      });
      f.end();
    }
    this.#push(offset);
    this.#addSegmentBase(segment);
    f.local.set(linear);
    return linear;
  }

  /** Pushes 1 when the TLB's read or write tag matches; leaves the entry's address in `entry`. */
  #probe(linear: Local<"i64">, sizeBytes: number, tagOffset: number, entry: Local<"i32">): void {
    const f = this.#f;
    this.#stateAddress();
    f.local.get(linear);
    f.i32.wrap_i64();
    f.i32.const(7);
    f.i32.shr_u();
    f.i32.const((state.tlbEntries - 1) * state.tlbEntrySizeBytes);
    f.i32.and();
    f.i32.add();
    f.local.tee(entry);
    f.i64.load(state.tlbOffset + tagOffset);
    f.local.get(linear);
    if (sizeBytes > 1) {
      f.i64.const(sizeBytes - 1);
      f.i64.add();
    }
    f.i64.const(-4096);
    f.i64.and();
    this.#stateAddress();
    f.i64.load(state.tlbContext.offset);
    f.i64.or();
    f.i64.eq();
  }

  #hostAddress(linear: Local<"i64">, entry: Local<"i32">): void {
    const f = this.#f;
    f.local.get(linear);
    f.i32.wrap_i64();
    f.local.get(entry);
    f.i32.load(state.tlbOffset + 16);
    f.i32.add();
  }

  #setSlowAddress(linear: Local<"i64">): void {
    this.#stateAddress();
    this.#f.local.get(linear);
    this.#f.i64.store(state.slowAddress.offset);
  }

  #load(node: Extract<Node, { op: "load" }>, destination: Local): void {
    const f = this.#f;
    const sizeBytes = node.width / 8;
    const forWrite = node.intent === "readForWrite";
    const linear = this.#linear(node.segment, node.args[0], sizeBytes, forWrite);
    const entry = this.#local("i32");
    const hostAddress = forWrite ? this.#local("i32") : undefined;
    this.#probe(linear, sizeBytes, forWrite ? 8 : 0, entry);
    f.if("void", "likely");
    this.#hostAddress(linear, entry);
    if (hostAddress !== undefined) f.local.tee(hostAddress);
    this.#loadWidth(node.width, 0);
    f.local.set(destination);
    f.else();
    this.#setSlowAddress(linear);
    this.#callOrFault(this.#environment.host.slowLoad, () => {
      f.i32.const(sizeBytes);
      f.i32.const(accessFlags(node.segment, forWrite));
    });
    if (hostAddress !== undefined) {
      f.i32.const(0);
      f.local.set(hostAddress);
      this.#hostAddresses.set(node, hostAddress);
    }
    this.#stateAddress();
    this.#loadWidth(node.width, scratchValue.offset);
    f.local.set(destination);
    f.end();
    f.local.get(destination);
  }

  #slowStore(segment: SegmentReference, linear: () => void, value: Node): void {
    const f = this.#f;
    this.#stateAddress();
    linear();
    f.i64.store(state.slowAddress.offset);
    this.#stateAddress();
    this.#push(value);
    this.#storeWidth(value.width, scratchValue.offset);
    this.#callOrFault(this.#environment.host.slowStore, () => {
      f.i32.const(value.width / 8);
      f.i32.const(accessFlags(segment, true));
    });
  }

  #store(node: Extract<Node, { op: "store" }>): void {
    const f = this.#f;
    const [offset, value] = node.args;
    const sizeBytes = value.width / 8;
    const known = node.prepared === undefined ? undefined : this.#hostAddresses.get(node.prepared);
    if (known !== undefined) {
      f.local.get(known);
      f.if("void", "likely");
      f.local.get(known);
      this.#push(value);
      this.#storeWidth(value.width, 0);
      f.else();
      this.#slowStore(node.segment, () => {
        this.#push(offset);
        this.#addSegmentBase(node.segment);
      }, value);
      f.end();
      return;
    }
    const linear = this.#linear(node.segment, offset, sizeBytes, true);
    const entry = this.#local("i32");
    this.#probe(linear, sizeBytes, 8, entry);
    f.if("void", "likely");
    this.#hostAddress(linear, entry);
    this.#push(value);
    this.#storeWidth(value.width, 0);
    f.else();
    this.#slowStore(node.segment, () => f.local.get(linear), value);
    f.end();
  }

  #checkWrite(node: Extract<Node, { op: "checkWrite" }>): void {
    const f = this.#f;
    const linear = this.#linear(node.segment, node.args[0], node.sizeBytes, true);
    const entry = this.#local("i32");
    this.#probe(linear, node.sizeBytes, 8, entry);
    f.i32.eqz();
    f.if("void", "unlikely");
    this.#setSlowAddress(linear);
    this.#callOrFault(this.#environment.host.slowCheckWrite, () => {
      f.i32.const(node.sizeBytes);
      f.i32.const(accessFlags(node.segment, true));
    });
    f.end();
  }

  // --- control -----------------------------------------------------------------------------------------------------

  #if(node: Extract<Node, { op: "if" }>): void {
    const f = this.#f;
    this.#push(node.args[0]);
    const outerAddress = this.#effectiveAddress;
    f.if("void", node.then.length === 1 && node.then[0].op === "raise" ? "unlikely" : undefined);
    this.#depth++;
    this.#block(node.then);
    if (node.otherwise.length > 0) {
      f.else();
      this.#block(node.otherwise);
    }
    this.#depth--;
    this.#effectiveAddress = outerAddress;
    f.end();
  }

  #raise(vector: number, errorCode: number | undefined): void {
    const f = this.#f;
    this.#stateAddress();
    f.i32.const(vector);
    f.i32.store(state.exceptionVector.offset);
    this.#stateAddress();
    f.i32.const(errorCode ?? 0);
    f.i32.store(state.exceptionErrorCode.offset);
    this.#setCurrentRecord();
    this.#environment.exits.fault();
  }

  #routine(node: Extract<Node, { op: "routine" }>): void {
    const f = this.#f;
    node.args.forEach((argument, index) => {
      this.#stateAddress();
      if (argument.width === 128) {
        this.#push(argument);
        f.v128.store(state.scratch[index].offset);
      } else {
        this.#push64(argument);
        f.i64.store(state.scratch[index].offset);
      }
    });
    this.#setCurrentRecord();
    const status = this.#local("i32");
    f.i32.const(this.#environment.routineNumber(node.routine));
    f.call(this.#environment.host.routine);
    f.local.tee(status);
    f.if("void", "unlikely");
    f.local.get(status);
    f.i32.const(2);
    f.i32.eq();
    f.if();
    this.#environment.exits.fault();
    f.end();
    f.local.get(status);
    f.i32.const(1);
    f.i32.eq();
    f.if();
    this.#environment.exits.jump();
    f.end();
    this.#stateAddress();
    this.#ripPlus(RecordField.next);
    f.i64.store(state.rip.offset);
    this.#environment.exits.exit();
    f.end();
  }
}

