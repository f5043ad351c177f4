/** A machine's CPU model as KVM gets it: CPUID leaves, the model-specific registers it may handle by itself, and what it lacks. */
import { featureBits } from "../../isa/models/features.ts";
import type { CpuModel } from "../../isa/processor.ts";
import { Msr } from "../../isa/system/model-specific.ts";
import { cpuidSignificantIndexMask, MsrFilterFlag, Size } from "./abi.ts";
import type { HostCalls } from "./host-calls.ts";

export interface CpuidRow {
  readonly leaf: number;
  readonly subleaf: number;
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
}

/** Leaves with subleaves, and how many. */
const subleafCounts: ReadonlyMap<number, number> = new Map([[4, 5], [7, 3], [0xb, 3], [0xd, 10], [0x8000_001d, 5]]);
const hypervisorLeaves = [0x4000_0000, 0x4000_0010];
/** Where the model has KVM's own leaves, and where KVM lists what it supports of them. */
const kvmLeaves = [0x4000_0100, 0x4000_0101], kvmFeatureLeaf = 0x4000_0101, supportedKvmFeatureLeaf = 0x4000_0001;

/** struct kvm_cpuid2 of the rows. */
export function cpuidTable(rows: readonly CpuidRow[]): DataView<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(8 + rows.length * Size.cpuidEntry));
  view.setUint32(0, rows.length, true);
  rows.forEach(({ leaf, subleaf, eax, ebx, ecx, edx }, index) => {
    const flags = subleafCounts.has(leaf) ? cpuidSignificantIndexMask : 0;
    [leaf, subleaf, flags, eax, ebx, ecx, edx].forEach((word, at) => view.setUint32(8 + index * Size.cpuidEntry + at * 4, word, true));
  });
  return view;
}

export function parseCpuidTable(view: DataView): CpuidRow[] {
  return Array.from({ length: view.getUint32(0, true) }, (_, index) => {
    const word = (at: number): number => view.getUint32(8 + index * Size.cpuidEntry + at * 4, true);
    return { leaf: word(0), subleaf: word(1), eax: word(3), ebx: word(4), ecx: word(5), edx: word(6) };
  });
}

/** All leaves of a model. */
export function cpuidRows(model: CpuModel): CpuidRow[] {
  const range = (first: number, last: number): number[] => Array.from({ length: last - first + 1 }, (_, index) => first + index);
  const leaves = [
    ...range(0, model.cpuid(0, 0).eax), ...(model.hasFeature("hypervisor") ? hypervisorLeaves : []), ...(model.hasFeature("kvmclock") ? kvmLeaves : []),
    ...range(0x8000_0000, model.cpuid(0x8000_0000, 0).eax >>> 0),
  ];
  return leaves.flatMap((leaf) => range(0, (subleafCounts.get(leaf) ?? 1) - 1).map((subleaf) => ({ leaf, subleaf, ...model.cpuid(leaf, subleaf) })));
}

/** Features that we make out of what every host has, or that only say how the virtual machine behaves. */
const madeByUs: ReadonlySet<string> = new Set([
  // Registers of ours, see `kernelMsrs`; the machine's TSC never stops.
  "spec_ctrl", "bhi_ctrl", "arch_capabilities", "mtrr", "mca", "mce", "constant_tsc",
  // The local APIC is ours.
  "apic", "x2apic", "tsc_deadline", "arat", "hypervisor",
  // Declarations without an effect.
  "ss", "ht", "erms", "fsrm", "lfence_rdtsc", "null_sel_clr_base",
]);
const pkruLeaf = 0xd, pkruSubleaf = 9;

/** Features of the model that this host's KVM cannot give its guests; `deadlineExits`: writes of IA32_TSC_DEADLINE come to us. */
export function missingFeatures(model: CpuModel, supported: readonly CpuidRow[], deadlineExits: () => boolean): string[] {
  const find = (leaf: number, subleaf: number): CpuidRow | undefined => supported.find((row) => row.leaf === leaf && row.subleaf === subleaf);
  const names = [...featureBits].filter(([name, { leaf, subleaf, register, bit }]) =>
    model.hasFeature(name) && !madeByUs.has(name) && ((find(leaf === kvmFeatureLeaf ? supportedKvmFeatureLeaf : leaf, subleaf)?.[register] ?? 0) & (1 << bit)) === 0).map(([name]) => name);
  // The area's layout is the host processor's.
  const isElsewhere = model.hasFeature("pku") && find(pkruLeaf, pkruSubleaf)?.ebx !== model.cpuid(pkruLeaf, pkruSubleaf).ebx;
  if (isElsewhere && !names.includes("pku")) names.push("pku");
  if (model.hasFeature("tsc_deadline") && !deadlineExits()) names.push("tsc_deadline");
  return names;
}

/** Registers that KVM handles by itself, or lets the guest reach without an exit; all others are the model's and the machine's. */
const kernelMsrs = {
  readAndWrite: [
    Msr.SYSENTER_CS, Msr.SYSENTER_ESP, Msr.SYSENTER_EIP, Msr.PAT, Msr.EFER, Msr.STAR, Msr.LSTAR, Msr.CSTAR, Msr.FMASK,
    Msr.FS_BASE, Msr.GS_BASE, Msr.KERNEL_GS_BASE, Msr.TSC_AUX,
  ],
  // The machine's clock has to know of a new time stamp.
  read: [Msr.TSC],
} as const;

const filterRanges = [
  { base: 0x10, count: 8 }, { base: 0x170, count: 8 }, { base: 0x270, count: 8 },
  { base: 0xc000_0080, count: 8 }, { base: 0xc000_0100, count: 8 }, { base: 0x4b56_4d00, count: 8 },
] as const;

/** MSR_KVM_WALL_CLOCK_NEW, MSR_KVM_SYSTEM_TIME_NEW: where KVM keeps its clock in the guest's memory. */
export const clockMsrs: readonly number[] = [0x4b56_4d00, 0x4b56_4d01];

/** struct kvm_msr_filter: everything exits but `kernelMsrs`, and the clock's where the model has it. Its bitmaps lie behind it. */
export function msrFilter(calls: HostCalls, model: CpuModel): DataView<ArrayBuffer> {
  const both: readonly number[] = [...kernelMsrs.readAndWrite, ...(model.hasFeature("kvmclock") ? clockMsrs : [])];
  const passes = [
    { flag: MsrFilterFlag.readMask, registers: [...both, ...kernelMsrs.read] },
    { flag: MsrFilterFlag.writeMask, registers: both },
  ];
  const ranges = passes.flatMap(({ flag, registers }) => filterRanges.flatMap(({ base, count }) => {
    const bits = registers.filter((index) => index >= base && index < base + count).reduce((set, index) => set | (1 << (index - base)), 0);
    return bits === 0 ? [] : [{ flag, base, count, bits }];
  }));
  const filter = new DataView(new ArrayBuffer(Size.msrFilter + 8 * ranges.length));
  // SAFETY: the bitmaps' addresses are inside of the structure's own buffer, which the request holds on to.
  const bitmaps = calls.addressOf(new Uint8Array(filter.buffer)) + BigInt(Size.msrFilter);
  filter.setUint32(0, MsrFilterFlag.defaultDenyMask, true);
  ranges.forEach(({ flag, base, count, bits }, index) => {
    const at = 8 + index * 24;
    filter.setUint32(at, flag, true);
    filter.setUint32(at + 4, count, true);
    filter.setUint32(at + 8, base, true);
    filter.setBigUint64(at + 16, bitmaps + BigInt(8 * index), true);
    filter.setUint8(Size.msrFilter + 8 * index, bits);
  });
  return filter;
}
