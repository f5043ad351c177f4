/** Checks every row of the opcode table against an independent assembler and decoder (wabt). */

import wabt from "wabt";
import { describe, expect, test } from "vitest";
import { ModuleBuilder, opcodes, type FuncIndex, type FunctionBuilder, type OpcodeName, type TableIndex, type ValType } from "./index.ts";

const features = { threads: true, tail_call: true };
const assembler = await wabt();

function assemble(wat: string): Uint8Array {
  const module = assembler.parseWat("test.wat", wat, features);
  try {
    return module.toBinary({ canonicalize_lebs: true }).buffer;
  } finally {
    module.destroy();
  }
}

const rows = Object.entries(opcodes) as unknown as [OpcodeName, readonly [number, string, string | null]][];
/** Those with a method in a group and operands that do not depend on the context. */
const fixedRows = rows.filter(([name, row]) => row[2] !== null && name.includes("."));

/** A value for each kind of immediate: as wat, and as the arguments of the method. */
const immediates: Record<string, { readonly wat: string; readonly args: readonly unknown[] }[]> = {
  none: [{ wat: "", args: [] }],
  zero: [{ wat: "", args: [] }],
  memory: [{ wat: "", args: [] }],
  "memory memory": [{ wat: "", args: [] }],
  i32: [0, 63, 64, -64, -65, 0x7fff_ffff, -0x8000_0000].map((value) => ({ wat: `${value}`, args: [value] })),
  i64: [0n, 63n, 64n, -65n, 0x7fff_ffffn, 0x8000_0000n, -0x8000_0001n, 2n ** 63n - 1n, -(2n ** 63n)].map((value) => ({
    wat: `${value}`,
    args: [value],
  })),
  f32: ["0x1.8p3", "-0", "inf"].map((wat, i) => ({ wat, args: [[12, -0, Infinity][i]] })),
  f64: ["0x1.999999999999ap-4", "-0", "-inf"].map((wat, i) => ({ wat, args: [[0.1, -0, -Infinity][i]] })),
  v128: [{ wat: "i8x16 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 255", args: [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]] }],
  lanes: [{ wat: "0 1 2 3 4 5 6 7 16 17 18 19 20 21 22 31", args: [[0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 31]] }],
  lane: [{ wat: "1", args: [1] }],
  table: [{ wat: "1", args: [1] }],
  "table table": [{ wat: "1 0", args: [1, 0] }],
  elem: [{ wat: "1", args: [1] }],
  "elem table": [{ wat: "1 0", args: [0, 1] }],
  data: [{ wat: "1", args: [1] }],
  "data memory": [{ wat: "1", args: [1] }],
};

function memoryImmediates(alignment: number, lane: boolean): { wat: string; args: unknown[] }[] {
  const suffix = lane ? " 1" : "";
  const rest = lane ? [1] : [];
  return [
    { wat: suffix, args: [0, ...rest] },
    { wat: `offset=300${suffix}`, args: [300, ...rest] },
    { wat: `offset=4294967295${suffix}`, args: [{ offset: 0xffff_ffff }, ...rest] },
    { wat: `offset=8 align=${alignment}${suffix}`, args: [{ offset: 8, align: alignment }, ...rest] },
  ];
}

function samplesOf(name: OpcodeName, immediate: string): { readonly wat: string; readonly args: readonly unknown[] }[] {
  const memory = /^memarg(\d+)( lane)?$/.exec(immediate);
  if (memory === null) return immediates[immediate];
  const natural = memoryImmediates(Number(memory[1]), memory[2] !== undefined);
  // Atomic accesses accept no alignment but the natural one.
  return name.includes("atomic") || memory[1] === "1" ? natural : [...natural, ...memoryImmediates(1, memory[2] !== undefined)];
}

function emit(f: FunctionBuilder, name: string, args: readonly unknown[]): void {
  const dot = name.indexOf(".");
  const group = Reflect.get(f, name.slice(0, dot)) as Record<string, (...args: readonly unknown[]) => void>;
  group[name.slice(dot + 1).replaceAll(".", "_")](...args);
}

/** Declarations that instructions may refer to, the same in both languages. */
const declarationsWat = `
  (func $first)
  (table 4 funcref) (table 4 funcref) (memory 1 1 shared) (global (mut i32) (i32.const 0))
  (elem func 0) (elem func 0) (data "a") (data "b")`;

function declare(module: ModuleBuilder): FuncIndex {
  const first = module.addFunction("first", { params: [], results: [] }, () => {});
  module.addTable({ element: "funcref", min: 4 });
  module.addTable({ element: "funcref", min: 4 });
  module.addMemory({ min: 1, max: 1, shared: true });
  module.addGlobal({ type: "i32", mutable: true }, 0);
  module.addPassiveElements([first]);
  module.addPassiveElements([first]);
  module.addPassiveData(Uint8Array.of(0x61));
  module.addPassiveData(Uint8Array.of(0x62));
  return first;
}

/** A function of these types around the instructions, assembled by both. */
function expectSame(params: ValType[], results: ValType[], wat: string, write: (f: FunctionBuilder) => void): void {
  const module = new ModuleBuilder();
  declare(module);
  module.addFunction("tested", { params, results }, write);
  const ours = module.build();
  const theirs = assemble(`(module ${declarationsWat}
    (func ${params.map((type) => `(param ${type})`).join(" ")} ${results.map((type) => `(result ${type})`).join(" ")} ${wat}))`);
  expect(hex(sectionOf(ours, codeSection))).toBe(hex(sectionOf(theirs, codeSection)));
  expect(WebAssembly.validate(ours)).toBe(true);
}

const codeSection = 10;

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
}

function sectionOf(module: Uint8Array, id: number): Uint8Array {
  for (let at = 8; at < module.length; ) {
    const found = module[at++];
    let size = 0;
    let shift = 0;
    do {
      size |= (module[at] & 0x7f) << shift;
      shift += 7;
    } while (module[at++] & 0x80);
    if (found === id) return module.subarray(at, at + size);
    at += size;
  }
  throw new Error(`no section ${id}`);
}

describe("instructions with a fixed signature assemble as wabt assembles them", () => {
  test.each(fixedRows)("%s", (name, [, immediate, signature]) => {
    const [params, results] = (signature ?? "").split("->").map((side) => side.split(" ").filter((type) => type !== "") as ValType[]);
    for (const { wat, args } of samplesOf(name, immediate)) {
      const operands = params.map((_, i) => `local.get ${i}`).join(" ");
      expectSame(params, results, `${operands} ${name} ${wat}`, (f) => {
        params.forEach((_, i) => f.local.get(f.param(i)));
        emit(f, name, args);
      });
    }
  });
});

interface Case {
  readonly params?: ValType[];
  readonly results?: ValType[];
  readonly wat: string;
  readonly write: (f: FunctionBuilder) => void;
}

const table = 1 as TableIndex;
const first = 0 as FuncIndex;
const nullary = { params: [], results: [] };

/** The instructions whose operands depend on the module or on the block around them. */
const cases: Record<string, Case> = {
  unreachable: { wat: "unreachable", write: (f) => f.unreachable() },
  nop: { wat: "nop", write: (f) => f.nop() },
  block: { wat: "block end", write: (f) => (f.block(), f.end()) },
  loop: { wat: "loop end", write: (f) => (f.loop(), f.end()) },
  if: { params: ["i32"], wat: "local.get 0 if end", write: (f) => (f.local.get(f.param(0)), f.if(), f.end()) },
  else: {
    params: ["i32"],
    results: ["i64"],
    wat: "local.get 0 if (result i64) i64.const 1 else i64.const 2 end",
    write: (f) => (f.local.get(f.param(0)), f.if("i64"), f.i64.const(1), f.else(), f.i64.const(2), f.end()),
  },
  end: {
    params: ["i32", "i64"],
    results: ["i64", "i32"],
    wat: "local.get 0 local.get 1 block (param i32 i64) (result i64 i32) drop drop i64.const -1 i32.const -1 end",
    write: (f) => {
      f.local.get(f.param(0));
      f.local.get(f.param(1));
      f.block({ params: ["i32", "i64"], results: ["i64", "i32"] });
      f.drop();
      f.drop();
      f.i64.const({ lo: -1, hi: 0xffff_ffff });
      f.i32.const(0xffff_ffff);
      f.end();
    },
  },
  br: {
    wat: "block loop br 1 br 0 br 2 end end",
    write: (f) => {
      const out = f.block();
      const top = f.loop();
      f.br(out);
      f.br(top);
      f.br(f.body);
      f.end(top);
      f.end(out);
    },
  },
  br_if: {
    params: ["i32"],
    wat: "block loop local.get 0 br_if 1 end end",
    write: (f) => {
      const out = f.block();
      f.loop();
      f.local.get(f.param(0));
      f.brIf(out);
      f.end();
      f.end();
    },
  },
  br_table: {
    params: ["i32"],
    wat: "block block block local.get 0 br_table 0 1 2 0 3 end end end",
    write: (f) => {
      const outer = f.block();
      const middle = f.block();
      const inner = f.block();
      f.local.get(f.param(0));
      f.brTable([inner, middle, outer, inner], f.body);
      for (const label of [inner, middle, outer]) f.end(label);
    },
  },
  return: { wat: "return", write: (f) => f.return() },
  call: { wat: "call 0", write: (f) => f.call(first) },
  call_indirect: {
    params: ["i32"],
    wat: "local.get 0 call_indirect 1",
    write: (f) => (f.local.get(f.param(0)), f.callIndirect(nullary, table)),
  },
  return_call: { wat: "return_call 0", write: (f) => f.returnCall(first) },
  return_call_indirect: {
    params: ["i32"],
    wat: "local.get 0 return_call_indirect 1",
    write: (f) => (f.local.get(f.param(0)), f.returnCallIndirect(nullary, table)),
  },
  drop: { params: ["i64"], wat: "local.get 0 drop", write: (f) => (f.local.get(f.param(0)), f.drop()) },
  select: {
    params: ["f64", "i32"],
    results: ["f64"],
    wat: "local.get 0 local.get 0 local.get 1 select",
    write: (f) => (f.local.get(f.param(0)), f.local.get(f.param(0)), f.local.get(f.param(1)), f.select()),
  },
  select_t: {
    params: ["externref", "i32"],
    results: ["externref"],
    wat: "local.get 0 local.get 0 local.get 1 select (result externref)",
    write: (f) => (f.local.get(f.param(0)), f.local.get(f.param(0)), f.local.get(f.param(1)), f.select("externref")),
  },
  "local.get": {
    results: ["f32"],
    wat: "(local i32 i32 i64 f32) local.get 3",
    write: (f) => f.local.get((["i32", "i32", "i64", "f32"] as const).map((type) => f.addLocal(type))[3]),
  },
  "local.set": { params: ["v128"], wat: "local.get 0 local.set 0", write: (f) => (f.local.get(f.param(0)), f.local.set(f.param(0))) },
  "local.tee": {
    params: ["i32"],
    results: ["i32"],
    wat: "local.get 0 local.tee 0",
    write: (f) => (f.local.get(f.param(0)), f.local.tee(f.param(0))),
  },
  "global.get": { results: ["i32"], wat: "global.get 0", write: (f) => emit(f, "global.get", [0]) },
  "global.set": { wat: "i32.const 3 global.set 0", write: (f) => (f.i32.const(3), emit(f, "global.set", [0])) },
  "table.get": { results: ["funcref"], wat: "i32.const 3 table.get 1", write: (f) => (f.i32.const(3), f.table.get(table)) },
  "table.set": {
    params: ["funcref"],
    wat: "i32.const 3 local.get 0 table.set 1",
    write: (f) => (f.i32.const(3), f.local.get(f.param(0)), f.table.set(table)),
  },
  "table.grow": {
    params: ["funcref"],
    results: ["i32"],
    wat: "local.get 0 i32.const 3 table.grow 1",
    write: (f) => (f.local.get(f.param(0)), f.i32.const(3), f.table.grow(table)),
  },
  "table.fill": {
    params: ["funcref"],
    wat: "i32.const 1 local.get 0 i32.const 3 table.fill 1",
    write: (f) => (f.i32.const(1), f.local.get(f.param(0)), f.i32.const(3), f.table.fill(table)),
  },
  "ref.null": { results: ["externref"], wat: "ref.null extern", write: (f) => f.ref.null("externref") },
  "ref.is_null": {
    params: ["funcref"],
    results: ["i32"],
    wat: "local.get 0 ref.is_null",
    write: (f) => (f.local.get(f.param(0)), f.ref.is_null()),
  },
  "ref.func": { results: ["funcref"], wat: "ref.func 0", write: (f) => f.ref.func(first) },
};

describe("the other instructions do so in context", () => {
  test("none is forgotten", () => {
    const fixed = fixedRows.map(([name]) => name as string);
    expect([...fixed, ...Object.keys(cases)].sort()).toEqual(rows.map(([name]) => name as string).sort());
  });

  test.each(Object.entries(cases))("%s", (_, { params = [], results = [], wat, write }) => {
    expectSame(params, results, wat, write);
  });
});

describe("the table covers the opcode space", () => {
  const known = new Set<number>(rows.map(([, [opcode]]) => opcode));
  /** The prefixes, and catch_all of the exceptions proposal, which wabt rejects with another message. */
  const notInstructions = new Set([0xfc, 0xfd, 0xfe, 0x19]);

  /** Whether wabt decodes the opcode at all, however ill-typed the body is. */
  function isDecodable(opcode: number[]): boolean {
    const operands = new Uint8Array(24);
    const body = [0, ...opcode, ...operands, 0x0b];
    const header = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];
    const types = [0x01, 0x04, 0x01, 0x60, 0x00, 0x00];
    const functions = [0x03, 0x02, 0x01, 0x00];
    const code = [0x0a, body.length + 2, 0x01, body.length];
    const bytes = Uint8Array.from([header, types, functions, code, body].flat());
    try {
      assembler.readWasm(bytes, { ...features, readDebugNames: false, check: true }).destroy();
      return true;
    } catch (error) {
      return !String(error).includes("unexpected opcode");
    }
  }

  test.each([
    ["without prefix", undefined],
    ["miscellaneous", 0xfc],
    ["vector", 0xfd],
    ["atomic", 0xfe],
  ])("%s", (_, prefix) => {
    const differences: string[] = [];
    for (let code = 0; code < 0x100; code++) {
      if (prefix === undefined && notInstructions.has(code)) continue;
      const opcode = prefix === undefined ? [code] : [prefix, ...(code < 0x80 ? [code] : [code, 1])];
      const isKnown = known.has(prefix === undefined ? code : (prefix << 8) | code);
      if (isDecodable(opcode) !== isKnown) differences.push(hex(Uint8Array.from(opcode)));
    }
    expect(differences).toEqual([]);
  });
});

test("methods take exactly the immediates of their row", () => {
  // Only for the compiler: with wrong operands none of these may run.
  const misuses = (f: FunctionBuilder) => [
    // @ts-expect-error: no immediate
    () => f.i32.add(1),
    // @ts-expect-error: an i32 constant is a number
    () => f.i32.const(1n),
    // @ts-expect-error: a plain number is not a local
    () => f.local.get(0),
    // @ts-expect-error: the lane is missing
    () => f.v128.load8_lane(0),
    // @ts-expect-error: there is no such instruction
    () => f.i32.load32_u(0),
  ];
  expect(misuses).toBeTypeOf("function");
});
