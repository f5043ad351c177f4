/**
 * `npm run isa:coverage`: what each level of the instruction set holds (by iced-x86's tables), how much of it we define
 * and how much of that was compared with a processor. Exit status 1 if an offered level misses something. `--json`
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { instructions } from "../src/isa/instructions.ts";
import { measureCoverage } from "../tests/conformance/isa-coverage.ts";
import type { LevelCoverage } from "../tests/conformance/isa-coverage.ts";

const recordedFile = join(import.meta.dirname, "..", "tests", "differential", "coverage.json");

const { values } = parseArgs({ options: { json: { type: "boolean", default: false } } });

function readRecorded(): Record<string, number> {
  try {
    return (JSON.parse(readFileSync(recordedFile, "utf8")) as { forms: Record<string, number> }).forms;
  } catch {
    process.stderr.write("isa-coverage: no record of a differential run; make one with npm run test:differential -- --record\n");
    return {};
  }
}

function printTable(levels: readonly LevelCoverage[]): void {
  const columns = ["forms", "defined", "tested", "privileged", "missing"];
  console.log(`${"level".padEnd(18)}${columns.map((column) => column.padStart(12)).join("")}`);
  for (const { name, isOffered, forms, defined, tested, notTestable, missing } of levels) {
    const counts = isOffered ? [forms, defined, tested, notTestable, missing.length] : [forms, "not offered"];
    console.log(`${name.padEnd(18)}${counts.map((count) => String(count).padStart(12)).join("")}`);
  }
  for (const { name, isOffered, missing } of levels) {
    if (isOffered && missing.length > 0) console.log(`missing of ${name}: ${missing.join(", ")}`);
  }
  for (const { name, isOffered, untested } of levels) {
    if (isOffered && untested.length > 0) console.log(`of ${name} not compared with a processor: ${untested.join(", ")}`);
  }
}

const levels = measureCoverage(instructions, readRecorded());
if (values.json) {
  const offered = levels.filter(({ isOffered }) => isOffered);
  console.log(JSON.stringify({ levels: offered.map(({ name, defined, tested, missing }) => ({ name, defined, tested, missing })) }));
} else {
  printTable(levels);
}
process.exitCode = levels.some(({ isOffered, missing }) => isOffered && missing.length > 0) ? 1 : 0;
