/** HPET legacy replacement routing: while it is on, the PIT and the RTC do not reach their interrupt lines. */
import type { IrqLine } from "../../contract.ts";

export class LegacyGate {
  readonly #lines: { level: boolean; readonly target: IrqLine }[] = [];
  #isClosed = false;

  /** A wire that passes to `target` while the gate is open. */
  through(target: IrqLine): IrqLine {
    const line = { level: false, target };
    this.#lines.push(line);
    return {
      set: (level) => {
        line.level = level;
        if (!this.#isClosed) target.set(level);
      },
    };
  }

  /** The HPET's `legacyReplacement`. */
  setClosed(isClosed: boolean): void {
    this.#isClosed = isClosed;
    for (const { level, target } of this.#lines) target.set(level && !isClosed);
  }
}
