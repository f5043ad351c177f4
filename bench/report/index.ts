/** A bench's result for people and for programs. */
import { formatTable } from "../../tools/table.ts";
import type { BenchResult, BenchRow } from "../contract.ts";
import { geometricMean } from "../statistics.ts";
import type { Targets } from "../targets.ts";
import type { Bar } from "./bars.ts";
import { formatRatio, formatSeconds } from "./format.ts";

export { formatBars } from "./bars.ts";
export { drawPicture } from "./picture.ts";

export function ratioBars(rows: readonly BenchRow[], targets: Targets): Bar[] {
  return rows.flatMap(({ name, ratio }) => ratio === null ? [] : [{ name, ratio, target: targets.rows[name] }]);
}

/** The mean of all rows' ratios; null when a row has none, because what is left would be another mean. */
export function geomeanRatio(rows: readonly BenchRow[]): number | null {
  const ratios = rows.filter(({ isOutsideMean }) => isOutsideMean !== true).map(({ ratio }) => ratio);
  return ratios.length > 0 && !ratios.includes(null) ? geometricMean(ratios.filter((ratio) => ratio !== null)) : null;
}

/** A target is of the mean of all rows that have one: the mean of a choice is not compared with it. */
function meanTarget(rows: readonly BenchRow[], targets: Targets): number | undefined {
  const names = new Set(rows.map(({ name }) => name));
  return Object.keys(targets.rows).every((name) => names.has(name)) ? targets.geometricMean : undefined;
}

function describeTarget(ratio: number | null, target: number | undefined): string {
  if (target === undefined) return "";
  return `≤ ${formatRatio(target)} ${ratio !== null && ratio <= target ? "met" : "missed"}`;
}

export function formatResult({ title, rows, columns, notes }: BenchResult, targets: Targets): string {
  const hasPeer = rows.some(({ peerSeconds, ratio }) => peerSeconds !== null || ratio !== null);
  const hasTargets = rows.some(({ name }) => targets.rows[name] !== undefined);
  const header = ["", "ours s", ...(hasPeer ? ["peer s", "ours/peer"] : []), ...(hasTargets ? ["target"] : []), ...columns.map((column) => column.title)];
  const figure = (seconds: number | null): string => seconds === null ? "–" : formatSeconds(seconds).replace(" s", "");
  const lines = rows.map((row) => [
    row.name, figure(row.oursSeconds),
    ...(hasPeer ? [figure(row.peerSeconds), row.ratio === null ? (row.failure === undefined ? "–" : "failed") : formatRatio(row.ratio)] : []),
    ...(hasTargets ? [describeTarget(row.ratio, targets.rows[row.name])] : []), ...columns.map((column) => column.text(row)),
  ]);
  const mean = geomeanRatio(rows);
  const target = describeTarget(mean, meanTarget(rows, targets));
  const isMeanOfSeveral = rows.filter(({ isOutsideMean }) => isOutsideMean !== true).length > 1;
  return [
    title, "", formatTable(header, lines), "",
    ...(isMeanOfSeveral && mean !== null ? [`geometric mean of ours/peer: ${formatRatio(mean)}${target === "" ? "" : ` (target ${target})`}`] : []),
    ...notes,
    ...rows.flatMap(({ name, failure }) => failure === undefined ? [] : [`FAILED ${name}: ${failure}`]),
  ].join("\n");
}

/** `further` are figures of the run as a whole. */
export function resultJson({ rows }: BenchResult, targets: Targets, further: Readonly<Record<string, number>> = {}): string {
  return JSON.stringify({
    rows: rows.map((row) => ({ ...row, target: targets.rows[row.name] ?? null })),
    geomeanRatio: geomeanRatio(rows),
    geomeanTarget: meanTarget(rows, targets) ?? null,
    ...further,
  });
}
