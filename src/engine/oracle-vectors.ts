/**
 * The named vector and scalar floating-point operations of the IR on plain integers, lane by lane: the WebAssembly
 * specification's "Numerics" written down once more, slowly, for the oracle.
 */
import { invariant } from "../base/errors.ts";

const vectorBits = 128;

function unsigned(width: number, value: bigint): bigint {
  return BigInt.asUintN(width, value);
}

function signed(width: number, value: bigint): bigint {
  return BigInt.asIntN(width, value);
}

function clamp(value: bigint, low: bigint, high: bigint): bigint {
  return value < low ? low : value > high ? high : value;
}

function saturateSigned(width: number, value: bigint): bigint {
  const limit = 1n << BigInt(width - 1);
  return unsigned(width, clamp(value, -limit, limit - 1n));
}

function saturateUnsigned(width: number, value: bigint): bigint {
  return clamp(value, 0n, (1n << BigInt(width)) - 1n);
}

/** Lanes of a vector, lowest first, zero-extended. */
export function lanesOf(vector: bigint, width: number): bigint[] {
  return Array.from({ length: vectorBits / width }, (_, lane) => unsigned(width, vector >> BigInt(lane * width)));
}

export function vectorOf(lanes: readonly bigint[], width: number): bigint {
  return lanes.reduce((vector, lane, index) => vector | (unsigned(width, lane) << BigInt(index * width)), 0n);
}

const converter = new DataView(new ArrayBuffer(8));

/** The number that 32 or 64 bits stand for. */
export function toNumber(width: number, bits: bigint): number {
  if (width === 64) {
    converter.setBigUint64(0, bits);
    return converter.getFloat64(0);
  }
  converter.setUint32(0, Number(bits));
  return converter.getFloat32(0);
}

/** A number's bits, rounded to nearest for 32; NaNs are the canonical one. */
export function fromNumber(width: number, value: number): bigint {
  if (width === 64) {
    converter.setFloat64(0, value);
    return converter.getBigUint64(0);
  }
  converter.setFloat32(0, value);
  return BigInt(converter.getUint32(0));
}

type LaneBinary = (width: number, a: bigint, b: bigint) => bigint;
type LaneUnary = (width: number, a: bigint) => bigint;

const ones = (width: number, condition: boolean): bigint => (condition ? (1n << BigInt(width)) - 1n : 0n);

const integerBinary: Readonly<Record<string, LaneBinary>> = {
  add: (width, a, b) => unsigned(width, a + b),
  sub: (width, a, b) => unsigned(width, a - b),
  mul: (width, a, b) => unsigned(width, a * b),
  add_sat_s: (width, a, b) => saturateSigned(width, signed(width, a) + signed(width, b)),
  add_sat_u: (width, a, b) => saturateUnsigned(width, a + b),
  sub_sat_s: (width, a, b) => saturateSigned(width, signed(width, a) - signed(width, b)),
  sub_sat_u: (width, a, b) => saturateUnsigned(width, a - b),
  min_s: (width, a, b) => (signed(width, a) < signed(width, b) ? a : b),
  min_u: (_, a, b) => (a < b ? a : b),
  max_s: (width, a, b) => (signed(width, a) > signed(width, b) ? a : b),
  max_u: (_, a, b) => (a > b ? a : b),
  avgr_u: (_, a, b) => (a + b + 1n) >> 1n,
  q15mulr_sat_s: (width, a, b) => saturateSigned(width, (signed(width, a) * signed(width, b) + 0x4000n) >> 15n),
  eq: (width, a, b) => ones(width, a === b),
  ne: (width, a, b) => ones(width, a !== b),
  lt_s: (width, a, b) => ones(width, signed(width, a) < signed(width, b)),
  lt_u: (width, a, b) => ones(width, a < b),
  le_s: (width, a, b) => ones(width, signed(width, a) <= signed(width, b)),
  le_u: (width, a, b) => ones(width, a <= b),
  gt_s: (width, a, b) => ones(width, signed(width, a) > signed(width, b)),
  gt_u: (width, a, b) => ones(width, a > b),
  ge_s: (width, a, b) => ones(width, signed(width, a) >= signed(width, b)),
  ge_u: (width, a, b) => ones(width, a >= b),
};

const integerUnary: Readonly<Record<string, LaneUnary>> = {
  neg: (width, a) => unsigned(width, -a),
  abs: (width, a) => unsigned(width, signed(width, a) < 0n ? -signed(width, a) : a),
  popcnt: (_, a) => BigInt(a.toString(2).replaceAll("0", "").length),
};

/** Shifts take their count modulo the lane width. */
const shifts: Readonly<Record<string, LaneBinary>> = {
  shl: (width, a, count) => unsigned(width, a << count % BigInt(width)),
  shr_u: (width, a, count) => a >> count % BigInt(width),
  shr_s: (width, a, count) => unsigned(width, signed(width, a) >> count % BigInt(width)),
};

const whole: Readonly<Record<string, (a: bigint, b: bigint, c: bigint) => bigint>> = {
  "v128.and": (a, b) => a & b,
  "v128.or": (a, b) => a | b,
  "v128.xor": (a, b) => a ^ b,
  "v128.andnot": (a, b) => a & ~b,
  "v128.not": (a) => unsigned(vectorBits, ~a),
  "v128.bitselect": (a, b, mask) => (a & mask) | (b & ~mask),
  "v128.any_true": (a) => (a === 0n ? 0n : 1n),
  "i8x16.swizzle": (a, choice) => {
    const bytes = lanesOf(a, 8);
    return vectorOf(lanesOf(choice, 8).map((index) => (index < 16n ? bytes[Number(index)] : 0n)), 8);
  },
  "i32x4.dot_i16x8_s": (a, b) => {
    const products = lanesOf(a, 16).map((lane, index) => signed(16, lane) * signed(16, lanesOf(b, 16)[index]));
    return vectorOf([0, 2, 4, 6].map((index) => products[index] + products[index + 1]), 32);
  },
};

// --- floating point ------------------------------------------------------------------------------------------------

const numberBinary: Readonly<Record<string, (a: number, b: number) => number>> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
  min: (a, b) => Math.min(a, b),
  max: (a, b) => Math.max(a, b),
};

const numberUnary: Readonly<Record<string, (a: number) => number>> = {
  sqrt: (a) => Math.sqrt(a),
  ceil: (a) => Math.ceil(a),
  floor: (a) => Math.floor(a),
  trunc: (a) => Math.trunc(a),
  nearest: roundToEven,
};

const numberComparisons: Readonly<Record<string, (a: number, b: number) => boolean>> = {
  eq: (a, b) => a === b,
  ne: (a, b) => a !== b,
  lt: (a, b) => a < b,
  le: (a, b) => a <= b,
  gt: (a, b) => a > b,
  ge: (a, b) => a >= b,
};

function roundToEven(value: number): number {
  const below = Math.floor(value);
  const distance = value - below;
  if (distance === 0 || !Number.isFinite(value)) return value;
  const rounded = distance < 0.5 || (distance === 0.5 && below % 2 === 0) ? below : below + 1;
  return rounded === 0 && value < 0 ? -0 : rounded;
}

/** The operation on lanes as numbers, or undefined. */
function onNumbers(width: number, operation: string, a: bigint, b: bigint | undefined): bigint | undefined {
  const sign = 1n << BigInt(width - 1);
  switch (operation) {
    case "abs": return a & ~sign;
    case "neg": return a ^ sign;
    case "copysign": return (a & ~sign) | (b! & sign);
    case "pmin": return toNumber(width, b!) < toNumber(width, a) ? b! : a;
    case "pmax": return toNumber(width, a) < toNumber(width, b!) ? b! : a;
    default: {
      const binary = numberBinary[operation];
      if (binary !== undefined) return fromNumber(width, binary(toNumber(width, a), toNumber(width, b!)));
      const unary = numberUnary[operation];
      return unary === undefined ? undefined : fromNumber(width, unary(toNumber(width, a)));
    }
  }
}

/** To an integer, saturating; NaN becomes 0. */
function truncateSaturating(toWidth: number, isSigned: boolean, value: number): bigint {
  if (Number.isNaN(value)) return 0n;
  if (!Number.isFinite(value)) return value > 0 ? (1n << BigInt(isSigned ? toWidth - 1 : toWidth)) - 1n : isSigned ? 1n << BigInt(toWidth - 1) : 0n;
  const whole64 = BigInt(Math.trunc(value));
  return isSigned ? saturateSigned(toWidth, whole64) : saturateUnsigned(toWidth, whole64);
}

/** Vector conversions between numbers and integers, named by shapes. */
const conversions: Readonly<Record<string, (a: bigint) => bigint>> = {
  "f32x4.convert_i32x4_s": (a) => vectorOf(lanesOf(a, 32).map((lane) => fromNumber(32, Number(signed(32, lane)))), 32),
  "f32x4.convert_i32x4_u": (a) => vectorOf(lanesOf(a, 32).map((lane) => fromNumber(32, Number(lane))), 32),
  "f64x2.convert_low_i32x4_s": (a) => vectorOf(lanesOf(a, 32).slice(0, 2).map((lane) => fromNumber(64, Number(signed(32, lane)))), 64),
  "f64x2.convert_low_i32x4_u": (a) => vectorOf(lanesOf(a, 32).slice(0, 2).map((lane) => fromNumber(64, Number(lane))), 64),
  "f32x4.demote_f64x2_zero": (a) => vectorOf(lanesOf(a, 64).map((lane) => fromNumber(32, toNumber(64, lane))), 32),
  "f64x2.promote_low_f32x4": (a) => vectorOf(lanesOf(a, 32).slice(0, 2).map((lane) => fromNumber(64, toNumber(32, lane))), 64),
  "i32x4.trunc_sat_f32x4_s": (a) => vectorOf(lanesOf(a, 32).map((lane) => truncateSaturating(32, true, toNumber(32, lane))), 32),
  "i32x4.trunc_sat_f32x4_u": (a) => vectorOf(lanesOf(a, 32).map((lane) => truncateSaturating(32, false, toNumber(32, lane))), 32),
  "i32x4.trunc_sat_f64x2_s_zero": (a) => vectorOf(lanesOf(a, 64).map((lane) => truncateSaturating(32, true, toNumber(64, lane))), 32),
  "i32x4.trunc_sat_f64x2_u_zero": (a) => vectorOf(lanesOf(a, 64).map((lane) => truncateSaturating(32, false, toNumber(64, lane))), 32),
};

// --- operations whose lanes change width ---------------------------------------------------------------------------

function extended(width: number, isSigned: boolean, lanes: readonly bigint[]): bigint[] {
  return isSigned ? lanes.map((lane) => signed(width, lane)) : [...lanes];
}

/** narrow, extend, extmul and extadd_pairwise, or undefined. */
function widening(width: number, operation: string, a: bigint, b: bigint | undefined): bigint | undefined {
  const narrow = /^narrow_i(\d+)x\d+_([su])$/.exec(operation);
  if (narrow) {
    const from = Number(narrow[1]);
    const lanes = extended(from, true, [...lanesOf(a, from), ...lanesOf(b!, from)]);
    return vectorOf(lanes.map((lane) => (narrow[2] === "s" ? saturateSigned(width, lane) : saturateUnsigned(width, lane))), width);
  }
  const pairwise = /^extadd_pairwise_i(\d+)x\d+_([su])$/.exec(operation);
  if (pairwise) {
    const from = Number(pairwise[1]);
    const lanes = extended(from, pairwise[2] === "s", lanesOf(a, from));
    return vectorOf(Array.from({ length: lanes.length / 2 }, (_, index) => lanes[2 * index] + lanes[2 * index + 1]), width);
  }
  const half = /^(extend|extmul)_(low|high)_i(\d+)x\d+_([su])$/.exec(operation);
  if (!half) return undefined;
  const from = Number(half[3]);
  const chosen = (vector: bigint): bigint[] => {
    const lanes = extended(from, half[4] === "s", lanesOf(vector, from));
    return half[2] === "low" ? lanes.slice(0, lanes.length / 2) : lanes.slice(lanes.length / 2);
  };
  const left = chosen(a);
  if (half[1] === "extend") return vectorOf(left, width);
  const right = chosen(b!);
  return vectorOf(left.map((lane, index) => lane * right[index]), width);
}

/** The vector operation `name`; a result of up to 32 bits for reductions. */
export function evaluateVector(name: string, args: readonly bigint[]): bigint {
  const [a, b, c] = args;
  const direct = whole[name];
  if (direct !== undefined) return direct(a, b, c);
  const conversion = conversions[name];
  if (conversion !== undefined) return conversion(a);
  const parts = /^([if])(8|16|32|64)x\d+\.(\w+)$/.exec(name);
  invariant(parts, `the oracle knows no vector operation ${name}`);
  const width = Number(parts[2]);
  const [, kind, , operation] = parts;
  const result = kind === "i" ? evaluateIntegerLanes(width, operation, a, b) : evaluateNumberLanes(width, operation, a, b);
  invariant(result !== undefined, `the oracle knows no vector operation ${name}`);
  return result;
}

function evaluateIntegerLanes(width: number, operation: string, a: bigint, b: bigint | undefined): bigint | undefined {
  const lanes = lanesOf(a, width);
  if (operation === "bitmask") return lanes.reduce((mask, lane, index) => mask | ((lane >> BigInt(width - 1)) << BigInt(index)), 0n);
  if (operation === "all_true") return lanes.every((lane) => lane !== 0n) ? 1n : 0n;
  const unary = integerUnary[operation];
  if (unary !== undefined) return vectorOf(lanes.map((lane) => unary(width, lane)), width);
  const shift = shifts[operation];
  if (shift !== undefined) return vectorOf(lanes.map((lane) => shift(width, lane, b!)), width);
  const binary = integerBinary[operation];
  if (binary === undefined) return widening(width, operation, a, b);
  const others = lanesOf(b!, width);
  return vectorOf(lanes.map((lane, index) => binary(width, lane, others[index])), width);
}

function evaluateNumberLanes(width: number, operation: string, a: bigint, b: bigint | undefined): bigint | undefined {
  const lanes = lanesOf(a, width);
  const others = b === undefined ? [] : lanesOf(b, width);
  const compare = numberComparisons[operation];
  if (compare !== undefined) {
    return vectorOf(lanes.map((lane, index) => ones(width, compare(toNumber(width, lane), toNumber(width, others[index])))), width);
  }
  const results = lanes.map((lane, index) => onNumbers(width, operation, lane, others[index]));
  return results.includes(undefined) ? undefined : vectorOf(results as bigint[], width);
}

/** The scalar operation `name` on raw bits; comparisons give 0 or 1. */
export function evaluateFloat(name: string, args: readonly bigint[]): bigint {
  const [a, b] = args;
  const integer = /^(i32|i64)\.trunc_sat_f(32|64)_([su])$/.exec(name);
  if (integer) return truncateSaturating(Number(integer[1].slice(1)), integer[3] === "s", toNumber(Number(integer[2]), a));
  const parts = /^f(32|64)\.(\w+)$/.exec(name);
  invariant(parts, `the oracle knows no operation ${name}`);
  const width = Number(parts[1]), operation = parts[2];
  const convert = /^convert_i(32|64)_([su])$/.exec(operation);
  if (convert) {
    const value = convert[2] === "s" ? signed(Number(convert[1]), a) : a;
    return width === 64 ? fromNumber(64, Number(value)) : roundIntegerTo32(value);
  }
  if (operation === "demote_f64") return fromNumber(32, toNumber(64, a));
  if (operation === "promote_f32") return fromNumber(64, toNumber(32, a));
  const compare = numberComparisons[operation];
  if (compare !== undefined) return compare(toNumber(width, a), toNumber(width, b)) ? 1n : 0n;
  const result = onNumbers(width, operation, a, b);
  invariant(result !== undefined, `the oracle knows no operation ${name}`);
  return result;
}

/** An integer of up to 64 bits as a 32-bit number, rounded once: what lies below the 40th bit only breaks ties. */
function roundIntegerTo32(value: bigint): bigint {
  const magnitude = value < 0n ? -value : value;
  const excess = BigInt(Math.max(magnitude.toString(2).length - 40, 0));
  const sticky = (magnitude & ((1n << excess) - 1n)) === 0n ? 0n : 1n;
  const rounded = Number(((magnitude >> excess) | sticky) << excess);
  return fromNumber(32, value < 0n ? -rounded : rounded);
}
