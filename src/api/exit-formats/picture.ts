/** An account of exits as an SVG picture: for each place how long answers took, each from left to right, and what they took together. */
import { bucketStartNs, percentileNs, type ExitLine, type ExitReport } from "../../machine/exit-account.ts";
import { escapeMarkup, formatNs } from "../report-text.ts";
import { nameOfLine, totalsOf } from "./table.ts";

const width = 1080;
const margin = 20;
const headerHeight = 74;
const rowHeight = 24;
const axisHeight = 40;
const nameWidth = 330;
const stripWidth = 380;
const gap = 24;
const maximumRows = 40;
const colours = { background: "#ffffff", text: "#222222", faint: "#eeeeee", strip: "#30507a", mark: "#c8553d", bar: "#9cc8b0" } as const;

const stripStart = margin + nameWidth;
const barStart = stripStart + stripWidth + gap;
const barRoom = width - margin - barStart;

interface Axis {
  readonly first: number;
  readonly last: number;
}

/** Decades of nanoseconds that the distributions of all rows cover. */
function axisOf(lines: readonly ExitLine[]): Axis {
  const used = lines.flatMap(({ histogram }) => [histogram.findIndex((members) => members > 0), histogram.findLastIndex((members) => members > 0)]);
  const decade = (bucket: number): number => Math.log10(bucketStartNs(bucket));
  return { first: Math.floor(decade(Math.min(...used))), last: Math.max(Math.ceil(decade(Math.max(...used) + 1)), 1) };
}

function at(ns: number, { first, last }: Axis): number {
  return stripStart + ((Math.log10(ns) - first) / (last - first)) * stripWidth;
}

/** The darker, the more of the row's exits; a line from the median to the 99th percentile. */
function drawDistribution(line: ExitLine, axis: Axis, y: number): string[] {
  const most = Math.max(...line.histogram);
  const cells = line.histogram.flatMap((members, bucket) => {
    if (members === 0) return [];
    const from = at(bucketStartNs(bucket), axis), to = at(bucketStartNs(bucket + 1), axis);
    // The square root keeps what is rare in sight.
    return [`<rect x="${from.toFixed(1)}" y="${y + 4}" width="${(to - from).toFixed(1)}" height="${rowHeight - 8}" fill="${colours.strip}" opacity="${Math.max(0.08, Math.sqrt(members / most)).toFixed(2)}"/>`];
  });
  const [median, late] = [0.5, 0.99].map((share) => at(percentileNs(line, share), axis).toFixed(1));
  return [...cells, `<path d="M${median} ${y + 3}v${rowHeight - 6}M${median} ${y + rowHeight / 2}H${late}M${late} ${y + 7}v${rowHeight - 14}" stroke="${colours.mark}" stroke-width="2" fill="none"/>`];
}

function drawRow(line: ExitLine, axis: Axis, y: number, longestNs: number): string[] {
  const base = y + rowHeight / 2 + 4, length = (line.totalNs / longestNs) * barRoom;
  return [
    `<text x="${stripStart - 10}" y="${base}" text-anchor="end">${escapeMarkup([nameOfLine(line), line.device].filter((part) => part !== undefined).join(" · "))}</text>`,
    ...drawDistribution(line, axis, y),
    `<rect x="${barStart}" y="${y + 3}" width="${Math.max(1, length).toFixed(1)}" height="${rowHeight - 6}" fill="${colours.bar}"/>`,
    `<text x="${barStart + 6}" y="${base}" font-size="12">${formatNs(line.totalNs)} = ${line.count} × ${formatNs(line.totalNs / line.count)}</text>`,
  ];
}

function drawAxis({ first, last }: Axis, top: number, bottom: number): string[] {
  return Array.from({ length: last - first + 1 }, (_, index) => {
    const x = (stripStart + (index / (last - first)) * stripWidth).toFixed(1);
    return `<path d="M${x} ${top}V${bottom}" stroke="${colours.faint}"/><text x="${x}" y="${bottom + 16}" text-anchor="middle" font-size="11">${formatNs(10 ** (first + index))}</text>`;
  });
}

export function drawExits(report: ExitReport): string {
  const { runNs, lines } = report;
  const { count, totalNs } = totalsOf(report);
  // What takes no time of ours (a halt) has nothing to show here.
  const timed = lines.filter((line) => line.totalNs > 0), rows = timed.slice(0, maximumRows);
  const silent = lines.filter((line) => line.totalNs === 0).map((line) => `${line.count} × ${nameOfLine(line)}`).join(", ");
  const bottom = headerHeight + rows.length * rowHeight;
  const notes = [
    silent === "" ? [] : [`without a time: ${silent}`],
    timed.length > rows.length ? [`${timed.length - rows.length} more places took less`] : [],
  ].flat();
  const axis = rows.length === 0 ? undefined : axisOf(rows);
  const height = bottom + (axis === undefined ? 0 : axisHeight) + notes.length * 18 + margin;
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="13" fill="${colours.text}">`,
    "<title>What the guest was left for</title>",
    `<rect width="${width}" height="${height}" fill="${colours.background}"/>`,
    `<text x="${margin}" y="24" font-size="16" font-weight="bold">What the guest was left for</text>`,
    `<text x="${margin}" y="43" font-size="12">${count} exits; processors ran for ${formatNs(runNs)}, of which answering took ${formatNs(totalNs)}</text>`,
    `<text x="${stripStart}" y="${headerHeight - 8}" font-size="11">how long an answer took; from the median to the 99th percentile</text>`,
    `<text x="${barStart}" y="${headerHeight - 8}" font-size="11">all answers together</text>`,
    ...(axis === undefined ? [] : drawAxis(axis, headerHeight, bottom)),
    ...(axis === undefined ? [] : rows.flatMap((line, row) => drawRow(line, axis, headerHeight + row * rowHeight, rows[0].totalNs))),
    ...notes.map((note, index) => `<text x="${margin}" y="${bottom + axisHeight + index * 18 + 6}" font-size="12">${escapeMarkup(note)}</text>`),
    "</svg>",
  ];
  return `${parts.join("\n")}\n`;
}
