/** The process that `ours` starts: argv[2] is a guest as JSON. Console on standard output, samples on file descriptor 3. */
import { createWriteStream } from "node:fs";
import { flushCompileCache } from "node:module";
import type { EngineSample, GuestJob } from "../contract.ts";

const job = JSON.parse(process.argv[2]) as GuestJob & { readonly cpuModel: string; readonly api: string };
const { Vm } = await import(job.api) as typeof import("../../src/api/index.ts");
const samples = createWriteStream("", { fd: 3 });
await using vm = await Vm.create({
  kernel: job.kernel, ...(job.initramfs === undefined ? {} : { initrd: job.initramfs }), append: job.commandLine, memory: job.memoryMib * 2 ** 20, cpu: job.cpuModel, accel: "soft",
});
let consoleBytes = 0;
vm.on("serial", ({ port, bytes }) => {
  if (port !== 0) return;
  consoleBytes += bytes.length;
  const sample: EngineSample = { consoleBytes, instructions: vm.retiredInstructions, seconds: vm.uptimeSeconds };
  samples.write(`${JSON.stringify(sample)}\n`);
  process.stdout.write(bytes);
});
vm.run();
flushCompileCache();
const end = await vm.wait();
samples.end();
if (end.kind !== "poweroff") {
  console.error(`the machine ended: ${end.kind}`);
  process.exitCode = 1;
}
