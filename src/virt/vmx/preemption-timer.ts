/** The VMX-preemption timer, which counts down with the time stamp counter (SDM volume 3, "VMX-Preemption Timer"). */
import { preemptionTimerShift } from "./capabilities.ts";
import { Control } from "./controls.ts";
import type { VmxContext } from "./context.ts";
import { Field } from "./fields.ts";
import type { VmxGuestState } from "./saved-state.ts";

const shift = BigInt(preemptionTimerShift);

export class PreemptionTimer {
  readonly #context: VmxContext;
  #isActive = false;
  /** Ticks at VM entry, and the value then. */
  #startTicks = 0n;
  #startValue = 0;

  constructor(context: VmxContext) {
    this.#context = context;
  }

  #ticks(): bigint {
    return this.#context.processor.bus.timeStampCounter() >> shift;
  }

  enter(): void {
    const { vmcs } = this.#context;
    this.#isActive = this.#context.has(Control.preemptionTimer);
    if (!this.#isActive) return;
    this.#startTicks = this.#ticks();
    this.#startValue = vmcs.get32(Field.preemptionTimerValue);
    if (this.#startValue !== 0) this.#setAlarm();
  }

  get state(): Pick<VmxGuestState, "hasTimer" | "timerStartTicks" | "timerStartValue"> {
    return { hasTimer: this.#isActive, timerStartTicks: this.#startTicks, timerStartValue: this.#startValue };
  }

  restore({ hasTimer, timerStartTicks, timerStartValue }: VmxGuestState): void {
    this.#isActive = hasTimer;
    this.#startTicks = timerStartTicks;
    this.#startValue = timerStartValue;
    if (hasTimer) this.#setAlarm();
  }

  #setAlarm(): void {
    const { processor } = this.#context;
    processor.bus.setAlarm?.((this.#startTicks + BigInt(this.#startValue)) << shift, () => processor.attend());
  }

  get isExpired(): boolean {
    return this.#isActive && this.#ticks() - this.#startTicks >= BigInt(this.#startValue);
  }

  /** VM exit. */
  leave(): void {
    if (!this.#isActive) return;
    const { processor, vmcs } = this.#context;
    processor.bus.setAlarm?.(undefined, () => {});
    if (this.#context.has(Control.savePreemptionTimer)) {
      const passed = Number(this.#ticks() - this.#startTicks);
      vmcs.set32(Field.preemptionTimerValue, Math.max(0, this.#startValue - passed));
    }
    this.#isActive = false;
  }
}
