/** Snapshots as information: what is in one, and what is different between two. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../base/errors.ts";
import type { Json } from "../base/shape.ts";
import { compareRegions, compareStates, type RegionDifference, type StateDifference } from "../host/node/snapshot/compare.ts";
import { pageBytes, pageCount } from "../host/node/snapshot/layout.ts";
import type { MachineDescription, ParentReference } from "../host/node/snapshot/manifest.ts";
import { Snapshot } from "../host/node/snapshot/reader.ts";

export const snapshotExtension = ".rmsnap";

export interface SnapshotInfo {
  readonly path: string;
  readonly id: string;
  readonly createdAt: string;
  readonly createdBy: string;
  readonly fileBytes: number;
  readonly accelerator: "soft" | "kvm";
  /** Nearest first. */
  readonly parents: readonly ParentReference[];
  readonly machine: MachineDescription;
  readonly regions: readonly {
    readonly name: string;
    readonly sizeBytes: number;
    /** Bytes that this file holds of it, not compressed. */
    readonly ownBytes: number;
    /** The same as they are in the file. */
    readonly compressedBytes: number;
  }[];
  readonly components: readonly { readonly name: string; readonly version: number; readonly state: Json }[];
}

export interface SnapshotDifference {
  /** What is different about the machines themselves. */
  readonly machine: readonly StateDifference[];
  readonly states: readonly StateDifference[];
  readonly regions: readonly RegionDifference[];
}

/**
 * What a snapshot says of itself; `verify` reads all of its memory too.
 * @throws UserError FILE_NOT_FOUND, FILE_NOT_READABLE, BAD_SNAPSHOT, SNAPSHOT_NEWER.
 */
export function inspectSnapshot(path: string, options: { readonly verify?: boolean } = {}): SnapshotInfo {
  using snapshot = Snapshot.open(path);
  if (options.verify === true) snapshot.verify();
  const { id, createdAt, createdBy, accelerator, machine, components } = snapshot.manifest;
  const parents: ParentReference[] = [];
  for (let next: Snapshot | undefined = snapshot; next !== undefined; next = next.parent) {
    if (next.parent !== undefined) parents.push({ id: next.parent.manifest.id, path: next.parent.path });
  }
  const regions = snapshot.regions.map(({ name, sizeBytes, entries }) => {
    let ownBytes = 0, compressedBytes = 0;
    for (const { storedPages, frameBytes } of entries.values()) {
      ownBytes += pageCount(storedPages) * pageBytes;
      compressedBytes += frameBytes;
    }
    return { name, sizeBytes, ownBytes, compressedBytes };
  });
  return { path, id, createdAt, createdBy, fileBytes: snapshot.sizeBytes, accelerator, parents, machine, regions, components };
}

/**
 * Snapshots below `directory`, not deeper, oldest first; `unusable` names files that look like some and are none.
 * @throws UserError FILE_NOT_FOUND, FILE_NOT_READABLE.
 */
export function listSnapshots(directory: string): { readonly snapshots: readonly SnapshotInfo[]; readonly unusable: readonly UserError[] } {
  let names: string[];
  try {
    names = readdirSync(directory).filter((name) => name.endsWith(snapshotExtension));
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : "unknown error";
    throw new UserError(code === "ENOENT" ? "FILE_NOT_FOUND" : "FILE_NOT_READABLE", `The directory ${directory} cannot be listed (${code}): check the path.`, { cause });
  }
  const snapshots: SnapshotInfo[] = [], unusable: UserError[] = [];
  for (const name of names) {
    try {
      snapshots.push(inspectSnapshot(join(directory, name)));
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      unusable.push(error);
    }
  }
  return { snapshots: snapshots.toSorted((a, b) => (a.createdAt < b.createdAt ? -1 : 1)), unusable };
}

/**
 * What is different between two snapshots.
 * @throws UserError as `inspectSnapshot` does.
 */
export function compareSnapshots(leftPath: string, rightPath: string): SnapshotDifference {
  using left = Snapshot.open(leftPath);
  using right = Snapshot.open(rightPath);
  const description = ({ manifest: { machine } }: Snapshot): Json =>
    JSON.parse(JSON.stringify(machine, (_, value: unknown) => typeof value === "bigint" ? `0x${value.toString(16)}` : value)) as Json;
  return {
    machine: compareStates([{ name: "machine", version: 1, state: description(left) }], [{ name: "machine", version: 1, state: description(right) }]),
    states: compareStates(left.manifest.components, right.manifest.components),
    regions: compareRegions(left, right),
  };
}
