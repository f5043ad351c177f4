/** Notes for each test how many guest instructions it executed, and how many of them by compiled code. */
import { randomUUID } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeEach, expect } from "vitest";
import { jitTotals } from "../../src/engine/jit/jit.ts";
import { SoftProcessor } from "../../src/engine/processor.ts";

export interface TestCount {
  readonly test: string;
  /** Instructions executed within `SoftProcessor.run`. */
  readonly executed: number;
  /** Entries into compiled code, and instructions that it executed. */
  readonly entries: number;
  readonly compiled: number;
}

/** Counts from here to the end of the test file, and writes that to a file of its own in the directory. */
export function countPerTest(directory: string): void {
  let executed = 0;
  const { run } = SoftProcessor.prototype;
  SoftProcessor.prototype.run = function runAndCount(this: SoftProcessor, ...budget: Parameters<typeof run>) {
    const before = this.retired;
    const reason = run.apply(this, budget);
    executed += this.retired - before;
    return reason;
  };
  const counts: TestCount[] = [];
  beforeEach(() => {
    const test = expect.getState().currentTestName ?? "";
    const before = { executed, entries: jitTotals.entries, compiled: jitTotals.executed };
    return () => void counts.push({
      test, executed: executed - before.executed, entries: jitTotals.entries - before.entries, compiled: jitTotals.executed - before.compiled,
    });
  });
  afterAll(() => writeFileSync(join(directory, `${randomUUID()}.json`), JSON.stringify(counts)));
}
