/** What all parts of VMX share: the processor, the current VMCS and the controls that are in effect. */
import type { SoftProcessor } from "../../engine/processor.ts";
import type { StateView } from "../../isa/state-view.ts";
import { supportedCr4 } from "../../isa/system/control-registers.ts";
import { ActiveStructures } from "./active-structures.ts";
import { cr4FixedToOne, featureControlValues, vmxCapabilities, type VmxCapabilities } from "./capabilities.ts";
import { effectiveControls } from "./checks/view.ts";
import { controls, type Control, type ControlGroup } from "./controls.ts";
import type { Exit } from "./exit-reasons.ts";
import { Vmcs } from "./vmcs.ts";

export const noAddress = -1;
const lowestVmxBit = cr4FixedToOne;

export class VmxContext {
  readonly processor: SoftProcessor;
  readonly state: StateView;
  readonly capabilities: VmxCapabilities;
  readonly structures: ActiveStructures;
  /** Names of the controls that may be 1. */
  readonly offeredControls: ReadonlySet<string>;
  featureControl: bigint;
  /** In VMX operation, root or not. */
  isOn = false;
  isGuest = false;
  vmxonPointer: number = noAddress;
  current: Vmcs | undefined;
  /** The VMCS that the guest runs on. */
  vmcs: Vmcs = new Vmcs(0);
  #words: Readonly<Record<ControlGroup, number>> = effectiveControls(this.vmcs);

  constructor(processor: SoftProcessor) {
    this.processor = processor;
    this.state = processor.state;
    this.structures = new ActiveStructures(processor.physical);
    this.capabilities = vmxCapabilities(processor.model, supportedCr4(processor) | lowestVmxBit);
    this.offeredControls = new Set(controls.filter(({ feature }) => feature === undefined || processor.model.hasFeature(feature)).map(({ name }) => name));
    this.featureControl = featureControlValues[processor.model.virtualization ?? "on"];
  }

  /** Takes over the controls of `vmcs`. */
  adopt(vmcs: Vmcs): void {
    this.vmcs = vmcs;
    this.#words = effectiveControls(vmcs);
  }

  has({ group, mask }: Control): boolean {
    return (this.#words[group] & mask) !== 0;
  }
}

/** What leaves the guest by an exit. */
export interface ExitSink {
  /** Records an exit that takes effect where the instruction, or the delivery of an event, ends as by a fault. */
  record(exit: Exit): void;
  /** Leaves the guest now, between two instructions. */
  leave(exit: Exit): void;
}
