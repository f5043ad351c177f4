/** State of the processor as fast paths of routines reach it: nothing of an instruction but the routine's arguments. */
import { invariant } from "../../base/errors.ts";
import type { Node, StateRow } from "../../ir/index.ts";
import type { Local } from "../../wasm/index.ts";
import type { EmitterCore } from "./core.ts";
import type { EffectNode, FastPathNode, Places, ReadNode } from "./places.ts";

export class FastPathPlaces implements Places {
  readonly #core: EmitterCore;
  readonly #cpu: Local<"i32">;

  constructor(core: EmitterCore) {
    this.#core = core;
    this.#cpu = core.f.param<"i32">(0);
  }

  constant(node: ReadNode | FastPathNode): bigint | undefined {
    return node.op === "isNoted" ? 0n : undefined;
  }

  beforeIf(): void {}

  enterConditional(): void {}

  leaveConditional(): void {}

  read(node: ReadNode): void {
    invariant(node.op === "readState" || node.op === "readStateBits", `${node.op} in a fast path`);
    const { f } = this.#core;
    f.local.get(this.#cpu);
    this.#core.loadWidth(node.location.width, node.location.offset);
    if (node.op === "readState") return;
    f.i32.const(node.mask);
    f.i32.and();
  }

  perform(node: EffectNode): void {
    invariant(node.op === "writeState", `${node.op} in a fast path`);
    this.#core.f.local.get(this.#cpu);
    this.#core.push(node.args[0]);
    this.#core.storeWidth(node.location.width, node.location.offset);
  }

  fastPath(node: FastPathNode): void {
    const { f } = this.#core;
    switch (node.op) {
      case "parameter": return f.local.get(f.param(1 + node.index));
      case "readStateRow":
        this.#rowAddress(node.row, node.args[0]);
        return this.#core.loadWidth(node.width, node.row.first.offset);
      case "writeStateRow":
        this.#rowAddress(node.row, node.args[0]);
        this.#core.push(node.args[1]);
        return this.#core.storeWidth(node.row.first.width, node.row.first.offset);
      // Functions keep no notes.
      case "isNoted": case "note": return;
      case "readMemory":
        this.#core.push(node.args[0]);
        return this.#core.loadWidth(node.width, 0);
      case "writeMemory":
        this.#core.pushAll(node.args);
        return this.#core.storeWidth(node.args[1].width, 0);
      case "answer":
        this.#core.push(node.args[0]);
        return f.return();
    }
  }

  /** Pushes the address of a row's location, less the offset of the first. */
  #rowAddress({ strideBytes }: StateRow, index: Node): void {
    const { f } = this.#core;
    f.local.get(this.#cpu);
    this.#core.push(index);
    f.i32.const(strideBytes);
    f.i32.mul();
    f.i32.add();
  }
}
