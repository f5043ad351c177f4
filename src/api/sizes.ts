/** Sizes and times as people write them: "512M", "2GiB", "1.5G"; "20", "90s", "5m". */
import { UserError } from "../base/errors.ts";

const mebibyte = 2 ** 20;
const sizeUnits: Readonly<Record<string, number>> = { k: 2 ** 10, m: mebibyte, g: 2 ** 30, t: 2 ** 40 };
const timeUnits: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
const longestTimeoutMs = 2 ** 31 - 1;

/**
 * Bytes of a size with a unit K, M, G or T (1024-based); without a unit, MiB.
 * @throws UserError BAD_MEMORY_SIZE unless it is a whole number of bytes above zero.
 */
export function parseSize(text: string): number {
  const match = /^(?<number>\d+(?:\.\d+)?)\s*(?<unit>[kmgt])?(?:i?b)?$/iu.exec(text.trim());
  const unit = match?.groups?.["unit"]?.toLowerCase();
  const sizeBytes = Number(match?.groups?.["number"]) * (unit === undefined ? mebibyte : sizeUnits[unit]);
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0) {
    throw new UserError("BAD_MEMORY_SIZE", `"${text}" is no size of memory: write it like 512M or 2G`);
  }
  return sizeBytes;
}

/**
 * Milliseconds of a time with a unit ms, s, m or h; without a unit, seconds.
 * @throws UserError BAD_ARGUMENT.
 */
export function parseDuration(text: string): number {
  const match = /^(?<number>\d+(?:\.\d+)?)\s*(?<unit>ms|s|m|h)?$/iu.exec(text.trim());
  const milliseconds = Math.round(Number(match?.groups?.["number"]) * timeUnits[match?.groups?.["unit"]?.toLowerCase() ?? "s"]);
  if (!(milliseconds > 0 && milliseconds <= longestTimeoutMs)) {
    throw new UserError("BAD_ARGUMENT", `"${text}" is no duration: write it like 30s, 5m or 500ms; at most 24 days`);
  }
  return milliseconds;
}
