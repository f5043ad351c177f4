/** What an exit costs under KVM: from the guest to us and back, against the least that a program in C does, on the same /dev/kvm. */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { UserError } from "../../src/base/errors.ts";
import { PackageSource } from "../../src/host/node/guests/apt.ts";
import { BuildTools } from "../../src/host/node/guests/build-tools.ts";
import { defaultCacheDirectory, withCacheLock } from "../../src/host/node/guests/cache.ts";
import { Progress } from "../../src/host/node/guests/progress.ts";
import { kvmFacts } from "../../src/host/node/kvm/availability.ts";
import type { Bench, BenchOptions, BenchRow } from "../contract.ts";
import { exitKinds, exitsGuest } from "../exits-guest.ts";
import { interleave, type Side } from "../interleave.ts";
import { median } from "../statistics.ts";

/** V8 has compiled what it takes after a few thousand. */
const exitsPerLoop = 40_000;
const script: string = new URL("../subjects/exits-process.ts", import.meta.url).pathname;
const peerSource: string = new URL("../peers/kvm-exits.c", import.meta.url).pathname;

/** Compiles the peer into `directory`; its path. */
async function buildPeer(directory: string, { onProgress }: BenchOptions): Promise<string> {
  const progress = new Progress(onProgress);
  const cacheDirectory = defaultCacheDirectory();
  const tools = new BuildTools(cacheDirectory, new PackageSource(cacheDirectory, "release", progress));
  const gcc = await withCacheLock(cacheDirectory, () => progress.step("another process is working on the cache; waiting for it"), () => tools.find("gcc"));
  const program = join(directory, "kvm-exits");
  await gcc.run(["-O2", "-static", "-o", program, peerSource]);
  progress.done("the peer in C is built");
  return program;
}

/** Seconds an exit, by kind. */
function perExit(output: string, count: number): number[] {
  // Before the first mark is the start of the process.
  const [, ...loops] = output.trim().split("\n").map(Number);
  if (loops.length !== exitKinds.length) throw new UserError("GUEST_FAILED", `the guest came to ${loops.length} of ${exitKinds.length} marks`);
  return loops.map((ns) => ns / 1e9 / count);
}

export const exits: Bench = {
  name: "exits",
  summary: "port and memory-mapped accesses under KVM, from the guest to us and back",
  peers: ["c"],
  defaultRuns: 11,
  async run(options) {
    const { capabilities, problem, remedy } = kvmFacts();
    if (capabilities === undefined) throw new UserError("ACCELERATOR_UNAVAILABLE", `This bench needs /dev/kvm, but ${problem}: ${remedy}.`);
    const directory = mkdtempSync(join(tmpdir(), "ringmaster-exits-"));
    try {
      const count = exitsPerLoop * options.scale;
      const peer = await buildPeer(directory, options);
      const code = join(directory, "guest");
      writeFileSync(code, exitsGuest(count));
      const commands: Record<Side, readonly [string, ...string[]]> = {
        ours: [process.execPath, script, String(count)], peer: [peer, code],
      };
      const measured = await interleave(options.runs, async (side) => {
        const [program, ...words] = commands[side];
        const { stdout } = await promisify(execFile)(program, words, { signal: options.signal, timeout: (options.timeoutSeconds ?? 120) * 1000 });
        return perExit(stdout, count);
      });
      const rows = exitKinds.map((name, kind): BenchRow => {
        const seconds = (side: Side): number => median(measured[side].map((run) => run[kind]));
        return { name, oursSeconds: seconds("ours"), peerSeconds: seconds("peer"), ratio: seconds("ours") / seconds("peer") };
      }).filter(({ name }) => options.only?.includes(name) ?? true);
      return {
        title: "an exit under KVM and back, ours against a minimal loop in C",
        subtitle: `${count} exits of each kind a run, in turns; ours: a whole machine, COM2's scratch register and the HPET's configuration register`,
        rows,
        columns: [
          { title: "ours µs", text: ({ oursSeconds }) => ((oursSeconds ?? 0) * 1e6).toFixed(2) },
          { title: "c µs", text: ({ peerSeconds }) => ((peerSeconds ?? 0) * 1e6).toFixed(2) },
        ],
        notes: problem === undefined ? [] : [`${problem}; exits are measured all the same`],
      };
    } finally {
      rmSync(directory, { recursive: true });
    }
  },
};
