/**
 * Real kvm-amd for hosts that have none: QEMU's translator runs Debian's kernel with KVM's modules on a processor with
 * AMD-V, and in there this checkout runs its guests. Everything comes from Debian's packages and node_modules.
 * Usage: npm run test:kvm-nested [-- [probe] [conformance] [tiny] [crossings] [boot]] [-- --json] [-- --verbose]. The exit status is 1 when anything fails.
 */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { PackageSource } from "../../src/host/node/guests/apt.ts";
import { BuildTools } from "../../src/host/node/guests/build-tools.ts";
import { defaultCacheDirectory, withCacheLock } from "../../src/host/node/guests/cache.ts";
import { printProgress } from "../../src/host/node/guests/print-progress.ts";
import { Progress } from "../../src/host/node/guests/progress.ts";
import type { NestedOutcome } from "../../tests/kvm/nested/report.ts";
import { formatTable } from "../table.ts";
import { compileCheckout, prepareOuterGuest } from "./outer-guest.ts";
import { OutcomeReader, outcomeRows } from "./outcomes.ts";

const limitSeconds = 600;
const memoryMib = 2048;

interface Launch {
  readonly program: string;
  readonly args: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
}

/** Builds the initial RAM file system in `directory`, and says how to start QEMU with it. */
async function prepare(directory: string, parts: readonly string[]): Promise<Launch> {
  const onProgress = printProgress(process.stderr);
  const progress = new Progress(onProgress);
  const outer = await prepareOuterGuest("kvm_amd", parts, onProgress);
  const cacheDirectory = defaultCacheDirectory();
  const packages = new PackageSource(cacheDirectory, "release", progress);
  const qemu = await withCacheLock(cacheDirectory, () => progress.step("another process is working on the cache; waiting for it"), () =>
    new BuildTools(cacheDirectory, packages).find("qemu-system-x86_64"));
  const initramfs = join(directory, "initramfs.cpio");
  writeFileSync(initramfs, outer.initramfs);
  return {
    program: qemu.path, environment: qemu.environment,
    args: [
      "-accel", "tcg,thread=multi", "-machine", "q35", "-cpu", "EPYC,+svm", "-smp", String(Math.min(2, availableParallelism())), "-m", String(memoryMib),
      "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot",
      "-kernel", outer.kernel, "-initrd", initramfs, "-append", outer.commandLine,
    ],
  };
}

/** Runs QEMU to its end and collects what the inside tells. */
async function run({ program, args, environment }: Launch, isVerbose: boolean): Promise<readonly NestedOutcome[]> {
  const reader = new OutcomeReader(isVerbose);
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"], env: { ...process.env, ...environment } });
  const timer = setTimeout(() => {
    reader.fail("time", `not done after ${limitSeconds} s`, limitSeconds);
    child.kill("SIGKILL");
  }, limitSeconds * 1000);
  for await (const line of createInterface({ input: child.stdout, crlfDelay: Infinity })) reader.read(line);
  clearTimeout(timer);
  return reader.finish();
}

const { values, positionals } = parseArgs({ allowPositionals: true, options: { json: { type: "boolean", default: false }, verbose: { type: "boolean", default: false } } });
const startMs = performance.now();
if (!compileCheckout()) process.exit(1);
const directory = mkdtempSync(join(tmpdir(), "ringmaster-kvm-nested-"));
try {
  const outcomes = await run(await prepare(directory, positionals), values.verbose);
  const totalSeconds = Math.round((performance.now() - startMs) / 1000);
  if (values.json) console.log(JSON.stringify({ totalSeconds, outcomes }, null, 2));
  else console.log(`${formatTable(["kvm-amd in QEMU's translator", "passed", "failed", "skipped", "seconds", "seen"], outcomeRows(outcomes))}\n\n${totalSeconds} s in all`);
  process.exitCode = outcomes.some(({ state }) => state === "failed") ? 1 : 0;
} finally {
  rmSync(directory, { recursive: true, force: true });
}
