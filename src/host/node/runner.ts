/** Drives a machine within Node's event loop: runs it in turns, and sleeps while every processor waits. */
import "./engine-flags.ts";
import type { MachineEnd } from "../../machine/config.ts";
import type { SliceResult } from "../../machine/machine.ts";

/** What the runner needs of a machine. */
export interface RunnableMachine {
  runSlice(): SliceResult;
  readonly clock: { nowNs(): number };
  /** Nanoseconds of its clock per nanosecond of the host's. */
  readonly timeRate: number;
}

/** Input, timers and signals of the host wait at most about this long. */
const turnMs = 4;
/** Timers of the event loop come up to a millisecond late; what is nearer is waited for by `Atomics.wait`. */
const timerSlackMs = 2;
/** A blocking wait comes about this late. */
const wakeUpMs = 0.08;
const longestTimerMs = 2 ** 31 - 1;

export class MachineRunner {
  readonly #machine: RunnableMachine;
  readonly #afterTurn: () => void;
  readonly #ended: PromiseWithResolvers<MachineEnd> = Promise.withResolvers();
  readonly #waitCell: Int32Array = new Int32Array(new SharedArrayBuffer(4));
  #immediate: NodeJS.Immediate | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isRunning = false;
  #isOver = false;

  /** `afterTurn` is called at the end of every turn, before the event loop gets its own. */
  constructor(machine: RunnableMachine, afterTurn: () => void = () => {}) {
    this.#machine = machine;
    this.#afterTurn = afterTurn;
  }

  /** How the machine ended by itself. Rejects when something in us broke. */
  get ended(): Promise<MachineEnd> {
    return this.#ended.promise;
  }

  get isRunning(): boolean {
    return this.#isRunning;
  }

  /** Starts, or goes on after `pause`. */
  resume(): void {
    if (this.#isRunning || this.#isOver) return;
    this.#isRunning = true;
    this.#schedule();
  }

  /** Runs nothing more until `resume`. */
  pause(): void {
    this.#isRunning = false;
    this.#cancel();
  }

  /** Something happened that the guest may be waiting for. */
  wake(): void {
    if (this.#timer === undefined) return;
    this.#cancel();
    this.#schedule();
  }

  #cancel(): void {
    clearTimeout(this.#timer);
    clearImmediate(this.#immediate);
    this.#timer = undefined;
    this.#immediate = undefined;
  }

  #schedule(): void {
    this.#immediate = setImmediate(this.#turn);
  }

  readonly #turn = (): void => {
    this.#immediate = undefined;
    this.#timer = undefined;
    try {
      const result = this.#runSlices();
      this.#afterTurn();
      if (result.kind === "ended") this.#finish(() => this.#ended.resolve(result.end));
      else if (!this.#isRunning || this.#immediate !== undefined) return;
      else if (result.kind === "running") this.#schedule();
      else this.#sleep(result.untilNs);
    } catch (error) {
      this.#finish(() => this.#ended.reject(error));
    }
  };

  #runSlices(): SliceResult {
    const endMs = performance.now() + turnMs;
    for (;;) {
      const result = this.#machine.runSlice();
      if (result.kind !== "running" || !this.#isRunning || performance.now() >= endMs) return result;
    }
  }

  #hostMsUntil(ns: number): number {
    return (ns - this.#machine.clock.nowNs()) / this.#machine.timeRate / 1e6;
  }

  #sleep(untilNs: number | undefined): void {
    // Without a deadline too, a timer is what keeps the event loop alive.
    const remainingMs = untilNs === undefined ? longestTimerMs : this.#hostMsUntil(untilNs);
    if (remainingMs < timerSlackMs) {
      // The event loop has its turn first, so that waiting starves nobody.
      this.#immediate = setImmediate(() => {
        const waitMs = untilNs === undefined ? 0 : this.#hostMsUntil(untilNs) - wakeUpMs;
        if (waitMs > 0) Atomics.wait(this.#waitCell, 0, 0, waitMs);
        this.#turn();
      });
      return;
    }
    this.#timer = setTimeout(this.#turn, Math.min(Math.floor(remainingMs - 1), longestTimerMs));
  }

  #finish(settle: () => void): void {
    this.#isRunning = false;
    this.#isOver = true;
    this.#cancel();
    settle();
  }
}
