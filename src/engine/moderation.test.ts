/** What `isModerate` says of an operation: with results and operands in its windows exact arithmetic raises at most the precision exception. */
import { expect, test } from "vitest";
import { Random } from "../../tests/differential/random.ts";
import { type ModerateOperation, operandsToCheck, windows } from "../ir/index.ts";
import * as softfloat from "../softfloat/index.ts";

const precisionMask = 0x20;
/** Round to nearest, all exceptions masked. */
const mxcsr = 0x1f80;

interface Operation {
  readonly kind: ModerateOperation;
  run(a: bigint, b: bigint, environment: softfloat.SimdEnvironment): bigint;
}

const operations: Readonly<Record<32 | 64, readonly Operation[]>> = {
  64: [
    { kind: "sum", run: softfloat.f64Add }, { kind: "sum", run: softfloat.f64Subtract }, { kind: "product", run: softfloat.f64Multiply },
    { kind: "quotient", run: softfloat.f64Divide }, { kind: "root", run: (a, _, environment) => softfloat.f64SquareRoot(a, environment) },
  ],
  32: ([
    ["sum", softfloat.f32Add], ["sum", softfloat.f32Subtract], ["product", softfloat.f32Multiply], ["quotient", softfloat.f32Divide],
    ["root", (a: number, _: number, environment: softfloat.SimdEnvironment) => softfloat.f32SquareRoot(a, environment)],
  ] as const).map(([kind, run]) => ({
    kind, run: (a: bigint, b: bigint, environment: softfloat.SimdEnvironment) => BigInt(run(Number(a), Number(b), environment) >>> 0),
  })),
};

const fractionBits = { 32: 23n, 64: 52n } as const;

/** Exponents at the ends of the windows and of the format, and anywhere. */
function exponent(random: Random, format: 32 | 64): number {
  const largest = format === 64 ? 2047 : 255;
  const edges = format === 64 ? [0, 1, 511, 543, 1023, 1535, 1567, 2046, 2047] : [0, 1, 63, 71, 127, 191, 199, 254, 255];
  if (random.chance(30)) return random.below(largest + 1);
  return Math.min(Math.max(random.pick(edges) + random.below(5) - 2, 0), largest);
}

function number(random: Random, format: 32 | 64): bigint {
  const bits = fractionBits[format];
  const fraction = random.pick([0n, 1n, (1n << bits) - 1n, ((BigInt(random.next()) << 32n) | BigInt(random.next())) & ((1n << bits) - 1n)]);
  return (BigInt(random.below(2)) << BigInt(format - 1)) | (BigInt(exponent(random, format)) << bits) | fraction;
}

function isWithin(format: 32 | 64, bits: bigint, window: bigint): boolean {
  return BigInt.asUintN(format, bits * 2n + window) >> BigInt(format - 1) === 1n;
}

function isDenormal(format: 32 | 64, bits: bigint): boolean {
  const doubled = BigInt.asUintN(format, bits * 2n);
  return doubled !== 0n && doubled >> (fractionBits[format] + 1n) === 0n;
}

test.each([32, 64] as const)("%i bits", (format) => {
  const random = new Random(7, format);
  const { operand, result } = windows[format];
  const seen: Partial<Record<ModerateOperation, number>> = {};
  for (let round = 0; round < 60_000; round++) {
    const { kind, run } = random.pick(operations[format]);
    const operands = [number(random, format), number(random, format)].slice(0, kind === "root" ? 1 : 2);
    const isKnown = operands.map((bits) => !isDenormal(format, bits) && random.chance(50));
    const environment = softfloat.simdEnvironment(mxcsr);
    const found = run(operands[0], operands[1] ?? 0n, environment);
    const checked = operandsToCheck(kind, isKnown);
    if (!isWithin(format, found, result) || !checked.every((index) => isWithin(format, operands[index], operand))) continue;
    seen[kind] = (seen[kind] ?? 0) + 1;
    expect(environment.exceptions & ~precisionMask, `${kind} of ${operands.map((bits) => bits.toString(16)).join()}`).toBe(0);
  }
  for (const kind of ["sum", "product", "quotient", "root"] as const) expect(seen[kind]).toBeGreaterThan(500);
});
