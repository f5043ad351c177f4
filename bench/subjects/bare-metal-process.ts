/**
 * Our side of benches with guests of their own: a whole machine runs one. `bare-metal-process.ts IMAGE CPU` has what the
 * guest writes to the debug console on its standard output.
 */
import { readFileSync, writeSync } from "node:fs";
import { softAccelerator } from "../../src/accel/soft/index.ts";
import { loadMultiboot1 } from "../../src/boot/multiboot1.ts";
import { defaultDevices } from "../../src/machine/config.ts";
import { Machine } from "../../src/machine/machine.ts";

const [image, cpu] = process.argv.slice(2);
const machine = new Machine({
  memorySizeBytes: 64 << 20, cpu, clock: { mode: "real-time", hostNowNs: () => performance.now() * 1e6 }, startEpochMs: Date.now(),
  fillRandom: (target) => target, disks: [], devices: defaultDevices, onSerial: () => {},
  onDebugConsole: (byte) => void writeSync(1, Uint8Array.of(byte)),
}, softAccelerator);
machine.installAcpiTables();
machine.load(loadMultiboot1({ kernel: readFileSync(image), commandLine: "", modules: [], memory: machine.memoryMap }));
while (machine.runSlice().kind !== "ended");
machine.close();
