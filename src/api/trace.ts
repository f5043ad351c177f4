/** What the guest's own hypervisor does: a recording of its entries and exits, and whether there is one at all. */
import type { Machine } from "../machine/machine.ts";
import { TransitionLog, type TransitionFilter, type TransitionReport } from "../machine/transition-log.ts";

export interface TraceOptions extends TransitionFilter {
  /** So many entries and exits are listed, further ones are counted only. Default 250,000. */
  readonly maximumRecords?: number;
}

/** Hardware-assisted virtualization as the guest uses it. */
export interface HypervisorUse {
  /** What its processor offers. */
  readonly extension: "svm" | "vmx" | undefined;
  readonly isOn: boolean;
  /** Why nothing is to be seen, and what to do about it; undefined: something may be. */
  readonly absence: string | undefined;
}

export interface TraceReport extends TransitionReport {
  readonly extension: HypervisorUse["extension"];
  /** Why there are no records; undefined: there are some. */
  readonly absence: string | undefined;
}

const switches = { svm: "EFER.SVME is 0", vmx: "it is not in VMX operation" } as const;
const names = { svm: "AMD-V (SVM)", vmx: "VT-x (VMX)" } as const;

export function hypervisorUse({ model, processors }: Machine): HypervisorUse {
  const extension = model.hasFeature("svm") ? "svm" : model.hasFeature("vmx") ? "vmx" : undefined;
  if (extension === undefined) {
    return { extension, isOn: false, absence: "the guest's processor has no hardware-assisted virtualization: use --cpu epyc or --cpu xeon" };
  }
  const seen = processors.flatMap(({ virtualization }) => virtualization ?? []);
  if (seen.length === 0) {
    return { extension: undefined, isOn: false, absence: "under the kvm accelerator guests have no virtualization of their own: use --accel soft" };
  }
  const isOn = seen.some((virtualization) => virtualization.isOn);
  const absence = isOn || seen.some((virtualization) => virtualization.controlBlock() !== undefined) ? undefined
    : `the guest uses no virtualization: it has ${names[extension]} and has not switched it on (${switches[extension]})`;
  return { extension, isOn, absence };
}

/** A recording that is under way, or has ended. */
export class Trace implements Disposable {
  readonly #machine: Machine;
  readonly #log: TransitionLog;
  #isRecording = true;

  constructor(machine: Machine, { maximumRecords, ...filter }: TraceOptions) {
    this.#machine = machine;
    this.#log = new TransitionLog({ nowNs: () => machine.clock.nowNs(), filter, ...(maximumRecords === undefined ? {} : { maximumRecords }) });
    machine.recordTransitions(this.#log);
  }

  get isRecording(): boolean {
    return this.#isRecording;
  }

  /** Ends the recording, and tells what was recorded. */
  stop(): TraceReport {
    this[Symbol.dispose]();
    const report = this.#log.report();
    const { extension, isOn, absence } = hypervisorUse(this.#machine);
    const { records, unlisted, filteredOut } = report;
    const hasTransitions = records.length + unlisted > 0;
    const nothing = filteredOut > 0 ? `the filter admits none of the ${filteredOut} entries and exits`
      : absence ?? (isOn ? "the guest has switched virtualization on and entered no guest of its own meanwhile" : "the guest entered no guest of its own meanwhile");
    return { ...report, extension, absence: hasTransitions ? undefined : nothing };
  }

  [Symbol.dispose](): void {
    if (!this.#isRecording) return;
    this.#isRecording = false;
    this.#machine.recordTransitions(undefined);
  }
}
