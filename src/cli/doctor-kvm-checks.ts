/** What `doctor` looks at for the kvm accelerator: the processor, the kernel's modules, /dev/kvm, and how it does. */
import { kvmFacts } from "../host/node/kvm/availability.ts";
import type { DoctorCheck } from "./doctor.ts";
import { firmwareLock, hostProcessor, iommuGroupCount, isParameterOn, loadedKvmModule, moduleParameter } from "../host/node/kvm/host-facts.ts";

function processorChecks(): DoctorCheck[] {
  const { name, vendor, flags } = hostProcessor();
  const lock = firmwareLock(vendor);
  const extension = flags.has("vmx") ? "VT-x (vmx)" : flags.has("svm") ? "AMD-V (svm)" : undefined;
  const isVirtual = flags.has("hypervisor");
  const locks = {
    open: { state: "ok", detail: "leaves virtualization to the system" },
    locked: { state: "missing", detail: "has locked virtualization off: switch it on in the firmware's setup" },
    unknown: { state: "info", detail: extension === undefined ? "nothing to lock" : "this host does not show its lock (root and the module msr can see it)" },
  } as const;
  return [
    { name: "processor", state: "ok", detail: isVirtual ? `${name}, of a virtual machine` : name },
    {
      name: "virtualization", state: extension === undefined ? "missing" : "ok",
      detail: extension ?? (lock === "locked" ? "locked off, and so the kernel does not show it"
        : `neither VT-x nor AMD-V${isVirtual ? ": whoever runs this virtual machine has not allowed nested virtualization" : ""}`),
    },
    { name: "firmware", ...locks[lock] },
  ];
}

function moduleChecks(): DoctorCheck[] {
  const module = loadedKvmModule();
  if (module === undefined) return [{ name: "KVM module", state: "missing", detail: "none of kvm_intel, kvm_amd, kvm_pvm is loaded" }];
  const isIntel = module === "kvm_intel";
  const names = [["nested", "nested"], isIntel ? ["EPT", "ept"] : ["NPT", "npt"], isIntel ? ["APICv", "enable_apicv"] : ["AVIC", "avic"]] as const;
  const known = names.flatMap(([title, parameter]) => {
    const value = moduleParameter(module, parameter);
    return value === undefined ? [] : [`${title} ${isParameterOn(value) ? "on" : "off"}`];
  });
  return [{ name: "KVM module", state: "ok", detail: [module, ...known].join(", ") }];
}

function deviceChecks(): DoctorCheck[] {
  const { problem, remedy, capabilities, probe } = kvmFacts();
  const checks: DoctorCheck[] = [{ name: "KVM", state: problem === undefined ? "ok" : "missing", detail: problem === undefined ? "runs guests on the processor" : `${problem}; ${remedy}` }];
  if (capabilities !== undefined) {
    const { maximumVcpus, memorySlots, tscScaling, timeStampMhz, splitInterruptController } = capabilities;
    const scaling = tscScaling ? "TSC scaling" : `no TSC scaling (guests count at ${timeStampMhz} MHz)`;
    checks.push({ name: "capabilities", state: "info", detail: `${maximumVcpus} vCPUs, ${memorySlots} memory slots, ${scaling}${splitInterruptController ? ", split interrupt controller" : ""}` });
  }
  if (probe !== undefined) {
    const loop = Number.isFinite(probe.loopMs) ? `${probe.loopInstructions} instructions at CPL 0 in ${probe.loopMs.toFixed(2)} ms` : "a loop at CPL 0 does not end";
    checks.push({ name: "probe", state: "info", detail: `${loop}; 32-bit paging ${probe.pages ? "works" : "fails"}` });
  }
  return checks;
}

export function kvmChecks(): DoctorCheck[] {
  const groups = iommuGroupCount();
  return [
    ...processorChecks(), ...moduleChecks(), ...deviceChecks(),
    { name: "IOMMU", state: groups === 0 ? "missing" : "ok", detail: groups === 0 ? "no groups: devices of the host cannot be given to guests" : `${groups} groups` },
  ];
}
