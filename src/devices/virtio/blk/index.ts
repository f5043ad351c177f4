/** Catalog definition of the virtio block device. */
import { object } from "../../../base/shape.ts";
import type { DiskBackend, DiskFailure } from "../../disk/contract.ts";
import type { PciDeviceDefinition } from "../../pci/contract.ts";
import { VirtioPciDevice, type VirtioState, virtioStateShape } from "../device.ts";
import { queueSizes, VirtioBlock, type VirtioBlockState } from "./virtio-block.ts";

export interface VirtioBlockConfig {
  readonly disk: DiskBackend;
  /** At most 20 ASCII characters; Linux shows it as the disk's serial number. */
  readonly serial?: string;
  readonly failed?: (failure: DiskFailure) => void;
  readonly broken?: (reason: string) => void;
}

export const virtioBlock: PciDeviceDefinition<
  VirtioBlockConfig,
  VirtioState<VirtioBlockState>,
  VirtioPciDevice<VirtioBlock, VirtioBlockState>
> = {
  name: "virtio-block",
  description: "Virtio 1.2 block device over PCI (1AF4:1042)",
  stateVersion: 1,
  stateShape: () => virtioStateShape(queueSizes, object<VirtioBlockState>({})),
  create(config, context, state) {
    const device = new VirtioBlock({
      disk: config.disk,
      serial: config.serial ?? "ringmaster",
      ...(config.failed === undefined ? {} : { failed: config.failed }),
    });
    return new VirtioPciDevice(device, context, state, config.broken);
  },
};

export { VirtioBlock };
export type { VirtioBlockState };
