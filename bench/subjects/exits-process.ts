/**
 * Our side of the bench "exits": a whole machine under KVM runs its guest. `exits-process.ts COUNT` prints the time
 * between each two marks, in nanoseconds, one a line.
 */
import { openKvm } from "../../src/accel/kvm/index.ts";
import { UserError } from "../../src/base/errors.ts";
import { nativeCalls } from "../../src/host/node/kvm/native-calls.ts";
import { createCpuModel } from "../../src/isa/models/index.ts";
import { defaultDevices } from "../../src/machine/config.ts";
import { Machine } from "../../src/machine/machine.ts";
import { loadKernel } from "../../src/boot/kernel.ts";
import { multibootKernel } from "../../tests/cli/tiny-guest.ts";
import { exitsGuest, markPort } from "../exits-guest.ts";

const native = nativeCalls();
if ("problem" in native) throw new UserError("ACCELERATOR_UNAVAILABLE", native.problem);
const kvm = openKvm(native.calls);
if ("problem" in kvm) throw new UserError("ACCELERATOR_UNAVAILABLE", `${kvm.problem}: ${kvm.remedy}`);
const { accelerator } = kvm;
const facts = { tscFrequencyHz: accelerator.timeStampFrequencyHz(1e9), apicId: 0, processors: 1 };
const missing = accelerator.missingFeatures(createCpuModel("intel-v2", facts));
const hostNowNs = (): number => performance.now() * 1e6;
let markNs = hostNowNs();
const machine = new Machine({
  memorySizeBytes: 16 << 20, cpu: ["intel-v2", ...missing.map((name) => `-${name}`)].join(","), clock: { mode: "real-time", hostNowNs },
  startEpochMs: Date.now(), fillRandom: (target) => target, disks: [], devices: { ...defaultDevices, debugConsolePort: markPort },
  onSerial: () => {},
  onDebugConsole: () => {
    const nowNs = hostNowNs();
    process.stdout.write(`${Math.round(nowNs - markNs)}\n`);
    markNs = hostNowNs();
  },
}, accelerator);
const kernel = multibootKernel([...exitsGuest(Number(process.argv[2]))]);
machine.load(loadKernel({ kernel, commandLine: "", modules: [], memory: machine.memoryMap, rsdp: { address: machine.installAcpiTables(), bytes: new Uint8Array(36) }, hasVgaText: false }));
while (machine.runSlice().kind !== "ended");
machine.close();
