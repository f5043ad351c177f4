/** Local APIC. It is part of a processor rather than a line of the catalog: the board builds one per vCPU. */
export { ApicBus } from "./apic-bus.ts";
export { LocalApic } from "./local-apic.ts";
export type { InterProcessorBus, LocalApicConfig, LocalApicPorts, LocalApicState, LocalProcessor } from "./state.ts";
export { localApicStateShape } from "./state.ts";
export { busHertz } from "./timer.ts";

export const localApicStateVersion = 1;
