/** Random programs end each budget in the interpreter's state, memory and count, however they are cut into regions. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createMachine, describeDifference, runBoth, turns } from "../../../tests/jit/lockstep.ts";
import { makeProgram, programSpecs } from "../../../tests/jit/program.ts";
import { jitSettingsNamed, type JitSettings } from "./settings.ts";

const huge = jitSettingsNamed("huge"), tiny = jitSettingsNamed("tiny");
const settings: Readonly<Record<string, JitSettings>> = {
  "one block a region": tiny,
  "all that is known at the first entry": huge,
  "whole programs": { ...huge, threshold: 3 },
  "bursts, and regions that go on to others": { ...huge, threshold: 40, burst: { entries: 2, withinInstructions: 100_000 }, joinedInstructions: 6 },
  "small regions, few modules": { ...huge, threshold: 2, maximumBlocks: 3, maximumModules: 3 },
};

const runs = Number(process.env["RINGMASTER_FUZZ_RUNS"] ?? 40);
const timeoutMs = 60_000 + runs * 2000;

describe.each(Object.entries(settings))("%s", (_name, jit) => {
  test.each([64, 32] as const)("%i-bit programs", (bits) => {
    const interpreter = createMachine({ jit: jitSettingsNamed("off") }), compiled = createMachine({ jit });
    fc.assert(fc.property(programSpecs(8), turns, (spec, turnList) => {
      const program = makeProgram(bits, spec);
      const difference = runBoth(interpreter, compiled, program, turnList, spec.seed);
      if (difference !== undefined) expect.fail(describeDifference(difference, program));
    }), { numRuns: runs });
    expect(compiled.processor.jit.counters.executed).toBeGreaterThan(compiled.processor.retired / 10);
  }, timeoutMs);
});
