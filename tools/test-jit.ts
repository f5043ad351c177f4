/**
 * `npm run test:jit`: everything once more with all guest code compiled before it runs — the test suite with tiny and with
 * huge regions, of which some are thrown away at random, the differential test, and the guests — with a count of what
 * compiled code executed. One table at the end; exit status 1 when anything differs.
 * Usage: npm run test:jit [-- --short] [--only suite,differential,guests,deterministic] [--cases N] [--guests NAME,…]
 */
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { DifferentialReport } from "../tests/differential/run.ts";
import type { TestCount } from "../tests/jit/count-per-test.ts";
import { formatTable } from "./table.ts";

const root = join(import.meta.dirname, "..");
const node = process.execPath;
const { values } = parseArgs({
  options: {
    /** What a run of `npm test` has time for. */
    short: { type: "boolean", default: false },
    only: { type: "string" },
    cases: { type: "string" },
    guests: { type: "string" },
  },
});

interface Row {
  readonly what: string;
  readonly cases: number;
  /** Cases in which compiled code executed what was tested. */
  readonly compiled: number;
  /** What compiled code had no part in, by name. */
  readonly others: readonly string[];
  readonly mismatches: number;
}

interface Finished {
  readonly status: number;
  readonly output: string;
}

/** Runs a program to its end; standard output comes back, the rest is ours. */
function run(program: string, words: readonly string[], environment: Readonly<Record<string, string>> = {}): Promise<Finished> {
  const local = join(root, "node_modules", ".bin");
  const child = spawn(program, words, {
    cwd: root, stdio: ["ignore", "pipe", "inherit"], env: { ...process.env, PATH: `${local}:${process.env["PATH"] ?? ""}`, ...environment },
  });
  const output: Buffer[] = [];
  child.stdout.on("data", (bytes: Buffer) => output.push(bytes));
  return new Promise((resolve) => {
    child.on("error", (error) => resolve({ status: 1, output: error.message }));
    child.on("close", (status) => resolve({ status: status ?? 1, output: Buffer.concat(output).toString() }));
  });
}

/** What a program reported in JSON; undefined, and said so, when it ended without. */
function reportOf<Report>(what: string, text: string): Report | undefined {
  try {
    return JSON.parse(text) as Report;
  } catch {
    console.log(`FAILED: ${what} ended without a report${text.trim() === "" ? "" : `: ${text.trim()}`}`);
    return undefined;
  }
}

function lost(what: string): Row {
  return { what, cases: 0, compiled: 0, others: [], mismatches: 1 };
}

interface VitestReport {
  readonly numFailedTests: number;
  readonly testResults: readonly {
    readonly name: string; readonly status: string; readonly message: string;
    readonly assertionResults: readonly { readonly fullName: string; readonly status: string; readonly failureMessages?: readonly string[] }[];
  }[];
}

/** Failed tests, and files that could not be loaded. */
function failuresOf({ testResults }: VitestReport): string[] {
  return testResults.flatMap(({ name, status, message, assertionResults }) => {
    const failed = assertionResults.filter((result) => result.status === "failed");
    if (status === "failed" && failed.length === 0) return [`${name}: ${message}`];
    return failed.map(({ fullName, failureMessages }) => `${name}: ${fullName}: ${failureMessages?.[0] ?? ""}`);
  });
}

/** The tests with the JIT's settings of this name; those that execute no guest code are not counted. */
async function runSuite(jit: string, paths: readonly string[]): Promise<Row> {
  const directory = mkdtempSync(join(tmpdir(), "ringmaster-jit-"));
  try {
    const report = join(directory, "report.json"), counts = mkdtempSync(join(directory, "counts-"));
    const { status, output } = await run(
      "vitest", ["run", "--testTimeout=600000", "--reporter=json", `--outputFile=${report}`, ...paths], { RINGMASTER_JIT: jit, RINGMASTER_JIT_REPORT: counts },
    );
    const failures = failuresOf(JSON.parse(readFileSync(report, "utf8")) as VitestReport);
    for (const failure of failures) console.log(`FAILED with ${jit} regions: ${failure}`);
    if (status !== 0 && failures.length === 0) console.log(output);
    const tests = readdirSync(counts).flatMap((file) => JSON.parse(readFileSync(join(counts, file), "utf8")) as TestCount[]).filter(({ executed, entries }) => executed > 0 || entries > 0);
    return {
      what: `tests, ${jit} regions`, cases: tests.length, compiled: tests.filter(({ compiled }) => compiled > 0).length,
      others: tests.filter(({ compiled }) => compiled === 0).map(({ test }) => test), mismatches: status === 0 ? 0 : Math.max(failures.length, 1),
    };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function runDifferential(cases: number): Promise<Row | undefined> {
  const { status, output } = await run(node, ["tools/differential.ts", "--tiers", "compiled", "--cases", String(cases), "--json"]);
  const report = reportOf<DifferentialReport | { readonly skipped: string }>("differential", output);
  if (report === undefined) return lost("differential");
  if ("skipped" in report) {
    console.log(`skipped: differential: ${report.skipped}`);
    return undefined;
  }
  for (const { form, bytes, replay } of report.mismatches) console.log(`MISMATCH ${form} ${bytes}\n  ${replay} --tiers compiled`);
  const [{ ways, notCompiled }] = report.tiers;
  const byName = Map.groupBy(Object.entries(notCompiled), ([form]) => form.split(" ")[1]);
  const others = [...byName].map(([name, forms]) => ({ name, count: forms.reduce((sum, [, number]) => sum + number, 0) })).toSorted((a, b) => b.count - a.count);
  return {
    what: "differential", cases: report.cases, compiled: (ways.executed ?? 0) + (ways.faulted ?? 0),
    others: [
      `${ways["handed back"] ?? 0} are rare paths, which the interpreter takes`, `${ways.absent ?? 0} lie in two pages or cannot be fetched`,
      ...others.map(({ name, count }) => `${name} ${count}`),
    ],
    mismatches: Math.max(report.mismatchCount, status === 0 ? 0 : 1),
  };
}

interface GuestReport {
  readonly guests: readonly { readonly name: string; readonly passed: boolean; readonly reason: string; readonly instructions: number; readonly compiled: number }[];
}

/** Cases are millions of instructions. */
async function runGuests(jit: string, names: string | undefined): Promise<Row> {
  const { output } = await run(node, ["tools/test-guests.ts", "--json", "--jit", jit, ...names === undefined ? [] : ["--only", names]]);
  const what = `guests, ${jit} regions (millions of instructions)`, report = reportOf<GuestReport>(what, output);
  if (report === undefined) return lost(what);
  const { guests } = report;
  for (const { name, reason } of guests.filter(({ passed }) => !passed)) console.log(`FAILED with ${jit} regions: ${name}: ${reason}`);
  const millions = (counts: readonly number[]): number => Math.round(counts.reduce((sum, count) => sum + count, 0) / 1e6);
  return {
    what, cases: millions(guests.map(({ instructions }) => instructions)), compiled: millions(guests.map(({ compiled }) => compiled)),
    others: guests.map(({ name, passed, instructions, compiled }) => `${name} ${passed ? `${((100 * compiled) / instructions).toFixed(2)} %` : "failed"}`),
    mismatches: guests.filter(({ passed }) => !passed).length,
  };
}

/** The same boot interpreted and compiled: state at every ten million instructions, and memory at the end. */
async function runDeterministic(): Promise<Row> {
  const names = ["off", "forced"];
  const { status, output } = await run(node, ["tools/test-deterministic.ts", "--jit", names.join(",")]);
  console.log(output);
  return { what: "deterministic boots", cases: names.length, compiled: names.length - 1, others: ["the interpreter's own"], mismatches: status === 0 ? 0 : 1 };
}

/** Test files in which guests run. */
const shortPaths = ["src/engine/code-cache.test.ts", "src/engine/interpreter.test.ts", "src/engine/processor.test.ts", "src/engine/string-runs.test.ts", "src/engine/mmu.test.ts", "tests/guests"];
const steps: Readonly<Record<string, () => Promise<readonly (Row | undefined)[]>>> = {
  suite: async () => values.short ? [await runSuite("huge", shortPaths)] : [await runSuite("tiny", []), await runSuite("huge", [])],
  differential: async () => [await runDifferential(Number(values.cases ?? (values.short ? 20_000 : 300_000)))],
  guests: async () => [await runGuests("forced", values.guests)],
  deterministic: async () => [await runDeterministic()],
};
const wanted = values.only?.split(",") ?? (values.short ? ["suite", "differential"] : Object.keys(steps));
const unknown = wanted.filter((name) => !(name in steps));
if (unknown.length > 0) {
  console.error(`test:jit: there is no step ${unknown.join(", ")}; there are ${Object.keys(steps).join(", ")}`);
  process.exit(2);
}

const namesShown = 12;
const rows: Row[] = [];
for (const name of wanted) {
  console.error(`test:jit: ${name} …`);
  const more = (await steps[name]()).filter((row) => row !== undefined);
  // The table comes when all is done, which takes long.
  for (const { what, cases, compiled, mismatches } of more) console.error(`test:jit: ${what}: ${compiled} of ${cases} compiled, ${mismatches} mismatches`);
  rows.push(...more);
}
for (const { what, others } of rows.filter((row) => row.others.length > 0)) {
  const more = others.length > namesShown ? ` and ${others.length - namesShown} more` : "";
  console.log(`${what}, without compiled code: ${others.slice(0, values.short ? namesShown : Infinity).join("; ")}${values.short ? more : ""}`);
}
console.log(formatTable(["what", "cases", "compiled", "mismatches"], rows.map(({ what, cases, compiled, mismatches }) => [what, String(cases), String(compiled), String(mismatches)])));
const failed = rows.filter(({ mismatches, compiled }) => mismatches > 0 || compiled === 0).length;
console.log(`${rows.length - failed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
