/** Signals from the terminal and the system: Ctrl-C goes to the guest, twice quickly ends us; others end us at once. */
import { signalStatus } from "./exit-status.ts";

const againWithinMs = 2000;

export interface InterruptHandlers {
  /** The first Ctrl-C. */
  onFirst(): void;
  /** We have to end with `status`. */
  onEnd(status: number): void;
}

export class Interrupts implements Disposable {
  readonly #handlers: InterruptHandlers;
  #lastMs = -Infinity;

  constructor(handlers: InterruptHandlers) {
    this.#handlers = handlers;
    process.on("SIGINT", this.#onInterrupt);
    for (const signal of ["SIGTERM", "SIGHUP"] as const) process.on(signal, this.#onSignal);
  }

  [Symbol.dispose](): void {
    process.off("SIGINT", this.#onInterrupt);
    for (const signal of ["SIGTERM", "SIGHUP"] as const) process.off(signal, this.#onSignal);
  }

  readonly #onInterrupt = (): void => {
    const nowMs = performance.now();
    if (nowMs - this.#lastMs < againWithinMs) this.#handlers.onEnd(signalStatus.SIGINT ?? 1);
    else this.#handlers.onFirst();
    this.#lastMs = nowMs;
  };

  readonly #onSignal = (signal: NodeJS.Signals): void => {
    this.#handlers.onEnd(signalStatus[signal] ?? 1);
  };
}
