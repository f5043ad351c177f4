/**
 * Copying and filling linear memory by WebAssembly's own instructions. It is shared memory, in which typed arrays copy and
 * fill word by word, at half to a third of the speed.
 */
import { ModuleBuilder, type FunctionType } from "../wasm/index.ts";
import { wasm, type WasmMemory } from "./web-assembly.ts";

const three: FunctionType = { params: ["i32", "i32", "i32"], results: [] };

export interface BulkMemory {
  /** Areas may overlap: the target has what the source had before. */
  readonly copy: (target: number, source: number, sizeBytes: number) => void;
  readonly fill: (target: number, byte: number, sizeBytes: number) => void;
}

export function bulkMemory(memory: WasmMemory): BulkMemory {
  const pages = memory.buffer.byteLength / 65_536;
  const builder = new ModuleBuilder();
  builder.importMemory("host", "memory", { min: pages, max: pages, shared: true });
  for (const name of ["copy", "fill"] as const) {
    builder.exportFunction(name, builder.addFunction(name, three, (f) => {
      for (let index = 0; index < 3; index++) f.local.get(f.param<"i32">(index));
      f.memory[name]();
    }));
  }
  const { exports } = new wasm.Instance(new wasm.Module(builder.build()), { host: { memory } });
  return exports as unknown as BulkMemory;
}
