/** 8254 timer at ports 0x40 to 0x43 with system control port B at 0x61. */
import { byteRegisterBlock } from "../../byte-registers.ts";
import type { DeviceContext, DeviceDefinition, IrqLine } from "../../contract.ts";
import { Pit, type PitState, pitStateShape } from "./pit.ts";

export { pitHertz } from "./channel.ts";
export { Pit, type PitState } from "./pit.ts";

export interface PitConfig {
  /** Where channel 0 interrupts, when not ISA line 0 (an HPET can take that line over). */
  readonly interrupt?: IrqLine;
}

export const pit: DeviceDefinition<PitConfig, PitState, Pit> = {
  name: "pit",
  description: "8254 interval timer",
  stateVersion: 1,
  stateShape: () => pitStateShape,
  create(config: PitConfig, context: DeviceContext, state?: PitState): Pit {
    const timer = new Pit({ clock: context.clock, interrupt: config.interrupt ?? context.irq(0) }, state);
    context.ports.map(0x40, 4, byteRegisterBlock(timer), "pit");
    const controlB = byteRegisterBlock({
      read: () => timer.readControlB(),
      write: (_offset, value) => timer.writeControlB(value),
    });
    context.ports.map(0x61, 1, controlB, "port61");
    return timer;
  },
};
