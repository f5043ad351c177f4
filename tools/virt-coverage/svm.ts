/** The inventory of AMD's SVM: what is offered comes from CPUID and the tables of the product, what is left out stands here with the reason. */
import { featureBits } from "../../src/isa/models/features.ts";
import { createCpuModel } from "../../src/isa/models/index.ts";
import { ExitCode, exitCodeName, Intercept, ownIntercepts } from "../../src/virt/svm/exit-codes.ts";
import { registerRows, type Inventory, type InventoryRow } from "./inventory.ts";

const featureLeaf = 0x8000_000a;
const noIommuDoorbells = "the local APIC of the machine keeps no pages of its own for guests; KVM leaves it off by default";
const noShadowStacks = "there are no shadow stacks", noMachineChecks = "there are no machine checks", noSmm = "there is no system-management mode";

const featuresLeftOut: Readonly<Record<number, readonly [name: string, reason: string]>> = {
  1: ["LBR virtualization", "there are no last-branch records"],
  13: ["AVIC", noIommuDoorbells], 17: ["guest-mode execute trap", "no hypervisor of the inventory uses it"], 18: ["x2AVIC", noIommuDoorbells],
  19: ["supervisor shadow-stack restrictions", noShadowStacks], 20: ["SPEC_CTRL virtualization", "the processor does not speculate"],
  21: ["read-only guest page tables", "no hypervisor of the inventory uses it"], 23: ["host machine-check override", noMachineChecks],
  24: ["INVLPGB and TLBSYNC", "the model does not have them"], 26: ["virtual instruction-based sampling", "there is no instruction-based sampling"],
  27: ["extended LVT of AVIC", noIommuDoorbells], 28: ["check of VMCB addresses", "no hypervisor of the inventory needs it"],
  29: ["bus-lock threshold", "the bus is never locked"], 30: ["idle HLT intercept", "later than the model"],
};

const noSecureLoader = "there is no secure loader, as on processors without a TPM";
const interceptsLeftOut: Readonly<Partial<Record<keyof typeof Intercept, string>>> = {
  SMI: noSmm, RSM: noSmm, FERR_FREEZE: "FERR# does not freeze the processor", SKINIT: noSecureLoader,
  MWAIT_CONDITIONAL: "the monitor is never armed", RDPRU: "the model does not have it",
};
/** Exceptions that the model does not raise. */
const exceptionsLeftOut: Readonly<Record<number, string>> = {
  2: "NMIs have an intercept of their own", 9: "processors since the 486 do not raise it", 15: "reserved", 18: noMachineChecks, 20: "Intel's", 21: noShadowStacks,
  28: "there are no encrypted guests", 29: "there are no encrypted guests", 30: "there are no encrypted guests",
};
const highestException = 30;

const model = createCpuModel("epyc", { tscFrequencyHz: 1_000_000_000, apicId: 0, processors: 1 });
const features = Object.fromEntries(
  [...featureBits].filter(([, { leaf, register }]) => leaf === featureLeaf && register === "edx").map(([name, { bit }]) => [bit, name]),
);

function exitRow(section: string, code: number, leftOut?: string): InventoryRow {
  const place = `0x${code.toString(16)}`;
  return { section, place, name: exitCodeName(code), evidence: [`exit ${code}`], ...(leftOut === undefined ? {} : { leftOut }) };
}

function exitRows(): InventoryRow[] {
  const controlRegisters = [0, 3, 4, 8].flatMap((number) => [
    exitRow("control registers", ExitCode.crRead + number), exitRow("control registers", ExitCode.crWrite + number),
  ]);
  const debugRegisters = Array.from({ length: 8 }, (_, number) => number).flatMap((number) => [
    exitRow("debug registers", ExitCode.drRead + number), exitRow("debug registers", ExitCode.drWrite + number),
  ]);
  const exceptions = Array.from({ length: highestException + 1 }, (_, vector) => vector)
    .filter((vector) => vector < 22 || exceptionsLeftOut[vector] !== undefined)
    .map((vector) => exitRow("exceptions", ExitCode.exception + vector, exceptionsLeftOut[vector]));
  const intercepts = Object.entries(Intercept).map(([name, number]) =>
    exitRow("intercepts", ExitCode.miscellaneous + number, interceptsLeftOut[name as keyof typeof Intercept]));
  return [
    ...controlRegisters, ...debugRegisters, ...exceptions, ...intercepts,
    exitRow("others", ExitCode.nestedPageFault),
    { section: "others", place: "-1", name: "INVALID: a VMCB that fails a check", evidence: [`exit ${ExitCode.invalid}`] },
  ];
}

export const svmInventory: Inventory = {
  title: "AMD SVM",
  guestPrefix: "svm-",
  rows: [
    ...registerRows("CPUID 8000_000A EDX", BigInt(model.cpuid(featureLeaf, 0).edx >>> 0), features, featuresLeftOut, (bit) => [`covers SVM ${features[bit]}`]),
    ...["VM_CR", "VM_HSAVE_PA", "TSC_RATIO"].map((name): InventoryRow => ({ section: "registers", place: "", name, evidence: [`covers MSR ${name}`] })),
    ...Object.keys(ownIntercepts).map((name): InventoryRow => ({ section: "instructions", place: "", name: name.toUpperCase(), evidence: [`instruction ${name}`] })),
    { section: "instructions", place: "", name: "SKINIT", leftOut: noSecureLoader, evidence: [] },
    ...exitRows(),
  ],
};
