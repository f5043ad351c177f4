/**
 * src/softfloat against the host processor. SOFTFLOAT_CASES sets the cases per operation (default 400, at least 100000
 * for a full run), SOFTFLOAT_SEED the seed, SOFTFLOAT_ONLY a substring of the operations to run.
 */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { allExceptionsMask } from "../../src/softfloat/index.ts";
import { Random } from "./float-cases.ts";
import type { FloatOperation } from "./float-operations.ts";
import { floatOperations } from "./float-operations.ts";
import { FloatOracle, oracleUnavailable } from "./oracle.ts";

const caseCount = Number(process.env["SOFTFLOAT_CASES"] ?? 400);
const seed = Number(process.env["SOFTFLOAT_SEED"] ?? 1);
const only = process.env["SOFTFLOAT_ONLY"] ?? "";
const reason = oracleUnavailable();

/** Runs seeded cases of one operation; returns descriptions of the first mismatches and their number. */
function mismatches(
  oracle: FloatOracle,
  operation: FloatOperation,
): { count: number; first: string[] } {
  const random = new Random(seed * 65536 + operation.number);
  const first: string[] = [];
  let count = 0;
  for (let start = 0; start < caseCount; start += 20_000) {
    const cases = Array.from({ length: Math.min(20_000, caseCount - start) }, () => ({
      operation: operation.number,
      ...operation.generate(random),
    }));
    oracle.run(cases).forEach((outcome, index) => {
      const { control, operands } = cases[index];
      const actual = operation.evaluate(operands, control, outcome);
      if (actual.agrees) return;
      count++;
      if (first.length < 8) {
        const inputs = operands.map((operand) => operand.toString(16)).join(" ");
        first.push(
          `control ${control.toString(16)} operands ${inputs}: processor ${outcome.results[0].toString(16)} ` +
            `${outcome.results[1].toString(16)} status ${outcome.status.toString(16)} ` +
            `flags ${(outcome.status & allExceptionsMask).toString(16)}${outcome.faulted ? " faulted" : ""}; ours ${actual.description}`,
        );
      }
    });
  }
  return { count, first };
}

describe.skipIf(reason !== undefined)(
  `softfloat against the processor${reason ? ` (skipped: ${reason})` : ""}`,
  () => {
    let oracle: FloatOracle;
    beforeAll(() => {
      oracle = new FloatOracle();
    });
    afterAll(() => oracle?.[Symbol.dispose]());

    for (const operation of floatOperations) {
      if (!operation.name.includes(only)) continue;
      it(operation.name, { timeout: 3_600_000 }, () => {
        const { count, first } = mismatches(oracle, operation);
        const replay = `SOFTFLOAT_SEED=${seed} SOFTFLOAT_CASES=${caseCount} SOFTFLOAT_ONLY='${operation.name}' npx vitest run tests/native/softfloat.test.ts`;
        expect(
          count === 0 ? "" : `${count} mismatches; replay: ${replay}\n${first.join("\n")}`,
        ).toBe("");
      });
    }
  },
);
