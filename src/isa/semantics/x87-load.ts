/** FLD, FILD and FBLD from memory (SDM volume 1, "Data Transfer Instructions"). Zeros and normal numbers go without big integers. */
import type { Bits } from "../../ir/index.ts";
import * as softfloat from "../../softfloat/index.ts";
import type { F80, X87Environment } from "../../softfloat/index.ts";
import { type InstructionDefinition, load, type Operand } from "../definition.ts";
import { routine } from "../processor.ts";
import type { StateView } from "../state-view.ts";
import * as state from "../state.ts";
import { callX87, firstArgument, x87Instruction } from "./x87-definition.ts";
import { X87Operation } from "./x87-unit.ts";

/** A value in an argument: as a number, if that is quick and exact, and as it is. */
interface Loading {
  number(view: StateView): number | undefined;
  convert(view: StateView, environment: X87Environment): F80;
}

/** An unmasked denormal does not keep a load from pushing (measured on AMD's Zen). */
function loading(name: string, encoding: string, width: 16 | 32 | 64, { number, convert }: Loading): InstructionDefinition {
  const run = routine(`${name}${width}`, (p) => {
    const x87 = new X87Operation(p);
    const isFree = x87.isEmpty(-1);
    const quick = isFree ? number(p.state) : undefined;
    if (quick !== undefined && x87.pushNumber(quick)) return x87.settle();
    const value = isFree ? convert(p.state, x87.environment) : x87.overflow();
    if (!x87.hasUnmaskedInvalid) x87.push(value);
    return x87.settle();
  });
  return x87Instruction({
    name, encodings: [encoding],
    execute({ cpu, dst }) {
      callX87(cpu, run, dst, [dst.as(width).read()]);
    },
  });
}

/** Views of one single. */
const single: Float32Array = new Float32Array(1);
const singleBits: Uint32Array = new Uint32Array(single.buffer);

const loadingSingle: Loading = {
  number(view) {
    singleBits[0] = view.argument32(firstArgument);
    // Denormals are exceptions, though normal as doubles.
    return single[0] === 0 || (singleBits[0] & 0x7f80_0000) !== 0 ? single[0] : undefined;
  },
  convert: (view, environment) => softfloat.f80FromF32(view.argument32(firstArgument), environment),
};

const loadingDouble: Loading = {
  number: (view) => view.f64[(view.base + state.scratch[firstArgument].offset) >>> 3],
  convert: (view, environment) => softfloat.f80FromF64(view.argument64(firstArgument), environment),
};

function integerArgument(view: StateView): bigint {
  return BigInt.asIntN(64, view.argument64(firstArgument));
}

const loadingInteger16: Loading = {
  number: (view) => (view.argument32(firstArgument) << 16) >> 16,
  convert: (view) => softfloat.f80FromInteger(BigInt.asIntN(16, integerArgument(view))),
};

const loadingInteger32: Loading = {
  number: (view) => view.argument32(firstArgument) | 0,
  convert: (view) => softfloat.f80FromInteger(BigInt.asIntN(32, integerArgument(view))),
};

const loadingInteger64: Loading = {
  number(view) {
    const low = view.argument32(firstArgument) | 0;
    return view.getHigh32(state.scratch[firstArgument]) === (low >> 31) >>> 0 ? low : undefined;
  },
  convert: (view) => softfloat.f80FromInteger(integerArgument(view)),
};

/** Reads 80 bits as a 64-bit and a 16-bit argument. */
function readTenBytes(operand: Operand): Bits[] {
  return [operand.as(64).read(), load(16, "operand", operand.offset().add(8))];
}

function loadTenBytes(name: string, encoding: string, convert: (significand: bigint, upper: number) => F80): InstructionDefinition {
  const run = routine(`${name}80`, (p) =>
    new X87Operation(p).pushAndSettle(convert(p.state.argument64(firstArgument), p.state.argument32(firstArgument + 1))));
  return x87Instruction({
    name, encodings: [encoding],
    execute({ cpu, dst }) {
      callX87(cpu, run, dst, readTenBytes(dst as Operand));
    },
  });
}

export const x87Load: readonly InstructionDefinition[] = [
  loading("fld", "D9 /0 Md", 32, loadingSingle),
  loading("fld", "DD /0 Mq", 64, loadingDouble),
  loadTenBytes("fld", "DB /5 Mt", (significand, signExponent) => ({ significand, signExponent })),
  loadTenBytes("fbld", "DF /4 Mt", (low, high) => softfloat.f80FromBcd(low | (BigInt(high) << 64n))),
  loading("fild", "DF /0 Mw", 16, loadingInteger16),
  loading("fild", "DB /0 Md", 32, loadingInteger32),
  loading("fild", "DF /5 Mq", 64, loadingInteger64),
];
