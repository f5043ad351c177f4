/** Compiles the guest benchmarks of a checkout to static programs. */
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { UserError } from "../../../base/errors.ts";
import type { CpioEntry } from "../../../boot/cpio.ts";
import type { BuildTools } from "./build-tools.ts";
import { packageRoot } from "../package-root.ts";
import { sha256Hex } from "./cache.ts";

/** Bits of an address. */
export type BenchWidth = 32 | 64;

const commonOptions = ["-O2", "-static", "-s", "-fno-math-errno", "-std=gnu11"];
/** As guests/bench/Makefile has them: 32-bit programs are for a 686 with x87, but for those that measure SSE2. */
const optionsOf: Readonly<Record<BenchWidth, Readonly<Record<"integer" | "x87" | "sse2", readonly string[]>>>> = {
  32: {
    integer: ["-m32", "-march=i686"],
    x87: ["-m32", "-march=i686", "-mfpmath=387", "-fno-tree-vectorize"],
    sse2: ["-m32", "-march=pentium4", "-msse2", "-mfpmath=sse"],
  },
  64: { integer: ["-m64"], x87: ["-m64", "-mfpmath=387", "-fno-tree-vectorize"], sse2: ["-m64", "-mfpmath=sse"] },
};
const floatingPointPrograms: ReadonlySet<string> = new Set(["matmul", "nbody"]);

/** Where a program goes in the guest. */
export const benchDirectory = "bench";

/** guests/bench of the checkout we run from; the published package does not carry it. */
function sourceDirectory(): string {
  const directory = join(packageRoot(), "guests", "bench");
  if (!existsSync(directory)) throw new UserError("GUEST_MISSING", "the benchmark programs are built from a checkout of the repository only");
  return directory;
}

/** Changes with the sources. */
export async function benchVersion(width: BenchWidth): Promise<string> {
  const directory = sourceDirectory();
  const files = (await readdir(directory)).toSorted();
  const hashes = await Promise.all(files.map(async (file) => [file, sha256Hex(await readFile(join(directory, file)))]));
  return sha256Hex(JSON.stringify([commonOptions, optionsOf[width], hashes]));
}

/** The programs, and `run.sh` that runs them all. `scratch` takes the compiler's output. */
export async function buildBenchPrograms(tools: BuildTools, scratch: string, width: BenchWidth): Promise<CpioEntry[]> {
  const directory = sourceDirectory();
  const gcc = await tools.find(width === 32 ? "gcc-multilib" : "gcc");
  const options = optionsOf[width];
  const entries: CpioEntry[] = [{ kind: "directory", path: benchDirectory }];
  const compile = async (source: string, program: string, kind: keyof typeof options): Promise<void> => {
    const output = join(scratch, program);
    await gcc.run([...commonOptions, ...options[kind], `-DNAME="${program}"`, "-o", output, join(directory, source), "-lm"]);
    entries.push({ kind: "file", path: `${benchDirectory}/${program}`, permissions: 0o755, bytes: await readFile(output) });
  };
  for (const source of (await readdir(directory)).filter((file) => file.endsWith(".c")).toSorted()) {
    const name = source.slice(0, -2);
    if (floatingPointPrograms.has(name)) {
      await compile(source, `${name}_x87`, "x87");
      await compile(source, `${name}_sse2`, "sse2");
    } else {
      await compile(source, name, "integer");
    }
  }
  entries.push({ kind: "file", path: `${benchDirectory}/run.sh`, permissions: 0o755, bytes: await readFile(join(directory, "run.sh")) });
  return entries;
}
