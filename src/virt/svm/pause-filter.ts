/** Which of a guest's PAUSE instructions lead to an exit (AMD APM volume 2, "Pause Intercept Filtering"). */
import type { StateView } from "../../isa/state-view.ts";
import { Control } from "./vmcb.ts";

export class PauseFilter {
  #initial = 0;
  #count = 0;
  /** 0: every PAUSE counts, however long after the one before. */
  #thresholdTicks = 0;
  #last = 0n;

  load(vmcb: StateView): void {
    this.#initial = this.#count = vmcb.get16(Control.pauseFilterCount);
    this.#thresholdTicks = vmcb.get16(Control.pauseFilterThreshold);
    this.#last = 0n;
  }

  get count(): number {
    return this.#count;
  }

  set count(value: number) {
    this.#count = value;
  }

  /** Counts a PAUSE at `now`, ticks of the time stamp counter. A loop is PAUSEs in quick succession: a gap starts anew. */
  letsThrough(now: bigint): boolean {
    const isGap = this.#thresholdTicks !== 0 && now - this.#last > BigInt(this.#thresholdTicks);
    if (isGap) this.#count = this.#initial;
    this.#last = now;
    if (this.#count === 0) return false;
    this.#count--;
    return true;
  }
}
