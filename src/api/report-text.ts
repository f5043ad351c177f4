/** How reports write tables, times and names. */

/** Columns as wide as their widest cell; those of `numbers` end flush. */
export function columns(header: readonly string[], rows: readonly (readonly string[])[], numbers: ReadonlySet<string>): string {
  const widths = header.map((title, column) => rows.reduce((widest, row) => Math.max(widest, row[column].length), title.length));
  return [header, ...rows].map((row) => `${row.map((cell, column) => numbers.has(header[column]) ? cell.padStart(widths[column]) : cell.padEnd(widths[column])).join("  ").trimEnd()}\n`).join("");
}

/** With three digits or so. */
export function formatNs(ns: number): string {
  const [value, unit] = ns < 1000 ? [ns, "ns"] : ns < 1e6 ? [ns / 1e3, "µs"] : ns < 1e9 ? [ns / 1e6, "ms"] : [ns / 1e9, "s"];
  return `${value >= 100 || unit === "ns" ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)} ${unit}`;
}

export function escapeMarkup(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}
