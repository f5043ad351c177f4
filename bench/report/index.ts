/** A bench's result for people and for programs. */
import { formatTable } from "../../tools/table.ts";
import type { BenchResult, BenchRow } from "../contract.ts";
import { geometricMean } from "../statistics.ts";
import type { Bar } from "./bars.ts";
import { formatRatio, formatSeconds } from "./format.ts";

export { formatBars } from "./bars.ts";
export { drawPicture } from "./picture.ts";

export function ratioBars(rows: readonly BenchRow[]): Bar[] {
  return rows.flatMap(({ name, ratio }) => ratio === null ? [] : [{ name, ratio }]);
}

/** The mean of all rows' ratios; null when a row has none, because what is left would be another mean. */
export function geomeanRatio(rows: readonly BenchRow[]): number | null {
  const bars = ratioBars(rows);
  return bars.length === rows.length && rows.length > 0 ? geometricMean(bars.map(({ ratio }) => ratio)) : null;
}

export function formatResult({ title, rows, columns, notes }: BenchResult): string {
  const header = ["", "ours s", "peer s", "ours/peer", ...columns.map((column) => column.title)];
  const figure = (seconds: number | null): string => seconds === null ? "–" : formatSeconds(seconds).replace(" s", "");
  const lines = rows.map((row) => [
    row.name, figure(row.oursSeconds), figure(row.peerSeconds), row.ratio === null ? "failed" : formatRatio(row.ratio),
    ...columns.map((column) => column.text(row)),
  ]);
  const mean = geomeanRatio(rows);
  return [
    title, "", formatTable(header, lines), "",
    ...(rows.length > 1 && mean !== null ? [`geometric mean of ours/peer: ${formatRatio(mean)}`] : []),
    ...notes,
    ...rows.flatMap(({ name, failure }) => failure === undefined ? [] : [`FAILED ${name}: ${failure}`]),
  ].join("\n");
}

export function resultJson({ rows }: BenchResult): string {
  return JSON.stringify({ rows, geomeanRatio: geomeanRatio(rows) });
}
