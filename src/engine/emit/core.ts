/** What every part of the emitter needs: values on the stack, registers and record fields. */
import type { Node, Width } from "../../ir/index.ts";
import * as state from "../../isa/state.ts";
import type { FunctionBuilder, FuncIndex, Local, ValType } from "../../wasm/index.ts";
import type { HandlerForm } from "../handler.ts";

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

export function typeOfWidth(width: Width): "i32" | "i64" | "v128" {
  return width === 128 ? "v128" : width === 64 ? "i64" : "i32";
}

const narrowMask: Partial<Record<Width, number>> = { 1: 1, 8: 0xff, 16: 0xffff };

export class EmitterCore {
  readonly environment: EmitterEnvironment;
  readonly f: FunctionBuilder;
  readonly form: HandlerForm;
  /** Locals of the nodes that have one. */
  readonly values: Map<Node, Local> = new Map();
  readonly #owned: Local[] = [];
  /** Pushes a value that is in no local. */
  computeValue: (node: Node) => void = () => {};

  constructor(environment: EmitterEnvironment, form: HandlerForm) {
    this.environment = environment;
    this.f = environment.f;
    this.form = form;
  }

  /** Gives all locals back. */
  release(): void {
    for (const local of this.#owned) this.f.freeLocal(local);
  }

  local<T extends ValType>(type: T): Local<T> {
    const local = this.f.addLocal(type);
    this.#owned.push(local);
    return local;
  }

  /** Pushes the value of a node. */
  push(node: Node): void {
    const local = this.values.get(node);
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

  stateAddress(): void {
    this.f.local.get(this.environment.cpu);
  }

  recordField16(offset: number): void {
    this.f.local.get(this.environment.record);
    this.f.i32.load16_u(offset);
  }

  /** Pushes the address of the register that a 16-bit record field names. */
  registerAddress(recordOffset: number): void {
    this.stateAddress();
    this.recordField16(recordOffset);
    this.f.i32.add();
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

  ripPlus(field: number): void {
    this.stateAddress();
    this.f.i64.load(state.ripBase.offset);
    this.f.local.get(this.environment.record);
    this.f.i64.load16_u(field);
    this.f.i64.add();
  }

  setCurrentRecord(): void {
    this.stateAddress();
    this.f.local.get(this.environment.record);
    this.f.i32.store(state.currentRecord.offset);
  }
}
