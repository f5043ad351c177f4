/** Every instruction that the oracle executes, with the operands it takes and our answer to it. */

import * as soft from "../../src/softfloat/index.ts";
import type {
  F80,
  RoundingMode,
  SimdEnvironment,
  X87Environment,
} from "../../src/softfloat/index.ts";
import type { Layout, Random } from "./float-cases.ts";
import {
  floatOperand,
  integerOperand,
  layoutF32,
  layoutF64,
  layoutF80,
  randomControlWord,
  randomMxcsr,
} from "./float-cases.ts";
import type { OracleOutcome } from "./oracle.ts";

/** One instruction under test. */
export interface FloatOperation {
  readonly name: string;
  /** The oracle's number for it. */
  readonly number: number;
  generate(random: Random): { control: number; operands: bigint[] };
  evaluate(
    operands: readonly bigint[],
    control: number,
    outcome: OracleOutcome,
  ): { agrees: boolean; description: string };
}

export const floatOperations: FloatOperation[] = [];

function hex(value: bigint | number): string {
  return value.toString(16);
}

// --- SSE ---

type SimdEvaluation = (operands: readonly bigint[], environment: SimdEnvironment) => bigint;

function simd(
  name: string,
  number: number,
  generateOperands: (random: Random) => bigint[],
  resultMask: bigint,
  evaluate: SimdEvaluation,
): void {
  floatOperations.push({
    name,
    number,
    generate: (random) => ({ control: randomMxcsr(random), operands: generateOperands(random) }),
    evaluate(operands, control, outcome) {
      const environment = soft.simdEnvironment(control);
      const result = evaluate(operands, environment) & resultMask;
      const flags = soft.settledExceptions(environment.exceptions, environment.masks);
      const faults = (flags & ~environment.masks) !== 0;
      const agrees =
        flags === (outcome.status & soft.allExceptionsMask) &&
        faults === outcome.faulted &&
        (faults || result === (outcome.results[0] & resultMask));
      return {
        agrees,
        description: `${hex(result)} flags ${hex(flags)}${faults ? " faulted" : ""}`,
      };
    },
  });
}

function floats(layout: Layout, count: number): (random: Random) => bigint[] {
  return (random) => {
    const first = floatOperand(random, layout);
    return Array.from({ length: count }, (_, index) =>
      index === 0 ? first : floatOperand(random, layout, first),
    );
  };
}

/** Addends near the product's exponent, where fused results differ from twice rounded ones. */
function fusedOperands(layout: Layout): (random: Random) => bigint[] {
  const exponentMask = 2 ** layout.exponentBits - 1;
  const exponentOf = (value: bigint): number =>
    Number(value >> BigInt(layout.fractionBits)) & exponentMask;
  return (random) => {
    const a = floatOperand(random, layout);
    const b = floatOperand(random, layout, random.below(2) === 0 ? a : undefined);
    const product = Math.min(
      Math.max(exponentOf(a) + exponentOf(b) - (exponentMask - 1) / 2, 0),
      exponentMask,
    );
    const c = floatOperand(random, layout, BigInt(product) << BigInt(layout.fractionBits));
    return [a, b, c];
  };
}

const mask32 = 0xffff_ffffn;
const mask64 = 0xffff_ffff_ffff_ffffn;
const mask128 = (1n << 128n) - 1n;
/** CF, PF and ZF as COMISS leaves them. */
const compareFlagsMask = 0x45n;
const compareFlags: Record<soft.Ordering, bigint> = { 0: 0x40n, 1: 0x01n, 2: 0x00n, 3: 0x45n };

function allOnes(condition: boolean): bigint {
  return condition ? mask64 : 0n;
}

interface SimdSuite {
  readonly suffix: string;
  readonly base: number;
  readonly layout: Layout;
  readonly mask: bigint;
  readonly add: SimdEvaluation;
  readonly subtract: SimdEvaluation;
  readonly multiply: SimdEvaluation;
  readonly divide: SimdEvaluation;
  readonly squareRoot: SimdEvaluation;
  readonly minimum: SimdEvaluation;
  readonly maximum: SimdEvaluation;
  readonly compare: (
    a: bigint,
    b: bigint,
    signalling: boolean,
    environment: SimdEnvironment,
  ) => soft.Ordering;
  readonly predicate: (
    a: bigint,
    b: bigint,
    predicate: number,
    environment: SimdEnvironment,
  ) => boolean;
  readonly toInt32: (a: bigint, rounding: RoundingMode, environment: SimdEnvironment) => number;
  readonly toInt64: (a: bigint, rounding: RoundingMode, environment: SimdEnvironment) => bigint;
  readonly fromInteger: (value: bigint, environment: SimdEnvironment) => bigint;
  readonly round: (
    a: bigint,
    rounding: RoundingMode,
    suppress: boolean,
    environment: SimdEnvironment,
  ) => bigint;
  readonly multiplyAdd: (
    a: bigint,
    b: bigint,
    c: bigint,
    negateProduct: boolean,
    negateAddend: boolean,
    environment: SimdEnvironment,
  ) => bigint;
}

const single: SimdSuite = {
  suffix: "ss",
  base: 0x000,
  layout: layoutF32,
  mask: mask32,
  add: ([a, b], e) => BigInt(soft.f32Add(Number(a), Number(b), e)),
  subtract: ([a, b], e) => BigInt(soft.f32Subtract(Number(a), Number(b), e)),
  multiply: ([a, b], e) => BigInt(soft.f32Multiply(Number(a), Number(b), e)),
  divide: ([a, b], e) => BigInt(soft.f32Divide(Number(a), Number(b), e)),
  squareRoot: ([, b], e) => BigInt(soft.f32SquareRoot(Number(b), e)),
  minimum: ([a, b], e) => BigInt(soft.f32Minimum(Number(a), Number(b), e)),
  maximum: ([a, b], e) => BigInt(soft.f32Maximum(Number(a), Number(b), e)),
  compare: (a, b, signalling, e) => soft.f32Compare(Number(a), Number(b), signalling, e),
  predicate: (a, b, predicate, e) => soft.f32ComparePredicate(Number(a), Number(b), predicate, e),
  toInt32: (a, rounding, e) => soft.f32ToInt32(Number(a), rounding, e),
  toInt64: (a, rounding, e) => soft.f32ToInt64(Number(a), rounding, e),
  fromInteger: (value, e) => BigInt(soft.f32FromInteger(value, e)),
  round: (a, rounding, suppress, e) =>
    BigInt(soft.f32RoundToIntegral(Number(a), rounding, suppress, e)),
  multiplyAdd: (a, b, c, negateProduct, negateAddend, e) =>
    BigInt(soft.f32MultiplyAdd(Number(a), Number(b), Number(c), negateProduct, negateAddend, e)),
};

const double: SimdSuite = {
  suffix: "sd",
  base: 0x100,
  layout: layoutF64,
  mask: mask64,
  add: ([a, b], e) => soft.f64Add(a, b, e),
  subtract: ([a, b], e) => soft.f64Subtract(a, b, e),
  multiply: ([a, b], e) => soft.f64Multiply(a, b, e),
  divide: ([a, b], e) => soft.f64Divide(a, b, e),
  squareRoot: ([, b], e) => soft.f64SquareRoot(b, e),
  minimum: ([a, b], e) => soft.f64Minimum(a, b, e),
  maximum: ([a, b], e) => soft.f64Maximum(a, b, e),
  compare: (a, b, signalling, e) => soft.f64Compare(a, b, signalling, e),
  predicate: (a, b, predicate, e) => soft.f64ComparePredicate(a, b, predicate, e),
  toInt32: (a, rounding, e) => soft.f64ToInt32(a, rounding, e),
  toInt64: (a, rounding, e) => soft.f64ToInt64(a, rounding, e),
  fromInteger: (value, e) => soft.f64FromInteger(value, e),
  round: (a, rounding, suppress, e) => soft.f64RoundToIntegral(a, rounding, suppress, e),
  multiplyAdd: (a, b, c, negateProduct, negateAddend, e) =>
    soft.f64MultiplyAdd(a, b, c, negateProduct, negateAddend, e),
};

for (const suite of [single, double]) {
  const { suffix, base, layout, mask } = suite;
  const one = floats(layout, 1);
  const two = floats(layout, 2);
  simd(`add${suffix}`, base + 0x00, two, mask, suite.add);
  simd(`sub${suffix}`, base + 0x01, two, mask, suite.subtract);
  simd(`mul${suffix}`, base + 0x02, two, mask, suite.multiply);
  simd(`div${suffix}`, base + 0x03, two, mask, suite.divide);
  simd(`sqrt${suffix}`, base + 0x04, two, mask, suite.squareRoot);
  simd(`min${suffix}`, base + 0x05, two, mask, suite.minimum);
  simd(`max${suffix}`, base + 0x06, two, mask, suite.maximum);
  for (const signalling of [false, true]) {
    const name = `${signalling ? "" : "u"}comi${suffix}`;
    simd(
      name,
      base + (signalling ? 0x08 : 0x07),
      two,
      compareFlagsMask,
      ([a, b], e) => compareFlags[suite.compare(a, b, signalling, e)],
    );
  }
  simd(`cvt${suffix}2si r32`, base + 0x0a, one, mask32, ([a], e) =>
    BigInt(suite.toInt32(a, e.rounding, e)),
  );
  simd(`cvtt${suffix}2si r32`, base + 0x0b, one, mask32, ([a], e) =>
    BigInt(suite.toInt32(a, soft.roundZero, e)),
  );
  simd(`cvt${suffix}2si r64`, base + 0x0c, one, mask64, ([a], e) =>
    suite.toInt64(a, e.rounding, e),
  );
  simd(`cvtt${suffix}2si r64`, base + 0x0d, one, mask64, ([a], e) =>
    suite.toInt64(a, soft.roundZero, e),
  );
  for (const width of [32, 64]) {
    simd(
      `cvtsi2${suffix} r${width}`,
      base + (width === 32 ? 0x0e : 0x0f),
      (random) => [integerOperand(random, width)],
      mask,
      ([a], e) => suite.fromInteger(BigInt.asIntN(width, a), e),
    );
  }
  for (let predicate = 0; predicate < 32; predicate++) {
    const evaluate: SimdEvaluation = ([a, b], e) => allOnes(suite.predicate(a, b, predicate, e));
    if (predicate < 8)
      simd(`cmp${suffix} ${predicate}`, base + 0x40 + predicate, two, mask, evaluate);
    simd(`vcmp${suffix} ${predicate}`, base + 0x80 + predicate, two, mask, evaluate);
  }
  for (let immediate = 0; immediate < 16; immediate++) {
    simd(`round${suffix} ${immediate}`, base + 0x60 + immediate, two, mask, ([, b], e) =>
      suite.round(
        b,
        (immediate & 4) !== 0 ? e.rounding : ((immediate & 3) as RoundingMode),
        (immediate & 8) !== 0,
        e,
      ),
    );
  }
  ["vfmadd", "vfmsub", "vfnmadd", "vfnmsub"].forEach((name, kind) => {
    // Factors and addend in the order in which a NaN among them is preferred.
    ["132", "213", "231"].forEach((form, index) => {
      simd(
        `${name}${form}${suffix}`,
        base + 0xa0 + 3 * kind + index,
        fusedOperands(layout),
        mask,
        ([x, y, z], e) => {
          const [a, b, c] = index === 0 ? [x, z, y] : index === 1 ? [y, x, z] : [y, z, x];
          return suite.multiplyAdd(a, b, c, kind >= 2, (kind & 1) !== 0, e);
        },
      );
    });
  });
}
simd("cvtss2sd", 0x009, floats(layoutF32, 2), mask64, ([, b], e) => soft.f32ToF64(Number(b), e));
simd("cvtsd2ss", 0x109, floats(layoutF64, 2), mask32, ([, b], e) => BigInt(soft.f64ToF32(b, e)));
simd("rcpss", 0x010, floats(layoutF32, 2), mask32, ([, b]) =>
  BigInt(soft.f32Reciprocal(Number(b))),
);
simd("rsqrtss", 0x011, floats(layoutF32, 2), mask32, ([, b]) =>
  BigInt(soft.f32ReciprocalSquareRoot(Number(b))),
);

/** Packed forms: every element in one environment, whose flags settle once. */
for (const [name, number, operation] of [
  ["addps", 0x020, soft.f32Add],
  ["mulps", 0x022, soft.f32Multiply],
  ["divps", 0x023, soft.f32Divide],
] as const) {
  const generateVector = (random: Random): bigint[] => {
    const lanes = Array.from({ length: 4 }, () => floats(layoutF32, 2)(random));
    return [0, 1].map((index) => lanes.reduce((vector, lane) => (vector << 32n) | lane[index], 0n));
  };
  simd(name, number, generateVector, mask128, ([a, b], e) => {
    let result = 0n;
    for (let shift = 0n; shift < 128n; shift += 32n) {
      const lane = operation(Number((a >> shift) & mask32), Number((b >> shift) & mask32), e);
      result |= BigInt(lane) << shift;
    }
    return result;
  });
}

// --- x87 ---

/** What an x87 instruction leaves behind; a result that is undefined is not compared. */
interface X87Answer {
  /** ST(0), or the bytes stored. */
  readonly result?: bigint;
  /** The bits of `result` that are compared; all 80 unless given. */
  readonly resultMask?: bigint;
  /** ST(1). */
  readonly second?: bigint;
  /** C3, C2, C1, C0 as bits of the status word, and which of them are compared. */
  readonly conditions: number;
  readonly conditionsMask: number;
}

const c0Mask = 0x0100;
const c1Mask = 0x0200;
const c2Mask = 0x0400;
const c3Mask = 0x4000;
const mask80 = (1n << 80n) - 1n;

function toF80(bits: bigint): F80 {
  return { significand: bits & mask64, signExponent: Number(bits >> 64n) & 0xffff };
}

function fromF80(value: F80): bigint {
  return (BigInt(value.signExponent) << 64n) | value.significand;
}

function x87(
  name: string,
  number: number,
  generateOperands: (random: Random) => bigint[],
  evaluate: (operands: readonly bigint[], environment: X87Environment) => X87Answer,
): void {
  floatOperations.push({
    name,
    number,
    generate: (random) => ({
      control: randomControlWord(random),
      operands: generateOperands(random),
    }),
    evaluate(operands, control, outcome) {
      const environment = soft.x87Environment(control);
      const answer = evaluate(operands, environment);
      const flags = soft.settledExceptions(environment.exceptions, environment.masks);
      const agrees =
        flags === (outcome.status & soft.allExceptionsMask) &&
        (answer.conditions & answer.conditionsMask) === (outcome.status & answer.conditionsMask) &&
        (answer.result === undefined ||
          answer.result === (outcome.results[0] & (answer.resultMask ?? mask80))) &&
        (answer.second === undefined || answer.second === (outcome.results[1] & mask80));
      const description =
        `${hex(answer.result ?? 0n)} ${hex(answer.second ?? 0n)} flags ${hex(flags)} ` +
        `conditions ${hex(answer.conditions & answer.conditionsMask)}`;
      return { agrees, description };
    },
  });
}

function c1(environment: X87Environment): Pick<X87Answer, "conditions" | "conditionsMask"> {
  return { conditions: environment.roundedUp ? c1Mask : 0, conditionsMask: c1Mask };
}

/** ST(0) keeps its value if an unmasked exception precedes the computation. */
function registerAnswer(before: bigint, result: F80, environment: X87Environment): X87Answer {
  const suppressed = (environment.exceptions & soft.preComputationMask & ~environment.masks) !== 0;
  return { result: suppressed ? before : fromF80(result), ...c1(environment) };
}

const twoF80 = floats(layoutF80, 2);

function x87Binary(
  name: string,
  number: number,
  operation: (a: F80, b: F80, environment: X87Environment) => F80,
  operands: (random: Random) => bigint[] = twoF80,
): void {
  x87(name, number, operands, ([a, b], e) =>
    registerAnswer(a, operation(toF80(a), toF80(b), e), e),
  );
}

x87Binary("fadd", 0x200, soft.f80Add);
x87Binary("fsub", 0x201, soft.f80Subtract);
x87Binary("fmul", 0x202, soft.f80Multiply);
x87Binary("fdiv", 0x203, soft.f80Divide);
x87Binary("fsqrt", 0x204, (a, _b, e) => soft.f80SquareRoot(a, e));
x87Binary("fsubr", 0x205, (a, b, e) => soft.f80Subtract(b, a, e));
x87Binary("fdivr", 0x206, (a, b, e) => soft.f80Divide(b, a, e));
x87("fabs", 0x210, twoF80, ([a]) => ({
  result: fromF80(soft.f80Absolute(toF80(a))),
  conditions: 0,
  conditionsMask: c1Mask,
}));
x87("fchs", 0x211, twoF80, ([a]) => ({
  result: fromF80(soft.f80ChangeSign(toF80(a))),
  conditions: 0,
  conditionsMask: c1Mask,
}));
x87("fxam", 0x20f, twoF80, ([a]) => {
  const examined = soft.f80Examine(toF80(a));
  const sign = (a >> 79n) & 1n ? c1Mask : 0;
  return {
    result: a,
    conditions:
      sign |
      (examined & 1 ? c0Mask : 0) |
      (examined & 2 ? c2Mask : 0) |
      (examined & 4 ? c3Mask : 0),
    conditionsMask: c0Mask | c1Mask | c2Mask | c3Mask,
  };
});

const compareConditions: Record<soft.Ordering, number> = {
  0: c3Mask,
  1: c0Mask,
  2: 0,
  3: c0Mask | c2Mask | c3Mask,
};
const compareMask = c0Mask | c1Mask | c2Mask | c3Mask;
for (const [name, number, signalling] of [
  ["fcom", 0x207, true],
  ["fucom", 0x208, false],
  ["ftst", 0x209, true],
] as const) {
  x87(name, number, twoF80, ([a, b], e) => {
    const right = name === "ftst" ? soft.f80Zero(false) : toF80(b);
    const ordering = soft.f80Compare(toF80(a), right, signalling, e);
    return { result: a, conditions: compareConditions[ordering], conditionsMask: compareMask };
  });
}
for (const [name, number, signalling] of [
  ["fcomi", 0x221, true],
  ["fucomi", 0x222, false],
] as const) {
  x87(name, number, twoF80, ([a, b], e) => {
    const ordering = soft.f80Compare(toF80(a), toF80(b), signalling, e);
    const isSuppressed = (e.exceptions & soft.preComputationMask & ~e.masks) !== 0;
    // A suppressed comparison leaves EFLAGS as they happened to be.
    return isSuppressed
      ? { conditions: 0, conditionsMask: c1Mask }
      : {
          result: compareFlags[ordering],
          resultMask: compareFlagsMask,
          conditions: 0,
          conditionsMask: c1Mask,
        };
  });
}

/** A load that an unmasked invalid suppresses pushes nothing, so that ST(0) is still operand 0. */
function loadAnswer(before: bigint, result: F80, environment: X87Environment): X87Answer {
  const suppressed = (environment.exceptions & soft.invalidMask & ~environment.masks) !== 0;
  return { result: suppressed ? before : fromF80(result), ...c1(environment) };
}

x87("fld m32", 0x230, floats(layoutF32, 1), ([a], e) =>
  loadAnswer(a, soft.f80FromF32(Number(a), e), e),
);
x87("fld m64", 0x231, floats(layoutF64, 1), ([a], e) => loadAnswer(a, soft.f80FromF64(a, e), e));
for (const [number, width] of [
  [0x232, 64],
  [0x235, 32],
  [0x236, 16],
] as const) {
  x87(
    `fild m${width}`,
    number,
    (random) => [integerOperand(random, width)],
    ([a], e) => loadAnswer(a, soft.f80FromInteger(BigInt.asIntN(width, a)), e),
  );
}
x87(
  "fbld",
  0x233,
  (random) => {
    let digits = 0n;
    const count = random.below(19);
    for (let digit = 0; digit < count; digit++) digits = (digits << 4n) | BigInt(random.below(10));
    return [digits | (BigInt(random.below(256)) << 72n)];
  },
  ([a], e) => loadAnswer(a, soft.f80FromBcd(a), e),
);

/** A store that an unmasked exception suppresses leaves the bytes of memory. */
function storeAnswer(image: bigint, widthBits: number, environment: X87Environment): X87Answer {
  const memory = 0xccccccccccccccccccccccccccccccccn & mask80;
  const width = BigInt(widthBits);
  const stored = ((memory >> width) << width) | BigInt.asUintN(widthBits, image);
  return { result: soft.storeIsSuppressed(environment) ? memory : stored, ...c1(environment) };
}

x87("fst m32", 0x240, twoF80, ([a], e) => storeAnswer(BigInt(soft.f80ToF32(toF80(a), e)), 32, e));
x87("fst m64", 0x241, twoF80, ([a], e) => storeAnswer(soft.f80ToF64(toF80(a), e), 64, e));
x87("fbstp", 0x245, twoF80, ([a], e) => storeAnswer(soft.f80ToBcd(toF80(a), e), 80, e));
for (const [name, number, width, truncates] of [
  ["fist m16", 0x242, 16, false],
  ["fist m32", 0x243, 32, false],
  ["fistp m64", 0x244, 64, false],
  ["fisttp m16", 0x246, 16, true],
  ["fisttp m32", 0x247, 32, true],
  ["fisttp m64", 0x248, 64, true],
] as const) {
  x87(name, number, twoF80, ([a], e) =>
    storeAnswer(
      soft.f80ToInteger(toF80(a), width, truncates ? soft.roundZero : e.rounding, e),
      width,
      e,
    ),
  );
}

for (const [name, number, isNearest] of [
  ["fprem", 0x20a, false],
  ["fprem1", 0x20b, true],
] as const) {
  x87(name, number, twoF80, ([a, b], e) => {
    const { result, complete, quotient } = soft.f80Remainder(toF80(a), toF80(b), isNearest, e);
    const conditions =
      (complete ? 0 : c2Mask) |
      (quotient & 4 ? c0Mask : 0) |
      (quotient & 2 ? c3Mask : 0) |
      (quotient & 1 ? c1Mask : 0);
    return { ...registerAnswer(a, result, e), conditions, conditionsMask: compareMask };
  });
}
x87Binary("frndint", 0x20c, (a, _b, e) => soft.f80RoundToIntegral(a, e));
x87Binary("fscale", 0x20d, soft.f80Scale, (random) => {
  const [a, b] = twoF80(random);
  // Half of the scales are integers that may just leave the range.
  return random.below(2) === 0
    ? [a, b]
    : [a, fromF80(soft.f80FromInteger(BigInt(random.below(140_000) - 70_000)))];
});
x87("fxtract", 0x20e, twoF80, ([a, b], e) => {
  const { significand, exponent } = soft.f80Extract(toF80(a), e);
  const suppressed = (e.exceptions & soft.preComputationMask & ~e.masks) !== 0;
  return {
    result: suppressed ? a : fromF80(significand),
    second: suppressed ? b : fromF80(exponent),
    conditions: 0,
    conditionsMask: c1Mask,
  };
});

// --- x87 transcendentals: within one unit in the last place ---

/** The pattern as an integer that grows with the value, so that neighbours differ by one; pseudo-denormals included. */
function ordinal(bits: bigint): bigint {
  const biased = (bits >> 64n) & 0x7fffn;
  const significand = bits & mask64;
  const magnitude =
    ((biased === 0n ? significand >> 63n : biased) << 63n) | (significand & (mask64 >> 1n));
  return (bits >> 79n) & 1n ? -magnitude : magnitude;
}

function isWithinOneUlp(ours: bigint, theirs: bigint): boolean {
  const difference = ordinal(ours) - ordinal(theirs);
  return difference >= -1n && difference <= 1n;
}

interface TranscendentalAnswer {
  readonly results: readonly F80[];
  readonly complete: boolean;
}

function transcendental(
  name: string,
  number: number,
  generateOperands: (random: Random) => bigint[],
  evaluate: (a: F80, b: F80, environment: X87Environment) => TranscendentalAnswer,
): void {
  floatOperations.push({
    name,
    number,
    generate: (random) => ({
      control: randomControlWord(random),
      operands: generateOperands(random),
    }),
    evaluate(operands, control, outcome) {
      const environment = soft.x87Environment(control);
      const { results, complete } = evaluate(toF80(operands[0]), toF80(operands[1]), environment);
      const flags = soft.settledExceptions(environment.exceptions, environment.masks);
      const isSuppressed = (flags & soft.preComputationMask & ~environment.masks) !== 0;
      const expected = isSuppressed ? [operands[0]] : results.map(fromF80);
      const agrees =
        flags === (outcome.status & soft.allExceptionsMask) &&
        (isSuppressed || complete === ((outcome.status & c2Mask) === 0)) &&
        expected.every((result, index) => isWithinOneUlp(result, outcome.results[index] & mask80));
      const description = `${expected.map(hex).join(" ")} flags ${hex(flags)} ${complete ? "complete" : "incomplete"}`;
      return { agrees, description };
    },
  });
}

/** An ordinary operand whose exponent is drawn from a range. */
function operandWithin(random: Random, lowest: number, highest: number): bigint {
  const exponent = BigInt(16383 + lowest + random.below(highest - lowest + 1));
  const significand = floatOperand(random, layoutF80) | (1n << 63n);
  return (((BigInt(random.below(2)) << 15n) | exponent) << 64n) | (significand & mask64);
}

function mostly(random: Random, ordinary: () => bigint): bigint {
  return random.below(4) === 0 ? floatOperand(random, layoutF80) : ordinary();
}

const angles = (random: Random): bigint[] => [
  mostly(random, () =>
    operandWithin(random, random.below(2) === 0 ? -3 : -70, random.below(2) === 0 ? 5 : 64),
  ),
  floatOperand(random, layoutF80),
];
const nearOne = 0x3fffn << 64n;

transcendental(
  "f2xm1",
  0x219,
  (random) => [mostly(random, () => operandWithin(random, -70, 0)), 0n],
  (a, _b, e) => ({ results: [soft.f80ExponentialMinusOne(a, e)], complete: true }),
);
transcendental(
  "fyl2x",
  0x21a,
  (random) => [
    mostly(random, () =>
      random.below(2) === 0
        ? operandWithin(random, -20, 20) & ((1n << 79n) - 1n)
        : (nearOne | (1n << 63n)) +
          (random.bits64() >> BigInt(2 + random.below(60))) -
          (BigInt(random.below(2)) << 65n),
    ),
    mostly(random, () => operandWithin(random, -20, 20)),
  ],
  (a, b, e) => ({ results: [soft.f80Logarithm(a, b, e)], complete: true }),
);
transcendental(
  "fyl2xp1",
  0x21b,
  (random) => [
    mostly(random, () => operandWithin(random, -70, 1)),
    mostly(random, () => operandWithin(random, -20, 20)),
  ],
  (a, b, e) => ({ results: [soft.f80LogarithmPlusOne(a, b, e)], complete: true }),
);
transcendental(
  "fpatan",
  0x21d,
  (random) => {
    const a = mostly(random, () => operandWithin(random, -20, 20));
    return [a, floatOperand(random, layoutF80, a)];
  },
  (a, b, e) => ({ results: [soft.f80Arctangent(a, b, e)], complete: true }),
);
transcendental("fsin", 0x21e, angles, (a, _b, e) => {
  const { result, complete } = soft.f80Sine(a, e);
  return { results: [result], complete };
});
transcendental("fcos", 0x21f, angles, (a, _b, e) => {
  const { result, complete } = soft.f80Cosine(a, e);
  return { results: [result], complete };
});
transcendental("fsincos", 0x220, angles, (a, b, e) => {
  const { sine, cosine, complete } = soft.f80SineAndCosine(a, e);
  return { results: complete ? [cosine, sine] : [a, b], complete };
});
transcendental("fptan", 0x21c, angles, (a, b, e) => {
  const { result, complete } = soft.f80Tangent(a, e);
  if (!complete) return { results: [a, b], complete };
  const isNan = soft.f80Examine(result) === soft.classNan;
  return { results: [isNan ? result : soft.f80Constant("1", 0), result], complete };
});
(["1", "l2t", "l2e", "pi", "lg2", "ln2", "z"] as const).forEach((constant) => {
  const number = {
    "1": 0x213,
    pi: 0x214,
    l2t: 0x215,
    l2e: 0x216,
    lg2: 0x217,
    ln2: 0x218,
    z: 0x212,
  }[constant];
  x87(`fld${constant}`, number, twoF80, (_operands, e) => ({
    result: fromF80(soft.f80Constant(constant, e.rounding)),
    conditions: 0,
    conditionsMask: c1Mask,
  }));
});
