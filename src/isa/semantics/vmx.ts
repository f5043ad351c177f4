/** The instructions of VMX: SDM volume 3, "VMX Instruction Reference". The processor's extension executes them. */
import { Status, type Bits, type FastPath, type Routine, when } from "../../ir/index.ts";
import { constant, type Cpu, instruction, load, Vector, type InstructionDefinition, type Operand } from "../definition.ts";
import { routine } from "../processor.ts";
import type { VirtualizationInstruction } from "../virtualization.ts";
import { readFieldPath, writeAccessPath, writeFieldPath } from "./vmcs-access.ts";

/** How an instruction of VMX ends (SDM volume 3, "Conventions" of the instruction reference). */
export const VmxOutcome = { succeed: 0, failInvalid: 1, failValid: 2 } as const;

function prepare(name: VirtualizationInstruction, fast?: () => FastPath): Routine {
  return routine(`prepare ${name}`, (p) => p.virtualization?.prepare(name) ?? p.raise(Vector.UD), fast);
}

function perform(name: VirtualizationInstruction, fast?: () => FastPath): Routine {
  return routine(name, (p) => p.virtualization?.execute(name) ?? p.raise(Vector.UD), fast);
}

/** Both, for instructions that read no memory in between. */
function whole(name: VirtualizationInstruction, fast?: () => FastPath): Routine {
  return routine(name, (p) => {
    const { virtualization } = p;
    if (virtualization === undefined) return p.raise(Vector.UD);
    const status = virtualization.prepare(name);
    return status === Status.Next ? virtualization.execute(name) : status;
  }, fast);
}

/** Instructions without an operand, which set the flags by themselves. */
function plain(name: VirtualizationInstruction, encoding: string): InstructionDefinition {
  const run = whole(name);
  return instruction({
    name, feature: "vmx", encodings: [encoding], endsBlock: true,
    execute({ cpu }) {
      cpu.call(run);
    },
  });
}

/** Instructions that take the address of a region out of memory. */
function withPointer(name: VirtualizationInstruction, encoding: string): InstructionDefinition {
  const begin = prepare(name), run = perform(name);
  return instruction({
    name, feature: "vmx", encodings: [encoding], endsBlock: true,
    execute({ cpu, dst }) {
      cpu.call(begin);
      cpu.call(run, [load(64, "operand", dst.offset())]);
    },
  });
}

/** The flags of an outcome. */
function end(cpu: Cpu, outcome: Bits<32>): void {
  const no = constant(1, 0);
  cpu.writeFlags({ cf: outcome.eq(VmxOutcome.failInvalid), pf: no, af: no, zf: outcome.eq(VmxOutcome.failValid), sf: no, of: no });
}

const beginStore = prepare("vmptrst"), storePointer = perform("vmptrst");

const vmptrst = instruction({
  name: "vmptrst", feature: "vmx", encodings: ["NP 0F C7 /7 mem Mq"],
  execute({ cpu, dst }) {
    cpu.call(beginStore);
    const [pointer] = cpu.call(storePointer, [], [64]);
    dst.as(64).write(pointer);
    end(cpu, constant(32, VmxOutcome.succeed));
  },
});

const readField = whole("vmread"), readFieldFast = whole("vmread", readFieldPath);

const vmread = instruction({
  name: "vmread", feature: "vmx", encodings: ["NP 0F 78 /r i64 Ed,Gd", "NP 0F 78 /r o64 Eq,Gq"],
  execute({ cpu, dst, src }) {
    const encoding = (src.read() as Bits).zext(64);
    const [value, outcome] = cpu.call(cpu.variant.long ? readFieldFast : readField, [encoding], [64, 32]);
    const place = dst as Operand;
    when(outcome.isZero(), () => place.write(value.trunc(place.width)));
    end(cpu, outcome);
  },
});

const beginWrite = prepare("vmwrite"), beginWriteFast = prepare("vmwrite", writeAccessPath);
const writeField = perform("vmwrite"), writeFieldFast = perform("vmwrite", writeFieldPath);

const vmwrite = instruction({
  name: "vmwrite", feature: "vmx", encodings: ["NP 0F 79 /r i64 Gd,Ed", "NP 0F 79 /r o64 Gq,Eq"],
  execute({ cpu, dst, src }) {
    const { long } = cpu.variant;
    const encoding = (dst.read() as Bits).zext(64);
    cpu.call(long ? beginWriteFast : beginWrite, [encoding]);
    const [outcome] = cpu.call(long ? writeFieldFast : writeField, [encoding, (src.read() as Bits).zext(64)], [32]);
    end(cpu, outcome);
  },
});

/** INVEPT and INVVPID: the type in a register, a descriptor of 128 bits in memory. */
function invalidation(name: VirtualizationInstruction, opcode: string): InstructionDefinition {
  const begin = prepare(name), run = perform(name);
  return instruction({
    name, feature: "vmx", encodings: [`66 0F 38 ${opcode} /r i64 Gd,Mdq`, `66 0F 38 ${opcode} /r o64 Gq,Mdq`], endsBlock: true,
    execute({ cpu, dst, src }) {
      cpu.call(begin);
      const at = src.offset();
      cpu.call(run, [(dst.read() as Bits).zext(64), load(64, "operand", at), load(64, "operand", at.add(8))]);
    },
  });
}

export const vmx: readonly InstructionDefinition[] = [
  plain("vmcall", "0F 01 C1"), plain("vmlaunch", "0F 01 C2"), plain("vmresume", "0F 01 C3"), plain("vmxoff", "0F 01 C4"),
  plain("vmfunc", "NP 0F 01 D4"),
  withPointer("vmptrld", "NP 0F C7 /6 mem Mq"), withPointer("vmclear", "66 0F C7 /6 mem Mq"), withPointer("vmxon", "F3 0F C7 /6 mem Mq"),
  vmptrst, vmread, vmwrite, invalidation("invept", "80"), invalidation("invvpid", "81"),
];
