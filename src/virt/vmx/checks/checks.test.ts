/** Every check of VM entry: a VMCS that passes, and for each check at least one that fails there and nowhere before. */
import { describe, expect, test } from "vitest";
import { vmcsRevision } from "../capabilities.ts";
import { Field, guestSegments, type FieldKey } from "../fields.ts";
import { disable, enable, testEnvironment, validVmcs } from "../testing/valid-vmcs.ts";
import type { Vmcs } from "../vmcs.ts";
import type { ControlKey } from "../controls.ts";
import { controlChecks } from "./controls.ts";
import { guestChecks } from "./guest.ts";
import { hostChecks } from "./host.ts";
import { EntryView, firstFailure, type EntryCheck, type EntryEnvironment } from "./view.ts";

type Change = readonly [on: readonly ControlKey[], values: Partial<Record<FieldKey, bigint | number>>, extra?: {
  readonly off?: readonly ControlKey[]; readonly environment?: Partial<EntryEnvironment>; readonly words?: ReadonlyMap<number, number>;
}];

const virtual8086Controls = { off: ["ia32eModeGuest"] as const };
const virtual8086: Partial<Record<FieldKey, bigint | number>> = { guestEfer: 0, guestRflags: 0x2_0002, guestCr4: 0x2000 };
for (const name of ["ES", "CS", "SS", "DS", "FS", "GS"] as const) {
  virtual8086[`guest${name}Selector`] = 0x100;
  virtual8086[`guest${name}Base`] = 0x1000;
  virtual8086[`guest${name}Limit`] = 0xffff;
  virtual8086[`guest${name}AccessRights`] = 0xf3;
}
const realMode: Partial<Record<FieldKey, bigint | number>> = { guestEfer: 0, guestCr0: 0x20, guestCr4: 0x2000 };
const realModeControls = { off: ["ia32eModeGuest"] as const };
const pae = { guestEfer: 0, guestCSAccessRights: 0xc09b };
const valid = 0x8000_0000;

/** What each case changes in a VMCS that passes. */
const cases: readonly Change[] = [
  [[], { pinControls: 0 }], [[], { primaryControls: 0xffff_ffff, secondaryControls: 0 }], [["secondaryControls"], { secondaryControls: 0x8000 }],
  [[], { cr3TargetCount: 5 }],
  [["ioBitmaps"], { ioBitmapA: 1 }], [["ioBitmaps"], { ioBitmapB: 1n << 46n }], [["msrBitmaps"], { msrBitmaps: 0x800 }],
  [["tprShadow"], { virtualApicAddress: 8 }], [["tprShadow"], { tprThreshold: 0x10 }], [["tprShadow"], { tprThreshold: 1 }],
  [["virtualNmis"], {}], [["nmiWindowExiting"], {}], [["apicAccesses"], { apicAccessAddress: 4 }],
  [["x2ApicMode"], {}], [["apicRegisters"], {}], [["virtualInterruptDelivery"], {}], [["tprShadow", "x2ApicMode", "apicAccesses"], {}],
  [["tprShadow", "virtualInterruptDelivery"], {}], [["postedInterrupts"], {}],
  [["tprShadow", "virtualInterruptDelivery", "externalInterruptExiting", "postedInterrupts"], {}],
  [["tprShadow", "virtualInterruptDelivery", "externalInterruptExiting", "postedInterrupts", "acknowledgeInterrupt"], { postedInterruptNotificationVector: 256 }],
  [["tprShadow", "virtualInterruptDelivery", "externalInterruptExiting", "postedInterrupts", "acknowledgeInterrupt"], { postedInterruptDescriptorAddress: 32 }],
  [["vpid"], { virtualProcessorId: 0 }], [["ept"], { eptPointer: 0x1_0006n }],
  [["pml"], {}], [["unrestrictedGuest"], {}], [["modeBasedExecute"], {}], [["ept", "pml"], { pmlAddress: 8 }],
  [["vmFunctions"], { vmFunctionControls: 2 }], [["vmFunctions"], { vmFunctionControls: 1 }],
  [["ept", "vmFunctions"], { vmFunctionControls: 1, eptpListAddress: 8 }],
  [["vmcsShadowing"], { vmreadBitmap: 1 }], [["vmcsShadowing"], { vmwriteBitmap: 1 }], [["eptViolationVe"], { virtualizationExceptionAddress: 1 }],
  [["tscScaling"], { tscMultiplier: 0 }],
  [[], { exitControls: 0xffff_ffff }], [["savePreemptionTimer"], {}],
  [[], { exitMsrStoreCount: 1, exitMsrStoreAddress: 8 }], [[], { exitMsrLoadCount: 2, exitMsrLoadAddress: (1n << 46n) - 16n }],
  [[], { entryControls: 0 }], [[], { entryInterruptionInformation: valid | 0x100 }], [[], { entryInterruptionInformation: valid | 0x203 }],
  [[], { entryInterruptionInformation: valid | 0x30d }], [[], { entryInterruptionInformation: valid | 0x2000 }],
  [[], { entryInterruptionInformation: valid | 0xb0d, entryExceptionErrorCode: 0x1_0000 }],
  [[], { entryInterruptionInformation: valid | 0x480, entryInstructionLength: 16 }], [[], { entryMsrLoadCount: 1, entryMsrLoadAddress: 1n << 46n }],

  [[], { hostCr0: 0x8000_0001 }], [[], { hostCr4: 0x20 }], [[], { hostCr3: 1n << 46n }], [[], { hostSysenterEsp: 1n << 47n }],
  [[], { hostSysenterEip: 1n << 47n }], [[], { hostPat: 2 }], [[], { hostEfer: 0x502 }], [[], { hostEfer: 0x100 }],
  [[], { hostESSelector: 3 }], [[], { hostCSSelector: 4 }], [[], { hostSSSelector: 1 }], [[], { hostDSSelector: 2 }], [[], { hostFSSelector: 4 }],
  [[], { hostGSSelector: 4 }], [[], { hostTRSelector: 4 }], [[], { hostCSSelector: 0 }], [[], { hostTRSelector: 0 }],
  [[], { hostSSSelector: 0, hostEfer: 0 }, { off: ["hostAddressSpaceSize", "ia32eModeGuest"], environment: { isLongMode: false } }],
  [[], { hostFSBase: 1n << 47n }], [[], { hostGSBase: 1n << 47n }], [[], { hostGdtrBase: 1n << 47n }], [[], { hostIdtrBase: 1n << 47n }],
  [[], { hostTRBase: 1n << 47n }],
  [[], {}, { environment: { isLongMode: false } }], [[], { hostEfer: 0 }, { off: ["hostAddressSpaceSize"] }],
  [[], { hostEfer: 0, hostRip: 1n << 32n }, { off: ["hostAddressSpaceSize", "ia32eModeGuest"], environment: { isLongMode: false } }],
  [[], { hostCr4: 0x2000 }], [[], { hostRip: 1n << 47n }],

  [[], { guestCr0: 0x8000_0001 }], [["unrestrictedGuest", "ept"], { guestCr0: 0x8000_0020 }], [[], { guestCr4: 0x20 }], [[], { guestDebugControl: 4 }],
  [[], { guestCr4: 0x2000 }], [[], { guestEfer: 0, guestCr4: 0x2_2020 }, { off: ["ia32eModeGuest"] }], [[], { guestCr3: 1n << 46n }],
  [[], { guestDr7: 1n << 32n }], [[], { guestSysenterEsp: 1n << 47n }], [[], { guestSysenterEip: 1n << 47n }], [[], { guestPat: 3 }],
  [[], { guestEfer: 0x502 }], [[], { guestEfer: 0 }], [[], { guestEfer: 0x400 }],
  [[], { guestTRSelector: 4 }], [[], { guestLDTRSelector: 4, guestLDTRAccessRights: 0x82 }], [[], { guestSSSelector: 3 }],
  [[], { guestTRBase: 1n << 47n }], [[], { guestFSBase: 1n << 47n }], [[], { guestGSBase: 1n << 47n }],
  [[], { guestLDTRBase: 1n << 47n, guestLDTRAccessRights: 0x82 }], [[], { guestCSBase: 1n << 32n }], [[], { guestSSBase: 1n << 32n }],
  [[], { guestDSBase: 1n << 32n }], [[], { guestESBase: 1n << 32n }],
  ...(["CS", "SS", "DS", "ES", "FS", "GS"] as const).flatMap((name): Change[] => [
    [[], { ...virtual8086, [`guest${name}Base`]: 0x1010 }, virtual8086Controls],
    [[], { ...virtual8086, [`guest${name}Limit`]: 0xfffff }, virtual8086Controls],
    [[], { ...virtual8086, [`guest${name}AccessRights`]: 0x93 }, virtual8086Controls],
    [[], { [`guest${name}AccessRights`]: name === "CS" ? 0xa08b : 0xc083 }],
    [[], { [`guest${name}AccessRights`]: name === "CS" ? 0xa01b : 0xc013 }],
    [[], { [`guest${name}AccessRights`]: name === "CS" ? 0xa19b : 0xc193 }],
    [[], { [`guest${name}Limit`]: 0x1000 }],
  ]),
  [[], { guestCSAccessRights: 0xa093 }], [[], { guestSSAccessRights: 0xc091 }],
  ...(["DS", "ES", "FS", "GS"] as const).flatMap((name): Change[] => [
    [[], { [`guest${name}AccessRights`]: 0xc092 }], [[], { [`guest${name}AccessRights`]: 0xc099 }], [[], { [`guest${name}Selector`]: 0x13 }],
  ]),
  [[], { guestCSAccessRights: 0xa0fb }], [[], { guestSSAccessRights: 0xc0f3, guestCSAccessRights: 0xa0fb }],
  [["ept", "unrestrictedGuest"], { ...realMode, guestSSAccessRights: 0xc0f3, guestCSAccessRights: 0xc0fb }, realModeControls],
  [[], { guestCSAccessRights: 0xe09b }],
  [[], { guestTRAccessRights: 0x83 }], [[], { guestTRAccessRights: 0x9b }], [[], { guestTRAccessRights: 0x0b }], [[], { guestTRAccessRights: 0x18b }],
  [[], { guestTRAccessRights: 0x808b }], [[], { guestTRAccessRights: 0x1_008b }],
  [[], { guestLDTRAccessRights: 0x83 }], [[], { guestLDTRAccessRights: 0x92 }], [[], { guestLDTRAccessRights: 0x02 }], [[], { guestLDTRAccessRights: 0x182 }],
  [[], { guestLDTRAccessRights: 0x8082 }],
  [[], { guestGdtrBase: 1n << 47n }], [[], { guestIdtrBase: 1n << 47n }], [[], { guestGdtrLimit: 0x1_0000 }], [[], { guestIdtrLimit: 0x1_0000 }],
  [[], { guestCSAccessRights: 0xc09b, guestRip: 1n << 32n }], [[], { guestRip: 1n << 47n }], [[], { guestRflags: 0 }],
  [["ept", "unrestrictedGuest"], { ...virtual8086, guestCr0: 0x20 }, virtual8086Controls],
  [[], { entryInterruptionInformation: valid | 0x20 }],
  [[], { guestActivity: 4 }],
  [[], { guestActivity: 1, guestCSSelector: 11, guestSSSelector: 0x13, guestSSAccessRights: 0xc0f3, guestCSAccessRights: 0xa0fb }],
  [[], { guestActivity: 1, guestInterruptibility: 2 }], [[], { guestActivity: 3, entryInterruptionInformation: valid | 0x202 }],
  [[], { guestInterruptibility: 0x10 }], [[], { guestInterruptibility: 3, guestRflags: 0x202 }], [[], { guestInterruptibility: 1 }],
  [[], { guestInterruptibility: 2, guestRflags: 0x202, entryInterruptionInformation: valid | 0x20 }],
  [[], { guestInterruptibility: 2, entryInterruptionInformation: valid | 0x202 }],
  [[], { guestInterruptibility: 1, guestRflags: 0x202, entryInterruptionInformation: valid | 0x202 }],
  [[], { guestInterruptibility: 4 }],
  [["nmiExiting", "virtualNmis"], { guestInterruptibility: 8, entryInterruptionInformation: valid | 0x202 }],
  [[], { guestPendingDebugExceptions: 0x10 }], [[], { guestPendingDebugExceptions: 0x4000, guestActivity: 1 }],
  [[], { vmcsLinkPointer: 8 }], [[], { vmcsLinkPointer: 0x9000 }], [[], { vmcsLinkPointer: 0x5000 }, { words: new Map([[0x5000, vmcsRevision]]) }],
  [["ept"], { ...pae, guestPdpte2: 0x3 }, { off: ["ia32eModeGuest"] }],
  [[], pae, { off: ["ia32eModeGuest"], words: new Map([[0x2010, 1], [0x2014, 0x8000_0000]]) }],
];

function apply([on, values, { off = [], environment = {}, words } = {}]: Change): EntryView {
  const vmcs: Vmcs = validVmcs();
  enable(vmcs, ...on);
  for (const key of off) disable(vmcs, key);
  for (const [key, value] of Object.entries(values)) vmcs.set(Field[key as FieldKey], BigInt(value));
  return new EntryView(vmcs, { ...testEnvironment(words), ...environment });
}

const allChecks: readonly EntryCheck[] = [...controlChecks, ...hostChecks, ...guestChecks];

test("a valid VMCS passes", () => {
  expect(firstFailure(allChecks, apply([[], {}]))?.rule).toBeUndefined();
});

test.each([
  ["virtual-8086 mode", [[], virtual8086, virtual8086Controls]],
  ["real-address mode", [["ept", "unrestrictedGuest"], realMode, realModeControls]],
  ["PAE paging", [[], pae, { off: ["ia32eModeGuest"] }]],
  ["unusable data segments", [[], Object.fromEntries(guestSegments.filter(({ name }) => !["CS", "TR"].includes(name)).map(({ name }) => [`guest${name}AccessRights`, 0x1_0000]))]],
  ["every event that can be injected into HLT", [[], { guestActivity: 1, entryInterruptionInformation: valid | 0x301 }]],
] as [string, Change][])("%s passes", (_name, change) => {
  expect(firstFailure(allChecks, apply(change))?.rule).toBeUndefined();
});

describe("each check", () => {
  const failing = new Map(cases.map((change) => [firstFailure(allChecks, apply(change)), change]));
  test("no case passes", () => {
    expect(cases.filter((change) => firstFailure(allChecks, apply(change)) === undefined)).toEqual([]);
  });
  test.each(allChecks.map((check) => [check.rule, check] as const))("fails: %s", (_rule, check) => {
    expect(failing.has(check)).toBe(true);
  });
  test("rules are told apart", () => {
    expect(new Set(allChecks.map(({ section, rule }) => `${section}: ${rule}`)).size).toBe(allChecks.length);
  });
});
