/** Every CPUID bit that a model can have, outside of the leaves that belong to an extension of virtualization. */
import { featureBits, notInCpuid } from "../../src/isa/models/features.ts";
import { leftOut, offered, type Evidence, type Inventory } from "./inventory.ts";

const svmLeaf = 0x8000_000a;

/** Levels of the instruction set that consist of what a bit stands for. */
const formsOf: Readonly<Record<string, readonly string[]>> = {
  v1: ["fpu", "tsc", "msr", "cx8", "cmov", "mmx", "fxsr", "sse", "sse2"],
  v2: ["sse3", "ssse3", "cx16", "sse4_1", "sse4_2", "popcnt", "lahf_lm"],
  AES: ["aes"], PCLMULQDQ: ["pclmulqdq"], SHA: ["sha"], MOVBE: ["movbe"], RDRAND: ["rdrand"], RDSEED: ["rdseed"], FSGSBASE: ["fsgsbase"],
  RDTSCP: ["rdtscp"], XSAVE: ["xsave"], XSAVEC: ["xsavec"], XSAVEOPT: ["xsaveopt"], INVPCID: ["invpcid"], CLFLUSHOPT: ["clflushopt"], CLFLUSH: ["clflush"],
  SMAP: ["smap"], PKU: ["pku"],
};

/** What else shows a bit; a guest's `; covers: CPUID …` where nothing stands here. */
const elsewhere: Readonly<Record<string, readonly Evidence[]>> = {
  vmx: ["control entry 9"], svm: ["covers SVM npt"], xsaves: ["admitted xsaves64"], monitor: ["admitted monitor", "admitted mwait"],
  smap: ["covers CPUID smap"], pku: ["covers CPUID pku"],
  ht: ["test src/isa/models/models.test.ts: topology of several processors"],
  la57: ["test src/engine/mmu.test.ts: with five levels bit 56 decides"],
  arat: ["test src/machine/deterministic.test.ts: waiting skips time and retires nothing"],
  kvmclock: ["test tests/kvm/kvmclock.test.ts: tells the machine's time"],
  clwb: ["test tests/differential/coverage.json: 64 clwb"], "3dnowprefetch": ["test tests/differential/coverage.json: 64 prefetchw"],
  erms: ["test src/engine/string-runs.test.ts: a page is filled by few runs"], fsrm: ["test src/engine/string-runs.test.ts: a page is filled by few runs"],
};

/** What only the kvm accelerator passes on from its host. */
const notOurs: Readonly<Record<string, string>> = { ss: "our models have no caches that could snoop; the kvm accelerator passes the host's bit on" };

function evidenceOf(name: string): readonly Evidence[] {
  const forms = Object.entries(formsOf).filter(([, names]) => names.includes(name)).map(([level]): Evidence => `forms ${level}`);
  const others = elsewhere[name] ?? [];
  return forms.length + others.length === 0 ? [`covers CPUID ${name}`] : [...forms, ...others];
}

export const cpuidInventory: Inventory = {
  title: "CPUID", guestPrefix: "",
  rows: [...featureBits].filter(([, { leaf }]) => leaf !== notInCpuid && leaf !== svmLeaf).map(([name, { leaf, subleaf, register, bit }]) => {
    const section = `leaf ${leaf.toString(16).toUpperCase()}${subleaf === 0 ? "" : `.${subleaf}`} ${register.toUpperCase()}`;
    const reason = notOurs[name];
    return reason === undefined ? offered(section, String(bit), name, ...evidenceOf(name)) : leftOut(section, String(bit), name, reason);
  }),
};
