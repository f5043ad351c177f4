/** FST, FIST, FISTTP and FBSTP to memory (SDM volume 1, "Data Transfer Instructions"). Exact stores go without big integers. */
import { type Bits, constant, type FastPath, fastPath, type Routine, Status, when } from "../../ir/index.ts";
import * as softfloat from "../../softfloat/index.ts";
import type { F80, X87Environment } from "../../softfloat/index.ts";
import { checkWrite, type InstructionDefinition, store } from "../definition.ts";
import { routine } from "../processor.ts";
import type { StateView } from "../state-view.ts";
import * as state from "../state.ts";
import { callX87, firstArgument, x87Instruction } from "./x87-definition.ts";
import { fastToFloat, fastToInteger, type RoundedNumber } from "./x87-fast-convert.ts";
import { FastX87, fastX87, type Image, inMemory, refuseUnless, writeField } from "./x87-fast-unit.ts";
import { X87Operation } from "./x87-unit.ts";

/** Views of one single. */
const single: Float32Array = new Float32Array(1);
const singleBits: Uint32Array = new Uint32Array(single.buffer);

/** Commits the outcome in the first argument; pops if the second, which is 0 or 1, says that memory was written. */
function committing(pops: boolean): Routine {
  return routine(pops ? "x87 store and pop" : "x87 store", (p) => {
    const x87 = new X87Operation(p);
    if (pops && p.state.argument32(firstArgument + 1) !== 0) x87.pop();
    return x87.commit(p.state.argument32(firstArgument));
  }, fastX87([32, 32], { hasMemoryOperand: true, isPatient: true }, (x87, ...args) => {
    const [outcome, popped] = args as Bits<32>[];
    x87.settle({
      outcome, mayBeUnmasked: true,
      ...(pops ? { rotation: popped, emptied: popped.shl(x87.place(0)) } : {}),
    });
  }));
}

const commitOnly = committing(false), popAndCommit = committing(true);

interface Storing {
  /** Leaves the value in result 0 if that needs no rounding and raises nothing. */
  quick(view: StateView, value: number): boolean;
  convert(value: F80, environment: X87Environment): bigint | number;
  fast(x87: FastX87, value: Image): RoundedNumber;
}

/**
 * A store in three steps, so that memory faults before anything is committed: a routine finds value and outcome, memory
 * is written (or only checked, where an unmasked exception forbids the store), a second routine commits the outcome and pops.
 */
function storing(name: string, encoding: string, width: 16 | 32 | 64, pops: boolean, { quick, convert, fast }: Storing): InstructionDefinition {
  const prepare = routine(`${name}${width}`, (p) => {
    const x87 = new X87Operation(p);
    const isEmpty = x87.isEmpty(0);
    const number = isEmpty ? undefined : x87.readNumber(0);
    if (number !== undefined && quick(p.state, number)) {
      p.state.result32(1, 0);
      p.state.result32(2, 1);
      return Status.Next;
    }
    const value = convert(isEmpty ? x87.underflow() : x87.read(0), x87.environment);
    const stores = !softfloat.storeIsSuppressed(x87.environment);
    if (typeof value === "bigint") p.state.result64(0, value);
    else p.state.result32(0, value);
    p.state.result32(1, x87.outcome());
    p.state.result32(2, stores ? 1 : 0);
    return Status.Next;
  }, fastPath([], () => {
    const x87 = new FastX87(constant(32, 0), inMemory);
    refuseUnless(x87.isValid(0));
    const rounded = fast(x87, x87.read(0));
    const outcome = x87.outcomeOf(rounded);
    writeField(state.scratch[0], rounded.value);
    writeField(state.scratch[1], outcome);
    writeField(state.scratch[2], constant(32, 1));
  }));
  const commit = pops ? popAndCommit : commitOnly;
  return x87Instruction({
    name, encodings: [encoding],
    execute({ cpu, dst }) {
      const [value, outcome, stores] = cpu.call(prepare, [], [width, 32, 32]);
      when(
        stores.ne(0),
        () => dst.as(width).write(value as Bits as never),
        () => checkWrite("operand", dst.offset(), width / 8),
      );
      callX87(cpu, commit, dst, [outcome, stores]);
    },
  });
}

/** Ten bytes in the same three steps. `convert` gives the lower eight and the upper two. */
function storingTenBytes(
  name: string, encoding: string, convert: (value: F80, environment: X87Environment) => readonly [low: bigint, high: number],
  fast?: () => FastPath,
): InstructionDefinition {
  const prepare = routine(`${name}80`, (p) => {
    const x87 = new X87Operation(p);
    const [low, high] = convert(x87.isEmpty(0) ? x87.underflow() : x87.read(0), x87.environment);
    p.state.result64(0, low);
    p.state.result32(1, high);
    p.state.result32(2, x87.outcome());
    p.state.result32(3, softfloat.storeIsSuppressed(x87.environment) ? 0 : 1);
    return Status.Next;
  }, fast);
  return x87Instruction({
    name, encodings: [encoding],
    execute({ cpu, dst }) {
      const [low, high, outcome, stores] = cpu.call(prepare, [], [64, 16, 32, 32]);
      const offset = dst.offset(), upperOffset = offset.add(8);
      checkWrite("operand", offset, 8);
      checkWrite("operand", upperOffset, 2);
      when(stores.ne(0), () => {
        store("operand", offset, low);
        store("operand", upperOffset, high);
      });
      callX87(cpu, popAndCommit, dst, [outcome, stores]);
    },
  });
}

/** Any image is stored as it is. */
const fastImage = fastPath([], () => {
  const x87 = new FastX87(constant(32, 0), inMemory);
  refuseUnless(x87.isValid(0));
  const { significand, signExponent } = x87.read(0);
  writeField(state.scratch[0], significand);
  writeField(state.scratch[1], signExponent.trunc(16));
  writeField(state.scratch[2], constant(32, 0));
  writeField(state.scratch[3], constant(32, 1));
});

function bcd(value: F80, environment: X87Environment): readonly [low: bigint, high: number] {
  const image = softfloat.f80ToBcd(value, environment);
  return [BigInt.asUintN(64, image), Number(image >> 64n)];
}

const smallestNormalSingle = 2 ** -126;

const storingSingle: Storing = {
  quick(view, value) {
    single[0] = value;
    if (single[0] !== value || (value !== 0 && Math.abs(value) < smallestNormalSingle)) return false;
    view.result32(0, singleBits[0]);
    return true;
  },
  convert: softfloat.f80ToF32,
  fast: (x87, value) => fastToFloat(x87, value, 32),
};

const storingDouble: Storing = {
  quick(view, value) {
    view.f64[(view.base + state.scratch[0].offset) >>> 3] = value;
    return true;
  },
  convert: softfloat.f80ToF64,
  fast: (x87, value) => fastToFloat(x87, value, 64),
};

function storingInteger(width: 16 | 32 | 64, truncates: boolean): Storing {
  const limit = width === 16 ? 0x8000 : 0x8000_0000;
  return {
    quick(view, value) {
      const integer = value | 0;
      if (integer !== value || integer < -limit || integer >= limit) return false;
      view.result32(0, integer);
      if (width === 64) view.u32[((view.base + state.scratch[0].offset) >>> 2) + 1] = integer >> 31;
      return true;
    },
    convert(value, environment) {
      const rounding = truncates ? softfloat.roundZero : environment.rounding;
      return BigInt.asUintN(64, softfloat.f80ToInteger(value, width, rounding, environment));
    },
    fast: (x87, value) => fastToInteger(x87, value, width, truncates),
  };
}

export const x87Store: readonly InstructionDefinition[] = [
  storing("fst", "D9 /2 Md", 32, false, storingSingle), storing("fstp", "D9 /3 Md", 32, true, storingSingle),
  storing("fst", "DD /2 Mq", 64, false, storingDouble), storing("fstp", "DD /3 Mq", 64, true, storingDouble),
  storingTenBytes("fstp", "DB /7 Mt", ({ significand, signExponent }) => [significand, signExponent], fastImage),
  storingTenBytes("fbstp", "DF /6 Mt", bcd),
  ...([["fist", "DF /2 Mw", 16], ["fistp", "DF /3 Mw", 16], ["fist", "DB /2 Md", 32], ["fistp", "DB /3 Md", 32], ["fistp", "DF /7 Mq", 64]] as const)
    .map(([name, encoding, width]) => storing(name, encoding, width, name === "fistp", storingInteger(width, false))),
  ...([["DF /1 Mw", 16], ["DB /1 Md", 32], ["DD /1 Mq", 64]] as const).map(([encoding, width]) =>
    ({ ...storing("fisttp", encoding, width, true, storingInteger(width, true)), feature: "sse3" })),
];
