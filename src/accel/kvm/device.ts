/** /dev/kvm: whether it can be used, what it can do, and new virtual machines. */
import { invariant } from "../../base/errors.ts";
import { apiVersion, Capability, Request, Size } from "./abi.ts";
import { parseCpuidTable, type CpuidRow } from "./cpu-model.ts";
import { ErrorNumber, type HostCalls } from "./host-calls.ts";
import { msrList } from "./vcpu-calls.ts";

export const kvmPath = "/dev/kvm";
const archCapabilitiesMsr = 0x10a;
const maximumCpuidRows = 256;
/** KVM takes a guest's frequency for its own within this many parts per million. */
const frequencyTolerance = 250e-6;

/** What the accelerator cannot do without, by the kernel that brought it. */
const neededCapabilities = [
  [Capability.userMemory, "memory of ours"], [Capability.setTssAddress, "a task state segment's address"],
  [Capability.readOnlyMemory, "ROM (Linux 3.7)"], [Capability.vcpuEvents, "events (Linux 2.6.33)"], [Capability.debugregs, "debug registers"],
  [Capability.xsave, "XSAVE state"], [Capability.xcrs, "XCR0"], [Capability.immediateExit, "immediate exits (Linux 4.11)"],
  [Capability.userSpaceMsr, "MSR exits (Linux 5.10)"], [Capability.msrFilter, "MSR filters (Linux 5.10)"],
] as const;

export interface KvmProblem {
  /** The device file is not there at all. */
  readonly isAbsent: boolean;
  /** For people: what is wrong. */
  readonly problem: string;
  /** What to do about it. */
  readonly remedy: string;
}

export class KvmDevice {
  readonly calls: HostCalls;
  readonly runBytes: number;
  readonly supportedCpuid: readonly CpuidRow[];
  /** IA32_ARCH_CAPABILITIES as KVM gives it to guests. */
  readonly archCapabilities: bigint;
  readonly #descriptor: number;
  #hostFrequencyHz: number | undefined;

  private constructor(calls: HostCalls, descriptor: number) {
    this.calls = calls;
    this.#descriptor = descriptor;
    this.runBytes = calls.control(descriptor, Request.getVcpuMmapSize, 0);
    this.supportedCpuid = this.#readSupportedCpuid();
    this.archCapabilities = this.#readFeatureMsr(archCapabilitiesMsr);
  }

  static open(calls: HostCalls): KvmDevice | KvmProblem {
    const descriptor = calls.openDevice(kvmPath);
    if (descriptor < 0) return { ...openProblem(-descriptor), isAbsent: descriptor === -ErrorNumber.ENOENT };
    const problem = usageProblem(calls, descriptor);
    if (problem !== undefined) {
      calls.close(descriptor);
      return { ...problem, isAbsent: false };
    }
    return new KvmDevice(calls, descriptor);
  }

  has(capability: number): boolean {
    return this.capability(capability) > 0;
  }

  capability(capability: number): number {
    return this.calls.control(this.#descriptor, Request.checkExtension, capability);
  }

  createVm(): number {
    let descriptor: number;
    // A signal to the process, a profiler's for instance, only interrupts it.
    do descriptor = this.calls.control(this.#descriptor, Request.createVm, 0);
    while (descriptor === -ErrorNumber.EINTR);
    invariant(descriptor >= 0, `KVM creates a virtual machine (error ${-descriptor})`);
    return descriptor;
  }

  /** Without scaling, guests count as the host does. */
  timeStampFrequencyHz(wantedHz: number): number {
    if (this.has(Capability.tscControl)) return wantedHz;
    this.#hostFrequencyHz ??= this.#readHostFrequency();
    const ratio = wantedHz / this.#hostFrequencyHz;
    return Math.abs(ratio - 1) < frequencyTolerance ? wantedHz : this.#hostFrequencyHz;
  }

  close(): void {
    this.calls.close(this.#descriptor);
  }

  #readHostFrequency(): number {
    const vm = this.createVm();
    const vcpu = this.calls.control(vm, Request.createVcpu, 0);
    const khz = this.calls.control(vcpu, Request.getTscKhz, 0);
    this.calls.close(vcpu);
    this.calls.close(vm);
    invariant(khz > 0, "KVM knows the time stamp's frequency");
    return khz * 1000;
  }

  #readSupportedCpuid(): CpuidRow[] {
    const view = new DataView(new ArrayBuffer(8 + maximumCpuidRows * Size.cpuidEntry));
    view.setUint32(0, maximumCpuidRows, true);
    const result = this.calls.controlBytes(this.#descriptor, Request.getSupportedCpuid, new Uint8Array(view.buffer));
    invariant(result === 0, `KVM lists the CPUID that it supports (error ${-result})`);
    return parseCpuidTable(view);
  }

  /** 0 when KVM does not know the register. */
  #readFeatureMsr(index: number): bigint {
    const view = msrList([[index, 0n]]);
    const count = this.calls.controlBytes(this.#descriptor, Request.getMsrs, new Uint8Array(view.buffer));
    return count === 1 ? view.getBigUint64(16, true) : 0n;
  }
}

type Trouble = Pick<KvmProblem, "problem" | "remedy">;

function openProblem(error: number): Trouble {
  switch (error) {
    case ErrorNumber.ENOENT:
      return { problem: `there is no ${kvmPath}`, remedy: "load the module kvm_intel or kvm_amd" };
    case ErrorNumber.ENODEV:
      return { problem: `${kvmPath} has no driver behind it`, remedy: "load the module kvm_intel or kvm_amd" };
    case ErrorNumber.EACCES:
    case ErrorNumber.EPERM:
      return {
        problem: `${kvmPath} is not for this user`,
        remedy: `add the user to the group that owns it (often kvm), or run as root; a container needs --device ${kvmPath}`,
      };
    case ErrorNumber.EBUSY:
      return { problem: `${kvmPath} is busy`, remedy: "end the other hypervisor, which has the processor's virtualization" };
    default:
      return { problem: `${kvmPath} does not open (error ${error})`, remedy: "look at the kernel's log" };
  }
}

function usageProblem(calls: HostCalls, descriptor: number): Trouble | undefined {
  const version = calls.control(descriptor, Request.getApiVersion, 0);
  if (version !== apiVersion) return { problem: `${kvmPath} speaks version ${version} of KVM's interface, not ${apiVersion}`, remedy: "use Linux's own KVM" };
  const missing = neededCapabilities.filter(([capability]) => calls.control(descriptor, Request.checkExtension, capability) <= 0);
  if (missing.length === 0) return undefined;
  return { problem: `this kernel's KVM lacks ${missing.map(([, name]) => name).join(", ")}`, remedy: "use a newer kernel" };
}
