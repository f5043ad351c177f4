/** Catalog definition of the virtio console. */
import type { PciDeviceDefinition } from "../../pci/contract.ts";
import { VirtioPciDevice, type VirtioState, virtioStateShape } from "../device.ts";
import { consoleQueueSizes, VirtioConsole, type VirtioConsoleState, virtioConsoleStateShape } from "./virtio-console.ts";

export interface VirtioConsoleConfig {
  transmit(bytes: Uint8Array): void;
  receiveReady?(): void;
  /** Size at start; 80 × 25 when absent. */
  readonly columns?: number;
  readonly rows?: number;
  /** Offers the control queues. Without them the size is in the configuration, which all drivers agree on. */
  readonly isMultiport?: boolean;
  readonly broken?: (reason: string) => void;
}

export const virtioConsole: PciDeviceDefinition<
  VirtioConsoleConfig,
  VirtioState<VirtioConsoleState>,
  VirtioPciDevice<VirtioConsole, VirtioConsoleState>
> = {
  name: "virtio-console",
  description: "Virtio 1.2 console over PCI (1AF4:1043)",
  stateVersion: 1,
  stateShape: ({ isMultiport = false }) => virtioStateShape(consoleQueueSizes(isMultiport), virtioConsoleStateShape),
  create(config, context, state) {
    const device = new VirtioConsole(
      { transmit: (bytes) => config.transmit(bytes), receiveReady: () => config.receiveReady?.() },
      config.isMultiport ?? false,
      state?.device ?? { columns: config.columns ?? 80, rows: config.rows ?? 25, messages: [] },
    );
    return new VirtioPciDevice(device, context, state, config.broken);
  },
};

export { VirtioConsole };
export type { VirtioConsoleState };
