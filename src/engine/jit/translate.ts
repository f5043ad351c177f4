/** The look into the TLB that compiled code makes, inline or in a function of its module. */
import * as state from "../../isa/state.ts";
import type { FuncIndex, FunctionBuilder, Local } from "../../wasm/index.ts";
import { pageSizeBytes } from "../physical-memory.ts";

/** Pushes where the entry for a page is, from the TLB's first on, and leaves it in `entry`. */
function pushEntry(f: FunctionBuilder, linear: Local<"i64">, entry: Local<"i32">): void {
  f.local.get(linear);
  f.i32.wrap_i64();
  f.i32.const(7);
  f.i32.shr_u();
  f.i32.const((state.tlbEntries - 1) * state.tlbEntrySizeBytes);
  f.i32.and();
  f.local.tee(entry);
}

/** Pushes 1 when the TLB does not have the page, or the access leaves it; `entry` becomes the entry's place. */
export function pushTlbMiss(
  f: FunctionBuilder, base: number, linear: Local<"i64">, sizeBytes: number, forWrite: boolean, entry: Local<"i32">, pushContext: () => void,
): void {
  pushEntry(f, linear, entry);
  f.i64.load(base + state.tlbOffset + (forWrite ? 8 : 0));
  f.local.get(linear);
  if (sizeBytes > 1) {
    f.i64.const(sizeBytes - 1);
    f.i64.add();
  }
  f.i64.const(-pageSizeBytes);
  f.i64.and();
  pushContext();
  f.i64.or();
  f.i64.ne();
}

/**
 * Writes (linear address, access size × 2, +1 for writing) → where its page is in linear memory; 0 when compiled code cannot
 * make the access.
 */
export function emitTranslate(f: FunctionBuilder, base: number, reach: FuncIndex): void {
  const linear = f.param<"i64">(0), access = f.param<"i32">(1);
  const entry = f.addLocal("i32"), pageInTlb = f.addLocal("i64");
  pushEntry(f, linear, entry);
  f.local.get(access);
  f.i32.const(1);
  f.i32.and();
  f.i32.const(3);
  f.i32.shl();
  f.i32.add();
  f.i64.load(base + state.tlbOffset);
  f.local.set(pageInTlb);
  f.local.get(linear);
  f.local.get(access);
  f.i32.const(1);
  f.i32.shr_u();
  f.i32.const(1);
  f.i32.sub();
  f.i64.extend_i32_u();
  f.i64.add();
  f.i64.const(-pageSizeBytes);
  f.i64.and();
  f.i32.const(0);
  f.i64.load(base + state.tlbContext.offset);
  f.i64.or();
  f.local.get(pageInTlb);
  f.i64.ne();
  f.if("void", "unlikely");
  f.local.get(linear);
  f.local.get(access);
  f.call(reach);
  f.i32.eqz();
  f.if();
  f.i32.const(0);
  f.return();
  f.end();
  f.end();
  f.local.get(linear);
  f.i32.wrap_i64();
  f.i32.const(-pageSizeBytes);
  f.i32.and();
  f.local.get(entry);
  f.i32.load(base + state.tlbOffset + 16);
  f.i32.add();
}

/** Writes the same with where the access itself goes for an answer. */
export function emitLocate(f: FunctionBuilder, translate: FuncIndex): void {
  const linear = f.param<"i64">(0), page = f.addLocal("i32");
  f.local.get(linear);
  f.local.get(f.param<"i32">(1));
  f.call(translate);
  f.local.tee(page);
  f.if("i32", "likely");
  f.local.get(page);
  f.local.get(linear);
  f.i32.wrap_i64();
  f.i32.const(pageSizeBytes - 1);
  f.i32.and();
  f.i32.add();
  f.else();
  f.i32.const(0);
  f.end();
}
