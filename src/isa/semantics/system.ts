/** All system instructions. */
import type { InstructionDefinition } from "../definition.ts";
import { extendedState } from "./extended-state.ts";
import { farControl } from "./far-control.ts";
import { interruptFlag } from "./interrupt-flag.ts";
import { memoryHints } from "./memory-hints.ts";
import { portIo } from "./port-io.ts";
import { processorInformation } from "./processor-information.ts";
import { secureVirtualMachine } from "./secure-virtual-machine.ts";
import { segmentRegisters } from "./segment-registers.ts";
import { systemRegisters } from "./system-registers.ts";
import { vmx } from "./vmx.ts";

export const system: readonly InstructionDefinition[] = [
  ...farControl, ...interruptFlag, ...segmentRegisters, ...systemRegisters, ...portIo, ...processorInformation,
  ...memoryHints, ...extendedState, ...secureVirtualMachine, ...vmx,
];
