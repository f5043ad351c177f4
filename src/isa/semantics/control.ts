/** Near control transfers: SDM volume 1, "Control Transfer Instructions". Far ones are system routines. */
import { Bits, when, type Width } from "../../ir/index.ts";
import { checkWrite, condition, instruction, Register, Segment, Vector, type Context, type Cpu, type InstructionDefinition, type Variant } from "../definition.ts";
import * as state from "../state.ts";
import { conditionNames } from "./logic.ts";

type IntegerWidth = 8 | 16 | 32 | 64;

/** #GP(0) before anything is committed when `target` cannot be executed at. */
function checkTarget(cpu: Cpu, target: Bits<64>, variant: Variant): void {
  if (variant.long) {
    const shift = cpu.field<64>(state.canonicalShift).read();
    when(target.shl(shift).sar(shift).ne(target), () => cpu.raise(Vector.GP, 0));
  } else {
    const limit = cpu.field<32>(state.segments[Segment.CS].limit).read().zext(64);
    when(limit.ltU(target), () => cpu.raise(Vector.GP, 0));
  }
}

/** Target of a relative branch, wrapped to the operand size. */
function relativeTarget(cpu: Cpu, variant: Variant): Bits<64> {
  const target = cpu.branchTarget();
  return variant.operandSize === 64 ? target : target.trunc(variant.operandSize).zext(64);
}

/** Jumps to the instruction's relative target. In 64-bit mode the fetch there makes the canonical check. */
function jumpRelative(cpu: Cpu, variant: Variant): void {
  if (variant.long) return cpu.jumpTarget();
  const target = relativeTarget(cpu, variant);
  checkTarget(cpu, target, variant);
  cpu.jump(target);
}

const jcc = conditionNames.map((suffix, code) => instruction({
  name: `j${suffix}`,
  encodings: [`${(0x70 + code).toString(16).toUpperCase()} cb f64 Jb`, `0F ${(0x80 + code).toString(16).toUpperCase()} cz f64 Jz`],
  execute({ cpu, variant }) {
    when(condition(code), () => jumpRelative(cpu, variant));
  },
}));

const jmp = instruction({
  name: "jmp", encodings: ["EB cb f64 Jb", "E9 cz f64 Jz", "FF /4 f64 Ev"],
  execute({ cpu, dst, variant }) {
    if (dst.form.kind === "relative") return jumpRelative(cpu, variant);
    const target = (dst.read() as Bits).zext(64);
    checkTarget(cpu, target, variant);
    cpu.jump(target);
  },
});

const call = instruction({
  name: "call", encodings: ["E8 cz f64 Jz", "FF /2 f64 Ev"],
  execute({ cpu, dst, variant }) {
    const returnAddress = cpu.nextRip().trunc(variant.operandSize as Width);
    if (dst.form.kind === "relative" && variant.long) {
      cpu.push(returnAddress);
      return cpu.jumpTarget();
    }
    const target = dst.form.kind === "relative" ? relativeTarget(cpu, variant) : (dst.read() as Bits).zext(64);
    // A stack that cannot be written is found before a target that cannot be executed at.
    const sizeBytes = variant.operandSize / 8;
    checkWrite(Segment.SS, cpu.stackOffset(cpu.stackPointer().sub(sizeBytes)), sizeBytes);
    checkTarget(cpu, target, variant);
    cpu.push(returnAddress);
    cpu.jump(target);
  },
});

const ret = instruction({
  name: "ret", encodings: ["C3 f64", "C2 f64 iw Iw"],
  execute({ cpu, operands, variant }) {
    const width = variant.operandSize;
    const target = (cpu.peek(width) as Bits).zext(64);
    checkTarget(cpu, target, variant);
    const popped = cpu.stackPointer().add(width / 8);
    const released = operands.length === 1 ? popped.add((operands[0].read() as Bits).zext(64)) : popped;
    cpu.writeStackPointer(cpu.stackOffset(released));
    cpu.jump(target);
  },
});

/** LOOP, LOOPE, LOOPNE: the count register has the address size. */
function loop(name: string, opcode: string, holds: (cpu: Cpu) => Bits<1> | undefined): InstructionDefinition {
  return instruction({
    name, encodings: [`${opcode} cb f64 Jb`],
    execute({ cpu, variant }) {
      const count = cpu.gpr(Register.RCX, variant.addressSize);
      const left = count.read().sub(1) as Bits as Bits<32>;
      const target = relativeTarget(cpu, variant);
      const extra = holds(cpu);
      const taken = extra === undefined ? left.ne(0) : left.ne(0).and(extra);
      when(taken, () => {
        checkTarget(cpu, target, variant);
        count.write(left as Bits as never);
        cpu.jump(target);
      }, () => count.write(left as Bits as never));
    },
  });
}

const jcxz = ([["jcxz", "a16"], ["jecxz", "a32"], ["jrcxz", "a64"]] as const).map(([name, size]) => instruction({
  name, encodings: [`E3 cb f64 ${size} Jb`],
  execute<W extends IntegerWidth>({ cpu, variant }: Context<W>) {
    when(cpu.gpr(Register.RCX, variant.addressSize).read().isZero(), () => jumpRelative(cpu, variant));
  },
}));

export const control: readonly InstructionDefinition[] = [
  ...jcc, jmp, call, ret,
  loop("loopne", "E0", (cpu) => cpu.zf.read().xor(1)), loop("loope", "E1", (cpu) => cpu.zf.read()), loop("loop", "E2", () => undefined),
  ...jcxz,
];
