/** What all parts of VMX share: the processor, the current VMCS and the controls that are in effect. */
import type { SoftProcessor } from "../../engine/processor.ts";
import type { StateView } from "../../isa/state-view.ts";
import * as layout from "../../isa/state.ts";
import { supportedCr4 } from "../../isa/system/control-registers.ts";
import { ActiveStructures } from "./active-structures.ts";
import { cr4FixedToOne, featureControlValues, vmxCapabilities, type VmxCapabilities } from "./capabilities.ts";
import { effectiveControls } from "./checks/view.ts";
import { controlGroups, controls, type Control } from "./controls.ts";
import type { Exit } from "./exit-reasons.ts";
import { publishFields } from "./published-fields.ts";
import { transitionFunctions, type TransitionFunctions } from "./transition-code.ts";
import { Vmcs } from "./vmcs.ts";

export const noAddress = -1;
const lowestVmxBit = cr4FixedToOne;

export class VmxContext {
  readonly processor: SoftProcessor;
  readonly state: StateView;
  readonly capabilities: VmxCapabilities;
  readonly structures: ActiveStructures;
  #functions: TransitionFunctions | undefined;
  /** Names of the controls that may be 1. */
  readonly offeredControls: ReadonlySet<string>;
  featureControl: bigint;
  /** In VMX operation, root or not. */
  isOn = false;
  vmxonPointer: number = noAddress;
  /** The VMCS that the guest runs on. */
  vmcs: Vmcs = new Vmcs(0);
  /** Its controls as they take effect, by the number of their group: they are asked for often. */
  readonly #words = new Int32Array(controlGroups.length);
  #isGuest = false;
  #current: Vmcs | undefined;

  constructor(processor: SoftProcessor) {
    this.processor = processor;
    this.state = processor.state;
    this.structures = new ActiveStructures(processor.physical, this.state);
    this.capabilities = vmxCapabilities(processor.model, supportedCr4(processor) | lowestVmxBit);
    this.offeredControls = new Set(controls.filter(({ feature }) => feature === undefined || processor.model.hasFeature(feature)).map(({ name }) => name));
    this.featureControl = featureControlValues[processor.model.virtualization ?? "on"];
    publishFields(this.state, this.offeredControls);
  }

  /** Made at the first entry: most guests are no hypervisors. */
  get functions(): TransitionFunctions {
    this.#functions ??= transitionFunctions(this.processor.linearMemory);
    return this.#functions;
  }

  get isGuest(): boolean {
    return this.#isGuest;
  }

  set isGuest(isGuest: boolean) {
    this.#isGuest = isGuest;
    this.#publishCurrent();
  }

  get current(): Vmcs | undefined {
    return this.#current;
  }

  set current(vmcs: Vmcs | undefined) {
    this.#current = vmcs;
    this.#publishCurrent();
  }

  /** Tells generated code which VMCS it may read and write by itself. */
  #publishCurrent(): void {
    this.state.set32(layout.currentVmcs, this.#isGuest || this.#current === undefined ? 0 : this.#current.place);
  }

  /** Goes on with `vmcs` and its controls. */
  adopt(vmcs: Vmcs): void {
    const words = effectiveControls(vmcs);
    this.vmcs = vmcs;
    this.#words[0] = words.pin;
    this.#words[1] = words.primary;
    this.#words[2] = words.secondary;
    this.#words[3] = words.exit;
    this.#words[4] = words.entry;
    this.#words[5] = words.function;
  }

  has({ groupNumber, mask }: Control): boolean {
    return (this.#words[groupNumber] & mask) !== 0;
  }
}

/** What leaves the guest by an exit. */
export interface ExitSink {
  /** Records an exit that takes effect where the instruction, or the delivery of an event, ends as by a fault. */
  record(exit: Exit): void;
  /** Leaves the guest now, between two instructions. */
  leave(exit: Exit): void;
}
