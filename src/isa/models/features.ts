/** Names of processor features, where CPUID reports each, and what it needs (SDM volume 2, "CPUID"; AMD APM volume 3, "CPUID"). */

/** Where CPUID reports a feature. */
export interface FeatureBit {
  /** `notInCpuid` for the parts of VMX, which its capability registers tell of. */
  readonly leaf: number;
  readonly subleaf: number;
  readonly register: "eax" | "ebx" | "ecx" | "edx";
  readonly bit: number;
}

type Register = FeatureBit["register"];

export const notInCpuid = -1;

function row(leaf: number, subleaf: number, register: Register, bits: Readonly<Record<string, number>>): [string, FeatureBit][] {
  return Object.entries(bits).map(([name, bit]) => [name, { leaf, subleaf, register, bit }]);
}

/** Every feature a model can have. The names are those of Linux's /proc/cpuinfo, but for `sse3`, `altmovcr8` and `vmx_vnmi` (there `vnmi` too, as AMD's is). */
export const featureBits: ReadonlyMap<string, FeatureBit> = new Map([
  ...row(1, 0, "edx", {
    fpu: 0, vme: 1, de: 2, pse: 3, tsc: 4, msr: 5, pae: 6, mce: 7, cx8: 8, apic: 9, sep: 11, mtrr: 12, pge: 13, mca: 14,
    cmov: 15, pat: 16, pse36: 17, clflush: 19, mmx: 23, fxsr: 24, sse: 25, sse2: 26, ss: 27, ht: 28,
  }),
  ...row(1, 0, "ecx", {
    sse3: 0, pclmulqdq: 1, monitor: 3, vmx: 5, ssse3: 9, cx16: 13, pcid: 17, sse4_1: 19, sse4_2: 20, x2apic: 21, movbe: 22,
    popcnt: 23, tsc_deadline: 24, aes: 25, xsave: 26, rdrand: 30, hypervisor: 31,
  }),
  ...row(6, 0, "eax", { arat: 2 }),
  ...row(7, 0, "ebx", {
    fsgsbase: 0, smep: 7, erms: 9, invpcid: 10, rdseed: 18, smap: 20, clflushopt: 23, clwb: 24, sha: 29,
  }),
  ...row(7, 0, "ecx", { umip: 2, pku: 3, la57: 16, rdpid: 22 }),
  ...row(7, 0, "edx", { fsrm: 4, serialize: 14, spec_ctrl: 26, arch_capabilities: 29 }),
  ...row(7, 2, "edx", { bhi_ctrl: 4 }),
  ...row(0xd, 1, "eax", { xsaveopt: 0, xsavec: 1, xgetbv1: 2, xsaves: 3 }),
  // What Linux's KVM offers its guests, behind the leaves that are ours (Linux, Documentation/virt/kvm/x86/cpuid.rst).
  ...row(0x4000_0101, 0, "eax", { kvmclock: 3 }),
  ...row(0x8000_0001, 0, "edx", { syscall: 11, nx: 20, fxsr_opt: 25, pdpe1gb: 26, rdtscp: 27, lm: 29 }),
  ...row(0x8000_0001, 0, "ecx", { lahf_lm: 0, svm: 2, altmovcr8: 4, "3dnowprefetch": 8 }),
  ...row(0x8000_0007, 0, "edx", { constant_tsc: 8 }),
  ...row(0x8000_000a, 0, "edx", {
    npt: 0, lbrv: 1, svm_lock: 2, nrip_save: 3, tsc_scale: 4, vmcb_clean: 5, flushbyasid: 6, decodeassists: 7, pausefilter: 10,
    pfthreshold: 12, avic: 13, v_vmsave_vmload: 15, vgif: 16, vnmi: 25,
  }),
  ...row(notInCpuid, 0, "eax", {
    vmx_vnmi: 0, preemption_timer: 1, vtpr: 2, mtf: 3, vapic: 4, ept: 5, vpid: 6, unrestricted_guest: 7, vapic_reg: 8, vid: 9, posted_intr: 10,
    ple: 11, shadow_vmcs: 12, pml: 13, ept_violation_ve: 14, ept_mode_based_exec: 15, tsc_scaling: 16, vmfunc: 17,
  }),
  ...row(0x8000_0021, 0, "eax", { lfence_rdtsc: 2, null_sel_clr_base: 6 }),
]);

/** What a feature cannot be without. */
export const featureRequirements: Readonly<Record<string, readonly string[]>> = {
  sse: ["fxsr", "mmx"], sse2: ["sse"], sse3: ["sse2"], ssse3: ["sse3"], sse4_1: ["ssse3"], sse4_2: ["sse4_1"],
  aes: ["sse2"], pclmulqdq: ["sse2"], sha: ["ssse3"],
  xsave: ["fxsr"], xsaveopt: ["xsave"], xsavec: ["xsave"], xgetbv1: ["xsave"], xsaves: ["xsavec"], pku: ["xsave", "lm"],
  lm: ["pae", "msr", "fxsr", "sse2", "cmov", "cx8", "pge"], cx16: ["lm"], fsgsbase: ["lm"], pcid: ["lm"], la57: ["lm"],
  pdpe1gb: ["lm"], lahf_lm: ["lm"], nx: ["pae"], x2apic: ["apic"], tsc_deadline: ["apic", "tsc"], rdtscp: ["tsc"],
  npt: ["svm"], lbrv: ["svm"], svm_lock: ["svm"], nrip_save: ["svm"], tsc_scale: ["svm"], vmcb_clean: ["svm"], flushbyasid: ["svm"],
  decodeassists: ["svm"], pausefilter: ["svm"], pfthreshold: ["pausefilter"], avic: ["npt"], v_vmsave_vmload: ["npt"], vgif: ["svm"], vnmi: ["vgif"],
  vmx_vnmi: ["vmx"], preemption_timer: ["vmx"], vtpr: ["vmx"], mtf: ["vmx"], vapic: ["vtpr"], ept: ["vmx"], vpid: ["vmx"],
  unrestricted_guest: ["ept"], vapic_reg: ["vapic"], vid: ["vapic_reg"], posted_intr: ["vid"], ple: ["vmx"], shadow_vmcs: ["vmx"],
  pml: ["ept"], ept_violation_ve: ["ept"], ept_mode_based_exec: ["ept"], tsc_scaling: ["vmx"], vmfunc: ["ept"],
  kvmclock: ["hypervisor", "tsc"], bhi_ctrl: ["spec_ctrl"], arat: ["apic"], constant_tsc: ["tsc"],
};

/** x86-64-v2 and what operating systems expect of any 64-bit processor. */
export const baselineFeatures: readonly string[] = [
  "fpu", "vme", "de", "pse", "tsc", "msr", "pae", "mce", "cx8", "apic", "sep", "mtrr", "pge", "mca", "cmov", "pat",
  "pse36", "clflush", "mmx", "fxsr", "sse", "sse2", "sse3", "ssse3", "cx16", "sse4_1", "sse4_2", "x2apic", "popcnt",
  "arat", "syscall", "nx", "rdtscp", "lm", "lahf_lm", "constant_tsc", "spec_ctrl", "bhi_ctrl", "arch_capabilities",
];

/** VT-x as its first processors had it, and all of it that there is; parts that CPUID does not tell of are named as in /proc/cpuinfo. */
export const firstVirtualMachineExtensions: readonly string[] = ["vmx", "vmx_vnmi", "vtpr", "mtf", "vapic"];
export const virtualMachineExtensions: readonly string[] = [
  ...firstVirtualMachineExtensions, "preemption_timer", "ept", "vpid", "unrestricted_guest", "vapic_reg", "vid", "posted_intr", "ple",
  "shadow_vmcs", "pml", "ept_violation_ve", "ept_mode_based_exec", "tsc_scaling", "vmfunc",
];

/** All of AMD's virtualization that there is. */
export const secureVirtualMachineFeatures: readonly string[] = [
  "svm", "npt", "lbrv", "svm_lock", "nrip_save", "tsc_scale", "vmcb_clean", "flushbyasid", "decodeassists", "pausefilter",
  "pfthreshold", "avic", "v_vmsave_vmload", "vgif", "vnmi",
];
