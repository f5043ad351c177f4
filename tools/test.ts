/**
 * `npm test`: types, lint, unit and integration tests, a short differential run, a short run with everything
 * compiled, and one operating system from boot to poweroff. The last line is "N passed, N failed"; the exit status is 1 when something failed.
 * Usage: npm test [-- --only types,lint,unused,tests,differential,jit,virtualization,boot].
 */
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { formatTable } from "./table.ts";

const root = join(import.meta.dirname, "..");
const differentialCases = 60_000;

interface Outcome {
  readonly passed: number;
  readonly failed: number;
}

interface Step {
  readonly name: string;
  readonly title: string;
  run(): Promise<Outcome>;
}

/** Runs a program of ours or of a dependency to its end; its output is ours. */
function run(program: string, words: readonly string[]): Promise<number> {
  const local = join(root, "node_modules", ".bin");
  const child = spawn(program, words, { cwd: root, stdio: "inherit", env: { ...process.env, PATH: `${local}:${process.env["PATH"] ?? ""}` } });
  return new Promise((resolve) => {
    child.on("error", (error) => {
      console.error(`${program}: ${error.message}`);
      resolve(1);
    });
    child.on("close", (status) => resolve(status ?? 1));
  });
}

/** A step that passes or fails as a whole. */
async function single(program: string, ...words: string[]): Promise<Outcome> {
  const isGood = await run(program, words) === 0;
  return { passed: isGood ? 1 : 0, failed: isGood ? 0 : 1 };
}

interface VitestReport {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly testResults: readonly { readonly status: string; readonly assertionResults: readonly unknown[] }[];
}

async function vitest(): Promise<Outcome> {
  const directory = mkdtempSync(join(tmpdir(), "ringmaster-test-"));
  const report = join(directory, "report.json");
  try {
    const status = await run("vitest", ["run", "--reporter=dot", "--reporter=json", `--outputFile.json=${report}`]);
    const { numPassedTests, numFailedTests, testResults } = JSON.parse(readFileSync(report, "utf8")) as VitestReport;
    // A file that cannot be loaded has no tests that could fail.
    const brokenFiles = testResults.filter(({ status: result, assertionResults }) => result === "failed" && assertionResults.length === 0).length;
    const failed = numFailedTests + brokenFiles;
    return { passed: numPassedTests, failed: status !== 0 && failed === 0 ? 1 : failed };
  } catch (error) {
    console.error(`the report of the tests cannot be read: ${error instanceof Error ? error.message : String(error)}`);
    return { passed: 0, failed: 1 };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

const node = process.execPath;
const steps: readonly Step[] = [
  { name: "types", title: "types and the direction of imports", run: () => single("tsc", "-b") },
  { name: "lint", title: "lint", run: () => single("oxlint", "--type-aware") },
  { name: "unused", title: "unused files and dependencies", run: () => single("knip", "--no-progress", "--include", "files,dependencies,unlisted,unresolved,binaries") },
  { name: "tests", title: "unit and integration tests", run: vitest },
  { name: "differential", title: "instructions against the host's processor", run: () => single(node, "tools/differential.ts", "--cases", String(differentialCases)) },
  { name: "jit", title: "the engine's tests, test guests and instructions with everything compiled", run: () => single(node, "tools/test-jit.ts", "--short") },
  { name: "virtualization", title: "what is offered of virtualization, and what tests it", run: () => single(node, "tools/virt-coverage/main.ts", "--summary") },
  { name: "boot", title: "Debian's cloud kernel to a shell and back", run: () => single(node, "tools/test-guests.ts", "--only", "cloud-6.1") },
];

const { values } = parseArgs({ options: { only: { type: "string" } } });
const wanted = values.only?.split(",");
const unknown = wanted?.filter((name) => steps.every((step) => step.name !== name)) ?? [];
if (unknown.length > 0) {
  console.error(`test: there is no step ${unknown.join(", ")}; there are ${steps.map(({ name }) => name).join(", ")}`);
  process.exit(2);
}

const rows: string[][] = [];
let passed = 0, failed = 0;
for (const step of steps.filter(({ name }) => wanted?.includes(name) ?? true)) {
  console.log(`\n── ${step.title}`);
  const startMs = performance.now();
  const outcome = await step.run();
  passed += outcome.passed;
  failed += outcome.failed;
  rows.push([step.name, String(outcome.passed), String(outcome.failed), ((performance.now() - startMs) / 1000).toFixed(1)]);
}
console.log(`\n${formatTable(["step", "passed", "failed", "seconds"], rows)}\n`);
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;
