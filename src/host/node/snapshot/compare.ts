/** What is different between two snapshots: pages of their regions, and values of their states. */
import { type Json, isObject } from "../../../base/shape.ts";
import type { SavedComponent } from "../../../machine/saved-components.ts";
import { granuleBytes, pageBytes, pagesPerGranule } from "./layout.ts";
import type { Snapshot, SnapshotRegion } from "./reader.ts";

export interface PageRange {
  /** Offset in the region. */
  readonly start: number;
  readonly sizeBytes: number;
}

export interface RegionDifference {
  readonly name: string;
  readonly differingPages: number;
  /** Ascending, adjacent pages joined. */
  readonly ranges: readonly PageRange[];
}

export interface StateDifference {
  readonly component: string;
  /** Names of properties and numbers of elements, joined by dots; empty for the whole component. */
  readonly path: string;
  /** Undefined: not there. */
  readonly left: Json | undefined;
  readonly right: Json | undefined;
}

/** Regions that differ; a region that one of them lacks is compared with zeros. */
export function compareRegions(left: Snapshot, right: Snapshot): RegionDifference[] {
  const names = new Set([...left.regions, ...right.regions].map(({ name }) => name));
  return [...names].flatMap((name) => {
    const ranges = differingRanges(left.region(name), right.region(name));
    const differingPages = ranges.reduce((sum, { sizeBytes }) => sum + sizeBytes / pageBytes, 0);
    return differingPages === 0 ? [] : [{ name, differingPages, ranges }];
  });
}

function differingRanges(left: SnapshotRegion | undefined, right: SnapshotRegion | undefined): PageRange[] {
  const granules = new Set([...left?.granules() ?? [], ...right?.granules() ?? []]);
  const ranges: { start: number; sizeBytes: number }[] = [];
  const leftBytes = Buffer.alloc(granuleBytes), rightBytes = Buffer.alloc(granuleBytes);
  for (const granule of [...granules].toSorted((a, b) => a - b)) {
    // Most of a snapshot that is based on the other is the other's.
    if (left !== undefined && right !== undefined && left.isSame(granule, right)) continue;
    readGranule(left, granule, leftBytes);
    readGranule(right, granule, rightBytes);
    for (let page = 0; page < pagesPerGranule; page++) {
      const from = page * pageBytes, to = from + pageBytes, start = granule * granuleBytes + from;
      if (leftBytes.compare(rightBytes, from, to, from, to) === 0) continue;
      const last = ranges.at(-1);
      if (last !== undefined && last.start + last.sizeBytes === start) last.sizeBytes += pageBytes;
      else ranges.push({ start, sizeBytes: pageBytes });
    }
  }
  return ranges;
}

function readGranule(region: SnapshotRegion | undefined, granule: number, target: Buffer): void {
  target.fill(0);
  region?.read(granule, target);
}

/** Differences of all components, in their order. */
export function compareStates(left: readonly SavedComponent[], right: readonly SavedComponent[]): StateDifference[] {
  const lefts = new Map(left.map((component) => [component.name, component.state]));
  const rights = new Map(right.map((component) => [component.name, component.state]));
  return [...new Set([...lefts.keys(), ...rights.keys()])].flatMap((component) =>
    compareJson(lefts.get(component), rights.get(component)).map((difference) => ({ component, ...difference })));
}

function compareJson(left: Json | undefined, right: Json | undefined, path = ""): Omit<StateDifference, "component">[] {
  if (Array.isArray(left) && Array.isArray(right) && left.length === right.length) {
    const rights: readonly Json[] = right;
    return left.flatMap((element: Json, index) => compareJson(element, rights[index], join(path, String(index))));
  }
  if (left !== undefined && right !== undefined && isObject(left) && isObject(right)) {
    const names = new Set([...Object.keys(left), ...Object.keys(right)]);
    return [...names].flatMap((name) => compareJson(left[name], right[name], join(path, name)));
  }
  return JSON.stringify(left) === JSON.stringify(right) ? [] : [{ path, left, right }];
}

function join(path: string, name: string): string {
  return path === "" ? name : `${path}.${name}`;
}
