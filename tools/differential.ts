/**
 * `npm run test:differential`: single instructions on the host's processor against ours. Exit status 1 on a mismatch.
 * `--cases N --seed S --bits 64,32,16 --form <key or expression> --case N --tiers interpreter,oracle,compiled --json --record`
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Decoder, DecoderOptions, Formatter, FormatterSyntax } from "iced-x86";
import { instructions } from "../src/isa/instructions.ts";
import { makeProcessors, tierNames, type TierName } from "../tests/differential/processors.ts";
import type { CodeBits, Way } from "../tests/differential/layout.ts";
import { runDifferential } from "../tests/differential/run.ts";
import { formatTable } from "./table.ts";
import type { DifferentialReport, Mismatch } from "../tests/differential/run.ts";

const coverageFile = join(import.meta.dirname, "..", "tests", "differential", "coverage.json");
const differencesShown = 12;

const { values } = parseArgs({
  options: {
    cases: { type: "string", default: "1000000" },
    seed: { type: "string", default: "1" },
    bits: { type: "string", default: "64,32,16" },
    form: { type: "string" },
    case: { type: "string" },
    /** Ours that take part; `compiled` counts in how many cases compiled code did it. */
    tiers: { type: "string", default: "interpreter,oracle" },
    json: { type: "boolean", default: false },
    /** Write the number of cases per form to `tests/differential/coverage.json`. */
    record: { type: "boolean", default: false },
  },
});

function wholeNumber(name: string, text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 0) return value;
  process.stderr.write(`differential: --${name} wants a whole number, not "${text}"\n`);
  process.exit(2);
}

function codeSizes(text: string): CodeBits[] {
  const sizes = text.split(",").map(Number);
  if (sizes.every((size): size is CodeBits => size === 16 || size === 32 || size === 64)) return sizes;
  process.stderr.write(`differential: --bits wants some of 16, 32 and 64, not "${text}"\n`);
  process.exit(2);
}

function tiersOf(text: string): TierName[] {
  const names = text.split(",");
  if (names.every((name): name is TierName => (tierNames as readonly string[]).includes(name))) return names;
  process.stderr.write(`differential: --tiers wants some of ${tierNames.join(", ")}, not "${text}"\n`);
  process.exit(2);
}

/** A form's key as printed in a replay command, or an expression to find in keys. */
function formFilter(text: string | undefined): RegExp | string | undefined {
  if (text === undefined || /^(16|32|64) .* @(16|32|64)( register| memory)?$/.test(text)) return text;
  try {
    return new RegExp(text);
  } catch {
    process.stderr.write(`differential: --form wants a form's name or a regular expression, not "${text}"\n`);
    process.exit(2);
  }
}

function disassemble({ bytes, codeBits }: Mismatch): string {
  const decoder = new Decoder(codeBits, Buffer.from(bytes, "hex"), DecoderOptions.None);
  const formatter = new Formatter(FormatterSyntax.Intel);
  const decoded = decoder.decode();
  const text = formatter.format(decoded);
  for (const item of [decoded, formatter, decoder]) item.free();
  return text;
}

function printReport(report: DifferentialReport): void {
  const { families, notRun, excused, mismatches, cases, mismatchCount } = report;
  for (const mismatch of mismatches) {
    console.log(`MISMATCH ${mismatch.processor}: ${mismatch.form}  ${mismatch.bytes}  ${disassemble(mismatch)}`);
    for (const { field, host, ours } of mismatch.differences.slice(0, differencesShown)) {
      console.log(`  ${field.padEnd(12)} host ${host}  ours ${ours}`);
    }
    if (values.case !== undefined) {
      const given = Object.entries(mismatch.given).map(([field, value]) => `${field}=${value}`);
      console.log(`  before: ${given.join(" ")}`);
    }
    console.log(`  ${mismatch.replay}`);
  }
  console.log(`${"family".padEnd(14)}${"forms".padStart(7)}${"cases".padStart(10)}${"mismatches".padStart(12)}`);
  for (const { name, forms, cases: count, mismatches: wrong } of families) {
    console.log(`${name.padEnd(14)}${String(forms).padStart(7)}${String(count).padStart(10)}${String(wrong).padStart(12)}`);
  }
  const reasons = Map.groupBy(notRun, ({ reason }) => reason);
  for (const [reason, forms] of reasons) {
    const names = new Set(forms.map(({ form }) => form.split(" ")[1]));
    console.log(`not run, ${reason}: ${[...names].join(" ")}`);
  }
  for (const [rule, count] of Object.entries(excused)) console.log(`excused, ${rule}: ${count} cases`);
  printTiers(report);
  console.log(`${report.host} against ${Object.entries(report.executed).map(([name, count]) => `${name} (${count} instructions)`).join(" and ")}, seed ${report.seed}: ${cases} cases, ${mismatchCount} mismatches`);
}

/** What compiled code did not execute is named, by instruction, most cases first. */
function printTiers({ tiers: counts }: DifferentialReport): void {
  for (const { name, ways, notCompiled } of counts.filter((tier) => Object.keys(tier.notCompiled).length > 0)) {
    const byName = new Map<string, number>();
    for (const [form, cases] of Object.entries(notCompiled)) {
      const instruction = form.split(" ")[1];
      byName.set(instruction, (byName.get(instruction) ?? 0) + cases);
    }
    const listed = [...byName].toSorted(([, a], [, b]) => b - a).map(([instruction, cases]) => `${instruction} ${cases}`);
    console.log(`${name}: ${ways["handed back"] ?? 0} cases left to the interpreter as rare, ${ways.absent ?? 0} without compiled code (code in two pages, or none): ${listed.join(", ")}`);
  }
  console.log(formatTable(["tier", "cases", "compiled", "compiled, faults", "handed back", "not compiled", "mismatches"], counts.map(
    ({ name, cases, mismatches, ways }) => [name, String(cases), ...["executed", "faulted", "handed back", "absent"].map((way) => String(ways[way as Way] ?? (name === "compiled" ? 0 : "-"))), String(mismatches)],
  )));
}

/** Forms with more cases than before replace what the file says; forms that no longer exist leave it. */
function record({ host, seed, forms, notRun }: DifferentialReport): void {
  const known = new Set([...Object.keys(forms), ...notRun.map(({ form }) => form)]);
  const before = readRecorded();
  const kept = Object.entries(before).filter(([key]) => known.has(key) && !(key in forms));
  const merged = Object.fromEntries([...kept, ...Object.entries(forms)].toSorted(([left], [right]) => (left < right ? -1 : 1)));
  const reasons = Object.fromEntries(notRun.map(({ form, reason }) => [form, reason]));
  writeFileSync(coverageFile, `${JSON.stringify({ host, seed, forms: merged, notRun: reasons }, undefined, 1)}\n`);
}

function readRecorded(): Record<string, number> {
  try {
    return (JSON.parse(readFileSync(coverageFile, "utf8")) as { forms: Record<string, number> }).forms;
  } catch {
    return {};
  }
}

const tiers = tiersOf(values.tiers);
const onlyCase = values.case === undefined ? undefined : wholeNumber("case", values.case);
let lastProgress = 0;
const result = await runDifferential({
  seed: wholeNumber("seed", values.seed),
  cases: wholeNumber("cases", values.cases),
  onlyCase,
  codeSizes: codeSizes(values.bits),
  filter: formFilter(values.form),
  definitions: instructions,
  processors: (bits, host) => makeProcessors(bits, host, tiers),
  progress(done, total, mismatches) {
    const now = Date.now();
    if (now - lastProgress < 1000) return;
    lastProgress = now;
    process.stderr.write(`differential: ${done} of ${total} cases, ${mismatches} mismatches\n`);
  },
});

if ("skipped" in result) {
  if (values.json) console.log(JSON.stringify(result));
  else console.log(`skipped: ${result.skipped}`);
} else {
  if (values.json) console.log(JSON.stringify(result));
  else printReport(result);
  if (values.record) record(result);
  process.exitCode = result.mismatchCount > 0 ? 1 : 0;
}
