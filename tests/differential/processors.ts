/** The processors of ours that are compared with the host's: the interpreter, the oracle and compiled code, on the same machine. */
import { RunResult } from "../../src/engine/interpreter.ts";
import { jitSettingsNamed, type JitSettings } from "../../src/engine/jit/settings.ts";
import { Oracle } from "../../src/engine/oracle.ts";
import { Status } from "../../src/ir/index.ts";
import { Decoder } from "../../src/isa/decode.ts";
import { instructions } from "../../src/isa/instructions.ts";
import * as state from "../../src/isa/state.ts";
import { Way, type CodeBits, type ProcessorUnderTest } from "./layout.ts";
import type { HostFeatures } from "./native-processor.ts";
import { SoftMachine } from "./soft-machine.ts";
import { SoftProcessorUnderTest, StepResult } from "./soft-processor.ts";

export const tierNames = ["interpreter", "oracle", "compiled"] as const;
export type TierName = (typeof tierNames)[number];

const off = jitSettingsNamed("off");
/** Everything is compiled before it runs for the first time, and thrown away now and then. */
const forced: JitSettings = { ...jitSettingsNamed("forced"), evictionSeed: 1, compilesSteps: true };

export function makeProcessors(
  bits: CodeBits, host: HostFeatures, tiers: readonly TierName[] = ["interpreter", "oracle"],
): readonly ProcessorUnderTest[] {
  return tiers.map((tier) => {
    const machine = new SoftMachine(bits, host.vendor, instructions, tier === "compiled" ? forced : off);
    return tier === "interpreter" ? interpreter(machine) : tier === "oracle" ? oracle(machine) : compiled(machine);
  });
}

/** One instruction by the dispatch loop; `budget` is what it has left of 1. */
function dispatchOne({ processor }: SoftMachine): { readonly result: StepResult; readonly budget: number } {
  const s = processor.state;
  s.set32(state.budget, 1);
  const result = processor.interpreter.run();
  return { result: result === RunResult.Fault ? StepResult.fault : StepResult.done, budget: s.get32(state.budget) };
}

function interpreter(machine: SoftMachine): SoftProcessorUnderTest {
  let retired = 0;
  return new SoftProcessorUnderTest("interpreter", machine, {
    get executed() {
      return retired;
    },
    step() {
      const { result, budget } = dispatchOne(machine);
      // Generated code pays from the budget for what it retires.
      retired += 1 - budget;
      return result;
    },
  });
}

function compiled(machine: SoftMachine): SoftProcessorUnderTest {
  const { counters } = machine.processor.jit;
  let retired = 0;
  const before = { entries: 0, handedBack: 0 };
  return new SoftProcessorUnderTest("compiled", machine, {
    get executed() {
      return retired;
    },
    step() {
      const { result, budget } = dispatchOne(machine);
      retired += 1 - budget;
      return result;
    },
    takeWay(hasFaulted) {
      const entries = counters.entries - before.entries, handedBack = counters.handedBack - before.handedBack;
      Object.assign(before, { entries: counters.entries, handedBack: counters.handedBack });
      if (entries === 0) return Way.absent;
      if (hasFaulted) return Way.faulted;
      // Of a repeated instruction, some iterations may be rare ones.
      return entries > handedBack ? Way.executed : Way.handedBack;
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


