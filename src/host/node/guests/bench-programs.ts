/** Compiles the guest benchmarks of a checkout to static programs. */
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { UserError } from "../../../base/errors.ts";
import type { CpioEntry } from "../../../boot/cpio.ts";
import type { BuildTools } from "./build-tools.ts";
import { sha256Hex } from "./cache.ts";

const commonOptions = ["-O2", "-static", "-s", "-fno-math-errno", "-std=gnu11", "-m64"];
const x87Options = ["-mfpmath=387", "-fno-tree-vectorize"];
const floatingPointPrograms: ReadonlySet<string> = new Set(["matmul", "nbody"]);

/** Where a program goes in the guest. */
export const benchDirectory = "bench";

/** guests/bench of the checkout we run from; the published package does not carry it. */
function sourceDirectory(): string {
  const directory = fileURLToPath(new URL("../../../../guests/bench", import.meta.url));
  if (!existsSync(directory)) throw new UserError("GUEST_MISSING", "the benchmark programs are built from a checkout of the repository only");
  return directory;
}

/** Changes with the sources. */
export async function benchVersion(): Promise<string> {
  const directory = sourceDirectory();
  const files = (await readdir(directory)).toSorted();
  return sha256Hex(JSON.stringify(await Promise.all(files.map(async (file) => [file, sha256Hex(await readFile(join(directory, file)))]))));
}

/** The programs, and `run.sh` that runs them all. `scratch` takes the compiler's output. */
export async function buildBenchPrograms(tools: BuildTools, scratch: string): Promise<CpioEntry[]> {
  const directory = sourceDirectory();
  const gcc = await tools.find("gcc");
  const entries: CpioEntry[] = [{ kind: "directory", path: benchDirectory }];
  const compile = async (source: string, program: string, options: readonly string[]): Promise<void> => {
    const output = join(scratch, program);
    await gcc.run([...commonOptions, ...options, `-DNAME="${program}"`, "-o", output, join(directory, source), "-lm"]);
    entries.push({ kind: "file", path: `${benchDirectory}/${program}`, permissions: 0o755, bytes: await readFile(output) });
  };
  for (const source of (await readdir(directory)).filter((file) => file.endsWith(".c")).toSorted()) {
    const name = source.slice(0, -2);
    if (floatingPointPrograms.has(name)) {
      await compile(source, `${name}_x87`, x87Options);
      await compile(source, `${name}_sse2`, ["-mfpmath=sse"]);
    } else {
      await compile(source, name, []);
    }
  }
  entries.push({ kind: "file", path: `${benchDirectory}/run.sh`, permissions: 0o755, bytes: await readFile(join(directory, "run.sh")) });
  return entries;
}
