/**
 * Exact IEEE 754 and x86 floating point: the reference that x87, SSE and AVX semantics call (SDM vol. 1, chapters 4, 8 and 11).
 *
 * **Values** are raw bit patterns: `F32` an unsigned number, `F64` an unsigned bigint, `F80` `{ significand: u64 bigint,
 * signExponent: u16 number }`. Every pattern is accepted, nothing throws. Integers are signed (number for 32 bits, bigint for 64).
 *
 * **Environments**: `simdEnvironment(mxcsr)` and `x87Environment(controlWord)` make a plain mutable object. Operations OR the
 * exceptions they raise into `environment.exceptions`, in the bit order of MXCSR and the status word (`invalidMask` …
 * `precisionMask`); the caller clears it before an instruction and merges it into MXCSR or FSW afterwards. Results assume the
 * masked response, except that an unmasked x87 overflow or underflow delivers the bias-adjusted result.
 *
 * **SSE** `f32…`/`f64…`: Add, Subtract, Multiply, Divide, SquareRoot, Minimum, Maximum, Compare, ComparePredicate,
 * RoundToIntegral, MultiplyAdd, FromInteger, ToInt32, ToInt64, `f32ToF64`, `f64ToF32`. For a packed instruction run every element
 * with one environment, then `settledExceptions(environment.exceptions, environment.masks)` gives the flags to merge; if any of
 * them is unmasked, raise #XM and write no result.
 *
 * **x87** `f80…`: Add, Subtract, Multiply, Divide (the reversed forms exchange operands), SquareRoot, Compare, Examine,
 * Absolute, ChangeSign, FromF32/F64/Integer/Bcd, ToF32/F64/Integer/Bcd (then `storeIsSuppressed`). After an operation
 * `environment.roundedUp` is C1. If an unmasked exception of `preComputationMask` was raised, no result is written.
 * Stack underflow and overflow, and empty registers, are the caller's.
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
export { f80Add, f80Compare, f80Divide, f80Multiply, f80SquareRoot, f80Subtract } from "./x87-arithmetic.ts";
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
