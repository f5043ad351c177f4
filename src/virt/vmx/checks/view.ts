/** What the checks of VM entry look at: the VMCS with its controls as they take effect, and what the processor can do. */
import type { VmxCapabilities } from "../capabilities.ts";
import { Control, type Control as ControlDefinition, type ControlGroup } from "../controls.ts";
import { Field, type VmcsField } from "../fields.ts";
import type { Vmcs } from "../vmcs.ts";

/** The processor that is about to enter. */
export interface EntryEnvironment {
  readonly capabilities: VmxCapabilities;
  /** IA32_EFER.LMA before the entry. */
  readonly isLongMode: boolean;
  readonly linearAddressBits: number;
  /** Bits of IA32_EFER and IA32_DEBUGCTL that are not reserved. */
  readonly eferMask: bigint;
  readonly debugControlMask: bigint;
  /** 32 bits of physical memory. */
  readPhysical32(address: number): number;
}

export type ControlWords = Readonly<Record<ControlGroup, number>>;

export class EntryView {
  readonly vmcs: Vmcs;
  readonly environment: EntryEnvironment;
  /** The controls as they take effect. */
  readonly words: ControlWords;

  constructor(vmcs: Vmcs, environment: EntryEnvironment) {
    this.vmcs = vmcs;
    this.environment = environment;
    this.words = effectiveControls(vmcs);
  }

  /** Whether a control is 1; without "activate secondary controls" all of those are 0. */
  has({ group, mask }: ControlDefinition): boolean {
    return (this.words[group] & mask) !== 0;
  }

  word(group: ControlGroup): number {
    return this.words[group];
  }

  get(field: VmcsField): bigint {
    return this.vmcs.get(field);
  }

  get32(field: VmcsField): number {
    return this.vmcs.get32(field);
  }

  /** Whether `value` has no bit beyond the physical-address width. */
  isPhysical(value: bigint): boolean {
    return value >> BigInt(this.environment.capabilities.physicalAddressBits) === 0n;
  }

  /** Whether the field holds a physical address that is a multiple of `alignment`. */
  isAlignedAddress(field: VmcsField, alignment: number): boolean {
    const value = this.get(field);
    return (value & BigInt(alignment - 1)) === 0n && this.isPhysical(value);
  }

  isCanonical(value: bigint): boolean {
    return BigInt.asUintN(64, BigInt.asIntN(this.environment.linearAddressBits, value)) === value;
  }

  hasCanonical(field: VmcsField): boolean {
    return this.isCanonical(this.get(field));
  }
}

/** The words of controls as they take effect. */
export function effectiveControls(vmcs: Vmcs): ControlWords {
  const primary = vmcs.get32(Field.primaryControls);
  const secondary = (primary & Control.secondaryControls.mask) === 0 ? 0 : vmcs.get32(Field.secondaryControls);
  return {
    pin: vmcs.get32(Field.pinControls), primary, secondary, exit: vmcs.get32(Field.exitControls),
    entry: vmcs.get32(Field.entryControls),
    function: (secondary & Control.vmFunctions.mask) === 0 ? 0 : vmcs.get32(Field.vmFunctionControls),
  };
}

/** One thing that must hold for VM entry to succeed. */
export interface EntryCheck {
  /** What must hold, in the manual's words as far as they are short. */
  readonly rule: string;
  /** Section of SDM volume 3, chapter "VM Entries". */
  readonly section: string;
  /** Fields that the rule is about. */
  readonly fields: readonly VmcsField[];
  holds(view: EntryView): boolean;
  /** Exit qualification of a failure, for checks of the guest's state; 0 if absent. */
  readonly qualification?: number;
}

/** The first check that fails. */
export function firstFailure(checks: readonly EntryCheck[], view: EntryView): EntryCheck | undefined {
  return checks.find((check) => !check.holds(view));
}

/** A check under its condition: rules that begin with "if". */
export function ifHas(control: ControlDefinition, holds: (view: EntryView) => boolean): (view: EntryView) => boolean {
  return (view) => !view.has(control) || holds(view);
}

/** A PAT of valid memory types: 0, 1, 4, 5, 6 or 7 in every byte. */
export function isValidPat(value: bigint): boolean {
  for (let shift = 0n; shift < 64n; shift += 8n) {
    const type = (value >> shift) & 0xffn;
    if (type > 7n || type === 2n || type === 3n) return false;
  }
  return true;
}
