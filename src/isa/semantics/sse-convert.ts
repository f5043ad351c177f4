/** SSE conversions between integers, singles and doubles (SDM volume 1, "SSE Conversion Instructions" and relatives). */
import { type Bits, float, type Routine, vector, vectorToScalar } from "../../ir/index.ts";
import * as softfloat from "../../softfloat/index.ts";
import type { SimdEnvironment } from "../../softfloat/index.ts";
import type { Cpu, InstructionDefinition, Operand } from "../definition.ts";
import { routine } from "../processor.ts";
import type { StateView } from "../state-view.ts";
import * as state from "../state.ts";
import {
  enterMmx, enterMmxNow, lanes, mixedInstruction, range, readAligned, requireMmx, sseInstruction, writeMmx,
} from "./simd.ts";
import {
  environmentOf, lane32, lane64, precisionIsQuiet, quickOrExact, roundsQuietly, setLane32, setLane64, settle,
} from "./simd-routine.ts";
import {
  all, bothMasks, compare, compute, eitherMask, isPlain, isZero, literal, pd, ps, sd, type Shape, ss, type Value,
} from "./simd-shape.ts";

/**
 * A routine that fills the lowest elements of its result, numbers as 32 bits and bigints as 64, and clears the others.
 * Instructions that also name MMX registers enter MMX state even when they end in #XM.
 */
function conversion(
  name: string, count: number, convert: (view: StateView, lane: number, environment: SimdEnvironment) => number | bigint,
  entersMmx: boolean = false,
): Routine {
  return routine(name, (p) => {
    const view = p.state, environment = environmentOf(p);
    const results = range(count).map((lane) => convert(view, lane, environment));
    view.result128(0, 0n, 0n);
    results.forEach((result, lane) => {
      if (typeof result === "number") setLane32(view, 0, lane, result);
      else setLane64(view, 0, lane, result);
    });
    if (entersMmx) enterMmxNow(view);
    return settle(p, environment);
  });
}

/** The lower half of a register or 64 bits of memory, with zeros above. */
function readHalf(operand: Operand): Bits<128> {
  return operand.as(64).read().zext(128);
}

/** Rounding to nearest, and inexact results leave no trace. */
function roundsToNearestQuietly(cpu: Cpu): Bits<1> {
  return cpu.field<32>(state.mxcsr).read().and(0x7020).eq(0x1020);
}

// --- integers to floating point ------------------------------------------------------------------------------------

/** Whether the magnitude is at most 2^bits. */
function isWithin(value: Bits, bits: number): Bits<1> {
  const wide = value.sext(64);
  return wide.add(1n << BigInt(bits)).leU(2n << BigInt(bits));
}

function fromInteger(shape: Shape): InstructionDefinition {
  const exactRoutines = { 32: fromIntegerRoutine(shape, 32), 64: fromIntegerRoutine(shape, 64) };
  return sseInstruction({
    name: `cvtsi2${shape.suffix}`, feature: shape.feature, encodings: [`${shape.prefix} 0F 2A /r V${shape.suffix},Ey`],
    execute({ cpu, dst, src }) {
      const width = src.width as 32 | 64;
      const value = src.as(width).read();
      const quick = float(shape.format, `f${shape.format}.convert_i${width}_s`, value);
      const precisionBits = shape.format === 32 ? 24 : 53;
      if (width <= precisionBits) return dst.as(shape.format).write(quick);
      const isQuick = isWithin(value, precisionBits).or(roundsToNearestQuietly(cpu));
      dst.as(shape.format).write(quickOrExact(cpu, isQuick, quick, exactRoutines[width], [value]));
    },
  });
}

function fromIntegerRoutine(shape: Shape, width: 32 | 64): Routine {
  return conversion(`cvtsi${width}2${shape.suffix}`, 1, (view, _, environment) => {
    const value = width === 32 ? lane32(view, 0, 0) | 0 : BigInt.asIntN(64, lane64(view, 0, 0));
    return shape.format === 32 ? softfloat.f32FromInteger(value, environment) : softfloat.f64FromInteger(value, environment);
  });
}

function singleOfDoubleword(view: StateView, lane: number, environment: SimdEnvironment): number {
  return softfloat.f32FromInteger(lane32(view, 0, lane) | 0, environment);
}

const doublewordsToSingles = conversion("cvtdq2ps", 4, singleOfDoubleword);
const mmxToSingles = conversion("cvtpi2ps", 2, singleOfDoubleword, true);

function singlesOfDoublewords(cpu: Cpu, value: Bits<128>, exact: Routine): Bits<128> {
  const quick = vector("f32x4.convert_i32x4_s", value);
  const isSmall = vector("i32x4.le_u", vector("i32x4.abs", value), lanes(32, [1 << 24]));
  const isQuick = vectorToScalar("i32x4.all_true", isSmall).ne(0).or(roundsToNearestQuietly(cpu));
  return quickOrExact(cpu, isQuick, quick, exact, [value]);
}

const cvtdq2ps = sseInstruction({
  name: "cvtdq2ps", feature: "sse2", encodings: ["NP 0F 5B /r Vps,Wdq"],
  execute({ cpu, dst, src }) {
    dst.as(128).write(singlesOfDoublewords(cpu, readAligned(cpu, src), doublewordsToSingles));
  },
});

/** With a memory operand CVTPI2PS and CVTPI2PD have nothing to do with MMX. */
const cvtpi2ps = sseInstruction({
  name: "cvtpi2ps", feature: "sse", encodings: ["NP 0F 2A /r Vps,Qpi"],
  execute({ cpu, dst, src }) {
    if (!src.isMemory) requireMmx(cpu);
    const exact = src.isMemory ? doublewordsToSingles : mmxToSingles;
    dst.as(64).write(singlesOfDoublewords(cpu, readHalf(src), exact).lane(64, 0));
    if (!src.isMemory) enterMmx(cpu);
  },
});

const cvtdq2pd = sseInstruction({
  name: "cvtdq2pd", feature: "sse2", encodings: ["F3 0F E6 /r Vpd,Wq"],
  execute({ dst, src }) {
    dst.as(128).write(vector("f64x2.convert_low_i32x4_s", readHalf(src)));
  },
});

const cvtpi2pd = sseInstruction({
  name: "cvtpi2pd", feature: "sse2", encodings: ["66 0F 2A /r Vpd,Qpi"],
  execute({ cpu, dst, src }) {
    if (!src.isMemory) requireMmx(cpu);
    dst.as(128).write(vector("f64x2.convert_low_i32x4_s", readHalf(src)));
    if (!src.isMemory) enterMmx(cpu);
  },
});

// --- floating point to integers ------------------------------------------------------------------------------------

/** Bits of 2^exponent. */
function powerOfTwo(format: 32 | 64, exponent: number): bigint {
  return format === 32 ? BigInt(exponent + 127) << 23n : BigInt(exponent + 1023) << 52n;
}

interface ToInteger {
  readonly shape: Shape;
  readonly truncates: boolean;
  readonly integerWidth: 32 | 64;
  /** The integers of integral values in range. */
  integers(integral: Value): Bits;
  readonly exact: Routine;
}

function toIntegers(cpu: Cpu, { shape, truncates, integerWidth, integers, exact }: ToInteger, value: Value): Bits {
  const integral = compute(shape, truncates ? "trunc" : "nearest", value);
  const limit = powerOfTwo(shape.format, integerWidth - 1);
  const signBit = 1n << BigInt(shape.format - 1);
  const isInRange = bothMasks(
    shape, compare(shape, "ge", integral, literal(shape, limit | signBit)), compare(shape, "lt", integral, literal(shape, limit)),
  );
  const leavesNoTrace = all(shape, compare(shape, "eq", integral, value))
    .or(truncates ? precisionIsQuiet(cpu) : roundsToNearestQuietly(cpu));
  return quickOrExact(cpu, all(shape, isInRange).and(leavesNoTrace), integers(integral), exact, [value]);
}

function toIntegerElement(shape: Shape, width: 32 | 64, truncates: boolean) {
  return (view: StateView, lane: number, environment: SimdEnvironment): number | bigint => {
    const rounding = truncates ? softfloat.roundZero : environment.rounding;
    if (shape.format === 32) {
      const convert = width === 32 ? softfloat.f32ToInt32 : softfloat.f32ToInt64;
      return convert(lane32(view, 0, lane), rounding, environment);
    }
    const convert = width === 32 ? softfloat.f64ToInt32 : softfloat.f64ToInt64;
    return convert(lane64(view, 0, lane), rounding, environment);
  };
}

/** CVTSS2SI and relatives. */
function toGeneralRegister(shape: Shape, truncates: boolean): InstructionDefinition {
  const name = `cvt${truncates ? "t" : ""}${shape.suffix}2si`;
  const kinds = ([32, 64] as const).map((integerWidth): ToInteger => ({
    shape, truncates, integerWidth,
    integers: (integral) => float(integerWidth, `i${integerWidth}.trunc_sat_f${shape.format}_s`, integral),
    exact: conversion(`${name}${integerWidth}`, 1, toIntegerElement(shape, integerWidth, truncates)),
  }));
  return sseInstruction({
    name, feature: shape.feature, encodings: [`${shape.prefix} 0F ${truncates ? "2C" : "2D"} /r Gy,W${shape.suffix}`],
    execute({ cpu, dst, src, width }) {
      const value = src.as(shape.format).read();
      dst.write(toIntegers(cpu, kinds[(width as number) === 64 ? 1 : 0], value) as never);
    },
  });
}

/** Packed conversions to doublewords; two doubles leave the upper half zero. */
function packedToInteger(name: string, shape: Shape, truncates: boolean, count: 2 | 4, entersMmx: boolean): ToInteger {
  return {
    shape, truncates, integerWidth: 32,
    integers: (integral) =>
      vector(shape === ps ? "i32x4.trunc_sat_f32x4_s" : "i32x4.trunc_sat_f64x2_s_zero", integral),
    exact: conversion(name, count, toIntegerElement(shape, 32, truncates), entersMmx),
  };
}

function toDoublewords(name: string, encoding: string, shape: Shape, truncates: boolean): InstructionDefinition {
  const kind = packedToInteger(name, shape, truncates, shape === ps ? 4 : 2, false);
  return sseInstruction({
    name, feature: "sse2", encodings: [encoding],
    execute({ cpu, dst, src }) {
      dst.as(128).write(toIntegers(cpu, kind, readAligned(cpu, src)) as Bits<128>);
    },
  });
}

/** CVTPS2PI and relatives: two elements to an MMX register. */
function toMmx(name: string, encoding: string, shape: Shape, truncates: boolean): InstructionDefinition {
  const kind = packedToInteger(name, shape, truncates, 2, true);
  return mixedInstruction({
    name, feature: shape.feature, encodings: [encoding],
    execute({ cpu, dst, src }) {
      const value = shape === ps ? readHalf(src) : readAligned(cpu, src);
      writeMmx(cpu, dst, toIntegers(cpu, kind, value) as Bits<128>);
    },
  });
}

// --- between singles and doubles -----------------------------------------------------------------------------------

const widenSingle = conversion("cvtss2sd", 1, (view, lane, environment) => softfloat.f32ToF64(lane32(view, 0, lane), environment));
const widenSingles = conversion("cvtps2pd", 2, (view, lane, environment) => softfloat.f32ToF64(lane32(view, 0, lane), environment));
const narrowDouble = conversion("cvtsd2ss", 1, (view, lane, environment) => softfloat.f64ToF32(lane64(view, 0, lane), environment));
const narrowDoubles = conversion("cvtpd2ps", 2, (view, lane, environment) => softfloat.f64ToF32(lane64(view, 0, lane), environment));

const cvtss2sd = sseInstruction({
  name: "cvtss2sd", feature: "sse2", encodings: ["F3 0F 5A /r Vsd,Wss"],
  execute({ cpu, dst, src }) {
    const value = src.as(32).read();
    const quick = float(64, "f64.promote_f32", value);
    dst.as(64).write(quickOrExact(cpu, all(ss, isPlain(ss, value)), quick, widenSingle, [value]));
  },
});

const cvtps2pd = sseInstruction({
  name: "cvtps2pd", feature: "sse2", encodings: ["NP 0F 5A /r Vpd,Wq"],
  execute({ cpu, dst, src }) {
    const value = readHalf(src);
    const quick = vector("f64x2.promote_low_f32x4", value);
    dst.as(128).write(quickOrExact(cpu, all(ps, isPlain(ps, value)), quick, widenSingles, [value]));
  },
});

/** Whether narrowing `value` raises nothing new, `back` being the narrowed value as a double again. */
function narrowsQuietly(cpu: Cpu, shape: Shape, value: Value, back: Value): Bits<1> {
  const magnitude = compute(shape, "abs", back);
  const leastSafeExponent = -125, infinity = 0x7ff0_0000_0000_0000n;
  const isNormal = bothMasks(
    shape, compare(shape, "ge", magnitude, literal(shape, powerOfTwo(64, leastSafeExponent))),
    compare(shape, "lt", magnitude, literal(shape, infinity)),
  );
  const isSafe = all(shape, eitherMask(shape, isNormal, isZero(shape, value)));
  return isSafe.and(roundsQuietly(cpu).or(all(shape, compare(shape, "eq", back, value))));
}

const cvtsd2ss = sseInstruction({
  name: "cvtsd2ss", feature: "sse2", encodings: ["F2 0F 5A /r Vss,Wsd"],
  execute({ cpu, dst, src }) {
    const value = src.as(64).read();
    const quick = float(32, "f32.demote_f64", value);
    const isQuick = narrowsQuietly(cpu, sd, value, float(64, "f64.promote_f32", quick));
    dst.as(32).write(quickOrExact(cpu, isQuick, quick, narrowDouble, [value]));
  },
});

const cvtpd2ps = sseInstruction({
  name: "cvtpd2ps", feature: "sse2", encodings: ["66 0F 5A /r Vps,Wpd"],
  execute({ cpu, dst, src }) {
    const value = readAligned(cpu, src);
    const quick = vector("f32x4.demote_f64x2_zero", value);
    const isQuick = narrowsQuietly(cpu, pd, value, vector("f64x2.promote_low_f32x4", quick));
    dst.as(128).write(quickOrExact(cpu, isQuick, quick, narrowDoubles, [value]));
  },
});

export const sseConvert: readonly InstructionDefinition[] = [
  fromInteger(ss), fromInteger(sd), cvtdq2ps, cvtpi2ps, cvtdq2pd, cvtpi2pd,
  toGeneralRegister(ss, true), toGeneralRegister(ss, false), toGeneralRegister(sd, true), toGeneralRegister(sd, false),
  toDoublewords("cvtps2dq", "66 0F 5B /r Vdq,Wps", ps, false), toDoublewords("cvttps2dq", "F3 0F 5B /r Vdq,Wps", ps, true),
  toDoublewords("cvtpd2dq", "F2 0F E6 /r Vdq,Wpd", pd, false), toDoublewords("cvttpd2dq", "66 0F E6 /r Vdq,Wpd", pd, true),
  toMmx("cvtps2pi", "NP 0F 2D /r Ppi,Wq", ps, false), toMmx("cvttps2pi", "NP 0F 2C /r Ppi,Wq", ps, true),
  toMmx("cvtpd2pi", "66 0F 2D /r Ppi,Wpd", pd, false), toMmx("cvttpd2pi", "66 0F 2C /r Ppi,Wpd", pd, true),
  cvtss2sd, cvtps2pd, cvtsd2ss, cvtpd2ps,
];
