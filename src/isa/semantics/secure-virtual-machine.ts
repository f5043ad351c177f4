/** VMRUN and its kin (AMD APM volume 3, "System Instruction Reference"): the processor's virtualization extension executes them. */
import { constant, instruction, Vector, type InstructionDefinition } from "../definition.ts";
import { routine } from "../processor.ts";
import type { VirtualizationInstruction } from "../virtualization.ts";

/** rAX, as wide as addresses are, is the operand of most. */
function extension(name: VirtualizationInstruction, encoding: string): InstructionDefinition {
  const run = routine(name, (p) =>
    p.virtualization?.execute(name, p.state.argument32(0) as 16 | 32 | 64) ?? p.raise(Vector.UD));
  return instruction({
    name, feature: "svm", encodings: [encoding], endsBlock: true, notDifferential: "for hypervisors",
    execute({ cpu, variant }) {
      cpu.call(run, [constant(32, variant.addressSize)]);
    },
  });
}

/** SKINIT is left out: its CPUID bit stays clear. */
export const secureVirtualMachine: readonly InstructionDefinition[] = [
  extension("vmrun", "0F 01 D8"), extension("vmmcall", "0F 01 D9"), extension("vmload", "0F 01 DA"),
  extension("vmsave", "0F 01 DB"), extension("stgi", "0F 01 DC"), extension("clgi", "0F 01 DD"), extension("invlpga", "0F 01 DF"),
];
