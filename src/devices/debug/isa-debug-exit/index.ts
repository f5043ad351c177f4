/** QEMU's isa-debug-exit: a guest ends the machine and hands out a status. */
import { object } from "../../../base/shape.ts";
import type { Device, DeviceContext, DeviceDefinition } from "../../contract.ts";

const sizeBytes = 4;

export interface IsaDebugExitConfig {
  /** 0xF4 or 0x501 by convention. */
  readonly port: number;
  /** The status is (value << 1) | 1, so it is never 0. */
  onExit(status: number): void;
}

/** It keeps nothing. */
export type IsaDebugExitState = Record<string, never>;

export const isaDebugExit: DeviceDefinition<IsaDebugExitConfig, IsaDebugExitState> = {
  name: "isa-debug-exit",
  description: "port through which a guest exits with a status",
  stateVersion: 1,
  stateShape: () => object<IsaDebugExitState>({}),
  create(config: IsaDebugExitConfig, context: DeviceContext, state?: IsaDebugExitState): Device<IsaDebugExitState> {
    const registers = {
      read: (): number => 0,
      write: (_offset: number, _sizeBytes: number, value: number): void => config.onExit(((value << 1) | 1) >>> 0),
    };
    context.ports.map(config.port, sizeBytes, registers, "isa-debug-exit");
    return { state: state ?? {}, reset: () => {} };
  },
};
