/**
 * `npm run test:deterministic`: boots the same guest in deterministic mode, twice interpreted and twice compiled. All have
 * to end alike: at the same instruction, with the same memory. Where they do not, it says between which instructions
 * they parted.
 * Usage: npm run test:deterministic [-- --guest NAME] [--jit NAME,NAME,…] [--command TEXT] [--limit INSTRUCTIONS]
 */
import { createHash } from "node:crypto";
import { parseArgs } from "node:util";
import { createSoftAccelerator, SoftVirtualProcessor } from "../src/accel/soft/index.ts";
import type { GuestName, VmOptions } from "../src/api/index.ts";
import { prepare } from "../src/api/prepare.ts";
import { closeParts, load, newParts } from "../src/api/vm-parts.ts";
import { guestPhysical } from "../src/base/address.ts";
import { jitSettingsNamed, jitNames } from "../src/engine/jit/settings.ts";
import { Machine } from "../src/machine/machine.ts";
import { formatTable } from "./table.ts";

const checkpointInstructions = 10_000_000;
const pieceBytes = 1 << 20;

interface Checkpoint {
  readonly retired: number;
  /** Registers and time. */
  readonly state: string;
}

interface Run {
  readonly jit: string;
  readonly end: string;
  readonly retired: number;
  readonly nowNs: number;
  readonly memory: string;
  readonly console: string;
  readonly compiledRegions: number;
  readonly seconds: number;
  readonly checkpoints: readonly Checkpoint[];
}

function hashMemory(machine: Machine, sizeBytes: number): string {
  const hash = createHash("sha256");
  const memory = machine.guestMemory();
  for (let address = 0; address < sizeBytes; address += pieceBytes) {
    const piece = new Uint8Array(Math.min(pieceBytes, sizeBytes - address));
    memory.read(guestPhysical(address), piece);
    hash.update(piece);
  }
  return hash.digest("hex");
}

function describeState(machine: Machine): string {
  return JSON.stringify([machine.processors[0].getState(), machine.clock.nowNs()], (_, value: unknown) => typeof value === "bigint" ? value.toString(16) : value);
}

async function run(options: VmOptions, jit: string, limit: number): Promise<Run> {
  const parts = newParts(options, await prepare(options));
  const consoleHash = createHash("sha256");
  const machine = new Machine({
    ...parts.config, onSerial: (_, byte) => void consoleHash.update(Uint8Array.of(byte)),
  }, createSoftAccelerator({ jit: jitSettingsNamed(jit) }));
  if (parts.kernel !== undefined) load(machine, parts.kernel, parts.config.devices.vga);
  const startMs = performance.now();
  const checkpoints: Checkpoint[] = [];
  let end = "reached the limit";
  for (let next = checkpointInstructions; machine.retiredInstructions < limit;) {
    const slice = machine.runSlice();
    if (slice.kind !== "running") {
      end = slice.kind === "ended" ? JSON.stringify(slice.end) : "waits for something that does not come";
      break;
    }
    const retired = machine.retiredInstructions;
    if (retired < next) continue;
    checkpoints.push({ retired, state: describeState(machine) });
    next = retired - (retired % checkpointInstructions) + checkpointInstructions;
  }
  const [processor] = machine.processors;
  const result: Run = {
    jit, end, retired: machine.retiredInstructions, nowNs: machine.clock.nowNs(), memory: hashMemory(machine, parts.config.memorySizeBytes),
    console: consoleHash.digest("hex"), seconds: (performance.now() - startMs) / 1000, checkpoints,
    compiledRegions: processor instanceof SoftVirtualProcessor ? processor.processor.jit.counters.regions : 0,
  };
  closeParts(parts);
  return result;
}

/** Where two runs parted; undefined when they did not. */
function difference(a: Run, b: Run): string | undefined {
  const index = a.checkpoints.findIndex(({ retired, state }, at) => b.checkpoints[at]?.retired !== retired || b.checkpoints[at].state !== state);
  if (index >= 0) {
    const since = index === 0 ? 0 : a.checkpoints[index - 1].retired;
    return `they part between instructions ${since} and ${a.checkpoints[index].retired}:\n  ${a.checkpoints[index].state}\n  ${b.checkpoints[index]?.retired ?? 0} ${b.checkpoints[index]?.state ?? "nothing"}`;
  }
  for (const what of ["end", "retired", "nowNs", "memory", "console"] as const) if (a[what] !== b[what]) return `${what} differs: ${a[what]} and ${b[what]}`;
  return undefined;
}

const { values } = parseArgs({
  options: {
    guest: { type: "string", default: "cloud-6.1" }, jit: { type: "string", default: "off,on,off,on" }, limit: { type: "string", default: "Infinity" },
    command: { type: "string", default: "uname -sr; cat /proc/interrupts; md5sum /bin/busybox; date; head -c 64 /dev/urandom | md5sum; sleep 1; sync" },
  },
});
const names = values.jit.split(",");
const unknown = names.find((name) => !jitNames.includes(name));
if (unknown !== undefined) {
  console.error(`test:deterministic: there is no JIT setting ${unknown}; there are ${jitNames.join(", ")}`);
  process.exit(2);
}
const options: VmOptions = {
  guest: values.guest as Exclude<GuestName, "seabios" | "ovmf">, deterministic: true, ...(values.guest.startsWith("disk") ? {} : { command: values.command }),
};
const runs: Run[] = [];
for (const [index, jit] of names.entries()) {
  process.stderr.write(`${values.guest}, run ${index + 1} of ${names.length}, JIT ${jit} … `);
  const result = await run(options, jit, Number(values.limit));
  runs.push(result);
  process.stderr.write(`${result.end} after ${result.retired} instructions, ${result.seconds.toFixed(1)} s\n`);
}
console.log(formatTable(["run", "JIT", "end", "instructions", "virtual ns", "memory", "console", "regions", "seconds"], runs.map((result, index) => [
  String(index + 1), result.jit, result.end, String(result.retired), String(result.nowNs), result.memory.slice(0, 16), result.console.slice(0, 16),
  String(result.compiledRegions), result.seconds.toFixed(1),
])));
let failed = 0;
for (const [index, other] of runs.entries()) {
  const found = index === 0 ? undefined : difference(runs[0], other);
  if (found === undefined) continue;
  failed++;
  console.log(`runs 1 and ${index + 1}: ${found}`);
}
console.log(`${runs.length - failed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
