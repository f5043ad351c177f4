/** FADD, FSUB, FMUL, FDIV and their kin, FSQRT, FRNDINT, FSCALE, FPREM, FXTRACT, FABS and FCHS (SDM volume 1, "Basic Arithmetic Instructions"). */
import type { Bits, FastPath, Status } from "../../ir/index.ts";
import * as softfloat from "../../softfloat/index.ts";
import type { F80, X87Environment } from "../../softfloat/index.ts";
import type { InstructionDefinition } from "../definition.ts";
import { type Processor, routine } from "../processor.ts";
import { callX87, firstArgument, registerInstruction, x87Instruction } from "./x87-definition.ts";
import { fastProduct, fastQuotient, fastSquareRoot, fastSum, refuseUnlessOrdinary } from "./x87-fast-arithmetic.ts";
import { fastIntegral } from "./x87-fast-convert.ts";
import { type FastX87, fastX87, type Image, inMemory, inRegisters, refuseUnless, type RoundedImage } from "./x87-fast-unit.ts";
import { type MemoryFormat, memoryFormats, withMemory } from "./x87-memory.ts";
import { StatusMask, X87Operation } from "./x87-unit.ts";

type Binary = (a: F80, b: F80, environment: X87Environment) => F80;
type FastBinary = (x87: FastX87, a: Image, b: Image) => RoundedImage;

/** An operation in its straight and reversed forms: which digit of the opcode stands for it, by destination. */
interface Arithmetic {
  readonly name: string;
  readonly operation: Binary;
  readonly fast: FastBinary;
  /** ModRM.reg of the forms whose destination is ST(0). */
  readonly digit: number;
  /** ModRM.reg of the forms whose destination is ST(i): DC and DE exchange FSUB and FSUBR, FDIV and FDIVR. */
  readonly digitOfRegister: number;
}

function reversed(operation: Binary): Binary {
  return (a, b, environment) => operation(b, a, environment);
}

const fastDifference: FastBinary = (x87, a, b) => fastSum(x87, a, b, true);

const operations: readonly Arithmetic[] = [
  { name: "add", operation: softfloat.f80Add, fast: (x87, a, b) => fastSum(x87, a, b, false), digit: 0, digitOfRegister: 0 },
  { name: "mul", operation: softfloat.f80Multiply, fast: fastProduct, digit: 1, digitOfRegister: 1 },
  { name: "sub", operation: softfloat.f80Subtract, fast: fastDifference, digit: 4, digitOfRegister: 5 },
  {
    name: "subr", operation: reversed(softfloat.f80Subtract), fast: (x87, a, b) => fastDifference(x87, b, a), digit: 5,
    digitOfRegister: 4,
  },
  { name: "div", operation: softfloat.f80Divide, fast: fastQuotient, digit: 6, digitOfRegister: 7 },
  {
    name: "divr", operation: reversed(softfloat.f80Divide), fast: (x87, a, b) => fastQuotient(x87, b, a), digit: 7,
    digitOfRegister: 6,
  },
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

function fastBetweenRegisters(operation: FastBinary, pops: boolean): () => FastPath {
  return fastX87([32, 32, 32], inRegisters, (x87, ...args) => {
    const [destination, source, mask] = args as Bits<32>[];
    refuseUnless(x87.areValid(mask));
    const a = x87.read(destination), b = x87.read(source);
    refuseUnlessOrdinary(a, b);
    const result = operation(x87, a, b);
    const outcome = x87.outcomeOf(result);
    x87.write(destination, result);
    x87.settle(pops ? { outcome, rotation: 1, emptied: x87.tagBit(0) } : { outcome });
  });
}

/** ST(0) = operation(ST(0), memory). */
function fastWithMemory(format: MemoryFormat, operation: FastBinary): () => FastPath {
  return fastX87([format.width], inMemory, (x87, memory) => {
    refuseUnless(x87.isValid(0));
    const register = x87.read(0), value = format.fast(memory);
    refuseUnlessOrdinary(register);
    const result = operation(x87, register, value);
    const outcome = x87.outcomeOf(result);
    x87.write(0, result);
    x87.settle({ outcome });
  });
}

function binaryForms({ name, operation, fast, digit, digitOfRegister }: Arithmetic): InstructionDefinition[] {
  const plain = routine(`f${name}`, (p) => betweenRegisters(p, operation, false), fastBetweenRegisters(fast, false));
  const popping = routine(`f${name}p`, (p) => betweenRegisters(p, operation, true), fastBetweenRegisters(fast, true));
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
      }, fastWithMemory(format, fast));
      return x87Instruction({
        name: `${format.isInteger ? "fi" : "f"}${name}`, encodings: [`${format.opcode} /${digit} ${format.operand}`],
        execute({ cpu, dst }) {
          callX87(cpu, run, dst, [dst.as(format.width).read()]);
        },
      });
    }),
  ];
}

const signMask = 0x8000;

/** An operation without rounding, whatever the register holds. */
function exactly(operation: (a: Image) => Image): (x87: FastX87) => void {
  return (x87) => {
    x87.write(0, operation(x87.read(0)));
    x87.settle({});
  };
}

/** An operation on zeros and normal numbers. */
function rounding(operation: (x87: FastX87, a: Image) => RoundedImage): (x87: FastX87) => void {
  return (x87) => {
    const value = x87.read(0);
    refuseUnlessOrdinary(value);
    const result = operation(x87, value);
    const outcome = x87.outcomeOf(result);
    x87.write(0, result);
    x87.settle({ outcome });
  };
}

/** ST(0) = operation(ST(0)). */
function unary(
  name: string, encoding: string, operation: (a: F80, environment: X87Environment) => F80, fast: (x87: FastX87) => void,
): InstructionDefinition {
  return registerInstruction(name, [encoding], routine(name, (p) => {
    const x87 = new X87Operation(p);
    const result = x87.isEmpty(0) ? x87.underflow() : operation(x87.read(0), x87.environment);
    if (!x87.isSuppressed) x87.write(0, result);
    return x87.settle();
  }, fastX87([], inRegisters, (x87) => {
    refuseUnless(x87.isValid(0));
    fast(x87);
  })));
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
  unary("fchs", "D9 E0", softfloat.f80ChangeSign, exactly((a) => ({ ...a, signExponent: a.signExponent.xor(signMask) }))),
  unary("fabs", "D9 E1", softfloat.f80Absolute, exactly((a) => ({ ...a, signExponent: a.signExponent.and(signMask - 1) }))),
  unary("fsqrt", "D9 FA", softfloat.f80SquareRoot, rounding(fastSquareRoot)),
  unary("frndint", "D9 FC", softfloat.f80RoundToIntegral, rounding(fastIntegral)),
  scale, extract, remainder("fprem", "D9 F8", false), remainder("fprem1", "D9 F5", true),
];
