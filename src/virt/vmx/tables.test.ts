/** The tables of VMX: fields with their places, controls, capability registers. */
import { expect, test } from "vitest";
import { createCpuModel } from "../../isa/models/index.ts";
import { vmcsRegionBytes, vmxCapabilities, VmxMsr } from "./capabilities.ts";
import { controls } from "./controls.ts";
import { Field, findField, sizeBytesOf, vmcsFields } from "./fields.ts";
import { Vmcs } from "./vmcs.ts";

test("no two fields share an encoding or a byte, and all are within the region", () => {
  expect(new Set(vmcsFields.map(({ encoding }) => encoding)).size).toBe(vmcsFields.length);
  const bytes = vmcsFields.flatMap(({ offset, width }) => Array.from({ length: sizeBytesOf(width) }, (_, byte) => offset + byte));
  expect(new Set(bytes).size).toBe(bytes.length);
  expect(Math.max(...bytes)).toBeLessThan(vmcsRegionBytes);
  for (const { offset, width } of vmcsFields) expect(offset % sizeBytesOf(width)).toBe(0);
});

test.each([
  [0x4002, "primaryControls", 32, "control"], [0x681e, "guestRip", "natural", "guest"], [0x2400, "guestPhysicalAddress", 64, "read-only"],
  [0x0c0c, "hostTRSelector", 16, "host"], [0x4822, "guestTRAccessRights", 32, "guest"], [0x6814, "guestTRBase", "natural", "guest"],
] as const)("%i is %s", (encoding, key, width, type) => {
  expect(findField(encoding)).toEqual({ field: Field[key], isHigh: false });
  expect(Field[key]).toMatchObject({ width, type });
});

test("only 64-bit fields have a second encoding", () => {
  expect(findField(0x2001)).toEqual({ field: Field.ioBitmapA, isHigh: true });
  for (const encoding of [0x4003, 0x0801, 0x6801, 0x1000, 0x2_4002, 0x9000]) expect(findField(encoding)).toBeUndefined();
});

test("a field's value fills its width and no more", () => {
  for (const field of vmcsFields) {
    const vmcs = new Vmcs(0);
    vmcs.set(field, 0xffff_ffff_ffff_ffffn);
    expect(vmcs.get(field)).toBe((1n << BigInt(sizeBytesOf(field.width) * 8)) - 1n);
    expect(vmcs.bytes.filter((byte) => byte !== 0).length).toBe(sizeBytesOf(field.width));
  }
});

const options = { tscFrequencyHz: 1_000_000_000, apicId: 0, processors: 1 };

test("without EPT and VPIDs there is no register for them", () => {
  const { registers } = vmxCapabilities(createCpuModel("via-vt", options), 0x2000);
  expect(registers.has(VmxMsr.EPT_VPID_CAP)).toBe(false);
  expect(registers.has(VmxMsr.VMFUNC)).toBe(false);
  expect(vmxCapabilities(createCpuModel("xeon,-ept", options), 0x2000).registers.get(VmxMsr.EPT_VPID_CAP)! & 0xffff_ffffn).toBe(0n);
});

test("capability registers of the first processors and the TRUE ones differ in what may be 0", () => {
  const { registers } = vmxCapabilities(createCpuModel("xeon", options), 0x2000);
  const low = (msr: number): bigint => registers.get(msr)! & 0xffff_ffffn;
  expect(low(VmxMsr.PINBASED_CTLS)).toBe(0x16n);
  expect(low(VmxMsr.PROCBASED_CTLS)).toBe(0x401_e172n);
  expect(low(VmxMsr.TRUE_PROCBASED_CTLS)).toBe(0x400_6172n);
  expect(low(VmxMsr.EXIT_CTLS)).toBe(0x3_6dffn);
  expect(low(VmxMsr.TRUE_EXIT_CTLS)).toBe(0x3_6dfbn);
  expect(low(VmxMsr.ENTRY_CTLS)).toBe(0x11ffn);
  expect(low(VmxMsr.TRUE_ENTRY_CTLS)).toBe(0x11fbn);
  for (const [msr, value] of registers) {
    const isControls = (msr >= VmxMsr.PINBASED_CTLS && msr <= VmxMsr.ENTRY_CTLS) || (msr >= VmxMsr.TRUE_PINBASED_CTLS && msr <= VmxMsr.TRUE_ENTRY_CTLS);
    if (isControls) expect(value & 0xffff_ffffn & ~(value >> 32n)).toBe(0n);
  }
});

test("what the model lacks is not offered", () => {
  const secondaryOf = (model: string): number => vmxCapabilities(createCpuModel(model, options), 0x2000).controls.secondary.mayBeOne;
  const lost = (model: string): string[] => controls.filter(({ group, mask }) =>
    group === "secondary" && (secondaryOf("xeon") & ~secondaryOf(model) & mask) !== 0).map(({ name }) => name);
  expect(lost("xeon,-rdrand,-invpcid")).toEqual(["RDRAND exiting", "enable INVPCID"]);
  expect(lost("xeon,-ept")).toEqual([
    "enable EPT", "unrestricted guest", "enable VM functions", "enable PML", "EPT-violation #VE", "mode-based execute control for EPT",
  ]);
});
