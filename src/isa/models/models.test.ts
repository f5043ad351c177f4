import { expect, test } from "vitest";
import { UserError } from "../../base/errors.ts";
import { instructions } from "../instructions.ts";
import { cpuFeatureNames, cpuModelNames, createCpuModel } from "./index.ts";

const options = { tscFrequencyHz: 2_000_000_000, apicId: 0, processors: 1 };

function text(...registers: readonly number[]): string {
  const bytes = new Uint8Array(new Uint32Array(registers).buffer);
  return String.fromCharCode(...bytes).replaceAll("\0", "");
}

test.each(cpuModelNames)("%s has what 64-bit operating systems ask for", (name) => {
  const model = createCpuModel(name, options);
  const vendor = model.cpuid(0, 0);
  expect(["GenuineIntel", "AuthenticAMD", "CentaurHauls"]).toContain(text(vendor.ebx, vendor.edx, vendor.ecx));
  const brand = [0x8000_0002, 0x8000_0003, 0x8000_0004].map((leaf) => model.cpuid(leaf, 0));
  expect(text(...brand.flatMap(({ eax, ebx, ecx, edx }) => [eax, ebx, ecx, edx]))).toBe("Ringmaster Processor");
  expect(model.cpuid(0x8000_0001, 0).edx & (1 << 29)).not.toBe(0);
  for (const feature of ["lm", "nx", "sse4_2", "popcnt", "cx16"]) expect(model.hasFeature(feature)).toBe(true);
  for (const msr of [0x8b, 0xfe, 0x200, 0x20f, 0x250, 0x2ff]) expect(model.msr(msr)).toBeDefined();
});

test("the TSC frequency is exact in leaves 0x15 and 0x16", () => {
  const model = createCpuModel("intel-v2", { ...options, tscFrequencyHz: 2_400_000_000 });
  const { eax, ebx, ecx } = model.cpuid(0x15, 0);
  expect(ecx * ebx / eax).toBe(2_400_000_000);
  expect(model.cpuid(0x16, 0).eax).toBe(2400);
});

test("a TSC frequency that is no round number is as near as 32 bits allow", () => {
  for (const tscFrequencyHz of [2_445_428_000, 2_595_123_457, 3_399_999_999]) {
    const { eax, ebx, ecx } = createCpuModel("intel-v2", { ...options, tscFrequencyHz }).cpuid(0x15, 0);
    expect(Math.abs(ecx * ebx / eax / tscFrequencyHz - 1)).toBeLessThan(1e-6);
    expect(ebx * (ecx / 1000)).toBeLessThanOrEqual(0xffff_ffff);
  }
});

test("leaves beyond the last one repeat it on Intel's processors, and are empty on AMD's", () => {
  const intel = createCpuModel("intel-v2", options), amd = createCpuModel("amd-v2", options);
  for (const leaf of [0x17, 0x4000_0000, 0x8000_0009, 0xffff_ffff]) expect(intel.cpuid(leaf, 0)).toEqual(intel.cpuid(0x16, 0));
  expect(amd.cpuid(0x4000_0000, 0)).toEqual({ eax: 0, ebx: 0, ecx: 0, edx: 0 });
});

test("signatures are those of the family and model", () => {
  expect(createCpuModel("intel-v2", options).cpuid(1, 0).eax).toBe(0x206c1);
  expect(createCpuModel("amd-v2", options).cpuid(1, 0).eax).toBe(0x60fb1);
});

test("features can be added and removed with what depends on them", () => {
  const model = createCpuModel("max", { ...options, features: "+la57,-xsave" });
  expect(model.linearAddressBits).toBe(57);
  for (const gone of ["xsave", "xsavec", "xsaves", "pku"]) expect(model.hasFeature(gone)).toBe(false);
  expect(model.cpuid(0xd, 0).eax).toBe(0);
  expect(createCpuModel("amd-v2,+la57,-aes", options).linearAddressBits).toBe(57);
  expect(createCpuModel("intel-v2", { ...options, features: "+xsaves" }).hasFeature("xsave")).toBe(true);
});

test("mistakes name the choices", () => {
  expect(() => createCpuModel("i486", options)).toThrow(UserError);
  expect(() => createCpuModel("i486", options)).toThrow(/intel-v2, xeon, amd-v2, epyc, via-v2, via-vt, max/);
  expect(() => createCpuModel("max", { ...options, features: "+avx9000" })).toThrow(/avx9000.*clwb/);
  expect(() => createCpuModel("epyc,virtualization=maybe", options)).toThrow(/on\|locked-off\|unlocked/);
  expect(() => createCpuModel("max", { ...options, features: "smap" })).toThrow(/\+smap/);
});

test("every feature that instructions ask for can be named", () => {
  const asked = new Set(instructions.map(({ feature }) => feature).filter((feature) => feature !== undefined));
  expect([...asked].filter((feature) => !cpuFeatureNames.includes(feature))).toEqual([]);
});

test("topology of several processors", () => {
  const model = createCpuModel("intel-v2", { ...options, apicId: 2, processors: 3 });
  expect(model.cpuid(0xb, 1)).toEqual({ eax: 2, ebx: 3, ecx: 0x201, edx: 2 });
  expect(model.cpuid(1, 0).ebx >>> 24).toBe(2);
});

test("nested paging and its kin come with SVM and go with it", () => {
  const svmLeaf = 0x8000_000a;
  expect(createCpuModel("epyc", options).cpuid(svmLeaf, 0)).toMatchObject({ eax: 1, ecx: 0, edx: 0x201_b4ff });
  expect(createCpuModel("epyc,-svm", options).cpuid(svmLeaf, 0)).toEqual({ eax: 0, ebx: 0, ecx: 0, edx: 0 });
  expect(createCpuModel("amd-v2,+npt", options).hasFeature("svm")).toBe(true);
  expect(createCpuModel("epyc,virtualization=unlocked", options).virtualization).toBe("unlocked");
});
