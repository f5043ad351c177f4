/**
 * The machine's one clock: a binary heap of deadlines over a virtual nanosecond counter. The machine moves
 * it, from the host's time in real-time mode or from counted instructions in deterministic mode.
 */
import type { Clock, Timer } from "./contract.ts";

interface Entry {
  readonly deadlineNs: number;
  /** Order of arming; equal deadlines run in this order. */
  readonly sequence: number;
  /** Undefined once run or cancelled. */
  action: (() => void) | undefined;
}

function isBefore(left: Entry, right: Entry): boolean {
  return left.deadlineNs < right.deadlineNs || (left.deadlineNs === right.deadlineNs && left.sequence < right.sequence);
}

export interface VirtualClockOptions {
  /** Time at construction, for a restored machine; 0 at power-on. */
  readonly startNs?: number;
  /**
   * Virtual time between two calls of `advanceTo`, so that a guest polling a counter sees it move.
   * Without it, time stands still between the calls. It may lag: the clock never runs backwards.
   */
  readonly source?: () => number;
  /** Told of every deadline as it is armed: whoever runs the guest may have to come back earlier than it meant to. */
  readonly armed?: (deadlineNs: number) => void;
}

export class VirtualClock implements Clock {
  readonly #source: (() => number) | undefined;
  readonly #armed: (deadlineNs: number) => void;
  #nowNs: number;
  #sequence = 0;
  #cancelledCount = 0;
  #heap: Entry[] = [];

  constructor(options: VirtualClockOptions = {}) {
    this.#nowNs = options.startNs ?? 0;
    this.#source = options.source;
    this.#armed = options.armed ?? (() => {});
  }

  nowNs(): number {
    if (this.#source !== undefined) {
      const sourceNs = this.#source();
      if (sourceNs > this.#nowNs) this.#nowNs = sourceNs;
    }
    return this.#nowNs;
  }

  at(deadlineNs: number, action: () => void): Timer {
    const entry: Entry = { deadlineNs, sequence: this.#sequence++, action };
    this.#push(entry);
    this.#armed(deadlineNs);
    return {
      cancel: () => {
        if (entry.action === undefined) return;
        entry.action = undefined;
        this.#cancelledCount++;
        this.#compact();
      },
    };
  }

  /** The earliest pending deadline in nanoseconds, or undefined when nothing is armed. */
  nextDeadlineNs(): number | undefined {
    this.#dropCancelled();
    return this.#heap[0]?.deadlineNs;
  }

  /**
   * Moves time forward (never back) and runs the timers that were due, earliest first. Actions see the new
   * time, so a late host shows to devices as lateness. A timer armed by an action waits for the next call,
   * which bounds the work of one call whatever a guest programs.
   */
  advanceTo(ns: number): void {
    if (ns > this.#nowNs) this.#nowNs = ns;
    const limit = this.#sequence;
    const deferred: Entry[] = [];
    for (;;) {
      const first = this.#heap[0];
      if (first === undefined || first.deadlineNs > this.#nowNs) break;
      this.#pop();
      if (first.action === undefined) {
        this.#cancelledCount--;
      } else if (first.sequence >= limit) {
        deferred.push(first);
      } else {
        const action = first.action;
        first.action = undefined;
        action();
      }
    }
    for (const entry of deferred) this.#push(entry);
  }

  #dropCancelled(): void {
    while (this.#heap.length > 0 && this.#heap[0].action === undefined) {
      this.#pop();
      this.#cancelledCount--;
    }
  }

  /** Re-arming cancels: without this a guest that re-arms forever would grow the heap forever. */
  #compact(): void {
    if (this.#cancelledCount < 64 || this.#cancelledCount * 2 < this.#heap.length) return;
    const live = this.#heap.filter((entry) => entry.action !== undefined);
    this.#cancelledCount = 0;
    this.#heap = [];
    for (const entry of live) this.#push(entry);
  }

  #push(entry: Entry): void {
    const heap = this.#heap;
    let index = heap.length;
    heap.push(entry);
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!isBefore(entry, heap[parent])) break;
      heap[index] = heap[parent];
      index = parent;
    }
    heap[index] = entry;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1], heap[child])) child++;
      if (!isBefore(heap[child], last)) break;
      heap[index] = heap[child];
      index = child;
    }
    heap[index] = last;
  }
}
