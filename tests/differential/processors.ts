/** The processors of ours that are compared with the host's: the interpreter and the oracle, on the same machine. */
import { RunResult } from "../../src/engine/interpreter.ts";
import { Oracle } from "../../src/engine/oracle.ts";
import { Status } from "../../src/ir/index.ts";
import { Decoder } from "../../src/isa/decode.ts";
import { instructions } from "../../src/isa/instructions.ts";
import * as state from "../../src/isa/state.ts";
import type { CodeBits, ProcessorUnderTest } from "./layout.ts";
import type { HostFeatures } from "./native-processor.ts";
import { SoftMachine } from "./soft-machine.ts";
import { SoftProcessorUnderTest, StepResult } from "./soft-processor.ts";

/** `tier`s to run: all of them unless some are named. */
export function makeProcessors(
  bits: CodeBits, host: HostFeatures, tiers: readonly ("interpreter" | "oracle")[] = ["interpreter", "oracle"],
): readonly ProcessorUnderTest[] {
  return tiers.map((tier) => {
    const machine = new SoftMachine(bits, host.vendor, instructions);
    return tier === "interpreter" ? interpreter(machine) : oracle(machine);
  });
}

function interpreter(machine: SoftMachine): SoftProcessorUnderTest {
  const { processor } = machine;
  const s = processor.state;
  let retired = 0;
  return new SoftProcessorUnderTest("interpreter", machine, {
    get executed() {
      return retired;
    },
    step() {
      s.set32(state.budget, 1);
      const result = processor.interpreter.run();
      // Generated code pays from the budget for what it retires.
      retired += 1 - s.get32(state.budget);
      return result === RunResult.Fault ? StepResult.fault : StepResult.done;
    },
  });
}

function oracle(machine: SoftMachine): SoftProcessorUnderTest {
  const { processor } = machine;
  const decoder = new Decoder(instructions, machine.decoderOptions);
  const evaluator = new Oracle(processor, decoder, machine.recordOffset);
  return new SoftProcessorUnderTest("oracle", machine, {
    get executed() {
      return evaluator.evaluations;
    },
    step: () => (evaluator.step() === Status.Fault ? StepResult.fault : StepResult.done),
  });
}

export function processorsUnderTest(bits: CodeBits, host: HostFeatures): readonly ProcessorUnderTest[] {
  return makeProcessors(bits, host);
}
