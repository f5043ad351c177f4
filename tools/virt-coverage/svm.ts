/** The inventory of AMD's SVM: what is offered comes from CPUID and the tables of the product, what is left out stands here with the reason. */
import { readFile } from "node:fs/promises";
import { featureBits } from "../../src/isa/models/features.ts";
import { createCpuModel } from "../../src/isa/models/index.ts";
import { ExitCode, exitCodeName, Intercept, ownIntercepts } from "../../src/virt/svm/exit-codes.ts";
import { consistencyChecks } from "../../src/virt/svm/checks.ts";
import { vmcbFields } from "../../src/virt/svm/vmcb.ts";
import { leftOut, offered, registerRows, type Evidence, type Inventory, type InventoryRow } from "./inventory.ts";

const featureLeaf = 0x8000_000a;
const noX2Avic = "AVIC's page is there, its x2APIC form is that of later processors than the model's";
const noShadowStacks = "there are no shadow stacks", noMachineChecks = "there are no machine checks", noSmm = "there is no system-management mode";

const featuresLeftOut: Readonly<Record<number, readonly [name: string, reason: string]>> = {
  17: ["guest-mode execute trap", "no hypervisor of the inventory uses it"], 18: ["x2AVIC", noX2Avic],
  19: ["supervisor shadow-stack restrictions", noShadowStacks], 20: ["SPEC_CTRL virtualization", "the processor does not speculate"],
  21: ["read-only guest page tables", "no hypervisor of the inventory uses it"], 23: ["host machine-check override", noMachineChecks],
  24: ["INVLPGB and TLBSYNC", "the model does not have them"], 26: ["virtual instruction-based sampling", "there is no instruction-based sampling"],
  27: ["extended LVT of AVIC", "the local APIC has no further entries"], 28: ["check of VMCB addresses", "no hypervisor of the inventory needs it"],
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

/** A guest that was left for it, and one that was not though it could have been. */
function exitRow(section: string, code: number, reason: string | undefined, admitted: Evidence): InventoryRow {
  const place = `0x${code.toString(16)}`, name = exitCodeName(code);
  return reason === undefined ? offered(section, place, name, `exit ${code}`, admitted) : leftOut(section, place, name, reason);
}

/** What shows that a guest stays, where that is not the instruction's own name. */
const admittedBy: Readonly<Partial<Record<keyof typeof Intercept, Evidence>>> = {
  INTR: "admitted interrupt", NMI: "admitted nmi", INIT: "admitted init", CR0_SEL_WRITE: "admitted write cr 0", IDTR_READ: "admitted sidt", GDTR_READ: "admitted sgdt",
  LDTR_READ: "admitted sldt", TR_READ: "admitted str", IDTR_WRITE: "admitted lidt", GDTR_WRITE: "admitted lgdt", LDTR_WRITE: "admitted lldt",
  TR_WRITE: "admitted ltr", PUSHF: "admitted pushfq", POPF: "admitted popfq", SWINT: "admitted int", IOIO: "admitted in", MSR: "admitted rdmsr",
  TASK_SWITCH: "admitted task switch",
};

function interceptRow(name: keyof typeof Intercept): InventoryRow {
  const code = ExitCode.miscellaneous + Intercept[name];
  if (name === "VMRUN" || name === "VMMCALL") return offered("intercepts", `0x${code.toString(16)}`, `${name}, whose guests could do nothing else`, `exit ${code}`);
  const usual: Evidence = name === "VINTR" || name === "SHUTDOWN" ? `covers staying instead of ${name}` : `admitted ${name.toLowerCase()}`;
  return exitRow("intercepts", code, interceptsLeftOut[name], admittedBy[name] ?? usual);
}

function exitRows(): InventoryRow[] {
  const accesses = (section: string, file: "cr" | "dr", read: number, write: number, numbers: readonly number[]): InventoryRow[] => numbers.flatMap((number) => [
    exitRow(section, read + number, undefined, `admitted read ${file} ${number}`), exitRow(section, write + number, undefined, `admitted write ${file} ${number}`),
  ]);
  const vectors = Array.from({ length: highestException + 1 }, (_, vector) => vector).filter((vector) => vector < 22 || exceptionsLeftOut[vector] !== undefined);
  return [
    ...accesses("control registers", "cr", ExitCode.crRead, ExitCode.crWrite, [0, 3, 4, 8]),
    ...accesses("debug registers", "dr", ExitCode.drRead, ExitCode.drWrite, [0, 1, 2, 3, 4, 5, 6, 7]),
    ...vectors.map((vector) => exitRow("exceptions", ExitCode.exception + vector, exceptionsLeftOut[vector], `delivered ${vector}`)),
    ...(Object.keys(Intercept) as (keyof typeof Intercept)[]).map((name) => interceptRow(name)),
    offered("others", "0x400", "NPF", `exit ${ExitCode.nestedPageFault}`, "covers SVM npt"),
    offered("others", "0x401", exitCodeName(ExitCode.avicIncompleteIpi), `exit ${ExitCode.avicIncompleteIpi}`, "covers SVM avic"),
    offered("others", "0x402", exitCodeName(ExitCode.avicUnaccelerated), `exit ${ExitCode.avicUnaccelerated}`, "covers SVM avic"),
    offered("others", "-1", "INVALID: a VMCB that fails a check", `exit ${ExitCode.invalid}`),
  ];
}

/** Names that the guests' library has for fields of the VMCB, by offset. */
async function namesByOffset(): Promise<ReadonlyMap<number, readonly string[]>> {
  const text = await readFile(new URL("../../guests/virt/lib/svm.inc", import.meta.url), "utf8");
  const names = new Map<number, string[]>();
  for (const [, name, digits] of text.matchAll(/^(\w+)\s+equ VMCB \+ 0x([0-9a-f]+)$/gmu)) {
    const offset = Number.parseInt(digits, 16);
    names.set(offset, [...names.get(offset) ?? [], name]);
  }
  return names;
}

/** What VMLOAD and VMSAVE move. */
const additionalFields = /^(?:(?:FS|GS|LDTR|TR)\.|(?:STAR|LSTAR|CSTAR|SFMASK|KERNEL_GS_BASE|SYSENTER_CS|SYSENTER_ESP|SYSENTER_EIP)$)/u;

function fieldEvidence(name: string, offset: number, names: ReadonlyMap<number, readonly string[]>): readonly Evidence[] {
  const segmentBytes = 16, segmentsEnd = 0x4a0, saveArea = 0x400;
  if (additionalFields.test(name)) return ["covers fields of VMLOAD and VMSAVE"];
  // Guests set bits of the three words by the intercept's number, counted through.
  if (name.startsWith("INTERCEPT_MISC")) {
    const word = Number(name.at(-1)) - 1;
    return Object.values(Intercept).filter((number) => number >>> 5 === word).slice(0, 1).map((number): Evidence => `exit ${ExitCode.miscellaneous + number}`);
  }
  const isSegment = offset >= saveArea && offset < segmentsEnd;
  return (names.get(isSegment ? offset - offset % segmentBytes : offset) ?? []).map((word): Evidence => `instruction ${word}`);
}

async function fieldRows(): Promise<InventoryRow[]> {
  const names = await namesByOffset();
  return vmcbFields.map(({ name, offset }) => {
    const place = `0x${offset.toString(16)}`;
    const reason = /^(?:GDTR|IDTR)\.(?:selector|attributes)$/u.test(name) ? "reserved: the processor has no such part" : undefined;
    return reason === undefined ? offered("VMCB", place, name, ...fieldEvidence(name, offset, names)) : leftOut("VMCB", place, name, reason);
  });
}

export const svmInventory: Inventory = {
  title: "AMD SVM",
  guestPrefix: "svm-",
  rows: [
    ...registerRows("CPUID 8000_000A EDX", BigInt(model.cpuid(featureLeaf, 0).edx >>> 0), features, featuresLeftOut, (bit) => [`covers SVM ${features[bit]}`]),
    ...["VM_CR", "VM_HSAVE_PA", "TSC_RATIO", "DOORBELL"].map((name) => offered("registers", "", name, `covers MSR ${name}`)),
    ...Object.keys(ownIntercepts).map((name) => offered("instructions", "", name.toUpperCase(), `instruction ${name}`)),
    leftOut("instructions", "", "SKINIT", noSecureLoader),
    ...await fieldRows(),
    ...consistencyChecks.map(({ problem }) => offered("checks of VMRUN", "", problem, `passed ${problem}`, `failed ${problem}`)),
    ...exitRows(),
    offered("what hypervisors ask for", "", "VM_CR with bit 4 clear, EFER.SVME 0 at first, VM_HSAVE_PA, NX", "covers virtualization=on", "covers MSR VM_CR", "covers MSR VM_HSAVE_PA"),
    offered("what hypervisors ask for", "", "KVM with nested paging and without, a second kernel, a third level", "test tools/test-nested.ts: kvm_amd", "test tools/test-nested.ts: third"),
  ],
};
