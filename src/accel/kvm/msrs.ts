/** The model-specific registers whose accesses KVM passes on: the machine's and the CPU model's, by the rules of the soft processor. */
import type { CpuModel, ProcessorBus } from "../../isa/processor.ts";
import { Msr } from "../../isa/system/model-specific.ts";

const archCapabilitiesMsr = 0x10a;

export class KvmMsrs {
  readonly timeStampIndex: number = Msr.TSC;
  readonly #model: CpuModel;
  readonly #bus: ProcessorBus;
  readonly #hostCapabilities: bigint;
  #values: Map<number, bigint> = new Map();

  constructor(model: CpuModel, bus: ProcessorBus, hostCapabilities: bigint) {
    this.#model = model;
    this.#bus = bus;
    this.#hostCapabilities = hostCapabilities;
  }

  /** Ascending by index. */
  get stored(): readonly (readonly [index: number, value: bigint])[] {
    return [...this.#values].toSorted(([a], [b]) => a - b);
  }

  set stored(values: readonly (readonly [index: number, value: bigint])[]) {
    this.#values = new Map(values);
  }

  /** Undefined where RDMSR raises #GP. */
  read(index: number): bigint | undefined {
    if (index === Msr.XSS) return this.#model.hasFeature("xsaves") ? 0n : undefined;
    const value = this.#bus.readMsr(index) ?? this.#values.get(index) ?? this.#model.msr(index)?.value;
    // No guest may take itself for safe from what its host's processor is not safe from.
    return index === archCapabilitiesMsr && value !== undefined ? value & this.#hostCapabilities : value;
  }

  /** False where WRMSR raises #GP. */
  write(index: number, value: bigint): boolean {
    if (index === Msr.TSC) {
      this.#bus.setTimeStampCounter(value);
      return true;
    }
    if (index === Msr.XSS) return this.#model.hasFeature("xsaves") && value === 0n;
    const isWritten = this.#bus.writeMsr(index, value);
    if (isWritten !== "unknown") return isWritten;
    const register = this.#model.msr(index);
    if (register === undefined || register.writable === 0n) return false;
    const old = this.#values.get(index) ?? register.value;
    if (((old ^ value) & ~register.writable) !== 0n) return false;
    this.#values.set(index, value);
    return true;
  }
}
