/** The host's monotonic clock as a machine's source of time; it can stand still while the machine is paused. */

/** Nanoseconds since power-on. */
export class HostClock {
  #startMs: number = performance.now();
  #pausedAtMs: number | undefined;

  /** `performance.now` has the resolution of `process.hrtime.bigint` here, and costs a guest's RDTSC no BigInt. */
  readonly nowNs = (): number => ((this.#pausedAtMs ?? performance.now()) - this.#startMs) * 1e6;

  pause(): void {
    this.#pausedAtMs ??= performance.now();
  }

  resume(): void {
    if (this.#pausedAtMs === undefined) return;
    this.#startMs += performance.now() - this.#pausedAtMs;
    this.#pausedAtMs = undefined;
  }
}
