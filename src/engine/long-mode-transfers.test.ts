/** Changes of privilege as generated code makes them, and ordinary deliveries, against the routines that do all cases. */
import { describe, expect, test } from "vitest";
import { hashText, Random } from "../../tests/differential/random.ts";
import type { Node, Routine } from "../ir/index.ts";
import { Decoder } from "../isa/decode.ts";
import { allFlagsMask, FlagMask, readFlags, writeFlags } from "../isa/flags.ts";
import { instructions } from "../isa/instructions.ts";
import type { ProcessorMemory } from "../isa/processor.ts";
import * as state from "../isa/state.ts";
import { Cr0Mask, SegmentIndex } from "../isa/system/mode.ts";
import { handlerFormOf } from "./code-cache.ts";
import { makeHandler } from "./handler.ts";
import { bytesOf, EngineMachine, PageBit, Place, Select } from "./testing/engine-machine.ts";

const cases = 300;
/** Of the generated cases; the others are what only routines can do. */
const leastShareOrdinary = 0.2;
const loopForever = "EB FE";
const gdtEntries = 16;
const everybody = PageBit.present | PageBit.writable | PageBit.user;
const general = { rcx: 1, rsp: 4, rbp: 5, r11: 11 } as const;
/** Where no page is mapped. */
const nowhere = 0x4000_0000;

function routinesOf(body: readonly Node[]): Routine[] {
  return body.flatMap((node) => node.op === "routine" ? [node.routine] : node.op === "if" ? [...routinesOf(node.then), ...routinesOf(node.otherwise)] : []);
}

/** Counts the calls of an instruction's routine from now on. */
function countCalls(code: string): { calls: number } {
  const decoded = new Decoder(instructions, { hasFeature: () => true, vendor: "intel" }).decode(bytesOf(code), 0, 64);
  if (decoded.kind !== "instruction") throw new Error(`${code} is no instruction`);
  const counter = { calls: 0 };
  for (const routine of new Set(routinesOf(makeHandler(handlerFormOf(decoded, { code: 64, stack: 64 })).body))) {
    const { run } = routine;
    (routine as { run: Routine["run"] }).run = (processor) => {
      counter.calls++;
      return run(processor);
    };
  }
  return counter;
}

function anyFlags(random: Random): number {
  const rare = FlagMask.TF | FlagMask.NT | FlagMask.AC;
  return ((random.next() & allFlagsMask & ~(rare | FlagMask.VM)) | FlagMask.fixed | (random.chance(10) ? random.next() & rare : 0)) >>> 0;
}

/** Tables with descriptors of all kinds behind the usual ones, and the code at its place. */
function prepare(machine: EngineMachine, code: string, cpl: 0 | 3, random: Random): void {
  const s = machine.processor.state;
  machine.ram.fill(0);
  machine.longMode(cpl);
  machine.write(Place.code, code);
  machine.write(Place.data, loopForever);
  machine.view.setBigUint64(Place.tss + 0x24, BigInt(Place.stack - 0x800), true);
  for (let index = 9; index < gdtEntries; index++) {
    const access = BigInt(random.pick([0x9b, 0xfb, 0x9b, 0xfb, 0x93, 0xf3, 0x99, 0x9a, 0xf2, 0x9f, 0x1b, 0x97, 0x8b, 0xfa]));
    const rest = BigInt(random.pick([0xa, 0xa, 0xc, 0x2, 0x8, 0xe])) << 52n | BigInt(random.pick([0, 0, 0x12])) << 16n;
    machine.view.setBigUint64(Place.gdt + index * 8, access << 40n | 0xf_0000_0000_ffffn | rest, true);
  }
  s.set32(state.gdtrLimit, random.pick([gdtEntries * 8 - 1, gdtEntries * 8 - 1, 0x3f]));
  s.set64(state.cr0, s.get64(state.cr0) | BigInt(random.chance(30) ? Cr0Mask.AM : 0));
  s.set32(state.nmiBlocked, random.chance(5) ? 1 : 0);
  for (const index of [SegmentIndex.ES, SegmentIndex.DS, SegmentIndex.FS, SegmentIndex.GS]) {
    machine.loadSegment(index, random.chance(80) ? Select.data3 : Select.data0);
  }
  writeFlags(s, anyFlags(random) & ~FlagMask.TF, allFlagsMask);
  machine.processor.modeChanged();
}

/** All that the manuals name, what of the engine's state follows from it, and RAM. */
function observe({ processor, ram }: EngineMachine): unknown {
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

interface Setting {
  readonly code: string;
  readonly cpl: 0 | 3;
  arrange(machine: EngineMachine, random: Random): void;
}

const anyTarget = (random: Random): bigint => random.chance(90) ? BigInt(Place.data) : random.next64();
const anySelector = (random: Random, usual: readonly number[]): number =>
  random.chance(70) ? random.pick(usual) : random.below(gdtEntries) * 8 + random.below(8);

const settings: Readonly<Record<"SYSCALL" | "SYSRET" | "IRETQ", Setting>> = {
  SYSCALL: {
    code: "0F 05", cpl: 3,
    arrange({ processor: { state: s } }, random) {
      s.set64(state.lstar, BigInt(Place.data));
      s.set64(state.star, random.next64());
      s.set64(state.fmask, BigInt(random.next()));
      if (random.chance(10)) s.set64(state.efer, s.get64(state.efer) & ~1n);
    },
  },
  SYSRET: {
    code: "48 0F 07", cpl: 0,
    arrange(machine, random) {
      machine.processor.state.set64(state.star, random.next64());
      machine.setRegister(general.rcx, anyTarget(random));
      machine.setRegister(general.r11, BigInt(anyFlags(random)));
    },
  },
  IRETQ: {
    code: "48 CF", cpl: 0,
    arrange(machine, random) {
      const frame = random.chance(90) ? Place.stack - 0x100 : Place.stack - random.below(64);
      const isOutward = random.chance(50);
      const words = [
        anyTarget(random), BigInt(anySelector(random, isOutward ? [Select.code3] : [Select.code0])), BigInt(anyFlags(random)),
        BigInt(Place.userStack - 8), BigInt(anySelector(random, isOutward ? [Select.data3] : [Select.data0, 0])),
      ];
      words.forEach((word, index) => machine.view.setBigUint64(frame + index * 8, word, true));
      machine.setRegister(general.rsp, BigInt(frame));
    },
  },
};

describe.each(Object.entries(settings))("%s", (name, { code, cpl, arrange }) => {
  test("does the same as its routine", () => {
    const counter = countCalls(code);
    const machine = new EngineMachine({ ramBytes: 0x4_0000 }), reference = new EngineMachine({ ramBytes: 0x4_0000 });
    let ordinary = 0;
    for (let seed = 0; seed < cases; seed++) {
      for (const each of [machine, reference]) {
        const random = new Random(hashText(name), seed);
        prepare(each, code, cpl, random);
        arrange(each, random);
        each.processor.modeChanged();
      }
      // What is executed one by one goes to the routines.
      for (let step = 0; step < 6; step++) reference.run(1);
      const before = counter.calls;
      machine.run(100);
      if (counter.calls === before) ordinary++;
      expect(observe(machine), `${name}, case ${seed}`).toEqual(observe(reference));
    }
    expect(ordinary / cases).toBeGreaterThan(leastShareOrdinary);
  });
});

describe("a page fault", () => {
  test("is delivered as by the routine for all cases", () => {
    const machine = new EngineMachine({ ramBytes: 0x4_0000 }), reference = new EngineMachine({ ramBytes: 0x4_0000 });
    (reference.processor.memory as { locate: ProcessorMemory["locate"] }).locate = undefined;
    for (let seed = 0; seed < cases; seed++) {
      for (const each of [machine, reference]) {
        const random = new Random(hashText("page fault"), seed);
        // mov [rbp], eax
        prepare(each, "89 45 00", random.pick([0, 3]), random);
        const gate = Place.idt + 14 * 16;
        const kind = random.chance(70) ? random.pick([0x8e, 0x8f]) : random.below(256);
        each.view.setUint32(gate, anySelector(random, [Select.code0]) << 16 | (Place.data & 0xffff), true);
        each.view.setUint32(gate + 4, (Place.data & 0xffff_0000) | kind << 8 | random.pick([0, 0, 1, 2]), true);
        each.view.setUint32(gate + 8, random.chance(95) ? 0 : random.next(), true);
        if (random.chance(10)) each.view.setBigUint64(Place.tss + 4, random.next64(), true);
        if (random.chance(10)) each.processor.state.set32(state.idtrLimit, 14 * 16 + random.below(16));
        const top = random.chance(80) ? Place.stack : Place.stack - 0x1000 + random.below(64);
        each.setRegister(general.rsp, BigInt(top));
        if (random.chance(10)) each.setPage(Place.stack - 0x1000, BigInt(Place.stack - 0x1000) | random.pick([0n, PageBit.present, everybody]));
        each.setRegister(general.rbp, BigInt(nowhere));
        each.processor.memory.flush({ keepGlobal: false });
        for (let step = 0; step < 6; step++) each.run(1);
      }
      expect(observe(machine), `page fault, case ${seed}`).toEqual(observe(reference));
    }
  });
});
