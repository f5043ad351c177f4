/**
 * `npm run stress`: a guest that rewrites its own code for minutes, and the memory of this process meanwhile. At the end
 * the interpreter executes as many instructions, which must come to the same memory.
 * Usage: npm run stress [-- --minutes N] [--jit NAME]
 */
import { parseArgs } from "node:util";
import { guestPhysical } from "../src/base/address.ts";
import { jitSettingsNamed } from "../src/engine/jit/settings.ts";
import { readRewritingGuest, RewritingGuest } from "../tests/jit/rewriting-guest.ts";
import { formatTable } from "./table.ts";

const endless = 0xffff_ffff;
const sampleCount = 20;
const comparedBytes = 4 << 20;
/** What the process may grow by from the third quarter to the last. Before, V8 and the C library still fill their pools. */
const allowedGrowth = 0.1;

const { values } = parseArgs({ options: { minutes: { type: "string", default: "10" }, jit: { type: "string", default: "forced" } } });
const minutes = Number(values.minutes);
if (!(minutes > 0)) {
  console.error(`stress: --minutes wants a number, not "${values.minutes}"`);
  process.exit(2);
}

interface Sample {
  readonly residentMib: number;
  readonly row: readonly string[];
}

/** With garbage collected: what is left is what something holds on to. */
function sampleOf({ machine, processor, jit }: RewritingGuest, seconds: number): Sample {
  globalThis.gc?.();
  const { rss, heapUsed } = process.memoryUsage();
  const { regions, voided } = jit.counters;
  return {
    residentMib: rss / 2 ** 20,
    row: [
      seconds.toFixed(0), (rss / 2 ** 20).toFixed(1), (heapUsed / 2 ** 20).toFixed(1), String(Math.round(machine.retiredInstructions / 1e6)),
      String(regions), String(voided), String(jit.kept.modules), String(jit.kept.places), String(processor.code.counters.flushes),
    ],
  };
}

function memoryOf({ machine }: RewritingGuest): Uint8Array {
  const bytes = new Uint8Array(comparedBytes);
  machine.guestMemory().read(guestPhysical(0), bytes);
  return bytes;
}

const image = await readRewritingGuest();
const guest = new RewritingGuest(image, endless, jitSettingsNamed(values.jit));
const samples: Sample[] = [];
const startMs = performance.now(), lengthMs = minutes * 60_000;
let isRunning = true;
while (isRunning && samples.length < sampleCount) {
  isRunning = guest.runSlice();
  const elapsedMs = performance.now() - startMs;
  if (elapsedMs < ((samples.length + 1) * lengthMs) / sampleCount) continue;
  samples.push(sampleOf(guest, elapsedMs / 1000));
  // The garbage collector's own tasks want their turn.
  await new Promise((resolve) => setImmediate(resolve));
}
console.log(formatTable(
  ["seconds", "resident MiB", "heap MiB", "million instructions", "regions", "voided", "modules kept", "places", "flushes"], samples.map(({ row }) => row),
));
const problems: string[] = [];
if (!isRunning) problems.push(`the guest came to its end: ${guest.text()}`);
const quarter = Math.floor(samples.length / 4);
if (quarter > 0) {
  const medianOf = (from: number, to?: number): number => samples.slice(from, to).map(({ residentMib }) => residentMib).toSorted((x, y) => x - y)[quarter >> 1];
  const third = medianOf(-2 * quarter, -quarter), last = medianOf(-quarter), growth = last / third - 1;
  console.log(`resident memory in the third quarter ${third.toFixed(1)} MiB, in the last ${last.toFixed(1)} MiB`);
  if (growth > allowedGrowth) problems.push(`resident memory grew by ${(growth * 100).toFixed(1)} %`);
}
const interpreted = new RewritingGuest(image, endless, jitSettingsNamed("off"));
const target = guest.machine.retiredInstructions;
while (interpreted.machine.retiredInstructions < target && interpreted.runSlice());
const isSame = interpreted.machine.retiredInstructions === target && Buffer.compare(memoryOf(interpreted), memoryOf(guest)) === 0;
console.log(`the interpreter after ${target} instructions: ${isSame ? "the same memory" : "other memory"}`);
if (!isSame) problems.push("the interpreter came to something else");
for (const problem of problems) console.log(`FAILED: ${problem}`);
process.exitCode = problems.length === 0 ? 0 : 1;
