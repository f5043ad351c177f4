/** A trace of a guest's own hypervisor as text: for people, for programs, for Perfetto, and as a picture. */
import type { TraceReport } from "../trace.ts";
import { formatChromeTrace } from "./chrome-trace.ts";
import { formatJsonLines } from "./json-lines.ts";
import { drawTrace } from "./picture.ts";
import { formatSummary, formatTable } from "./table.ts";

export type TraceFormat = "table" | "summary" | "jsonl" | "perfetto" | "svg";

const formats: Readonly<Record<TraceFormat, (report: TraceReport) => string>> = {
  table: formatTable, summary: formatSummary, jsonl: formatJsonLines, perfetto: formatChromeTrace, svg: drawTrace,
};

export const traceFormats: readonly TraceFormat[] = Object.keys(formats) as TraceFormat[];

/**
 * "table" lists every entry and exit, "summary" the distribution per reason, "jsonl" has an object a line, "perfetto" is
 * Chrome's trace event format, which Perfetto opens, and "svg" a picture of the timeline above the distribution.
 *
 * ```ts
 * await writeFile("exits.svg", formatTrace(trace.stop(), "svg"));
 * ```
 */
export function formatTrace(report: TraceReport, format: TraceFormat): string {
  return formats[format](report);
}
