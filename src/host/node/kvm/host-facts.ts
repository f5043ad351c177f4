/** What the host's kernel tells of its processor's virtualization, without asking KVM. */
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync } from "node:fs";

export interface HostProcessor {
  readonly name: string;
  /** As CPUID has it: GenuineIntel and the like. */
  readonly vendor: string;
  readonly flags: ReadonlySet<string>;
}

/** The modules that drive KVM, of which one is loaded. */
const kvmModules = ["kvm_intel", "kvm_amd", "kvm_pvm"] as const;
export type KvmModule = (typeof kvmModules)[number];

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return undefined;
  }
}

export function hostProcessor(): HostProcessor {
  const text = read("/proc/cpuinfo") ?? "";
  const field = (name: string): string => new RegExp(`^${name}\\s*: (?<value>.*)$`, "mu").exec(text)?.groups?.["value"] ?? "";
  return { name: field("model name") || process.arch, vendor: field("vendor_id"), flags: new Set(field("flags").split(" ")) };
}

export function loadedKvmModule(): KvmModule | undefined {
  return kvmModules.find((name) => existsSync(`/sys/module/${name}`));
}

/** A parameter of a kernel module; undefined when it has none of that name. */
export function moduleParameter(module: string, name: string): string | undefined {
  return read(`/sys/module/${module}/parameters/${name}`);
}

export function isParameterOn(value: string | undefined): boolean {
  return value === "Y" || value === "1";
}

export function iommuGroupCount(): number {
  try {
    return readdirSync("/sys/kernel/iommu_groups").length;
  } catch {
    return 0;
  }
}

const featureControlMsr = 0x3a;
const vmCrMsr = 0xc001_0114;
const lockedMask = 1n, vmxOutsideSmxMask = 4n, vmxLockMask = lockedMask | vmxOutsideSmxMask, svmDisableMask = 0x10n;

/** A register of processor 0, which the module `msr` shows to root; undefined where it does not. */
function readHostMsr(index: number): bigint | undefined {
  let file: number | undefined;
  try {
    file = openSync("/dev/cpu/0/msr", "r");
    const bytes = Buffer.alloc(8);
    return readSync(file, bytes, 0, 8, index) === 8 ? bytes.readBigUInt64LE() : undefined;
  } catch {
    return undefined;
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

export type FirmwareLock = "open" | "locked" | "unknown";

/**
 * Whether the firmware keeps virtualization from the system: IA32_FEATURE_CONTROL locked without VMX, or AMD's VM_CR with
 * SVMDIS. "unknown" where the host does not show its registers. The flags are no help: Linux drops those of what is locked
 * off. `readMsr` gives a register of processor 0, undefined where it cannot be read.
 */
export function firmwareLock(vendor: string, readMsr: (index: number) => bigint | undefined = readHostMsr): FirmwareLock {
  if (vendor === "AuthenticAMD" || vendor === "HygonGenuine") {
    const value = readMsr(vmCrMsr);
    if (value === undefined) return "unknown";
    return (value & svmDisableMask) === 0n ? "open" : "locked";
  }
  const value = readMsr(featureControlMsr);
  if (value === undefined) return "unknown";
  return (value & vmxLockMask) === lockedMask ? "locked" : "open";
}
