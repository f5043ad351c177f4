/** IR to WebAssembly for one handler: the part that all tiers share. */
import type { FastPath, Node } from "../ir/index.ts";
import type { FunctionBuilder, Local } from "../wasm/index.ts";
import { EmitterCore, foldConstants, typeOfWidth } from "./emit/core.ts";
import { FastPathPlaces } from "./emit/fast-path-places.ts";
import type { FastPathNode, Places, ReadNode } from "./emit/places.ts";
import { RecordCore, type EmitterEnvironment } from "./emit/record-core.ts";
import { RecordPlaces } from "./emit/record-places.ts";
import { ValueEmitter } from "./emit/values.ts";
import type { Handler } from "./handler.ts";

export type { EmitterEnvironment, Exits, HostFunctions } from "./emit/record-core.ts";

const impure: ReadonlySet<Node["op"]> = new Set([
  "readState", "readStateBits", "readStateRow", "readMemory", "readRegister", "readFlag", "condition", "readVariable", "load", "effectiveAddress", "linearAddress",
  "routineResult", "isModerate",
]);
/** Cheap enough to repeat at every use. */
const repeatable: ReadonlySet<Node["op"]> = new Set(["const", "immediate", "nextRip", "thisRip", "branchTarget", "parameter"]);

/** What the places may know beforehand. */
const perhapsKnown: ReadonlySet<Node["op"]> = new Set(["immediate", "readState", "readStateBits", "parameter", "routineResult", "isNoted"]);

/** Blocks that raise an exception, refuse a fast path or call a routine are the rare ones. */
function isRare(block: readonly Node[]): boolean {
  return block.some(({ op }) => op === "raise" || op === "answer" || op === "routine");
}

function countUses(block: readonly Node[], uses: number[]): number[] {
  for (const node of block) {
    uses[node.id] ??= 0;
    for (const argument of node.args) uses[argument.id] = (uses[argument.id] ?? 0) + 1;
    if (node.op === "if") {
      countUses(node.then, uses);
      countUses(node.otherwise, uses);
    }
  }
  return uses;
}

function areKnown(nodes: readonly Node[], constants: readonly (bigint | undefined)[]): boolean {
  for (const { id } of nodes) if (constants[id] === undefined) return false;
  return true;
}

const knownUses = new WeakMap<readonly Node[], number[]>();

/** How often each value of a body is used, by its node's number. Bodies are emitted again and again. */
function usesIn(body: readonly Node[]): number[] {
  let uses = knownUses.get(body);
  if (uses === undefined) {
    uses = countUses(body, []);
    knownUses.set(body, uses);
  }
  return uses;
}

/** Emits handlers' bodies, one after the other. Locals are the builder's and are freed at the end of each. */
export class HandlerEmitter {
  readonly #core: EmitterCore;
  readonly #places: Places;
  readonly #values: ValueEmitter;
  #uses: readonly number[] = [];
  #effectiveAddress: Local<"i64"> | undefined;
  #depth = 0;

  constructor(core: EmitterCore, places: Places) {
    this.#core = core;
    this.#places = places;
    this.#values = new ValueEmitter(core, places);
    core.computeValue = (node) => this.#values.compute(node, undefined);
  }

  emit(body: readonly Node[]): void {
    this.#uses = usesIn(body);
    this.#effectiveAddress = undefined;
    this.#block(body);
    this.#core.release(this.#uses.length);
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
        this.#core.values[node.id] = local;
        return;
      }
      case "writeVariable":
        this.#core.push(node.args[0]);
        this.#core.f.local.set(this.#core.values[node.variable.id]!);
        return;
      case "writeState": case "writeRegister": case "writeFlags": case "arithmeticFlags": case "logicFlags": case "store":
      case "checkWrite": case "raise": case "jump": case "jumpTarget": case "routine":
        return this.#places.perform(node);
      case "writeStateRow": case "writeMemory": case "note": case "answer": return this.#places.fastPath!(node);
      default: {
        if (this.#fold(node) || repeatable.has(node.op)) return;
        const uses = this.#uses[node.id];
        // A load is kept even when nobody wants the value: it may fault.
        if (uses === 0 && node.op !== "load") return;
        if (uses <= 1 && !impure.has(node.op)) return;
        if (node.op === "effectiveAddress" && this.#effectiveAddress !== undefined) {
          this.#core.values[node.id] = this.#effectiveAddress;
          return;
        }
        const local = this.#core.local(typeOfWidth(node.width));
        this.#values.compute(node, local);
        this.#core.f.local.set(local);
        this.#core.values[node.id] = local;
        if (node.op === "effectiveAddress" && this.#depth === 0) this.#effectiveAddress = local as Local<"i64">;
      }
    }
  }

  /** Notes the value of a node that is known already. */
  #fold(node: Node): boolean {
    const { constants } = this.#core;
    let value: bigint | undefined;
    if (perhapsKnown.has(node.op)) value = this.#places.constant(node as ReadNode | FastPathNode);
    else if (areKnown(node.args, constants)) value = foldConstants(node, node.args.map((argument) => constants[argument.id]!));
    else if ((node.op === "and" || node.op === "mul") && node.args.some((argument) => constants[argument.id] === 0n)) value = 0n;
    if (value === undefined) return false;
    constants[node.id] = value;
    return true;
  }

  #if(node: Extract<Node, { op: "if" }>): void {
    const f = this.#core.f;
    const known = this.#core.constants[node.args[0].id];
    if (known !== undefined) return this.#block(known === 1n ? node.then : node.otherwise);
    this.#places.beforeIf(node);
    this.#core.push(node.args[0]);
    const outerAddress = this.#effectiveAddress;
    f.if("void", node.otherwise.length === 0 && isRare(node.then) ? "unlikely" : undefined);
    this.#depth++;
    this.#places.enterConditional();
    this.#block(node.then);
    this.#places.leaveConditional(node.then);
    if (node.otherwise.length > 0) {
      f.else();
      this.#places.enterConditional();
      this.#block(node.otherwise);
      this.#places.leaveConditional(node.otherwise);
    }
    this.#depth--;
    this.#effectiveAddress = outerAddress;
    f.end();
  }
}

/** Code of a handler for the interpreter, operand numbers read from the record. */
export function emitForInterpreter(environment: EmitterEnvironment, { form, body }: Handler): void {
  const core = new RecordCore(environment, form);
  new HandlerEmitter(core, new RecordPlaces(core)).emit(body);
}

/** The function of a fast path: its parameters are the base of the state area and the routine's arguments. */
export function emitFastPath(f: FunctionBuilder, path: FastPath): void {
  const core = new EmitterCore(f);
  new HandlerEmitter(core, new FastPathPlaces(core)).emit(path.body);
}
