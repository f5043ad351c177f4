/**
 * HPET at its fixed place in memory. Create it before the PIT and the RTC whose lines it takes over, so that a
 * restored machine's gate is closed before they drive them.
 */
import type { DeviceContext, DeviceDefinition } from "../../contract.ts";
import { Hpet, hpetBytes, type HpetState, hpetStateShape } from "./hpet.ts";

export { Hpet, type HpetState } from "./hpet.ts";
export { LegacyGate } from "./legacy-gate.ts";

export interface HpetConfig {
  /** Guest-physical base, usually 0xFED0_0000. */
  readonly base: number;
  /** While true, lines 0 and 8 are the HPET's and not the PIT's and the RTC's (see `LegacyGate`). */
  legacyReplacement(isActive: boolean): void;
}

export const hpet: DeviceDefinition<HpetConfig, HpetState, Hpet> = {
  name: "hpet",
  description: "high precision event timers",
  stateVersion: 1,
  stateShape: () => hpetStateShape,
  create(config: HpetConfig, context: DeviceContext, state?: HpetState): Hpet {
    const device = new Hpet(
      {
        clock: context.clock,
        signalMessage: context.signalMessage,
        irq: (line) => context.irq(line),
        legacyReplacement: (isActive) => config.legacyReplacement(isActive),
      },
      state,
    );
    context.memoryBus.map(config.base, hpetBytes, device, "hpet");
    return device;
  },
};
