/** Figures as text. */

export function formatSeconds(seconds: unknown): string {
  if (typeof seconds !== "number") return "–";
  return `${seconds.toFixed(seconds < 10 ? 3 : 1)} s`;
}

export function formatBytes(bytes: unknown): string {
  return typeof bytes === "number" ? `${Math.round(bytes / 2 ** 20)} MiB` : "–";
}

export function formatRatio(ratio: number): string {
  return `${ratio.toPrecision(ratio < 1 ? 2 : 3)}×`;
}
