/** Constants, and moves between registers: FLD, FST, FXCH and FCMOV (SDM volume 1, "Data Transfer Instructions" and "Load Constant Instructions"). */
import type { Bits, FastPath, Routine } from "../../ir/index.ts";
import * as softfloat from "../../softfloat/index.ts";
import { condition, constant, type InstructionDefinition } from "../definition.ts";
import { routine } from "../processor.ts";
import * as state from "../state.ts";
import { callX87, firstArgument, registerInstruction, x87Instruction } from "./x87-definition.ts";
import { fastX87, inRegisters, refuseIf, refuseUnless } from "./x87-fast-unit.ts";
import { X87Operation } from "./x87-unit.ts";

const roundings = [softfloat.roundNearest, softfloat.roundDown, softfloat.roundUp, softfloat.roundZero] as const;

/** The rounding modes change the significand alone, and give two different ones at most. */
function fastConstant(byRounding: readonly softfloat.F80[]): () => FastPath {
  return fastX87([], inRegisters, (x87) => {
    refuseIf(x87.isValid(-1));
    const mode = x87.control.shr(10).and(3);
    let significand = constant(64, byRounding[0].significand);
    byRounding.forEach((value, rounding) => {
      if (value.significand !== byRounding[0].significand) significand = mode.eq(rounding).select(constant(64, value.significand), significand);
    });
    x87.push({ significand, signExponent: constant(32, byRounding[0].signExponent), isOrdinary: constant(1, 1) });
  });
}

const constants: readonly InstructionDefinition[] = ([
  ["fld1", "1", "D9 E8"], ["fldl2t", "l2t", "D9 E9"], ["fldl2e", "l2e", "D9 EA"], ["fldpi", "pi", "D9 EB"],
  ["fldlg2", "lg2", "D9 EC"], ["fldln2", "ln2", "D9 ED"], ["fldz", "z", "D9 EE"],
] as const).map(([name, which, encoding]) => {
  const byRounding = roundings.map((rounding) => softfloat.f80Constant(which, rounding));
  return registerInstruction(name, [encoding], routine(name, (p) => {
    const x87 = new X87Operation(p);
    return x87.pushAndSettle(byRounding[(p.state.get16(state.x87Control) >> 10) & 3]);
  }, fastConstant(byRounding)));
});

const loading = routine("fldRegister", (p) => {
  const x87 = new X87Operation(p);
  const source = p.state.argument32(firstArgument);
  if (x87.isEmpty(source)) return x87.pushAndSettle(x87.underflow());
  if (!x87.isEmpty(-1)) return x87.pushAndSettle(x87.overflow());
  x87.pushCopy(source);
  return x87.settle();
}, fastX87([32, 32], inRegisters, (x87, ...args) => {
  const [source, mask] = args as Bits<32>[];
  refuseUnless(x87.areValid(mask));
  refuseIf(x87.isValid(-1));
  x87.push(x87.read(source));
}));

function copying(name: string, pops: boolean): Routine {
  return routine(name, (p) => {
    const x87 = new X87Operation(p);
    const target = p.state.argument32(firstArgument);
    if (x87.isEmpty(0)) {
      const indefinite = x87.underflow();
      if (x87.isSuppressed) return x87.settle();
      x87.write(target, indefinite);
    } else {
      x87.copy(0, target);
    }
    if (pops) x87.pop();
    return x87.settle();
  }, fastX87([32, 32], inRegisters, (x87, index) => {
    const target = index as Bits<32>;
    refuseUnless(x87.isValid(0));
    x87.write(target, x87.read(0));
    x87.settle(pops ? { rotation: 1, filled: x87.tagBit(target), emptied: x87.tagBit(0) } : { filled: x87.tagBit(target) });
  }));
}

/** FSTPNCE, an alias of FSTP that raises nothing for an empty register. */
const copyingUnchecked = routine("fstpnce", (p) => {
  const x87 = new X87Operation(p);
  if (!x87.isEmpty(0)) x87.copy(0, p.state.argument32(firstArgument));
  x87.pop();
  return x87.settle();
});

const exchange = routine("fxch", (p) => {
  const x87 = new X87Operation(p);
  const other = p.state.argument32(firstArgument + 1);
  if (!x87.isEmpty(0) && !x87.isEmpty(other)) {
    x87.exchange(other);
    return x87.settle();
  }
  const first = x87.isEmpty(0) ? x87.underflow() : x87.read(0);
  const second = x87.isEmpty(other) ? x87.underflow() : x87.read(other);
  if (!x87.isSuppressed) {
    x87.write(0, second);
    x87.write(other, first);
  }
  return x87.settle();
}, fastX87([32, 32, 32], inRegisters, (x87, ...args) => {
  const [, other, mask] = args as Bits<32>[];
  refuseUnless(x87.areValid(mask));
  const first = x87.read(0), second = x87.read(other);
  x87.write(0, second);
  x87.write(other, first);
  x87.settle({});
}));

const conditionalMove = routine("fcmov", (p) => {
  const x87 = new X87Operation(p);
  const source = p.state.argument32(firstArgument);
  const isTaken = p.state.argument32(firstArgument + 1) !== 0;
  if (x87.isEmpty(0) || x87.isEmpty(source)) {
    const indefinite = x87.underflow();
    if (!x87.isSuppressed) x87.write(0, indefinite);
  } else if (isTaken) {
    x87.copy(source, 0);
  }
  return x87.settleKeepingC1();
}, fastX87([32, 32], inRegisters, (x87, ...args) => {
  const [source, isTaken] = args as Bits<32>[];
  refuseUnless(x87.areValid(constant(32, 1).shl(source).or(1)));
  const from = isTaken.isZero().select(constant(32, 0), source);
  x87.write(0, x87.read(from));
  x87.settle({ keepsC1: true });
}));

/** By the number of the condition code, as in Jcc. */
const conditionalMoves: readonly InstructionDefinition[] = ([
  ["fcmovb", "DA C0", 2], ["fcmove", "DA C8", 4], ["fcmovbe", "DA D0", 6], ["fcmovu", "DA D8", 10],
  ["fcmovnb", "DB C0", 3], ["fcmovne", "DB C8", 5], ["fcmovnbe", "DB D0", 7], ["fcmovnu", "DB D8", 11],
] as const).map(([name, bytes, code]) => x87Instruction({
  name, feature: "cmov", encodings: [`${bytes}+i ST(0),ST(i)`],
  execute({ cpu, src }) {
    callX87(cpu, conditionalMove, undefined, [constant(32, src.number), condition(code).zext(32)]);
  },
}));

export const x87Move: readonly InstructionDefinition[] = [
  ...constants,
  registerInstruction("fld", ["D9 C0+i ST(i)"], loading),
  registerInstruction("fst", ["DD D0+i ST(i)"], copying("fstRegister", false)),
  registerInstruction("fstp", ["DD D8+i ST(i)", "DF D0+i ST(i)", "DF D8+i ST(i)"], copying("fstpRegister", true)),
  registerInstruction("fstpnce", ["D9 D8+i ST(i)"], copyingUnchecked),
  registerInstruction("fxch", ["D9 C8+i ST(0),ST(i)", "DD C8+i ST(0),ST(i)", "DF C8+i ST(0),ST(i)"], exchange),
  ...conditionalMoves,
];
