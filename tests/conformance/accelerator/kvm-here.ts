/** The kvm accelerator of this host for the conformance suite, with what a software KVM cannot run. */
import { existsSync } from "node:fs";
import type { Accelerator } from "../../../src/accel/contract.ts";
import { openKvm } from "../../../src/accel/kvm/index.ts";
import { nativeCalls } from "../../../src/host/node/kvm/native-calls.ts";

/** Cases by "group: name", with the reason. PVM is KVM without VT-x or AMD-V: it emulates the guest's kernel mode. */
const skippedOnPvm: ReadonlyMap<string, string> = new Map([
  ["model: CPUID is the model's", "PVM lets the host's processor answer CPUID"],
  ["model: the time stamp counter goes on from where it was set", "PVM lets the host's processor answer RDTSC"],
  ["interrupts: come through the window that a guest opens", "PVM does not look for interrupts after every instruction"],
  ["interrupts: come one after the other, and return", "PVM does not look for interrupts after every instruction"],
  ["state: moves a guest that uses x87 and SSE", "PVM's emulator of the kernel mode lacks SSE"],
]);

export function kvmHere(): { readonly accelerator: Accelerator; readonly skips: ReadonlyMap<string, string> } | { readonly problem: string } {
  const native = nativeCalls();
  if ("problem" in native) return native;
  const kvm = openKvm(native.calls);
  if ("problem" in kvm) return kvm;
  return { accelerator: kvm.accelerator, skips: existsSync("/sys/module/kvm_pvm") ? skippedOnPvm : new Map() };
}
