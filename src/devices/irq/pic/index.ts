/** The PC's pair of 8259A interrupt controllers with the edge/level control registers. */
import { byteRegisterBlock } from "../../byte-registers.ts";
import type { DeviceContext, DeviceDefinition, IrqLine } from "../../contract.ts";
import { PicPair, type PicPairState, picPairStateShape } from "./pic.ts";

export { PicPair, type PicPairState } from "./pic.ts";

export interface PicConfig {
  /** INTR, towards the processor or LINT0 of its local APIC. */
  readonly output: IrqLine;
}

export const pic: DeviceDefinition<PicConfig, PicPairState, PicPair> = {
  name: "pic",
  description: "8259A interrupt controllers",
  stateVersion: 1,
  stateShape: () => picPairStateShape,
  create(config: PicConfig, context: DeviceContext, state?: PicPairState): PicPair {
    const pair = new PicPair(config.output, state);
    const { master, slave } = pair;
    context.ports.map(0x20, 2, byteRegisterBlock(master), "pic");
    context.ports.map(0xa0, 2, byteRegisterBlock(slave), "pic");
    const elcr = byteRegisterBlock({
      read: (offset) => (offset === 0 ? master : slave).readElcr(),
      write: (offset, value) => (offset === 0 ? master : slave).writeElcr(value),
    });
    context.ports.map(0x4d0, 2, elcr, "elcr");
    return pair;
  },
};
