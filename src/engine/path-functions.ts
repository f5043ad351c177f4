/** Fast paths as functions that TypeScript calls: a few nanoseconds where it would take a hundred to copy as many registers itself. */
import type { FastPath } from "../ir/index.ts";
import { ModuleBuilder } from "../wasm/index.ts";
import { emitFastPath } from "./wasm-emitter.ts";
import { wasm, type WasmMemory } from "./web-assembly.ts";

/** Arguments: where the processor's area is, and those of the path, all of 32 bits. 1 when the path has done its work, 0 when it refused. */
export type PathFunction = (stateBase: number, ...args: number[]) => number;

/** One function for each path. */
export function pathFunctions<Name extends string>(memory: WasmMemory, paths: Readonly<Record<Name, () => FastPath>>): Readonly<Record<Name, PathFunction>> {
  const pages = memory.buffer.byteLength / 65_536;
  const builder = new ModuleBuilder();
  builder.importMemory("host", "memory", { min: pages, max: pages, shared: true });
  for (const [name, path] of Object.entries<() => FastPath>(paths)) {
    const params = ["i32", ...path().parameters.map(() => "i32" as const)] as const;
    builder.exportFunction(name, builder.addFunction(name, { params, results: ["i32"] }, (f) => emitFastPath(f, path())));
  }
  return new wasm.Instance(new wasm.Module(builder.build()), { host: { memory } }).exports as unknown as Record<Name, PathFunction>;
}
