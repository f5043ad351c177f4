/**
 * Ringmaster inside Ringmaster: our own processor runs Debian's kernel with KVM's modules on the VT-x that it offers (or on
 * AMD-V), and in there this checkout runs its guests under the kvm accelerator.
 * Usage: npm run test:inception [-- [svm|vmx] [probe] [conformance] [tiny] [crossings] [boot]] [-- --json] [-- --verbose]. Without
 * parts: all. The exit status is 1 when anything fails.
 */
import { parseArgs } from "node:util";
import { endError, Vm } from "../src/api/index.ts";
import { printProgress } from "../src/host/node/guests/print-progress.ts";
import type { NestedOutcome } from "../tests/kvm/nested/report.ts";
import { compileCheckout, prepareOuterGuest } from "./kvm-nested/outer-guest.ts";
import { OutcomeReader, outcomeRows } from "./kvm-nested/outcomes.ts";
import { formatTable } from "./table.ts";

const limitSeconds = 1200;
const memory = "2G";
const extensions = { vmx: { cpu: "xeon", modules: "kvm_intel" }, svm: { cpu: "epyc", modules: "kvm_amd" } } as const;

async function run(extension: keyof typeof extensions, parts: readonly string[], isVerbose: boolean): Promise<readonly NestedOutcome[]> {
  const { cpu, modules } = extensions[extension];
  const { kernel, initramfs, commandLine } = await prepareOuterGuest(modules, parts, printProgress(process.stderr));
  const reader = new OutcomeReader(isVerbose);
  await using vm = await Vm.create({ kernel, initrd: initramfs, append: commandLine, cpu, memory, accel: "soft", timeoutMs: limitSeconds * 1000 });
  let line = "";
  vm.on("serial", ({ bytes }) => {
    const lines = (line + Buffer.from(bytes).toString()).split(/\r?\n/u);
    line = lines.pop() ?? "";
    for (const complete of lines) reader.read(complete);
  });
  vm.run();
  const end = await vm.wait();
  if (end.kind !== "poweroff") reader.fail("the outer guest", endError(end).message, 0);
  return reader.finish();
}

const { values, positionals } = parseArgs({ allowPositionals: true, options: { json: { type: "boolean", default: false }, verbose: { type: "boolean", default: false } } });
const extension = positionals.includes("svm") ? "svm" : "vmx";
const wanted = positionals.filter((word) => word !== "svm" && word !== "vmx");
const startMs = performance.now();
if (!compileCheckout()) process.exit(1);
const outcomes = await run(extension, wanted, values.verbose);
const totalSeconds = Math.round((performance.now() - startMs) / 1000);
if (values.json) console.log(JSON.stringify({ extension, totalSeconds, outcomes }, null, 2));
else console.log(`${formatTable([`${extensions[extension].modules} in us`, "passed", "failed", "skipped", "seconds", "seen"], outcomeRows(outcomes))}\n\n${totalSeconds} s in all`);
process.exitCode = outcomes.some(({ state }) => state === "failed") ? 1 : 0;
