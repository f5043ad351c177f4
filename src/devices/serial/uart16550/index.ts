/** 16550A serial port on the ISA bus. */
import { byteRegisterBlock } from "../../byte-registers.ts";
import type { DeviceContext, DeviceDefinition } from "../../contract.ts";
import { type SerialState, serialStateShape, Uart16550 } from "./uart16550.ts";

export { type SerialState, Uart16550 } from "./uart16550.ts";

export interface Uart16550Config {
  /** COM1 0x3F8, COM2 0x2F8, COM3 0x3E8, COM4 0x2E8. */
  readonly basePort: number;
  /** COM1 and COM3 use 4, COM2 and COM4 use 3. */
  readonly irqLine: number;
  transmit(byte: number): void;
  /** After `feed` took less than it was given: there is room again. */
  receiveReady?(): void;
}

export const uart16550: DeviceDefinition<Uart16550Config, SerialState, Uart16550> = {
  name: "uart16550",
  description: "16550A serial port",
  stateVersion: 1,
  stateShape: () => serialStateShape,
  create(config: Uart16550Config, context: DeviceContext, state?: SerialState): Uart16550 {
    const uart = new Uart16550(
      {
        clock: context.clock,
        interrupt: context.irq(config.irqLine),
        transmit: (byte) => config.transmit(byte),
        receiveReady: () => config.receiveReady?.(),
      },
      state,
    );
    context.ports.map(config.basePort, 8, byteRegisterBlock(uart), `uart16550@${config.basePort.toString(16)}`);
    return uart;
  },
};
