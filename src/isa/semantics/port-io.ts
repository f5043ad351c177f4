/** IN, OUT, INS and OUTS: SDM volume 1, "Input/Output". */
import type { Bits, Routine } from "../../ir/index.ts";
import {
  checkWrite, constant, instruction, load, Register, Segment, store, type Cpu, type InstructionDefinition, type OperandWidth,
} from "../definition.ts";
import { routine } from "../processor.ts";
import { checkPortAccess, readPort, writePort, type PortInstruction } from "../system/port-io.ts";
import { repeated } from "./strings.ts";

type PortWidth = 8 | 16 | 32;

function checkRoutine(instruction: PortInstruction): Routine {
  const name = `check port of ${instruction.kind}${instruction.isString ? "s" : ""}`;
  return routine(name, (p) => checkPortAccess(p, p.state.argument32(0), p.state.argument32(1), instruction));
}

const checkRoutines = {
  in: checkRoutine({ kind: "in", isString: false }), out: checkRoutine({ kind: "out", isString: false }),
  ins: checkRoutine({ kind: "in", isString: true }), outs: checkRoutine({ kind: "out", isString: true }),
};
const readRoutine = routine("read port", (p) => readPort(p, p.state.argument32(0), p.state.argument32(1)));
const writeRoutine = routine("write port", (p) =>
  writePort(p, p.state.argument32(0), p.state.argument32(1), p.state.argument32(2)));

function sizeBytes(width: PortWidth): Bits<32> {
  return constant(32, width / 8);
}

function checkPort(cpu: Cpu, kind: keyof typeof checkRoutines, port: Bits<32>, width: PortWidth): void {
  cpu.call(checkRoutines[kind], [port, sizeBytes(width)], []);
}

function readFrom(cpu: Cpu, port: Bits<32>, width: PortWidth): Bits<PortWidth> {
  const [value] = cpu.call(readRoutine, [port, sizeBytes(width)], [32]);
  return value.trunc(width);
}

function portInDx(cpu: Cpu): Bits<32> {
  return cpu.gpr(Register.RDX, 16).read().zext(32);
}

const input = instruction({
  name: "in", encodings: ["E4 ib AL,Ib", "E5 ib eAX,Ib", "EC AL,DX", "ED eAX,DX"],
  execute({ cpu, dst, src }) {
    const width = dst.width as OperandWidth as PortWidth;
    const port = (src.read() as Bits).zext(32);
    checkPort(cpu, "in", port, width);
    dst.write(readFrom(cpu, port, width) as Bits as never);
  },
});

const output = instruction({
  name: "out", encodings: ["E6 ib Ib,AL", "E7 ib Ib,eAX", "EE DX,AL", "EF DX,eAX"], endsBlock: true,
  execute({ cpu, dst, src }) {
    const width = src.width as OperandWidth as PortWidth;
    const port = (dst.read() as Bits).zext(32);
    checkPort(cpu, "out", port, width);
    cpu.call(writeRoutine, [port, sizeBytes(width), (src.read() as Bits).zext(32)]);
  },
});

function inputString(name: string, names: InstructionDefinition["names"], encoding: string, isByte: boolean): InstructionDefinition {
  return instruction({
    name, names: names ?? {}, encodings: [encoding], repeatable: true, endsBlock: true,
    execute({ cpu, variant }) {
      const width: PortWidth = isByte ? 8 : variant.operandSize === 16 ? 16 : 32;
      // Even with a count of zero.
      const port = portInDx(cpu);
      checkPort(cpu, "ins", port, width);
      repeated(cpu, width, variant, ({ pointer, advance }) => {
        const offset = pointer(Register.RDI);
        checkWrite(Segment.ES, offset, width / 8);
        store(Segment.ES, offset, readFrom(cpu, port, width));
        advance(Register.RDI);
        return undefined;
      });
    },
  });
}

function outputString(name: string, names: InstructionDefinition["names"], encoding: string, isByte: boolean): InstructionDefinition {
  return instruction({
    name, names: names ?? {}, encodings: [encoding], repeatable: true, endsBlock: true,
    execute({ cpu, variant }) {
      const width: PortWidth = isByte ? 8 : variant.operandSize === 16 ? 16 : 32;
      const port = portInDx(cpu);
      checkPort(cpu, "outs", port, width);
      repeated(cpu, width, variant, ({ pointer, advance }) => {
        const value = load(width, "operand", pointer(Register.RSI));
        cpu.call(writeRoutine, [port, sizeBytes(width), value.zext(32)]);
        advance(Register.RSI);
        return undefined;
      });
    },
  });
}

export const portIo: readonly InstructionDefinition[] = [
  input, output,
  inputString("insb", {}, "6C Yb,DX", true), inputString("ins", { 16: "insw", 32: "insd", 64: "insd" }, "6D Yz,DX", false),
  outputString("outsb", {}, "6E DX,Xb", true), outputString("outs", { 16: "outsw", 32: "outsd", 64: "outsd" }, "6F DX,Xz", false),
];
