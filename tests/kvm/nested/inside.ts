/** What runs in the virtual machine that has real KVM: the conformance suite, then whole guests. */
import { Vm } from "../../../src/api/index.ts";
import { kvmAvailability } from "../../../src/host/node/kvm/availability.ts";
import { conformanceCases } from "../../conformance/accelerator/cases.ts";
import { kvmHere } from "../../conformance/accelerator/kvm-here.ts";
import { greeting } from "../../cli/tiny-guest.ts";
import { manyHandOvers, sameUnderKvm, snapshotCrossing } from "./crossings.ts";
import { tell, tellOutcome } from "./report.ts";

const bootLimitMs = 300_000;
const logTailCharacters = 2000;
/** QEMU's translator makes leaving the guest a thousand times as expensive as hardware does: timers at full speed would leave no time for anything else. */
const guestTimeRate = 0.4;
const guestKernel = "/guest/vmlinuz", guestInitrd = "/guest/initramfs.cpio";

async function conformance(): Promise<void> {
  const kvm = kvmHere();
  if ("problem" in kvm) {
    tell({ name: "conformance", state: "failed", detail: kvm.problem, seconds: 0 });
    return;
  }
  // What PVM cannot do is no matter here.
  for (const { group, name, run } of conformanceCases) {
    await tellOutcome(`${group}: ${name}`, () => {
      run(kvm.accelerator);
      return "";
    });
  }
}

const greetingText = "hello from within";

/** A few instructions that print to COM1 and end the machine. */
async function tiny(): Promise<string> {
  await using vm = await Vm.create({ kernel: greeting(greetingText), memory: "16M", accel: "auto" });
  if (vm.accelerator.name !== "kvm") throw new Error(`auto takes ${vm.accelerator.name}: ${vm.accelerator.reason}`);
  let output = "";
  vm.on("serial", ({ bytes }) => {
    output += Buffer.from(bytes).toString("latin1");
  });
  vm.run();
  const end = await vm.wait();
  if (end.kind !== "debug-exit" || output !== greetingText) throw new Error(`it ended by ${end.kind} and said: ${output}`);
  return output;
}

async function boot(): Promise<string> {
  await using vm = await Vm.create({ kernel: guestKernel, initrd: guestInitrd, memory: "256M", accel: "auto", append: "console=ttyS0 quiet", timeRate: guestTimeRate });
  if (vm.accelerator.name !== "kvm") throw new Error(`auto takes ${vm.accelerator.name}: ${vm.accelerator.reason}`);
  let log = "";
  vm.on("serial", ({ bytes }) => {
    log = (log + Buffer.from(bytes).toString("latin1")).slice(-logTailCharacters);
  });
  try {
    const signal = AbortSignal.timeout(bootLimitMs);
    const { seconds } = await vm.boot({ until: "/ # ", signal });
    const { output } = await vm.exec("uname -sr; grep -m1 'model name' /proc/cpuinfo; cat /sys/devices/system/clocksource/clocksource0/current_clocksource", { signal });
    return `shell after ${seconds.toFixed(1)} s; ${output.trim().replaceAll("\n", "; ")}`;
  } catch (error) {
    throw new Error(`${(error as Error).message} Its console ended with: ${log}`, { cause: error });
  }
}

/** By the names that the command line may choose from. */
const parts: Readonly<Record<string, () => Promise<void>>> = {
  probe: () => tellOutcome("probe", () => {
    const { problem, probe } = kvmAvailability();
    if (problem !== undefined || probe === undefined) throw new Error(problem);
    return `${probe.loopInstructions} instructions in ${probe.loopMs.toFixed(2)} ms`;
  }),
  conformance,
  tiny: () => tellOutcome("a tiny guest, accelerator auto", tiny),
  crossings: async () => {
    await tellOutcome("crossing: the same guest under soft and kvm", sameUnderKvm);
    await tellOutcome("crossing: snapshot of kvm goes on under soft", () => snapshotCrossing("kvm", "soft"));
    await tellOutcome("crossing: snapshot of soft goes on under kvm", () => snapshotCrossing("soft", "kvm"));
    await tellOutcome("crossing: ten hand-overs in one run", manyHandOvers);
  },
  boot: () => tellOutcome("Debian's cloud kernel to a shell, accelerator auto", boot),
};

const chosen = process.argv.slice(2);
for (const name of chosen) {
  if (!(name in parts)) tell({ name, state: "failed", detail: `there is no such part; there are ${Object.keys(parts).join(", ")}`, seconds: 0 });
}
for (const [name, run] of Object.entries(parts)) if (chosen.length === 0 || chosen.includes(name)) await run();
process.exit(0);
