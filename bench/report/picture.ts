/** Ratios as bars, as an SVG file: to the right we are slower, to the left faster, on a logarithmic axis. A dark mark is a target. */
import { axis, type Bar } from "./bars.ts";
import { formatRatio } from "./format.ts";

const rowHeight = 26;
const barHeight = 16;
const nameWidth = 120;
const valueWidth = 80;
const chartWidth = 560;
const headerHeight = 56;
const footerHeight = 30;
const colours = { faster: "#2a9d63", slower: "#c8553d", text: "#222222", faint: "#d5d5d5", target: "#30507a" } as const;

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}

export function drawPicture(title: string, subtitle: string, bars: readonly Bar[]): string {
  const { left, right } = axis(bars);
  const span = Math.max(1, left + right);
  const x = (doublings: number): number => nameWidth + ((doublings + left) / span) * chartWidth;
  const width = nameWidth + chartWidth + valueWidth, height = headerHeight + bars.length * rowHeight + footerHeight;
  const bottom = height - footerHeight;
  const ticks = Array.from({ length: span + 1 }, (_, index) => index - left);
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="13" fill="${colours.text}">`,
    `<title>${escape(title)}</title>`,
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    `<text x="12" y="22" font-size="16" font-weight="bold">${escape(title)}</text>`,
    `<text x="12" y="42" font-size="11">${escape(subtitle)}</text>`,
    ...ticks.map((tick) => `<line x1="${x(tick)}" y1="${headerHeight}" x2="${x(tick)}" y2="${bottom}" stroke="${tick === 0 ? colours.text : colours.faint}"/>`
      + `<text x="${x(tick)}" y="${bottom + 18}" text-anchor="middle" font-size="11">${formatRatio(2 ** tick)}</text>`),
    ...bars.flatMap(({ name, ratio, target }, row) => {
      const doublings = Math.log2(ratio);
      const y = headerHeight + row * rowHeight, middle = y + rowHeight / 2 + 4;
      const mark = target === undefined ? [] : [x(Math.log2(target)).toFixed(1)];
      const from = x(Math.min(0, doublings)), to = x(Math.max(0, doublings));
      return [
        `<text x="${nameWidth - 10}" y="${middle}" text-anchor="end">${escape(name)}</text>`,
        `<rect x="${from.toFixed(1)}" y="${y + (rowHeight - barHeight) / 2}" width="${(to - from).toFixed(1)}" height="${barHeight}" fill="${ratio <= 1 ? colours.faster : colours.slower}"/>`,
        ...mark.map((at) => `<path d="M${at} ${y + 1}v${rowHeight - 2}" stroke="${colours.target}" stroke-width="3"><title>target</title></path>`),
        `<text x="${(x(Math.max(0, doublings)) + 6).toFixed(1)}" y="${middle}">${formatRatio(ratio)}</text>`,
      ];
    }),
    "</svg>",
  ];
  return `${parts.join("\n")}\n`;
}
