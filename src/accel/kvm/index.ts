/** The `kvm` accelerator: the host's own virtualization, through Linux's KVM. */
import type { Accelerator } from "../contract.ts";
import { missingFeatures } from "./cpu-model.ts";
import { KvmDevice, type KvmProblem } from "./device.ts";
import type { HostCalls } from "./host-calls.ts";
import { KvmInstance, type Abilities } from "./instance.ts";
import { probeBreakpoints, probeDeadline } from "./probe.ts";

const maximumWasmPages = 65_536;
const wasmPageBytes = 65_536;

/** The accelerator, or why there is none on this host. */
export function openKvm(calls: HostCalls): { readonly accelerator: Accelerator; readonly device: KvmDevice } | KvmProblem {
  const device = KvmDevice.open(calls);
  if ("problem" in device) return device;
  const create = (abilities: Abilities): Accelerator => ({
    name: "kvm", countsInstructions: false,
    timeStampFrequencyHz: (wantedHz) => device.timeStampFrequencyHz(wantedHz),
    missingFeatures: (model) => missingFeatures(model, device.supportedCpuid, abilities.deadlineExits),
    maximumStorageBytes: maximumWasmPages * wasmPageBytes,
    create: (options) => new KvmInstance(device, options, abilities),
  });
  // What is tried out takes both for granted.
  const innocent = create({ breakpointsWork: () => true, deadlineExits: () => true });
  const tried = (probe: typeof probeBreakpoints): (() => boolean) => {
    let result: boolean | undefined;
    return () => (result ??= probe(innocent, () => calls.nowNs()));
  };
  return {
    device,
    accelerator: create({ breakpointsWork: tried(probeBreakpoints), deadlineExits: tried(probeDeadline) }),
  };
}
