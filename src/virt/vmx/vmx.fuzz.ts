/** Random VMCSs, extended page tables and guests: VMLAUNCH enters or fails by the rules, and never throws or hangs. */
import { expect, test } from "vitest";
import { fuzzEntries } from "../testing/fuzz-entries.ts";
import { FuzzedGuest } from "./testing/fuzzed-guest.ts";

const entries = 1500;

test("every entry runs, exits or is refused", () => {
  const ends = fuzzEntries(new FuzzedGuest(), { extension: "vmx", firstSeed: Math.floor(Math.random() * 0xffff_0000), entries });
  // A fuzzer that never gets past the checks, or always does, tests little.
  expect(ends.get("exit") ?? 0).toBeGreaterThan(entries / 10);
  expect(ends.get("refused") ?? 0).toBeGreaterThan(entries / 50);
  expect(ends.get("invalid guest state") ?? 0).toBeGreaterThan(entries / 50);
});
