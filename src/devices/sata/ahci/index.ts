/** Catalog definition of the ICH9 AHCI controller with its disks and CD-ROM drives. */
import { object, row, type Shape } from "../../../base/shape.ts";
import type { DiskBackend, DiskFailure } from "../../disk/contract.ts";
import type { PciDevice, PciDeviceContext, PciDeviceDefinition } from "../../pci/contract.ts";
import type { PciFunction } from "../../pci/function.ts";
import { AtaDisk, type AtaDiskState, ataDiskStateShape } from "../ata-disk/ata-disk.ts";
import { CdRom, type CdRomState, cdRomStateShape } from "../cd-rom/cd-rom.ts";
import { Ahci, type AhciState, ahciStateShape } from "./ahci.ts";

export type SataDriveConfig =
  | { readonly kind: "disk"; readonly disk: DiskBackend; readonly serial?: string }
  | { readonly kind: "cdrom"; readonly disc?: DiskBackend; readonly serial?: string };

export interface AhciConfig {
  /** One to six; on ports 0, 1, … */
  readonly drives: readonly SataDriveConfig[];
  readonly failed?: (failure: DiskFailure) => void;
}

export interface AhciDeviceState {
  readonly controller: AhciState;
  readonly drives: readonly (AtaDiskState | CdRomState)[];
}

export class AhciDevice implements PciDevice<AhciDeviceState> {
  readonly controller: Ahci;
  readonly drives: readonly (AtaDisk | CdRom)[];
  readonly state: AhciDeviceState;

  constructor(config: AhciConfig, context: PciDeviceContext, saved: AhciDeviceState | undefined) {
    this.drives = config.drives.map((drive, i) => createDrive(drive, i, config.failed));
    this.controller = new Ahci(this.drives, {
      ports: context.ports,
      memoryBus: context.memoryBus,
      memory: context.memory,
      signalMessage: context.signalMessage,
    });
    this.state = { controller: this.controller.state, drives: this.drives.map((drive) => drive.state) };
    context.pci.attach(this.pciFunction, context.address ?? { device: 0x1f, function: 2 });
    if (saved === undefined) return;
    // Building the ports reset the drives.
    this.drives.forEach((drive, i) => Object.assign(drive.state, saved.drives[i]));
    this.controller.restore(saved.controller);
  }

  get pciFunction(): PciFunction {
    return this.controller.pciFunction;
  }

  reset(): void {
    this.controller.reset();
  }
}

export const ahci: PciDeviceDefinition<AhciConfig, AhciDeviceState, AhciDevice> = {
  name: "ich9-ahci",
  description: "Intel ICH9 AHCI controller (8086:2922) with SATA disks and CD-ROM drives",
  stateVersion: 1,
  stateShape: ({ drives }) => object<AhciDeviceState>({
    controller: ahciStateShape(drives.length),
    drives: row<AtaDiskState | CdRomState>(drives.map(({ kind }) => kind === "disk" ? ataDiskStateShape : cdRomStateShape) as Shape<AtaDiskState | CdRomState>[]),
  }),
  create: (config, context, state) => new AhciDevice(config, context, state),
};

function createDrive(config: SataDriveConfig, index: number, failed: ((failure: DiskFailure) => void) | undefined): AtaDisk | CdRom {
  const serial = config.serial ?? `RM${String(index + 1).padStart(6, "0")}`;
  const report = failed === undefined ? {} : { failed };
  if (config.kind === "disk") return new AtaDisk({ disk: config.disk, serial, ...report });
  return new CdRom({ serial, ...(config.disc === undefined ? {} : { disc: config.disc }), ...report });
}

export { Ahci, AtaDisk, CdRom };
