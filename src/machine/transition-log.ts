/** Records what the guest's own hypervisor does: every entry into one of its guests and every exit, with how long what followed took. */
import type { Transition } from "../isa/virtualization.ts";

/** An entry or an exit. */
export interface TransitionRecord extends Transition {
  /** Of the machine's clock. */
  readonly timeNs: number;
  readonly processor: number;
  /** 2 for a guest of the hypervisor that the machine runs, 3 for a guest in a guest, and so on. Deduced from which entry follows which exit. */
  readonly level: number;
  /**
   * Until the processor's next transition: after an entry what the guest ran for, after an exit what the hypervisor took.
   * Undefined for a processor's last one.
   */
  readonly durationNs: number | undefined;
  /** Retired by the processor meanwhile. */
  readonly instructions: number | undefined;
}

/** What is recorded; whatever is absent admits everything. */
export interface TransitionFilter {
  /** Names of reasons, in any case: "NPF", "vmrun". */
  readonly reasons?: readonly string[];
  readonly kind?: Transition["kind"];
  readonly levels?: readonly number[];
  readonly processors?: readonly number[];
  /** The guest's RIP lies within, ends included. */
  readonly ripRange?: readonly [first: bigint, last: bigint];
  /** Only what took so long. */
  readonly minimumDurationNs?: number;
}

/** All transitions of one kind, level and reason that the filter admits. */
export interface TransitionLine {
  readonly kind: Transition["kind"];
  readonly level: number;
  readonly reason: string;
  readonly count: number;
  readonly totalNs: number;
  readonly instructions: number;
  readonly longestNs: number;
  /** Those that took from 2^n to 2^(n+1) nanoseconds, for n from 0 on; the last has the longer ones, too. */
  readonly histogram: readonly number[];
}

export interface TransitionReport {
  readonly startNs: number;
  readonly endNs: number;
  /** By time. */
  readonly records: readonly TransitionRecord[];
  /** Counted, but no longer among the records, of which there were too many. */
  readonly unlisted: number;
  /** The most time first. */
  readonly lines: readonly TransitionLine[];
  /** Transitions that the filter did not admit. */
  readonly filteredOut: number;
}

export interface TransitionLogOptions {
  readonly nowNs: () => number;
  readonly filter?: TransitionFilter;
  /** So many are listed; further ones are counted only. */
  readonly maximumRecords?: number;
}

const defaultMaximumRecords = 250_000;
const buckets = 32;
/** Of a guest of the machine's own hypervisor: the machine is 0, the hypervisor 1. */
const guestLevel = 2;
/** Exits by which a guest that is itself a hypervisor enters its guest. */
const enteringReasons: ReadonlySet<string> = new Set(["VMRUN", "VMLAUNCH", "VMRESUME"]);
/** Guests choose where control blocks are: beyond so many, levels are forgotten. */
const maximumBlocks = 4096;

interface Pending {
  readonly transition: Transition;
  readonly timeNs: number;
  readonly instructions: number;
  readonly level: number;
}

interface Line {
  readonly kind: Transition["kind"];
  readonly level: number;
  readonly reason: string;
  count: number;
  totalNs: number;
  instructions: number;
  longestNs: number;
  readonly histogram: number[];
}

export class TransitionLog {
  readonly #nowNs: () => number;
  readonly #filter: TransitionFilter;
  readonly #reasons: ReadonlySet<string> | undefined;
  readonly #maximumRecords: number;
  readonly #startNs: number;
  readonly #records: TransitionRecord[] = [];
  readonly #lines: Map<string, Line> = new Map();
  readonly #levels: Map<number, number> = new Map();
  /** The last transition of each processor. */
  readonly #pending: Map<number, Pending> = new Map();
  #unlisted = 0;
  #filteredOut = 0;

  constructor({ nowNs, filter = {}, maximumRecords = defaultMaximumRecords }: TransitionLogOptions) {
    this.#nowNs = nowNs;
    this.#filter = filter;
    this.#reasons = filter.reasons === undefined ? undefined : new Set(filter.reasons.map((reason) => reason.toUpperCase()));
    this.#maximumRecords = maximumRecords;
    this.#startNs = nowNs();
  }

  /** `instructions`: retired by the processor so far. */
  record(processor: number, instructions: number, transition: Transition): void {
    const timeNs = this.#nowNs();
    const last = this.#pending.get(processor);
    const level = this.#levelOf(transition, last);
    this.#pending.set(processor, { transition, timeNs, instructions, level });
    if (last !== undefined) this.#complete(processor, last, timeNs - last.timeNs, instructions - last.instructions);
  }

  /** The processors are others from here on: what they did last has no end. */
  interrupt(): void {
    for (const [processor, last] of this.#pending) this.#complete(processor, last, undefined, undefined);
    this.#pending.clear();
  }

  #levelOf({ kind, controlBlock }: Transition, last: Pending | undefined): number {
    const known = this.#levels.get(controlBlock);
    if (kind === "exit" && known !== undefined) return known;
    const isNested = last !== undefined && last.transition.kind === "exit" && last.transition.controlBlock !== controlBlock &&
      enteringReasons.has(last.transition.reason);
    const level = isNested ? last.level + 1 : known ?? guestLevel;
    if (level !== known) {
      if (this.#levels.size >= maximumBlocks) this.#levels.clear();
      this.#levels.set(controlBlock, level);
    }
    return level;
  }

  #complete(processor: number, { transition, timeNs, level }: Pending, durationNs: number | undefined, instructions: number | undefined): void {
    if (!this.#admits(processor, transition, level, durationNs)) {
      this.#filteredOut++;
      return;
    }
    this.#count(transition, level, durationNs ?? 0, instructions ?? 0);
    if (this.#records.length === this.#maximumRecords) this.#unlisted++;
    else this.#records.push({ ...transition, timeNs, processor, level, durationNs, instructions });
  }

  #admits(processor: number, { kind, reason, rip }: Transition, level: number, durationNs: number | undefined): boolean {
    const { kind: wanted, levels, processors, ripRange, minimumDurationNs } = this.#filter;
    return (wanted === undefined || kind === wanted) && (levels === undefined || levels.includes(level)) &&
      (processors === undefined || processors.includes(processor)) &&
      (this.#reasons === undefined || this.#reasons.has(reason.toUpperCase())) &&
      (ripRange === undefined || (rip >= ripRange[0] && rip <= ripRange[1])) &&
      (minimumDurationNs === undefined || (durationNs ?? 0) >= minimumDurationNs);
  }

  #count({ kind, reason }: Transition, level: number, durationNs: number, instructions: number): void {
    const key = `${kind} ${level} ${reason}`;
    let line = this.#lines.get(key);
    if (line === undefined) {
      line = { kind, level, reason, count: 0, totalNs: 0, instructions: 0, longestNs: 0, histogram: Array.from({ length: buckets }, () => 0) };
      this.#lines.set(key, line);
    }
    line.count++;
    line.totalNs += durationNs;
    line.instructions += instructions;
    line.longestNs = Math.max(line.longestNs, durationNs);
    line.histogram[Math.min(Math.max(31 - Math.clz32(Math.min(durationNs, 0x7fff_ffff)), 0), buckets - 1)]++;
  }

  /** What was recorded until now; the last transition of each processor is in it, without its end. */
  report(): TransitionReport {
    this.interrupt();
    return {
      startNs: this.#startNs, endNs: this.#nowNs(), records: this.#records.toSorted((a, b) => a.timeNs - b.timeNs), unlisted: this.#unlisted,
      lines: [...this.#lines.values()].map((line) => ({ ...line, histogram: [...line.histogram] })).toSorted((a, b) => b.totalNs - a.totalNs),
      filteredOut: this.#filteredOut,
    };
  }
}
