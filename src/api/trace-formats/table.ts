/** A trace as tables for the terminal: every entry and exit, and the distribution per reason. */
import type { TransitionLine } from "../../machine/transition-log.ts";
import { columns, formatNs } from "../report-text.ts";
import type { TraceReport } from "../trace.ts";
import { hex } from "./json-lines.ts";

/** The upper end of the bucket in which the given share of a line's transitions ends. */
function percentileNs({ histogram, count, longestNs }: TransitionLine, share: number): number {
  let seen = 0;
  for (const [bucket, members] of histogram.entries()) {
    seen += members;
    if (seen >= count * share) return Math.min(2 ** (bucket + 1), longestNs);
  }
  return longestNs;
}

function span({ startNs, endNs }: TraceReport): string {
  return formatNs(endNs - startNs);
}

export function formatTable(report: TraceReport): string {
  const { records, absence, startNs } = report;
  if (absence !== undefined) return `no entry and no exit in ${span(report)}: ${absence}\n`;
  return columns(["TIME/µs", "CPU", "LEVEL", "EVENT", "REASON", "INFORMATION", "RIP", "SPACE", "TOOK", "INSTRUCTIONS"], records.map((record) => [
    ((record.timeNs - startNs) / 1000).toFixed(1), String(record.processor), `L${record.level}`, record.kind, record.reason,
    record.kind === "entry" ? "" : record.information.map(hex).join(" "), hex(record.rip), String(record.space),
    record.durationNs === undefined ? "" : formatNs(record.durationNs), String(record.instructions ?? ""),
  ]), new Set(["TIME/µs", "CPU", "SPACE", "TOOK", "INSTRUCTIONS"])) + formatUnlisted(report);
}

function formatUnlisted({ unlisted }: TraceReport): string {
  return unlisted === 0 ? "" : `${unlisted} more were counted and are not listed: give a filter, or a higher limit\n`;
}

/** What an entry or exit took is the time until the next one: of the guest, or of its hypervisor. */
export function formatSummary(report: TraceReport): string {
  const { lines, absence, extension } = report;
  if (absence !== undefined) return `no entry and no exit in ${span(report)}: ${absence}\n`;
  const exits = lines.filter(({ kind }) => kind === "exit"), entries = lines.filter(({ kind }) => kind === "entry");
  const total = (of: readonly TransitionLine[]): number => of.reduce((sum, { totalNs }) => sum + totalNs, 0);
  const count = (of: readonly TransitionLine[]): number => of.reduce((sum, line) => sum + line.count, 0);
  const head = `${extension}: ${count(entries)} entries and ${count(exits)} exits in ${span(report)}; ${formatNs(total(entries))} in guests, ${formatNs(total(exits))} in hypervisors after exits\n`;
  const wholeNs = Math.max(1, total(exits));
  const table = exits.length === 0 ? "" : columns(["LEVEL", "EXIT", "COUNT", "TOTAL", "SHARE", "MEAN", "MEDIAN≤", "99%≤", "LONGEST", "INSTRUCTIONS"], exits.map((line) => [
    `L${line.level}`, line.reason, String(line.count), formatNs(line.totalNs), `${((line.totalNs / wholeNs) * 100).toFixed(1)} %`, formatNs(line.totalNs / line.count),
    formatNs(percentileNs(line, 0.5)), formatNs(percentileNs(line, 0.99)), formatNs(line.longestNs), (line.instructions / line.count).toFixed(0),
  ]), new Set(["COUNT", "TOTAL", "SHARE", "MEAN", "MEDIAN≤", "99%≤", "LONGEST", "INSTRUCTIONS"]));
  return head + table + formatUnlisted(report);
}
