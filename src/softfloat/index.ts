/**
 * Exact IEEE 754 and x86 floating point: the reference that x87, SSE and AVX semantics call (SDM vol. 1, chapters 4, 8 and 11).
 *
 * **Values** are raw bit patterns: `F32` an unsigned number, `F64` an unsigned bigint, `F80` `{ significand: u64 bigint,
 * signExponent: u16 number }`. Every pattern is accepted, nothing throws. Integers are signed (number for 32 bits, bigint for 64).
 *
 * **Environments**: `simdEnvironment(mxcsr)` and `x87Environment(controlWord)` make a plain mutable object. Operations OR the
 * exceptions they raise into `environment.exceptions`, in the bit order of MXCSR and the status word (`invalidMask` …
 * `precisionMask`). The caller clears it before each instruction, merges
 * `settledExceptions(environment.exceptions, environment.masks)` into MXCSR or FSW afterwards, and faults if one of those is
 * unmasked. Results are the masked responses, except that an unmasked x87 overflow or underflow gives the bias-adjusted result.
 *
 * **SSE** `f32…`/`f64…`: `Add Subtract Multiply Divide (a, b, env)`, `SquareRoot(a, env)`, `Minimum Maximum(a, b, env)`,
 * `Compare(a, b, signalling, env)` → `Ordering`, `ComparePredicate(a, b, predicate0to31, env)` → boolean,
 * `RoundToIntegral(a, rounding, suppressPrecision, env)`, `MultiplyAdd(a, b, c, negateProduct, negateAddend, env)`,
 * `FromInteger(value, env)`, `ToInt32 ToInt64(a, rounding, env)`, `f32ToF64`, `f64ToF32`, `f32Reciprocal(a)`,
 * `f32ReciprocalSquareRoot(a)`. A packed instruction runs every element with one environment and settles once; if it faults it
 * writes no result.
 *
 * **NaN order of MultiplyAdd**: the first NaN of a, b, c wins. Processors take for dest, src2, src3 of VFMADD132 (a, b, c) =
 * (dest, src3, src2), for 213 (src2, dest, src3), for 231 (src2, src3, dest).
 *
 * **x87** `f80…`: `Add Subtract Multiply Divide(a, b, env)` (reversed forms exchange the operands), `SquareRoot(a, env)`,
 * `Compare(a, b, signalling, env)`, `Examine Absolute ChangeSign(a)`, `Remainder(a, b, isNearest, env)` (FPREM, FPREM1),
 * `RoundToIntegral(a, env)`, `Scale(a, b, env)`, `Extract(a, env)`, `Constant(name, rounding)`, `FromF32 FromF64(bits, env)`,
 * `FromInteger FromBcd(value)`, `ToF32 ToF64 ToBcd(a, env)`, `ToInteger(a, width, rounding, env)`,
 * `ExponentialMinusOne(a, env)`, `Logarithm LogarithmPlusOne Arctangent(st0, st1, env)`, `Sine Cosine Tangent SineAndCosine(a, env)`.
 * After an operation `environment.roundedUp` is C1. An unmasked exception of `preComputationMask` means that no register is
 * written, popped or pushed, save that FLD m32/m64 still pushes under an unmasked denormal; after a store ask
 * `storeIsSuppressed(env)`. Stack faults and empty registers are the caller's.
 */

export type { RoundingMode, SimdEnvironment, X87Environment } from "./environment.ts";
export {
  allExceptionsMask,
  denormalMask,
  divideByZeroMask,
  invalidMask,
  overflowMask,
  precisionMask,
  preComputationMask,
  roundDown,
  roundNearest,
  roundUp,
  roundZero,
  settledExceptions,
  simdEnvironment,
  underflowMask,
  x87Environment,
} from "./environment.ts";
export * from "./simd.ts";
export type { Ordering } from "./simd-arithmetic.ts";
export { orderedEqual, orderedGreater, orderedLess, unordered } from "./simd-arithmetic.ts";
export {
  f80Add,
  f80Compare,
  f80Divide,
  f80Multiply,
  f80SquareRoot,
  f80Subtract,
} from "./x87-arithmetic.ts";
export {
  f80FromBcd,
  f80FromF32,
  f80FromF64,
  f80FromInteger,
  f80ToBcd,
  f80ToF32,
  f80ToF64,
  f80ToInteger,
  storeIsSuppressed,
} from "./x87-convert.ts";
export type { F80, F80Class } from "./x87-format.ts";
export {
  classDenormal,
  classInfinity,
  classNan,
  classNormal,
  classUnsupported,
  classZero,
  f80Absolute,
  f80ChangeSign,
  f80Examine,
  f80Indefinite,
  f80Infinity,
  f80Zero,
} from "./x87-format.ts";
export type { Extracted, PartialRemainder } from "./x87-partial.ts";
export { f80Extract, f80Remainder, f80RoundToIntegral, f80Scale } from "./x87-partial.ts";
export type { F80Constant } from "./x87-constants.ts";
export { f80Constant } from "./x87-constants.ts";
export type { SineAndCosine, Trigonometric } from "./x87-transcendental.ts";
export {
  f80Arctangent,
  f80Cosine,
  f80ExponentialMinusOne,
  f80Logarithm,
  f80LogarithmPlusOne,
  f80Sine,
  f80SineAndCosine,
  f80Tangent,
} from "./x87-transcendental.ts";
export { f32Reciprocal, f32ReciprocalSquareRoot } from "./approximation.ts";
