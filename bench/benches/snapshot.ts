/** Saving and restoring a booted 512 MiB Debian, and ten clones of it. */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { ensureGuests } from "../../src/host/node/guests/index.ts";
import type { Bench, BenchOptions, BenchRow } from "../contract.ts";
import { formatBytes, formatSeconds } from "../report/format.ts";
import type { Created, Forked, Restored, Saved } from "../snapshot-process.ts";
import { median } from "../statistics.ts";

const cloneCount = 10;
const defaultTimeoutSeconds = 300;
const script: string = new URL("../snapshot-process.ts", import.meta.url).pathname;

/** What a fresh process found out. */
async function measure<Result>({ signal, timeoutSeconds }: BenchOptions, ...words: readonly string[]): Promise<Result> {
  const { stdout } = await promisify(execFile)(process.execPath, ["--expose-gc", script, ...words], { signal, timeout: (timeoutSeconds ?? defaultTimeoutSeconds) * 1000 });
  return JSON.parse(stdout) as Result;
}

function row(name: string, oursSeconds: number, figures: Readonly<Record<string, unknown>> = {}): BenchRow {
  return { name, oursSeconds, peerSeconds: null, ratio: null, ...figures };
}

function savedRow(name: string, saved: readonly Saved[]): BenchRow {
  const [{ fileBytes, storedBytes }] = saved;
  return row(name, median(saved.map(({ seconds }) => seconds)), { writtenBytes: fileBytes, storedBytes });
}

export const snapshot: Bench = {
  name: "snapshot",
  summary: "a booted 512 MiB Debian saved and restored, and ten clones of it",
  peers: [],
  defaultRuns: 5,
  async run(options) {
    await ensureGuests(["cloud-6.1"], { onProgress: options.onProgress });
    const directory = mkdtempSync(join(tmpdir(), "ringmaster-bench-"));
    try {
      const created: Created[] = [];
      // A boot takes as long as everything else together.
      for (let run = 0; run < Math.min(options.runs, 2); run++) {
        created.push(await measure<Created>(options, "create", directory));
        options.log(`saved in ${formatSeconds(created[run].whole.seconds)}, later in ${formatSeconds(created[run].later.seconds)}`);
      }
      const { whole, later } = created[created.length - 1];
      const restored: Record<"whole" | "later", Restored[]> = { whole: [], later: [] };
      for (let run = 0; run < options.runs; run++) {
        for (const [name, { path }] of [["whole", whole], ["later", later]] as const) {
          const one = await measure<Restored>(options, "restore", path);
          restored[name].push(one);
          options.log(`run ${run + 1}/${options.runs}: ${name}: first instruction after ${formatSeconds(one.firstInstructionSeconds)}, in a process that has done it before ${formatSeconds(one.warmFirstInstructionSeconds)}`);
        }
      }
      const forked = await measure<Forked>(options, "fork", whole.path, String(cloneCount));
      const of = (name: "whole" | "later", figure: keyof Restored): number => median(restored[name].map((one) => one[figure]));
      return {
        title: "snapshots of a booted Debian with 512 MiB",
        subtitle: "accelerator soft, each figure in a process of its own",
        rows: [
          savedRow("create", created.map((one) => one.whole)),
          savedRow("create, based on it", created.map((one) => one.later)),
          row("restore to first instruction", of("whole", "warmFirstInstructionSeconds")),
          row("the same in a fresh process", of("whole", "firstInstructionSeconds")),
          row("restore through a parent", of("later", "warmFirstInstructionSeconds")),
          row(`${cloneCount} clones made`, forked.restoreSeconds, { residentBytes: forked.madeBytesPerClone }),
          row(`${cloneCount} clones, a command in each`, forked.commandSeconds, { residentBytes: forked.usedBytesPerClone }),
        ],
        columns: [
          { title: "written", text: ({ writtenBytes }) => typeof writtenBytes === "number" ? `${(writtenBytes / 2 ** 20).toFixed(1)} MiB` : "" },
          { title: "of memory", text: ({ storedBytes }) => storedBytes === undefined ? "" : formatBytes(storedBytes) },
          { title: "resident a clone", text: ({ residentBytes }) => residentBytes === undefined ? "" : formatBytes(residentBytes) },
        ],
        notes: [
          `a fresh process loads the modules and compiles the processor: of its time, Vm.restore takes ${formatSeconds(of("whole", "restoreSeconds"))} (${formatSeconds(of("whole", "warmRestoreSeconds"))} when done before)`,
          "clones share one process, which has restored a machine before; what they share is not counted as resident",
        ],
      };
    } finally {
      rmSync(directory, { recursive: true });
    }
  },
};
