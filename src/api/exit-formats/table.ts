/** An account of exits as a table for the terminal. */
import { percentileNs, type ExitLine, type ExitReport } from "../../machine/exit-account.ts";
import { columns, formatNs } from "../report-text.ts";

/** What the guest did, and where. */
export function nameOfLine({ reason, place }: Pick<ExitLine, "reason" | "place">): string {
  return place === undefined ? reason : `${reason} 0x${place.toString(16)}`;
}

export interface ExitTotals {
  readonly count: number;
  readonly totalNs: number;
}

export function totalsOf({ lines }: ExitReport): ExitTotals {
  return lines.reduce((sum, { count, totalNs }) => ({ count: sum.count + count, totalNs: sum.totalNs + totalNs }), { count: 0, totalNs: 0 });
}

const numbers: ReadonlySet<string> = new Set(["COUNT", "TOTAL", "SHARE", "MEAN", "MEDIAN≤", "99%≤"]);

/** SHARE is of the time that processors ran. */
export function formatExitTable(report: ExitReport): string {
  const { runNs, lines } = report;
  const { count, totalNs } = totalsOf(report);
  const head = `${count} exits; processors ran for ${formatNs(runNs)}, of which answering took ${formatNs(totalNs)}\n`;
  if (lines.length === 0) return head;
  return head + columns(["EXIT", "DEVICE", "COUNT", "TOTAL", "SHARE", "MEAN", "MEDIAN≤", "99%≤"], lines.map((line) => [
    nameOfLine(line), line.device ?? "", String(line.count), ...line.totalNs === 0 ? ["", "", "", "", ""] : [
      formatNs(line.totalNs), `${((100 * line.totalNs) / Math.max(runNs, 1)).toFixed(1)} %`, formatNs(line.totalNs / line.count),
      formatNs(percentileNs(line, 0.5)), formatNs(percentileNs(line, 0.99)),
    ],
  ]), numbers);
}
