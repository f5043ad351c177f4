/** Exact conversion between virtual nanoseconds and the ticks of a fixed-frequency counter. */

const nsPerSecond = 1_000_000_000;

/**
 * Whole ticks of a `hertz` counter that started at 0 ns. Seconds and remainder are scaled apart, so that
 * every product stays below 2^53 and the result is exact for frequencies up to 9 MHz and years of uptime.
 */
export function ticksAt(ns: number, hertz: number): number {
  const seconds = Math.floor(ns / nsPerSecond);
  const remainderNs = Math.floor(ns - seconds * nsPerSecond);
  return seconds * hertz + Math.floor((remainderNs * hertz) / nsPerSecond);
}

/** The first nanosecond at which {@link ticksAt} reaches `ticks`. */
export function nsOfTick(ticks: number, hertz: number): number {
  const seconds = Math.floor(ticks / hertz);
  return seconds * nsPerSecond + Math.ceil(((ticks - seconds * hertz) * nsPerSecond) / hertz);
}
