import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { PageWalker, type AccessKind, type PagingMode, type PagingState } from "./page-walk.ts";
import { PhysicalMemory } from "./physical-memory.ts";

const ramBytes = 0x1_0000, ramOffset = 0x1000;
const root = 0x1000;

class Memory {
  readonly view: DataView;
  readonly bytes: Uint8Array;
  readonly physical: PhysicalMemory;

  constructor() {
    const buffer = new ArrayBuffer(ramOffset + ramBytes);
    this.view = new DataView(buffer, ramOffset, ramBytes);
    this.bytes = new Uint8Array(buffer, ramOffset, ramBytes);
    // Outside of RAM everything reads as absent entries.
    this.physical = new PhysicalMemory(buffer, { read: () => 0, write: () => undefined });
    this.physical.map(0, ramBytes, ramOffset);
  }

  read(address: bigint, sizeBytes: number): bigint {
    if (address + BigInt(sizeBytes) > BigInt(ramBytes)) return 0n;
    return sizeBytes === 8 ? this.view.getBigUint64(Number(address), true) : BigInt(this.view.getUint32(Number(address), true));
  }

  write(address: bigint, sizeBytes: number, value: bigint): void {
    if (address + BigInt(sizeBytes) > BigInt(ramBytes)) return;
    if (sizeBytes === 8) this.view.setBigUint64(Number(address), value, true);
    else this.view.setUint32(Number(address), Number(value), true);
  }
}

function pagingState(mode: PagingMode, changes: Partial<PagingState> = {}): PagingState {
  return {
    mode, root, pdpte: new Uint32Array(8), writeProtect: false, noExecute: true, pageSizeExtension: true, globalPages: true,
    smep: false, smap: false, alignmentCheck: false, protectionKeys: false, pkru: 0, physicalAddressBits: 40, gigabytePages: true,
    ...changes,
  };
}

interface Access {
  readonly kind: AccessKind;
  readonly isUser: boolean;
  readonly isImplicit: boolean;
}

type Outcome =
  | { readonly fault: number }
  | { readonly physical: number; readonly isGlobal: boolean; readonly isUserPage: boolean; readonly isLargePage: boolean; readonly mayWrite: boolean };

interface Shape {
  readonly levels: number;
  readonly entryBytes: 4 | 8;
  readonly indexBits: bigint;
}

const shapes: Record<Exclude<PagingMode, "none">, Shape> = {
  legacy: { levels: 2, entryBytes: 4, indexBits: 10n },
  pae: { levels: 3, entryBytes: 8, indexBits: 9n },
  level4: { levels: 4, entryBytes: 8, indexBits: 9n },
  level5: { levels: 5, entryBytes: 8, indexBits: 9n },
};

/**
 * The manual's chapter once more, as text: SDM volume 3, "Hierarchical Paging Structures", "Access Rights", "Page-Fault
 * Exceptions", "Accessed and Dirty Flags". Slow, with BigInt, and sharing nothing with what it checks.
 */
function referenceWalk(memory: Memory, linear: bigint, paging: PagingState, access: Access): Outcome {
  if (paging.mode === "none") {
    return { physical: Number(linear & 0xffff_ffffn), isGlobal: false, isUserPage: true, isLargePage: false, mayWrite: true };
  }
  const shape = shapes[paging.mode];
  const isWide = shape.entryBytes === 8;
  const bit = (entry: bigint, number: number): boolean => (entry >> BigInt(number) & 1n) === 1n;
  const fault = (reasons: { present?: boolean; reserved?: boolean; key?: boolean }): Outcome => {
    const hasFetchBit = access.kind === "fetch" && (paging.smep || (isWide && paging.noExecute));
    return {
      fault: (reasons.present === true ? 1 : 0) | (access.kind === "write" ? 2 : 0) | (access.isUser ? 4 : 0) |
        (reasons.reserved === true ? 8 : 0) | (hasFetchBit ? 16 : 0) | (reasons.key === true ? 32 : 0),
    };
  };
  const width = BigInt(paging.physicalAddressBits);
  let table = BigInt(paging.root), isWritable = true, isUserPage = true, mayExecute = true;
  for (let level = shape.levels; ; level--) {
    const shift = 12n + BigInt(level - 1) * shape.indexBits;
    const index = linear >> shift & (1n << shape.indexBits) - 1n;
    if (paging.mode === "pae" && level === 3) {
      const entry = BigInt(paging.pdpte[Number(index & 3n) * 2]) | BigInt(paging.pdpte[Number(index & 3n) * 2 + 1]) << 32n;
      if (!bit(entry, 0)) return fault({});
      table = entry & 0xf_ffff_ffff_f000n;
      continue;
    }
    const at = table + index * BigInt(shape.entryBytes);
    const entry = memory.read(at, shape.entryBytes);
    if (!bit(entry, 0)) return fault({});
    const isLarge = level > 1 && bit(entry, 7) && (isWide || paging.pageSizeExtension);
    let reserved = 0n;
    const range = (from: bigint, to: bigint): void => {
      for (let number = from; number <= to; number++) reserved |= 1n << number;
    };
    if (isWide) {
      range(width, 51n);
      if (!paging.noExecute) range(63n, 63n);
      if (paging.mode === "pae") range(52n, 62n);
      if (isLarge && (level > 3 || (level === 3 && !paging.gigabytePages))) range(7n, 7n);
      else if (isLarge) range(13n, shift - 1n);
    } else if (isLarge) {
      range(21n, 21n);
      const known = width > 40n ? 40n : width;
      if (known < 40n) range(13n + known - 32n, 20n);
    }
    if ((entry & reserved) !== 0n) return fault({ present: true, reserved: true });
    isWritable = isWritable && bit(entry, 1);
    isUserPage = isUserPage && bit(entry, 2);
    if (isWide && paging.noExecute && bit(entry, 63)) mayExecute = false;
    const setBits = (mask: bigint): void => {
      if ((entry & mask) !== mask) memory.write(at, shape.entryBytes, entry | mask);
    };
    if (level > 1 && !isLarge) {
      setBits(1n << 5n);
      table = entry & (isWide ? 0xf_ffff_ffff_f000n : 0xffff_f000n);
      continue;
    }
    const offsetMask = (1n << shift) - 1n;
    const key = paging.protectionKeys && (paging.mode === "level4" || paging.mode === "level5") && isUserPage ? Number(entry >> 59n & 15n) : undefined;
    const keyRights = key === undefined ? 0 : paging.pkru >>> (2 * key) & 3;
    const isChecked = access.isUser || paging.writeProtect;
    const violatesKey = access.kind !== "fetch" &&
      ((keyRights & 1) !== 0 || (access.kind === "write" && (keyRights & 2) !== 0 && isChecked));
    let allowed: boolean;
    if (access.kind === "fetch") {
      allowed = mayExecute && (access.isUser ? isUserPage : !(isUserPage && paging.smep));
    } else {
      const isReachable = access.isUser ? isUserPage
        : !(isUserPage && paging.smap && (access.isImplicit || !paging.alignmentCheck));
      allowed = isReachable && (access.kind === "read" || isWritable || !isChecked);
    }
    if (!allowed || violatesKey) return fault({ present: true, key: violatesKey });
    const written = access.kind === "write";
    setBits(written ? 0x60n : 0x20n);
    let frame = entry & (isWide ? 0xf_ffff_ffff_f000n : 0xffff_f000n) & ~offsetMask;
    if (!isWide && isLarge) frame |= (entry >> 13n & 0xffn) << 32n;
    return {
      physical: Number(frame | linear & offsetMask),
      isGlobal: paging.globalPages && bit(entry, 8), isUserPage, isLargePage: isLarge,
      mayWrite: (written || bit(entry, 6)) && (isWritable || !isChecked) && !((keyRights & 2) !== 0 && isChecked),
    };
  }
}

function engineWalk(memory: Memory, linear: bigint, paging: PagingState, access: Access): Outcome {
  const walker = new PageWalker(memory.physical);
  const isDone = walker.translate(Number(linear & 0xffff_ffffn), Number(linear >> 32n), access.kind, paging, access.isUser, access.isImplicit);
  if (!isDone) return { fault: walker.errorCode };
  const { physical, isGlobal, isUserPage, isLargePage, mayWrite } = walker;
  return { physical, isGlobal, isUserPage, isLargePage, mayWrite };
}

/** Table entries that mostly lead on: present, with frames in RAM, now and then with a bit that spoils them. */
const entry = fc.record({
  low: fc.tuple(fc.integer({ min: 0, max: 0xfff }), fc.integer({ min: 0, max: 15 })).map(([flags, luck]) => BigInt(luck < 13 ? flags | 7 : flags)),
  large: fc.integer({ min: 0, max: 3 }),
  frame: fc.integer({ min: 1, max: 15 }).map((frame) => BigInt(frame) << 12n),
  stray: fc.oneof({ weight: 6, arbitrary: fc.constant(0n) }, { weight: 2, arbitrary: fc.integer({ min: 12, max: 63 }).map((bit) => 1n << BigInt(bit)) },
    { weight: 1, arbitrary: fc.bigInt({ min: 0n, max: (1n << 52n) - 1n }).map((bits) => bits << 12n) }),
}).map(({ low, large, frame, stray }) => (large === 0 ? (low | 0x80n) : (low & ~0x80n) | frame) ^ stray);

const access = fc.record<Access>({
  kind: fc.constantFrom("read", "write", "fetch"), isUser: fc.boolean(), isImplicit: fc.boolean(),
}).map((made) => made.isUser ? { ...made, isImplicit: false } : made);

function randomState(mode: PagingMode): fc.Arbitrary<PagingState> {
  return fc.record({
    writeProtect: fc.boolean(), noExecute: fc.boolean(), pageSizeExtension: fc.boolean(), globalPages: fc.boolean(),
    smep: fc.boolean(), smap: fc.boolean(), alignmentCheck: fc.boolean(), protectionKeys: fc.boolean(),
    pkru: fc.integer({ min: 0, max: 0xffff_ffff }), physicalAddressBits: fc.constantFrom(32, 36, 40, 46, 52), gigabytePages: fc.boolean(),
    pdpte: fc.array(fc.tuple(fc.integer({ min: 0, max: 15 }), fc.integer({ min: 0, max: 7 })), { minLength: 4, maxLength: 4 }),
  }).map(({ pdpte, ...changes }) => pagingState(mode, {
    ...changes, pdpte: Uint32Array.from(pdpte.flatMap(([frame, luck]) => [(frame << 12) | (luck === 0 ? 0 : 1), 0])),
  }));
}

const modes = ["none", "legacy", "pae", "level4", "level5"] as const;

describe.each(modes)("%s paging", (mode) => {
  test("agrees with the reference walk on random tables, results and memory alike", () => {
    const ours = new Memory(), reference = new Memory();
    fc.assert(fc.property(
      fc.array(entry, { minLength: 64, maxLength: 64 }), randomState(mode),
      fc.array(fc.tuple(fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 5, maxLength: 5 }), fc.integer({ min: 0, max: 0xfff }), access), { minLength: 1, maxLength: 12 }),
      (entries, paging, accesses) => {
        const shape = mode === "none" ? shapes.level4 : shapes[mode];
        // Each frame holds four entries in use, at indexes 0, 1, 2 and 3.
        for (const memory of [ours, reference]) {
          memory.bytes.fill(0);
          entries.forEach((value, number) => memory.write(BigInt((number >> 2) * 0x1000 + (number & 3) * shape.entryBytes), shape.entryBytes, BigInt.asUintN(shape.entryBytes * 8, value)));
        }
        for (const [indexes, offset, made] of accesses) {
          let linear = BigInt(offset);
          for (let level = 0; level < shape.levels; level++) linear |= BigInt(indexes[level]) << (12n + BigInt(level) * shape.indexBits);
          if (shape.levels < 4) linear = BigInt.asUintN(32, linear);
          expect(engineWalk(ours, linear, paging, made)).toEqual(referenceWalk(reference, linear, paging, made));
          expect(Buffer.compare(ours.bytes, reference.bytes)).toBe(0);
        }
      }), { numRuns: 400 });
  });
});

const read: Access = { kind: "read", isUser: false, isImplicit: false };
const write: Access = { kind: "write", isUser: false, isImplicit: false };
const fetch: Access = { kind: "fetch", isUser: false, isImplicit: false };
const asUser = (of: Access): Access => ({ ...of, isUser: true });

/** Four levels of all-permitting entries for linear page 0 with `last` at the end. */
function fourLevels(last: bigint, upper: bigint = 7n): Memory {
  const memory = new Memory();
  memory.write(0x1000n, 8, 0x2000n | upper);
  memory.write(0x2000n, 8, 0x3000n | upper);
  memory.write(0x3000n, 8, 0x4000n | upper);
  memory.write(0x4000n, 8, last);
  return memory;
}

describe("accessed and dirty bits", () => {
  test("a read sets A everywhere and D nowhere, a write sets D in the last entry only", () => {
    const memory = fourLevels(0x5007n);
    engineWalk(memory, 0n, pagingState("level4"), read);
    expect([0x1000n, 0x2000n, 0x3000n, 0x4000n].map((at) => memory.read(at, 8))).toEqual([0x2027n, 0x3027n, 0x4027n, 0x5027n]);
    engineWalk(memory, 0n, pagingState("level4"), write);
    expect([0x1000n, 0x2000n, 0x3000n, 0x4000n].map((at) => memory.read(at, 8))).toEqual([0x2027n, 0x3027n, 0x4027n, 0x5067n]);
  });

  test("a refused access leaves the last entry alone", () => {
    const memory = fourLevels(0x5001n);
    expect(engineWalk(memory, 0n, pagingState("level4"), asUser(write))).toEqual({ fault: 7 });
    expect(memory.read(0x4000n, 8)).toBe(0x5001n);
  });

  test("a page may be written without another walk only once it is dirty", () => {
    const memory = fourLevels(0x5007n);
    expect(engineWalk(memory, 0n, pagingState("level4"), read)).toMatchObject({ mayWrite: false });
    expect(engineWalk(memory, 0n, pagingState("level4"), write)).toMatchObject({ mayWrite: true });
    expect(engineWalk(memory, 0n, pagingState("level4"), read)).toMatchObject({ mayWrite: true });
  });

  test("supervisor writes to a read-only page are cached only while CR0.WP is clear", () => {
    const memory = fourLevels(0x5065n);
    expect(engineWalk(memory, 0n, pagingState("level4"), write)).toMatchObject({ mayWrite: true });
    expect(engineWalk(memory, 0n, pagingState("level4", { writeProtect: true }), read)).toMatchObject({ mayWrite: false });
    expect(engineWalk(memory, 0n, pagingState("level4", { writeProtect: true }), write)).toEqual({ fault: 3 });
  });
});

describe("rights", () => {
  test.each<[string, bigint, Partial<PagingState>, Access, number | undefined]>([
    ["not present", 0n, {}, asUser(read), 4],
    ["user access to a supervisor page", 0x5003n, {}, asUser(read), 5],
    ["fetch from a page without execution", 0x5007n | 1n << 63n, {}, asUser(fetch), 0x15],
    ["bit 63 is reserved while no-execute is off", 0x5007n | 1n << 63n, { noExecute: false }, read, 9],
    ["SMEP", 0x5007n, { smep: true }, fetch, 0x11],
    ["no SMEP for supervisor pages", 0x5003n, { smep: true }, fetch, undefined],
    ["SMAP", 0x5007n, { smap: true }, write, 3],
    ["SMAP lifted by AC", 0x5007n, { smap: true, alignmentCheck: true }, write, undefined],
    ["SMAP not lifted for implicit accesses", 0x5007n, { smap: true, alignmentCheck: true }, { ...read, isImplicit: true }, 1],
    ["SMAP does not concern fetches", 0x5007n, { smap: true }, fetch, undefined],
    ["protection key refuses access", 0x5007n | 2n << 59n, { protectionKeys: true, pkru: 0x10 }, read, 0x21],
    ["protection key refuses writing", 0x5007n | 2n << 59n, { protectionKeys: true, pkru: 0x20 }, asUser(write), 0x27],
    ["protection key: supervisor writes pass without WP", 0x5007n | 2n << 59n, { protectionKeys: true, pkru: 0x20 }, write, undefined],
    ["protection key: supervisor writes are refused with WP", 0x5007n | 2n << 59n, { protectionKeys: true, pkru: 0x20, writeProtect: true }, write, 0x23],
    ["protection key does not concern supervisor pages", 0x5003n | 2n << 59n, { protectionKeys: true, pkru: 0x30 }, read, undefined],
    ["protection key does not concern fetches", 0x5007n | 2n << 59n, { protectionKeys: true, pkru: 0x30 }, fetch, undefined],
    ["key violations show beside others", 0x5005n | 2n << 59n, { protectionKeys: true, pkru: 0x20 }, asUser(write), 0x27],
    ["bit 7 of a 4 KiB page is its memory type", 0x5087n, {}, read, undefined],
    ["above MAXPHYADDR", 0x5007n | 1n << 40n, {}, read, 9],
    ["the highest address bit", 0x5007n | 1n << 39n, {}, read, undefined],
  ])("%s", (_name, last, changes, made, fault) => {
    const outcome = engineWalk(fourLevels(last), 0n, pagingState("level4", changes), made);
    if (fault === undefined) expect(outcome).not.toHaveProperty("fault");
    else expect(outcome).toEqual({ fault });
  });

  test("rights are those of all levels together", () => {
    expect(engineWalk(fourLevels(0x5007n, 5n), 0n, pagingState("level4"), asUser(write))).toEqual({ fault: 7 });
    expect(engineWalk(fourLevels(0x5007n, 3n), 0n, pagingState("level4"), asUser(read))).toEqual({ fault: 5 });
  });
});

test("PSE-36: bits 20:13 of a 4 MiB page are address bits 39:32", () => {
  const memory = new Memory();
  memory.write(0x1000n, 4, 0x0040_0087n | 0x12n << 13n);
  expect(engineWalk(memory, 0x12_3456n, pagingState("legacy", { physicalAddressBits: 40 }), read)).toMatchObject({ physical: 0x12_0052_3456, isLargePage: true });
  expect(engineWalk(memory, 0x12_3456n, pagingState("legacy", { physicalAddressBits: 36 }), read)).toEqual({ fault: 9 });
  expect(engineWalk(memory, 0n, pagingState("legacy", { pageSizeExtension: false }), read)).toEqual({ fault: 0 });
});

test("the second stage sees every table and the final address", () => {
  const memory = fourLevels(0x5007n);
  const walker = new PageWalker(memory.physical);
  const seen: [number, AccessKind, string][] = [];
  walker.secondStage = {
    translate: (address, kind, target) => {
      seen.push([address, kind, target]);
      return address === 0x5123 ? 0x6123 : address;
    },
    mayWrite: true, mayFetch: true, isLargePage: false, readsPointersOnDemand: false, tellsOfInstruction: true,
  };
  expect(walker.translate(0x123, 0, "write", pagingState("level4"), false, false)).toBe(true);
  expect(walker.physical).toBe(0x6123);
  expect(seen).toEqual([
    ...[0x1000, 0x2000, 0x3000].flatMap((at) => [[at, "read", "table"], [at, "write", "table"]]),
    [0x4000, "read", "table"], [0x4000, "write", "table"], [0x5123, "write", "final"],
  ]);
});

test("the second stage is asked for tables once, until what it said is forgotten", () => {
  const memory = fourLevels(0x5067n);
  const walker = new PageWalker(memory.physical);
  let moved = 0;
  const tables: number[] = [];
  walker.secondStage = {
    translate: (address, _kind, target) => {
      if (target === "table") tables.push(address);
      return address + moved;
    },
    mayWrite: true, mayFetch: true, isLargePage: false, readsPointersOnDemand: false, tellsOfInstruction: true,
  };
  const walk = (): number => walker.translate(0x123, 0, "read", pagingState("level4"), false, false) ? walker.physical : -1;
  walk();
  tables.length = 0;
  // Tables stay where they have been found; pages are asked for each time.
  moved = 0x10_0000;
  expect(walk()).toBe(0x10_5123);
  expect(tables).toEqual([]);
  walker.tablePlaces.forget();
  expect(walk()).toBe(-1);
  expect(tables).toEqual([0x1000]);
});
