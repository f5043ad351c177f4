/** Plain text tables for the terminal. */

/** Columns as wide as their widest cell; numbers are right-aligned. */
export function formatTable(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = header.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column].length)));
  const isNumeric = header.map((_, column) => rows.length > 0 && rows.every((row) => /^[\d.,×%-]+$/.test(row[column])));
  const format = (row: readonly string[]): string => row
    .map((cell, column) => isNumeric[column] ? cell.padStart(widths[column]) : cell.padEnd(widths[column]))
    .join("  ").trimEnd();
  return [format(header), widths.map((width) => "─".repeat(width)).join("  "), ...rows.map(format)].join("\n");
}
