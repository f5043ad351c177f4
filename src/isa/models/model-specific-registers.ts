/** Model-specific registers that are storage or constants (SDM volume 4; AMD BIOS and Kernel Developer's Guides). */
import type { CpuPreset } from "./presets.ts";

export interface StorageRegister {
  readonly value: bigint;
  /** Bits that WRMSR may change; none: WRMSR raises #GP. */
  readonly writable: bigint;
}

type Rows = readonly (readonly [index: number, value: bigint, writable: bigint])[];

const all = 0xffff_ffff_ffff_ffffn;

/** Eight variable ranges, fixed ranges, write-combining. */
const memoryTypeCapability = 0x508n;
/** Enabled, fixed ranges enabled, write-back by default: as firmware leaves it, for guests that are started without one. */
const memoryTypeDefault = 0xc06n;
const writeBackEverywhere = 0x0606_0606_0606_0606n;

function memoryTypeRanges(physicalAddressBits: number): Rows {
  const addressMask = ((1n << BigInt(physicalAddressBits)) - 1n) & ~0xfffn;
  const fixed = [0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f];
  return [
    [0xfe, memoryTypeCapability, 0n],
    [0x2ff, memoryTypeDefault, 0xcffn],
    ...fixed.map((index) => [index, writeBackEverywhere, all] as const),
    ...Array.from({ length: 8 }, (_, range) => [0x200 + 2 * range, 0n, addressMask | 0xffn] as const),
    ...Array.from({ length: 8 }, (_, range) => [0x201 + 2 * range, 0n, addressMask | 0x800n] as const),
  ];
}

const Capability = {
  noMeltdown: 1n << 0n, enhancedIbrs: 1n << 1n, noFlushAtEntry: 1n << 3n, noStoreBypass: 1n << 4n,
  noDataSampling: 1n << 5n, noPageSizeMachineCheck: 1n << 6n, noTransactionAbort: 1n << 8n, noStaleSharedBuffers: 1n << 13n,
  noStaleFillBuffers: 1n << 14n, noStalePrimaryData: 1n << 15n, noBranchHistory: 1n << 20n, noReturnBuffer: 1n << 24n,
  noGatherSampling: 1n << 26n, noRegisterFile: 1n << 27n, noTargetSelection: 1n << 62n,
} as const;

/** Nothing is executed speculatively, so that none of the known weaknesses is there. */
const architecturalCapabilities = Object.values(Capability).reduce((mask, bit) => mask | bit, 0n);

const common: Rows = [
  // Microcode revision: software writes 0 before it reads.
  [0x8b, 0n, all],
  // Machine-check capabilities: no banks. Status, and control of none.
  [0x179, 0n, 0n],
  [0x17a, 0n, 0x7n],
  // Debug control: LBR and BTF.
  [0x1d9, 0n, 0x3n],
];

const speculationRows: Rows = [
  // Speculation control: IBRS, STIBP, SSBD, BHI_DIS_S.
  [0x48, 0n, 0x407n],
  [0x49, 0n, 0x1n],
  [0x10a, architecturalCapabilities, 0n],
];

const intelRows: Rows = [
  [0x17, 0n, 0n],
  [0x2a, 0n, 0n],
  [0x34, 0n, 0n],
  // IA32_FEATURE_CONTROL: locked, neither VMX nor SMX.
  [0x3a, 0x1n, 0n],
  [0xce, 0n, 0n],
  // IA32_MISC_FEATURES_ENABLES: written by operating systems without a look at what there is.
  [0x140, 0n, 0x1n],
  // IA32_MISC_ENABLE: fast strings; branch trace and precise events unavailable. MONITOR, CPUID limit and XD can be set.
  [0x1a0, 0x1801n, 0x4_0044_0009n],
  [0x1db, 0n, 0n], [0x1dc, 0n, 0n], [0x1dd, 0n, 0n], [0x1de, 0n, 0n],
];

/** AMD: SYSCFG, HWCR, top of memory, northbridge, message interrupt, configuration base, patch level and chicken bits. */
const amdRows: Rows = [
  [0xc001_0010, 0n, 0x7c_0000n],
  [0xc001_0015, 0n, 0xffff_ffffn],
  [0xc001_001a, 0n, all], [0xc001_001d, 0n, all],
  [0xc001_001f, 0n, all],
  [0xc001_0055, 0n, 0xffff_ffffn],
  [0xc001_0058, 0n, all],
  [0xc001_0112, 0n, all], [0xc001_0113, 0n, all],
  [0xc001_1020, 0n, all], [0xc001_1021, 0n, all], [0xc001_1022, 0n, all], [0xc001_1023, 0n, all],
  [0xc001_1028, 0n, all], [0xc001_1029, 0x2n, all], [0xc001_102a, 0n, all],
];

/** The plain registers of a model. */
export function storageRegisters(preset: CpuPreset, features: ReadonlySet<string>): ReadonlyMap<number, StorageRegister> {
  const rows = [
    ...common,
    ...(features.has("mtrr") ? memoryTypeRanges(preset.physicalAddressBits) : []),
    ...(features.has("spec_ctrl") ? speculationRows.slice(0, 2) : []),
    ...(features.has("arch_capabilities") ? speculationRows.slice(2) : []),
    ...(preset.vendor === "amd" ? amdRows : intelRows),
  ];
  return new Map(rows.map(([index, value, writable]) => [index, { value, writable }]));
}
