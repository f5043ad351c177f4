/** Keyboard controller at ports 0x60 and 0x64 with a PS/2 keyboard and mouse on ISA lines 1 and 12. */
import { byteRegisterBlock } from "../../byte-registers.ts";
import type { DeviceContext, DeviceDefinition, IrqLine } from "../../contract.ts";
import { I8042, type I8042State, i8042StateShape } from "./i8042.ts";

export { I8042, type I8042State } from "./i8042.ts";
export type { MouseMovement } from "./mouse.ts";

export interface I8042Config {
  /** High opens address line 20. */
  readonly a20: IrqLine;
  /** The reset pin is pulsed. */
  onReset(): void;
  /** After `sendScancodes` took less than it was given: there is room again. */
  scancodesReady?(): void;
}

export const i8042: DeviceDefinition<I8042Config, I8042State, I8042> = {
  name: "i8042",
  description: "keyboard controller with PS/2 keyboard and mouse",
  stateVersion: 1,
  stateShape: () => i8042StateShape,
  create(config: I8042Config, context: DeviceContext, state?: I8042State): I8042 {
    const device = new I8042(
      {
        keyboardInterrupt: context.irq(1),
        auxiliaryInterrupt: context.irq(12),
        a20: config.a20,
        onReset: () => config.onReset(),
        scancodesReady: () => config.scancodesReady?.(),
      },
      state,
    );
    const data = byteRegisterBlock({ read: () => device.readData(), write: (_offset, value) => device.writeData(value) });
    const command = byteRegisterBlock({ read: () => device.readStatus(), write: (_offset, value) => device.writeCommand(value) });
    context.ports.map(0x60, 1, data, "i8042");
    context.ports.map(0x64, 1, command, "i8042");
    return device;
  },
};
