/**
 * Chooses the handlers that the dispatch loop inlines: boots a Linux guest with counting on and writes one example of
 * machine code per handler, by frequency, into src/engine/hot-instructions.ts.
 * Usage: node tools/hot-instructions.ts KERNEL INITRAMFS [KERNEL-ARGUMENTS] [COUNT]
 */
import { readFileSync, writeFileSync } from "node:fs";
import { createSoftAccelerator, SoftVirtualProcessor } from "../src/accel/soft/index.ts";
import { loadLinux } from "../src/boot/linux.ts";
import { defaultDevices } from "../src/machine/config.ts";
import { Machine } from "../src/machine/machine.ts";

const [kernelPath, initrdPath, kernelArguments = "", count = "240"] = process.argv.slice(2);
if (kernelPath === undefined || initrdPath === undefined) {
  console.error("usage: node tools/hot-instructions.ts KERNEL INITRAMFS [KERNEL-ARGUMENTS] [COUNT]");
  process.exit(2);
}

const machine = new Machine({
  memorySizeBytes: 512 << 20, cpu: "intel-v2", clock: { mode: "deterministic", nsPerInstruction: 10 }, startEpochMs: 0,
  fillRandom: (target) => void target.fill(7), disks: [], devices: defaultDevices,
  onSerial: (port, byte) => void (port === 0 && process.stderr.write(Uint8Array.of(byte))),
}, createSoftAccelerator({ profile: true }));
const rsdpAddress = machine.installAcpiTables();
machine.load(loadLinux({
  kernel: readFileSync(kernelPath), initrd: readFileSync(initrdPath), memory: machine.memoryMap, rsdpAddress,
  commandLine: `console=ttyS0 ${kernelArguments}`,
}));
while (machine.runSlice().kind === "running") { /* until the guest powers off or waits for input */ }

const [processor] = machine.processors;
if (!(processor instanceof SoftVirtualProcessor)) throw new Error("only the soft processor counts");
const hot = processor.processor.executionCounts()
  .filter(({ handler, example, count: executions }) => example !== undefined && executions > 0 && handler.includes("/L"))
  .slice(0, Number(count));
const lines = hot.map(({ handler, example }) => `  "${Buffer.from(example!).toString("hex")}", // ${handler}`);
const path = new URL("../src/engine/hot-instructions.ts", import.meta.url);
const source = readFileSync(path, "utf8");
const start = source.indexOf("= [\n") + 4, end = source.indexOf("];\n", start);
writeFileSync(path, `${source.slice(0, start)}${lines.join("\n")}\n${source.slice(end)}`);
console.error(`${lines.length} handlers written`);
