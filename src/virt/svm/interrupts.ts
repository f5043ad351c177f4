/** Virtual interrupts, the task priority of a guest and its global interrupt flag (AMD APM volume 2, "Interrupt and Local APIC Support"). */
import type { StateView } from "../../isa/state-view.ts";
import { Control, InterruptControlMask as Mask, interruptPriorityShift } from "./vmcb.ts";

export class VirtualInterrupts {
  #control = 0;
  vector = 0;

  load(vmcb: StateView): void {
    this.#control = vmcb.get32(Control.interruptControl);
    this.vector = vmcb.get32(Control.interruptVector) & 0xff;
  }

  save(vmcb: StateView): void {
    vmcb.set32(Control.interruptControl, this.#control >>> 0);
  }

  get control(): number {
    return this.#control >>> 0;
  }

  set control(value: number) {
    this.#control = value;
  }

  #has(mask: number): boolean {
    return (this.#control & mask) !== 0;
  }

  /** V_INTR_MASKING: the guest's IF and CR8 are its own, physical interrupts go by the host's IF. */
  get isMasking(): boolean {
    return this.#has(Mask.masking);
  }

  /** STGI and CLGI reach a flag of the guest's own. */
  get hasVirtualGif(): boolean {
    return this.#has(Mask.virtualGifEnable);
  }

  set virtualGif(isSet: boolean) {
    this.#control = isSet ? this.#control | Mask.virtualGif : this.#control & ~Mask.virtualGif;
  }

  /** NMIs of the guest's own, blocked until its IRET by a bit of their own. */
  get hasVirtualNmi(): boolean {
    return this.#has(Mask.virtualNmiEnable);
  }

  get isNmiPending(): boolean {
    return this.hasVirtualNmi && this.#has(Mask.virtualNmi) && !this.#has(Mask.virtualNmiMask) && this.#isGifOpen;
  }

  /** The virtual NMI is taken. */
  acknowledgeNmi(): void {
    this.#control &= ~Mask.virtualNmi;
    this.isNmiMasked = true;
  }

  set isNmiMasked(isMasked: boolean) {
    this.#control = isMasked ? this.#control | Mask.virtualNmiMask : this.#control & ~Mask.virtualNmiMask;
  }

  get #isGifOpen(): boolean {
    return !this.hasVirtualGif || this.#has(Mask.virtualGif);
  }

  /** A virtual interrupt waits that the guest's priority and its global interrupt flag let through. */
  get isPending(): boolean {
    if (!this.#has(Mask.virtualInterrupt) || !this.#isGifOpen) return false;
    const priority = (this.#control & Mask.priority) >>> interruptPriorityShift;
    return this.#has(Mask.ignoreTaskPriority) || priority > (this.taskPriority & 0xf);
  }

  /** No interrupt waits, whatever holds it off, and NMIs are not the guest's own. */
  get areIdle(): boolean {
    return !this.#has(Mask.virtualInterrupt | Mask.virtualNmiEnable);
  }

  /** The interrupt is taken. */
  acknowledge(): void {
    this.#control &= ~Mask.virtualInterrupt;
  }

  get taskPriority(): number {
    return this.#control & Mask.taskPriority;
  }

  set taskPriority(value: number) {
    this.#control = (this.#control & ~Mask.taskPriority) | (value & Mask.taskPriority);
  }
}
