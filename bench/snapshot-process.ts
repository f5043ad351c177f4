/**
 * The processes that the bench `snapshot` starts, each of which prints one line of JSON: `create DIRECTORY` boots Debian and
 * saves it, `restore FILE` goes on from a snapshot until the first instruction, `fork FILE COUNT` makes clones.
 */
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { Vm } from "../src/api/index.ts";

export interface Saved {
  readonly path: string;
  readonly seconds: number;
  readonly fileBytes: number;
  /** Of memory and disks, not compressed. */
  readonly storedBytes: number;
}

export interface Created {
  readonly whole: Saved;
  /** After some work in the guest, based on the whole one. */
  readonly later: Saved;
}

export interface Restored {
  readonly restoreSeconds: number;
  readonly firstInstructionSeconds: number;
  /** The same in a process that has restored a machine before. */
  readonly warmRestoreSeconds: number;
  readonly warmFirstInstructionSeconds: number;
}

export interface Forked {
  readonly restoreSeconds: number;
  /** Until every clone has run a command in its shell. */
  readonly commandSeconds: number;
  /** By how much each clone let this process's resident memory grow: made, and after its command. */
  readonly madeBytesPerClone: number;
  readonly usedBytesPerClone: number;
}

const prompt = "/ # ";
const pageBytes = 4096;

async function save(vm: Vm, path: string, parent?: string): Promise<Saved> {
  const { seconds, fileBytes, storedPages } = await vm.snapshot(path, parent === undefined ? {} : { parent });
  return { path, seconds, fileBytes, storedBytes: storedPages * pageBytes };
}

async function create(directory: string): Promise<Created> {
  await using vm = await Vm.create({ guest: "cloud-6.1", memory: "512M", accel: "soft" });
  await vm.boot({ until: prompt });
  const whole = await save(vm, join(directory, "whole.rmsnap"));
  await vm.exec("for i in 1 2 3 4 5 6 7 8 9 10; do ls -lR /proc/self > /tmp/$i; done");
  return { whole, later: await save(vm, join(directory, "later.rmsnap"), whole.path) };
}

async function untilFirstInstruction(path: string): Promise<{ readonly restoreSeconds: number; readonly firstInstructionSeconds: number }> {
  const startMs = performance.now();
  await using vm = await Vm.restore(path, { accel: "soft" });
  const restoreSeconds = (performance.now() - startMs) / 1000;
  const before = vm.retiredInstructions;
  // A guest at its prompt has nothing to do, so it is given something.
  vm.serial.write("\n");
  vm.run();
  while (vm.retiredInstructions === before) await nextTurn();
  return { restoreSeconds, firstInstructionSeconds: (performance.now() - startMs) / 1000 };
}

async function restore(path: string): Promise<Restored> {
  const cold = await untilFirstInstruction(path);
  const warm = await untilFirstInstruction(path);
  return { ...cold, warmRestoreSeconds: warm.restoreSeconds, warmFirstInstructionSeconds: warm.firstInstructionSeconds };
}

async function fork(path: string, count: number): Promise<Forked> {
  // Code that all of them share is not counted.
  await untilFirstInstruction(path);
  global.gc?.();
  const rss = process.memoryUsage.rss();
  const startMs = performance.now();
  const clones = await Vm.restore(path, { fork: count, accel: "soft" });
  const restoreSeconds = (performance.now() - startMs) / 1000;
  const made = process.memoryUsage.rss();
  const outputs = await Promise.all(clones.map((clone, index) => clone.exec(`echo ${index} >> /tmp/mine; cat /tmp/mine`)));
  const commandSeconds = (performance.now() - startMs) / 1000;
  global.gc?.();
  const used = process.memoryUsage.rss();
  const strangers = outputs.filter(({ output }, index) => output.trim() !== String(index));
  if (strangers.length > 0) throw new Error(`clones see each other's writes: ${strangers.map(({ output }) => output).join(", ")}`);
  if (new Set(clones.map(({ generationId }) => generationId)).size !== count) throw new Error("two clones have one generation ID");
  for (const clone of clones) await clone.stop();
  return { restoreSeconds, commandSeconds, madeBytesPerClone: (made - rss) / count, usedBytesPerClone: (used - rss) / count };
}

if (import.meta.main) {
  const [what, path, count] = process.argv.slice(2);
  const result = what === "create" ? await create(path) : what === "fork" ? await fork(path, Number(count)) : await restore(path);
  process.stdout.write(`${JSON.stringify(result)}\n`);
  process.exit(0);
}
