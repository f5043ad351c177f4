/** What the host's kernel tells of its processor's virtualization, without asking KVM. */
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync } from "node:fs";

export interface HostProcessor {
  readonly name: string;
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
  return { name: field("model name") || process.arch, flags: new Set(field("flags").split(" ")) };
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

/**
 * Whether the firmware keeps virtualization from the system: IA32_FEATURE_CONTROL locked without VMX, or AMD's VM_CR with
 * SVMDIS. "unknown" where the host does not show its registers.
 */
export function firmwareLock(flags: ReadonlySet<string>): "open" | "locked" | "unknown" {
  if (flags.has("vmx")) {
    const value = readHostMsr(featureControlMsr);
    if (value === undefined) return "unknown";
    return (value & 0b101n) === 0b001n ? "locked" : "open";
  }
  const value = flags.has("svm") ? readHostMsr(vmCrMsr) : undefined;
  if (value === undefined) return "unknown";
  return (value & 0x10n) === 0n ? "open" : "locked";
}
