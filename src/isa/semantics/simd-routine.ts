/** Exact SSE floating point in routines: MXCSR, element by element, flags and #XM (SDM volume 1, "Handling SIMD Floating-Point Exceptions"). */
import { type Bits, isModerate, type ModerateOperation, type Routine, Status, Variable, when } from "../../ir/index.ts";
import { settledExceptions, type SimdEnvironment, simdEnvironment } from "../../softfloat/index.ts";
import { type Cpu, Vector } from "../definition.ts";
import { type Processor, routine } from "../processor.ts";
import type { StateView } from "../state-view.ts";
import * as state from "../state.ts";
import { laneCount, type Shape, type Value } from "./simd-shape.ts";

const osXmmExceptionsMask = 0x400;

/**
 * Adds what was raised to MXCSR's flags; an unmasked exception becomes #XM, or #UD where the system does not know it.
 * The routine's results do not count then.
 */
export function settle(p: Processor, environment: SimdEnvironment): Status {
  const raised = settledExceptions(environment.exceptions, environment.masks);
  if (raised !== 0) p.state.set32(state.mxcsr, p.state.get32(state.mxcsr) | raised);
  if ((raised & ~environment.masks) === 0) return Status.Next;
  return p.raise((p.state.get32(state.cr4) & osXmmExceptionsMask) !== 0 ? Vector.XM : Vector.UD);
}

export function environmentOf(p: Processor): SimdEnvironment {
  return simdEnvironment(p.state.get32(state.mxcsr));
}

/** Element `lane` of scratch slot `slot`. */
export function lane32(view: StateView, slot: number, lane: number): number {
  return view.u32[((view.base + state.scratch[slot].offset) >>> 2) + lane];
}

export function lane64(view: StateView, slot: number, lane: number): bigint {
  return view.u64[((view.base + state.scratch[slot].offset) >>> 3) + lane];
}

export function setLane32(view: StateView, slot: number, lane: number, value: number): void {
  view.u32[((view.base + state.scratch[slot].offset) >>> 2) + lane] = value;
}

export function setLane64(view: StateView, slot: number, lane: number, value: bigint): void {
  view.u64[((view.base + state.scratch[slot].offset) >>> 3) + lane] = value;
}

/** One element's result from those of the arguments; `immediate` is the argument after the last vector. */
export interface ElementOperation {
  readonly f32: (a: number, b: number, environment: SimdEnvironment, lane: number, immediate: number) => number;
  readonly f64: (a: bigint, b: bigint, environment: SimdEnvironment, lane: number, immediate: number) => bigint;
}

/** A routine that applies an operation of two operands to all elements; arguments: a, b and perhaps an immediate. */
export function elementRoutine(name: string, shape: Shape, operation: ElementOperation): Routine {
  const count = laneCount(shape);
  return routine(`${name}${shape.suffix}`, (p) => {
    const view = p.state, environment = environmentOf(p);
    const immediate = view.argument32(2);
    for (let lane = 0; lane < count; lane++) {
      if (shape.format === 32) {
        setLane32(view, 0, lane, operation.f32(lane32(view, 0, lane), lane32(view, 1, lane), environment, lane, immediate));
      } else {
        setLane64(view, 0, lane, operation.f64(lane64(view, 0, lane), lane64(view, 1, lane), environment, lane, immediate));
      }
    }
    return settle(p, environment);
  });
}

/**
 * `quick` where `isQuick` holds, else what the routine makes of the arguments; `alsoQuick` is a test that is worth its
 * time only where `isQuick` does not hold.
 */
export function quickOrExact<V extends Bits>(
  cpu: Cpu, isQuick: Bits<1>, quick: V, exact: Routine, args: readonly Value[], alsoQuick?: () => Bits<1>,
): V {
  const result = new Variable(quick);
  const callExact = (): void => {
    const [value] = cpu.call(exact, args, [quick.width]);
    result.set(value);
  };
  when(isQuick.xor(1), () => {
    if (alsoQuick === undefined) callExact();
    else when(alsoQuick().xor(1), callExact);
  });
  return result.get() as V;
}

/** RC to nearest, no flushing, all exceptions masked, and the precision flag set already. */
export function roundsQuietly(cpu: Cpu): Bits<1> {
  return cpu.field<32>(state.mxcsr).read().and(quietMask).eq(quiet);
}

const quietMask = 0xffe0, quiet = 0x1fa0;

/** Whether an operation's result, rounded to nearest, is what the instruction leaves, and all it leaves; "no" may be wrong. */
export function isPlainlyRounded({ format, isPacked }: Shape, operation: ModerateOperation, operands: readonly Value[], result: Value): Bits<1> {
  const location = { offset: state.mxcsr.offset, width: 32 } as const;
  return isModerate(operation, format, isPacked, { location, mask: quietMask, value: quiet }, operands, result);
}

/** RC to nearest. */
export function roundsToNearest(cpu: Cpu): Bits<1> {
  return cpu.field<32>(state.mxcsr).read().and(0x6000).eq(0);
}

/** The precision exception is masked and its flag set already: inexact results leave no trace. */
export function precisionIsQuiet(cpu: Cpu): Bits<1> {
  return cpu.field<32>(state.mxcsr).read().and(0x1020).eq(0x1020);
}
