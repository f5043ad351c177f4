/** A trace as an SVG picture: which level ran when, over the distribution of exits per reason. */
import type { TransitionLine, TransitionRecord } from "../../machine/transition-log.ts";
import { escapeMarkup, formatNs } from "../report-text.ts";
import type { TraceReport } from "../trace.ts";

const width = 960;
const margin = 20;
const headerHeight = 52;
const timelineHeight = 150;
const axisHeight = 34;
const legendHeight = 26;
const rowHeight = 24;
const nameWidth = 190;
const figureWidth = 300;
const slots = 460;
const maximumRows = 24;
const ticks = 8;
const colours = { background: "#ffffff", text: "#222222", faint: "#d5d5d5", levels: ["#9aa4b0", "#2a9d63", "#d9902f", "#8656a8", "#30507a"], exit: "#c8553d" } as const;

/** The hypervisor is level 1. */
function levelRunning({ kind, level }: TransitionRecord): number {
  return kind === "entry" ? level : 1;
}

function colourOf(level: number): string {
  return colours.levels[(level - 1) % colours.levels.length];
}

/** Per slot of the timeline, the time of each level in it; exits per slot. */
function distribute(records: readonly TransitionRecord[], startNs: number, slotNs: number): { readonly times: Map<number, Float64Array>; readonly exits: Uint32Array } {
  const times = new Map<number, Float64Array>();
  const exits = new Uint32Array(slots);
  for (const record of records) {
    const level = levelRunning(record);
    let row = times.get(level);
    if (row === undefined) {
      row = new Float64Array(slots);
      times.set(level, row);
    }
    let from = record.timeNs - startNs;
    const to = from + (record.durationNs ?? 0);
    const first = Math.min(slots - 1, Math.max(0, Math.floor(from / slotNs)));
    if (record.kind === "exit") exits[first]++;
    for (let slot = first; slot < slots && from < to; slot++) {
      const end = Math.min(to, (slot + 1) * slotNs);
      row[slot] += Math.max(0, end - from);
      from = end;
    }
  }
  return { times, exits };
}

/** The levels' shares of the time as areas on top of each other; exits per slot as a line. */
function drawTimeline({ records }: TraceReport, top: number): string[] {
  const startNs = records[0].timeNs, last = records[records.length - 1];
  const spanNs = Math.max(1, last.timeNs + (last.durationNs ?? 0) - startNs);
  const slotNs = spanNs / slots, plotWidth = width - 2 * margin, slotWidth = plotWidth / slots;
  const { times, exits } = distribute(records, startNs, slotNs);
  const levels = [...times.keys()].toSorted((a, b) => a - b);
  const x = (slot: number): string => (margin + slot * slotWidth).toFixed(1);
  const y = (share: number): string => (top + timelineHeight * (1 - Math.min(1, share))).toFixed(1);
  const below = new Float64Array(slots);
  const areas = levels.map((level) => {
    const row = times.get(level) ?? new Float64Array(slots);
    const lower = Array.from(below);
    for (let slot = 0; slot < slots; slot++) below[slot] += row[slot] / slotNs;
    const upward = Array.from(below, (share, slot) => `L${x(slot)} ${y(share)}L${x(slot + 1)} ${y(share)}`).join("");
    const back = lower.map((share, slot) => `L${x(slot + 1)} ${y(share)}L${x(slot)} ${y(share)}`).toReversed().join("");
    return `<path d="M${x(0)} ${y(lower[0])}${upward}${back}Z" fill="${colourOf(level)}"/>`;
  });
  const most = Math.max(1, ...exits);
  const line = Array.from(exits, (count, slot) => `${slot === 0 ? "M" : "L"}${(margin + (slot + 0.5) * slotWidth).toFixed(1)} ${y(count / most)}`).join("");
  const marks = Array.from({ length: ticks + 1 }, (_, tick) => {
    const at = margin + (tick / ticks) * plotWidth;
    const anchor = tick === 0 ? "start" : tick === ticks ? "end" : "middle";
    return `<path d="M${at.toFixed(1)} ${top + timelineHeight}v5" stroke="${colours.text}"/><text x="${at.toFixed(1)}" y="${top + timelineHeight + 18}" text-anchor="${anchor}" font-size="11">${formatNs((tick / ticks) * spanNs)}</text>`;
  });
  const legendY = top + timelineHeight + axisHeight + 12;
  const entries = [...levels.map((level) => [colourOf(level), level === 1 ? "L1, the hypervisor, after exits" : `L${level}, ${level === 2 ? "its guest" : "a guest's guest"}`]), [colours.exit, `exits, at most ${most} in ${formatNs(slotNs)}`]];
  const legend = entries.map(([colour, text], index) => `<rect x="${margin + index * 220}" y="${legendY - 10}" width="12" height="12" fill="${colour}"/><text x="${margin + index * 220 + 18}" y="${legendY}" font-size="12">${escapeMarkup(text)}</text>`);
  return [
    `<rect x="${margin}" y="${top}" width="${plotWidth}" height="${timelineHeight}" fill="#f4f4f4"/>`, ...areas,
    `<path d="${line}" fill="none" stroke="${colours.exit}" stroke-width="1"/>`, ...marks, ...legend,
  ];
}

/** A bar for a reason's share of the time after exits, with its count and times. */
function drawReasons(lines: readonly TransitionLine[], top: number): string[] {
  const longest = Math.max(1, ...lines.map(({ totalNs }) => totalNs));
  const barStart = margin + nameWidth, room = width - 2 * margin - nameWidth - figureWidth;
  return lines.flatMap(({ level, reason, count, totalNs }, row) => {
    const y = top + row * rowHeight, base = y + rowHeight / 2 + 4, length = Math.max(1, (totalNs / longest) * room);
    return [
      `<text x="${barStart - 8}" y="${base}" text-anchor="end">${escapeMarkup(`L${level} ${reason}`)}</text>`,
      `<rect x="${barStart}" y="${y + 4}" width="${length.toFixed(1)}" height="${rowHeight - 8}" fill="${colourOf(level)}"/>`,
      `<text x="${(barStart + length + 8).toFixed(1)}" y="${base}" font-size="12">${count} × ${formatNs(totalNs / count)} = ${formatNs(totalNs)}</text>`,
    ];
  });
}

export function drawTrace(report: TraceReport): string {
  const { records, lines, absence, extension, startNs, endNs } = report;
  const exits = lines.filter(({ kind }) => kind === "exit").slice(0, maximumRows);
  const hasTimeline = records.length > 0;
  const reasonsTop = headerHeight + (hasTimeline ? timelineHeight + axisHeight + legendHeight + 14 : 0);
  const height = reasonsTop + exits.length * rowHeight + margin;
  const counts = `${records.length + report.unlisted} entries and exits in ${formatNs(endNs - startNs)}`;
  const subtitle = absence ?? (report.unlisted === 0 ? counts : `${counts}; the timeline shows the first ${records.length}`);
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="13" fill="${colours.text}">`,
    `<title>Entries and exits of the guest's hypervisor</title>`,
    `<rect width="${width}" height="${height}" fill="${colours.background}"/>`,
    `<text x="${margin}" y="22" font-size="16" font-weight="bold">Entries and exits of the guest's hypervisor${extension === undefined ? "" : ` (${extension.toUpperCase()})`}</text>`,
    `<text x="${margin}" y="41" font-size="12">${escapeMarkup(subtitle)}</text>`,
    ...(hasTimeline ? drawTimeline(report, headerHeight) : []),
    ...drawReasons(exits, reasonsTop),
    "</svg>",
  ];
  return `${parts.join("\n")}\n`;
}
