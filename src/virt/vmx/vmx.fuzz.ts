/** Random VMCSs, extended page tables and guests: VMLAUNCH enters or fails by the rules, and never throws or hangs. */
import { expect, test } from "vitest";
import { FuzzedGuest, type FuzzEnd } from "./testing/fuzzed-guest.ts";

const entries = 1500;

test("every entry runs, exits or is refused", () => {
  const guest = new FuzzedGuest();
  const ends = new Map<FuzzEnd, number>();
  const firstSeed = Math.floor(Math.random() * 0xffff_0000);
  for (let seed = firstSeed; seed < firstSeed + entries; seed++) {
    try {
      const end = guest.run(seed);
      ends.set(end, (ends.get(end) ?? 0) + 1);
    } catch (cause) {
      throw new Error(`seed ${seed}: npm run fuzz:virt -- vmx --seed ${seed} --entries 1`, { cause });
    }
  }
  // A fuzzer that never gets past the checks, or always does, tests little.
  expect(ends.get("exit") ?? 0).toBeGreaterThan(entries / 10);
  expect(ends.get("refused") ?? 0).toBeGreaterThan(entries / 50);
  expect(ends.get("invalid guest state") ?? 0).toBeGreaterThan(entries / 50);
});
