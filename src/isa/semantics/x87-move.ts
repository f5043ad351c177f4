/** Loads, stores, exchanges and conditional moves (SDM volume 1, "Data Transfer Instructions" and "Load Constant Instructions"). */
import { type Bits, type Routine, Status, when } from "../../ir/index.ts";
import * as softfloat from "../../softfloat/index.ts";
import type { F80, X87Environment } from "../../softfloat/index.ts";
import {
  checkWrite, condition, constant, type Cpu, type InstructionDefinition, linearAddress, load, type Operand,
} from "../definition.ts";
import { routine } from "../processor.ts";
import type { StateView } from "../state-view.ts";
import { callX87, firstArgument, registerInstruction, x87Instruction } from "./x87-definition.ts";
import { X87Operation } from "./x87-unit.ts";

/** Pushes `value` unless ST(7), which becomes ST(0), is in use. A missing source outranks that. */
function pushInto(x87: X87Operation, value: F80): Status {
  const pushed = x87.hasStackFault || x87.isEmpty(-1) ? value : x87.overflow();
  if (!x87.isSuppressed) x87.push(pushed);
  return x87.settle();
}

// --- loads ---------------------------------------------------------------------------------------------------------

/** A load that converts: `convert` may raise. An unmasked denormal does not keep it from pushing (measured on AMD's Zen). */
function loadConverted(
  name: string, encoding: string, width: 16 | 32 | 64, convert: (view: StateView, environment: X87Environment) => F80,
): InstructionDefinition {
  const run = routine(`${name}${width}`, (p) => {
    const x87 = new X87Operation(p);
    const value = x87.isEmpty(-1) ? convert(p.state, x87.environment) : x87.overflow();
    if (!x87.hasUnmaskedInvalid) x87.push(value);
    return x87.settle();
  });
  return x87Instruction({
    name, encodings: [encoding],
    execute({ cpu, dst }) {
      callX87(cpu, run, dst, [dst.as(width).read()]);
    },
  });
}

/** Reads 80 bits as a 64-bit and a 16-bit argument. */
function readTenBytes(operand: Operand): Bits[] {
  return [operand.as(64).read(), load(16, "operand", operand.offset().add(8))];
}

function loadTenBytes(name: string, encoding: string, convert: (significand: bigint, upper: number) => F80): InstructionDefinition {
  const run = routine(`${name}80`, (p) =>
    pushInto(new X87Operation(p), convert(p.state.argument64(firstArgument), p.state.argument32(firstArgument + 1))));
  return x87Instruction({
    name, encodings: [encoding],
    execute({ cpu, dst }) {
      callX87(cpu, run, dst, readTenBytes(dst as Operand));
    },
  });
}

const loads: readonly InstructionDefinition[] = [
  loadConverted("fld", "D9 /0 Md", 32, (view, environment) => softfloat.f80FromF32(view.argument32(firstArgument), environment)),
  loadConverted("fld", "DD /0 Mq", 64, (view, environment) => softfloat.f80FromF64(view.argument64(firstArgument), environment)),
  loadTenBytes("fld", "DB /5 Mt", (significand, signExponent) => ({ significand, signExponent })),
  loadTenBytes("fbld", "DF /4 Mt", (low, high) => softfloat.f80FromBcd(low | (BigInt(high) << 64n))),
  loadConverted("fild", "DF /0 Mw", 16, (view) => softfloat.f80FromInteger(BigInt((view.argument32(firstArgument) << 16) >> 16))),
  loadConverted("fild", "DB /0 Md", 32, (view) => softfloat.f80FromInteger(BigInt(view.argument32(firstArgument) | 0))),
  loadConverted("fild", "DF /5 Mq", 64, (view) => softfloat.f80FromInteger(BigInt.asIntN(64, view.argument64(firstArgument)))),
  registerInstruction("fld", ["D9 C0+i ST(i)"], routine("fldRegister", (p) => {
    const x87 = new X87Operation(p);
    const source = p.state.argument32(firstArgument);
    return pushInto(x87, x87.isEmpty(source) ? x87.underflow() : x87.read(source));
  })),
];

const constants: readonly InstructionDefinition[] = ([
  ["fld1", "1", "D9 E8"], ["fldl2t", "l2t", "D9 E9"], ["fldl2e", "l2e", "D9 EA"], ["fldpi", "pi", "D9 EB"],
  ["fldlg2", "lg2", "D9 EC"], ["fldln2", "ln2", "D9 ED"], ["fldz", "z", "D9 EE"],
] as const).map(([name, which, encoding]) => registerInstruction(name, [encoding], routine(name, (p) => {
  const x87 = new X87Operation(p);
  return pushInto(x87, softfloat.f80Constant(which, x87.environment.rounding));
})));

// --- stores --------------------------------------------------------------------------------------------------------

const storesMask = 0x1_0000;

/**
 * A store in three steps, so that memory faults before anything is committed: a routine finds value and outcome, memory
 * is written (or only checked, where an unmasked exception forbids the store), a second routine commits the outcome and pops.
 */
function storing(
  name: string, encoding: string, width: 16 | 32 | 64, pops: boolean,
  convert: (value: F80, environment: X87Environment) => bigint | number,
): InstructionDefinition {
  const prepare = routine(`${name}${width}`, (p) => {
    const x87 = new X87Operation(p);
    const value = convert(x87.isEmpty(0) ? x87.underflow() : x87.read(0), x87.environment);
    const stores = !softfloat.storeIsSuppressed(x87.environment);
    if (typeof value === "bigint") p.state.result64(0, value);
    else p.state.result32(0, value);
    p.state.result32(1, x87.outcome() | (stores ? storesMask : 0));
    return Status.Next;
  });
  const commit = routine(`${name}${width} commit`, (p) => {
    const x87 = new X87Operation(p);
    const outcome = p.state.argument32(firstArgument);
    if (pops && (outcome & storesMask) !== 0) x87.pop();
    return x87.commit(outcome & ~storesMask);
  });
  return x87Instruction({
    name, encodings: [encoding],
    execute({ cpu, dst }) {
      const [value, outcome] = callX87(cpu, prepare, undefined, [], [width, 32]);
      when(
        outcome.and(storesMask).ne(0),
        () => dst.as(width).write(value as Bits as never),
        () => checkWrite("operand", dst.offset(), width / 8),
      );
      callX87(cpu, commit, dst, [outcome]);
    },
  });
}

/** Ten bytes: checked first, then written and committed by one routine. `convert` gives the lower eight and the upper two. */
function storingTenBytes(
  name: string, encoding: string, convert: (value: F80, environment: X87Environment) => readonly [low: bigint, high: number],
): InstructionDefinition {
  const run = routine(`${name}80`, (p) => {
    const x87 = new X87Operation(p);
    const [low, high] = convert(x87.isEmpty(0) ? x87.underflow() : x87.read(0), x87.environment);
    if (softfloat.storeIsSuppressed(x87.environment)) return x87.settle();
    const linear = p.state.argument64(firstArgument);
    const isStored = p.memory.store(linear, 8, low) && p.memory.store(BigInt.asUintN(64, linear + 8n), 2, BigInt(high));
    if (!isStored) return Status.Fault;
    x87.pop();
    return x87.settle();
  });
  return x87Instruction({
    name, encodings: [encoding],
    execute({ cpu, dst }) {
      const offset = dst.offset();
      checkWrite("operand", offset, 8);
      checkWrite("operand", offset.add(8), 2);
      callX87(cpu, run, dst, [linearAddress("operand", offset)]);
    },
  });
}

function bcd(value: F80, environment: X87Environment): readonly [low: bigint, high: number] {
  const image = softfloat.f80ToBcd(value, environment);
  return [BigInt.asUintN(64, image), Number(image >> 64n)];
}

function integerOf(width: 16 | 32 | 64, truncates: boolean): (value: F80, environment: X87Environment) => bigint {
  return (value, environment) => {
    const rounding = truncates ? softfloat.roundZero : environment.rounding;
    return BigInt.asUintN(64, softfloat.f80ToInteger(value, width, rounding, environment));
  };
}

const stores: readonly InstructionDefinition[] = [
  storing("fst", "D9 /2 Md", 32, false, softfloat.f80ToF32), storing("fstp", "D9 /3 Md", 32, true, softfloat.f80ToF32),
  storing("fst", "DD /2 Mq", 64, false, softfloat.f80ToF64), storing("fstp", "DD /3 Mq", 64, true, softfloat.f80ToF64),
  storingTenBytes("fstp", "DB /7 Mt", ({ significand, signExponent }) => [significand, signExponent]),
  storingTenBytes("fbstp", "DF /6 Mt", bcd),
  storing("fist", "DF /2 Mw", 16, false, integerOf(16, false)), storing("fistp", "DF /3 Mw", 16, true, integerOf(16, false)),
  storing("fist", "DB /2 Md", 32, false, integerOf(32, false)), storing("fistp", "DB /3 Md", 32, true, integerOf(32, false)),
  storing("fistp", "DF /7 Mq", 64, true, integerOf(64, false)),
  ...([["DF /1 Mw", 16], ["DB /1 Md", 32], ["DD /1 Mq", 64]] as const).map(([encoding, width]) =>
    ({ ...storing("fisttp", encoding, width, true, integerOf(width, true)), feature: "sse3" })),
];

function copying(name: string, pops: boolean): Routine {
  return routine(name, (p) => {
    const x87 = new X87Operation(p);
    const value = x87.isEmpty(0) ? x87.underflow() : x87.read(0);
    if (!x87.isSuppressed) {
      x87.write(p.state.argument32(firstArgument), value);
      if (pops) x87.pop();
    }
    return x87.settle();
  });
}

/** FSTPNCE, an alias of FSTP that raises nothing for an empty register. */
const copyingUnchecked = routine("fstpnce", (p) => {
  const x87 = new X87Operation(p);
  if (!x87.isEmpty(0)) x87.write(p.state.argument32(firstArgument), x87.read(0));
  x87.pop();
  return x87.settle();
});

// --- between registers ---------------------------------------------------------------------------------------------

const exchange = routine("fxch", (p) => {
  const x87 = new X87Operation(p);
  const other = p.state.argument32(firstArgument + 1);
  const first = x87.isEmpty(0) ? x87.underflow() : x87.read(0);
  const second = x87.isEmpty(other) ? x87.underflow() : x87.read(other);
  if (!x87.isSuppressed) {
    x87.write(0, second);
    x87.write(other, first);
  }
  return x87.settle();
});

const conditionalMove = routine("fcmov", (p) => {
  const x87 = new X87Operation(p);
  const source = p.state.argument32(firstArgument);
  const isTaken = p.state.argument32(firstArgument + 1) !== 0;
  if (x87.isEmpty(0) || x87.isEmpty(source)) {
    const indefinite = x87.underflow();
    if (!x87.isSuppressed) x87.write(0, indefinite);
  } else if (isTaken) {
    x87.write(0, x87.read(source));
  }
  return x87.settleKeepingC1();
});

/** By the number of the condition code, as in Jcc. */
const conditionalMoves: readonly InstructionDefinition[] = ([
  ["fcmovb", "DA C0", 2], ["fcmove", "DA C8", 4], ["fcmovbe", "DA D0", 6], ["fcmovu", "DA D8", 10],
  ["fcmovnb", "DB C0", 3], ["fcmovne", "DB C8", 5], ["fcmovnbe", "DB D0", 7], ["fcmovnu", "DB D8", 11],
] as const).map(([name, bytes, code]) => x87Instruction({
  name, feature: "cmov", encodings: [`${bytes}+i ST(0),ST(i)`],
  execute({ cpu, src }) {
    callX87(cpu, conditionalMove, undefined, [constant(32, src.number), holds(cpu, code)]);
  },
}));

function holds(cpu: Cpu, code: number): Bits<32> {
  return condition(cpu, code).zext(32);
}

export const x87Move: readonly InstructionDefinition[] = [
  ...loads, ...constants, ...stores,
  registerInstruction("fst", ["DD D0+i ST(i)"], copying("fstRegister", false)),
  registerInstruction("fstp", ["DD D8+i ST(i)", "DF D0+i ST(i)", "DF D8+i ST(i)"], copying("fstpRegister", true)),
  registerInstruction("fstpnce", ["D9 D8+i ST(i)"], copyingUnchecked),
  registerInstruction("fxch", ["D9 C8+i ST(0),ST(i)", "DD C8+i ST(0),ST(i)", "DF C8+i ST(0),ST(i)"], exchange),
  ...conditionalMoves,
];
