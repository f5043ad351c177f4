/** Model-specific registers of SVM (AMD APM volume 2, "SVM Related MSRs"). */
import type { CpuModel } from "../../isa/processor.ts";
import { LastBranches } from "./last-branches.ts";

const Msr = { TSC_RATIO: 0xc000_0104, VM_CR: 0xc001_0114, VM_HSAVE_PA: 0xc001_0117, SVM_KEY: 0xc001_0118, DOORBELL: 0xc001_011b } as const;
/** Bits of VM_CR: DPD, R_INIT and DIS_A20M may always be written. */
const VmCr = { freeMask: 7n, lock: 8n, disable: 0x10n } as const;
const ratioFractionBits = 32n;
const ratioReservedMask = 0xffff_ff00_0000_0000n;
const ratioDefault = 1n << ratioFractionBits;

export class SvmRegisters {
  readonly #model: CpuModel;
  readonly branches: LastBranches = new LastBranches();
  #vmCr = 0n;
  #hostSave = 0n;
  /** Fixed point, 8.32 bits: how much faster a guest's time stamp counter runs. */
  tscRatio: bigint = ratioDefault;

  constructor(model: CpuModel) {
    this.#model = model;
  }

  /** As firmware leaves them. */
  reset(): void {
    this.#vmCr = this.#initialVmCr;
    this.#hostSave = 0n;
    this.tscRatio = ratioDefault;
    this.branches.reset();
  }

  get #initialVmCr(): bigint {
    const setting = this.#model.virtualization ?? "on";
    return setting === "unlocked" ? 0n : setting === "on" ? VmCr.lock : VmCr.lock | VmCr.disable;
  }

  /** Those that are not as after a reset. */
  changed(): (readonly [index: number, value: bigint])[] {
    const all = [[Msr.VM_CR, this.#vmCr, this.#initialVmCr], [Msr.VM_HSAVE_PA, this.#hostSave, 0n], [Msr.TSC_RATIO, this.tscRatio, ratioDefault]] as const;
    return [...all.flatMap(([index, value, initial]) => value === initial ? [] : [[index, value] as const]), ...this.branches.changed()];
  }

  /** Whatever software may write; false: not one of these. */
  restore(index: number, value: bigint): boolean {
    switch (index) {
      case Msr.VM_CR:
        this.#vmCr = value & (VmCr.freeMask | VmCr.lock | VmCr.disable);
        return true;
      case Msr.VM_HSAVE_PA:
        this.#hostSave = value & ((1n << BigInt(this.#model.physicalAddressBits)) - 0x1000n);
        return true;
      case Msr.TSC_RATIO:
        this.tscRatio = value & ~ratioReservedMask;
        return true;
      default: return this.#hasBranches && this.branches.restore(index, value);
    }
  }

  get #hasBranches(): boolean {
    return this.#model.hasFeature("lbrv");
  }

  /** VM_CR.SVMDIS: EFER.SVME must be zero. */
  get isDisabled(): boolean {
    return (this.#vmCr & VmCr.disable) !== 0n;
  }

  scale(counter: bigint): bigint {
    return this.tscRatio === ratioDefault ? counter : (counter * this.tscRatio) >> ratioFractionBits;
  }

  /** Undefined: not one of these. */
  read(index: number): bigint | undefined {
    switch (index) {
      case Msr.VM_CR: return this.#vmCr;
      case Msr.VM_HSAVE_PA: return this.#hostSave;
      case Msr.SVM_KEY: return this.#model.hasFeature("svm_lock") ? 0n : undefined;
      case Msr.TSC_RATIO: return this.#model.hasFeature("tsc_scale") ? this.tscRatio : undefined;
      default: return this.#hasBranches ? this.branches.read(index) : undefined;
    }
  }

  /** False: #GP. */
  write(index: number, value: bigint, isSvmEnabled: boolean): boolean | "unknown" {
    switch (index) {
      case Msr.VM_CR: return this.#writeVmCr(value, isSvmEnabled);
      case Msr.VM_HSAVE_PA:
        if ((value & 0xfffn) !== 0n || value >> BigInt(this.#model.physicalAddressBits) !== 0n) return false;
        this.#hostSave = value;
        return true;
      // There is no key that would unlock VM_CR: what is written is never it.
      case Msr.SVM_KEY: return this.#model.hasFeature("svm_lock") ? true : "unknown";
      // AVIC's doorbell: a processor looks at its guest's page wherever it looks for interrupts, and needs no reminder.
      case Msr.DOORBELL: return this.#model.hasFeature("avic") ? true : "unknown";
      case Msr.TSC_RATIO:
        if (!this.#model.hasFeature("tsc_scale")) return "unknown";
        if ((value & ratioReservedMask) !== 0n) return false;
        this.tscRatio = value;
        return true;
      default: return this.#hasBranches ? this.branches.write(index, value) : "unknown";
    }
  }

  #writeVmCr(value: bigint, isSvmEnabled: boolean): boolean {
    const known = VmCr.freeMask | VmCr.lock | VmCr.disable;
    if ((value & ~known) !== 0n || ((value & VmCr.disable) !== 0n && isSvmEnabled)) return false;
    const locked = VmCr.lock | VmCr.disable;
    this.#vmCr = (this.#vmCr & VmCr.lock) !== 0n ? (value & VmCr.freeMask) | (this.#vmCr & locked) : value;
    return true;
  }
}
