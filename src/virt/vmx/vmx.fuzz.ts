/** Random VMCSs, extended page tables and guests: VMLAUNCH enters or fails by the rules, and never throws or hangs. */
import { expect, test, vi } from "vitest";
import { jitSettingsNamed } from "../../engine/jit/settings.ts";
import { SoftProcessor } from "../../engine/processor.ts";
import { fuzzEntries } from "../testing/fuzz-entries.ts";
import { FuzzedGuest } from "./testing/fuzzed-guest.ts";

const entries = 1500;

test("every entry runs, exits or is refused", () => {
  const resumptions = [vi.spyOn(SoftProcessor.prototype, "resumeGuest"), vi.spyOn(SoftProcessor.prototype, "resumeHost")];
  const ends = fuzzEntries(new FuzzedGuest(), { extension: "vmx", firstSeed: Math.floor(Math.random() * 0xffff_0000), entries });
  // A fuzzer that never gets past the checks, or always does, tests little.
  expect(ends.get("exit") ?? 0).toBeGreaterThan(entries / 30);
  expect(ends.get("refused") ?? 0).toBeGreaterThan(entries / 50);
  expect(ends.get("invalid guest state") ?? 0).toBeGreaterThan(entries / 50);
  for (const spy of resumptions) expect(spy.mock.results.map(({ value }) => value)).toContain(true);
});

test.each([["forced", true], ["off", false]] as const)("with the JIT %s, going on within the slice behind an exit is %s", (jit, isWithin) => {
  const guest = new FuzzedGuest(jitSettingsNamed(jit));
  const ends = fuzzEntries(guest, { extension: "vmx", firstSeed: 10, entries: 100 });
  expect(ends.get("exit") ?? 0).toBeGreaterThan(0);
  expect(guest.machine.processor.exitsWithinSlices > 0).toBe(isWithin);
});
