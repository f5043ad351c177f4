/** Opens a snapshot and makes of it what a machine that goes on from it consists of. */
import { UserError } from "../base/errors.ts";
import type { RegionSource } from "../base/shape.ts";
import { OverlayDisk } from "../devices/disk/overlay-disk.ts";
import { openRawDisk, type RawDisk } from "../host/node/raw-disk.ts";
import { badSnapshot } from "../host/node/snapshot/layout.ts";
import type { DiskReference } from "../host/node/snapshot/manifest.ts";
import { overlayBlockBytes, SnapshotOverlayStore } from "../host/node/snapshot/overlay-store.ts";
import { Snapshot } from "../host/node/snapshot/reader.ts";
import type { FirmwareConfig } from "../machine/config.ts";
import { savedTimeNs } from "../machine/machine.ts";
import { SavedComponents } from "../machine/saved-components.ts";
import type { AcceleratorChoice, JitChoice } from "./options.ts";
import type { AttachedDisk } from "./prepare.ts";
import { diskRegion, firmwareRegion, ramRegion, vgaBiosRegion } from "./save.ts";
import { diskConfig, timeAndRandom, type VmParts } from "./vm-parts.ts";

export interface RestoreOptions {
  /** Default "auto". What executed the machine before does not matter. */
  readonly accel?: AcceleratorChoice;
  /** Of the soft accelerator. Default "on". */
  readonly jit?: JitChoice;
  /**
   * So many machines that go on from the same moment, each with memory and disks of its own: what they share is never
   * written. Disks that the machine wrote to directly get an overlay.
   */
  readonly fork?: number;
  /** The machine was moved and not copied: the guest is not told, and its VM generation ID stays. Default false. */
  readonly keepGenerationId?: boolean;
  /** Where disk images are now, in the machine's order, when they have been moved. */
  readonly disks?: readonly string[];
  /** The machine is stopped after this many milliseconds of the host's time. */
  readonly timeoutMs?: number;
}

const maximumClones = 1000;

/** @throws UserError BAD_ARGUMENT. */
export function cloneCount(fork: number): number {
  if (Number.isInteger(fork) && fork >= 1 && fork <= maximumClones) return fork;
  throw new UserError("BAD_ARGUMENT", `${fork} clones cannot be made: give a number from 1 to ${maximumClones}.`);
}

/** @throws UserError FILE_NOT_FOUND, FILE_NOT_READABLE, BAD_SNAPSHOT, SNAPSHOT_NEWER, and what opening disks throws. */
export async function restoredParts(path: string, options: RestoreOptions): Promise<VmParts> {
  const snapshot = Snapshot.open(path);
  const openFiles: RawDisk[] = [];
  try {
    return buildParts(snapshot, options, openFiles);
  } catch (error) {
    for (const file of openFiles) file.close();
    snapshot.close();
    throw error;
  }
}

function buildParts(snapshot: Snapshot, options: RestoreOptions, openFiles: RawDisk[]): VmParts {
  const { machine, components } = snapshot.manifest;
  const ram = snapshot.region(ramRegion);
  if (ram === undefined || ram.sizeBytes !== machine.memorySizeBytes) throw badSnapshot(snapshot.path, "it has no memory");
  const regions: RegionSource = {
    take: (name, sizeBytes) => {
      const region = snapshot.region(name);
      return region?.sizeBytes === sizeBytes ? region.readAll() : undefined;
    },
  };
  const attach = (reference: DiskReference, index: number): AttachedDisk => attachDisk(snapshot, reference, index, options, openFiles);
  if (options.disks !== undefined && options.disks.length !== machine.disks.length) {
    throw new UserError("BAD_ARGUMENT", `The snapshot has ${machine.disks.length} disks, and ${options.disks.length} paths were given: give one for each, in their order.`);
  }
  const disks = machine.disks.map(attach);
  const cdrom = machine.cdrom === undefined ? undefined : openDisk(machine.cdrom, machine.cdrom.path, true, openFiles);
  const firmware = readFirmware(snapshot, regions);
  const saved = new SavedComponents(components, regions);
  const { clock, random, config } = timeAndRandom({
    startNs: savedTimeNs(saved), nsPerInstruction: machine.nsPerInstruction, seed: machine.randomState,
  });
  return {
    config: {
      ...config,
      memorySizeBytes: machine.memorySizeBytes, cpu: machine.cpu, timeStampFrequencyHz: machine.timeStampFrequencyHz, startEpochMs: machine.startEpochMs,
      disks: disks.map(diskConfig), devices: machine.devices,
      ...(cdrom === undefined ? {} : { cdrom }),
      ...(firmware === undefined ? {} : { firmware }),
    },
    clock, random, disks, cdrom, openFiles, kernel: undefined,
    saved: {
      snapshot, bootProtocol: machine.bootProtocol, isCopy: options.keepGenerationId !== true,
      machine: {
        components: saved,
        fillStorage: (instance) => instance.fillStorage({
          granules: () => [...ram.granules()].filter((granule) => ram.hasStoredPages(granule)),
          read: (granule, target) => ram.read(granule, target),
        }),
      },
    },
  };
}

function readFirmware(snapshot: Snapshot, regions: RegionSource): FirmwareConfig | undefined {
  const { firmwareBytes, vgaBiosBytes } = snapshot.manifest.machine;
  if (firmwareBytes === undefined) return undefined;
  const image = regions.take(firmwareRegion, firmwareBytes);
  const vgaBios = vgaBiosBytes === undefined ? undefined : regions.take(vgaBiosRegion, vgaBiosBytes);
  if (image === undefined || (vgaBiosBytes !== undefined && vgaBios === undefined)) throw badSnapshot(snapshot.path, "it has no firmware");
  return { image, ...(vgaBios === undefined ? {} : { vgaBios }) };
}

function attachDisk(snapshot: Snapshot, reference: DiskReference, index: number, { fork, disks }: RestoreOptions, openFiles: RawDisk[]): AttachedDisk {
  const { readOnly, hasOverlay, serial } = reference;
  const needsOverlay = hasOverlay || (fork !== undefined && !readOnly);
  const file = openDisk(reference, disks?.[index] ?? reference.path, readOnly || needsOverlay, openFiles, disks !== undefined);
  if (!needsOverlay) return { file, overlay: undefined, serial };
  const region = snapshot.region(diskRegion(index));
  if (hasOverlay && region?.sizeBytes !== reference.sizeBytes) throw badSnapshot(snapshot.path, `it lacks what disk ${index} had changed`);
  const store = region === undefined ? {} : { store: new SnapshotOverlayStore(region) };
  return { file, overlay: new OverlayDisk(file, { ...store, blockBytes: overlayBlockBytes }), serial };
}

/** The contents that a guest remembers must be those that are there. */
function openDisk({ sizeBytes, modifiedMs }: DiskReference, path: string, readOnly: boolean, openFiles: RawDisk[], wasMoved = false): RawDisk {
  const file = openRawDisk(path, { readOnly });
  openFiles.push(file);
  if (file.sizeBytes !== sizeBytes) {
    throw new UserError("BAD_SNAPSHOT", `The disk image ${path} has ${file.sizeBytes} bytes, and had ${sizeBytes} when the snapshot was saved: it is not the same.`);
  }
  if (!wasMoved && file.modifiedMs !== modifiedMs) {
    throw new UserError("BAD_SNAPSHOT", `The disk image ${path} was written to after the snapshot was saved, so that what the guest remembers of it is wrong: put the older contents back. Disks with an overlay (--disk ${path},overlay) stay as they are, and become part of the snapshot.`);
  }
  return file;
}
