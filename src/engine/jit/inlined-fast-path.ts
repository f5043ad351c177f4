/** A fast path as part of compiled code: its arguments are the caller's values, x87 state is in locals, refusals leave the region. */
import type { Node } from "../../ir/index.ts";
import * as state from "../../isa/state.ts";
import type { Local } from "../../wasm/index.ts";
import { EmitterCore, typeOfWidth } from "../emit/core.ts";
import type { EffectNode, FastPathNode, Places, ReadNode } from "../emit/places.ts";
import { HandlerEmitter } from "../wasm-emitter.ts";
import { isX87Offset, type RegionX87 } from "./region-x87.ts";

/** A value known beforehand, or the local it is in. */
export type FoundValue = bigint | Local;

const scratchStart = state.scratch[0].offset;
const scratchBytes: number = state.scratch[1].offset - scratchStart;
const scratchEnd: number = scratchStart + state.scratch.length * scratchBytes;

export class InlinedFastPath implements Places {
  readonly #core: EmitterCore;
  readonly #caller: EmitterCore;
  readonly #x87: RegionX87;
  readonly #base: number;
  readonly #arguments: FoundValue[];
  readonly #results: Map<number, FoundValue>;
  readonly #refuse: () => void;
  readonly #savedNotes: number[] = [];

  /** `results` takes what the routine would leave in scratch slots. */
  constructor(
    caller: EmitterCore, x87: RegionX87, base: number, args: readonly Node[], body: readonly Node[], results: Map<number, FoundValue>, refuse: () => void,
  ) {
    this.#core = new EmitterCore(caller.f);
    this.#x87 = x87;
    this.#base = base;
    this.#results = results;
    this.#refuse = refuse;
    this.#arguments = args.map((argument) => {
      const known = caller.constants[argument.id];
      if (known !== undefined) return known;
      const local = this.#core.local(typeOfWidth(argument.width));
      caller.push(argument);
      caller.f.local.set(local);
      return local;
    });
    this.#caller = caller;
    new HandlerEmitter(this.#core, this).emit(body);
  }

  /** Results outlive the fast path's own locals. */
  #keep(node: Node): FoundValue {
    const known = this.#core.constants[node.id];
    if (known !== undefined) return known;
    const local = this.#caller.local(typeOfWidth(node.width));
    this.#core.push(node);
    this.#core.f.local.set(local);
    return local;
  }

  constant(node: ReadNode | FastPathNode): bigint | undefined {
    if (node.op === "isNoted") {
      const number = this.#core.constants[node.args[0].id];
      return number !== undefined && this.#x87.isNoted(Number(number)) ? 1n : 0n;
    }
    if (node.op !== "parameter") return this.#x87.constant(node);
    const value = this.#arguments[node.index];
    return typeof value === "bigint" ? value : undefined;
  }

  beforeIf(): void {}

  enterConditional(): void {
    this.#savedNotes.push(this.#x87.notes);
  }

  leaveConditional(): void {
    this.#x87.notes &= this.#savedNotes.pop()!;
  }

  read(node: ReadNode): void {
    if (node.op !== "readState" && node.op !== "readStateBits") {
      this.#x87.isImpossible = true;
      return;
    }
    const { f } = this.#core;
    const { offset, width } = node.location;
    if (isX87Offset(offset)) {
      this.#x87.readRaw(offset);
    } else {
      f.i32.const(0);
      this.#core.loadWidth(width, this.#base + offset);
    }
    if (node.op === "readState") return;
    f.i32.const(node.mask);
    f.i32.and();
  }

  perform(node: EffectNode): void {
    if (node.op !== "writeState") {
      this.#x87.isImpossible = true;
      return;
    }
    const { offset, width } = node.location;
    const [value] = node.args;
    if (offset === state.x87TopGuess.offset) return this.#x87.setTop(this.#core.constants[value.id]);
    if (isX87Offset(offset)) return this.#x87.writeRaw(offset, () => this.#core.push(value));
    if (offset >= scratchStart && offset < scratchEnd) {
      this.#results.set((offset - scratchStart) / scratchBytes, this.#keep(value));
      return;
    }
    this.#core.f.i32.const(0);
    this.#core.push(value);
    this.#core.storeWidth(width, this.#base + offset);
  }

  fastPath(node: FastPathNode): void {
    const { f } = this.#core;
    switch (node.op) {
      case "parameter": return f.local.get(this.#arguments[node.index] as Local);
      case "readStateRow": {
        const number = this.#core.constants[node.args[0].id];
        if (isX87Offset(node.row.first.offset)) return this.#x87.readRaw(this.#x87.rowOffset(node.row.first, number));
        if (number === undefined) this.#x87.isImpossible = true;
        f.i32.const(0);
        return this.#core.loadWidth(node.width, this.#base + node.row.first.offset + Number(number ?? 0n) * node.row.strideBytes);
      }
      case "writeStateRow": {
        const number = this.#core.constants[node.args[0].id];
        return this.#x87.writeRaw(this.#x87.rowOffset(node.row.first, number), () => this.#core.push(node.args[1]));
      }
      case "isNoted": return;
      case "note": {
        const number = this.#core.constants[node.args[0].id];
        return this.#x87.note(Number(number ?? 0n), this.#core.constants[node.args[1].id] === 1n);
      }
      // Fast paths of the unit touch no memory.
      case "readMemory": case "writeMemory":
        this.#x87.isImpossible = true;
        return;
      case "answer":
        if (this.#core.constants[node.args[0].id] === 0n) this.#refuse();
    }
  }
}
