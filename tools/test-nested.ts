/**
 * Unmodified hypervisors inside of our machine: Debian's kernels load KVM there, and a client of ours runs its guests.
 * Usage: npm run test:nested -- svm|vmx [--json] [--only NAME,…]. The exit status is 1 when anything fails.
 */
import { parseArgs } from "node:util";
import { Vm, type GuestName } from "../src/api/index.ts";
import { formatTable } from "./table.ts";

type Extension = "svm" | "vmx";

interface NestedTest {
  readonly name: string;
  readonly guest: Extract<GuestName, `nested-${string}`>;
  /** Of KVM's module: `npt=0` and the like. */
  readonly parameters: string;
}

/** What each extension's KVM is called, and on which processor it runs. */
const hypervisors = {
  svm: { cpu: "epyc", modules: "kvm_amd", secondStage: "npt" },
  vmx: { cpu: "xeon", modules: "kvm_intel", secondStage: "ept" },
} as const;

const limitSeconds = 900;

function testsOf(extension: Extension): readonly NestedTest[] {
  const { secondStage } = hypervisors[extension];
  return (["nested-6.1", "nested-6.12"] as const).flatMap((guest) => ["", `${secondStage}=0`].map((parameters) => ({
    name: `${guest.slice("nested-".length)}${parameters === "" ? "" : ` ${parameters}`}`, guest, parameters,
  })));
}

/** Loads the modules, the last one with `parameters`, and prints what the extension offers and what the guests did. */
function commandOf(extension: Extension, parameters: string): string {
  const { modules, secondStage } = hypervisors[extension];
  return [
    `for module in $(cat /lib/modules/${modules}.order); do`,
    `  [ $module = ${modules} ] && parameters="${parameters}"`,
    "  insmod /lib/modules/$module.ko $parameters || exit 1",
    "done",
    `echo "${secondStage}: $(cat /sys/module/${modules}/parameters/${secondStage})"`,
    "/virt/kvm-client",
  ].join("\n");
}

async function run(extension: Extension, { guest, parameters }: NestedTest, signal: AbortSignal): Promise<string> {
  const { cpu } = hypervisors[extension];
  await using vm = await Vm.create({ guest, cpu, accel: "soft" });
  await vm.boot({ until: "/ # ", signal });
  const { status, output } = await vm.exec(commandOf(extension, parameters), { signal });
  const lines = output.split(/\r?\n/u);
  const summary = /tiny guests: (\d+), failed: (\d+)/u.exec(output);
  const failures = lines.filter((line) => / {2,}/u.test(line) && !line.endsWith("passed"));
  if (status !== 0 || summary === null) throw new Error(failures.length > 0 ? failures.join("; ") : `status ${status}: ${output.slice(-500)}`);
  const offered = lines.find((line) => /^(?:npt|ept): /u.test(line)) ?? "";
  return `${summary[1]} tiny guests, ${offered}`;
}

const { values, positionals } = parseArgs({
  allowPositionals: true, options: { json: { type: "boolean", default: false }, only: { type: "string" } },
});
const [extension] = positionals;
if (extension !== "svm" && extension !== "vmx") {
  console.error("say which: npm run test:nested -- svm, or vmx");
  process.exit(2);
}
const wanted = values.only?.split(",");
const tests = testsOf(extension);
const unknown = wanted?.filter((name) => !tests.some((test) => test.name === name)) ?? [];
if (unknown.length > 0) {
  console.error(`no test is called ${unknown.join(", ")}; there are: ${tests.map(({ name }) => name).join(", ")}`);
  process.exit(2);
}

const results: { name: string; passed: boolean; seconds: number; reason: string }[] = [];
for (const test of tests.filter(({ name }) => wanted?.includes(name) ?? true)) {
  process.stderr.write(`${test.name} … `);
  const start = performance.now();
  const outcome = await run(extension, test, AbortSignal.timeout(limitSeconds * 1000)).then(
    (reason) => ({ passed: true, reason }),
    (error: unknown) => ({ passed: false, reason: error instanceof Error ? error.message : String(error) }),
  );
  const seconds = Math.round((performance.now() - start) / 100) / 10;
  results.push({ name: test.name, ...outcome, seconds });
  process.stderr.write(`${outcome.passed ? "passed" : "FAILED"} in ${seconds} s\n`);
}
if (values.json) console.log(JSON.stringify({ extension, results }, null, 2));
else {
  console.log(formatTable(
    [`KVM on ${extension}`, "result", "seconds", "seen"],
    results.map(({ name, passed, seconds, reason }) => [name, passed ? "passed" : "FAILED", seconds.toFixed(1), reason]),
  ));
}
process.exitCode = results.every(({ passed }) => passed) ? 0 : 1;
