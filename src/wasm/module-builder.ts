/** Assembles a module from imports, definitions and function bodies: WebAssembly Core Specification, "Binary Format: Modules". */

import { invariant } from "../base/errors.ts";
import { ByteWriter } from "./byte-writer.ts";
import { FunctionBuilder, type FunctionBody } from "./function-builder.ts";
import { opcodes } from "./opcodes.ts";
import {
  valTypeCode,
  type ConstantExpression,
  type DataIndex,
  type ElementIndex,
  type FuncIndex,
  type FunctionType,
  type GlobalIndex,
  type GlobalType,
  type Limits,
  type MemoryType,
  type TableIndex,
  type TableType,
  type TypeIndex,
  type ValType,
} from "./types.ts";

export interface ModuleOptions {
  readonly name?: string;
  /** Whether to write the name section, which only debuggers and profilers read. */
  readonly names?: boolean;
}

interface Definition {
  readonly name: string;
  readonly type: TypeIndex;
  readonly functionType: FunctionType;
  body: FunctionBody | undefined;
}

const sectionId = {
  custom: 0,
  type: 1,
  import: 2,
  function: 3,
  table: 4,
  memory: 5,
  global: 6,
  export: 7,
  start: 8,
  element: 9,
  code: 10,
  data: 11,
  dataCount: 12,
} as const;

const externalKind = { function: 0, table: 1, memory: 2, global: 3 } as const;
const functionTypeCode = 0x60;
const elementKindFunction = 0;

/** The entries of one section. */
class Section {
  #writer: ByteWriter | undefined;
  count = 0;

  get writer(): ByteWriter {
    return this.#writer ??= new ByteWriter(256);
  }

  /** Where to write the next entry. */
  entry(): ByteWriter {
    this.count++;
    return this.writer;
  }
}

export class ModuleBuilder {
  readonly #name: string | undefined;
  readonly #hasNames: boolean;
  readonly #types = new Section();
  readonly #typeByKey = new Map<string, TypeIndex>();
  readonly #imports = new Section();
  readonly #importedFunctionNames: string[] = [];
  readonly #functions: Definition[] = [];
  readonly #tables = new Section();
  readonly #memories = new Section();
  readonly #globals = new Section();
  readonly #exports = new Section();
  readonly #elements = new Section();
  readonly #data = new Section();
  #importedTables = 0;
  #importedMemories = 0;
  #importedGlobals = 0;
  #start: FuncIndex | undefined;

  constructor(options: ModuleOptions = {}) {
    this.#name = options.name;
    this.#hasNames = options.names ?? false;
  }

  /** The index of this function type, which is added on first use. */
  type(type: FunctionType): TypeIndex {
    const key = `${type.params.join()}>${type.results.join()}`;
    const known = this.#typeByKey.get(key);
    if (known !== undefined) return known;
    const index = this.#types.count as TypeIndex;
    const entry = this.#types.entry();
    entry.byte(functionTypeCode);
    writeValTypes(entry, type.params);
    writeValTypes(entry, type.results);
    this.#typeByKey.set(key, index);
    return index;
  }

  importFunction(module: string, name: string, type: FunctionType): FuncIndex {
    invariant(this.#functions.length === 0, "functions are imported before the first one is added");
    this.#import(module, name, externalKind.function).unsigned(this.type(type));
    return (this.#importedFunctionNames.push(`${module}.${name}`) - 1) as FuncIndex;
  }

  /** The one memory of the module, which every memory instruction means. */
  importMemory(module: string, name: string, type: MemoryType): void {
    invariant(this.#importedMemories + this.#memories.count === 0, "a module has at most one memory");
    writeMemoryType(this.#import(module, name, externalKind.memory), type);
    this.#importedMemories++;
  }

  importTable(module: string, name: string, type: TableType): TableIndex {
    invariant(this.#tables.count === 0, "tables are imported before the first one is added");
    writeTableType(this.#import(module, name, externalKind.table), type);
    return this.#importedTables++ as TableIndex;
  }

  importGlobal(module: string, name: string, type: GlobalType): GlobalIndex {
    invariant(this.#globals.count === 0, "globals are imported before the first one is added");
    writeGlobalType(this.#import(module, name, externalKind.global), type);
    return this.#importedGlobals++ as GlobalIndex;
  }

  /** Reserves an index, so that functions can call each other; `defineFunction` must follow. */
  declareFunction(name: string, type: FunctionType): FuncIndex {
    const definition: Definition = { name, type: this.type(type), functionType: type, body: undefined };
    return (this.#importedFunctionNames.length + this.#functions.push(definition) - 1) as FuncIndex;
  }

  /** @returns the body, for `defineFinished` elsewhere. */
  defineFunction(index: FuncIndex, write: (f: FunctionBuilder) => void): FunctionBody {
    const definition = this.#functions[index - this.#importedFunctionNames.length];
    invariant(definition !== undefined && definition.body === undefined, `function ${index} is not waiting for its body`);
    const f = new FunctionBuilder(definition.functionType, (type) => this.type(type));
    write(f);
    return definition.body = f.finish();
  }

  /** Gives a declared function a body from another module, where functions and types had the same numbers. */
  defineFinished(index: FuncIndex, body: FunctionBody): void {
    const definition = this.#functions[index - this.#importedFunctionNames.length];
    invariant(definition !== undefined && definition.body === undefined, `function ${index} is not waiting for its body`);
    definition.body = body;
  }

  addFunction(name: string, type: FunctionType, write: (f: FunctionBuilder) => void): FuncIndex {
    const index = this.declareFunction(name, type);
    this.defineFunction(index, write);
    return index;
  }

  addMemory(type: MemoryType): void {
    invariant(this.#importedMemories + this.#memories.count === 0, "a module has at most one memory");
    writeMemoryType(this.#memories.entry(), type);
  }

  addTable(type: TableType): TableIndex {
    writeTableType(this.#tables.entry(), type);
    return (this.#importedTables + this.#tables.count - 1) as TableIndex;
  }

  addGlobal(type: GlobalType, initial: ConstantExpression): GlobalIndex {
    const entry = this.#globals.entry();
    writeGlobalType(entry, type);
    writeConstant(entry, type.type, initial);
    return (this.#importedGlobals + this.#globals.count - 1) as GlobalIndex;
  }

  exportFunction(name: string, func: FuncIndex): void {
    this.#export(name, externalKind.function, func);
  }

  exportTable(name: string, table: TableIndex): void {
    this.#export(name, externalKind.table, table);
  }

  exportMemory(name: string): void {
    this.#export(name, externalKind.memory, 0);
  }

  exportGlobal(name: string, global: GlobalIndex): void {
    this.#export(name, externalKind.global, global);
  }

  /** Runs this function when the module is instantiated. */
  setStart(func: FuncIndex): void {
    this.#start = func;
  }

  /** Functions that instantiation puts into the table, from `offset` on. */
  addElements(table: TableIndex, offset: ConstantExpression, functions: readonly FuncIndex[]): ElementIndex {
    const entry = this.#elements.entry();
    entry.unsigned(2);
    entry.unsigned(table);
    writeConstant(entry, "i32", offset);
    entry.byte(elementKindFunction);
    return this.#finishElements(entry, functions);
  }

  /** Functions for `table.init`. */
  addPassiveElements(functions: readonly FuncIndex[]): ElementIndex {
    const entry = this.#elements.entry();
    entry.unsigned(1);
    entry.byte(elementKindFunction);
    return this.#finishElements(entry, functions);
  }

  /** Functions that `ref.func` may name although they are in no other segment and not exported. */
  declareElements(functions: readonly FuncIndex[]): ElementIndex {
    const entry = this.#elements.entry();
    entry.unsigned(3);
    entry.byte(elementKindFunction);
    return this.#finishElements(entry, functions);
  }

  /** Bytes that instantiation copies into memory. */
  addData(offset: ConstantExpression, bytes: Uint8Array): DataIndex {
    const entry = this.#data.entry();
    entry.unsigned(0);
    writeConstant(entry, "i32", offset);
    return this.#finishData(entry, bytes);
  }

  /** Bytes for `memory.init`. */
  addPassiveData(bytes: Uint8Array): DataIndex {
    const entry = this.#data.entry();
    entry.unsigned(1);
    return this.#finishData(entry, bytes);
  }

  build(): Uint8Array<ArrayBuffer> {
    const module = ByteWriter.take();
    module.raw(Uint8Array.of(0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00));
    appendEntries(module, sectionId.type, this.#types);
    appendEntries(module, sectionId.import, this.#imports);
    appendEntries(module, sectionId.function, this.#functionSection());
    appendEntries(module, sectionId.table, this.#tables);
    appendEntries(module, sectionId.memory, this.#memories);
    appendEntries(module, sectionId.global, this.#globals);
    appendEntries(module, sectionId.export, this.#exports);
    if (this.#start !== undefined) {
      const start = new ByteWriter(8);
      start.unsigned(this.#start);
      appendSection(module, sectionId.start, start);
    }
    appendEntries(module, sectionId.element, this.#elements);
    if (this.#data.count > 0) {
      const count = new ByteWriter(8);
      count.unsigned(this.#data.count);
      appendSection(module, sectionId.dataCount, count);
    }
    this.#appendBranchHints(module);
    this.#appendCode(module);
    appendEntries(module, sectionId.data, this.#data);
    if (this.#hasNames) this.#appendNames(module);
    const bytes = module.toBytes();
    module.giveBack();
    return bytes;
  }

  #import(module: string, name: string, kind: number): ByteWriter {
    const entry = this.#imports.entry();
    entry.name(module);
    entry.name(name);
    entry.byte(kind);
    return entry;
  }

  #export(name: string, kind: number, index: number): void {
    const entry = this.#exports.entry();
    entry.name(name);
    entry.byte(kind);
    entry.unsigned(index);
  }

  #finishElements(entry: ByteWriter, functions: readonly FuncIndex[]): ElementIndex {
    entry.unsigned(functions.length);
    for (const func of functions) entry.unsigned(func);
    return (this.#elements.count - 1) as ElementIndex;
  }

  #finishData(entry: ByteWriter, bytes: Uint8Array): DataIndex {
    entry.unsigned(bytes.length);
    entry.raw(bytes);
    return (this.#data.count - 1) as DataIndex;
  }

  #functionSection(): Section {
    const section = new Section();
    for (const definition of this.#functions) section.entry().unsigned(definition.type);
    return section;
  }

  #appendCode(module: ByteWriter): void {
    const section = ByteWriter.take();
    section.unsigned(this.#functions.length);
    for (const { name, body } of this.#functions) {
      invariant(body !== undefined, `function ${name} was declared but never defined`);
      section.unsigned(body.bytes.length);
      section.raw(body.bytes);
    }
    if (this.#functions.length > 0) appendSection(module, sectionId.code, section);
    section.giveBack();
  }

  /** Proposal "Branch Hinting": engines want the section before the code it speaks of. */
  #appendBranchHints(module: ByteWriter): void {
    const hinted = new Section();
    this.#functions.forEach(({ body }, i) => {
      if (body === undefined || body.hints.length === 0) return;
      const entry = hinted.entry();
      entry.unsigned(this.#importedFunctionNames.length + i);
      entry.unsigned(body.hints.length / 2);
      for (let at = 0; at < body.hints.length; at += 2) {
        entry.unsigned(body.hints[at]);
        entry.unsigned(1);
        entry.byte(body.hints[at + 1]);
      }
    });
    if (hinted.count === 0) return;
    const section = new ByteWriter(hinted.writer.length + 32);
    section.name("metadata.code.branch_hint");
    section.unsigned(hinted.count);
    section.append(hinted.writer);
    appendSection(module, sectionId.custom, section);
  }

  /** Core Specification, appendix "Custom Sections": the module's name and its functions' names. */
  #appendNames(module: ByteWriter): void {
    const section = new ByteWriter();
    section.name("name");
    if (this.#name !== undefined) {
      const moduleName = new ByteWriter(64);
      moduleName.name(this.#name);
      appendSection(section, 0, moduleName);
    }
    const functionNames = new Section();
    const names = [...this.#importedFunctionNames, ...this.#functions.map((definition) => definition.name)];
    names.forEach((name, index) => {
      const entry = functionNames.entry();
      entry.unsigned(index);
      entry.name(name);
    });
    appendEntries(section, 1, functionNames);
    appendSection(module, sectionId.custom, section);
  }
}

function appendSection(module: ByteWriter, id: number, content: ByteWriter): void {
  module.byte(id);
  module.unsigned(content.length);
  module.append(content);
}

/** A section that is a vector; an empty one is left out. */
function appendEntries(module: ByteWriter, id: number, section: Section): void {
  if (section.count === 0) return;
  const count = new ByteWriter(8);
  count.unsigned(section.count);
  module.byte(id);
  module.unsigned(count.length + section.writer.length);
  module.append(count);
  module.append(section.writer);
}

function writeValTypes(writer: ByteWriter, types: readonly ValType[]): void {
  writer.unsigned(types.length);
  for (const type of types) writer.byte(valTypeCode[type]);
}

function writeLimits(writer: ByteWriter, limits: Limits, sharedFlag: number): void {
  writer.byte((limits.max === undefined ? 0 : 1) | sharedFlag);
  writer.unsigned(limits.min);
  if (limits.max !== undefined) writer.unsigned(limits.max);
}

function writeMemoryType(writer: ByteWriter, type: MemoryType): void {
  writeLimits(writer, type, type.shared === true ? 2 : 0);
}

function writeTableType(writer: ByteWriter, type: TableType): void {
  writer.byte(valTypeCode[type.element]);
  writeLimits(writer, type, 0);
}

function writeGlobalType(writer: ByteWriter, type: GlobalType): void {
  writer.byte(valTypeCode[type.type]);
  writer.byte(type.mutable ? 1 : 0);
}

function writeConstant(writer: ByteWriter, type: ValType, value: ConstantExpression): void {
  if (value === null) {
    writer.opcode(opcodes["ref.null"][0]);
    writer.byte(valTypeCode[type]);
  } else if (typeof value === "object") {
    const isGlobal = "global" in value;
    writer.opcode(isGlobal ? opcodes["global.get"][0] : opcodes["ref.func"][0]);
    writer.unsigned(isGlobal ? value.global : value.func);
  } else if (type === "i64") {
    writer.opcode(opcodes["i64.const"][0]);
    writer.signedInteger(value);
  } else if (type === "i32" || type === "f32" || type === "f64") {
    writer.opcode(opcodes[`${type}.const`][0]);
    if (type === "i32") writer.signed(Number(value));
    else if (type === "f32") writer.float32(Number(value));
    else writer.float64(Number(value));
  } else {
    invariant(false, `a ${type} cannot start as a number`);
  }
  writer.opcode(opcodes.end[0]);
}
