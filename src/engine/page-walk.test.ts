/** Page walks in every paging mode: translations, rights, error codes, accessed and dirty bits. */
import { describe, expect, test } from "vitest";
import { type AccessKind, PageWalker, type PagingMode, type PagingState } from "./page-walk.ts";
import { PhysicalMemory } from "./physical-memory.ts";
import { EntryMask, PageTables } from "./testing/page-tables.ts";

const { present, writable, user, accessed, dirty, global, noExecute } = EntryMask;
const ramOffset = 0x1_0000;
const modes: readonly Exclude<PagingMode, "none">[] = ["legacy", "pae", "level4", "level5"];

interface Access {
  readonly kind?: AccessKind;
  readonly isUser?: boolean;
  readonly isImplicit?: boolean;
}

function machine(mode: Exclude<PagingMode, "none">, changes: Partial<PagingState> = {}) {
  const memory = new PhysicalMemory(new ArrayBuffer(ramOffset + 0x10_0000), { read: () => 0, write: () => undefined });
  memory.map(0, 0x10_0000, ramOffset);
  const tables = new PageTables(memory, mode, 0x1000);
  const walker = new PageWalker(memory);
  const paging: PagingState = {
    mode, root: tables.root, pdpte: new Uint32Array(8), writeProtect: true, noExecute: mode !== "legacy", pageSizeExtension: true,
    globalPages: true, smep: false, smap: false, alignmentCheck: false, protectionKeys: false, pkru: 0, physicalAddressBits: 40,
    gigabytePages: true, ...changes,
  };
  /** Physical address, or the error code in words. */
  const walk = (linear: bigint, { kind = "read", isUser = false, isImplicit = false }: Access = {}): string => {
    if (mode === "pae") for (let index = 0; index < 8; index++) paging.pdpte[index] = memory.read32(tables.root + index * 4);
    const isDone = walker.translate(Number(linear & 0xffff_ffffn), Number(linear >> 32n), kind, paging, isUser, isImplicit);
    return isDone ? `at ${walker.physical.toString(16)}` : `fault ${walker.errorCode}`;
  };
  return { memory, tables, walker, paging, walk };
}

const page = 0x40_3000n;
const everything = present | writable | user;

describe.each(modes)("%s", (mode) => {
  const wide = mode !== "legacy";

  test("translates, and sets accessed and dirty bits", () => {
    const { tables, walker, walk } = machine(mode);
    tables.map(page, 0x5000, everything);
    expect(walk(page + 0x123n)).toBe("at 5123");
    expect(walker.mayWrite).toBe(false);
    expect(tables.entry(page) & (accessed | dirty)).toBe(accessed);
    for (let depth = mode === "pae" ? 1 : 0; depth < tables.shifts.length - 1; depth++) expect(tables.entry(page, depth) & accessed).toBe(accessed);
    expect(walk(page, { kind: "write" })).toBe("at 5000");
    expect(walker.mayWrite).toBe(true);
    expect(tables.entry(page) & (accessed | dirty)).toBe(accessed | dirty);
  });

  test("a failing walk leaves the last entry alone", () => {
    const { tables, walk } = machine(mode);
    tables.map(page, 0x5000, present | user);
    expect(walk(page, { kind: "write", isUser: true })).toBe("fault 7");
    expect(tables.entry(page) & (accessed | dirty)).toBe(0n);
  });

  test("absent entries at every level", () => {
    const { tables, walk } = machine(mode);
    for (let depth = tables.shifts.length - 1; depth >= 0; depth--) {
      tables.map(page, 0x5000, everything);
      tables.setEntry(page, tables.entry(page, depth) & ~present, depth);
      expect(walk(page)).toBe("fault 0");
      expect(walk(page, { kind: "write", isUser: true })).toBe("fault 6");
      tables.setEntry(page, tables.entry(page, depth) | present, depth);
    }
  });

  test("rights of user and supervisor", () => {
    const { tables, paging, walk } = machine(mode);
    tables.map(page, 0x5000, present | writable);
    expect(walk(page)).toBe("at 5000");
    expect(walk(page, { isUser: true })).toBe("fault 5");
    tables.setEntry(page, 0x5000n | present | user);
    expect(walk(page, { isUser: true })).toBe("at 5000");
    expect(walk(page, { kind: "write", isUser: true })).toBe("fault 7");
    expect(walk(page, { kind: "write" })).toBe("fault 3");
    paging.writeProtect = false;
    expect(walk(page, { kind: "write" })).toBe("at 5000");
    expect(walk(page, { kind: "write", isUser: true })).toBe("fault 7");
  });

  test("the least right of all levels counts", () => {
    const { tables, walk } = machine(mode);
    const depths = tables.shifts.length - 1;
    for (let depth = mode === "pae" ? 1 : 0; depth < depths; depth++) {
      tables.map(page, 0x5000, everything);
      const whole = tables.entry(page, depth);
      tables.setEntry(page, whole & ~writable, depth);
      expect(walk(page, { kind: "write" })).toBe("fault 3");
      tables.setEntry(page, whole & ~user, depth);
      expect(walk(page, { isUser: true })).toBe("fault 5");
      tables.setEntry(page, whole, depth);
      expect(walk(page, { kind: "write", isUser: true })).toBe("at 5000");
    }
  });

  test("SMEP", () => {
    const { tables, walk } = machine(mode, { smep: true });
    tables.map(page, 0x5000, everything);
    expect(walk(page, { kind: "fetch" })).toBe("fault 17");
    expect(walk(page, { kind: "fetch", isUser: true })).toBe("at 5000");
    expect(walk(page)).toBe("at 5000");
    expect(walk(page + 0x1000n, { kind: "fetch" })).toBe("fault 16");
  });

  test("SMAP", () => {
    const { tables, paging, walk } = machine(mode, { smap: true });
    tables.map(page, 0x5000, everything);
    expect(walk(page)).toBe("fault 1");
    expect(walk(page, { kind: "write" })).toBe("fault 3");
    expect(walk(page, { kind: "write", isUser: true })).toBe("at 5000");
    expect(walk(page, { kind: "fetch" })).toBe("at 5000");
    paging.alignmentCheck = true;
    expect(walk(page)).toBe("at 5000");
    expect(walk(page, { isImplicit: true })).toBe("fault 1");
  });

  test.runIf(wide)("no-execute", () => {
    const { tables, walker, walk } = machine(mode);
    tables.map(page, 0x5000, everything | noExecute);
    expect(walk(page, { kind: "fetch" })).toBe("fault 17");
    expect(walk(page, { kind: "fetch", isUser: true })).toBe("fault 21");
    expect(walk(page)).toBe("at 5000");
    expect(walker.mayFetch).toBe(false);
  });

  test.runIf(wide)("bit 63 is reserved while no-execute is off", () => {
    const { tables, walk } = machine(mode, { noExecute: false });
    tables.map(page, 0x5000, everything | noExecute);
    expect(walk(page)).toBe("fault 9");
    expect(walk(page, { kind: "fetch", isUser: true })).toBe("fault 13");
  });

  test.runIf(wide)("bits above the physical address are reserved", () => {
    const { tables, walk } = machine(mode);
    const depths = tables.shifts.length;
    for (let depth = mode === "pae" ? 1 : 0; depth < depths; depth++) {
      tables.map(page, 0x5000, everything);
      const whole = tables.entry(page, depth);
      tables.setEntry(page, whole | (1n << 40n), depth);
      expect(walk(page, { kind: "write" })).toBe("fault 11");
      tables.setEntry(page, whole, depth);
    }
  });

  test("large pages", () => {
    const { tables, walker, walk } = machine(mode);
    const depth = tables.shifts.length - 2;
    const sizeBytes = mode === "legacy" ? 0x40_0000 : 0x20_0000;
    tables.map(0x80_0000n, sizeBytes, everything, depth);
    expect(walk(0x80_0000n + 0x1_2345n, { kind: "write" })).toBe(`at ${(sizeBytes + 0x1_2345).toString(16)}`);
    expect(walker.isLargePage).toBe(true);
    expect(tables.entry(0x80_0000n, depth) & (accessed | dirty)).toBe(accessed | dirty);
    const reserved = mode === "legacy" ? 1n << 21n : 1n << 13n;
    tables.setEntry(0x80_0000n, tables.entry(0x80_0000n, depth) | reserved, depth);
    expect(walk(0x80_0000n)).toBe("fault 9");
  });

  test("global pages", () => {
    const { tables, walker, paging, walk } = machine(mode);
    tables.map(page, 0x5000, everything | global);
    walk(page);
    expect(walker.isGlobal).toBe(true);
    paging.globalPages = false;
    walk(page);
    expect(walker.isGlobal).toBe(false);
  });
});

describe("legacy", () => {
  test("the large bit means nothing without CR4.PSE", () => {
    const { tables, walk } = machine("legacy", { pageSizeExtension: false });
    tables.map(page, 0x5000, everything);
    tables.setEntry(page, tables.entry(page, 0) | EntryMask.large, 0);
    expect(walk(page)).toBe("at 5000");
  });

  test("PSE-36 gives large pages eight more address bits", () => {
    const { tables, walk } = machine("legacy");
    tables.map(0x80_0000n, 0x40_0000, everything, 0);
    tables.setEntry(0x80_0000n, tables.entry(0x80_0000n, 0) | (0x12n << 13n), 0);
    expect(walk(0x80_0000n)).toBe("at 1200400000");
  });
});

describe.each(["level4", "level5"] as const)("%s", (mode) => {
  test("pages of 1 GiB, where the model has them", () => {
    const { tables, paging, walk } = machine(mode);
    const depth = tables.shifts.length - 3;
    tables.map(1n << 39n, 0x4000_0000, everything, depth);
    expect(walk((1n << 39n) + 0x1234_5678n)).toBe("at 52345678");
    paging.gigabytePages = false;
    expect(walk(1n << 39n)).toBe("fault 9");
  });

  test("large pages at the levels above are reserved", () => {
    const { tables, walk } = machine(mode);
    tables.map(page, 0x5000, everything);
    tables.setEntry(page, tables.entry(page, 0) | EntryMask.large, 0);
    expect(walk(page)).toBe("fault 9");
  });

  test("protection keys", () => {
    const { tables, walker, paging, walk } = machine(mode, { protectionKeys: true });
    const key = 5n, accessDisable = 1 << 10, writeDisable = 2 << 10;
    tables.map(page, 0x5000, everything | dirty | (key << 59n));
    expect(walk(page, { isUser: true })).toBe("at 5000");
    paging.pkru = accessDisable;
    expect(walk(page, { isUser: true })).toBe("fault 37");
    expect(walk(page)).toBe("fault 33");
    expect(walk(page, { kind: "fetch", isUser: true })).toBe("at 5000");
    paging.pkru = writeDisable;
    expect(walk(page, { isUser: true })).toBe("at 5000");
    expect(walker.mayWrite).toBe(false);
    expect(walk(page, { kind: "write", isUser: true })).toBe("fault 39");
    expect(walk(page, { kind: "write" })).toBe("fault 35");
    paging.writeProtect = false;
    expect(walk(page, { kind: "write" })).toBe("at 5000");
    // Keys mean nothing to supervisor pages.
    tables.setEntry(page, tables.entry(page) & ~user);
    paging.pkru = accessDisable;
    expect(walk(page)).toBe("at 5000");
  });
});

test("canonical addresses of five levels reach the top of the fifth", () => {
  const { tables, walk } = machine("level5");
  const linear = 0xff80_0000_0000_0000n;
  tables.map(linear, 0x6000, everything);
  expect(walk(linear + 8n)).toBe("at 6008");
});
