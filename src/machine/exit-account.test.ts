import { expect, test } from "vitest";
import { softAccelerator } from "../accel/soft/index.ts";
import { bucketStartNs, ExitAccount, exitsSince, percentileNs, type ExitReport } from "./exit-account.ts";
import { Machine } from "./machine.ts";
import { imageOf, machineConfig, program } from "./testing/ticking-guest.ts";

test("lines count, add up and sort by time", () => {
  const account = new ExitAccount(() => 0);
  account.record("port write", 0x3f8, 100);
  account.record("port write", 0x3f8, 300);
  account.record("halt", undefined, 0);
  account.record("memory read", 0xfee0_0000, 1000);
  account.addRun(5000);
  const { runNs, lines } = account.report((reason, place) => `${reason} ${place.toString(16)}`);
  expect(runNs).toBe(5000);
  expect(lines.map(({ reason, place, device, count, totalNs }) => [reason, place, device, count, totalNs])).toEqual([
    ["memory read", 0xfee0_0000, "memory read fee00000", 1, 1000], ["port write", 0x3f8, "port write 3f8", 2, 400], ["halt", undefined, undefined, 1, 0],
  ]);
  expect(lines[1].histogram.flatMap((count, bucket) => (count === 0 ? [] : [[bucket, count]]))).toEqual([[26, 1], [32, 1]]);
  expect([bucketStartNs(26), percentileNs(lines[1], 0.5), percentileNs(lines[1], 0.99)].map(Math.round)).toEqual([91, 108, 304]);
});

test("the difference of two reports is what happened between them", () => {
  const account = new ExitAccount(() => 0);
  const report = (): ExitReport => account.report(() => undefined);
  account.record("port write", 0x3f8, 100);
  account.record("port read", 0x60, 100);
  account.addRun(1000);
  const before = report();
  account.record("port write", 0x3f8, 800);
  account.record("halt", undefined, 0);
  account.addRun(500);
  const { runNs, lines } = exitsSince(before, report());
  expect(runNs).toBe(500);
  expect(lines.map(({ reason, count, totalNs }) => [reason, count, totalNs])).toEqual([["port write", 1, 800], ["halt", 1, 0]]);
  expect(Math.round(percentileNs(lines[0], 0.5))).toBe(861);
  expect(lines[0].histogram.reduce((sum, members) => sum + members, 0)).toBe(1);
});

test("counting begins and ends while a machine runs, and follows it to another accelerator", () => {
  const machine = new Machine(machineConfig, softAccelerator);
  machine.load(imageOf(program));
  machine.runSlice();
  expect(machine.exits()).toBeUndefined();
  machine.accountExits(new ExitAccount(() => 0));
  machine.runSlice();
  machine.switchAccelerator(softAccelerator);
  const count = (): number => machine.exits()?.lines.reduce((sum, line) => sum + line.count, 0) ?? 0;
  const before = count();
  expect(before).toBeGreaterThan(0);
  machine.runSlice();
  expect(count()).toBeGreaterThan(before);
  machine.accountExits(undefined);
  expect(machine.exits()).toBeUndefined();
  machine.close();
});

test("a guest that touches every port makes no endless list", () => {
  const account = new ExitAccount(() => 0);
  for (let port = 0; port < 0x1_0000; port++) account.record("port read", port, 1);
  const { lines } = account.report(() => undefined);
  expect(lines.length).toBeLessThan(5000);
  expect(lines.reduce((sum, { count }) => sum + count, 0)).toBe(0x1_0000);
  expect(lines.find(({ place }) => place === undefined)?.count).toBeGreaterThan(0x8000);
});

test("a machine's exits are named by the devices that answer", () => {
  let nowNs = 0;
  const machine = new Machine({ ...machineConfig, exits: new ExitAccount(() => (nowNs += 10)) }, softAccelerator);
  machine.load(imageOf(program));
  while (machine.runSlice().kind !== "ended");
  const report = machine.exits();
  const line = (reason: string, place?: number) => report?.lines.find((candidate) => candidate.reason === reason && (place === undefined || candidate.place === place));
  expect(line("memory write", 0xfee0_00b0)).toMatchObject({ device: "local-apic@0", count: 64 });
  expect(line("port write", 0xf4)).toMatchObject({ device: "isa-debug-exit", count: 1, totalNs: 10 });
  expect(line("halt")?.count).toBeGreaterThan(5);
  expect(report?.runNs).toBeGreaterThan(0);
  expect(new Machine(machineConfig, softAccelerator).exits()).toBeUndefined();
});
