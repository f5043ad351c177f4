/** Functions that every module of regions has: calls within a module are several times cheaper than to another one's. */
import * as state from "../../isa/state.ts";
import type { FuncIndex, FunctionBody, FunctionBuilder, FunctionType, Local, ModuleBuilder, TableIndex, TypeIndex } from "../../wasm/index.ts";
import { RegionExit, SpecialHandler } from "../interpreter.ts";
import { HeaderField, RecordField } from "../record.ts";
import { emitAuxiliary, emitResult, emitSingle, flagFunctions } from "./flag-code.ts";
import { emitLocate, emitTranslate } from "./translate.ts";

type Name = keyof typeof flagFunctions | "reach" | "translate" | "locate" | "isMapped" | "chain";

const types: Readonly<Record<Name, FunctionType>> = {
  ...flagFunctions,
  /** (linear address, access size × 2, +1 for writing) → 1 when the page is in the TLB now. */
  reach: { params: ["i64", "i32"], results: ["i32"] },
  /** See `emitTranslate`. */
  translate: { params: ["i64", "i32"], results: ["i32"] },
  /** See `emitLocate`. */
  locate: { params: ["i64", "i32"], results: ["i32"] },
  /** (RIP, header) → 1 when the jump cache leads from there to the block with this header. */
  isMapped: { params: ["i64", "i32"], results: ["i32"] },
  /** On with the region at `rip`, instead of by way of the dispatch loop: returns as a region does. */
  chain: { params: [], results: ["i32"] },
};

const names = Object.keys(types) as Name[];

export type SupportCalls = Readonly<Record<Name, FuncIndex>>;

interface SupportImports {
  /** `reachable` of `JitHost`. */
  readonly reachable: FuncIndex;
  readonly regions: TableIndex;
  readonly regionType: TypeIndex;
}

export class Support {
  /** Offset of the processor's area in linear memory. */
  readonly #base: number;
  /** By the number of the first one: they name each other by number. */
  readonly #written = new Map<FuncIndex, readonly FunctionBody[]>();

  constructor(base: number) {
    this.#base = base;
  }

  /** To a module that has all of its imports, and what is given here among them at the same numbers as always. */
  addTo(builder: ModuleBuilder, imported: SupportImports): SupportCalls {
    const indices = names.map((name) => builder.declareFunction(name, types[name]));
    const calls = Object.fromEntries(names.map((name, at) => [name, indices[at]])) as Record<Name, FuncIndex>;
    let bodies = this.#written.get(indices[0]);
    if (bodies === undefined) {
      const write = this.#writers(calls, imported);
      bodies = names.map((name, at) => builder.defineFunction(indices[at], write[name]));
      this.#written.set(indices[0], bodies);
    } else {
      indices.forEach((index, at) => builder.defineFinished(index, bodies![at]));
    }
    return calls;
  }

  #writers(calls: SupportCalls, { reachable, regions, regionType }: SupportImports): Record<Name, (f: FunctionBuilder) => void> {
    const base = this.#base;
    return {
      single: emitSingle,
      auxiliary: (f) => emitAuxiliary(f, calls.single),
      result: emitResult,
      reach: (f) => emitReach(f, base, reachable),
      translate: (f) => emitTranslate(f, base, calls.reach),
      locate: (f) => emitLocate(f, calls.translate),
      isMapped: (f) => emitIsMapped(f, base),
      chain: (f) => emitChain(f, base, regions, regionType),
    };
  }
}

function emitReach(f: FunctionBuilder, base: number, reachable: FuncIndex): void {
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
}

/** The dispatch loop's own look into the jump cache, with what `pushRip` pushes: pushes 1 when it knows the place, and leaves its entry. */
function pushIsKnown(f: FunctionBuilder, base: number, pushRip: () => void): Local<"i32"> {
  const linear = f.addLocal("i64"), entry = f.addLocal("i32");
  const cache = base + state.jumpCacheOffset;
  pushRip();
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
  return entry;
}

function emitIsMapped(f: FunctionBuilder, base: number): void {
  const entry = pushIsKnown(f, base, () => f.local.get(f.param<"i64">(0)));
  f.local.get(entry);
  f.i32.load(base + state.jumpCacheOffset + 12);
  f.local.get(f.param<"i32">(1));
  f.i32.eq();
  f.i32.and();
}

function emitChain(f: FunctionBuilder, base: number, regions: TableIndex, regionType: TypeIndex): void {
  const record = f.addLocal("i32"), heat = f.addLocal("i32");
  const otherwise = f.block();
  const entry = pushIsKnown(f, base, () => {
    f.i32.const(0);
    f.i64.load(base + state.rip.offset);
  });
  f.i32.eqz();
  f.brIf(otherwise, "unlikely");
  f.local.get(entry);
  f.i32.load(base + state.jumpCacheOffset + 12);
  f.local.tee(record);
  f.i32.load16_u(RecordField.handler);
  f.i32.const(SpecialHandler.Region);
  f.i32.ne();
  f.brIf(otherwise);
  // The entry that makes a region hot is the dispatch loop's to count.
  f.local.get(record);
  f.i32.load(HeaderField.heat);
  f.i32.const(1);
  f.i32.sub();
  f.local.tee(heat);
  f.i32.eqz();
  f.brIf(otherwise, "unlikely");
  f.local.get(record);
  f.local.get(heat);
  f.i32.store(HeaderField.heat);
  f.i32.const(0);
  f.i32.const(0);
  f.i64.load(base + state.rip.offset);
  f.i64.store(base + state.ripBase.offset);
  f.local.get(record);
  f.i32.load(HeaderField.region);
  f.returnCallIndirect(regionType, regions);
  f.end(otherwise);
  f.i32.const(RegionExit.LookUp);
}
