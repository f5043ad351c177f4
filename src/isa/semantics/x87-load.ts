/** FLD, FILD and FBLD from memory (SDM volume 1, "Data Transfer Instructions"). Zeros and normal numbers go without big integers. */
import type { Bits, FastPath } from "../../ir/index.ts";
import * as softfloat from "../../softfloat/index.ts";
import type { F80, X87Environment } from "../../softfloat/index.ts";
import { type InstructionDefinition, load, type Operand } from "../definition.ts";
import { routine } from "../processor.ts";
import type { StateView } from "../state-view.ts";
import * as state from "../state.ts";
import { callX87, firstArgument, x87Instruction } from "./x87-definition.ts";
import { fastFromFloat, fastFromInteger } from "./x87-fast-convert.ts";
import { fastX87, type Image, inMemory, refuseIf } from "./x87-fast-unit.ts";
import { X87Operation } from "./x87-unit.ts";

/** A value in an argument: as a number, if that is quick and exact, and as it is. */
interface Loading {
  number(view: StateView): number | undefined;
  convert(view: StateView, environment: X87Environment): F80;
  fast(value: Bits): Image;
}

/** An unmasked denormal does not keep a load from pushing (measured on AMD's Zen). */
function loading(name: string, encoding: string, width: 16 | 32 | 64, { number, convert, fast }: Loading): InstructionDefinition {
  const run = routine(`${name}${width}`, (p) => {
    const x87 = new X87Operation(p);
    const isFree = x87.isEmpty(-1);
    const quick = isFree ? number(p.state) : undefined;
    if (quick !== undefined && x87.pushNumber(quick)) return x87.settle();
    const value = isFree ? convert(p.state, x87.environment) : x87.overflow();
    if (!x87.hasUnmaskedInvalid) x87.push(value);
    return x87.settle();
  }, fastX87([width], inMemory, (x87, value) => {
    refuseIf(x87.isValid(-1));
    x87.push(fast(value));
  }));
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
  fast: (value) => fastFromFloat(value as Bits<32>),
};

const loadingDouble: Loading = {
  number: (view) => view.f64[(view.base + state.scratch[firstArgument].offset) >>> 3],
  convert: (view, environment) => softfloat.f80FromF64(view.argument64(firstArgument), environment),
  fast: (value) => fastFromFloat(value as Bits<64>),
};

function integerArgument(view: StateView): bigint {
  return BigInt.asIntN(64, view.argument64(firstArgument));
}

const loadingInteger16: Loading = {
  number: (view) => (view.argument32(firstArgument) << 16) >> 16,
  convert: (view) => softfloat.f80FromInteger(BigInt.asIntN(16, integerArgument(view))),
  fast: fastFromInteger,
};

const loadingInteger32: Loading = {
  number: (view) => view.argument32(firstArgument) | 0,
  convert: (view) => softfloat.f80FromInteger(BigInt.asIntN(32, integerArgument(view))),
  fast: fastFromInteger,
};

const loadingInteger64: Loading = {
  number(view) {
    const low = view.argument32(firstArgument) | 0;
    return view.getHigh32(state.scratch[firstArgument]) === (low >> 31) >>> 0 ? low : undefined;
  },
  convert: (view) => softfloat.f80FromInteger(integerArgument(view)),
  fast: fastFromInteger,
};

/** Reads 80 bits as a 64-bit and a 16-bit argument. */
function readTenBytes(operand: Operand): Bits[] {
  return [operand.as(64).read(), load(16, "operand", operand.offset().add(8))];
}

function loadTenBytes(
  name: string, encoding: string, convert: (significand: bigint, upper: number) => F80, fast?: () => FastPath,
): InstructionDefinition {
  const run = routine(`${name}80`, (p) =>
    new X87Operation(p).pushAndSettle(convert(p.state.argument64(firstArgument), p.state.argument32(firstArgument + 1))), fast);
  return x87Instruction({
    name, encodings: [encoding],
    execute({ cpu, dst }) {
      callX87(cpu, run, dst, readTenBytes(dst as Operand));
    },
  });
}

/** Any image is loaded as it is. */
const fastImage = fastX87([64, 16], inMemory, (x87, significand, signExponent) => {
  refuseIf(x87.isValid(-1));
  x87.push({ significand: significand as Bits<64>, signExponent: signExponent.zext(32) });
});

export const x87Load: readonly InstructionDefinition[] = [
  loading("fld", "D9 /0 Md", 32, loadingSingle),
  loading("fld", "DD /0 Mq", 64, loadingDouble),
  loadTenBytes("fld", "DB /5 Mt", (significand, signExponent) => ({ significand, signExponent }), fastImage),
  loadTenBytes("fbld", "DF /4 Mt", (low, high) => softfloat.f80FromBcd(low | (BigInt(high) << 64n))),
  loading("fild", "DF /0 Mw", 16, loadingInteger16),
  loading("fild", "DB /0 Md", 32, loadingInteger32),
  loading("fild", "DF /5 Mq", 64, loadingInteger64),
];
