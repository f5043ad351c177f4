import { expect, test } from "vitest";
import type { Transition } from "../isa/virtualization.ts";
import { TransitionLog, type TransitionFilter } from "./transition-log.ts";

/** A log whose clock the test sets. */
class Scene {
  nowNs = 0;
  readonly log: TransitionLog;

  constructor(filter: TransitionFilter = {}, maximumRecords = 100) {
    this.log = new TransitionLog({ nowNs: () => this.nowNs, filter, maximumRecords });
  }

  at(nowNs: number, kind: Transition["kind"], reason: string, controlBlock = 0x1000, processor = 0): void {
    this.nowNs = nowNs;
    this.log.record(processor, nowNs / 10, { kind, reason, code: 0, space: 1, controlBlock, rip: BigInt(nowNs), information: [0n, 0n] });
  }
}

test("an entry or exit lasts until the processor's next one", () => {
  const scene = new Scene();
  scene.at(100, "entry", "VMRUN");
  scene.at(130, "entry", "VMRUN", 0x2000, 1);
  scene.at(150, "exit", "CPUID");
  scene.at(400, "entry", "VMRUN");
  scene.nowNs = 500;
  const { records, endNs } = scene.log.report();
  expect(records.map(({ timeNs, durationNs, instructions, processor }) => [timeNs, durationNs, instructions, processor])).toEqual([
    [100, 50, 5, 0], [130, undefined, undefined, 1], [150, 250, 25, 0], [400, undefined, undefined, 0],
  ]);
  expect(endNs).toBe(500);
});

test("levels come from who enters after whose attempt", () => {
  const scene = new Scene();
  const guest = 0x1000, inner = 0x2000, innermost = 0x3000;
  scene.at(1, "entry", "VMRUN", guest);
  scene.at(2, "exit", "VMRUN", guest);
  scene.at(3, "entry", "VMRUN", inner);
  scene.at(4, "exit", "VMRUN", inner);
  scene.at(5, "entry", "VMRUN", innermost);
  scene.at(6, "exit", "CPUID", innermost);
  scene.at(7, "entry", "VMRUN", guest);
  scene.at(8, "exit", "INTR", guest);
  scene.at(9, "entry", "VMRUN", inner);
  expect(scene.log.report().records.map(({ level }) => level)).toEqual([2, 2, 3, 3, 4, 4, 2, 2, 3]);
});

test("filters decide about records and counts", () => {
  const play = (filter: TransitionFilter): string[] => {
    const scene = new Scene(filter);
    scene.at(100, "entry", "VMRUN");
    scene.at(110, "exit", "NPF");
    scene.at(200, "entry", "VMRUN");
    scene.at(230, "exit", "CPUID");
    scene.at(240, "entry", "VMRUN");
    const { records, lines, filteredOut } = scene.log.report();
    expect(lines.reduce((sum, { count }) => sum + count, 0)).toBe(records.length);
    expect(records.length + filteredOut).toBe(5);
    return records.map(({ timeNs, reason }) => `${timeNs} ${reason}`);
  };
  expect(play({ kind: "exit" })).toEqual(["110 NPF", "230 CPUID"]);
  expect(play({ reasons: ["npf"] })).toEqual(["110 NPF"]);
  expect(play({ minimumDurationNs: 30 })).toEqual(["110 NPF", "200 VMRUN"]);
  expect(play({ ripRange: [200n, 230n] })).toEqual(["200 VMRUN", "230 CPUID"]);
  expect(play({ levels: [3] })).toEqual([]);
  expect(play({ processors: [1] })).toEqual([]);
});

test("what is too much is counted only", () => {
  const scene = new Scene({}, 3);
  for (let at = 0; at < 10; at++) scene.at(at * 100, at % 2 === 0 ? "entry" : "exit", at % 2 === 0 ? "VMRUN" : "HLT");
  const { records, unlisted, lines } = scene.log.report();
  expect([records.length, unlisted]).toEqual([3, 7]);
  expect(lines.map(({ kind, count, totalNs }) => [kind, count, totalNs])).toEqual([["entry", 5, 500], ["exit", 5, 400]]);
});
