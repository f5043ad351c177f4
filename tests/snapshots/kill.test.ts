/** A process that dies while it saves a snapshot, at any moment, leaves a whole one: the old or the new. */
import { spawn } from "node:child_process";
import { copyFileSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Vm } from "../../src/api/index.ts";
import { Snapshot } from "../../src/host/node/snapshot/reader.ts";
import { rememberer } from "../cli/tiny-guest.ts";

/** `KILLS=50 npx vitest run tests/snapshots` takes its time. */
const kills = Number(process.env["KILLS"] ?? 12);

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "ringmaster-kill-"));
});
afterAll(() => rmSync(directory, { recursive: true }));

async function answer(vm: Vm, text: string, expected: string): Promise<void> {
  const answered = vm.boot({ until: expected, signal: AbortSignal.timeout(30_000) });
  vm.serial.write(text);
  await answered;
}

interface Saving {
  /** Resolves when the next snapshot is begun. */
  next(): Promise<void>;
  kill(): Promise<void>;
}

/** A process that saves to `target` over and over. */
function startSaving(source: string, target: string): Saving {
  const child = spawn(process.execPath, [join(import.meta.dirname, "save-again.ts"), source, target], { stdio: ["ignore", "pipe", "inherit"] });
  const ended = new Promise((resolve) => {
    child.once("exit", resolve);
  });
  const begun = child.stdout[Symbol.asyncIterator]();
  return {
    next: async () => void await begun.next(),
    async kill() {
      child.kill("SIGKILL");
      await ended;
    },
  };
}

/** How long one snapshot takes on this host, now. */
async function savingMs(source: string, target: string): Promise<number> {
  const saving = startSaving(source, target);
  await saving.next();
  const startMs = performance.now();
  await saving.next();
  const durationMs = performance.now() - startMs;
  await saving.kill();
  return durationMs;
}

test(`SIGKILL at ${kills} moments while a snapshot is written`, async () => {
  const source = join(directory, "source.rmsnap"), target = join(directory, "target.rmsnap");
  await using vm = await Vm.create({ kernel: rememberer(), memory: "4M" });
  vm.run();
  await answer(vm, "ab", "ab");
  await vm.snapshot(source);
  copyFileSync(source, target);
  const longestDelayMs = 1.5 * await savingMs(source, target);
  const ids = new Set<string>();
  let leftDrafts = 0;
  // Moments during and after saving have to be among them: a busy host may want a few more, and longer ones.
  const isEnough = (): boolean => ids.size > 1 && leftDrafts > 1;
  for (let kill = 0; kill < kills || (!isEnough() && kill < 4 * kills); kill++) {
    const saving = startSaving(source, target);
    await saving.next();
    await sleep(Math.random() * longestDelayMs * (kill < kills ? 1 : 3));
    await saving.kill();
    leftDrafts += readdirSync(directory).filter((name) => name.endsWith(".draft")).length > 0 ? 1 : 0;
    using snapshot = Snapshot.open(target);
    snapshot.verify();
    ids.add(snapshot.manifest.id);
    await using restored = await Vm.restore(target);
    await answer(restored, "c", "abc");
  }
  expect(ids.size).toBeGreaterThan(1);
  expect(leftDrafts).toBeGreaterThan(1);
}, 600_000);
