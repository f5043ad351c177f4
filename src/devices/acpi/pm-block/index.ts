/** ACPI power management block. The LPC bridge may move it: `mapping` is its place in the port space. */
import { byteRegisterBlock } from "../../byte-registers.ts";
import type { Device, DeviceContext, DeviceDefinition, Mapping } from "../../contract.ts";
import { PmBlock, pmBlockBytes, type PmState, pmStateShape } from "./pm-block.ts";

export { ApmCommand, gpe0Bytes, PmBlock, pmBlockBytes, PmRegister, type PmState, pmTimerHertz } from "./pm-block.ts";

export interface PmBlockConfig {
  /** PMBASE; undefined until the LPC bridge decodes it. */
  readonly base: number | undefined;
  /** Line of the system control interrupt, usually 9. */
  readonly sciLine: number;
  /** The guest has entered S5. */
  onPowerOff(): void;
}

export interface PmBlockDevice extends Device<PmState> {
  readonly block: PmBlock;
  readonly mapping: Mapping;
}

export const pmBlock: DeviceDefinition<PmBlockConfig, PmState, PmBlockDevice> = {
  name: "pm-block",
  description: "ACPI power management registers and PM timer",
  stateVersion: 1,
  stateShape: () => pmStateShape,
  create(config: PmBlockConfig, context: DeviceContext, state?: PmState): PmBlockDevice {
    const ports = { clock: context.clock, sci: context.irq(config.sciLine), onPowerOff: () => config.onPowerOff() };
    const block = new PmBlock(ports, state);
    const mapping = context.ports.map(config.base, pmBlockBytes, block, "pm-block");
    const apm = byteRegisterBlock({
      read: (offset) => block.readApm(offset),
      write: (offset, value) => block.writeApm(offset, value),
    });
    context.ports.map(0xb2, 2, apm, "apm");
    return { block, mapping, state: block.state, reset: () => block.reset() };
  },
};
