/** Real-time clock and CMOS memory at ports 0x70 to 0x73. */
import { byteRegisterBlock } from "../../byte-registers.ts";
import type { DeviceContext, DeviceDefinition, IrqLine } from "../../contract.ts";
import { powerOnRtcState, Rtc, type RtcPowerOn, type RtcState, rtcStateShape } from "./rtc.ts";

export { Cmos, Rtc, type RtcPowerOn, type RtcState } from "./rtc.ts";

export interface RtcConfig extends RtcPowerOn {
  /** Where it interrupts, when not ISA line 8 (an HPET can take that line over). */
  readonly interrupt?: IrqLine;
}

export const rtc: DeviceDefinition<RtcConfig, RtcState, Rtc> = {
  name: "rtc",
  description: "MC146818 real-time clock",
  stateVersion: 1,
  stateShape: () => rtcStateShape,
  create(config: RtcConfig, context: DeviceContext, state?: RtcState): Rtc {
    const device = new Rtc(
      { clock: context.clock, interrupt: config.interrupt ?? context.irq(8) },
      state ?? powerOnRtcState(config, context.clock.nowNs()),
    );
    context.ports.map(0x70, 4, byteRegisterBlock(device), "rtc");
    return device;
  },
};
