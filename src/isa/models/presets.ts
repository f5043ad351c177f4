/** The CPU models to choose from, as data. */
import { baselineFeatures, firstVirtualMachineExtensions, secureVirtualMachineFeatures, virtualMachineExtensions } from "./features.ts";

export interface CpuPreset {
  readonly name: string;
  readonly vendor: "intel" | "amd" | "via";
  readonly family: number;
  readonly model: number;
  readonly stepping: number;
  readonly physicalAddressBits: number;
  readonly features: readonly string[];
}

export const vendorStrings: Readonly<Record<CpuPreset["vendor"], string>> = {
  intel: "GenuineIntel", amd: "AuthenticAMD", via: "CentaurHauls",
};

/** What every model reports as its name. */
export const brandString = "Ringmaster Processor";

export const defaultCpuModelName = "intel-v2";

export const presets: readonly CpuPreset[] = [
  {
    // Westmere's numbers: the first of Intel's with all of x86-64-v2 and AES, and known to every operating system.
    name: "intel-v2", vendor: "intel", family: 6, model: 44, stepping: 1, physicalAddressBits: 40,
    features: [...baselineFeatures, "tsc_deadline", "pdpe1gb", "aes", "pclmulqdq"],
  },
  {
    // Skylake-SP's numbers, and what of its features there is.
    name: "xeon", vendor: "intel", family: 6, model: 85, stepping: 4, physicalAddressBits: 46,
    features: [
      ...baselineFeatures, "tsc_deadline", "pdpe1gb", "aes", "pclmulqdq", "movbe", "rdrand", "rdseed", "fsgsbase", "xsave",
      "xsaveopt", "xsavec", "xgetbv1", "xsaves", "invpcid", "clflushopt", "clwb", "smep", "smap", "pcid", "pku",
      "3dnowprefetch", ...virtualMachineExtensions,
    ],
  },
  {
    name: "amd-v2", vendor: "amd", family: 15, model: 107, stepping: 1, physicalAddressBits: 40,
    features: [...baselineFeatures, "pdpe1gb", "aes", "pclmulqdq", "altmovcr8", "3dnowprefetch", "lfence_rdtsc", "null_sel_clr_base"],
  },
  {
    // Zen's numbers, and what of its features there is.
    name: "epyc", vendor: "amd", family: 23, model: 1, stepping: 2, physicalAddressBits: 48,
    features: [
      ...baselineFeatures, "pdpe1gb", "aes", "pclmulqdq", "sha", "movbe", "rdrand", "rdseed", "fsgsbase", "xsave", "xsaveopt",
      "xsavec", "xgetbv1", "clflushopt", "smep", "smap", "altmovcr8", "3dnowprefetch", "lfence_rdtsc", "null_sel_clr_base",
      ...secureVirtualMachineFeatures,
    ],
  },
  {
    name: "via-v2", vendor: "via", family: 6, model: 15, stepping: 12, physicalAddressBits: 36,
    features: [...baselineFeatures],
  },
  {
    // VIA's VT-x is that of Intel's first processors with it.
    name: "via-vt", vendor: "via", family: 6, model: 15, stepping: 14, physicalAddressBits: 36,
    features: [...baselineFeatures, ...firstVirtualMachineExtensions],
  },
  {
    name: "max", vendor: "intel", family: 6, model: 44, stepping: 1, physicalAddressBits: 46,
    features: [
      ...baselineFeatures, "tsc_deadline", "pdpe1gb", "aes", "pclmulqdq", "sha", "movbe", "rdrand", "rdseed", "fsgsbase",
      "xsave", "xsaveopt", "xsavec", "xgetbv1", "xsaves", "invpcid", "clflushopt", "clwb", "smep", "smap", "umip", "pcid",
      "pku", "rdpid", "serialize", "3dnowprefetch",
    ],
  },
];
