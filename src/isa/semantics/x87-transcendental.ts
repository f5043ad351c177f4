/** F2XM1, FYL2X, FYL2XP1, FPATAN, FSIN, FCOS, FSINCOS and FPTAN (SDM volume 1, "Trigonometric Instructions" and "Logarithmic, Exponential, and Scale Instructions"). */
import type { Status } from "../../ir/index.ts";
import * as softfloat from "../../softfloat/index.ts";
import type { F80, Trigonometric, X87Environment } from "../../softfloat/index.ts";
import type { InstructionDefinition } from "../definition.ts";
import { routine } from "../processor.ts";
import { registerInstruction } from "./x87-definition.ts";
import { StatusMask, X87Operation } from "./x87-unit.ts";

const exponential = registerInstruction("f2xm1", ["D9 F0"], routine("f2xm1", (p) => {
  const x87 = new X87Operation(p);
  const result = x87.isEmpty(0) ? x87.underflow() : softfloat.f80ExponentialMinusOne(x87.read(0), x87.environment);
  if (!x87.isSuppressed) x87.write(0, result);
  return x87.settle();
}));

/** ST(1) = operation(ST(0), ST(1)), then a pop. */
function intoNext(
  name: string, encoding: string, operation: (st0: F80, st1: F80, environment: X87Environment) => F80,
): InstructionDefinition {
  return registerInstruction(name, [encoding], routine(name, (p) => {
    const x87 = new X87Operation(p);
    const result = x87.isEmpty(0) || x87.isEmpty(1) ? x87.underflow() : operation(x87.read(0), x87.read(1), x87.environment);
    if (!x87.isSuppressed) {
      x87.write(1, result);
      x87.pop();
    }
    return x87.settle();
  }));
}

/** ST(0) = operation(ST(0)), or C2 when it is too large to be reduced. */
function ofAngle(
  name: string, encoding: string, operation: (a: F80, environment: X87Environment) => Trigonometric,
): InstructionDefinition {
  return registerInstruction(name, [encoding], routine(name, (p) => {
    const x87 = new X87Operation(p);
    const { result, complete } = x87.isEmpty(0)
      ? { result: x87.underflow(), complete: true }
      : operation(x87.read(0), x87.environment);
    if (!x87.isSuppressed) x87.write(0, result);
    return settleAngle(x87, complete);
  }));
}

/** The conditions other than C2 stay. */
function settleAngle(x87: X87Operation, complete: boolean): Status {
  return x87.settle(x87.conditions(StatusMask.C2, complete ? 0 : StatusMask.C2));
}

/** Two results: one for ST(0), one to push on top of it. */
interface AnglePair {
  readonly below: F80;
  readonly above: F80;
  readonly complete: boolean;
}

const indefinitePair: AnglePair = { below: softfloat.f80Indefinite, above: softfloat.f80Indefinite, complete: true };

function intoPair(name: string, encoding: string, operation: (a: F80, environment: X87Environment) => AnglePair): InstructionDefinition {
  return registerInstruction(name, [encoding], routine(name, (p) => {
    const x87 = new X87Operation(p);
    if (x87.isEmpty(0)) x87.underflow();
    else if (!x87.isEmpty(-1)) x87.overflow();
    const { below, above, complete } = x87.hasStackFault ? indefinitePair : operation(x87.read(0), x87.environment);
    if (complete && !x87.isSuppressed) {
      x87.write(0, below);
      x87.push(above);
    }
    return settleAngle(x87, complete);
  }));
}

function tangent(a: F80, environment: X87Environment): AnglePair {
  const { result, complete } = softfloat.f80Tangent(a, environment);
  const isNan = softfloat.f80Examine(result) === softfloat.classNan;
  return { below: result, above: isNan ? result : softfloat.f80Constant("1", softfloat.roundNearest), complete };
}

function sineAndCosine(a: F80, environment: X87Environment): AnglePair {
  const { sine, cosine, complete } = softfloat.f80SineAndCosine(a, environment);
  return { below: sine, above: cosine, complete };
}

export const x87Transcendental: readonly InstructionDefinition[] = [
  exponential,
  intoNext("fyl2x", "D9 F1", softfloat.f80Logarithm),
  intoNext("fyl2xp1", "D9 F9", softfloat.f80LogarithmPlusOne),
  intoNext("fpatan", "D9 F3", softfloat.f80Arctangent),
  ofAngle("fsin", "D9 FE", softfloat.f80Sine),
  ofAngle("fcos", "D9 FF", softfloat.f80Cosine),
  intoPair("fptan", "D9 F2", tangent),
  intoPair("fsincos", "D9 FB", sineAndCosine),
];
