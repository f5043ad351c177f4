/** x87 add, subtract, multiply, divide, square root and comparison with the NaN and exception rules of SDM vol. 1, 4.8.3.5 and 8.5. */

import { addExact, divideExact, multiplyExact, squareRootExact, toExact } from "./arithmetic.ts";
import type { X87Environment } from "./environment.ts";
import {
  denormalMask,
  divideByZeroMask,
  invalidMask,
  preComputationMask,
  roundDown,
} from "./environment.ts";
import type { Target } from "./rounding.ts";
import { roundInto, targetOfPrecision } from "./rounding.ts";
import type { Ordering } from "./simd-arithmetic.ts";
import {
  compareOrdered,
  orderedEqual,
  orderedGreater,
  orderedLess,
  unordered,
} from "./simd-arithmetic.ts";
import type { Exact, Unpacked } from "./unpacked.ts";
import { isNan, kindInfinity, kindSignallingNan, kindUnsupported, kindZero } from "./unpacked.ts";
import type { F80 } from "./x87-format.ts";
import { f80Indefinite, f80Infinity, f80Zero, packF80, quietF80, unpackF80 } from "./x87-format.ts";

/** Rounds into `target`, unless an unmasked pre-computation exception suppresses the result. */
export function deliverF80(
  value: Exact,
  target: Target,
  raised: number,
  environment: X87Environment,
): F80 {
  environment.exceptions |= raised;
  const rounded = roundInto(value, target, {
    rounding: environment.rounding,
    masks: environment.masks,
    flushToZero: false,
  });
  if ((raised & preComputationMask & ~environment.masks) === 0) {
    environment.exceptions |= rounded.exceptions;
    environment.roundedUp = rounded.roundedUp;
  }
  return packF80(rounded);
}

export function invalidF80(environment: X87Environment): F80 {
  environment.exceptions |= invalidMask;
  return f80Indefinite;
}

/** The answer to a NaN or unsupported operand, or undefined if there is none. */
export function specialF80(
  a: Unpacked,
  b: Unpacked | undefined,
  environment: X87Environment,
): F80 | undefined {
  if (a.kind === kindUnsupported || b?.kind === kindUnsupported) return invalidF80(environment);
  const aNan = isNan(a);
  const bNan = b !== undefined && isNan(b);
  if (!aNan && !bNan) return undefined;
  const aSignals = a.kind === kindSignallingNan;
  const bSignals = b?.kind === kindSignallingNan;
  if (aSignals || bSignals) environment.exceptions |= invalidMask;
  if (!bNan) return quietF80(a);
  if (!aNan) return quietF80(b);
  if (aSignals !== bSignals) return quietF80(aSignals ? b : a);
  if (a.significand !== b.significand) return quietF80(a.significand > b.significand ? a : b);
  return quietF80(a.negative ? b : a);
}

export function denormalFlag(a: Unpacked, b?: Unpacked): number {
  return a.denormal || (b?.denormal ?? false) ? denormalMask : 0;
}

function addUnpacked(a: Unpacked, b: Unpacked, environment: X87Environment): F80 {
  const raised = denormalFlag(a, b);
  if (a.kind === kindInfinity || b.kind === kindInfinity) {
    if (a.kind === b.kind && a.negative !== b.negative) return invalidF80(environment);
    environment.exceptions |= raised;
    return f80Infinity(a.kind === kindInfinity ? a.negative : b.negative);
  }
  if (a.kind === kindZero && b.kind === kindZero) {
    return f80Zero(a.negative === b.negative ? a.negative : environment.rounding === roundDown);
  }
  const sum =
    a.kind === kindZero
      ? toExact(b)
      : b.kind === kindZero
        ? toExact(a)
        : addExact(toExact(a), toExact(b));
  if (sum === undefined) {
    environment.exceptions |= raised;
    return f80Zero(environment.rounding === roundDown);
  }
  return deliverF80(sum, targetOfPrecision(environment.precision), raised, environment);
}

/** FADD: a + b. */
export function f80Add(a: F80, b: F80, environment: X87Environment): F80 {
  environment.roundedUp = false;
  const left = unpackF80(a);
  const right = unpackF80(b);
  return specialF80(left, right, environment) ?? addUnpacked(left, right, environment);
}

/** FSUB: a − b. FSUBR is the same with its operands exchanged: no x87 rule depends on their order. */
export function f80Subtract(a: F80, b: F80, environment: X87Environment): F80 {
  environment.roundedUp = false;
  const left = unpackF80(a);
  const right = unpackF80(b);
  return (
    specialF80(left, right, environment) ??
    addUnpacked(left, { ...right, negative: !right.negative }, environment)
  );
}

/** FMUL: a × b. */
export function f80Multiply(a: F80, b: F80, environment: X87Environment): F80 {
  environment.roundedUp = false;
  const left = unpackF80(a);
  const right = unpackF80(b);
  const special = specialF80(left, right, environment);
  if (special !== undefined) return special;
  const negative = left.negative !== right.negative;
  const raised = denormalFlag(left, right);
  if (left.kind === kindInfinity || right.kind === kindInfinity) {
    if (left.kind === kindZero || right.kind === kindZero) return invalidF80(environment);
    environment.exceptions |= raised;
    return f80Infinity(negative);
  }
  if (left.kind === kindZero || right.kind === kindZero) {
    environment.exceptions |= raised;
    return f80Zero(negative);
  }
  return deliverF80(
    multiplyExact(left, right),
    targetOfPrecision(environment.precision),
    raised,
    environment,
  );
}

/** FDIV: a ÷ b. FDIVR is the same with its operands exchanged. */
export function f80Divide(a: F80, b: F80, environment: X87Environment): F80 {
  environment.roundedUp = false;
  const left = unpackF80(a);
  const right = unpackF80(b);
  const special = specialF80(left, right, environment);
  if (special !== undefined) return special;
  const negative = left.negative !== right.negative;
  const raised = denormalFlag(left, right);
  if (left.kind === kindInfinity) {
    if (right.kind === kindInfinity) return invalidF80(environment);
    environment.exceptions |= raised;
    return f80Infinity(negative);
  }
  if (right.kind === kindZero) {
    if (left.kind === kindZero) return invalidF80(environment);
    // Division by zero outranks a denormal dividend.
    environment.exceptions |= divideByZeroMask;
    return f80Infinity(negative);
  }
  if (left.kind === kindZero || right.kind === kindInfinity) {
    environment.exceptions |= raised;
    return f80Zero(negative);
  }
  return deliverF80(
    divideExact(left, right),
    targetOfPrecision(environment.precision),
    raised,
    environment,
  );
}

/** FSQRT. */
export function f80SquareRoot(a: F80, environment: X87Environment): F80 {
  environment.roundedUp = false;
  const value = unpackF80(a);
  const special = specialF80(value, undefined, environment);
  if (special !== undefined) return special;
  if (value.kind === kindZero) return f80Zero(value.negative);
  if (value.negative) return invalidF80(environment);
  if (value.kind === kindInfinity) return f80Infinity(false);
  return deliverF80(
    squareRootExact(value),
    targetOfPrecision(environment.precision),
    denormalFlag(value),
    environment,
  );
}

/** FCOM, FCOMI and FTST (`signalling`: every NaN is invalid), FUCOM and FUCOMI (only signalling NaNs are). */
export function f80Compare(
  a: F80,
  b: F80,
  signalling: boolean,
  environment: X87Environment,
): Ordering {
  environment.roundedUp = false;
  const left = unpackF80(a);
  const right = unpackF80(b);
  if (left.kind === kindUnsupported || right.kind === kindUnsupported) {
    environment.exceptions |= invalidMask;
    return unordered;
  }
  if (isNan(left) || isNan(right)) {
    if (signalling || left.kind === kindSignallingNan || right.kind === kindSignallingNan) {
      environment.exceptions |= invalidMask;
    }
    return unordered;
  }
  environment.exceptions |= denormalFlag(left, right);
  const order = compareOrdered(left, right);
  return order === 0 ? orderedEqual : order < 0 ? orderedLess : orderedGreater;
}
