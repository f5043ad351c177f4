/** The `kvm` accelerator: the host's own virtualization, through Linux's KVM. */
import type { Accelerator } from "../contract.ts";
import { missingFeatures } from "./cpu-model.ts";
import { KvmDevice, type KvmProblem } from "./device.ts";
import type { HostCalls } from "./host-calls.ts";
import { KvmInstance } from "./instance.ts";
import { probeBreakpoints } from "./probe.ts";

const maximumWasmPages = 65_536;
const wasmPageBytes = 65_536;

/** The accelerator, or why there is none on this host. */
export function openKvm(calls: HostCalls): { readonly accelerator: Accelerator; readonly device: KvmDevice } | KvmProblem {
  const device = KvmDevice.open(calls);
  if ("problem" in device) return device;
  let breakpointsWork: boolean | undefined;
  const accelerator = (tryBreakpoints: () => boolean): Accelerator => ({
    name: "kvm", countsInstructions: false,
    timeStampFrequencyHz: (wantedHz) => device.timeStampFrequencyHz(wantedHz),
    missingFeatures: (model) => missingFeatures(model, device.supportedCpuid),
    maximumStorageBytes: maximumWasmPages * wasmPageBytes,
    create: (options) => new KvmInstance(device, options, tryBreakpoints),
  });
  return {
    device,
    accelerator: accelerator(() => {
      breakpointsWork ??= probeBreakpoints(accelerator(() => true), () => calls.nowNs());
      return breakpointsWork;
    }),
  };
}
