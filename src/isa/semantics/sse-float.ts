/** SSE floating-point arithmetic, comparison, rounding and logic (SDM volume 1, "SSE Packed and Scalar Floating-Point Instructions" and relatives). */
import { type Bits, constant, type ModerateOperation, type Routine, shuffle, Status, Variable, when } from "../../ir/index.ts";
import * as softfloat from "../../softfloat/index.ts";
import type { Cpu, InstructionDefinition } from "../definition.ts";
import { type Processor, routine } from "../processor.ts";
import * as state from "../state.ts";
import { and, immediateByte, lanes, or, packed, range, readAligned, sseInstruction, xor } from "./simd.ts";
import { notAnd } from "./sse-integer.ts";
import {
  type ElementOperation, elementRoutine, environmentOf, isPlainlyRounded, lane32, lane64, precisionIsQuiet, quickOrExact, roundsQuietly, roundsToNearest,
  setLane32, setLane64, settle,
} from "./simd-routine.ts";
import {
  all, areModerate, bothMasks, choose, compare, compute, eitherMask, encodingOf, isComparedQuietly, isPlain, isUneventful, isZero, literal, type Mask, maskValue,
  noMask, pd, ps, readDestination, readSource, sd, type Shape, shapes, ss, type Value, writeDestination,
} from "./simd-shape.ts";

// --- arithmetic ----------------------------------------------------------------------------------------------------

interface Arithmetic {
  readonly name: string;
  readonly operation: ModerateOperation;
  readonly exact: ElementOperation;
  /** When a zero result is exact. */
  zeroIsExact(shape: Shape, a: Value, b: Value): Mask | "always";
  /** Whether the result (a normal number, or an exact zero) needed no rounding; "no" may be wrong. */
  isUnrounded(shape: Shape, a: Value, b: Value, result: Value): Bits<1>;
}

/** The rounding error of a sum of two numbers is a number, and these six operations find it (Knuth's TwoSum). */
function sumIsUnrounded(shape: Shape, a: Value, b: Value, sum: Value): Bits<1> {
  const partOfB = compute(shape, "sub", sum, a);
  const errorOfA = compute(shape, "sub", a, compute(shape, "sub", sum, partOfB));
  const errorOfB = compute(shape, "sub", b, partOfB);
  return all(shape, isZero(shape, compute(shape, "add", errorOfA, errorOfB)));
}

/** Significands with enough trailing zeros between them have a product that fits. */
function productFits({ format }: Shape, a: Value, b: Value): Bits<1> {
  const fractionBits = format === 32 ? 23 : 52;
  const trailingZeros = (value: Value): Bits => value.or(1n << BigInt(fractionBits)).ctz();
  return literal({ format, isPacked: false } as Shape, BigInt(fractionBits + 1)).leU(trailingZeros(a).add(trailingZeros(b)));
}

/** Only for scalars: what vectors compute is hardly ever exact, so their routine runs until the precision flag is set. */
function productIsUnrounded(shape: Shape, a: Value, b: Value, product: Value): Bits<1> {
  if (shape.isPacked) return constant(1, 0);
  return productFits(shape, a, b).or(isZero(shape, product) as Bits<1>);
}

/** The quotient is exact if its product with the divisor is, and is the dividend. */
function quotientIsUnrounded(shape: Shape, dividend: Value, divisor: Value, quotient: Value): Bits<1> {
  if (shape.isPacked) return constant(1, 0);
  const isInverse = compare(shape, "eq", compute(shape, "mul", quotient, divisor), dividend) as Bits<1>;
  return productIsUnrounded(shape, quotient, divisor, quotient).and(isInverse);
}

const add: Arithmetic = {
  name: "add", operation: "sum", exact: { f32: softfloat.f32Add, f64: softfloat.f64Add }, zeroIsExact: () => "always",
  isUnrounded: sumIsUnrounded,
};
const sub: Arithmetic = {
  name: "sub", operation: "sum", exact: { f32: softfloat.f32Subtract, f64: softfloat.f64Subtract }, zeroIsExact: () => "always",
  isUnrounded: (shape, a, b, result) => sumIsUnrounded(shape, a, compute(shape, "neg", b), result),
};
const mul: Arithmetic = {
  name: "mul", operation: "product", exact: { f32: softfloat.f32Multiply, f64: softfloat.f64Multiply },
  zeroIsExact: (shape, a, b) => eitherMask(shape, isZero(shape, a), isZero(shape, b)),
  isUnrounded: productIsUnrounded,
};
const div: Arithmetic = {
  name: "div", operation: "quotient", exact: { f32: softfloat.f32Divide, f64: softfloat.f64Divide },
  zeroIsExact: (shape, a) => isZero(shape, a),
  isUnrounded: quotientIsUnrounded,
};

type BinaryOperation = (cpu: Cpu, a: Value, b: Value) => Value;

function arithmetic({ name, operation, exact, zeroIsExact, isUnrounded }: Arithmetic, shape: Shape): BinaryOperation {
  const exactRoutine = elementRoutine(name, shape, exact);
  return (cpu, a, b) => {
    const quick = compute(shape, name, a, b);
    return quickOrExact(cpu, isPlainlyRounded(shape, operation, [a, b], quick), quick, exactRoutine, [a, b], () => {
      const isSilent = roundsQuietly(cpu).or(roundsToNearest(cpu).and(isUnrounded(shape, a, b, quick)));
      return isSilent.and(isUneventful(shape, [a, b], quick, zeroIsExact(shape, a, b)));
    });
  };
}

/** The lesser (or greater) of plain numbers; the second operand if they are equal. */
function extremum(name: "min" | "max", shape: Shape): BinaryOperation {
  const exact = name === "min" ? { f32: softfloat.f32Minimum, f64: softfloat.f64Minimum }
    : { f32: softfloat.f32Maximum, f64: softfloat.f64Maximum };
  const exactRoutine = elementRoutine(name, shape, exact);
  return (cpu, a, b) => {
    const quick = choose(shape, compare(shape, name === "min" ? "lt" : "gt", a, b), a, b);
    return quickOrExact(cpu, areModerate(shape, [a, b]), quick, exactRoutine, [a, b], () =>
      all(shape, bothMasks(shape, isPlain(shape, a), isPlain(shape, b))));
  };
}

/** `name dst, src` computing dst = operation(dst, src), in all four shapes. */
function binary(name: string, opcode: string, operationFor: (shape: Shape) => BinaryOperation): InstructionDefinition[] {
  return shapes.map((shape) => {
    const operation = operationFor(shape);
    return sseInstruction({
      name: `${name}${shape.suffix}`, feature: shape.feature, encodings: [encodingOf(shape, opcode)],
      execute({ cpu, dst, src }) {
        const b = readSource(cpu, shape, src);
        writeDestination(shape, dst, operation(cpu, readDestination(shape, dst), b));
      },
    });
  });
}

const squareRoots: readonly InstructionDefinition[] = shapes.map((shape) => {
  const exactRoutine = elementRoutine("sqrt", shape, {
    f32: (a, _, environment) => softfloat.f32SquareRoot(a, environment),
    f64: (a, _, environment) => softfloat.f64SquareRoot(a, environment),
  });
  return sseInstruction({
    name: `sqrt${shape.suffix}`, feature: shape.feature, encodings: [encodingOf(shape, "51")],
    execute({ cpu, dst, src }) {
      const a = readSource(cpu, shape, src);
      const quick = compute(shape, "sqrt", a);
      writeDestination(shape, dst, quickOrExact(cpu, isPlainlyRounded(shape, "root", [a], quick), quick, exactRoutine, [a], () =>
        isUneventful(shape, [a], quick, "always").and(roundsQuietly(cpu).or(quotientIsUnrounded(shape, a, quick, quick)))));
    },
  });
});

/** RCPPS and relatives raise nothing. */
function approximation(name: string, opcode: string, shape: Shape, approximate: (a: number) => number): InstructionDefinition {
  const exactRoutine = elementRoutine(name, shape, { f32: approximate, f64: (a) => a });
  return sseInstruction({
    name: `${name}${shape.suffix}`, feature: "sse", encodings: [encodingOf(shape, opcode)],
    execute({ cpu, dst, src }) {
      const [result] = cpu.call(exactRoutine, [readSource(cpu, shape, src)], [shape.width]);
      writeDestination(shape, dst, result);
    },
  });
}

// --- horizontal ----------------------------------------------------------------------------------------------------

function horizontal(name: string, opcode: string, kind: Arithmetic): InstructionDefinition[] {
  return [pd, ps].map((shape) => {
    const operation = arithmetic(kind, shape);
    const bytes = shape.format / 8;
    const elements = (offset: number): number[] => range(16 / bytes).flatMap((element) => range(bytes, (element * 2 + offset) * bytes));
    return packed(
      `${name}${shape.suffix}`, "sse3", [`${shape === pd ? "66" : "F2"} 0F ${opcode} /r V${shape.suffix},W${shape.suffix}`],
      (a, b, cpu) => operation(cpu, shuffle(a, b, elements(0)), shuffle(a, b, elements(1))) as Bits<128>,
    );
  });
}

/** Subtracts the even elements and adds the odd ones. */
const alternating: readonly InstructionDefinition[] = [pd, ps].map((shape) => {
  const exactRoutine = elementRoutine("addsub", shape, {
    f32: (a, b, environment, lane) => (lane & 1 ? softfloat.f32Add : softfloat.f32Subtract)(a, b, environment),
    f64: (a, b, environment, lane) => (lane & 1 ? softfloat.f64Add : softfloat.f64Subtract)(a, b, environment),
  });
  return packed(
    `addsub${shape.suffix}`, "sse3", [`${shape === pd ? "66" : "F2"} 0F D0 /r V${shape.suffix},W${shape.suffix}`],
    (a, b, cpu) => {
      const negated = xor(b, lanes(shape.format, [1n << BigInt(shape.format - 1), 0]));
      const quick = compute(shape, "add", a, negated) as Bits<128>;
      const isQuick = roundsQuietly(cpu).and(isUneventful(shape, [a, b], quick, "always"));
      return quickOrExact(cpu, isQuick, quick, exactRoutine, [a, b]);
    },
  );
});

/** Lanes of the product that the immediate's upper bits name, summed pairwise, into the lanes its lower bits name. */
function dotProduct(shape: Shape, settleStages: (p: Processor, immediate: number) => Status): InstructionDefinition {
  const exactRoutine = routine(`dp${shape.suffix}`, (p) => settleStages(p, p.state.argument32(2)));
  return sseInstruction({
    name: `dp${shape.suffix}`, feature: "sse4_1",
    encodings: [`66 0F 3A ${shape === ps ? "40" : "41"} /r ib V${shape.suffix},W${shape.suffix},Ib`],
    execute({ cpu, dst, src }) {
      const b = readAligned(cpu, src);
      const [result] = cpu.call(exactRoutine, [dst.as(128).read(), b, immediateByte(cpu)], [128]);
      dst.as(128).write(result);
    },
  });
}

const dotProductSingle = dotProduct(ps, (p, immediate) => {
  const view = p.state, environment = environmentOf(p);
  const products = range(4).map((lane) =>
    (immediate >> (4 + lane)) & 1 ? softfloat.f32Multiply(lane32(view, 0, lane), lane32(view, 1, lane), environment) : 0);
  let status = settle(p, environment);
  if (status !== Status.Next) return status;
  const low = softfloat.f32Add(products[0], products[1], environment);
  const high = softfloat.f32Add(products[2], products[3], environment);
  status = settle(p, environment);
  if (status !== Status.Next) return status;
  const sum = softfloat.f32Add(low, high, environment);
  range(4).forEach((lane) => setLane32(view, 0, lane, (immediate >> lane) & 1 ? sum : 0));
  return settle(p, environment);
});

const dotProductDouble = dotProduct(pd, (p, immediate) => {
  const view = p.state, environment = environmentOf(p);
  const products = range(2).map((lane) =>
    (immediate >> (4 + lane)) & 1 ? softfloat.f64Multiply(lane64(view, 0, lane), lane64(view, 1, lane), environment) : 0n);
  const status = settle(p, environment);
  if (status !== Status.Next) return status;
  const sum = softfloat.f64Add(products[0], products[1], environment);
  range(2).forEach((lane) => setLane64(view, 0, lane, (immediate >> lane) & 1 ? sum : 0n));
  return settle(p, environment);
});

// --- comparison ----------------------------------------------------------------------------------------------------

function compareInto(shape: Shape): InstructionDefinition {
  const exactRoutine = elementRoutine("cmp", shape, {
    f32: (a, b, environment, _, immediate) => (softfloat.f32ComparePredicate(a, b, immediate & 7, environment) ? 0xffff_ffff : 0),
    f64: (a, b, environment, _, immediate) =>
      softfloat.f64ComparePredicate(a, b, immediate & 7, environment) ? 0xffff_ffff_ffff_ffffn : 0n,
  });
  const { prefix, suffix } = shape;
  return sseInstruction({
    name: `cmp${suffix}`, feature: shape.feature, encodings: [`${prefix} 0F C2 /r ib V${suffix},W${suffix},Ib`],
    execute({ cpu, dst, src }) {
      const b = readSource(cpu, shape, src), a = readDestination(shape, dst);
      const predicate = immediateByte(cpu);
      // EQ, LT, LE, UNORD by bits 1:0; bit 2 inverts.
      const isFirstOfPair = predicate.bit(0).xor(1);
      const upper = isFirstOfPair.select(compare(shape, "le", a, b), noMask(shape));
      const lower = isFirstOfPair.select(compare(shape, "eq", a, b), compare(shape, "lt", a, b));
      const quick = maskValue(shape, predicate.bit(1).select(upper, lower), predicate.bit(2));
      const isQuick = all(shape, bothMasks(shape, isPlain(shape, a), isPlain(shape, b)));
      writeDestination(shape, dst, quickOrExact(cpu, isQuick, quick, exactRoutine, [a, b, predicate]));
    },
  });
}

/** COMISS signals for every NaN, UCOMISS for signalling ones only. */
function compareIntoFlags(name: string, opcode: string, shape: Shape, isSignalling: boolean): InstructionDefinition {
  const exactRoutine: Routine = routine(`${name}${shape.suffix}`, (p) => {
    const view = p.state, environment = environmentOf(p);
    const ordering = shape.format === 32
      ? softfloat.f32Compare(lane32(view, 0, 0), lane32(view, 1, 0), isSignalling, environment)
      : softfloat.f64Compare(lane64(view, 0, 0), lane64(view, 1, 0), isSignalling, environment);
    view.result32(0, ordering);
    return settle(p, environment);
  });
  return sseInstruction({
    name: `${name}${shape.suffix}`, feature: shape.feature,
    encodings: [`${shape === ss ? "NP" : "66"} 0F ${opcode} /r V${shape.suffix},W${shape.suffix}`],
    execute({ cpu, dst, src }) {
      const b = readSource(cpu, shape, src), a = readDestination(shape, dst);
      const zero = new Variable(compare(shape, "eq", a, b) as Bits<1>);
      const carry = new Variable(compare(shape, "lt", a, b) as Bits<1>);
      const clear = constant(1, 0);
      const parity = new Variable(clear);
      when(isComparedQuietly(shape, a, b).xor(1), () => {
        const [ordering] = cpu.call(exactRoutine, [a, b], [32]);
        const isUnordered = ordering.eq(softfloat.unordered);
        zero.set(ordering.eq(softfloat.orderedEqual).or(isUnordered));
        carry.set(ordering.eq(softfloat.orderedLess).or(isUnordered));
        parity.set(isUnordered);
      });
      cpu.writeFlags({ cf: carry.get(), pf: parity.get(), af: clear, zf: zero.get(), sf: clear, of: clear });
    },
  });
}

// --- rounding to integral values -----------------------------------------------------------------------------------

const suppressPrecisionBit = 3;

function roundToIntegral(shape: Shape, opcode: string): InstructionDefinition {
  const exactRoutine: Routine = elementRoutine("round", shape, {
    f32: (a, _, environment, __, immediate) =>
      softfloat.f32RoundToIntegral(a, modeOf(immediate, environment), (immediate >> suppressPrecisionBit & 1) !== 0, environment),
    f64: (a, _, environment, __, immediate) =>
      softfloat.f64RoundToIntegral(a, modeOf(immediate, environment), (immediate >> suppressPrecisionBit & 1) !== 0, environment),
  });
  return sseInstruction({
    name: `round${shape.suffix}`, feature: "sse4_1", encodings: [`66 0F 3A ${opcode} /r ib V${shape.suffix},W${shape.suffix},Ib`],
    execute({ cpu, dst, src }) {
      const a = readSource(cpu, shape, src);
      const immediate = immediateByte(cpu);
      const fromControl = cpu.field<32>(state.mxcsr).read().shr(13).and(3);
      const mode = immediate.bit(2).select(fromControl, immediate.and(3));
      const upper = mode.bit(0).select(compute(shape, "trunc", a), compute(shape, "ceil", a));
      const lower = mode.bit(0).select(compute(shape, "floor", a), compute(shape, "nearest", a));
      const quick = mode.bit(1).select(upper, lower);
      const isExact = all(shape, compare(shape, "eq", quick, a));
      const isSilent = isExact.or(immediate.bit(suppressPrecisionBit)).or(precisionIsQuiet(cpu));
      const isQuick = all(shape, isPlain(shape, a)).and(isSilent);
      writeDestination(shape, dst, quickOrExact(cpu, isQuick, quick, exactRoutine, [a, a, immediate]));
    },
  });
}

function modeOf(immediate: number, environment: softfloat.SimdEnvironment): softfloat.RoundingMode {
  return (immediate & 4) !== 0 ? environment.rounding : (immediate & 3) as softfloat.RoundingMode;
}

// --- logic ---------------------------------------------------------------------------------------------------------

function logic(name: string, opcode: string, operation: (a: Bits<128>, b: Bits<128>) => Bits<128>): InstructionDefinition[] {
  return [ps, pd].map((shape) => packed(`${name}${shape.suffix}`, shape.feature, [encodingOf(shape, opcode)], operation));
}

export const sseFloat: readonly InstructionDefinition[] = [
  ...binary("add", "58", (shape) => arithmetic(add, shape)),
  ...binary("mul", "59", (shape) => arithmetic(mul, shape)),
  ...binary("sub", "5C", (shape) => arithmetic(sub, shape)),
  ...binary("div", "5E", (shape) => arithmetic(div, shape)),
  ...binary("min", "5D", (shape) => extremum("min", shape)),
  ...binary("max", "5F", (shape) => extremum("max", shape)),
  ...squareRoots,
  approximation("rsqrt", "52", ps, softfloat.f32ReciprocalSquareRoot),
  approximation("rsqrt", "52", ss, softfloat.f32ReciprocalSquareRoot),
  approximation("rcp", "53", ps, softfloat.f32Reciprocal),
  approximation("rcp", "53", ss, softfloat.f32Reciprocal),
  ...horizontal("hadd", "7C", add), ...horizontal("hsub", "7D", sub), ...alternating,
  dotProductSingle, dotProductDouble,
  ...shapes.map(compareInto),
  ...[ss, sd].flatMap((shape) => [compareIntoFlags("ucomi", "2E", shape, false), compareIntoFlags("comi", "2F", shape, true)]),
  roundToIntegral(ps, "08"), roundToIntegral(pd, "09"), roundToIntegral(ss, "0A"), roundToIntegral(sd, "0B"),
  ...logic("and", "54", and), ...logic("andn", "55", notAnd), ...logic("or", "56", or), ...logic("xor", "57", xor),
];
