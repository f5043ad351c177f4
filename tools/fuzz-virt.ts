/**
 * Enters random guests: `npm run fuzz:virt -- svm|vmx [--entries N] [--seed S]`. Stops at the first that makes the processor
 * throw, and says how to see it again.
 */
import { parseArgs } from "node:util";
import { FuzzedGuest as FuzzedSvmGuest } from "../src/virt/svm/testing/fuzzed-guest.ts";
import { FuzzedGuest as FuzzedVmxGuest } from "../src/virt/vmx/testing/fuzzed-guest.ts";

const defaultEntries = "1000000";
const reportEvery = 20_000;

const { values, positionals } = parseArgs({
  allowPositionals: true, options: { entries: { type: "string", default: defaultEntries }, seed: { type: "string", default: "1" } },
});
const [extension] = positionals;
if (extension !== "svm" && extension !== "vmx") {
  console.error("say which: npm run fuzz:virt -- svm, or vmx");
  process.exit(2);
}
const entries = Number(values.entries), firstSeed = Number(values.seed);
const guest = extension === "svm" ? new FuzzedSvmGuest() : new FuzzedVmxGuest();
const ends = new Map<string, number>();
const start = performance.now();
for (let done = 0; done < entries; done++) {
  const seed = firstSeed + done;
  try {
    const end = guest.run(seed);
    ends.set(end, (ends.get(end) ?? 0) + 1);
  } catch (error) {
    console.error(`seed ${seed} failed; again: npm run fuzz:virt -- ${extension} --seed ${seed} --entries 1`);
    throw error;
  }
  if ((done + 1) % reportEvery === 0) {
    const perSecond = Math.round((done + 1) / ((performance.now() - start) / 1000));
    process.stderr.write(`${done + 1} entries, ${perSecond} a second\n`);
  }
}
const summary = [...ends].toSorted(([a], [b]) => a.localeCompare(b)).map(([end, count]) => `${end} ${count}`).join(", ");
console.log(`${entries} entries from seed ${firstSeed}: ${summary}`);
