/** The host's monotonic clock as a machine's source of time; it can stand still while the machine is paused. */

/** Nanoseconds since power-on. */
export class HostClock {
  #startMs: number;
  #pausedAtMs: number | undefined;

  readonly #rate: number;

  /**
   * Stands still at `startNs`, which is not 0 for a machine that goes on from a snapshot, until it is resumed. Then it
   * moves on by `rate` of the host's time.
   */
  constructor(startNs = 0, rate = 1) {
    this.#rate = rate;
    this.#pausedAtMs = performance.now();
    this.#startMs = this.#pausedAtMs - startNs / rate / 1e6;
  }

  /** `performance.now` has the resolution of `process.hrtime.bigint` here, and costs a guest's RDTSC no BigInt. */
  readonly nowNs = (): number => ((this.#pausedAtMs ?? performance.now()) - this.#startMs) * 1e6 * this.#rate;

  pause(): void {
    this.#pausedAtMs ??= performance.now();
  }

  resume(): void {
    if (this.#pausedAtMs === undefined) return;
    this.#startMs += performance.now() - this.#pausedAtMs;
    this.#pausedAtMs = undefined;
  }
}
