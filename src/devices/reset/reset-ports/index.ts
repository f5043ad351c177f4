/** Reset control at 0xCF9 and port 0x92. Map it after the PCI configuration ports, on top of which 0xCF9 lies. */
import { byteRegisterBlock } from "../../byte-registers.ts";
import type { DeviceContext, DeviceDefinition } from "../../contract.ts";
import { ResetPorts, type ResetPortsState, resetPortsStateShape, type ResetPortsWires } from "./reset-ports.ts";

export { ResetPorts, type ResetPortsState, type ResetPortsWires } from "./reset-ports.ts";

export const resetPorts: DeviceDefinition<ResetPortsWires, ResetPortsState, ResetPorts> = {
  name: "reset-ports",
  description: "reset control register and port 0x92",
  stateVersion: 1,
  stateShape: () => resetPortsStateShape,
  create(config: ResetPortsWires, context: DeviceContext, state?: ResetPortsState): ResetPorts {
    const device = new ResetPorts(config, state);
    const resetControl = byteRegisterBlock({
      read: () => device.readResetControl(),
      write: (_offset, value) => device.writeResetControl(value),
    });
    const port92 = byteRegisterBlock({
      read: () => device.readPort92(),
      write: (_offset, value) => device.writePort92(value),
    });
    context.ports.map(0xcf9, 1, resetControl, "reset-control");
    context.ports.map(0x92, 1, port92, "port92");
    return device;
  },
};
