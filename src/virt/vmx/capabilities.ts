/** The capability registers IA32_VMX_BASIC to IA32_VMX_VMFUNC and IA32_FEATURE_CONTROL (SDM volume 3, appendix "VMX Capability Reporting Facility"). */
import type { CpuModel } from "../../isa/processor.ts";
import { allowedControls, type AllowedControls, type ControlGroup } from "./controls.ts";
import { indexOf, vmcsFields } from "./fields.ts";

export const VmxMsr = {
  FEATURE_CONTROL: 0x3a, BASIC: 0x480, PINBASED_CTLS: 0x481, PROCBASED_CTLS: 0x482, EXIT_CTLS: 0x483, ENTRY_CTLS: 0x484,
  MISC: 0x485, CR0_FIXED0: 0x486, CR0_FIXED1: 0x487, CR4_FIXED0: 0x488, CR4_FIXED1: 0x489, VMCS_ENUM: 0x48a,
  PROCBASED_CTLS2: 0x48b, EPT_VPID_CAP: 0x48c, TRUE_PINBASED_CTLS: 0x48d, TRUE_PROCBASED_CTLS: 0x48e,
  TRUE_EXIT_CTLS: 0x48f, TRUE_ENTRY_CTLS: 0x490, VMFUNC: 0x491,
} as const;

/** Bits of IA32_FEATURE_CONTROL. */
export const FeatureControlMask = { locked: 1n, vmxOutsideSmx: 4n } as const;

/** How firmware leaves IA32_FEATURE_CONTROL. */
export type FirmwareSetting = "on" | "locked-off" | "unlocked";

export const featureControlValues: Readonly<Record<FirmwareSetting, bigint>> = {
  on: FeatureControlMask.locked | FeatureControlMask.vmxOutsideSmx, "locked-off": FeatureControlMask.locked, unlocked: 0n,
};

/** Our VMCS data: another number whenever the places of the fields change. */
export const vmcsRevision = 0x524d_0002;
export const vmcsRegionBytes = 4096;
export const cr3TargetCount = 4;
/** The VMX-preemption timer counts down whenever this bit of the TSC changes. */
export const preemptionTimerShift = 5;

const writeBack = 6n;
const Basic = {
  regionSizeShift: 32n, memoryTypeShift: 50n,
  /** VM exits due to INS and OUTS report instruction information. */
  stringIoInformation: 1n << 54n,
  trueControls: 1n << 55n,
} as const;

const Misc = {
  /** VM exits store IA32_EFER.LMA in the "IA-32e mode guest" control. */
  storesLongMode: 1n << 5n,
  /** HLT, shutdown and wait-for-SIPI. */
  activityStates: 7n << 6n,
  cr3TargetShift: 16n,
  writesReadOnlyFields: 1n << 29n,
  /** Events may be injected with an instruction length of 0. */
  zeroLengthInjection: 1n << 30n,
} as const;

/** Bits of IA32_VMX_EPT_VPID_CAP. */
export const EptCapability = {
  executeOnly: 0x1n, walkLength4: 0x40n, uncacheable: 0x100n, writeBack: 0x4000n, pages2Mib: 0x1_0000n,
  pages1Gib: 0x2_0000n, invept: 0x10_0000n, accessedDirty: 0x20_0000n, advancedInformation: 0x40_0000n, inveptSingle: 0x200_0000n, inveptAll: 0x400_0000n,
  invvpid: 0x1_0000_0000n, invvpidAddress: 0x100_0000_0000n, invvpidSingle: 0x200_0000_0000n, invvpidAll: 0x400_0000_0000n,
  invvpidRetainingGlobals: 0x800_0000_0000n,
} as const;

/** Bits of CR0 and CR4 that VMX operation fixes to 1: PG, NE, PE; VMXE. */
export const cr0FixedToOne = 0x8000_0021;
export const cr4FixedToOne = 0x2000;

export interface VmxCapabilities {
  readonly controls: Readonly<Record<ControlGroup, AllowedControls>>;
  readonly physicalAddressBits: number;
  /** Bits of CR4 that may be 1 in VMX operation. */
  readonly cr4MayBeOne: number;
  /** Values of the capability registers. */
  readonly registers: ReadonlyMap<number, bigint>;
}

function pair(low: number, high: number): bigint {
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
}

/** What a processor of the model reports; `supportedCr4` is every bit that CR4 can have, VMXE included. */
export function vmxCapabilities(model: CpuModel, supportedCr4: number): VmxCapabilities {
  const controls = allowedControls((name) => model.hasFeature(name));
  const { pin, primary, secondary, exit, entry, function: functions } = controls;
  const highestIndex = vmcsFields.reduce((highest, { encoding }) => Math.max(highest, indexOf(encoding)), 0);
  const all = Object.values(EptCapability).reduce((mask, bit) => mask | bit, 0n);
  const vpidMask = all & ~0xffff_ffffn, withoutLargest = model.hasFeature("pdpe1gb") ? 0n : EptCapability.pages1Gib;
  const eptCapabilities = (model.hasFeature("ept") ? all & ~vpidMask & ~withoutLargest : 0n) | (model.hasFeature("vpid") ? vpidMask : 0n);
  const registers = new Map<number, bigint>([
    [VmxMsr.BASIC, BigInt(vmcsRevision) | (BigInt(vmcsRegionBytes) << Basic.regionSizeShift) |
      (writeBack << Basic.memoryTypeShift) | Basic.stringIoInformation | Basic.trueControls],
    [VmxMsr.PINBASED_CTLS, pair(pin.mustBeOne, pin.mayBeOne)],
    [VmxMsr.PROCBASED_CTLS, pair(primary.mustBeOne, primary.mayBeOne)],
    [VmxMsr.EXIT_CTLS, pair(exit.mustBeOne, exit.mayBeOne)],
    [VmxMsr.ENTRY_CTLS, pair(entry.mustBeOne, entry.mayBeOne)],
    [VmxMsr.MISC, BigInt(preemptionTimerShift) | Misc.storesLongMode | Misc.activityStates |
      (BigInt(cr3TargetCount) << Misc.cr3TargetShift) | Misc.writesReadOnlyFields | Misc.zeroLengthInjection],
    [VmxMsr.CR0_FIXED0, BigInt(cr0FixedToOne)],
    [VmxMsr.CR0_FIXED1, 0xffff_ffffn],
    [VmxMsr.CR4_FIXED0, BigInt(cr4FixedToOne)],
    [VmxMsr.CR4_FIXED1, BigInt(supportedCr4 >>> 0)],
    [VmxMsr.VMCS_ENUM, BigInt(highestIndex << 1)],
    [VmxMsr.PROCBASED_CTLS2, pair(0, secondary.mayBeOne)],
    [VmxMsr.EPT_VPID_CAP, eptCapabilities],
    [VmxMsr.TRUE_PINBASED_CTLS, pair(pin.trulyMustBeOne, pin.mayBeOne)],
    [VmxMsr.TRUE_PROCBASED_CTLS, pair(primary.trulyMustBeOne, primary.mayBeOne)],
    [VmxMsr.TRUE_EXIT_CTLS, pair(exit.trulyMustBeOne, exit.mayBeOne)],
    [VmxMsr.TRUE_ENTRY_CTLS, pair(entry.trulyMustBeOne, entry.mayBeOne)],
    [VmxMsr.VMFUNC, BigInt(functions.mayBeOne)],
  ]);
  if (functions.mayBeOne === 0) registers.delete(VmxMsr.VMFUNC);
  if (eptCapabilities === 0n) registers.delete(VmxMsr.EPT_VPID_CAP);
  return { controls, physicalAddressBits: model.physicalAddressBits, cr4MayBeOne: supportedCr4 >>> 0, registers };
}
