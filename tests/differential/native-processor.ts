/** The host's own processor: runs batches of cases in the native runner, a separate process. */
import { spawn } from "node:child_process";
import type { ChildProcessByStdio } from "node:child_process";
import { closeSync, existsSync, ftruncateSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { recordBytes } from "./layout.ts";
import type { CaseBatch, CodeBits, ResultBatch } from "./layout.ts";
import { buildRunner } from "./native/build.ts";
import type { Skipped } from "./native/build.ts";

const greetingBytes = 96;
const greetingMagic = 0x4d52_544e;

/** CPUID of the host, as far as the test asks for it. */
export interface HostFeatures {
  /** "GenuineIntel", "AuthenticAMD", … */
  readonly vendor: string;
  readonly names: ReadonlySet<string>;
}

/** Feature names as in instruction definitions, and the bit that reports them: word of `greeting`, bit. */
const featureBits: Readonly<Record<string, readonly [word: number, bit: number]>> = {
  fpu: [11, 0], tsc: [11, 4], msr: [11, 5], sep: [11, 11], cx8: [11, 8], cmov: [11, 15], clflush: [11, 19], mmx: [11, 23], fxsr: [11, 24], sse: [11, 25],
  sse2: [11, 26],
  sse3: [10, 0], monitor: [10, 3], vmx: [10, 5], pclmulqdq: [10, 1], ssse3: [10, 9], fma: [10, 12], cx16: [10, 13], sse4_1: [10, 19],
  sse4_2: [10, 20], movbe: [10, 22], popcnt: [10, 23], aes: [10, 25], xsave: [10, 26], avx: [10, 28],
  f16c: [10, 29], rdrand: [10, 30],
  fsgsbase: [13, 0], bmi1: [13, 3], avx2: [13, 5], bmi2: [13, 8], invpcid: [13, 10], rdseed: [13, 18], adx: [13, 19],
  smap: [13, 20], clflushopt: [13, 23], clwb: [13, 24], sha: [13, 29], pku: [14, 3], rdpid: [14, 22],
  serialize: [15, 14],
  xsaveopt: [16, 0], xsavec: [16, 1], xsaves: [16, 3],
  lahf: [22, 0], svm: [22, 2], altmovcr8: [22, 4], lzcnt: [22, 5], sse4a: [22, 6], prefetchw: [22, 8], syscall: [23, 11], rdtscp: [23, 27], lm: [23, 29],
};

/** All features that the host is asked for. */
export const featureNames: ReadonlySet<string> = new Set(Object.keys(featureBits));

export class NativeProcessor {
  readonly name = "host";
  readonly bits: CodeBits;
  readonly features: HostFeatures;
  private readonly child: ChildProcessByStdio<Writable, Readable, null>;
  private readonly casesFile: number;
  private readonly resultsFile: number;
  private readonly capacity: number;

  private constructor(
    bits: CodeBits, capacity: number, child: ChildProcessByStdio<Writable, Readable, null>,
    files: readonly [number, number], greeting: DataView,
  ) {
    this.bits = bits;
    this.capacity = capacity;
    this.child = child;
    [this.casesFile, this.resultsFile] = files;
    this.features = readFeatures(greeting);
  }

  /** Builds the runner if need be and starts it. `capacity` is the largest batch. */
  static async build(bits: CodeBits, capacity: number = 2048): Promise<NativeProcessor | Skipped> {
    const runner = buildRunner(bits === 64 ? 64 : 32);
    if (typeof runner !== "string") return runner;
    const directory = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "ringmaster-"));
    const paths = [join(directory, "cases"), join(directory, "results")];
    const files = paths.map((path) => openSync(path, "w+")) as [number, number];
    for (const file of files) ftruncateSync(file, capacity * recordBytes);
    const child = spawn(runner, [...paths, String(capacity)], { stdio: ["pipe", "pipe", "inherit"] });
    const greeting = await readExactly(child, greetingBytes);
    const view = new DataView(greeting.buffer, greeting.byteOffset, greeting.byteLength);
    // Both sides have the files open: without names, nothing stays behind however the test ends.
    rmSync(directory, { recursive: true, force: true });
    if (view.byteLength < greetingBytes || view.getUint32(0, true) !== greetingMagic) {
      for (const file of files) closeSync(file);
      return { skipped: `the ${bits}-bit runner does not start here (exit status ${child.exitCode})` };
    }
    return new NativeProcessor(bits, capacity, child, files, view);
  }

  /** Runs all cases of the batch; results are in the same order. One batch at a time. */
  async run(cases: CaseBatch, results: ResultBatch): Promise<void> {
    const { count } = cases;
    if (count > this.capacity) throw new RangeError(`a batch holds at most ${this.capacity} cases`);
    writeSync(this.casesFile, cases.bytes, 0, count * recordBytes, 0);
    this.child.stdin.write(Uint8Array.of(count, count >> 8, count >> 16, count >> 24));
    const answer = await readExactly(this.child, 4);
    if (answer.length < 4) throw new Error(`the native runner ended in a batch (exit status ${this.child.exitCode})`);
    results.count = count;
    readSync(this.resultsFile, results.bytes, 0, count * recordBytes, 0);
  }

  close(): void {
    this.child.stdin.end();
    for (const file of [this.casesFile, this.resultsFile]) closeSync(file);
  }
}

function readExactly(child: ChildProcessByStdio<Writable, Readable, null>, sizeBytes: number): Promise<Uint8Array> {
  const { stdout } = child;
  return new Promise((resolve) => {
    const finish = (chunk: Uint8Array): void => {
      stdout.off("readable", onReadable);
      child.off("exit", onExit);
      resolve(chunk);
    };
    const onReadable = (): void => {
      const chunk = stdout.read(sizeBytes) as Uint8Array | null;
      if (chunk) finish(chunk);
    };
    const onExit = (): void => finish(new Uint8Array());
    stdout.on("readable", onReadable);
    child.on("exit", onExit);
    onReadable();
  });
}

function readFeatures(greeting: DataView): HostFeatures {
  const word = (index: number): number => greeting.getUint32(index * 4, true);
  const vendor = [5, 7, 6]
    .map((index) => word(index))
    .map((value) => String.fromCharCode(value & 0xff, (value >> 8) & 0xff, (value >> 16) & 0xff, value >>> 24))
    .join("");
  const names = Object.entries(featureBits)
    .filter(([, [index, bit]]) => (word(index) >>> bit) & 1)
    .map(([name]) => name);
  return { vendor, names: new Set(names) };
}
