/**
 * Boots the operating systems and tools of others, unmodified, and looks at what they say.
 * Usage: npm run test:guests [-- --json] [--only NAME,…] [--jit NAME]. The exit status is 1 when a guest fails.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { Vm, type GuestName, type JitChoice, type VmOptions } from "../src/api/index.ts";
import { jitTotals } from "../src/engine/jit/jit.ts";
import { jitSettingsNamed } from "../src/engine/jit/settings.ts";
import { ensureGuests } from "../src/host/node/guests/index.ts";
import { formatTable } from "./table.ts";

interface GuestTest {
  readonly name: string;
  /** What it shows, for the table. */
  readonly shows: string;
  readonly limitSeconds: number;
  /** Throws with the reason when what was seen is not what it should be. */
  run(signal: AbortSignal): Promise<Seen>;
}

interface Seen {
  readonly text: string;
  readonly instructions: number;
}

interface GuestResult {
  readonly name: string;
  readonly passed: boolean;
  readonly seconds: number;
  readonly reason: string;
  /** Instructions, and how many of them compiled code has executed where that is counted. */
  readonly instructions: number;
  readonly compiled: number;
}

const prompt = "/ # ";

const { values } = parseArgs({
  options: { json: { type: "boolean", default: false }, only: { type: "string" }, jit: { type: "string" } },
});
const countsCompiled = values.jit !== undefined && jitSettingsNamed(values.jit).counts === true;

const jitOption = values.jit === undefined ? {} : { jit: values.jit as JitChoice };

function createVm(options: VmOptions): Promise<Vm> {
  return Vm.create({ ...options, ...jitOption });
}

/** Boots to a shell, runs a command in it and powers off. */
async function runShell(options: VmOptions, signal: AbortSignal): Promise<Seen> {
  await using vm = await createVm(options);
  await vm.boot({ until: prompt, signal });
  const { status, output } = await vm.exec("uname -sr; echo RM-$((6*7)); grep ' / ' /proc/mounts | tail -n 1", { signal });
  const text = output.trim().replaceAll("\n", "; ");
  if (status !== 0 || !output.includes("RM-42")) throw new Error(`the command gave status ${status}: ${text}`);
  vm.serial.write("poweroff\n");
  const end = await vm.wait();
  if (end.kind !== "poweroff") throw new Error(`poweroff led to ${end.kind}`);
  return { text, instructions: vm.retiredInstructions };
}

/** Waits for a line of the VGA screen. */
async function waitForScreen(vm: Vm, pattern: RegExp, signal: AbortSignal, refuse?: RegExp): Promise<string> {
  for (;;) {
    signal.throwIfAborted();
    const lines = vm.screenText() ?? [];
    const bad = refuse === undefined ? undefined : lines.find((line) => refuse.test(line));
    if (bad !== undefined) throw new Error(`the screen says: ${bad.trim()}`);
    const found = lines.find((line) => pattern.test(line));
    if (found !== undefined) return found.trim().replaceAll(/\s+/g, " ");
    if (vm.state === "ended") throw new Error(`the machine ended: ${(await vm.wait()).kind}`);
    await sleep(250, undefined, { signal });
  }
}

/** memtest86+ has finished a pass over all of memory without an error. */
async function runMemtest(signal: AbortSignal): Promise<Seen> {
  const paths = await ensureGuests(["memtest86+"]);
  await using vm = await createVm({ kernel: paths["memtest86+"].kernel, append: "", memory: "64M", vga: true });
  vm.run();
  const text = await waitForScreen(vm, /Pass:\s+[1-9].*Errors: 0/, signal, /Errors: +[1-9]/);
  return { text, instructions: vm.retiredInstructions };
}

/** Two clones of a booted system go on apart from each other, and their kernels know that they are copies. */
async function runClones(signal: AbortSignal): Promise<Seen> {
  const directory = mkdtempSync(join(tmpdir(), "ringmaster-clones-"));
  try {
    const path = join(directory, "booted.rmsnap");
    await using original = await createVm({ guest: "cloud-6.12" });
    await original.boot({ until: prompt, signal });
    await original.snapshot(path);
    const clones = await Vm.restore(path, { fork: 2, ...jitOption });
    try {
      const seen: string[] = [];
      for (const [index, clone] of clones.entries()) {
        const { output } = await clone.exec(`echo ${index} >> /tmp/mine; cat /tmp/mine; cat /proc/sys/kernel/random/uuid; dmesg | grep 'virtual machine fork'`, { signal });
        const [mine, uuid, message] = output.trim().split("\n");
        if (mine !== String(index)) throw new Error(`clone ${index} sees what another one wrote: ${mine}`);
        if (message === undefined) throw new Error(`clone ${index} was not told that it is one: ${output}`);
        seen.push(uuid, clone.generationId ?? "");
      }
      const { output } = await original.exec("cat /tmp/mine || echo nothing; dmesg | grep -c 'virtual machine fork'", { signal });
      if (output.trim().split("\n").slice(-2).join(" ") !== "nothing 0") throw new Error(`the original sees its clones: ${output}`);
      if (new Set([...seen, original.generationId]).size !== 5) throw new Error("the clones' random numbers or generation IDs are the same");
      const instructions = clones.reduce((sum, clone) => sum + clone.retiredInstructions, original.retiredInstructions);
      return { text: "crng reseeded due to virtual machine fork, in both", instructions };
    } finally {
      for (const clone of clones) await clone.stop();
    }
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function shell(name: GuestName, shows: string, limitSeconds: number, more: VmOptions = {}): GuestTest {
  return { name, shows, limitSeconds, run: (signal) => runShell({ guest: name as "cloud-6.1", ...more }, signal) };
}

const tests: readonly GuestTest[] = [
  shell("cloud-6.1", "Debian's cloud kernel, Linux boot protocol", 180),
  shell("generic-6.1", "Debian's generic kernel", 240),
  shell("cloud-6.12", "the cloud kernel of the backports", 180),
  shell("686-6.1", "Debian's 32-bit kernel, 32-bit boot protocol, 32-bit userland", 400),
  shell("disk-bios", "SeaBIOS, GRUB, root on virtio-blk (ext4)", 240),
  shell("disk-efi", "OVMF, GRUB, root on virtio-blk (ext4)", 600),
  { name: "clones", shows: "a snapshot of cloud-6.12, forked twice", limitSeconds: 240, run: runClones },
  { name: "memtest86+", shows: "first pass over 64 MiB", limitSeconds: 900, run: runMemtest },
];

const wanted = values.only?.split(",");
const unknown = wanted?.filter((name) => !tests.some((test) => test.name === name)) ?? [];
if (unknown.length > 0) {
  console.error(`no guest is called ${unknown.join(", ")}; there are: ${tests.map(({ name }) => name).join(", ")}`);
  process.exit(2);
}

const results: GuestResult[] = [];
for (const test of tests.filter(({ name }) => wanted?.includes(name) ?? true)) {
  process.stderr.write(`${test.name}: ${test.shows} … `);
  const start = performance.now(), compiledBefore = jitTotals.executed;
  const outcome = await test.run(AbortSignal.timeout(test.limitSeconds * (countsCompiled ? 20 : 1) * 1000)).then(
    ({ text, instructions }) => ({ passed: true, reason: text, instructions }),
    (error: unknown) => ({ passed: false, reason: error instanceof Error ? error.message : String(error), instructions: 0 }),
  );
  const seconds = Math.round((performance.now() - start) / 100) / 10;
  results.push({ name: test.name, ...outcome, compiled: jitTotals.executed - compiledBefore, seconds });
  process.stderr.write(`${outcome.passed ? "passed" : "FAILED"} in ${seconds} s\n`);
}

if (values.json) console.log(JSON.stringify({ guests: results }, null, 2));
else {
  console.log(formatTable(
    ["guest", "result", "seconds", ...(countsCompiled ? ["instructions", "compiled"] : []), "seen"],
    results.map(({ name, passed, seconds, instructions, compiled, reason }) => [
      name, passed ? "passed" : "FAILED", seconds.toFixed(1),
      ...(countsCompiled ? [String(instructions), `${((100 * compiled) / Math.max(instructions, 1)).toFixed(1)} %`] : []), reason,
    ]),
  ));
}
const failed = results.filter(({ passed }) => !passed).length;
process.stderr.write(`${results.length - failed} passed, ${failed} failed\n`);
process.exitCode = failed === 0 ? 0 : 1;
