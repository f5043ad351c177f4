/** Fast paths against the routines they stand for: the same state afterwards, or none of it touched. */
import { describe, expect, test } from "vitest";
import { hashText, Random } from "../../tests/differential/random.ts";
import { type Node, Status } from "../ir/index.ts";
import { Decoder } from "../isa/decode.ts";
import { instructions } from "../isa/instructions.ts";
import type { CpuModel, Processor } from "../isa/processor.ts";
import { StateView } from "../isa/state-view.ts";
import * as state from "../isa/state.ts";
import { summarize } from "../isa/semantics/x87-unit.ts";
import { x87InstructionWord } from "../isa/x87-instruction-word.ts";
import { handlerFormOf } from "./code-cache.ts";
import { FastRoutines } from "./fast-routines.ts";
import { makeHandler } from "./handler.ts";
import { wasm } from "./web-assembly.ts";

type RoutineCall = Extract<Node, { op: "routine" }>;

/** A call of a routine with a fast path, and which of its arguments are the same every time. */
interface Case {
  readonly name: string;
  readonly call: RoutineCall;
  readonly fixed: readonly (bigint | undefined)[];
}

const casesPerCall = 300;
/** Of the generated states; the others have a register in use or empty that ought not to be, or special operands. */
const leastShareDone = 0.25;

function callsOf(block: readonly Node[]): RoutineCall[] {
  return block.flatMap((node) => node.op === "routine" ? [node] : node.op === "if" ? [...callsOf(node.then), ...callsOf(node.otherwise)] : []);
}

function isInstructionWord(argument: Node): boolean {
  return argument.op === "trunc" && argument.args[0].op === "immediate";
}

/** Calls of fast paths by the x87 instructions of 64-bit mode; in other modes they are the same. */
function x87Cases(): Case[] {
  const decoder = new Decoder(instructions, { hasFeature: () => true, vendor: "amd" });
  const found = new Map<string, Case>();
  for (let opcode = 0xd8; opcode <= 0xdf; opcode++) {
    for (let modrm = 0; modrm < 0x100; modrm += modrm < 0xc0 ? 8 : 1) {
      const decoded = decoder.decode(Uint8Array.of(opcode, modrm, 0, 0, 0, 0, 0), 0, 64);
      if (decoded.kind !== "instruction") continue;
      for (const call of callsOf(makeHandler(handlerFormOf(decoded, { code: 64, stack: 64 })).body)) {
        // FLD ST(7) needs a register in use and empty at once.
        if (call.routine.fast === undefined || (opcode === 0xd9 && modrm === 0xc7)) continue;
        const indices = call.args.map((argument) => argument.op === "const" ? argument.value : undefined);
        const fixed = call.args.map((argument, index) => isInstructionWord(argument) ? BigInt(x87InstructionWord(decoded)!) : indices[index]);
        const name = `${call.routine.name} (${indices.map((value) => value ?? "…").join()})`;
        found.set(name, { name, call, fixed });
      }
    }
  }
  return [...found.values()];
}

const sampleSignificands = [1n << 63n, (1n << 64n) - 1n, 0xffff_ffff_ffff_fc00n, 0x8000_0000_0000_0400n, 0xc000_0000_0000_0000n, 0x8000_0000_0000_0001n];

function random64(random: Random): bigint {
  return (BigInt(random.next()) << 32n) | BigInt(random.next());
}

function significand(random: Random): bigint {
  if (random.chance(20)) return random.pick(sampleSignificands);
  const kept = random.pick([64n, 64n, 53n, 53n, 24n, 3n]);
  return (1n << 63n) | ((random64(random) >> (64n - kept)) << (64n - kept));
}

/** Zeros and normal numbers that meet each other, with some of everything else. */
function writeRegister(view: StateView, random: Random, field: state.StateField, centre: number): void {
  const at = view.base + field.offset;
  const sign = random.chance(50) ? 0x8000 : 0;
  const spread = random.pick([1, 3, 70, 140]);
  let image = significand(random), exponent = centre + random.below(2 * spread + 1) - spread;
  if (random.chance(8)) [image, exponent] = [0n, 0];
  if (random.chance(3)) exponent = random.pick([0, 1, 2, 0x7ffd, 0x7ffe, 0x7fff]);
  if (random.chance(2)) image = random64(random);
  view.u64[at >>> 3] = image;
  view.u64[(at + 8) >>> 3] = BigInt(sign | (exponent & 0x7fff));
}

function writeState(view: StateView, random: Random): void {
  const masks = random.chance(85) ? 0x3f : random.next() & 0x3f;
  const control = 0x40 | masks | (random.pick([3, 3, 2, 0, 1]) << 8) | (random.below(4) << 10);
  const flags = random.chance(50) ? random.next() & 0x7f & (random.chance(90) ? control | 0x40 : 0x7f) : 0;
  view.set16(state.x87Control, control);
  view.set16(state.x87Status, summarize(flags | (random.next() & 0x4700) | (random.below(8) << 11), control));
  view.set16(state.x87Opcode, random.next() & 0x7ff);
  view.set16(state.x87InstructionSelector, random.next());
  view.set16(state.x87DataSelector, random.next());
  for (const { selector } of state.segments) view.set16(selector, random.next());
  const centre = 16383 + random.pick([0, 0, 1, 20, 63, -1023, 1023, 127, -126]);
  for (const field of state.x87) writeRegister(view, random, field, centre);
}

/** Values of memory: doubles, singles and integers that are mostly ordinary. */
function memoryValue(random: Random, width: number): bigint {
  if (random.chance(10)) return BigInt.asUintN(width, random64(random));
  if (random.chance(10)) return random.chance(50) ? 0n : 1n << BigInt(width - 1);
  const sign = random.chance(50) ? 1n << BigInt(width - 1) : 0n;
  if (width === 64) return sign | (BigInt(1023 + random.below(9) - 4) << 52n) | ((significand(random) >> 11n) & 0xf_ffff_ffff_ffffn);
  if (width === 32) return sign | (BigInt(127 + random.below(9) - 4) << 23n) | ((significand(random) >> 40n) & 0x7f_ffffn);
  return BigInt.asUintN(width, random64(random));
}

/** Exception flags, SF and C1. */
const outcomeMask = 0x27f;

/** Of a routine that gets another's results: the outcome, and after it whether memory was written. */
function argument(random: Random, node: Node, index: number): bigint {
  if (node.op !== "routineResult") return memoryValue(random, node.width);
  return BigInt(random.next() & (index === 1 ? outcomeMask : 1));
}

function tags(random: Random, status: number): number {
  if (random.chance(10)) return random.next() & 0xff;
  const belowTop = ((status >> 11) - 1) & 7;
  return random.chance(40) ? 0xff : 0xff & ~(1 << belowTop);
}

describe.each(["amd", "intel"] as const)("on %s", (vendor) => {
  const memory = new wasm.Memory({ initial: 8, maximum: 8, shared: true });
  const ours = new StateView(memory.buffer, 0x1_0000), exact = new StateView(memory.buffer, 0x4_0000);
  const upTo = (view: StateView, end: number): Uint8Array => view.u8.subarray(view.base, view.base + end);
  const scratchOffset = state.scratch[0].offset;
  const fastRoutines = new FastRoutines(memory);
  const processor = { state: exact, model: { vendor } as CpuModel } as Processor;
  const cases = x87Cases();

  test("there are such routines", () => {
    expect(cases.length).toBeGreaterThan(100);
  });

  test.each(cases)("$name", ({ call, fixed }) => {
    const { routine, args: nodes, resultWidths } = call;
    const { name, isTotal } = fastRoutines.functionFor(routine);
    const fast = fastRoutines.imports()[name] as (cpu: number, ...args: (number | bigint)[]) => number;
    const random = new Random(hashText(routine.name));
    let done = 0;
    for (let number = 0; number < casesPerCall; number++) {
      writeState(ours, random);
      ours.set16(state.x87Tag, tags(random, ours.get16(state.x87Status)));
      const top = (ours.get16(state.x87Status) >> 11) & 7, isGuessed = random.chance(97);
      ours.set16(state.x87TopGuess, isGuessed ? top : random.below(8));
      ours.set16(state.x87NotesMask, vendor === "amd" ? 0xffff : 0);
      const args = nodes.map((node, index) => fixed[index] ?? argument(random, node, index));
      upTo(exact, state.registerAreaSizeBytes).set(upTo(ours, state.registerAreaSizeBytes));
      const answer = fast(ours.base, ...args.map((value, index) => nodes[index].width === 64 ? value : Number(value)));
      // A wrong guess stays wrong and does no harm.
      if (!isGuessed) ours.set16(state.x87TopGuess, exact.get16(state.x87TopGuess));
      if (answer === 0) {
        expect(isTotal).toBe(false);
        expect(Buffer.compare(upTo(ours, scratchOffset), upTo(exact, scratchOffset))).toBe(0);
        continue;
      }
      done++;
      args.forEach((value, index) => exact.set64(state.scratch[index], value));
      expect((routine.run as (p: Processor) => Status)(processor)).toBe(Status.Next);
      if (!isGuessed) ours.set16(state.x87TopGuess, exact.get16(state.x87TopGuess));
      const [left, right] = [ours, exact].map((view) => upTo(view, scratchOffset));
      if (Buffer.compare(left, right) !== 0) {
        const differing = state.stateFields.filter(({ offset, width }) =>
          offset < scratchOffset && Buffer.compare(left.subarray(offset, offset + width / 8), right.subarray(offset, offset + width / 8)) !== 0);
        const text = (view: StateView): string => differing.map((field) => `${field.name} ${view.get64(field).toString(16)}`).join(", ");
        expect.fail(`case ${number}, arguments ${args.join()}: ${text(ours)} instead of ${text(exact)}`);
      }
      const results = (view: StateView): bigint[] => resultWidths.map((width, index) => BigInt.asUintN(width, view.argument64(index)));
      expect(results(ours)).toEqual(results(exact));
    }
    expect(done / casesPerCall).toBeGreaterThan(leastShareDone);
  });
});
