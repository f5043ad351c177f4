/** Fast paths of routines as WebAssembly functions, which interpreter and JIT import: made when the first code that calls them is. */
import { invariant } from "../base/errors.ts";
import type { Node, Routine } from "../ir/index.ts";
import { ModuleBuilder, type FuncIndex, type FunctionType } from "../wasm/index.ts";
import { typeOfWidth } from "./emit/core.ts";
import { routineNumber } from "./handler-registry.ts";
import { emitFastPath } from "./wasm-emitter.ts";
import { wasm, type WasmMemory } from "./web-assembly.ts";

/** How to import the function of a fast path. */
export interface FastFunction {
  /** Name of the import, in module `FastRoutines.moduleName`. */
  readonly name: string;
  /** Takes the base of the processor's state area and the routine's arguments; answers 1 when the routine's work is done, else 0. */
  readonly type: FunctionType;
  readonly isTotal: boolean;
}

/** Routines with a fast path that a body calls, each once. */
export function fastRoutinesOf(body: readonly Node[], found: Set<Routine> = new Set()): Set<Routine> {
  for (const node of body) {
    if (node.op === "routine" && node.routine.fast !== undefined) found.add(node.routine);
    if (node.op !== "if") continue;
    fastRoutinesOf(node.then, found);
    fastRoutinesOf(node.otherwise, found);
  }
  return found;
}

export class FastRoutines {
  static readonly moduleName = "fast";
  readonly #memory: WasmMemory;
  readonly #functions = new Map<Routine, FastFunction>();
  readonly #exports: Record<string, unknown> = {};
  readonly #compiled: (bytes: Uint8Array) => void;
  #pending: Routine[] = [];

  /** `compiled` is told of every module that is made. */
  constructor(memory: WasmMemory, compiled: (bytes: Uint8Array) => void = () => {}) {
    this.#memory = memory;
    this.#compiled = compiled;
  }

  /** The function of a routine that has a fast path. It exists after the next `imports()`. */
  functionFor(routine: Routine): FastFunction {
    const known = this.#functions.get(routine);
    if (known !== undefined) return known;
    invariant(routine.fast !== undefined, `routine ${routine.name} has no fast path`);
    const { parameters, isTotal } = routine.fast();
    const made: FastFunction = {
      name: `${routine.name} ${routineNumber(routine)}`,
      type: { params: ["i32", ...parameters.map(typeOfWidth)], results: ["i32"] },
      isTotal,
    };
    this.#functions.set(routine, made);
    this.#pending.push(routine);
    return made;
  }

  /** Imports the functions of these routines into a module under construction, which has no function of its own yet. */
  importInto(builder: ModuleBuilder, routines: Iterable<Routine>): (routine: Routine) => FuncIndex | undefined {
    const imported = new Map<Routine, FuncIndex>();
    for (const routine of routines) {
      const { name, type } = this.functionFor(routine);
      imported.set(routine, builder.importFunction(FastRoutines.moduleName, name, type));
    }
    return (routine) => imported.get(routine);
  }

  /** All functions asked for so far, by import name. */
  imports(): Record<string, unknown> {
    this.#compilePending();
    return this.#exports;
  }

  #compilePending(): void {
    if (this.#pending.length === 0) return;
    const routines = this.#pending;
    this.#pending = [];
    const builder = new ModuleBuilder();
    const pages = this.#memory.buffer.byteLength / 65_536;
    builder.importMemory("host", "memory", { min: pages, max: pages, shared: true });
    for (const routine of routines) {
      const { name, type } = this.functionFor(routine);
      builder.exportFunction(name, builder.addFunction(name, type, (f) => emitFastPath(f, routine.fast!())));
    }
    const bytes = builder.build();
    this.#compiled(bytes);
    Object.assign(this.#exports, new wasm.Instance(new wasm.Module(bytes), { host: { memory: this.#memory } }).exports);
  }
}
