/** Decimal arithmetic of 16- and 32-bit code: SDM volume 1, "Decimal Arithmetic Instructions". */
import { Variable, when } from "../../ir/index.ts";
import { constant, instruction, Register, Vector, type Cpu, type InstructionDefinition } from "../definition.ts";

function asciiAdjust(name: "aaa" | "aas", opcode: string): InstructionDefinition {
  return instruction({
    name, encodings: [`${opcode} i64`], undefinedFlags: ["of", "sf", "zf", "pf"],
    execute({ cpu }) {
      const ax = cpu.gpr(Register.RAX, 16);
      const value = ax.read();
      const adjust = value.and(0xf).trunc(8).leU(9).xor(1).or(cpu.af.read());
      const adjusted = name === "aaa" ? value.add(0x106) : value.sub(0x106);
      const result = adjust.select(adjusted, value).and(0xff0f);
      ax.write(result);
      cpu.logicFlags(result.trunc(8));
      cpu.writeFlags({ cf: adjust, af: adjust });
    },
  });
}

function decimalAdjust(name: "daa" | "das", opcode: string): InstructionDefinition {
  return instruction({
    name, encodings: [`${opcode} i64`], undefinedFlags: ["of"],
    execute({ cpu }) {
      const al = cpu.gpr(Register.RAX, 8);
      const old = al.read(), oldCarry = cpu.cf.read(), oldAdjust = cpu.af.read();
      const low = constant(8, 9).ltU(old.and(0xf)).or(oldAdjust);
      const high = constant(8, 0x99).ltU(old).or(oldCarry);
      const correction = low.select(constant(8, 6), 0).or(high.select(constant(8, 0x60), 0));
      const result = name === "daa" ? old.add(correction) : old.sub(correction);
      al.write(result);
      // DAS also carries when subtracting the low correction borrows.
      const carry = new Variable(high);
      if (name === "das") when(low.and(old.ltU(6)), () => carry.set(constant(1, 1)));
      cpu.logicFlags(result);
      cpu.writeFlags({ cf: carry.get(), af: low });
    },
  });
}

function setResultFlags(cpu: Cpu): void {
  cpu.logicFlags(cpu.gpr(Register.RAX, 8).read());
}

const aam = instruction({
  name: "aam", encodings: ["D4 ib i64 Ib"], undefinedFlags: ["of", "af", "cf"],
  execute({ cpu, dst }) {
    const base = dst.as(8).read().zext(32);
    when(base.isZero(), () => cpu.raise(Vector.DE));
    const al = cpu.gpr(Register.RAX, 8).read().zext(32);
    cpu.gpr(Register.RAX, 16).write(al.divU(base).shl(8).or(al.remU(base)).trunc(16));
    setResultFlags(cpu);
  },
});

const aad = instruction({
  name: "aad", encodings: ["D5 ib i64 Ib"], undefinedFlags: ["of", "af", "cf"],
  execute({ cpu, dst }) {
    const al = cpu.gpr(Register.RAX, 8).read(), ah = cpu.highByte(Register.RAX).read();
    cpu.gpr(Register.RAX, 16).write(al.add(ah.mul(dst.as(8).read())).zext(16));
    setResultFlags(cpu);
  },
});

const salc = instruction({
  name: "salc", encodings: ["D6 i64"],
  execute({ cpu }) {
    cpu.gpr(Register.RAX, 8).write(cpu.cf.read().sext(8));
  },
});

export const decimal: readonly InstructionDefinition[] = [
  asciiAdjust("aaa", "37"), asciiAdjust("aas", "3F"), decimalAdjust("daa", "27"), decimalAdjust("das", "2F"), aam, aad, salc,
];
