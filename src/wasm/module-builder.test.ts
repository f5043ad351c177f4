/** Builds modules and runs them in the engine of this process. */

import wabt from "wabt";
import { describe, expect, test } from "vitest";
import { ModuleBuilder, type FunctionBuilder, type FunctionType, type ValType } from "./index.ts";

const i32ToI32: FunctionType = { params: ["i32"], results: ["i32"] };

type Exports = Record<string, (...args: (number | bigint)[]) => number | bigint>;

function instantiate(module: ModuleBuilder, imports: WebAssembly.Imports = {}): Exports {
  return new WebAssembly.Instance(new WebAssembly.Module(module.build()), imports).exports as Exports;
}

function run(params: ValType[], result: ValType, write: (f: FunctionBuilder) => void): Exports[string] {
  const module = new ModuleBuilder();
  module.exportFunction("run", module.addFunction("run", { params, results: [result] }, write));
  return instantiate(module)["run"];
}

/** n! with a hinted loop exit. */
function factorial(f: FunctionBuilder): void {
  const n = f.param<"i64">(0);
  const product = f.addLocal("i64");
  f.i64.const(1);
  f.local.set(product);
  const done = f.block();
  const again = f.loop();
  f.local.get(n);
  f.i64.eqz();
  f.brIf(done, "unlikely");
  f.local.get(product);
  f.local.get(n);
  f.i64.mul();
  f.local.set(product);
  f.local.get(n);
  f.i64.const(-1n);
  f.i64.add();
  f.local.set(n);
  f.br(again);
  f.end(again);
  f.end(done);
  f.local.get(product);
}

describe("control flow", () => {
  test("a loop with a forward exit", () => {
    expect(run(["i64"], "i64", factorial)(20n)).toBe(2432902008176640000n);
  });

  test("br_table picks its label", () => {
    const pick = run(["i32"], "i32", (f) => {
      const labels = [f.block(), f.block(), f.block()].reverse();
      f.local.get(f.param(0));
      f.brTable(labels.slice(0, 2), labels[2]);
      labels.forEach((label, i) => {
        f.end(label);
        f.i32.const(10 + i);
        f.return();
      });
      f.unreachable();
    });
    expect([0, 1, 2, -1].map((selector) => pick(selector))).toEqual([10, 11, 12, 12]);
  });

  test("if, else and a block with several results", () => {
    const choose = run(["i32"], "i32", (f) => {
      f.local.get(f.param(0));
      f.if({ params: [], results: ["i32", "i32"] }, "likely");
      f.i32.const(50);
      f.i32.const(8);
      f.else();
      f.i32.const(3);
      f.i32.const(4);
      f.end();
      f.i32.sub();
    });
    expect([choose(1), choose(0)]).toEqual([42, -1]);
  });

  test("tail calls do not grow the stack", () => {
    const module = new ModuleBuilder();
    const table = module.addTable({ element: "funcref", min: 2 });
    const type: FunctionType = { params: ["i32", "i32"], results: ["i32"] };
    const even = module.declareFunction("even", type);
    const odd = module.declareFunction("odd", type);
    for (const [self, finished, isDirect] of [[even, 1, true], [odd, 0, false]] as const) {
      module.defineFunction(self, (f) => {
        f.local.get(f.param(0));
        f.i32.eqz();
        f.if("void", "unlikely");
        f.i32.const(finished);
        f.return();
        f.end();
        f.local.get(f.param(0));
        f.i32.const(1);
        f.i32.sub();
        f.local.get(f.param(1));
        if (isDirect) {
          f.returnCall(odd);
        } else {
          f.local.get(f.param(1));
          f.returnCallIndirect(type, table);
        }
      });
    }
    module.addElements(table, 1, [even]);
    module.exportFunction("even", even);
    const { even: isEven } = instantiate(module);
    expect([isEven(1_000_000, 1), isEven(999_999, 1)]).toEqual([1, 0]);
  });

  test("misuse is a broken invariant", () => {
    const type: FunctionType = { params: [], results: [] };
    const module = new ModuleBuilder();
    const build = (write: (f: FunctionBuilder) => void) => () => module.addFunction("wrong", type, write);
    expect(build((f) => f.block())).toThrow(/still open/);
    expect(build((f) => f.end())).toThrow(/ended by the builder/);
    expect(build((f) => f.param(0))).toThrow(/no parameter 0/);
    expect(
      build((f) => {
        const closed = f.block();
        f.end();
        f.block();
        f.br(closed);
      }),
    ).toThrow(/still open/);
    expect(
      build((f) => {
        const local = f.addLocal("i32");
        f.freeLocal(local);
        f.freeLocal(local);
      }),
    ).toThrow(/not in use/);
  });
});

test("freed locals are reused by type", () => {
  const module = new ModuleBuilder();
  module.addFunction("locals", { params: ["i64"], results: [] }, (f) => {
    const a = f.addLocal("i32");
    const b = f.addLocal("i64");
    f.freeLocal(a);
    expect(f.addLocal("i64")).toBe(3);
    expect(f.addLocal("i32")).toBe(a);
    expect([f.typeOf(f.param(0)), f.typeOf(a), f.typeOf(b)]).toEqual(["i64", "i32", "i64"]);
  });
  expect(WebAssembly.validate(module.build())).toBe(true);
});

test("imported functions, memory, table and globals", () => {
  const module = new ModuleBuilder();
  const log = module.importFunction("host", "log", i32ToI32);
  module.importMemory("host", "memory", { min: 1, max: 2, shared: true });
  const table = module.importTable("host", "table", { element: "funcref", min: 8 });
  const base = module.importGlobal("host", "base", { type: "i32", mutable: false });
  const count = module.addGlobal({ type: "i64", mutable: true }, 2n ** 40n);
  const copyOfBase = module.addGlobal({ type: "i32", mutable: false }, { global: base });
  const noFunction = module.addGlobal({ type: "funcref", mutable: true }, null);
  const double = module.addFunction("double", i32ToI32, (f) => {
    f.global.get(count);
    f.i64.const(1);
    f.i64.add();
    f.global.set(count);
    f.local.get(f.param(0));
    f.call(log);
    f.i32.const(1);
    f.i32.shl();
  });
  module.exportFunction(
    "call",
    module.addFunction("call", i32ToI32, (f) => {
      f.local.get(f.param(0));
      f.global.get(copyOfBase);
      f.callIndirect(i32ToI32, table);
    }),
  );
  module.addElements(table, { global: base }, [double]);
  module.addData(16, new TextEncoder().encode("hello"));
  module.exportGlobal("count", count);
  module.exportGlobal("noFunction", noFunction);
  module.exportMemory("memory");
  module.exportTable("table", table);

  const memory = new WebAssembly.Memory({ initial: 1, maximum: 2, shared: true });
  const hostTable = new WebAssembly.Table({ initial: 8, element: "anyfunc" });
  const seen: number[] = [];
  const exports = instantiate(module, {
    host: { memory, table: hostTable, base: 5, log: (value: number) => (seen.push(value), value + 100) },
  });
  expect(exports["call"](7)).toBe(214);
  expect(seen).toEqual([7]);
  expect((exports["count"] as unknown as WebAssembly.Global).value).toBe(2n ** 40n + 1n);
  expect((exports["noFunction"] as unknown as WebAssembly.Global).value).toBeNull();
  expect(new TextDecoder().decode(new Uint8Array(memory.buffer, 16, 5).slice())).toBe("hello");
  expect(exports["memory"]).toBe(memory);
  expect(exports["table"]).toBe(hostTable);
  expect(hostTable.get(5)).toBeInstanceOf(Function);
});

test("start function, passive segments and declared functions", () => {
  const module = new ModuleBuilder();
  module.addMemory({ min: 1 });
  const table = module.addTable({ element: "funcref", min: 4, max: 4 });
  const seven = module.addFunction("seven", { params: [], results: ["i32"] }, (f) => f.i32.const(7));
  const eight = module.addFunction("eight", { params: [], results: ["i32"] }, (f) => f.i32.const(8));
  const bytes = module.addPassiveData(Uint8Array.of(1, 2, 3, 4));
  const functions = module.addPassiveElements([seven]);
  module.declareElements([eight]);
  module.setStart(
    module.addFunction("start", { params: [], results: [] }, (f) => {
      for (const value of [100, 1, 2]) f.i32.const(value);
      f.memory.init(bytes);
      f.data.drop(bytes);
      for (const value of [2, 0, 1]) f.i32.const(value);
      f.table.init(functions, table);
      f.i32.const(3);
      f.ref.func(eight);
      f.table.set(table);
    }),
  );
  const sum = module.addFunction("sum", { params: [], results: ["i32"] }, (f) => {
    f.i32.const(0);
    f.i32.load16_u({ offset: 100, align: 1 });
    for (const index of [2, 3]) {
      f.i32.const(index);
      f.callIndirect({ params: [], results: ["i32"] }, table);
      f.i32.add();
    }
  });
  module.exportFunction("sum", sum);
  expect(instantiate(module)["sum"]()).toBe(0x0302 + 15);
});

test("atomics act on shared memory", () => {
  const module = new ModuleBuilder();
  module.importMemory("host", "memory", { min: 1, max: 1, shared: true });
  const swap = module.addFunction("swap", { params: ["i32", "i64", "i64"], results: ["i64"] }, (f) => {
    f.atomic.fence();
    for (let i = 0; i < 3; i++) f.local.get(f.param(i));
    f.i64.atomic_rmw_cmpxchg(8);
  });
  const add = module.addFunction("add", { params: ["i32", "i32"], results: ["i32"] }, (f) => {
    f.local.get(f.param(0));
    f.local.get(f.param(1));
    f.i32.atomic_rmw8_add_u({ offset: 16 });
    f.local.get(f.param(0));
    f.i32.const(1);
    f.memory.atomic_notify();
    f.i32.add();
  });
  module.exportFunction("swap", swap);
  module.exportFunction("add", add);
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  const words = new BigInt64Array(memory.buffer);
  words[1] = 5n;
  words[2] = 255n;
  const exports = instantiate(module, { host: { memory } });
  expect([exports["swap"](0, 5n, -6n), exports["swap"](0, 5n, 7n), words[1]]).toEqual([5n, -6n, -6n]);
  expect([exports["add"](0, 3), words[2]]).toEqual([255, 2n]);
});

test("vectors compute", () => {
  const sum = run(["i32", "i32"], "i32", (f) => {
    f.local.get(f.param(0));
    f.i8x16.splat();
    f.v128.const([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
    f.i8x16.add();
    f.local.get(f.param(1));
    f.i8x16.replace_lane(3);
    f.v128.const(new Uint8Array(16));
    f.i8x16.shuffle([15, 3, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16]);
    f.i32x4.extract_lane(0);
  });
  expect(sum(100, 7)).toBe(115 | (7 << 8));
});

describe("branch hints", () => {
  const module = new ModuleBuilder();
  module.importFunction("host", "unused", i32ToI32);
  module.addFunction("plain", { params: [], results: [] }, () => {});
  module.addFunction("factorial", { params: ["i64"], results: ["i64"] }, factorial);
  module.addFunction("late", { params: ["i32"], results: [] }, (f) => {
    f.local.get(f.param(0));
    f.if("void", "likely");
    // Long enough for a code size of more than one LEB128 byte, and a local added after the hint.
    for (let i = 0; i < 100; i++) f.nop();
    f.local.get(f.addLocal("i32"));
    f.brIf(f.body, "unlikely");
    f.end();
  });
  const bytes = module.build();

  test("stand before the branches they speak of, as in an independent assembler", async () => {
    const likely = `(@metadata.code.branch_hint "\\01")`;
    const unlikely = `(@metadata.code.branch_hint "\\00")`;
    const assembled = (await wabt()).parseWat(
      "hints.wat",
      `(module
        (type (func (param i32) (result i32)))
        (type (func))
        (import "host" "unused" (func (type 0)))
        (func)
        (func (param i64) (result i64) (local i64)
          i64.const 1 local.set 1
          block loop
            local.get 0 i64.eqz ${unlikely} br_if 1
            local.get 1 local.get 0 i64.mul local.set 1
            local.get 0 i64.const -1 i64.add local.set 0 br 0
          end end
          local.get 1)
        (func (param i32) (local i32)
          local.get 0 ${likely} if ${"nop ".repeat(100)} local.get 1 ${unlikely} br_if 1 end))`,
      { code_metadata: true, annotations: true },
    );
    expect(Buffer.from(bytes).toString("hex")).toBe(Buffer.from(assembled.toBinary({}).buffer).toString("hex"));
    assembled.destroy();
  });

  test("are accepted and lie before the code", () => {
    const compiled = new WebAssembly.Module(bytes);
    expect(WebAssembly.Module.customSections(compiled, "metadata.code.branch_hint")).toHaveLength(1);
    const hints = Buffer.from(bytes).indexOf("metadata.code.branch_hint");
    expect(hints).toBeGreaterThan(0);
    expect(hints).toBeLessThan(Buffer.from(bytes).indexOf(Buffer.alloc(100, 0x01)));
  });
});

describe("names", () => {
  function named(names: boolean): WebAssembly.Module {
    const module = new ModuleBuilder({ name: "café 🎪", names });
    module.importFunction("host", "log", i32ToI32);
    module.exportFunction("trap", module.addFunction("falls over", { params: [], results: [] }, (f) => f.unreachable()));
    return new WebAssembly.Module(module.build());
  }

  test("are left out unless asked for", () => {
    expect(WebAssembly.Module.customSections(named(false), "name")).toHaveLength(0);
  });

  test("show up in the engine's stack traces", () => {
    const { trap } = new WebAssembly.Instance(named(true), { host: { log: () => 0 } }).exports as Exports;
    let stack: string | undefined;
    try {
      trap();
    } catch (error) {
      stack = (error as Error).stack;
    }
    expect(stack).toMatch(/café 🎪\.falls over/);
  });
});

test("emission is cheap: a megabyte of code in well under 100 ms", () => {
  const times = Array.from({ length: 5 }, () => {
    const start = performance.now();
    const module = new ModuleBuilder();
    module.addMemory({ min: 1 });
    module.addFunction("large", { params: ["i32"], results: [] }, (f) => {
      while (f.sizeBytes < 1_000_000) {
        f.local.get(f.param(0));
        f.local.get(f.param(0));
        f.i32.load8_u({ offset: 64 });
        f.i32.const(12345);
        f.i32.xor();
        f.i32.store(128);
      }
    });
    expect(module.build().length).toBeGreaterThan(1_000_000);
    return performance.now() - start;
  });
  expect(Math.min(...times)).toBeLessThan(100);
});
