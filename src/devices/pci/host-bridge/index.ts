/** Catalog definition of the Q35 host bridge. */
import type { PciDeviceDefinition } from "../contract.ts";
import { HostBridge, type HostBridgeState, hostBridgeStateShape, type ShadowRegion, type SmramControl } from "./host-bridge.ts";

export interface HostBridgeConfig {
  readonly shadowChanged: (region: ShadowRegion) => void;
  readonly smramChanged?: (control: SmramControl) => void;
}

export const hostBridge: PciDeviceDefinition<HostBridgeConfig, HostBridgeState, HostBridge> = {
  name: "q35-host-bridge",
  description: "Intel Q35 memory controller hub (8086:29C0): PCI configuration access, ECAM and shadow RAM control",
  stateVersion: 1,
  stateShape: () => hostBridgeStateShape,
  create(config, context, state) {
    const bridge = new HostBridge({
      ports: context.ports,
      memoryBus: context.memoryBus,
      signalMessage: context.signalMessage,
      pci: context.pci,
      shadowChanged: config.shadowChanged,
      smramChanged: config.smramChanged ?? (() => {}),
    });
    context.pci.attach(bridge.pciFunction, context.address ?? { device: 0, function: 0 });
    if (state !== undefined) bridge.restore(state);
    return bridge;
  },
};

export { HostBridge };
export type { HostBridgeState, ShadowRegion, SmramControl };
