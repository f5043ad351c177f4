/** What is kept of compiled code stays within its bounds, and what was thrown away is compiled again. */
import { describe, expect, test } from "vitest";
import { Twins, warm } from "../../../tests/jit/twins.ts";
import { Place } from "../testing/engine-machine.ts";

const [rax, rcx] = [0, 1];
const functionCount = 60;

/** A loop that calls sixty functions, each a region of its own: add eax, n; ret. */
function callMany(twins: Twins, rounds: number): void {
  const calls = Array.from({ length: functionCount }, (_, index) => {
    const distance = 0x1000 + index * 16 - (index * 5 + 5);
    return `e8${[0, 8, 16, 24].map((shift) => ((distance >> shift) & 0xff).toString(16).padStart(2, "0")).join("")}`;
  }).join("");
  const size = functionCount * 5 + 2;
  const back = [0, 8, 16, 24].map((shift) => ((-(size + 6) >> shift) & 0xff).toString(16).padStart(2, "0")).join("");
  twins.write(Place.code, `${calls}ffc90f85${back}f4`);
  for (let index = 0; index < functionCount; index++) twins.write(Place.code + 0x1000 + index * 16, `83c0${(index + 1).toString(16).padStart(2, "0")}c3`);
  twins.start();
  twins.each((machine) => {
    machine.setRegister(rax, 0n);
    machine.setRegister(rcx, BigInt(rounds));
  });
  twins.runToHalt();
  expect(twins.compiled.register(rax)).toBe(BigInt(rounds * (functionCount * (functionCount + 1)) / 2));
}

describe("bounds", () => {
  test.each([[1], [7], [1000]])("%i modules at most", (maximumModules) => {
    const twins = new Twins({ ...warm, threshold: 1, maximumBlocks: 1, maximumModules });
    callMany(twins, 5);
    expect(twins.compiled.processor.jit.kept.modules).toBeLessThanOrEqual(maximumModules);
    expect(twins.counters.evicted > 0).toBe(maximumModules < functionCount);
    twins.expectCompiled(maximumModules < functionCount ? functionCount : 4 * functionCount);
  });

  test("bytes of code", () => {
    const maximumCodeBytes = 8000;
    const twins = new Twins({ ...warm, threshold: 1, maximumBlocks: 1, maximumCodeBytes });
    callMany(twins, 5);
    expect(twins.counters.codeBytes).toBeGreaterThan(maximumCodeBytes * 3);
    expect(twins.compiled.processor.jit.kept.codeBytes).toBeLessThanOrEqual(maximumCodeBytes);
  });

  test("places in the table are used again", () => {
    const twins = new Twins({ ...warm, threshold: 1, maximumBlocks: 1, maximumModules: 3, evictionSeed: 5 });
    for (let turn = 0; turn < 3; turn++) callMany(twins, 5);
    expect(twins.counters.regions).toBeGreaterThan(300);
    expect(twins.compiled.processor.jit.kept.places).toBeLessThan(10);
  });

  test("modules whose regions are all void do not count for long", () => {
    const twins = new Twins({ ...warm, threshold: 1, maximumModules: 100 });
    for (let turn = 0; turn < 300; turn++) {
      twins.write(Place.code, `83c0${(turn % 100).toString(16).padStart(2, "0")}f4`);
      twins.start();
      twins.runToHalt();
    }
    expect(twins.counters.voided).toBeGreaterThan(200);
    expect(twins.compiled.processor.jit.kept.modules).toBeLessThanOrEqual(2);
  });
});
