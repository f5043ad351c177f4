/** Saves a machine that stands still: its state, its memory, and what its overlays hold, as a snapshot file. */
import { dirname, isAbsolute, relative, resolve } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { UserError } from "../base/errors.ts";
import type { BootProtocol } from "../boot/contract.ts";
import { byteContents } from "../host/node/snapshot/byte-region.ts";
import { granuleBytes } from "../host/node/snapshot/layout.ts";
import type { DiskReference, MachineDescription, ParentReference } from "../host/node/snapshot/manifest.ts";
import { overlayContents } from "../host/node/snapshot/overlay-store.ts";
import { Snapshot } from "../host/node/snapshot/reader.ts";
import { type RegionContents, type SnapshotProgress, writeSnapshot } from "../host/node/snapshot/writer.ts";
import { programVersion } from "../host/node/program-version.ts";
import type { Machine } from "../machine/machine.ts";
import type { AttachedDisk } from "./prepare.ts";
import type { VmParts } from "./vm-parts.ts";

export interface SnapshotOptions {
  /** Path of an earlier snapshot of this machine: the new one holds only what has changed since, and needs the other. */
  readonly parent?: string;
  readonly onProgress?: (progress: SnapshotProgress) => void;
  readonly signal?: AbortSignal;
}

export interface SnapshotReport {
  readonly id: string;
  readonly path: string;
  readonly fileBytes: number;
  /** Of memory, display and disks, in pages of 4 KiB. */
  readonly storedPages: number;
  /** How long the machine was held. */
  readonly seconds: number;
}

/** A machine that stands still. */
export interface SaveSubject {
  readonly machine: Machine;
  readonly parts: VmParts;
  readonly accelerator: "soft" | "kvm";
  readonly bootProtocol: BootProtocol | undefined;
  /** The snapshot since which the machine has taken notes of what is written. */
  readonly baseId: string | undefined;
}

const quietTimeoutMs = 30_000;

export const ramRegion = "ram";
export const firmwareRegion = "firmware";
export const vgaBiosRegion = "vga-bios";

export function diskRegion(index: number): string {
  return `disk@${index}`;
}

/** @throws UserError FILE_NOT_WRITABLE, DISK_FAILED, ABORTED; for the parent what `Snapshot.open` throws. */
export async function saveSnapshot(path: string, subject: SaveSubject, options: SnapshotOptions): Promise<SnapshotReport> {
  const startMs = performance.now();
  await becomeQuiet(subject.machine);
  using parent = options.parent === undefined ? undefined : openParent(path, options.parent, subject.parts);
  const { machine, parts } = subject;
  const regions: RegionContents[] = [ramContents(subject, parent)];
  const components = machine.save({ put: (name, bytes) => regions.push(byteContents(name, bytes, parent?.region(name))) });
  const { firmware } = parts.config;
  if (firmware !== undefined) regions.push(byteContents(firmwareRegion, firmware.image, parent?.region(firmwareRegion)));
  if (firmware?.vgaBios !== undefined) regions.push(byteContents(vgaBiosRegion, firmware.vgaBios, parent?.region(vgaBiosRegion)));
  parts.disks.forEach(({ file, overlay }, index) => {
    if (overlay !== undefined) regions.push(overlayContents(diskRegion(index), file.sizeBytes, overlay.store, parent?.region(diskRegion(index))));
  });
  const description = describe(subject);
  const written = await writeSnapshot(path, {
    manifest: {
      parent: parent === undefined ? undefined : referenceTo(parent, path), createdBy: `ringmaster ${programVersion()}`,
      createdAt: new Date().toISOString(), accelerator: subject.accelerator, machine: description, components,
    },
    regions,
  }, options);
  return { ...written, seconds: (performance.now() - startMs) / 1000 };
}

/** Requests to back ends that answer later are not part of any state. */
async function becomeQuiet(machine: Machine): Promise<void> {
  const deadlineMs = performance.now() + quietTimeoutMs;
  while (machine.requestsUnderWay > 0) {
    if (performance.now() > deadlineMs) throw new UserError("DISK_FAILED", `A disk has not answered for ${quietTimeoutMs / 1000} s, and a machine that waits for a disk cannot be saved.`);
    await nextTurn();
  }
}

function openParent(path: string, parentPath: string, { config }: VmParts): Snapshot {
  if (resolve(path) === resolve(parentPath)) {
    throw new UserError("BAD_ARGUMENT", `The snapshot ${path} cannot be its own parent: give the new one another name.`);
  }
  const parent = Snapshot.open(parentPath);
  const { machine } = parent.manifest;
  if (machine.memorySizeBytes === config.memorySizeBytes && machine.disks.length === config.disks.length) return parent;
  parent.close();
  throw new UserError("BAD_ARGUMENT", `The snapshot ${parentPath} is one of another machine: a parent has to be an earlier snapshot of this one.`);
}

function referenceTo(parent: Snapshot, path: string): ParentReference {
  const near = relative(dirname(resolve(path)), resolve(parent.path));
  return { id: parent.manifest.id, path: isAbsolute(near) || near.startsWith("..") ? resolve(parent.path) : near };
}

function ramContents({ machine, parts, baseId }: SaveSubject, parent: Snapshot | undefined): RegionContents {
  const { memorySizeBytes } = parts.config;
  const source = parts.saved?.snapshot.region(ramRegion);
  const scratch = new Uint8Array(granuleBytes);
  const below = parent?.region(ramRegion);
  // Notes that began with another snapshot say nothing about this one.
  const written = parent !== undefined && parent.manifest.id === baseId ? machine.writtenPages() : undefined;
  return {
    name: ramRegion, sizeBytes: memorySizeBytes, background: "zero",
    granules: () => Array.from({ length: memorySizeBytes / granuleBytes }, (_, granule) => granule),
    read(granule) {
      const bytes = machine.memoryGranule(granule);
      if (bytes !== undefined || source === undefined) return bytes;
      scratch.fill(0);
      source.read(granule, scratch);
      return scratch;
    },
    ...(below === undefined ? {} : { parent: below }),
    ...(written === undefined ? {} : { changedPages: (granule: number) => written[2 * granule] | (written[2 * granule + 1] << 8) }),
  };
}

function describe({ machine, parts, bootProtocol }: SaveSubject): MachineDescription {
  const { config, random, disks, cdrom } = parts;
  const { clock, firmware } = config;
  return {
    memorySizeBytes: config.memorySizeBytes, cpu: config.cpu, timeStampFrequencyHz: machine.timeStampFrequencyHz,
    nsPerInstruction: clock.mode === "deterministic" ? clock.nsPerInstruction : undefined,
    randomState: random?.state, startEpochMs: config.startEpochMs, firmwareBytes: firmware?.image.length, vgaBiosBytes: firmware?.vgaBios?.length,
    disks: disks.map(describeDisk), cdrom: cdrom === undefined ? undefined : describeDisk({ file: cdrom, overlay: undefined, serial: undefined }),
    devices: config.devices, bootProtocol,
  };
}

function describeDisk({ file, overlay, serial }: AttachedDisk): DiskReference {
  // What the guest was told is on the disk must be there when the snapshot is.
  const failure = file.flush();
  if (failure !== undefined) throw new UserError("DISK_FAILED", failure.message, { cause: failure.cause });
  const { path, sizeBytes, readOnly, modifiedMs } = file;
  return { path: resolve(path), sizeBytes, modifiedMs, readOnly: readOnly && overlay === undefined, hasOverlay: overlay !== undefined, serial };
}
