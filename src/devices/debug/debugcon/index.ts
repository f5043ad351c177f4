/** Debug console: a port that takes one character per write, as Bochs (0xE9) and QEMU (0x402) have it. */
import { object } from "../../../base/shape.ts";
import { byteRegisterBlock } from "../../byte-registers.ts";
import type { Device, DeviceContext, DeviceDefinition } from "../../contract.ts";

/** Reads return this, by which guests detect the port. */
const presenceValue = 0xe9;

export interface DebugconConfig {
  /** 0x402 for SeaBIOS and OVMF, 0xE9 for Bochs-style guests. */
  readonly port: number;
  onByte(byte: number): void;
}

/** It keeps nothing. */
export type DebugconState = Record<string, never>;

export const debugcon: DeviceDefinition<DebugconConfig, DebugconState> = {
  name: "debugcon",
  description: "debug console port",
  stateVersion: 1,
  stateShape: () => object<DebugconState>({}),
  create(config: DebugconConfig, context: DeviceContext, state?: DebugconState): Device<DebugconState> {
    const registers = byteRegisterBlock({
      read: () => presenceValue,
      write: (_offset, value) => config.onByte(value),
    });
    context.ports.map(config.port, 1, registers, "debugcon");
    return { state: state ?? {}, reset: () => {} };
  },
};
