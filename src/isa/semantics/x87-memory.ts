/** Memory operands of x87 arithmetic and comparisons: what they are worth, and when a denormal one counts. */
import {
  classNan, denormalMask, divideByZeroMask, type F80, f80Examine, f80FromF32, f80FromF64, f80FromInteger, invalidMask,
  type X87Environment, x87Environment,
} from "../../softfloat/index.ts";
import type { Bits } from "../../ir/index.ts";
import type { StateView } from "../state-view.ts";
import { fastFromFloat, fastFromInteger } from "./x87-fast-convert.ts";
import type { Image } from "./x87-fast-unit.ts";

export interface MemoryValue {
  readonly value: F80;
  /** A denormal of its own format; the register format has none of that size. */
  readonly isDenormal: boolean;
}

/** One form of memory operand: `D8 /digit Md` and so on. */
export interface MemoryFormat {
  readonly opcode: string;
  readonly operand: string;
  readonly width: 16 | 32 | 64;
  /** FADD or FIADD. */
  readonly isInteger: boolean;
  /** The operand in an argument. */
  value(view: StateView, argument: number): MemoryValue;
  /** The same in a fast path, which refuses all but zeros and normal numbers. */
  fast(argument: Bits): Image;
}

const fastFloat = (argument: Bits): Image => fastFromFloat(argument as Bits<32> | Bits<64>);


const quietBit = 1n << 62n;
const allMasked = 0x37f;

/** Widened without raising anything: a signalling NaN still signals. */
function widened(load: (environment: X87Environment) => F80): MemoryValue {
  const environment = x87Environment(allMasked);
  const value = load(environment);
  const isSignalling = (environment.exceptions & invalidMask) !== 0;
  return {
    value: isSignalling ? { ...value, significand: value.significand & ~quietBit } : value,
    isDenormal: (environment.exceptions & denormalMask) !== 0,
  };
}

function integer(value: bigint): MemoryValue {
  return { value: f80FromInteger(value), isDenormal: false };
}

export const memoryFormats: readonly MemoryFormat[] = [
  {
    opcode: "D8", operand: "Md", width: 32, isInteger: false,
    value: (view, argument) => widened((environment) => f80FromF32(view.argument32(argument), environment)),
    fast: fastFloat,
  },
  {
    opcode: "DC", operand: "Mq", width: 64, isInteger: false,
    value: (view, argument) => widened((environment) => f80FromF64(view.argument64(argument), environment)),
    fast: fastFloat,
  },
  {
    opcode: "DA", operand: "Md", width: 32, isInteger: true,
    value: (view, argument) => integer(BigInt(view.argument32(argument) | 0)),
    fast: fastFromInteger,
  },
  {
    opcode: "DE", operand: "Mw", width: 16, isInteger: true,
    value: (view, argument) => integer(BigInt((view.argument32(argument) << 16) >> 16)),
    fast: fastFromInteger,
  },
];

/** `operation` on a register and a memory operand. A denormal is not reported beside a worse operand or result. */
export function withMemory<R>(
  register: F80, memory: MemoryValue, environment: X87Environment,
  operation: (register: F80, memory: F80, environment: X87Environment) => R,
): R {
  const result = operation(register, memory.value, environment);
  const isOutranked = (environment.exceptions & (invalidMask | divideByZeroMask)) !== 0 || f80Examine(register) === classNan;
  if (memory.isDenormal && !isOutranked) {
    environment.exceptions |= denormalMask;
    if ((environment.masks & denormalMask) === 0) environment.roundedUp = false;
  }
  return result;
}
