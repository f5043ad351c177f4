/**
 * Page walks and fills of the TLB as generated code: four-level paging, and 32-bit paging with pages of 4 MiB, where all tables
 * are RAM, accessed bits of the upper levels are set already, and nothing is watched or virtualized. Whatever is not so is
 * refused: `PageWalker` and `Mmu` know all of it (SDM volume 3, "4-Level Paging", "32-Bit Paging"). They also say which fault it
 * is where an access must fault.
 */
import {
  answerWith, type Bits, constant, fastPath, readMemory, Variable, when, writeMemory, type FastPath, type StateLocation,
} from "../ir/index.ts";
import { FlagMask } from "../isa/flags.ts";
import * as state from "../isa/state.ts";
import { ModuleBuilder, type FuncIndex, type FunctionBuilder, type FunctionType } from "../wasm/index.ts";
import { entryPlace, field, has, refuseIf, setField } from "../isa/fast-path-parts.ts";
import { pageSizeBytes } from "./physical-memory.ts";
import { AccessFlag, scratchValue } from "./slow-access.ts";
import { emitFastPath } from "./wasm-emitter.ts";
import { wasm, type WasmMemory } from "./web-assembly.ts";

/** What `walkMode` says: the tables are not for generated code, or have so many levels. */
export const WalkMode = { none: 0, fourLevels: 1, twoLevels: 2 } as const;

/** What of the control registers a walk depends on: bits of `walkRules`. */
export const WalkRule = { writeProtect: 1, noExecute: 2, globalPages: 4, smep: 8, smap: 16 } as const;

/** What an access is, for `walk`. */
export const WalkAccess = {
  write: 1, fetch: 2, user: 4,
  /** Made by the processor itself: RFLAGS.AC does not lift SMAP. */
  implicit: 8,
  /** A translation for the TLB. */
  fills: 16,
} as const;

/** Bits of `walkResult`. */
export const WalkResult = { mayWrite: 1, isGlobal: 2, isUserPage: 4, mayFetch: 8, isLargePage: 16 } as const;

/** What `walk` answers: 0, it could not say. `faults`: nothing else can come of the access, and nothing was changed. */
export const WalkAnswer = { translated: 1, filled: 2, filledForWriting: 6, faults: 8 } as const;

const EntryBit = { present: 1, writable: 2, user: 4, accessed: 32, dirty: 64, large: 128, global: 256 } as const;
const frameMask = 0x000f_ffff_ffff_f000n;
const userAligned = 3;
const everything = 0xffff_ffff_ffff_ffffn;
const noTag = 0xffff_ffff_ffff_ffffn;

function faultIf(condition: Bits<1>): void {
  when(condition, () => answerWith(constant(32, WalkAnswer.faults)));
}

/** Whether the page at a guest-physical address is plain RAM. */
function isPlainRam(address: Bits<64>): Bits<1> {
  return address.sub(field(state.ramFirst, 64)).ltU(field(state.ramSize, 64));
}

function placeOf(address: Bits<64>): Bits<32> {
  return address.trunc(32).add(field(state.ramAddend, 32));
}

/** Place of an entry of a paging structure at a guest-physical address. */
function placeOfEntry(table: Bits<64>, index: Bits<32>, entryBytes: 4 | 8 = 8): Bits<32> {
  refuseIf(isPlainRam(table).xor(1));
  return placeOf(table).add(index.shl(Math.log2(entryBytes)));
}

function isAbsent(entry: Bits<64>): Bits<1> {
  return entry.and(EntryBit.present).isZero();
}

interface Leaf {
  readonly entry: Variable<64>;
  /** Where it is. */
  readonly place: Variable<32>;
  /** What all entries before it have, and what any entry has. */
  readonly upper: Variable<64>;
  readonly any: Variable<64>;
  readonly address: Variable<64>;
  readonly isLarge: Variable<32>;
}

/** Comes down to the entry that maps the page, which is present. */
function descend(low: Bits<32>, high: Bits<32>): Leaf {
  const top = readMemory(64, placeOfEntry(field(state.walkRoot, 32).zext(64), high.shr(7).and(0x1ff)));
  faultIf(isAbsent(top));
  const third = readMemory(64, placeOfEntry(top.and(frameMask), high.and(0x7f).shl(2).or(low.shr(30))));
  faultIf(isAbsent(third));
  // Pages of 1 GiB are rare.
  refuseIf(has(third.trunc(32), EntryBit.large));
  const secondPlace = placeOfEntry(third.and(frameMask), low.shr(21).and(0x1ff));
  const second = readMemory(64, secondPlace);
  faultIf(isAbsent(second));
  const upper = top.and(third), any = top.or(third).or(second);
  const leaf: Leaf = {
    entry: new Variable(second), place: new Variable(secondPlace), upper: new Variable(upper), any: new Variable(any),
    address: new Variable(constant(64, 0)), isLarge: new Variable(constant(32, 0)),
  };
  const largeReservedMask = 0x1f_e000, largeOffsetMask = 0x1f_ffff;
  when(has(second.trunc(32), EntryBit.large), () => {
    refuseIf(has(second.trunc(32), largeReservedMask));
    leaf.address.set(second.and(frameMask & ~BigInt(largeOffsetMask)).or(low.and(largeOffsetMask).zext(64)));
    leaf.isLarge.set(constant(32, 1));
  }, () => {
    const place = placeOfEntry(second.and(frameMask), low.shr(12).and(0x1ff));
    const first = readMemory(64, place);
    faultIf(isAbsent(first));
    leaf.entry.set(first);
    leaf.place.set(place);
    leaf.upper.set(upper.and(second));
    leaf.any.set(any.or(first));
    leaf.address.set(first.and(frameMask).or(low.and(0xfff).zext(64)));
  });
  return leaf;
}

/** The same for 32-bit paging. */
function descendTwoLevels(low: Bits<32>): Leaf {
  const readEntry = (place: Bits<32>): Bits<64> => readMemory(32, place).zext(64);
  const upperPlace = placeOfEntry(field(state.walkRoot, 32).zext(64), low.shr(22), 4);
  const upper = readEntry(upperPlace);
  faultIf(isAbsent(upper));
  const leaf: Leaf = {
    entry: new Variable(upper), place: new Variable(upperPlace), upper: new Variable(constant(64, everything)), any: new Variable(upper),
    address: new Variable(constant(64, 0)), isLarge: new Variable(constant(32, 0)),
  };
  // Bit 21 is reserved, bits 20:13 are of an address beyond 4 GiB.
  const otherBitsMask = 0x3f_e000, largeOffsetMask = 0x3f_ffff;
  when(has(upper.trunc(32), EntryBit.large), () => {
    refuseIf(has(upper.trunc(32), otherBitsMask));
    leaf.address.set(upper.trunc(32).and(~largeOffsetMask >>> 0).or(low.and(largeOffsetMask)).zext(64));
    leaf.isLarge.set(constant(32, 1));
  }, () => {
    const place = placeOfEntry(upper.and(frameMask), low.shr(12).and(0x3ff), 4);
    const entry = readEntry(place);
    faultIf(isAbsent(entry));
    leaf.entry.set(entry);
    leaf.place.set(place);
    leaf.upper.set(upper);
    leaf.any.set(upper.or(entry));
    leaf.address.set(entry.and(frameMask).or(low.and(0xfff).zext(64)));
  });
  return leaf;
}

/** Sets accessed and dirty bits of the entry that maps the page; refuses when code has been decoded from that table. */
function markUsed({ entry, place }: Leaf, isWrite: Bits<1>): void {
  const old = entry.get(), wanted = isWrite.select(constant(64, EntryBit.accessed | EntryBit.dirty), EntryBit.accessed);
  when(old.and(wanted).ne(wanted), () => {
    const at = place.get();
    refuseIf(holdsCode(at));
    entry.set(old.or(wanted));
    writeMemory(at, old.or(wanted).trunc(32));
  });
}

function holdsCode(place: Bits<32>): Bits<1> {
  return readMemory(8, field(state.codePages, 32).add(place.shr(12))).ne(0);
}

/** Finds what would fault, and marks what would not; answers what the page may be used for. */
function checkRights(leaf: Leaf, access: Bits<32>): Bits<32> {
  const rules = field(state.walkRules, 32);
  const upper = leaf.upper.get(), common = upper.and(leaf.entry.get()).trunc(32), any = leaf.any.get().shr(32).trunc(32);
  refuseIf(upper.and(EntryBit.accessed).isZero().or(any.and(field(state.walkReserved, 32)).ne(0)));
  const isUserPage = has(common, EntryBit.user), isWritable = has(common, EntryBit.writable);
  const isExecuteDisabled = any.sign().and(has(rules, WalkRule.noExecute));
  const isUser = has(access, WalkAccess.user), isWrite = has(access, WalkAccess.write), isFetch = has(access, WalkAccess.fetch);
  const isSupervisorOnUser = isUser.xor(1).and(isUserPage);
  const isLifted = has(field(state.systemFlags, 32), FlagMask.AC).and(has(access, WalkAccess.implicit).xor(1));
  const isWritableHere = isWritable.or(isUser.or(has(rules, WalkRule.writeProtect)).xor(1));
  faultIf(isUser.and(isUserPage.xor(1))
    .or(isFetch.select(
      isExecuteDisabled.or(isSupervisorOnUser.and(has(rules, WalkRule.smep))),
      isSupervisorOnUser.and(has(rules, WalkRule.smap)).and(isLifted.xor(1)),
    ))
    .or(isWrite.and(isWritableHere.xor(1))));
  markUsed(leaf, isWrite);
  const entry = leaf.entry.get().trunc(32);
  const bit = (condition: Bits<1>, mask: number): Bits<32> => condition.select(constant(32, mask), 0);
  const mayFetch = isExecuteDisabled.xor(1).and(isSupervisorOnUser.and(has(rules, WalkRule.smep)).xor(1));
  return bit(isWritableHere.and(has(entry, EntryBit.dirty)), WalkResult.mayWrite)
    .or(bit(has(rules, WalkRule.globalPages).and(has(entry, EntryBit.global)), WalkResult.isGlobal))
    .or(bit(isUserPage, WalkResult.isUserPage)).or(bit(mayFetch, WalkResult.mayFetch))
    .or(bit(leaf.isLarge.get().ne(0), WalkResult.isLargePage));
}

/** Notes the 2 MiB that a large page's translation lies in; refuses when another region has its place. */
function noteLargeRegion(base: Bits<32>, low: Bits<32>, high: Bits<32>): void {
  const region = low.shr(21).or(high.shl(11)).add(1);
  const place = base.add(largeRegionHash(region).shl(2)).add(state.largeRegionsOffset);
  const known = readMemory(32, place);
  when(known.ne(region), () => {
    refuseIf(known.ne(0));
    writeMemory(place, region);
  });
}

function largeRegionHash(region: Bits<32>): Bits<32> {
  return region.mul(largeRegionFactor).shr(32 - Math.log2(state.largeRegionEntries));
}

const largeRegionFactor = 0x9e37_79b1;

/** Word of the table of large regions for a region, as generated code has it: one more than its number. */
export function largeRegionIndex(region: number): number {
  return Math.imul(region, largeRegionFactor) >>> (32 - Math.log2(state.largeRegionEntries));
}

function fillEntry(base: Bits<32>, low: Bits<32>, high: Bits<32>, context: Bits<32>, address: Bits<64>, result: Bits<32>): void {
  when(has(result, WalkResult.isLargePage), () => {
    noteLargeRegion(base, low, high);
    // Pages of 4 MiB are two such regions.
    when(field(state.walkMode, 32).eq(WalkMode.twoLevels), () => noteLargeRegion(base, low.xor(0x20_0000), high));
  });
  const host = placeOf(address);
  const mayWrite = has(result, WalkResult.mayWrite).and(holdsCode(host).xor(1));
  const tag = low.and(~0xfff >>> 0).or(context).zext(64).or(high.zext(64).shl(32));
  const place = entryPlace(base, low);
  writeMemory(place, tag);
  writeMemory(place.add(8), mayWrite.select(tag, noTag));
  writeMemory(place.add(16), host.sub(low));
  const isListed = readMemory(32, place.add(20)).or(result.and(WalkResult.isGlobal));
  when(isListed.isZero(), () => {
    const count = field(state.localEntryCount, 32);
    writeMemory(place.add(20), constant(32, 1));
    writeMemory(base.add(count.shl(1)).add(state.localEntriesOffset), low.shr(12).and(state.tlbEntries - 1).trunc(16));
    setField(state.localEntryCount, count.add(1));
  });
  answerWith(mayWrite.select(constant(32, WalkAnswer.filledForWriting), WalkAnswer.filled));
}

/** Arguments: lower and upper half of a linear address, what the access is, and the context of the TLB's tag. */
const walkPath: () => FastPath = fastPath([32, 32, 32, 32, 32], (base, low, high, access, context) => {
  const [at, lower, upper, kind, tag] = [base, low, high, access, context] as Bits<32>[];
  // Bits 63:47 of a canonical address are all the same.
  const mode = field(state.walkMode, 32);
  refuseIf(mode.isZero().or(upper.sar(15).add(1).leU(1).xor(1)));
  const finish = (leaf: Leaf): void => {
    const result = checkRights(leaf, kind);
    const address = leaf.address.get();
    setField(state.walkAddress, address);
    setField(state.walkResult, result);
    const fills = has(kind, WalkAccess.fills).and(tag.and(3).ne(userAligned)).and(isPlainRam(address));
    when(fills, () => fillEntry(at, lower, upper, tag, address, result));
  };
  when(mode.eq(WalkMode.fourLevels), () => finish(descend(lower, upper)), () => finish(descendTwoLevels(lower)));
});

/** Slow paths of memory, as `Mmu` has them. */
export interface TranslationHost {
  /** 1 when the page at `slowAddress` is in the TLB now. */
  readonly reachable: (sizeBytes: number, isWrite: number) => number;
  readonly slowLoad: (sizeBytes: number, flags: number) => number;
  readonly slowStore: (sizeBytes: number, flags: number) => number;
}

/** The same as WebAssembly functions: they ask the host only for what is not ordinary. */
export interface TranslationFunctions extends TranslationHost {
  /** One of `WalkAnswer`; results in the state area. */
  readonly walk: (low: number, high: number, access: number, context: number) => number;
}

const three: FunctionType = { params: ["i32", "i32", "i32"], results: ["i32"] };
const two: FunctionType = { params: ["i32", "i32"], results: ["i32"] };

/** `base`: offset of the processor's area in linear memory. */
export function translationFunctions(memory: WasmMemory, base: number, host: TranslationHost): TranslationFunctions {
  const pages = memory.buffer.byteLength / 65_536;
  const builder = new ModuleBuilder();
  builder.importMemory("host", "memory", { min: pages, max: pages, shared: true });
  const asked = {
    reachable: builder.importFunction("host", "reachable", two),
    slowLoad: builder.importFunction("host", "slowLoad", two),
    slowStore: builder.importFunction("host", "slowStore", two),
  };
  const parameters = ["i32", "i32", "i32", "i32"] as const;
  const walk = builder.addFunction("walk page tables", { params: ["i32", "i32", ...parameters], results: ["i32"] }, (f) => emitFastPath(f, walkPath()));
  builder.exportFunction("walk", builder.addFunction("walk", { params: parameters, results: ["i32"] }, (f) => {
    f.i32.const(base);
    f.i32.const(base);
    parameters.forEach((_, index) => f.local.get(f.param<"i32">(index)));
    f.call(walk);
  }));
  const fill = builder.addFunction("fill", three, (f) => emitFill(f, base, walk));
  const exportFunction = (name: keyof typeof asked, emit: (f: FunctionBuilder) => void): void =>
    builder.exportFunction(name, builder.addFunction(name, two, (f) => {
      emit(f);
      f.local.get(f.param<"i32">(0));
      f.local.get(f.param<"i32">(1));
      f.call(asked[name]);
    }));
  exportFunction("reachable", (f) => emitReachable(f, fill));
  exportFunction("slowLoad", (f) => emitAccess(f, base, fill, false));
  exportFunction("slowStore", (f) => emitAccess(f, base, fill, true));
  const { exports } = new wasm.Instance(new wasm.Module(builder.build()), { host: { memory, ...host } });
  return exports as unknown as TranslationFunctions;
}

/** No place: generated code cannot make this access by itself, whoever is asked. */
const noPlace = 1;

/** (access size, 1 for writing, wanted bit of the answer) → place in linear memory of the byte at `slowAddress`, 0 when refused, or `noPlace`. */
function emitFill(f: FunctionBuilder, base: number, walk: FuncIndex): void {
  const size = f.param<"i32">(0), isWrite = f.param<"i32">(1), wanted = f.param<"i32">(2);
  const low = f.addLocal("i32"), answered = f.addLocal("i32");
  const push = ({ offset }: StateLocation): void => {
    f.i32.const(0);
    f.i32.load(base + offset);
  };
  push(state.slowAddress);
  f.local.tee(low);
  f.i32.const(pageSizeBytes - 1);
  f.i32.and();
  f.local.get(size);
  f.i32.add();
  f.i32.const(pageSizeBytes);
  f.i32.gt_u();
  f.if("void", "unlikely");
  f.i32.const(0);
  f.return();
  f.end();
  f.i32.const(base);
  f.i32.const(base);
  f.local.get(low);
  push({ offset: state.slowAddress.offset + 4, width: 32 });
  push(state.cpl);
  f.i32.const(3);
  f.i32.eq();
  f.i32.const(Math.log2(WalkAccess.user));
  f.i32.shl();
  f.local.get(isWrite);
  f.i32.or();
  f.i32.const(WalkAccess.fills);
  f.i32.or();
  push(state.tlbContext);
  f.call(walk);
  f.local.tee(answered);
  f.local.get(wanted);
  f.i32.and();
  f.if("i32", "likely");
  f.local.get(low);
  f.local.get(low);
  f.i32.const(12);
  f.i32.shr_u();
  f.i32.const(state.tlbEntries - 1);
  f.i32.and();
  f.i32.const(Math.log2(state.tlbEntrySizeBytes));
  f.i32.shl();
  f.i32.load(base + state.tlbOffset + 16);
  f.i32.add();
  f.else();
  // A fault, or a page with code that is filled for reading.
  f.local.get(answered);
  f.i32.const(WalkAnswer.translated);
  f.i32.gt_u();
  f.end();
}

const filledForReading: number = WalkAnswer.filled;
const filledForWriting: number = WalkAnswer.filledForWriting & ~WalkAnswer.filled;

/** Returns 1 when the page could be brought into the TLB, 0 when nobody can do that. */
function emitReachable(f: FunctionBuilder, fill: FuncIndex): void {
  const isWrite = f.param<"i32">(1), place = f.addLocal("i32");
  f.local.get(f.param<"i32">(0));
  f.local.get(isWrite);
  f.i32.const(filledForWriting);
  f.i32.const(filledForReading);
  f.local.get(isWrite);
  f.select();
  f.call(fill);
  f.local.tee(place);
  f.if("void", "likely");
  f.local.get(place);
  f.i32.const(noPlace);
  f.i32.ne();
  f.return();
  f.end();
}

/** Returns 0 when the access could be made, from or to the scratch area. */
function emitAccess(f: FunctionBuilder, base: number, fill: FuncIndex, isStore: boolean): void {
  const size = f.param<"i32">(0), flags = f.param<"i32">(1);
  const place = f.addLocal("i32");
  f.local.get(size);
  if (isStore) {
    f.i32.const(1);
  } else {
    f.local.get(flags);
    f.i32.const(AccessFlag.write);
    f.i32.and();
  }
  f.i32.const(isStore ? filledForWriting : filledForReading);
  f.call(fill);
  f.local.tee(place);
  f.i32.const(noPlace);
  f.i32.gt_u();
  f.if("void", "likely");
  const pushScratch = (): void => f.i32.const(base + scratchValue.offset);
  if (isStore) f.local.get(place);
  pushScratch();
  if (!isStore) f.local.get(place);
  f.local.get(size);
  f.memory.copy();
  f.i32.const(0);
  f.return();
  f.end();
}
