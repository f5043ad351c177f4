/** What the command line says of snapshots: sizes, tables, lists of differences. */
import type { SnapshotDifference, SnapshotInfo, SnapshotReport } from "../api/index.ts";

const mebibyte = 2 ** 20;
const longestValue = 60;
const shownRanges = 8;

export function formatSize(sizeBytes: number): string {
  if (sizeBytes >= 10 * mebibyte) return `${Math.round(sizeBytes / mebibyte)} MiB`;
  return sizeBytes >= mebibyte ? `${(sizeBytes / mebibyte).toFixed(1)} MiB` : `${Math.ceil(sizeBytes / 1024)} KiB`;
}

/** A name for a snapshot that was given none. */
export function newSnapshotPath(): string {
  return `ringmaster-${new Date().toISOString().replaceAll(/[-:]/gu, "").replace(/\..*/u, "").replace("T", "-")}.rmsnap`;
}

export function describeSnapshot({ path, fileBytes, storedPages, seconds }: Pick<SnapshotReport, "path" | "fileBytes" | "storedPages" | "seconds">): string {
  return `saved ${path}: ${formatSize(fileBytes)} for ${formatSize(storedPages * 4096)} of memory and disks; the machine was held for ${seconds.toFixed(2)} s`;
}

/** Columns as wide as their widest cell. */
function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  return rows.map((row) => `${row.map((cell, column) => cell.padEnd(widths[column])).join("  ").trimEnd()}\n`).join("");
}

export function formatList(snapshots: readonly SnapshotInfo[]): string {
  return table([
    ["FILE", "SAVED", "MEMORY", "SIZE", "CPU", "BASED ON"],
    ...snapshots.map(({ path, createdAt, machine, fileBytes, parents }) =>
      [path, createdAt.replace(/\..*/u, "").replace("T", " "), formatSize(machine.memorySizeBytes), formatSize(fileBytes), machine.cpu, parents[0]?.path ?? "-"]),
  ]);
}

export function formatSnapshot(info: SnapshotInfo): string {
  const { path, id, createdAt, createdBy, fileBytes, accelerator, parents, machine, regions, components } = info;
  const facts: [string, string][] = [
    ["file", `${path}, ${formatSize(fileBytes)}`], ["id", id], ["saved", `${createdAt} by ${createdBy}, running on ${accelerator}`],
    ...parents.map((parent): [string, string] => ["based on", `${parent.path} (${parent.id})`]),
    ["memory", formatSize(machine.memorySizeBytes)],
    ["processor", `${machine.cpu}, time stamp counter at ${machine.timeStampFrequencyHz / 1e6} MHz`],
    ["time", machine.nsPerInstruction === undefined ? "the host's" : `deterministic, ${machine.nsPerInstruction} ns an instruction`],
    ["started", machine.firmwareBytes === undefined ? `a kernel, by ${machine.bootProtocol ?? "an unknown protocol"}` : `firmware of ${formatSize(machine.firmwareBytes)}`],
    ...machine.disks.map((disk, index): [string, string] => [`disk ${index}`, `${disk.path}, ${formatSize(disk.sizeBytes)}${disk.hasOverlay ? ", with an overlay" : disk.readOnly ? ", read-only" : ", written to directly"}`]),
    ...(machine.cdrom === undefined ? [] : [["cd-rom", machine.cdrom.path] satisfies [string, string]]),
  ];
  const contents = table([
    ["REGION", "SIZE", "IN THIS FILE", "COMPRESSED"],
    ...regions.map(({ name, sizeBytes, ownBytes, compressedBytes }) => [name, formatSize(sizeBytes), formatSize(ownBytes), formatSize(compressedBytes)]),
  ]);
  return `${table(facts.map((fact) => fact))}\n${contents}\nstate of: ${components.map(({ name, version }) => version === 1 ? name : `${name} (version ${version})`).join(", ")}\n`;
}

function formatValue(value: unknown): string {
  if (value === undefined) return "nothing";
  const text = JSON.stringify(value);
  return text.length > longestValue ? `${text.slice(0, longestValue)}…` : text;
}

export function formatDifference({ machine, states, regions }: SnapshotDifference): string {
  const values = [...machine, ...states].map(({ component, path, left, right }) =>
    `${[component, path].filter((part) => part !== "").join(": ")}: ${formatValue(left)} → ${formatValue(right)}\n`);
  const pages = regions.map(({ name, differingPages, ranges }) => {
    const shown = ranges.slice(0, shownRanges).map(({ start, sizeBytes }) => `0x${start.toString(16)}+${formatSize(sizeBytes)}`);
    const rest = ranges.length > shownRanges ? ` and ${ranges.length - shownRanges} more ranges` : "";
    return `${name}: ${differingPages} pages differ: ${shown.join(", ")}${rest}\n`;
  });
  return values.length === 0 && pages.length === 0 ? "no difference\n" : [...values, ...pages].join("");
}
