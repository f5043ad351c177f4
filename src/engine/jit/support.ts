/** Functions that all compiled regions of a processor share, in one module. */
import * as state from "../../isa/state.ts";
import { ModuleBuilder, type FuncIndex, type FunctionBuilder } from "../../wasm/index.ts";
import { addFlagFunctions, flagFunctions } from "./flag-code.ts";

/** Types of the exported functions by name. */
const supportFunctions = {
  ...flagFunctions,
  /** (linear address, access size × 2, +1 for writing) → 1 when the page is in the TLB now. */
  reach: { params: ["i64", "i32"], results: ["i32"] },
  /** (RIP, header) → 1 when the jump cache leads from there to the block with this header. */
  isMapped: { params: ["i64", "i32"], results: ["i32"] },
} as const;

export interface SupportCalls {
  readonly auxiliary: FuncIndex;
  readonly result: FuncIndex;
  readonly reach: FuncIndex;
  readonly isMapped: FuncIndex;
}

/** `base`: offset of the processor's area in linear memory. */
export function supportModule(base: number, memoryPages: number): Uint8Array<ArrayBuffer> {
  const builder = new ModuleBuilder();
  builder.importMemory("host", "memory", { min: memoryPages, max: memoryPages, shared: true });
  const reachable = builder.importFunction("host", "reachable", { params: ["i32", "i32"], results: ["i32"] });
  addFlagFunctions(builder);
  builder.exportFunction("reach", builder.addFunction("reach", supportFunctions.reach, (f) => {
    const access = f.param<"i32">(1);
    f.i32.const(0);
    f.local.get(f.param<"i64">(0));
    f.i64.store(base + state.slowAddress.offset);
    f.local.get(access);
    f.i32.const(1);
    f.i32.shr_u();
    f.local.get(access);
    f.i32.const(1);
    f.i32.and();
    f.call(reachable);
  }));
  builder.exportFunction("isMapped", builder.addFunction("isMapped", supportFunctions.isMapped, (f) => isMapped(f, base)));
  return builder.build();
}

export function importSupport(builder: ModuleBuilder): SupportCalls {
  const imported = (name: keyof SupportCalls): FuncIndex => builder.importFunction("support", name, supportFunctions[name]);
  return { auxiliary: imported("auxiliary"), result: imported("result"), reach: imported("reach"), isMapped: imported("isMapped") };
}

/** The dispatch loop's own look into the jump cache. */
function isMapped(f: FunctionBuilder, base: number): void {
  const linear = f.addLocal("i64"), entry = f.addLocal("i32");
  const cache = base + state.jumpCacheOffset;
  f.local.get(f.param<"i64">(0));
  f.i32.const(0);
  f.i64.load(base + state.fetchBase.offset);
  f.i64.add();
  f.local.tee(linear);
  f.i32.wrap_i64();
  f.local.get(linear);
  f.i64.const(12);
  f.i64.shr_u();
  f.i32.wrap_i64();
  f.i32.xor();
  f.i32.const(state.jumpCacheEntries - 1);
  f.i32.and();
  f.i32.const(4);
  f.i32.shl();
  f.local.tee(entry);
  f.i64.load(cache);
  f.local.get(linear);
  f.i64.eq();
  f.local.get(entry);
  f.i32.load(cache + 8);
  f.i32.const(0);
  f.i32.load(base + state.codeKey.offset);
  f.i32.eq();
  f.i32.and();
  f.local.get(entry);
  f.i32.load(cache + 12);
  f.local.get(f.param<"i32">(1));
  f.i32.eq();
  f.i32.and();
}
