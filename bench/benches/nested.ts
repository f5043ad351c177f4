/** Hypervisors in the guest: what leaving a guest of theirs and coming back costs, and a Debian kernel that boots in KVM. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { commandBeginMarker, ensureGuests } from "../../src/host/node/guests/index.ts";
import type { Bench, BenchOptions, BenchRow, Subject } from "../contract.ts";
import { GuestProcess } from "../guest-process.ts";
import { CommandGuest, startGuest } from "../guest-run.ts";
import { interleave, type Side } from "../interleave.ts";
import { nestedExitKinds, nestedExitsGuest } from "../nested-guest.ts";
import { formatSeconds } from "../report/format.ts";
import { median } from "../statistics.ts";
import { prepareSides } from "../subjects/index.ts";
import { nestedBootCommand } from "./nested-boot.ts";
import { compareWithBochs, vmxBootRow, vmxExitKinds } from "./nested-vmx.ts";

const exitsPerKind = 200_000;
const defaultTimeoutSeconds = 600;
const bootRow = "boot in KVM";

function isBoot(name: string): boolean {
  return name === bootRow || name === vmxBootRow;
}

type Sides = Readonly<Record<Side, Subject>>;

function timeout({ timeoutSeconds }: BenchOptions): number {
  return timeoutSeconds ?? defaultTimeoutSeconds;
}

/** Seconds an exit, by kind. */
async function measureExits(subject: Subject, kernel: string, count: number, options: BenchOptions): Promise<number[]> {
  await using guest = new GuestProcess(subject.launch({ kernel, commandLine: "", memoryMib: 64 }));
  const marks: number[] = [];
  for (const letter of "ABCDE") marks.push((await guest.waitFor(new RegExp(letter, "u"), timeout(options), options.signal)).seconds);
  return nestedExitKinds.map((_, kind) => (marks[kind + 1] - marks[kind]) / count);
}

async function exitRows(sides: Sides, options: BenchOptions): Promise<BenchRow[]> {
  const count = exitsPerKind * options.scale;
  const directory = mkdtempSync(join(tmpdir(), "ringmaster-nested-"));
  try {
    const kernel = join(directory, "kernel");
    writeFileSync(kernel, nestedExitsGuest(count));
    const measured = await interleave(options.runs, async (side, run) => {
      const seconds = await measureExits(sides[side], kernel, count, options);
      options.log(`run ${run + 1}/${options.runs}: ${sides[side].name} ${seconds.map((each, kind) => `${nestedExitKinds[kind]} ${microseconds(each)}`).join(", ")}`);
      return seconds;
    });
    return nestedExitKinds.map((name, kind) => row(name, (side) => measured[side].map((seconds) => seconds[kind])));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function microseconds(seconds: unknown): string {
  return typeof seconds === "number" ? `${(seconds * 1e6).toFixed(2)} µs` : "–";
}

function row(name: string, secondsOf: (side: Side) => readonly number[]): BenchRow {
  const oursSeconds = median(secondsOf("ours")), peerSeconds = median(secondsOf("peer"));
  return { name, oursSeconds, peerSeconds, ratio: oursSeconds / peerSeconds };
}

/** From the first command of the outer userland to one of the inner userland. */
async function bootRows(sides: Sides, options: BenchOptions): Promise<BenchRow[]> {
  const { "nested-6.1": kernel } = await ensureGuests(["nested-6.1"], { onProgress: options.onProgress });
  await using command = await CommandGuest.create(kernel, nestedBootCommand("kvm_amd"));
  const measured = await interleave(options.runs, async (side, run) => {
    await using guest = startGuest(sides[side], command);
    const begin = await guest.waitFor(new RegExp(RegExp.escape(commandBeginMarker), "u"), timeout(options), options.signal);
    const end = await guest.waitFor(/booted: \d/u, timeout(options), options.signal);
    options.log(`run ${run + 1}/${options.runs}: ${sides[side].name} booted a kernel in KVM in ${formatSeconds(end.seconds - begin.seconds)}`);
    return end.seconds - begin.seconds;
  });
  return [row(bootRow, (side) => measured[side])];
}

/** One side of the bench: rows and who was measured. */
interface Comparison {
  readonly rows: readonly BenchRow[];
  readonly description: string;
}

async function compareWithQemu(options: BenchOptions, isWanted: (name: string) => boolean): Promise<Comparison> {
  const sides = await prepareSides({ ...options, peer: "qemu" }, "svm");
  const exits = nestedExitKinds.some(isWanted) ? await exitRows(sides, options) : [];
  const boots = isWanted(bootRow) ? await bootRows(sides, options) : [];
  return { rows: [...exits, ...boots], description: `SVM: ${sides.ours.description}; ${sides.peer.description}` };
}

export const nested: Bench = {
  name: "nested",
  summary: "hypervisors in the guest: exits and entries of a guest of theirs, and a Debian kernel booting in KVM",
  peers: ["qemu", "bochs", "qemu,bochs"],
  defaultRuns: 3,
  async run(options) {
    const peers = (options.peer ?? "").split(",");
    const isWanted = (name: string): boolean => options.only?.includes(name) ?? true;
    const comparisons: Comparison[] = [];
    if (peers.includes("qemu")) comparisons.push(await compareWithQemu(options, isWanted));
    if (peers.includes("bochs") && [...vmxExitKinds, vmxBootRow].some(isWanted)) comparisons.push(await compareWithBochs(options, isWanted));
    return {
      title: `hypervisors in the guest, ours against ${peers.join(" and ")}`,
      subtitle: comparisons.map(({ description }) => description).join("; "),
      rows: comparisons.flatMap(({ rows }) => rows).filter(({ name }) => isWanted(name)),
      columns: [
        { title: "ours each", text: ({ oursSeconds, name }) => isBoot(name) ? formatSeconds(oursSeconds) : microseconds(oursSeconds) },
        { title: "peer each", text: ({ peerSeconds, name }) => isBoot(name) ? formatSeconds(peerSeconds) : microseconds(peerSeconds) },
      ],
      notes: [
        `exits under SVM: from VMRUN into the guest, what leaves it, and back behind VMRUN; ${exitsPerKind * options.scale} of each kind with nested paging`,
        "exits under VMX: what leaves the guest, a hypervisor that reads the reason and goes on behind the instruction, and VMRESUME",
        "boots: from the first command of the first kernel's userland to one of the second's; against Bochs once",
      ],
    };
  },
};
