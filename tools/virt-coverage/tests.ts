/** Evidence that needs no guest: tests by their titles, and levels of the instruction set by what the differential test has recorded. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { instructions } from "../../src/isa/instructions.ts";
import { measureCoverage } from "../../tests/conformance/isa-coverage.ts";
import type { InventoryRow, Shown } from "./inventory.ts";

const root = join(import.meta.dirname, "../..");
const recordedFile = "tests/differential/coverage.json";

/** `FILE: TITLE`: whether the file has a string of which the title is the beginning. */
function isTest(reference: string): boolean {
  const [file, title] = reference.split(/: (.*)/su);
  if (title === undefined || title === "") return false;
  try {
    const text = readFileSync(join(root, file), "utf8");
    return ['"', "`", "'"].some((quote) => text.includes(quote + title));
  } catch {
    return false;
  }
}

/** Levels of which every form is defined, and compared with a processor where its definition does not say why not. */
function completeLevels(): ReadonlySet<string> {
  const { forms } = JSON.parse(readFileSync(join(root, recordedFile), "utf8")) as { forms: Record<string, number> };
  const levels = measureCoverage(instructions, forms).filter(({ isOffered, missing, untested }) => isOffered && missing.length === 0 && untested.length === 0);
  return new Set(levels.map(({ name }) => name));
}

/** Which of the rows' evidence of these kinds is there. */
export function lookUp(rows: readonly InventoryRow[]): Shown {
  const shown = new Map<string, ReadonlySet<string>>();
  let levels: ReadonlySet<string> | undefined;
  for (const evidence of new Set(rows.flatMap((row) => row.evidence))) {
    const [kind, what] = evidence.split(/ (.*)/su);
    if (kind === "test" && isTest(what)) shown.set(evidence, new Set([what.split(": ")[0]]));
    if (kind === "forms") {
      levels ??= completeLevels();
      if (levels.has(what)) shown.set(evidence, new Set([recordedFile]));
    }
  }
  return shown;
}
