/** Catalog definition of the ICH9 LPC bridge. */
import type { PciDeviceDefinition } from "../contract.ts";
import { LpcBridge, type LpcBridgeState, lpcBridgeStateShape } from "./lpc-bridge.ts";

export interface LpcBridgeConfig {
  readonly pmBaseChanged?: (base: number | undefined) => void;
  readonly sciChanged?: (line: number) => void;
}

export const lpcBridge: PciDeviceDefinition<LpcBridgeConfig, LpcBridgeState, LpcBridge> = {
  name: "ich9-lpc-bridge",
  description: "Intel ICH9 LPC bridge (8086:2918): ACPI base and interrupt routing",
  stateVersion: 1,
  stateShape: () => lpcBridgeStateShape,
  create(config, context, state) {
    const bridge = new LpcBridge({
      ports: context.ports,
      memoryBus: context.memoryBus,
      signalMessage: context.signalMessage,
      irq: (line) => context.irq(line),
      pmBaseChanged: config.pmBaseChanged ?? (() => {}),
      sciChanged: config.sciChanged ?? (() => {}),
    });
    context.pci.attach(bridge.pciFunction, context.address ?? { device: 0x1f, function: 0 });
    context.pci.connectRouter(bridge);
    if (state !== undefined) bridge.restore(state);
    return bridge;
  },
};

export { LpcBridge };
export type { LpcBridgeState };
