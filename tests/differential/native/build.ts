/** Builds the native runner with the host's C compiler into the cache, and brings the compiler if it may. */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

/** Why there is nothing to run. */
export interface Skipped {
  readonly skipped: string;
}

const directory = import.meta.dirname;
const flags = [
  "-O2", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-mgeneral-regs-only", "-fno-pic", "-no-pie",
  "-fno-asynchronous-unwind-tables", "-fcf-protection=none",
];

/** Path of the runner for 64-bit or 32-bit code. */
export function buildRunner(bits: 32 | 64): string | Skipped {
  if (process.platform !== "linux" || process.arch !== "x64") {
    return { skipped: `the native side needs Linux on x86-64, this is ${process.platform} on ${process.arch}` };
  }
  const sources = ["runner.c", `stubs-${bits}.S`].map((name) => join(directory, name));
  const hash = createHash("sha256").update(flags.join(" "));
  for (const source of sources) hash.update(readFileSync(source));
  const cache = join(process.env["RINGMASTER_CACHE"] ?? join(homedir(), ".cache", "ringmaster"), "differential");
  const target = join(cache, `runner-${bits}-${hash.digest("hex").slice(0, 16)}`);
  if (existsSync(target)) return target;

  const missing = ensureCompiler();
  if (missing) return missing;
  mkdirSync(cache, { recursive: true });
  const unfinished = `${target}.${process.pid}`;
  const build = spawnSync("gcc", [`-m${bits}`, ...flags, "-o", unfinished, ...sources], { encoding: "utf8" });
  if (build.status !== 0) return { skipped: `gcc cannot build the ${bits}-bit runner: ${build.stderr.trim()}` };
  renameSync(unfinished, target);
  return target;
}

function ensureCompiler(): Skipped | undefined {
  if (succeeds("gcc", ["--version"])) return undefined;
  if (process.getuid?.() !== 0 || !succeeds("apt-get", ["--version"])) {
    return { skipped: "gcc is not installed; install it, for instance with apt-get install gcc" };
  }
  process.stderr.write("differential: installing gcc with apt-get …\n");
  const environment = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  for (const step of [["update"], ["install", "-y", "--no-install-recommends", "gcc"]]) {
    const run = spawnSync("apt-get", step, { encoding: "utf8", env: environment });
    if (run.status !== 0) return { skipped: `apt-get ${step[0]} failed: ${run.stderr.trim().split("\n").at(-1)}` };
  }
  return undefined;
}

function succeeds(command: string, commandArguments: readonly string[]): boolean {
  return spawnSync(command, commandArguments, { stdio: "ignore" }).status === 0;
}
