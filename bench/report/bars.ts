/** Ratios as bars, for the terminal: to the right we are slower, to the left faster; a doubling is a fixed length. */
import { formatRatio } from "./format.ts";

export interface Bar {
  readonly name: string;
  readonly ratio: number;
  /** The highest ratio wanted. */
  readonly target?: number | undefined;
}

const cellsPerDoubling = 4;
const eighths = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/** Doublings that the axis spans on both sides of 1. */
export function axis(bars: readonly Bar[]): { readonly left: number; readonly right: number } {
  const doublings = bars.flatMap(({ ratio, target }) => [ratio, ...(target === undefined ? [] : [target])]).map(Math.log2);
  return { left: Math.max(0, Math.ceil(-Math.min(...doublings))), right: Math.max(0, Math.ceil(Math.max(...doublings))) };
}

export function formatBars(bars: readonly Bar[]): string {
  if (bars.length === 0) return "";
  const { left } = axis(bars);
  const nameWidth = Math.max(...bars.map(({ name }) => name.length));
  const lines = bars.map(({ name, ratio }) => {
    const cells = Math.log2(ratio) * cellsPerDoubling;
    const faster = "█".repeat(Math.round(Math.max(0, -cells))).padStart(left * cellsPerDoubling);
    const slower = cells <= 0 ? "" : "█".repeat(Math.floor(cells)) + eighths[Math.floor((cells % 1) * 8)];
    return `${name.padEnd(nameWidth)} ${faster}│${slower} ${formatRatio(ratio)}`;
  });
  return [...lines, `${"".padEnd(nameWidth)} ${"".padStart(left * cellsPerDoubling)}1×`].join("\n");
}
