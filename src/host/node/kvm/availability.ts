/** Whether the kvm accelerator can run guests on this host, how that was found out, and what to do when it cannot. */
import type { Accelerator } from "../../../accel/contract.ts";
import { Capability } from "../../../accel/kvm/abi.ts";
import type { KvmDevice } from "../../../accel/kvm/device.ts";
import { openKvm } from "../../../accel/kvm/index.ts";
import { isHardware, probeKvm, type KvmProbe } from "../../../accel/kvm/probe.ts";
import { hostProcessor, loadedKvmModule } from "./host-facts.ts";
import { nativeCalls } from "./native-calls.ts";

export interface KvmAvailability {
  /** To run guests with; undefined when `problem` says why not. */
  readonly accelerator: Accelerator | undefined;
  /** For people; undefined when there is none. */
  readonly problem: string | undefined;
  /** What to do about the problem. */
  readonly remedy: string | undefined;
  /** What opened, whether it is good for guests or not. */
  readonly device: KvmDevice | undefined;
  readonly probe: KvmProbe | undefined;
}

let known: KvmAvailability | undefined;

/** Asked once a thread; it takes up to 100 ms. */
export function kvmAvailability(): KvmAvailability {
  known ??= findOut();
  return known;
}

interface Trouble {
  readonly problem: string;
  readonly remedy: string;
}

function unavailable({ problem, remedy }: Trouble): KvmAvailability {
  return { accelerator: undefined, problem, remedy, device: undefined, probe: undefined };
}

function findOut(): KvmAvailability {
  const native = nativeCalls();
  if ("problem" in native) return unavailable(native);
  const kvm = openKvm(native.calls);
  if ("problem" in kvm) return unavailable(kvm.isAbsent ? absence() : kvm);
  const { accelerator, device } = kvm;
  const probe = probeKvm(accelerator, () => native.calls.nowNs());
  if (isHardware(probe)) return { accelerator, problem: undefined, remedy: undefined, device, probe };
  return { ...unavailable(emulation(probe)), device, probe };
}

function emulation({ loopInstructions, loopMs, pages }: KvmProbe): Trouble {
  const name = loadedKvmModule() === "kvm_pvm" ? "KVM here is PVM, which emulates" : "KVM here does not run guests on the processor, but emulates";
  const speed = Number.isFinite(loopMs) ? `${loopInstructions} instructions took ${loopMs.toFixed(1)} ms, hardware takes less than one` : "a simple loop does not end";
  return {
    problem: `${name} a guest's kernel mode: ${speed}${pages ? "" : "; 32-bit paging fails"}`,
    remedy: "use a host with VT-x or AMD-V, or have nested virtualization allowed",
  };
}

/** Why there is no /dev/kvm. */
function absence(): Trouble {
  const { flags } = hostProcessor();
  const problem = "there is no /dev/kvm";
  const module = flags.has("vmx") ? "kvm_intel" : flags.has("svm") ? "kvm_amd" : undefined;
  if (module !== undefined) return { problem: `${problem}, though the processor could`, remedy: `load the module (modprobe ${module}); a container needs --device /dev/kvm` };
  if (flags.has("hypervisor")) return { problem: `${problem} in this virtual machine`, remedy: "whoever runs it has to allow nested virtualization" };
  return { problem: `${problem}: the processor shows neither VT-x nor AMD-V`, remedy: "look whether the firmware's setup has it switched off" };
}

/** What `doctor` shows. */
export interface KvmFacts {
  readonly problem: string | undefined;
  readonly remedy: string | undefined;
  readonly probe: KvmProbe | undefined;
  readonly capabilities: {
    readonly maximumVcpus: number;
    readonly memorySlots: number;
    readonly tscScaling: boolean;
    readonly timeStampMhz: number;
    readonly splitInterruptController: boolean;
  } | undefined;
}

export function kvmFacts(): KvmFacts {
  const { problem, remedy, probe, device } = kvmAvailability();
  return {
    problem, remedy, probe,
    capabilities: device === undefined ? undefined : {
      maximumVcpus: device.capability(Capability.maximumVcpus), memorySlots: device.capability(Capability.memorySlots),
      tscScaling: device.has(Capability.tscControl), timeStampMhz: device.timeStampFrequencyHz(1e9) / 1e6,
      splitInterruptController: device.has(Capability.splitIrqchip),
    },
  };
}
