/** An account of exits as text: for people, for programs, and as a picture. */
import { percentileNs, type ExitReport } from "../../machine/exit-account.ts";
import { drawExits } from "./picture.ts";
import { formatExitTable } from "./table.ts";

export type ExitFormat = "table" | "json" | "svg";

function formatJson({ runNs, lines }: ExitReport): string {
  return `${JSON.stringify({ runNs, lines: lines.map((line) => ({ ...line, p50Ns: percentileNs(line, 0.5), p99Ns: percentileNs(line, 0.99) })) }, null, 1)}\n`;
}

const formats: Readonly<Record<ExitFormat, (report: ExitReport) => string>> = { table: formatExitTable, json: formatJson, svg: drawExits };

/**
 * "table" is for the terminal, "json" has the histograms, too, and "svg" is a picture of the distributions.
 *
 * ```ts
 * const report = vm.exits();
 * if (report !== undefined) await writeFile("exits.svg", formatExits(report, "svg"));
 * ```
 */
export function formatExits(report: ExitReport, format: ExitFormat): string {
  return formats[format](report);
}
