/** The board's I/O APIC. */
import type { DeviceContext, DeviceDefinition } from "../../contract.ts";
import type { DeliverMessage } from "../message.ts";
import { IoApic, type IoApicState, ioApicStateShape } from "./ioapic.ts";

export { IoApic, ioApicPinCount, type IoApicState } from "./ioapic.ts";

export interface IoApicConfig {
  /** Guest-physical base, usually 0xFEC0_0000. */
  readonly base: number;
  readonly deliver: DeliverMessage;
}

export const ioapic: DeviceDefinition<IoApicConfig, IoApicState, IoApic> = {
  name: "ioapic",
  description: "I/O APIC with 24 pins",
  stateVersion: 1,
  stateShape: () => ioApicStateShape,
  create(config: IoApicConfig, context: DeviceContext, state?: IoApicState): IoApic {
    const device = new IoApic(config.deliver, state);
    context.memoryBus.map(config.base, 0x1000, device, "ioapic");
    return device;
  },
};
