/** Counts a machine's exits: how often, how long in all, and how long each, by reason and place. */
import type { ExitObserver, ExitReason } from "../accel/exits.ts";

/** Exits of one reason at one port, address or register. */
export interface ExitLine {
  readonly reason: ExitReason;
  /** Undefined where there is none, and for further places when a guest has touched too many. */
  readonly place: number | undefined;
  /** What answers there. */
  readonly device: string | undefined;
  readonly count: number;
  /** What answering took, without the way from the guest and back. */
  readonly totalNs: number;
  /** Exits that took from 2^(n/4) to 2^((n+1)/4) nanoseconds, for n from 0 on; the last has the longer ones, too. */
  readonly histogram: readonly number[];
}

export interface ExitReport {
  /** The host's time that processors ran, answering exits included. */
  readonly runNs: number;
  /** By time, the most first. */
  readonly lines: readonly ExitLine[];
}

const bucketsPerDoubling = 4;
const buckets = 32 * bucketsPerDoubling;
/** Guests choose the places: beyond so many, further ones are counted together. */
const maximumLines = 4096;

interface Line {
  readonly reason: ExitReason;
  readonly place: number | undefined;
  count: number;
  totalNs: number;
  readonly histogram: Uint32Array;
}

export class ExitAccount implements ExitObserver {
  readonly #nowNs: () => number;
  /** By reason, then by place. */
  readonly #lines: Map<ExitReason, Map<number | undefined, Line>> = new Map();
  #lineCount = 0;
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
    line.histogram[bucketOf(ns)]++;
  }

  addRun(ns: number): void {
    this.#runNs += ns;
  }

  #line(reason: ExitReason, place: number | undefined): Line {
    let places = this.#lines.get(reason);
    if (places === undefined) this.#lines.set(reason, places = new Map());
    const line = places.get(place) ?? (this.#lineCount >= maximumLines ? places.get(undefined) : undefined);
    if (line !== undefined) return line;
    const kept = this.#lineCount >= maximumLines ? undefined : place;
    const made: Line = { reason, place: kept, count: 0, totalNs: 0, histogram: new Uint32Array(buckets) };
    places.set(kept, made);
    this.#lineCount++;
    return made;
  }

  /** `nameOf`: what answers at a port or address. */
  report(nameOf: (reason: ExitReason, place: number) => string | undefined): ExitReport {
    const lines = [...this.#lines.values()].flatMap((places) => [...places.values()]).map(({ histogram, ...line }): ExitLine => ({
      ...line, histogram: [...histogram], device: line.place === undefined ? undefined : nameOf(line.reason, line.place),
    }));
    return { runNs: this.#runNs, lines: byTime(lines) };
  }
}

function byTime(lines: readonly ExitLine[]): ExitLine[] {
  return lines.toSorted((a, b) => b.totalNs - a.totalNs || b.count - a.count);
}

function bucketOf(ns: number): number {
  return ns < 1 ? 0 : Math.min(Math.floor(Math.log2(ns) * bucketsPerDoubling), buckets - 1);
}

/** Where a bucket of a line's histogram begins, in nanoseconds. */
export function bucketStartNs(bucket: number): number {
  return 2 ** (bucket / bucketsPerDoubling);
}

/** The upper end of the bucket in which the given share of a line's exits ends, in nanoseconds: up to a fifth too much. */
export function percentileNs({ histogram, count }: ExitLine, share: number): number {
  let seen = 0;
  for (const [bucket, members] of histogram.entries()) {
    seen += members;
    if (members > 0 && seen >= count * share) return bucketStartNs(bucket + 1);
  }
  return bucketStartNs(buckets);
}

/** What has come to `before`, an earlier report of the same account. */
export function exitsSince(before: ExitReport, now: ExitReport): ExitReport {
  const key = ({ reason, place }: ExitLine): string => `${reason} ${place}`;
  const earlier = new Map(before.lines.map((line) => [key(line), line]));
  const lines = now.lines.flatMap((line): ExitLine[] => {
    const old = earlier.get(key(line));
    if (old === undefined) return [line];
    if (old.count === line.count) return [];
    return [{
      ...line, count: line.count - old.count, totalNs: line.totalNs - old.totalNs,
      histogram: line.histogram.map((members, bucket) => members - old.histogram[bucket]),
    }];
  });
  return { runNs: now.runNs - before.runNs, lines: byTime(lines) };
}
