/** What tests of privilege changes in generated code share: the instruction against its routine, in arrangements of all kinds. */
import { expect } from "vitest";
import { hashText, Random } from "./differential/random.ts";
import type { Node, Routine } from "../src/ir/index.ts";
import { Decoder } from "../src/isa/decode.ts";
import { allFlagsMask, FlagMask, readFlags } from "../src/isa/flags.ts";
import { instructions } from "../src/isa/instructions.ts";
import * as state from "../src/isa/state.ts";
import { handlerFormOf } from "../src/engine/code-cache.ts";
import { makeHandler } from "../src/engine/handler.ts";
import { bytesOf, EngineMachine, Place } from "../src/engine/testing/engine-machine.ts";

export const cases = 300;
/** Of the generated cases; the others are what only routines can do. */
const leastShareOrdinary = 0.2;
export const loopForever = "EB FE";
export const gdtEntries = 16;
export const general = { rax: 0, rcx: 1, rdx: 2, rsp: 4, rbp: 5, r11: 11 } as const;
/** Where no page is mapped. */
export const nowhere = 0x4000_0000;

function routinesOf(body: readonly Node[]): Routine[] {
  return body.flatMap((node) => node.op === "routine" ? [node.routine] : node.op === "if" ? [...routinesOf(node.then), ...routinesOf(node.otherwise)] : []);
}

/** Counts the calls of an instruction's routine from now on. */
function countCalls(code: string, size: 32 | 64): { calls: number } {
  const decoded = new Decoder(instructions, { hasFeature: () => true, vendor: "intel" }).decode(bytesOf(code), 0, size);
  if (decoded.kind !== "instruction") throw new Error(`${code} is no instruction`);
  const counter = { calls: 0 };
  for (const routine of new Set(routinesOf(makeHandler(handlerFormOf(decoded, { code: size, stack: size })).body))) {
    const { run } = routine;
    (routine as { run: Routine["run"] }).run = (processor) => {
      counter.calls++;
      return run(processor);
    };
  }
  return counter;
}

export function anyFlags(random: Random): number {
  const rare = FlagMask.TF | FlagMask.NT | FlagMask.AC;
  return ((random.next() & allFlagsMask & ~(rare | FlagMask.VM)) | FlagMask.fixed | (random.chance(10) ? random.next() & rare : 0)) >>> 0;
}

/** All that the manuals name, what of the engine's state follows from it, and RAM. */
export function observe({ processor, ram }: EngineMachine): unknown {
  const s = processor.state;
  return {
    general: state.gpr.map((field) => s.get64(field)), rip: s.get64(state.rip),
    // RF ends with a slice, which is longer or shorter.
    flags: readFlags(s) & ~FlagMask.RF,
    segments: state.segments.map((fields) => [
      s.get16(fields.selector), s.get64(fields.base), s.get32(fields.limit), s.get32(fields.attributes), s.get64(fields.readEnd), s.get64(fields.writeEnd),
    ]),
    cpl: s.get32(state.cpl), privilege: s.get32(state.tlbContext) & 3, cr2: s.get64(state.cr2), activity: s.get32(state.activity),
    nmiBlocked: s.get32(state.nmiBlocked), ram: hashText(Buffer.from(ram).toString("latin1")),
  };
}

export interface Setting {
  readonly code: string;
  readonly cpl: 0 | 3;
  arrange(machine: EngineMachine, random: Random): void;
}

export const anyTarget = (random: Random): bigint => random.chance(90) ? BigInt(Place.data) : random.next64();
export const anySelector = (random: Random, usual: readonly number[]): number =>
  random.chance(70) ? random.pick(usual) : random.below(gdtEntries) * 8 + random.below(8);

/** Runs what `prepare` and the setting arrange both ways: as generated code, and by the routine, which executes what is executed alone. */
export function compareWithRoutine(
  name: string, { code, cpl, arrange }: Setting, size: 32 | 64, prepare: (machine: EngineMachine, code: string, cpl: 0 | 3, random: Random) => void,
): void {
  const counter = countCalls(code, size);
  const machine = new EngineMachine({ ramBytes: 0x4_0000 }), reference = new EngineMachine({ ramBytes: 0x4_0000 });
  let ordinary = 0;
  for (let seed = 0; seed < cases; seed++) {
    for (const each of [machine, reference]) {
      const random = new Random(hashText(name), seed);
      prepare(each, code, cpl, random);
      arrange(each, random);
      each.processor.modeChanged();
    }
    for (let step = 0; step < 6; step++) reference.run(1);
    const before = counter.calls;
    machine.run(100);
    if (counter.calls === before) ordinary++;
    expect(observe(machine), `${name}, case ${seed}`).toEqual(observe(reference));
  }
  expect(ordinary / cases).toBeGreaterThan(leastShareOrdinary);
}
