/** Counts a machine's exits: how often, how long in all, and how long each, by reason and place. */
import type { ExitObserver, ExitReason } from "../accel/exits.ts";

/** Exits of one reason at one port, address or register. */
export interface ExitLine {
  readonly reason: ExitReason;
  readonly place: number | undefined;
  /** What answers there. */
  readonly device: string | undefined;
  readonly count: number;
  readonly totalNs: number;
  /** Exits that took from 2^n to 2^(n+1) nanoseconds, for n from 0 on; the last has the longer ones, too. */
  readonly histogram: readonly number[];
}

export interface ExitReport {
  /** The host's time that processors ran, answering exits included. */
  readonly runNs: number;
  /** By time, the most first. */
  readonly lines: readonly ExitLine[];
}

const buckets = 32;
/** Guests choose the places: beyond so many, further ones are counted together. */
const maximumLines = 4096;

interface Line {
  readonly reason: ExitReason;
  readonly place: number | undefined;
  count: number;
  totalNs: number;
  readonly histogram: number[];
}

export class ExitAccount implements ExitObserver {
  readonly #nowNs: () => number;
  readonly #lines: Map<string, Line> = new Map();
  #runNs = 0;

  constructor(nowNs: () => number) {
    this.#nowNs = nowNs;
  }

  nowNs(): number {
    return this.#nowNs();
  }

  record(reason: ExitReason, place: number | undefined, ns: number): void {
    const line = this.#line(reason, place);
    line.count++;
    line.totalNs += ns;
    line.histogram[Math.min(Math.max(31 - Math.clz32(Math.min(ns, 0x7fff_ffff)), 0), buckets - 1)]++;
  }

  addRun(ns: number): void {
    this.#runNs += ns;
  }

  #line(reason: ExitReason, place: number | undefined): Line {
    const isNew = !this.#lines.has(`${reason} ${place}`);
    const known = isNew && this.#lines.size >= maximumLines ? undefined : place;
    const key = `${reason} ${known}`;
    let line = this.#lines.get(key);
    if (line === undefined) {
      line = { reason, place: known, count: 0, totalNs: 0, histogram: Array.from({ length: buckets }, () => 0) };
      this.#lines.set(key, line);
    }
    return line;
  }

  /** `nameOf`: what answers at a port or address. */
  report(nameOf: (reason: ExitReason, place: number) => string | undefined): ExitReport {
    const lines = [...this.#lines.values()].map((line) => ({
      ...line, histogram: [...line.histogram], device: line.place === undefined ? undefined : nameOf(line.reason, line.place),
    }));
    return { runNs: this.#runNs, lines: lines.toSorted((a, b) => b.totalNs - a.totalNs) };
  }
}

/** The upper end of the bucket in which the given share of a line's exits ends, in nanoseconds. */
export function percentileNs({ histogram, count }: ExitLine, share: number): number {
  let seen = 0;
  for (const [bucket, members] of histogram.entries()) {
    seen += members;
    if (seen >= count * share) return 2 ** (bucket + 1);
  }
  return 2 ** buckets;
}
