/** The processors of ours that are compared with the host's. */
import { instructions } from "../../src/isa/instructions.ts";
import * as state from "../../src/isa/state.ts";
import { RunResult } from "../../src/engine/interpreter.ts";
import type { CodeBits, ProcessorUnderTest } from "./layout.ts";
import type { HostFeatures } from "./native-processor.ts";
import type { SoftMachine } from "./soft-machine.ts";
import { SoftProcessorUnderTest, StepResult } from "./soft-processor.ts";

function interpret({ processor }: SoftMachine): StepResult {
  processor.state.set32(state.budget, 1);
  return processor.interpreter.run() === RunResult.Fault ? StepResult.fault : StepResult.done;
}

export function processorsUnderTest(bits: CodeBits, host: HostFeatures): readonly ProcessorUnderTest[] {
  return [new SoftProcessorUnderTest("interpreter", bits, host.vendor, instructions, interpret)];
}
