/** A typed emitter of WebAssembly modules in the binary format: core specification 2.0, threads, tail calls, branch hints. */

export { FunctionBuilder, type BranchHint, type FunctionBody, type Label } from "./function-builder.ts";
export type { InstructionGroup, MemoryArgument } from "./instructions.ts";
export { ModuleBuilder, type ModuleOptions } from "./module-builder.ts";
export { opcodes, type OpcodeName } from "./opcodes.ts";
export type {
  BlockType,
  ConstantExpression,
  DataIndex,
  ElementIndex,
  FuncIndex,
  FunctionType,
  GlobalIndex,
  GlobalType,
  Halves,
  Limits,
  Local,
  MemoryType,
  NumberType,
  ReferenceType,
  TableIndex,
  TableType,
  TypeIndex,
  ValType,
} from "./types.ts";
