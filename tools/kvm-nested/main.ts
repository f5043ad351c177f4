/**
 * Real kvm-amd for hosts that have none: QEMU's translator runs Debian's kernel with KVM's modules on a processor with
 * AMD-V, and in there this checkout runs its guests. Everything comes from Debian's packages and node_modules.
 * Usage: npm run test:kvm-nested [-- [probe] [conformance] [crossings] [boot]] [-- --json] [-- --verbose]. The exit status is 1 when anything fails.
 */
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, openSync, readFileSync, rmSync, writeSync, closeSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { writeCpio, type CpioEntry } from "../../src/boot/cpio.ts";
import { PackageSource } from "../../src/host/node/guests/apt.ts";
import { BuildTools } from "../../src/host/node/guests/build-tools.ts";
import { defaultCacheDirectory, withCacheLock } from "../../src/host/node/guests/cache.ts";
import { commandExitPattern, commandInitramfs, ensureGuests } from "../../src/host/node/guests/index.ts";
import { printProgress } from "../../src/host/node/guests/print-progress.ts";
import { Progress } from "../../src/host/node/guests/progress.ts";
import { outcomeMark, type NestedOutcome } from "../../tests/kvm/nested/report.ts";
import { formatTable } from "../table.ts";
import { checkoutEntries, guestRoot } from "./archive.ts";

const limitSeconds = 600;
const memoryMib = 2048;
const root = join(import.meta.dirname, "../..");
const testFolders = ["tests/conformance/accelerator", "tests/kvm/nested", "tests/cli"];

/** What the outer guest's /init runs. */
function commandOf(parts: readonly string[]): string {
  return [
    "for module in $(cat /lib/modules/kvm_amd.order); do insmod /lib/modules/$module.ko || exit 1; done",
    `exec node /${guestRoot}/tests/kvm/nested/inside.js ${parts.join(" ")} 2>&1`,
  ].join("\n");
}

interface Launch {
  readonly program: string;
  readonly args: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
}

/** Builds the initial RAM file system in `directory`, and says how to start QEMU with it. */
async function prepare(directory: string, parts: readonly string[]): Promise<Launch> {
  const onProgress = printProgress(process.stderr);
  const progress = new Progress(onProgress);
  const { "nested-6.1": outer, "cloud-6.1": inner } = await ensureGuests(["nested-6.1", "cloud-6.1"], { onProgress });
  const cacheDirectory = defaultCacheDirectory();
  const packages = new PackageSource(cacheDirectory, "release", progress);
  const inCache = async <Result>(action: () => Promise<Result>): Promise<Result> =>
    withCacheLock(cacheDirectory, () => progress.step("another process is working on the cache; waiting for it"), action);
  const qemu = await inCache(() => new BuildTools(cacheDirectory, packages).find("qemu-system-x86_64"));
  const guestFiles: CpioEntry[] = [
    { kind: "file", path: "guest/vmlinuz", bytes: readFileSync(inner.kernel) },
    { kind: "file", path: "guest/initramfs.cpio", bytes: readFileSync(inner.initramfs) },
  ];
  const entries = await inCache(() => checkoutEntries(packages, testFolders, guestFiles));
  progress.done("the outer guest is ready");
  const initramfs = join(directory, "initramfs.cpio");
  const file = openSync(initramfs, "w");
  for (const part of [readFileSync(outer.initramfs), writeCpio(entries), commandInitramfs(commandOf(parts))]) writeSync(file, part);
  closeSync(file);
  return {
    program: qemu.path, environment: qemu.environment,
    args: [
      "-accel", "tcg,thread=multi", "-machine", "q35", "-cpu", "EPYC,+svm", "-smp", String(Math.min(2, availableParallelism())), "-m", String(memoryMib),
      "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot",
      "-kernel", outer.kernel, "-initrd", initramfs, "-append", "console=ttyS0 quiet panic=-1",
    ],
  };
}

/** Runs QEMU to its end and collects what the inside tells. */
async function run({ program, args, environment }: Launch, isVerbose: boolean): Promise<NestedOutcome[]> {
  const outcomes: NestedOutcome[] = [];
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"], env: { ...process.env, ...environment } });
  const timer = setTimeout(() => {
    outcomes.push({ name: "time", state: "failed", detail: `not done after ${limitSeconds} s`, seconds: limitSeconds });
    child.kill("SIGKILL");
  }, limitSeconds * 1000);
  let status: string | undefined;
  let tail: string[] = [];
  for await (const line of createInterface({ input: child.stdout, crlfDelay: Infinity })) {
    status ??= commandExitPattern.exec(line)?.groups?.["status"];
    const at = line.indexOf(outcomeMark);
    if (at >= 0) {
      const outcome = JSON.parse(line.slice(at + outcomeMark.length)) as NestedOutcome;
      outcomes.push(outcome);
      if (outcome.state === "failed" || isVerbose) process.stderr.write(`${outcome.state} ${outcome.name} (${outcome.seconds} s) ${outcome.detail}\n`);
    } else {
      tail = [...tail, line].slice(-20);
      if (isVerbose) process.stderr.write(`| ${line}\n`);
    }
  }
  clearTimeout(timer);
  if (status !== "0") outcomes.push({ name: "the program inside", state: "failed", detail: `ended with ${status ?? "no"} status: ${tail.join(" / ")}`, seconds: 0 });
  return outcomes;
}

/** The conformance cases as one line a group, everything else by itself. */
function rows(outcomes: readonly NestedOutcome[]): string[][] {
  const groups = Map.groupBy(outcomes, ({ name }) => (/^[a-z ]+(?=: )/u.exec(name) ?? [name])[0]);
  return [...groups].map(([name, members]) => {
    const count = (state: NestedOutcome["state"]): number => members.filter((outcome) => outcome.state === state).length;
    const seconds = members.reduce((sum, outcome) => sum + outcome.seconds, 0);
    const details = members.filter(({ state, detail }) => state === "failed" || members.length === 1 || (state === "skipped" && detail !== ""));
    const notes = [...new Set(details.map((outcome) => (members.length === 1 ? outcome.detail : `${outcome.name.slice(name.length + 2)}: ${outcome.detail}`)))];
    return [name, String(count("passed")), String(count("failed")), String(count("skipped")), seconds.toFixed(1), notes.join("; ")];
  });
}

const { values, positionals } = parseArgs({ allowPositionals: true, options: { json: { type: "boolean", default: false }, verbose: { type: "boolean", default: false } } });
const startMs = performance.now();
const compiler = spawnSync(join(root, "node_modules/.bin/tsc"), ["-b"], { cwd: root, stdio: "inherit" });
if (compiler.status !== 0) process.exit(1);
const directory = mkdtempSync(join(tmpdir(), "ringmaster-kvm-nested-"));
try {
  const outcomes = await run(await prepare(directory, positionals), values.verbose);
  const totalSeconds = Math.round((performance.now() - startMs) / 1000);
  if (values.json) console.log(JSON.stringify({ totalSeconds, outcomes }, null, 2));
  else console.log(`${formatTable(["kvm-amd in QEMU's translator", "passed", "failed", "skipped", "seconds", "seen"], rows(outcomes))}\n\n${totalSeconds} s in all`);
  process.exitCode = outcomes.some(({ state }) => state === "failed") ? 1 : 0;
} finally {
  rmSync(directory, { recursive: true, force: true });
}
