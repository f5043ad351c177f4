/** The part of the WebAssembly JavaScript interface that we use; the core rooms know neither DOM nor Node types. */

export interface WasmMemory {
  readonly buffer: ArrayBufferLike;
}

export interface WasmTable {
  set(index: number, value: unknown): void;
}

export interface WasmInstance {
  readonly exports: Record<string, (...args: number[]) => number>;
}

interface WasmNamespace {
  Memory: new (descriptor: { initial: number; maximum: number; shared: boolean }) => WasmMemory;
  Table: new (descriptor: { element: "anyfunc"; initial: number }) => WasmTable;
  Module: new (bytes: Uint8Array<ArrayBuffer>) => object;
  Instance: new (module: object, imports: Record<string, Record<string, unknown>>) => WasmInstance;
}

export const wasm: WasmNamespace = (globalThis as unknown as { WebAssembly: WasmNamespace }).WebAssembly;
