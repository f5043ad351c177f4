/** Local APIC. It is part of a processor rather than a line of the catalog: the board builds one per vCPU. */
export { ApicBus } from "./apic-bus.ts";
export {
  type InterProcessorBus,
  LocalApic,
  type LocalApicConfig,
  type LocalApicPorts,
  type LocalApicState,
  type LocalProcessor,
} from "./local-apic.ts";
export { busHertz } from "./timer.ts";

export const localApicStateVersion = 1;
