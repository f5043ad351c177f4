/** FCOM, FUCOM, FCOMI and their kin, FTST and FXAM (SDM volume 1, "Comparison and Classification Instructions"). */
import type { Bits, Routine, Status } from "../../ir/index.ts";
import * as softfloat from "../../softfloat/index.ts";
import type { Ordering } from "../../softfloat/index.ts";
import { constant, type InstructionDefinition } from "../definition.ts";
import { type Processor, routine } from "../processor.ts";
import * as state from "../state.ts";
import { callX87, firstArgument, registerArguments, registerInstruction, x87Instruction } from "./x87-definition.ts";
import { refuseUnlessOrdinary } from "./x87-fast-arithmetic.ts";
import { conditionsOfOrdering, fastExamination, fastOrdering, orderingNumber } from "./x87-fast-convert.ts";
import { type FastX87, fastX87, type Image, inMemory, inRegisters, refuseUnless, type Settlement, writeField } from "./x87-fast-unit.ts";
import { memoryFormats, withMemory } from "./x87-memory.ts";
import { StatusMask, X87Operation } from "./x87-unit.ts";

const { C0, C1, C2, C3 } = StatusMask;
const c1Bit = 9;

function conditionsOf(ordering: Ordering): number {
  switch (ordering) {
    case softfloat.orderedGreater: return 0;
    case softfloat.orderedLess: return C0;
    case softfloat.orderedEqual: return C3;
    default: return C0 | C2 | C3;
  }
}

function orderingOf(left: number, right: number): Ordering {
  if (left === right) return softfloat.orderedEqual;
  return left < right ? softfloat.orderedLess : softfloat.orderedGreater;
}

/** ST(0) against another register, unordered if one is missing. */
function compareRegisters(x87: X87Operation, other: number, isSignalling: boolean): Ordering {
  if (!x87.isEmpty(0) && !x87.isEmpty(other)) {
    const left = x87.readNumber(0), right = x87.readNumber(other);
    if (left !== undefined && right !== undefined) return orderingOf(left, right);
    return softfloat.f80Compare(x87.read(0), x87.read(other), isSignalling, x87.environment);
  }
  x87.underflow();
  return softfloat.unordered;
}

/** An unmasked exception keeps the stack as it is, but not the condition codes (measured on AMD's Zen). */
function finish(x87: X87Operation, ordering: Ordering, pops: number): Status {
  if (!x87.isSuppressed) for (let count = 0; count < pops; count++) x87.pop();
  return x87.settle(conditionsOf(ordering));
}

/** What pops do to stack and tags. */
function fastPops(x87: FastX87, pops: number): Settlement {
  if (pops === 0) return {};
  return { rotation: pops, emptied: pops === 1 ? x87.tagBit(0) : x87.tagBit(0).or(x87.tagBit(1)) };
}

/** ST(0) and another register, both zero or normal. */
function fastOperands(x87: FastX87, other: Bits<32> | number, mask: Bits<32>): readonly [Image, Image] {
  refuseUnless(x87.areValid(mask));
  const left = x87.read(0), right = x87.read(other);
  refuseUnlessOrdinary(left, right);
  return [left, right];
}

/** Compares ST(0) with ST(other), or with the register that the last argument names. */
function comparing(name: string, isSignalling: boolean, pops: number, other?: number): Routine {
  return routine(name, (p) => {
    const x87 = new X87Operation(p);
    return finish(x87, compareRegisters(x87, other ?? p.state.argument32(firstArgument + 1), isSignalling), pops);
  }, fastX87(other === undefined ? [32, 32, 32] : [], inRegisters, (x87, ...args) => {
    const [, index, mask] = args as Bits<32>[];
    const ordering = fastOrdering(...(other === undefined ? fastOperands(x87, index, mask) : fastOperands(x87, other, constant(32, 1 | (1 << other)))));
    x87.settle({ ...fastPops(x87, pops), conditions: conditionsOfOrdering(ordering) });
  }));
}

const withMemoryForms: readonly InstructionDefinition[] = memoryFormats.flatMap((format) =>
  (["com", "comp"] as const).map((name, pops) => {
    const run = routine(`f${name} ${format.opcode}`, (p) => {
      const x87 = new X87Operation(p);
      const memory = format.value(p.state, firstArgument);
      if (x87.isEmpty(0)) {
        x87.underflow();
        return finish(x87, softfloat.unordered, pops);
      }
      const ordering = withMemory(x87.read(0), memory, x87.environment, (register, value, environment) =>
        softfloat.f80Compare(register, value, true, environment));
      return finish(x87, ordering, pops);
    }, fastX87([format.width], inMemory, (x87, memory) => {
      refuseUnless(x87.isValid(0));
      const register = x87.read(0), value = format.fast(memory);
      refuseUnlessOrdinary(register);
      x87.settle({ ...fastPops(x87, pops), conditions: conditionsOfOrdering(fastOrdering(register, value)) });
    }));
    return x87Instruction({
      name: `${format.isInteger ? "fi" : "f"}${name}`, encodings: [`${format.opcode} /${2 + pops} ${format.operand}`],
      execute({ cpu, dst }) {
        callX87(cpu, run, dst, [dst.as(format.width).read()]);
      },
    });
  }));

/** Result 0 is the ordering. As with the condition codes, unmasked exceptions do not keep the flags as they are. */
function comparingIntoFlags(p: Processor, isSignalling: boolean, pops: boolean): Status {
  const x87 = new X87Operation(p);
  const ordering = compareRegisters(x87, p.state.argument32(firstArgument + 1), isSignalling);
  if (pops && !x87.isSuppressed) x87.pop();
  const status = x87.settleKeepingC1();
  p.state.result32(0, ordering);
  return status;
}

function compareIntoFlags(name: string, encoding: string, isSignalling: boolean, pops: boolean): InstructionDefinition {
  const run = routine(name, (p) => comparingIntoFlags(p, isSignalling, pops), fastX87([32, 32, 32], inRegisters, (x87, ...args) => {
    const [, other, mask] = args as Bits<32>[];
    const ordering = fastOrdering(...fastOperands(x87, other, mask));
    writeField(state.scratch[0], orderingNumber(ordering));
    x87.settle({ ...fastPops(x87, pops ? 1 : 0), keepsC1: true });
  }));
  return x87Instruction({
    name, feature: "cmov", encodings: [encoding],
    execute({ cpu, operands }) {
      const [ordering] = callX87(cpu, run, undefined, registerArguments(operands.map((operand) => operand.number)), [32]);
      const isUnordered = ordering.eq(softfloat.unordered), clear = constant(1, 0);
      cpu.writeFlags({
        zf: ordering.eq(softfloat.orderedEqual).or(isUnordered), pf: isUnordered,
        cf: ordering.eq(softfloat.orderedLess).or(isUnordered), of: clear, sf: clear, af: clear,
      });
    },
  });
}

const test = registerInstruction("ftst", ["D9 E4"], routine("ftst", (p) => {
  const x87 = new X87Operation(p);
  if (x87.isEmpty(0)) {
    x87.underflow();
    return finish(x87, softfloat.unordered, 0);
  }
  return finish(x87, softfloat.f80Compare(x87.read(0), softfloat.f80Zero(false), true, x87.environment), 0);
}, fastX87([], inRegisters, (x87) => {
  refuseUnless(x87.isValid(0));
  const value = x87.read(0);
  refuseUnlessOrdinary(value);
  const zero = { significand: constant(64, 0), signExponent: constant(32, 0) };
  x87.settle({ conditions: conditionsOfOrdering(fastOrdering(value, zero)) });
})));

/** FXAM's code of an empty register; those of the others are their classes. */
const emptyCode = 5;

/** C0, C2 and C3 from a code of three bits. */
function conditionsOfCode(code: number): number {
  return (code & 1 ? C0 : 0) | (code & 2 ? C2 : 0) | (code & 4 ? C3 : 0);
}

const examine = registerInstruction("fxam", ["D9 E5"], routine("fxam", (p) => {
  const x87 = new X87Operation(p);
  const value = x87.read(0);
  const sign = (value.signExponent & 0x8000) === 0 ? 0 : C1;
  return x87.commit(sign, conditionsOfCode(x87.isEmpty(0) ? emptyCode : softfloat.f80Examine(value)));
}, fastX87([], inRegisters, (x87) => {
  refuseUnless(x87.isValid(0));
  const value = x87.read(0);
  x87.settle({ outcome: value.signExponent.shr(15).shl(c1Bit), conditions: fastExamination(value) });
})));

export const x87Compare: readonly InstructionDefinition[] = [
  ...withMemoryForms,
  registerInstruction("fcom", ["D8 D0+i ST(0),ST(i)", "DC D0+i ST(0),ST(i)"], comparing("fcom", true, 0)),
  registerInstruction("fcomp", ["D8 D8+i ST(0),ST(i)", "DC D8+i ST(0),ST(i)", "DE D0+i ST(0),ST(i)"], comparing("fcomp", true, 1)),
  registerInstruction("fcompp", ["DE D9"], comparing("fcompp", true, 2, 1)),
  registerInstruction("fucom", ["DD E0+i ST(0),ST(i)"], comparing("fucom", false, 0)),
  registerInstruction("fucomp", ["DD E8+i ST(0),ST(i)"], comparing("fucomp", false, 1)),
  registerInstruction("fucompp", ["DA E9"], comparing("fucompp", false, 2, 1)),
  compareIntoFlags("fucomi", "DB E8+i ST(0),ST(i)", false, false),
  compareIntoFlags("fcomi", "DB F0+i ST(0),ST(i)", true, false),
  compareIntoFlags("fucomip", "DF E8+i ST(0),ST(i)", false, true),
  compareIntoFlags("fcomip", "DF F0+i ST(0),ST(i)", true, true),
  test, examine,
];
