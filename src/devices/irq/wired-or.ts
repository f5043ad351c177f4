/** Several level-triggered wires on one interrupt input: the input is high while any of them is. */
import type { IrqLine } from "../contract.ts";

/** Returns a maker of wires; `target` sees their OR. */
export function wiredOr(target: IrqLine): () => IrqLine {
  let highCount = 0;
  return () => {
    let isHigh = false;
    return {
      set(level: boolean): void {
        if (level === isHigh) return;
        isHigh = level;
        highCount += level ? 1 : -1;
        if (highCount === (level ? 1 : 0)) target.set(level);
      },
    };
  };
}

/** One wire that reaches several inputs (an ISA line goes to the PIC and to the I/O APIC). */
export function fanOut(...targets: readonly IrqLine[]): IrqLine {
  return {
    set(level: boolean): void {
      for (const target of targets) target.set(level);
    },
  };
}
