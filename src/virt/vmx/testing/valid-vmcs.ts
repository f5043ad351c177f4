/** A VMCS that every check of VM entry passes: a 64-bit host and a 64-bit guest. */
import { Control, type ControlKey } from "../controls.ts";
import { cr0FixedToOne, cr4FixedToOne, vmxCapabilities, type VmxCapabilities } from "../capabilities.ts";
import { noLinkPointer } from "../checks/guest.ts";
import type { EntryEnvironment } from "../checks/view.ts";
import { Field, type FieldKey } from "../fields.ts";
import { Vmcs } from "../vmcs.ts";
import { createCpuModel } from "../../../isa/models/index.ts";

const model = createCpuModel("xeon", { tscFrequencyHz: 1_000_000_000, apicId: 0, processors: 1 });
export const testCapabilities: VmxCapabilities = vmxCapabilities(model, 0x0077_3fff);

const group = { pin: Field.pinControls, primary: Field.primaryControls, secondary: Field.secondaryControls, exit: Field.exitControls, entry: Field.entryControls } as const;

/** Turns controls on; secondary ones with what activates them. */
export function enable(vmcs: Vmcs, ...keys: readonly ControlKey[]): void {
  for (const key of keys) {
    const control = Control[key];
    if (control.group === "function") {
      vmcs.set(Field.vmFunctionControls, vmcs.get(Field.vmFunctionControls) | BigInt(control.mask));
      continue;
    }
    if (control.group === "secondary") enable(vmcs, "secondaryControls");
    const field = group[control.group];
    vmcs.set32(field, (vmcs.get32(field) | control.mask) >>> 0);
  }
}

export function disable(vmcs: Vmcs, key: ControlKey): void {
  const { group: name, mask } = Control[key];
  if (name !== "function") vmcs.set32(group[name], (vmcs.get32(group[name]) & ~mask) >>> 0);
}

const codeRights = 0xa09b, dataRights = 0xc093, taskRights = 0x8b, unusable = 0x1_0000;

const initialValues: Partial<Record<FieldKey, bigint>> = {
  virtualProcessorId: 1n, eptPointer: 0x1_005en, tscMultiplier: 1n << 48n, vmcsLinkPointer: noLinkPointer,
  guestCr0: BigInt(cr0FixedToOne), guestCr3: 0x2000n, guestCr4: BigInt(cr4FixedToOne | 0x20), guestEfer: 0x500n,
  guestPat: 0x0007_0406_0007_0406n, guestDr7: 0x400n, guestRflags: 2n, guestRip: 0x1000n,
  guestCSSelector: 8n, guestSSSelector: 0x10n, guestDSSelector: 0x10n, guestESSelector: 0x10n, guestFSSelector: 0x10n,
  guestGSSelector: 0x10n, guestTRSelector: 0x18n,
  guestTRLimit: 0x67n, guestGdtrLimit: 0xffffn, guestIdtrLimit: 0xffffn, guestLDTRAccessRights: BigInt(unusable),
  guestTRAccessRights: BigInt(taskRights), guestCSAccessRights: BigInt(codeRights),
  hostCr0: BigInt(cr0FixedToOne), hostCr3: 0x3000n, hostCr4: BigInt(cr4FixedToOne | 0x20), hostEfer: 0x500n,
  hostPat: 0x0007_0406_0007_0406n, hostCSSelector: 8n, hostSSSelector: 0x10n, hostDSSelector: 0x10n, hostESSelector: 0x10n,
  hostTRSelector: 0x18n, hostRip: 0x4000n,
};

export function validVmcs(): Vmcs {
  const vmcs = new Vmcs(0x5000);
  const { pin, primary, exit, entry } = testCapabilities.controls;
  vmcs.set32(Field.pinControls, pin.trulyMustBeOne);
  vmcs.set32(Field.primaryControls, primary.trulyMustBeOne);
  vmcs.set32(Field.exitControls, exit.trulyMustBeOne);
  vmcs.set32(Field.entryControls, entry.trulyMustBeOne);
  for (const [key, value] of Object.entries(initialValues)) vmcs.set(Field[key as FieldKey], value);
  for (const key of ["CS", "SS", "DS", "ES", "FS", "GS"] as const) {
    vmcs.set32(Field[`guest${key}Limit`], 0xffff_ffff);
    if (key !== "CS") vmcs.set32(Field[`guest${key}AccessRights`], dataRights);
  }
  enable(vmcs, "hostAddressSpaceSize", "ia32eModeGuest", "exitLoadEfer", "entryLoadEfer", "exitLoadPat", "entryLoadPat", "loadDebugControls");
  return vmcs;
}

export function testEnvironment(words: ReadonlyMap<number, number> = new Map()): EntryEnvironment {
  return {
    capabilities: testCapabilities, isLongMode: true, linearAddressBits: 48, eferMask: 0xd01n, debugControlMask: 3n,
    readPhysical32: (address) => words.get(address) ?? 0,
  };
}
