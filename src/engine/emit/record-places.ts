/** Operands, flags and memory of the interpreter: operand numbers come from the record. */
import type { Node, Width } from "../../ir/index.ts";
import * as state from "../../isa/state.ts";
import type { Local } from "../../wasm/index.ts";
import { remembersTarget } from "../handler.ts";
import { operandFields, RecordField } from "../record.ts";
import { FlagsEmitter } from "./flags.ts";
import { MemoryEmitter } from "./memory.ts";
import type { EffectNode, NodeOf, Places, ReadNode } from "./places.ts";
import type { RecordCore } from "./record-core.ts";

export class RecordPlaces implements Places {
  readonly #core: RecordCore;
  readonly #flags: FlagsEmitter;
  readonly #memory: MemoryEmitter;

  constructor(core: RecordCore) {
    this.#core = core;
    this.#flags = new FlagsEmitter(core);
    this.#memory = new MemoryEmitter(core);
  }

  constant(): undefined {
    return undefined;
  }

  beforeIf(): void {}

  enterConditional(): void {}

  leaveConditional(): void {}

  read(node: ReadNode, destination: Local | undefined): void {
    const { f } = this.#core;
    switch (node.op) {
      case "immediate": return this.#immediate(node.width);
      case "nextRip": return this.#core.ripPlus(RecordField.next);
      case "thisRip": return this.#core.ripPlus(RecordField.start);
      case "branchTarget":
        this.#core.stateAddress();
        f.i64.load(state.ripBase.offset);
        f.local.get(this.#core.environment.record);
        f.i64.load32_s(RecordField.immediate);
        return f.i64.add();
      case "readState":
        this.#core.stateAddress();
        return this.#core.loadWidth(node.width, node.location.offset);
      case "readStateBits":
        this.#core.stateAddress();
        this.#core.loadWidth(node.location.width, node.location.offset);
        f.i32.const(node.mask);
        return f.i32.and();
      case "readRegister":
        this.#core.registerAddress(operandFields[node.slot]);
        return this.#core.loadWidth(node.width, 0);
      case "readFlag": return this.#flags.readFlag(node.flag);
      case "condition": return this.#flags.condition(node.code);
      case "effectiveAddress": return this.#memory.computeEffectiveAddress();
      case "linearAddress":
        this.#core.push(node.args[0]);
        return this.#memory.addSegmentBase(node.segment);
      case "load": return this.#memory.load(node, destination!);
      case "routineResult":
        this.#core.stateAddress();
        return this.#core.loadWidth(node.width, state.scratch[node.index].offset);
    }
  }

  perform(node: EffectNode): void {
    switch (node.op) {
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
        if (remembersTarget(this.#core.form, node.args[0])) this.#rememberTarget();
        return this.#core.environment.exits.jump();
      case "jumpTarget": return this.#core.environment.exits.jumpTarget();
      case "routine": return this.#routine(node);
    }
  }

  #rememberTarget(): void {
    const { f } = this.#core;
    f.local.get(this.#core.environment.record);
    this.#core.stateAddress();
    f.i64.load(state.rip.offset);
    this.#core.stateAddress();
    f.i64.load(state.ripBase.offset);
    f.i64.sub();
    f.i64.store32(RecordField.lastTarget);
  }

  #immediate(width: Width): void {
    const { f } = this.#core;
    f.local.get(this.#core.environment.record);
    if (width === 8 || width === 1) return f.i32.load8_u(RecordField.immediate);
    if (width === 16) return f.i32.load16_u(RecordField.immediate);
    return width === 64 ? f.i64.load(RecordField.immediate) : f.i32.load(RecordField.immediate);
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

  #routine(node: NodeOf<"routine">): void {
    const { f, environment } = this.#core;
    const fast = environment.fastFunction(node.routine);
    if (node.routine.observes === true) return this.#observe(node);
    if (fast === undefined) return this.#callHost(node);
    this.#core.stateAddress();
    this.#core.pushAll(node.args);
    f.call(fast);
    if (node.routine.fast!().isTotal) return f.drop();
    f.i32.eqz();
    f.if("void", "unlikely");
    this.#callHost(node);
    f.end();
  }

  #observe(node: NodeOf<"routine">): void {
    const f = this.#core.f;
    this.#passArguments(node);
    f.i32.const(this.#core.environment.routineNumber(node.routine));
    f.call(this.#core.environment.host.observe);
    f.if("void", "unlikely");
    this.#callRoutine(node);
    f.end();
  }

  #callHost(node: NodeOf<"routine">): void {
    this.#passArguments(node);
    this.#callRoutine(node);
  }

  #passArguments(node: NodeOf<"routine">): void {
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
  }

  #callRoutine(node: NodeOf<"routine">): void {
    const f = this.#core.f;
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
