/** The local APIC timer (Intel SDM volume 3, "APIC Timer"): one-shot, periodic and TSC-deadline. */
import { boolean, finite, integer, object, optional, type Shape, uint32 } from "../../../base/shape.ts";
import type { Clock, Timer } from "../../contract.ts";
import { TimerMode } from "./registers.ts";

/** The timer counts nanoseconds before division; CPUID leaf 0x15 and the firmware tables say so too. */
export const busHertz = 1_000_000_000;

export interface ApicTimerState {
  mode: number;
  isMasked: boolean;
  initialCount: number;
  divideConfiguration: number;
  /** When the count was last equal to `initialCount`. */
  startNs: number;
  /** The next expiry that has not been dealt with; undefined when stopped. */
  expiryNs: number | undefined;
  /** IA32_TSC_DEADLINE in two words; 0 is disarmed. */
  deadlineLow: number;
  deadlineHigh: number;
}

export const apicTimerStateShape: Shape<ApicTimerState> = object({
  mode: uint32, isMasked: boolean, initialCount: uint32, divideConfiguration: integer(0, 0x0b), startNs: finite,
  expiryNs: optional(finite), deadlineLow: uint32, deadlineHigh: uint32,
});

export function resetApicTimerState(): ApicTimerState {
  return {
    mode: TimerMode.oneShot,
    isMasked: true,
    initialCount: 0,
    divideConfiguration: 0,
    startNs: 0,
    expiryNs: undefined,
    deadlineLow: 0,
    deadlineHigh: 0,
  };
}

export interface ApicTimerPorts {
  readonly clock: Clock;
  /** When the guest's TSC will have reached `tsc` (now or earlier if it already has). */
  tscDeadlineToNs(tsc: bigint): number;
  /** An unmasked timer has expired. */
  expire(): void;
}

export class ApicTimer {
  readonly state: ApicTimerState;
  readonly #ports: ApicTimerPorts;
  #timer: Timer | undefined;

  constructor(ports: ApicTimerPorts, state: ApicTimerState) {
    this.#ports = ports;
    this.state = state;
    this.#arm();
  }

  reset(): void {
    Object.assign(this.state, resetApicTimerState());
    this.#arm();
  }

  /** A write to the timer's LVT entry. Entering or leaving TSC-deadline mode disarms. */
  configure(mode: number, isMasked: boolean): void {
    const { state } = this;
    const isDeadline = mode === TimerMode.tscDeadline;
    if (isDeadline !== (state.mode === TimerMode.tscDeadline)) {
      state.initialCount = 0;
      state.expiryNs = undefined;
      state.deadlineLow = 0;
      state.deadlineHigh = 0;
    }
    state.mode = mode;
    state.isMasked = isMasked;
    this.#skipPassedExpiry();
    this.#arm();
  }

  writeInitialCount(count: number): void {
    const { state } = this;
    if (state.mode === TimerMode.tscDeadline) return;
    state.initialCount = count;
    state.startNs = this.#ports.clock.nowNs();
    state.expiryNs = count === 0 ? undefined : state.startNs + this.#periodNs();
    this.#arm();
  }

  currentCount(): number {
    const { state } = this;
    const { initialCount } = state;
    if (initialCount === 0 || state.mode === TimerMode.tscDeadline) return 0;
    const elapsed = Math.floor((this.#ports.clock.nowNs() - state.startNs) / this.#divisor());
    if (state.mode === TimerMode.periodic) return initialCount - (elapsed % initialCount);
    return Math.max(0, initialCount - elapsed);
  }

  writeDivideConfiguration(value: number): void {
    const { state } = this;
    const elapsedCounts = state.initialCount - this.currentCount();
    const hadExpiry = state.expiryNs !== undefined;
    state.divideConfiguration = value & 0x0b;
    if (state.initialCount === 0 || state.mode === TimerMode.tscDeadline) return;
    state.startNs = this.#ports.clock.nowNs() - elapsedCounts * this.#divisor();
    state.expiryNs = hadExpiry ? state.startNs + this.#periodNs() : undefined;
    this.#arm();
  }

  /** IA32_TSC_DEADLINE; reads as 0 once it has passed. */
  get deadline(): bigint {
    this.#skipPassedExpiry();
    return (BigInt(this.state.deadlineHigh) << 32n) | BigInt(this.state.deadlineLow);
  }

  /** IA32_TSC_DEADLINE; ignored outside its mode. */
  writeDeadline(value: bigint): void {
    const { state } = this;
    if (state.mode !== TimerMode.tscDeadline) return;
    state.deadlineLow = Number(value & 0xffff_ffffn);
    state.deadlineHigh = Number(value >> 32n);
    this.tscChanged();
  }

  /** The guest wrote its TSC or its offset: an armed deadline falls on another nanosecond. */
  tscChanged(): void {
    const { state } = this;
    if (state.mode !== TimerMode.tscDeadline) return;
    const { deadline } = this;
    state.expiryNs = deadline === 0n ? undefined : this.#ports.tscDeadlineToNs(deadline);
    this.#arm();
  }

  #divisor(): number {
    const { divideConfiguration } = this.state;
    const code = (divideConfiguration & 3) | ((divideConfiguration >> 1) & 4);
    return code === 7 ? 1 : 2 << code;
  }

  #periodNs(): number {
    return this.state.initialCount * this.#divisor();
  }

  /** While masked nobody is woken, so expiries pass by; they must not interrupt later. */
  #skipPassedExpiry(): void {
    const { state } = this;
    const nowNs = this.#ports.clock.nowNs();
    if (state.expiryNs === undefined || state.expiryNs > nowNs || this.#timer !== undefined) return;
    this.#moveOn(nowNs);
  }

  #moveOn(nowNs: number): void {
    const { state } = this;
    state.expiryNs = undefined;
    if (state.mode === TimerMode.periodic && state.initialCount !== 0) {
      const periodNs = this.#periodNs();
      state.startNs += Math.floor((nowNs - state.startNs) / periodNs) * periodNs;
      state.expiryNs = state.startNs + periodNs;
    } else if (state.mode === TimerMode.tscDeadline) {
      state.deadlineLow = 0;
      state.deadlineHigh = 0;
    }
  }

  #arm(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    const { expiryNs, isMasked } = this.state;
    if (expiryNs === undefined || isMasked) return;
    this.#timer = this.#ports.clock.at(expiryNs, () => {
      this.#timer = undefined;
      this.#moveOn(this.#ports.clock.nowNs());
      this.#arm();
      this.#ports.expire();
    });
  }
}
