/**
 * Unmodified hypervisors inside of our machine: Debian's kernels load KVM there, and a client of ours runs its guests; Xen
 * boots a Debian dom0, whose tools start a guest.
 * Usage: npm run test:nested -- svm|vmx [--json] [--only NAME,…]. The exit status is 1 when anything fails.
 */
import { parseArgs } from "node:util";
import { Vm, type GuestName } from "../src/api/index.ts";
import { formatTable } from "./table.ts";

type Extension = "svm" | "vmx";

interface NestedTest {
  readonly name: string;
  readonly guest: Extract<GuestName, `nested-${string}` | `xen-${string}`>;
  /** Of KVM's module: `npt=0` and the like. */
  readonly parameters: string;
  /**
   * "guests": our tiny ones. "boot": Debian's kernel to its userland. "third": in there, KVM once more with the tiny guests.
   * "xen": Xen with a Debian dom0, which starts a Debian guest by its PVH entry.
   */
  readonly load: "guests" | "boot" | "third" | "xen";
}

/** What each extension's KVM is called, and on which processor it runs. */
const hypervisors = {
  svm: { cpu: "epyc", modules: "kvm_amd", secondStage: "npt" },
  vmx: { cpu: "xeon", modules: "kvm_intel", secondStage: "ept" },
} as const;

const limitSeconds = { guests: 900, boot: 3600, third: 7200, xen: 3600 } as const;
const megabytes = 192;

function testsOf(extension: Extension): readonly NestedTest[] {
  const { secondStage } = hypervisors[extension];
  const tests: NestedTest[] = [];
  for (const guest of ["nested-6.1", "nested-6.12"] as const) {
    const kernel = guest.slice("nested-".length);
    for (const parameters of ["", `${secondStage}=0`]) {
      const name = `${kernel}${parameters === "" ? "" : ` ${parameters}`}`;
      tests.push({ name, guest, parameters, load: "guests" }, { name: `${name} boot`, guest, parameters, load: "boot" });
    }
    tests.push({ name: `${kernel} third`, guest, parameters: "", load: "third" });
  }
  tests.push({ name: "xen", guest: "xen-4.17", parameters: "", load: "xen" });
  return tests;
}

/** Loads the modules, the last one with `parameters`, and says what the extension offers. */
function loadModules(extension: Extension, parameters: string): string[] {
  const { modules, secondStage } = hypervisors[extension];
  return [
    `for module in $(cat /lib/modules/${modules}.order); do`,
    `  [ $module = ${modules} ] && parameters="${parameters}"`,
    "  insmod /lib/modules/$module.ko $parameters || exit 1",
    "done",
    `echo "${secondStage}: $(cat /sys/module/${modules}/parameters/${secondStage})"`,
  ];
}

/** Boots the kernel in /virt; its userland runs `command` and resets the machine. */
function bootCommand(command: string): string {
  const inner = Buffer.from(`${command}\nreboot -f\n`).toString("base64");
  return `/virt/kvm-client boot /virt/vmlinuz /virt/initramfs.cpio ${megabytes} "console=ttyS0 quiet reboot=t panic=-1 rm.command=${inner}"`;
}

function xenCommand(): string {
  return [
    "sh /xen/start || exit 1", "PATH=$PATH:/usr/lib/xen-4.17/bin", "xl dmesg | grep -E 'HVM: .*(enabled|HAP)'",
    "xl create -c /xen/guest.cfg", "xl list",
  ].join("\n");
}

const bootedText = "echo booted: $(uname -r), $(grep -o -m1 hypervisor /proc/cpuinfo), $(dmesg | grep -o 'Hypervisor detected: KVM')";

function commandOf(extension: Extension, { load, parameters }: NestedTest): string {
  const modules = loadModules(extension, parameters);
  switch (load) {
    case "guests": return [...modules, "/virt/kvm-client"].join("\n");
    case "boot": return [...modules, bootCommand(bootedText)].join("\n");
    case "third": return [...modules, bootCommand([...loadModules(extension, ""), "/virt/kvm-client"].join("\n"))].join("\n");
    case "xen": return xenCommand();
  }
}

/** What KVM tells of a guest that was booted: how long it ran, and its exits. */
function toldByKvm(output: string): string {
  return /^ran [\d.]+ s, .*$/mu.exec(output)?.[0].trim() ?? "";
}

/** What the output shows that has gone right; throws with what has gone wrong. */
function judge(load: NestedTest["load"], output: string): string {
  const lines = output.split(/\r?\n/u);
  if (load === "boot") {
    const booted = lines.find((line) => line.includes("booted: "));
    if (booted?.includes("Hypervisor detected: KVM") !== true) throw new Error(`no userland: ${output.slice(-500)}`);
    return `${booted.slice(booted.indexOf("booted: "))}; ${toldByKvm(output)}`;
  }
  if (load === "xen") {
    const facts = [/HVM: ASIDs enabled/u, /HVM: (?:SVM|VMX) enabled/u, /HVM: Hardware Assisted Paging \(HAP\) detected/u, /a guest of Xen: [^\r\n]*PVH/u];
    const seen = facts.map((fact) => fact.exec(output)?.[0]);
    const missing = facts.find((_, index) => seen[index] === undefined);
    if (missing !== undefined) throw new Error(`no ${missing.source}: ${output.slice(-500)}`);
    return seen.join(", ");
  }
  const summary = /tiny guests: (\d+), failed: (\d+)/u.exec(output);
  const failures = lines.filter((line) => / {2,}/u.test(line) && !line.endsWith("passed"));
  if (summary?.[2] !== "0") throw new Error(failures.length > 0 ? failures.join("; ") : output.slice(-500));
  const seen = `${summary[1]} tiny guests, ${lines.findLast((line) => /^(?:npt|ept): /u.test(line)) ?? ""}`;
  return load === "third" ? `${seen}; ${toldByKvm(output)}` : seen;
}

interface Outcome {
  /** What was seen, or what went wrong. */
  readonly reason: string;
  /** Exits by level and reason, the most frequent first. */
  readonly exits: readonly { readonly level: number; readonly reason: string; readonly count: number }[];
  /** From the hypervisor's start on. */
  readonly loadSeconds: number;
}

async function run(extension: Extension, test: NestedTest, signal: AbortSignal): Promise<Outcome> {
  const { cpu } = hypervisors[extension];
  await using vm = await Vm.create({ guest: test.guest, cpu, accel: "soft" });
  using trace = vm.trace({ kind: "exit", maximumRecords: 0 });
  await vm.boot({ until: "/ # ", signal });
  const start = performance.now();
  const { output } = await vm.exec(commandOf(extension, test), { signal });
  const loadSeconds = (performance.now() - start) / 1000;
  const reason = judge(test.load, output);
  const exits = trace.stop().lines.map(({ level, reason: name, count }) => ({ level, reason: name, count })).toSorted((a, b) => b.count - a.count);
  if (test.load === "third" && !exits.some(({ level }) => level === 3)) throw new Error("no guest at level 3 was entered");
  return { reason, exits, loadSeconds };
}

const shownReasons = 3;

function formatExits(exits: Outcome["exits"]): string {
  if (exits.length === 0) return "";
  const most = exits.slice(0, shownReasons).map(({ level, reason, count }) => `L${level} ${reason} ${count}`);
  return `${exits.reduce((sum, { count }) => sum + count, 0)}: ${most.join(", ")}${exits.length > shownReasons ? ", …" : ""}`;
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

const results: ({ name: string; passed: boolean; seconds: number } & Outcome)[] = [];
for (const test of tests.filter(({ name }) => wanted?.includes(name) ?? true)) {
  process.stderr.write(`${test.name} … `);
  const start = performance.now();
  const outcome = await run(extension, test, AbortSignal.timeout(limitSeconds[test.load] * 1000)).then(
    (found) => ({ passed: true, ...found }),
    (error: unknown) => ({ passed: false, reason: error instanceof Error ? error.message : String(error), exits: [], loadSeconds: 0 }),
  );
  const seconds = Math.round((performance.now() - start) / 100) / 10;
  results.push({ name: test.name, ...outcome, seconds });
  process.stderr.write(`${outcome.passed ? "passed" : "FAILED"} in ${seconds} s\n`);
}
if (values.json) console.log(JSON.stringify({ extension, results }, null, 2));
else {
  console.log(formatTable(
    [`hypervisors on ${extension}`, "result", "seconds", "of them nested", "seen", "exits"],
    results.map(({ name, passed, seconds, loadSeconds, reason, exits }) => [
      name, passed ? "passed" : "FAILED", seconds.toFixed(1), loadSeconds.toFixed(1), reason, formatExits(exits),
    ]),
  ));
}
process.exitCode = results.every(({ passed }) => passed) ? 0 : 1;
