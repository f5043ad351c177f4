/** IR to WebAssembly for one handler, operand numbers read from the record. The dispatch loop decides how execution goes on. */
import type { Node, Width } from "../ir/index.ts";
import * as state from "../isa/state.ts";
import type { Local } from "../wasm/index.ts";
import { EmitterCore, typeOfWidth, type EmitterEnvironment } from "./emit/core.ts";
import { FlagsEmitter } from "./emit/flags.ts";
import { MemoryEmitter } from "./emit/memory.ts";
import { ValueEmitter } from "./emit/values.ts";
import type { HandlerForm } from "./handler.ts";
import { operandFields, RecordField } from "./record.ts";

export type { EmitterEnvironment, Exits, HostFunctions } from "./emit/core.ts";

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

/** Emits one handler's body. Locals are the builder's and are freed at the end. */
export class WasmEmitter {
  readonly #core: EmitterCore;
  readonly #flags: FlagsEmitter;
  readonly #memory: MemoryEmitter;
  readonly #values: ValueEmitter;
  readonly #uses: Map<Node, number>;
  #effectiveAddress: Local<"i64"> | undefined;
  #depth = 0;

  constructor(environment: EmitterEnvironment, form: HandlerForm, body: readonly Node[]) {
    this.#core = new EmitterCore(environment, form);
    this.#flags = new FlagsEmitter(this.#core);
    this.#memory = new MemoryEmitter(this.#core);
    this.#values = new ValueEmitter(this.#core, this.#flags, this.#memory);
    this.#core.computeValue = (node) => this.#values.compute(node, undefined);
    this.#uses = countUses(body, new Map());
    this.#block(body);
    this.#core.release();
  }

  #block(block: readonly Node[]): void {
    for (const node of block) this.#statement(node);
  }

  #statement(node: Node): void {
    switch (node.op) {
      case "if": return this.#if(node);
      case "variable": {
        const local = this.#core.local(typeOfWidth(node.width));
        this.#core.push(node.args[0]);
        this.#core.f.local.set(local);
        this.#core.values.set(node, local);
        return;
      }
      case "writeVariable":
        this.#core.push(node.args[0]);
        this.#core.f.local.set(this.#core.values.get(node.variable)!);
        return;
      case "writeState": return this.#storeState(node.location, node.args[0]);
      case "writeRegister": return this.#writeRegister(node.slot, node.args[0]);
      case "writeFlags": return this.#flags.writeFlags(node.flags, node.args);
      case "arithmeticFlags": return this.#flags.arithmeticFlags(node.args[0], node.args[1], node.keepCarry);
      case "logicFlags": return this.#flags.logicFlags(node.args[0]);
      case "store": return this.#memory.store(node);
      case "checkWrite": return this.#memory.checkWrite(node);
      case "raise": return this.#raise(node.vector, node.errorCode);
      case "jump":
        this.#core.stateAddress();
        this.#core.push(node.args[0]);
        this.#core.f.i64.store(state.rip.offset);
        return this.#core.environment.exits.jump();
      case "jumpTarget": return this.#core.environment.exits.jumpTarget();
      case "routine": return this.#routine(node);
      default: {
        if (repeatable.has(node.op)) return;
        const uses = this.#uses.get(node) ?? 0;
        // A load is kept even when nobody wants the value: it may fault.
        if (uses === 0 && node.op !== "load") return;
        if (uses <= 1 && !impure.has(node.op)) return;
        if (node.op === "effectiveAddress" && this.#effectiveAddress !== undefined) {
          this.#core.values.set(node, this.#effectiveAddress);
          return;
        }
        const local = this.#core.local(typeOfWidth(node.width));
        this.#values.compute(node, local);
        this.#core.f.local.set(local);
        this.#core.values.set(node, local);
        if (node.op === "effectiveAddress" && this.#depth === 0) this.#effectiveAddress = local as Local<"i64">;
      }
    }
  }

  #storeState(location: { readonly offset: number; readonly width: Width }, value: Node): void {
    this.#core.stateAddress();
    this.#core.push(value);
    this.#core.storeWidth(location.width, location.offset);
  }

  #writeRegister(slot: number, value: Node): void {
    const operand = this.#core.form.operands[slot];
    this.#core.registerAddress(operandFields[slot]);
    this.#core.push(value);
    if (operand.kind === "register" && operand.file === "gpr" && value.width === 32) {
      this.#core.f.i64.extend_i32_u();
      return this.#core.f.i64.store();
    }
    this.#core.storeWidth(value.width, 0);
  }

  #if(node: Extract<Node, { op: "if" }>): void {
    const f = this.#core.f;
    this.#core.push(node.args[0]);
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
    const f = this.#core.f;
    this.#core.stateAddress();
    f.i32.const(vector);
    f.i32.store(state.exceptionVector.offset);
    this.#core.stateAddress();
    f.i32.const(errorCode ?? 0);
    f.i32.store(state.exceptionErrorCode.offset);
    this.#core.setCurrentRecord();
    this.#core.environment.exits.fault();
  }

  #routine(node: Extract<Node, { op: "routine" }>): void {
    const f = this.#core.f;
    node.args.forEach((argument, index) => {
      this.#core.stateAddress();
      if (argument.width === 128) {
        this.#core.push(argument);
        f.v128.store(state.scratch[index].offset);
      } else {
        this.#core.push64(argument);
        f.i64.store(state.scratch[index].offset);
      }
    });
    this.#core.setCurrentRecord();
    const status = this.#core.local("i32");
    f.i32.const(this.#core.environment.routineNumber(node.routine));
    f.call(this.#core.environment.host.routine);
    f.local.tee(status);
    f.if("void", "unlikely");
    f.local.get(status);
    f.i32.const(2);
    f.i32.eq();
    f.if();
    this.#core.environment.exits.fault();
    f.end();
    f.local.get(status);
    f.i32.const(1);
    f.i32.eq();
    f.if();
    this.#core.environment.exits.jump();
    f.end();
    this.#core.stateAddress();
    this.#core.ripPlus(RecordField.next);
    f.i64.store(state.rip.offset);
    this.#core.environment.exits.exit();
    f.end();
  }
}
