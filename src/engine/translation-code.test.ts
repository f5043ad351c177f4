/** Walks as generated code against the walker that knows all cases, on random tables. */
import { describe, expect, test } from "vitest";
import { Random } from "../../tests/differential/random.ts";
import { FlagMask, writeFlags } from "../isa/flags.ts";
import * as state from "../isa/state.ts";
import { Cr0Mask, Cr4Mask, EferMask } from "../isa/system/mode.ts";
import { PageWalker, type AccessKind } from "./page-walk.ts";
import { EngineMachine, PageBit, Place } from "./testing/engine-machine.ts";
import { WalkAccess, WalkAnswer, WalkMode, WalkResult } from "./translation-code.ts";

const rounds = 200, accessesPerRound = 40;
/** Of the random accesses; the others have a bit to set in an upper level. */
const leastShareTranslated = 0.1, leastShareFaulting = 0.3;
const all = PageBit.present | PageBit.writable | PageBit.user | PageBit.accessed | PageBit.dirty;
const kinds: readonly (readonly [AccessKind, number])[] = [["read", 0], ["write", WalkAccess.write], ["fetch", WalkAccess.fetch]];

/** An entry with most rights, now and then without one or with a bit that does not belong there. */
function randomEntry(random: Random, frame: bigint): bigint {
  let entry = frame | all;
  for (const bit of [0n, 1n, 2n, 5n, 6n]) if (random.chance(4)) entry &= ~(1n << bit);
  if (random.chance(20)) entry |= PageBit.global;
  if (random.chance(10)) entry |= PageBit.noExecute;
  if (random.chance(2)) entry |= 1n << BigInt(random.between(40, 51));
  return entry;
}

function randomTables({ view }: EngineMachine, random: Random, levels: 2 | 4): void {
  if (levels === 2) {
    const set = (table: number, index: number, entry: bigint): void => view.setUint32(table + index * 4, Number(entry & 0xffff_ffffn), true);
    set(Place.level4, 0, randomEntry(random, BigInt(Place.level3)));
    // Bit 12 is the page attribute table's, 13 to 20 are of an address beyond 4 GiB, 21 is reserved.
    for (let index = 1; index < 8; index++) set(Place.level4, index, randomEntry(random, random.chance(10) ? 1n << BigInt(random.between(12, 21)) : 0n) | PageBit.large);
    for (let page = 0; page < 1024; page++) set(Place.level3, page, randomEntry(random, random.chance(95) ? BigInt(page) << 12n : BigInt(Place.device)));
    return;
  }
  const set = (table: number, index: number, entry: bigint): void => view.setBigUint64(table + index * 8, entry, true);
  set(Place.level4, 0, randomEntry(random, BigInt(Place.level3)));
  set(Place.level4, 511, randomEntry(random, BigInt(Place.level3)));
  set(Place.level3, 0, randomEntry(random, BigInt(Place.level2)));
  set(Place.level3, 1, randomEntry(random, 0n) | PageBit.large);
  set(Place.level2, 0, randomEntry(random, BigInt(Place.level1)));
  for (let index = 1; index < 8; index++) set(Place.level2, index, randomEntry(random, BigInt(index % 4) << 21n | (random.chance(5) ? 0x2000n : 0n)) | PageBit.large);
  for (let page = 0; page < 512; page++) set(Place.level1, page, randomEntry(random, random.chance(95) ? BigInt(page) << 12n : BigInt(Place.device)));
}

function randomControls({ processor }: EngineMachine, random: Random, levels: 2 | 4): void {
  const s = processor.state;
  const choose = (mask: number): bigint => random.chance(50) ? BigInt(mask) : 0n;
  s.set64(state.cr0, BigInt(Cr0Mask.PE | Cr0Mask.PG) & 0xffff_ffffn | choose(Cr0Mask.WP));
  s.set64(state.cr3, BigInt(Place.level4));
  s.set64(state.cr4, BigInt((levels === 4 ? Cr4Mask.PAE : Cr4Mask.PSE) | Cr4Mask.OSFXSR) | choose(Cr4Mask.PGE) | choose(Cr4Mask.SMEP) | choose(Cr4Mask.SMAP));
  s.set64(state.efer, levels === 4 ? BigInt(EferMask.LME | EferMask.LMA | EferMask.SCE) | choose(EferMask.NXE) : 0n);
  writeFlags(s, random.chance(50) ? FlagMask.AC : 0, FlagMask.AC);
  processor.modeChanged();
}

function copyTables({ ram }: EngineMachine): Buffer {
  return Buffer.from(ram.subarray(Place.level4, Place.level1 + 0x1000));
}

describe("a walk by generated code", () => {
  test.each([4, 2] as const)("of %i levels says and does what the walker does, or nothing", (levels) => {
    const machine = new EngineMachine({ ramBytes: 0x80_0000 });
    if (levels === 4) machine.longMode();
    else machine.protectedMode();
    const { memory } = machine.processor, walker = new PageWalker(machine.physical), random = new Random(14);
    let translated = 0, faulting = 0;
    for (let round = 0; round < rounds; round++) {
      randomTables(machine, random, levels);
      randomControls(machine, random, levels);
      const s = machine.processor.state;
      expect(s.get32(state.walkMode)).toBe(levels === 4 ? WalkMode.fourLevels : WalkMode.twoLevels);
      for (let index = 0; index < accessesPerRound; index++) {
        const [kind, bits] = random.pick(kinds);
        const low = (random.chance(70) ? random.below(0x20_0000) : random.below(0x8000_0000)) >>> 0;
        const high = levels === 2 ? 0 : random.pick([0, 0, 0, 0xffff_ff80, 0x7f80, 0x1_0000, random.next()]);
        const isUser = random.chance(50), isImplicit = !isUser && random.chance(30);
        const access = bits | (isUser ? WalkAccess.user : 0) | (isImplicit ? WalkAccess.implicit : 0);
        const before = copyTables(machine);
        const answer = memory.walkByCode!(low, high, access, 0);
        const after = copyTables(machine);
        machine.ram.set(before, Place.level4);
        memory.paging.alignmentCheck = (s.get32(state.systemFlags) & FlagMask.AC) !== 0;
        const isTranslated = walker.translate(low, high, kind, memory.paging, isUser, isImplicit);
        if (answer !== WalkAnswer.translated) {
          expect(after.equals(before)).toBe(true);
          if (answer === WalkAnswer.faults) faulting++;
          expect(answer, `round ${round}, access ${index}`).toBeOneOf(isTranslated ? [0] : [0, WalkAnswer.faults]);
          continue;
        }
        translated++;
        expect(isTranslated, `round ${round}, access ${index}`).toBe(true);
        const result = s.get32(state.walkResult);
        const has = (mask: number): boolean => (result & mask) !== 0;
        expect({
          physical: s.get64(state.walkAddress), mayWrite: has(WalkResult.mayWrite), isGlobal: has(WalkResult.isGlobal),
          isUserPage: has(WalkResult.isUserPage), mayFetch: has(WalkResult.mayFetch), isLargePage: has(WalkResult.isLargePage),
        }).toEqual({
          physical: BigInt(walker.physical), mayWrite: walker.mayWrite, isGlobal: walker.isGlobal,
          isUserPage: walker.isUserPage, mayFetch: walker.mayFetch, isLargePage: walker.isLargePage,
        });
        expect(copyTables(machine).equals(after)).toBe(true);
      }
    }
    expect(translated / (rounds * accessesPerRound)).toBeGreaterThan(leastShareTranslated);
    expect(faulting / (rounds * accessesPerRound)).toBeGreaterThan(leastShareFaulting);
  });

  test("marks no table that code was decoded from", () => {
    const machine = new EngineMachine();
    machine.longMode(3);
    for (const table of [Place.level4, Place.level3, Place.level2]) machine.view.setBigUint64(table, machine.view.getBigUint64(table, true) | PageBit.accessed, true);
    machine.setPage(Place.data, BigInt(Place.data) | all & ~PageBit.accessed);
    machine.physical.markCode(machine.ramOffset + Place.level1, true);
    const { memory } = machine.processor;
    expect(memory.walkByCode!(Place.data, 0, WalkAccess.user, 0)).toBe(0);
    machine.physical.markCode(machine.ramOffset + Place.level1, false);
    expect(memory.walkByCode!(Place.data, 0, WalkAccess.user, 0)).toBe(WalkAnswer.translated);
  });
});

describe("a page brought into the TLB by generated code", () => {
  const readByUser = WalkAccess.user | WalkAccess.fills;
  const context = (machine: EngineMachine): number => machine.processor.state.get32(state.tlbContext);

  function mapped(entry: bigint): EngineMachine {
    const machine = new EngineMachine();
    machine.longMode(3);
    // What is above the last level has been used.
    for (const table of [Place.level4, Place.level3, Place.level2]) machine.view.setBigUint64(table, machine.view.getBigUint64(table, true) | PageBit.accessed, true);
    machine.setPage(Place.data, entry);
    return machine;
  }

  test("is found there", () => {
    const machine = mapped(BigInt(Place.data) | all);
    const { memory } = machine.processor;
    expect(memory.reach(Place.data, 0, false)).toBe(0);
    expect(memory.walkByCode!(Place.data + 5, 0, readByUser, context(machine))).toBe(WalkAnswer.filledForWriting);
    expect(memory.reach(Place.data, 0, false)).toBe(machine.ramOffset + Place.data);
    expect(memory.reach(Place.data, 0, true)).toBe(machine.ramOffset + Place.data);
  });

  test("is not for writing with code in it, or while it is clean", () => {
    const clean = mapped(BigInt(Place.data) | all & ~PageBit.dirty), code = mapped(BigInt(Place.data) | all);
    code.physical.markCode(code.ramOffset + Place.data, true);
    for (const machine of [clean, code]) {
      expect(machine.processor.memory.walkByCode!(Place.data, 0, readByUser, context(machine))).toBe(WalkAnswer.filled);
      expect(machine.processor.memory.reach(Place.data, 0, true)).toBe(0);
    }
  });

  test("goes with a write of CR3 unless it is global", () => {
    for (const [entry, remains] of [[0n, false], [PageBit.global, true]] as const) {
      const machine = mapped(BigInt(Place.data) | all | entry);
      const { memory } = machine.processor;
      memory.walkByCode!(Place.data, 0, readByUser, context(machine));
      memory.switchAddressSpace(undefined, false);
      expect(memory.reach(Place.data, 0, false) !== 0).toBe(remains);
    }
  });

  test("goes with INVLPG of its large page", () => {
    const machine = mapped(BigInt(Place.data) | all);
    const { memory } = machine.processor;
    machine.view.setBigUint64(Place.level2, all | PageBit.large, true);
    expect(memory.walkByCode!(Place.data, 0, readByUser, context(machine))).toBe(WalkAnswer.filledForWriting);
    memory.invalidatePage(0x1000, 0);
    expect(memory.reach(Place.data, 0, false)).toBe(0);
  });

  test("is not while it is watched", () => {
    const machine = mapped(BigInt(Place.data) | all);
    const s = machine.processor.state;
    s.set64(state.dr[0], BigInt(Place.data));
    s.set64(state.dr[7], 0x1_0001n);
    machine.processor.modeChanged();
    expect(machine.processor.memory.walkByCode!(Place.data, 0, readByUser, context(machine))).toBe(0);
  });

  test("is not while its contents are still to come", () => {
    const machine = mapped(BigInt(Place.data) | all);
    machine.physical.fillLater([machine.ramOffset], () => {});
    expect(machine.processor.memory.walkByCode!(Place.data, 0, readByUser, context(machine))).toBe(0);
  });
});
