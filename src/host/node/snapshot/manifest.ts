/** The manifest of a snapshot: what the machine is made of, its components' states, and where its regions are. */
import {
  boolean, bytes, checked, count, finite, integer, list, mapped, oneOf, openObject, optional, type Shape, text, uint16, unsigned,
} from "../../../base/shape.ts";
import { type BootProtocol, bootProtocols } from "../../../boot/contract.ts";
import type { DeviceSelection } from "../../../machine/config.ts";
import { type SavedComponent, savedComponentsShape } from "../../../machine/saved-components.ts";

/** Another snapshot that this one continues: what is not here is there. */
export interface ParentReference {
  readonly id: string;
  /** Relative to the directory of the snapshot that names it, or absolute. */
  readonly path: string;
}

/** A disk whose file belongs to the user. Contents that the machine changed in an overlay are a region. */
export interface DiskReference {
  readonly path: string;
  readonly sizeBytes: number;
  /** Of the file, when it was saved. */
  readonly modifiedMs: number;
  readonly readOnly: boolean;
  readonly hasOverlay: boolean;
  readonly serial: string | undefined;
}

/** From what the same machine can be built. */
export interface MachineDescription {
  readonly memorySizeBytes: number;
  readonly cpu: string;
  readonly timeStampFrequencyHz: number;
  /** Undefined: real time. */
  readonly nsPerInstruction: number | undefined;
  /** State of the generator of a machine whose randomness repeats; undefined: the host's randomness. */
  readonly randomState: bigint | undefined;
  readonly startEpochMs: number;
  readonly firmwareBytes: number | undefined;
  readonly vgaBiosBytes: number | undefined;
  readonly disks: readonly DiskReference[];
  readonly cdrom: DiskReference | undefined;
  readonly devices: DeviceSelection;
  /** By which the kernel was started; undefined for a machine that started firmware. */
  readonly bootProtocol: BootProtocol | undefined;
}

export interface RegionReference {
  readonly name: string;
  readonly sizeBytes: number;
  readonly entries: number;
  /** The index, compressed. */
  readonly indexOffset: number;
  readonly indexBytes: number;
  readonly indexDigest: Uint8Array;
}

export interface Manifest {
  /** A random UUID. */
  readonly id: string;
  readonly parent: ParentReference | undefined;
  /** Name and version of the program. */
  readonly createdBy: string;
  /** ISO 8601. */
  readonly createdAt: string;
  /** What executed the guest. */
  readonly accelerator: "soft" | "kvm";
  readonly machine: MachineDescription;
  readonly components: readonly SavedComponent[];
  readonly regions: readonly RegionReference[];
}

const path = text(4096);
const uuid = checked(text(36), (id) => /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/u.test(id), "a UUID");
const maximumDisks = 64;
const maximumRegions = 1000;

const diskShape: Shape<DiskReference> = openObject<DiskReference>({
  path, sizeBytes: count, modifiedMs: finite, readOnly: boolean, hasOverlay: boolean, serial: optional(text(20)),
});

/** With undefined where the selection leaves a port out. */
interface CompleteSelection extends Omit<DeviceSelection, "debugExitPort" | "debugConsolePort"> {
  readonly debugExitPort: number | undefined;
  readonly debugConsolePort: number | undefined;
}

const devicesShape: Shape<DeviceSelection> = mapped(
  openObject<CompleteSelection>({
    serialPorts: integer(0, 4), hpet: boolean, rtc: boolean, keyboard: boolean, vga: boolean, random: boolean, generationId: boolean,
    debugExitPort: optional(uint16), debugConsolePort: optional(uint16),
  }),
  ({ debugExitPort, debugConsolePort, ...rest }: DeviceSelection): CompleteSelection => ({ ...rest, debugExitPort, debugConsolePort }),
  ({ debugExitPort, debugConsolePort, ...rest }): DeviceSelection => ({
    ...rest, ...(debugExitPort === undefined ? {} : { debugExitPort }), ...(debugConsolePort === undefined ? {} : { debugConsolePort }),
  }),
);

const machineShape: Shape<MachineDescription> = openObject<MachineDescription>({
  memorySizeBytes: count, cpu: text(1000), timeStampFrequencyHz: integer(1, 1e11), nsPerInstruction: optional(integer(1, 1_000_000)), randomState: optional(unsigned(64)),
  startEpochMs: finite, firmwareBytes: optional(integer(0, 64 << 20)), vgaBiosBytes: optional(integer(1, 1 << 16)),
  disks: list(diskShape, { maximum: maximumDisks }), cdrom: optional(diskShape), devices: devicesShape,
  bootProtocol: optional(oneOf(...bootProtocols)),
});

export const manifestShape: Shape<Manifest> = openObject<Manifest>({
  id: uuid, parent: optional(openObject<ParentReference>({ id: uuid, path })), createdBy: text(200), createdAt: text(40),
  accelerator: oneOf("soft", "kvm"), machine: machineShape, components: savedComponentsShape,
  regions: list(openObject<RegionReference>({
    name: text(300), sizeBytes: count, entries: count, indexOffset: count, indexBytes: count, indexDigest: bytes(32),
  }), { maximum: maximumRegions }),
});
