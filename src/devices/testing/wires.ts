/** Test doubles for what the board injects: recording interrupt lines and a seeded register hammer. */
import fc from "fast-check";
import { expect } from "vitest";
import type { VirtualClock } from "../clock.ts";
import type { AccessSize, IrqLine, RegisterBlock } from "../contract.ts";

export interface RecordingLine extends IrqLine {
  level: boolean;
  risingEdges: number;
}

export function recordingLine(): RecordingLine {
  return {
    level: false,
    risingEdges: 0,
    set(level) {
      if (level && !this.level) this.risingEdges++;
      this.level = level;
    },
  };
}

/** Runs every timer due until `ns`, each at its own time, as a machine that is never late does. */
export function runUntil(clock: VirtualClock, ns: number): void {
  for (let next = clock.nextDeadlineNs(); next !== undefined && next <= ns; next = clock.nextDeadlineNs()) {
    clock.advanceTo(Math.max(next, clock.nowNs()));
  }
  clock.advanceTo(ns);
}

/** Random accesses and passing time never throw and never read more than their size. */
export function hammer(build: () => { registers: RegisterBlock; clock: VirtualClock; sizeBytes: number; after?: () => void }): void {
  const access = fc.record({
    offset: fc.nat(0xffff),
    size: fc.constantFrom<AccessSize>(1, 2, 4),
    value: fc.oneof(fc.nat(0xff), fc.nat(0xffff_ffff)),
    kind: fc.constantFrom("read", "write", "write", "wait"),
  });
  fc.assert(
    fc.property(fc.array(access, { maxLength: 200 }), (accesses) => {
      const { registers, clock, sizeBytes, after } = build();
      for (const { offset, size, value, kind } of accesses) {
        const at = offset % Math.max(1, sizeBytes - size + 1);
        if (kind === "wait") {
          clock.advanceTo(clock.nowNs() + value);
        } else if (kind === "write") {
          registers.write(at, size, (value & (2 ** (8 * size) - 1)) >>> 0);
        } else {
          const read = registers.read(at, size);
          expect(Number.isInteger(read) && read >= 0 && read < 2 ** (8 * size)).toBe(true);
        }
      }
      after?.();
    }),
  );
}
