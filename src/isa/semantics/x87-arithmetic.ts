/** FADD, FSUB, FMUL, FDIV and their kin, FSQRT, FRNDINT, FSCALE, FPREM, FXTRACT, FABS and FCHS (SDM volume 1, "Basic Arithmetic Instructions"). */
import type { Status } from "../../ir/index.ts";
import * as softfloat from "../../softfloat/index.ts";
import type { F80, X87Environment } from "../../softfloat/index.ts";
import type { InstructionDefinition } from "../definition.ts";
import { type Processor, routine } from "../processor.ts";
import { callX87, firstArgument, registerInstruction, x87Instruction } from "./x87-definition.ts";
import { memoryFormats, withMemory } from "./x87-memory.ts";
import { StatusMask, X87Operation } from "./x87-unit.ts";

type Binary = (a: F80, b: F80, environment: X87Environment) => F80;

/** An operation in its straight and reversed forms: which digit of the opcode stands for it, by destination. */
interface Arithmetic {
  readonly name: string;
  readonly operation: Binary;
  /** ModRM.reg of the forms whose destination is ST(0). */
  readonly digit: number;
  /** ModRM.reg of the forms whose destination is ST(i): DC and DE exchange FSUB and FSUBR, FDIV and FDIVR. */
  readonly digitOfRegister: number;
}

function reversed(operation: Binary): Binary {
  return (a, b, environment) => operation(b, a, environment);
}

const operations: readonly Arithmetic[] = [
  { name: "add", operation: softfloat.f80Add, digit: 0, digitOfRegister: 0 },
  { name: "mul", operation: softfloat.f80Multiply, digit: 1, digitOfRegister: 1 },
  { name: "sub", operation: softfloat.f80Subtract, digit: 4, digitOfRegister: 5 },
  { name: "subr", operation: reversed(softfloat.f80Subtract), digit: 5, digitOfRegister: 4 },
  { name: "div", operation: softfloat.f80Divide, digit: 6, digitOfRegister: 7 },
  { name: "divr", operation: reversed(softfloat.f80Divide), digit: 7, digitOfRegister: 6 },
];

/** First ModRM byte of the register forms of a digit. */
function registerByte(digit: number): string {
  return (0xc0 + 8 * digit).toString(16).toUpperCase();
}

/** ST(destination) = operation(ST(destination), ST(source)). */
function betweenRegisters(p: Processor, operation: Binary, pops: boolean): Status {
  const x87 = new X87Operation(p);
  const destination = p.state.argument32(firstArgument), source = p.state.argument32(firstArgument + 1);
  const result = x87.isEmpty(destination) || x87.isEmpty(source)
    ? x87.underflow()
    : operation(x87.read(destination), x87.read(source), x87.environment);
  if (!x87.isSuppressed) {
    x87.write(destination, result);
    if (pops) x87.pop();
  }
  return x87.settle();
}

function binaryForms({ name, operation, digit, digitOfRegister }: Arithmetic): InstructionDefinition[] {
  const plain = routine(`f${name}`, (p) => betweenRegisters(p, operation, false));
  const popping = routine(`f${name}p`, (p) => betweenRegisters(p, operation, true));
  return [
    registerInstruction(`f${name}`, [`D8 ${registerByte(digit)}+i ST(0),ST(i)`, `DC ${registerByte(digitOfRegister)}+i ST(i),ST(0)`], plain),
    registerInstruction(`f${name}p`, [`DE ${registerByte(digitOfRegister)}+i ST(i),ST(0)`], popping),
    ...memoryFormats.map((format) => {
      const run = routine(`f${name} ${format.opcode}`, (p) => {
        const x87 = new X87Operation(p);
        const memory = format.value(p.state, firstArgument);
        const result = x87.isEmpty(0) ? x87.underflow() : withMemory(x87.read(0), memory, x87.environment, operation);
        if (!x87.isSuppressed) x87.write(0, result);
        return x87.settle();
      });
      return x87Instruction({
        name: `${format.isInteger ? "fi" : "f"}${name}`, encodings: [`${format.opcode} /${digit} ${format.operand}`],
        execute({ cpu, dst }) {
          callX87(cpu, run, dst, [dst.as(format.width).read()]);
        },
      });
    }),
  ];
}

/** ST(0) = operation(ST(0)). */
function unary(name: string, encoding: string, operation: (a: F80, environment: X87Environment) => F80): InstructionDefinition {
  return registerInstruction(name, [encoding], routine(name, (p) => {
    const x87 = new X87Operation(p);
    const result = x87.isEmpty(0) ? x87.underflow() : operation(x87.read(0), x87.environment);
    if (!x87.isSuppressed) x87.write(0, result);
    return x87.settle();
  }));
}

const scale = registerInstruction("fscale", ["D9 FD"], routine("fscale", (p) => {
  const x87 = new X87Operation(p);
  const result = x87.isEmpty(0) || x87.isEmpty(1) ? x87.underflow() : softfloat.f80Scale(x87.read(0), x87.read(1), x87.environment);
  if (!x87.isSuppressed) x87.write(0, result);
  return x87.settle();
}));

/**
 * FPREM and FPREM1: C2 says that the reduction is not complete, C0, C3 and C1 are the quotient's low bits. Where there is no
 * quotient C0 and C3 stay (measured on AMD's Zen).
 */
function remainder(name: string, encoding: string, isNearest: boolean): InstructionDefinition {
  return registerInstruction(name, [encoding], routine(name, (p) => {
    const x87 = new X87Operation(p);
    const { result, complete, quotient } = x87.isEmpty(0) || x87.isEmpty(1)
      ? { result: x87.underflow(), complete: true, quotient: 0 }
      : softfloat.f80Remainder(x87.read(0), x87.read(1), isNearest, x87.environment);
    if (!x87.isSuppressed) x87.write(0, result);
    const hasQuotient = !x87.isSuppressed && softfloat.f80Examine(result) !== softfloat.classNan;
    if (!hasQuotient) return x87.settle(x87.conditions(StatusMask.C2, 0));
    const conditions = (complete ? 0 : StatusMask.C2) | (quotient & 4 ? StatusMask.C0 : 0) | (quotient & 2 ? StatusMask.C3 : 0);
    x87.environment.roundedUp = (quotient & 1) !== 0;
    return x87.settle(conditions);
  }));
}

const extract = registerInstruction("fxtract", ["D9 F4"], routine("fxtract", (p) => {
  const x87 = new X87Operation(p);
  if (x87.isEmpty(0)) x87.underflow();
  else if (!x87.isEmpty(-1)) x87.overflow();
  const { exponent, significand } = x87.hasStackFault
    ? { exponent: softfloat.f80Indefinite, significand: softfloat.f80Indefinite }
    : softfloat.f80Extract(x87.read(0), x87.environment);
  if (!x87.isSuppressed) {
    x87.write(0, exponent);
    x87.push(significand);
  }
  return x87.settle();
}));

export const x87Arithmetic: readonly InstructionDefinition[] = [
  ...operations.flatMap(binaryForms),
  unary("fchs", "D9 E0", softfloat.f80ChangeSign),
  unary("fabs", "D9 E1", softfloat.f80Absolute),
  unary("fsqrt", "D9 FA", softfloat.f80SquareRoot),
  unary("frndint", "D9 FC", softfloat.f80RoundToIntegral),
  scale, extract, remainder("fprem", "D9 F8", false), remainder("fprem1", "D9 F5", true),
];
