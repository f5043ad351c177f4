/** What PCI devices need of the board beyond the general device contract. */
import type { Device, DeviceContext, DeviceDefinition } from "../contract.ts";
import type { PciBus } from "./bus.ts";
import type { PciFunction } from "./function.ts";

/** Device (slot) 0 to 31 and function 0 to 7 on bus 0. */
export interface PciAddress {
  readonly device: number;
  readonly function: number;
}

export interface PciDeviceContext extends DeviceContext {
  readonly pci: PciBus;
  /** Where to plug the function in; the next free slot when absent. */
  readonly address?: PciAddress;
}

export interface PciDevice<State> extends Device<State> {
  readonly pciFunction: PciFunction;
}

/** The catalog line of a device that sits on the PCI bus: {@link DeviceDefinition} with the bus in the context. */
export interface PciDeviceDefinition<Config, State, Built extends PciDevice<State> = PciDevice<State>>
  extends Omit<DeviceDefinition<Config, State, Built>, "create"> {
  create(config: Config, context: PciDeviceContext, state?: State): Built;
}
