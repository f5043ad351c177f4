/**
 * Enters random guests: `npm run fuzz:virt -- svm|vmx [--entries N] [--seed S] [--jit NAME | --compare]`. Stops at the
 * first that makes the processor throw, and says how to see it again; with --compare also at the first of which interpreter
 * and compiled code make two different things, unless the guest has changed its tables without telling the processor. The
 * interpreter's transitions are observed, which makes them go the long way.
 */
import assert from "node:assert/strict";
import { isDeepStrictEqual, parseArgs } from "node:util";
import { readProcessorState } from "../src/accel/soft/processor-state.ts";
import { jitSettingsNamed } from "../src/engine/jit/settings.ts";
import { FuzzedGuest as FuzzedSvmGuest } from "../src/virt/svm/testing/fuzzed-guest.ts";
import { fuzzEntries } from "../src/virt/testing/fuzz-entries.ts";
import { FuzzedGuest as FuzzedVmxGuest } from "../src/virt/vmx/testing/fuzzed-guest.ts";

const defaultEntries = "1000000";
const reportEvery = 20_000;

const { values, positionals } = parseArgs({
  allowPositionals: true, options: { entries: { type: "string", default: defaultEntries }, seed: { type: "string", default: "1" }, jit: { type: "string", default: "on" }, compare: { type: "boolean", default: false } },
});
const [extension] = positionals;
if (extension !== "svm" && extension !== "vmx") {
  console.error("say which: npm run fuzz:virt -- svm, or vmx");
  process.exit(2);
}

function create(jit: string): FuzzedSvmGuest | FuzzedVmxGuest {
  const settings = jitSettingsNamed(jit);
  return extension === "svm" ? new FuzzedSvmGuest(settings) : new FuzzedVmxGuest(settings);
}

/** Both ends, registers, memory and what devices saw must be the same. */
function compareTiers(): { run(seed: number): string } {
  const guests = [create("off"), create("forced")];
  if (guests[0] instanceof FuzzedVmxGuest) guests[0].vmx.observer = () => {};
  return {
    run: (seed) => {
      const results = guests.map((guest) => {
        const end = guest.run(seed);
        const { processor, portWrites, deviceAccesses } = guest.machine;
        // The number of instructions is counted from the beginning of the process.
        const ports = portWrites.map(({ port, sizeBytes, value }) => ({ port, sizeBytes, value }));
        return { end, state: readProcessorState(processor), ports, deviceAccesses };
      });
      const [interpreted, compiled] = results;
      const [expected, actual] = guests.map(({ machine }) => machine.ram);
      const hasSameMemory = Buffer.compare(Buffer.from(expected.buffer, expected.byteOffset, expected.length), Buffer.from(actual.buffer, actual.byteOffset, actual.length)) === 0;
      if (hasSameMemory && isDeepStrictEqual(compiled, interpreted)) return interpreted.end;
      const place = expected.findIndex((byte, index) => byte !== actual[index]);
      if (guests[0].hasChangedTables(seed)) return "tables changed";
      assert.deepEqual(compiled, interpreted);
      assert.equal(place, -1, `memory differs from ${place.toString(16)} on`);
      return interpreted.end;
    },
  };
}

const guest = values.compare ? compareTiers() : create(values.jit);
const entries = Number(values.entries), firstSeed = Number(values.seed);
const start = performance.now();
const ends = fuzzEntries(guest, {
  extension, firstSeed, entries,
  onProgress: (done) => {
    if (done % reportEvery === 0) process.stderr.write(`${done} entries, ${Math.round(done / ((performance.now() - start) / 1000))} a second\n`);
  },
});
const summary = [...ends].toSorted(([a], [b]) => a.localeCompare(b)).map(([end, count]) => `${end} ${count}`).join(", ");
console.log(`${entries} entries from seed ${firstSeed}: ${summary}`);
