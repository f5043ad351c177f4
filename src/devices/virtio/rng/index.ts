/** Catalog definition of the virtio entropy device. */
import { object } from "../../../base/shape.ts";
import type { PciDeviceDefinition } from "../../pci/contract.ts";
import { VirtioPciDevice, type VirtioState, virtioStateShape } from "../device.ts";
import { type EntropySource, queueSizes, VirtioEntropy, type VirtioEntropyState } from "./virtio-entropy.ts";

export interface VirtioEntropyConfig {
  readonly source: EntropySource;
  readonly broken?: (reason: string) => void;
}

export const virtioEntropy: PciDeviceDefinition<
  VirtioEntropyConfig,
  VirtioState<VirtioEntropyState>,
  VirtioPciDevice<VirtioEntropy, VirtioEntropyState>
> = {
  name: "virtio-entropy",
  description: "Virtio 1.2 entropy device over PCI (1AF4:1044)",
  stateVersion: 1,
  stateShape: () => virtioStateShape(queueSizes, object<VirtioEntropyState>({})),
  create: (config, context, state) =>
    new VirtioPciDevice(new VirtioEntropy(config.source), context, state, config.broken),
};

export { type EntropySource, VirtioEntropy };
