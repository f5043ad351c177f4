/** Changes of privilege in 64-bit mode as generated code makes them, and ordinary deliveries, against the routines that do all cases. */
import { describe, expect, test } from "vitest";
import { hashText, Random } from "../../tests/differential/random.ts";
import { allFlagsMask, FlagMask, writeFlags } from "../isa/flags.ts";
import type { ProcessorMemory } from "../isa/processor.ts";
import * as state from "../isa/state.ts";
import { Cr0Mask, SegmentIndex } from "../isa/system/mode.ts";
import { bytesOf, EngineMachine, PageBit, Place, Select } from "./testing/engine-machine.ts";
import {
  anyFlags, anySelector, anyTarget, cases, compareWithRoutine, gdtEntries, general, loopForever, nowhere, observe, type Setting,
} from "../../tests/transfer-cases.ts";

const everybody = PageBit.present | PageBit.writable | PageBit.user;

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

const settings: Readonly<Record<"SYSCALL" | "SYSRET" | "IRETQ" | "POPFQ" | "MOV DS", Setting>> = {
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
  POPFQ: {
    code: "9D EB FE", cpl: 0,
    arrange(machine, random) {
      machine.view.setBigUint64(Place.stack - 8, BigInt(anyFlags(random)), true);
      machine.setRegister(general.rsp, BigInt(Place.stack - 8));
    },
  },
  "MOV DS": {
    code: "8E D8 EB FE", cpl: 0,
    arrange(machine, random) {
      machine.setRegister(general.rax, BigInt(anySelector(random, [0, Select.data3, Select.data0])));
    },
  },
};

describe.each(Object.entries(settings))("%s", (name, setting) => {
  test("does the same as its routine", () => {
    compareWithRoutine(name, setting, 64, prepare);
  });
});

/** The loop that has hot instructions, of which NOP is one, delivers faults by itself. */
const withDelivery = [bytesOf("90")];

/** mov [rbp], eax, which faults, with a gate, a task and stacks of all kinds. */
function arrangeFault(machine: EngineMachine, random: Random): void {
  prepare(machine, "89 45 00", random.pick([0, 3]), random);
  const gate = Place.idt + 14 * 16;
  const kind = random.chance(70) ? random.pick([0x8e, 0x8f]) : random.below(256);
  machine.view.setUint32(gate, anySelector(random, [Select.code0]) << 16 | (Place.data & 0xffff), true);
  machine.view.setUint32(gate + 4, (Place.data & 0xffff_0000) | kind << 8 | random.pick([0, 0, 1, 2]), true);
  machine.view.setUint32(gate + 8, random.chance(95) ? 0 : random.next(), true);
  if (random.chance(10)) machine.view.setBigUint64(Place.tss + 4, random.next64(), true);
  if (random.chance(10)) machine.processor.state.set32(state.idtrLimit, 14 * 16 + random.below(16));
  const top = random.chance(80) ? Place.stack : Place.stack - 0x1000 + random.below(64);
  machine.setRegister(general.rsp, BigInt(top));
  if (random.chance(10)) machine.setPage(Place.stack - 0x1000, BigInt(Place.stack - 0x1000) | random.pick([0n, PageBit.present, everybody]));
  machine.setRegister(general.rbp, BigInt(nowhere));
  machine.processor.memory.flush({ keepGlobal: false });
}

describe("a page fault", () => {
  test("is delivered as by the routine for all cases", () => {
    const machine = new EngineMachine({ ramBytes: 0x4_0000 }), reference = new EngineMachine({ ramBytes: 0x4_0000 });
    (reference.processor.memory as { locate: ProcessorMemory["locate"] }).locate = undefined;
    for (let seed = 0; seed < cases; seed++) {
      for (const each of [machine, reference]) {
        arrangeFault(each, new Random(hashText("page fault"), seed));
        for (let step = 0; step < 6; step++) each.run(1);
      }
      expect(observe(machine), `page fault, case ${seed}`).toEqual(observe(reference));
    }
  });

  test("is delivered as by the routine in generated code", () => {
    const machine = new EngineMachine({ ramBytes: 0x4_0000, hotInstructions: withDelivery }), reference = new EngineMachine({ ramBytes: 0x4_0000 });
    const locate = machine.processor.memory.locate.bind(machine.processor.memory);
    let asked = 0, ordinary = 0;
    machine.processor.memory.locate = (...access) => {
      asked++;
      return locate(...access);
    };
    for (let seed = 0; seed < cases; seed++) {
      for (const each of [machine, reference]) {
        arrangeFault(each, new Random(hashText("generated page fault"), seed));
        // As a fault before this one has left them.
        for (const [place, isWrite] of [[Place.idt, false], [Place.gdt, false], [Place.tss, false], [Place.stack - 0x100, true], [Place.stack - 0x900, true]] as const) {
          each.processor.memory.locate(place, 0, 8, isWrite, "supervisor");
        }
      }
      asked = 0;
      machine.run(100);
      if (asked === 0) ordinary++;
      for (let step = 0; step < 6; step++) reference.run(1);
      expect(observe(machine), `page fault, case ${seed}`).toEqual(observe(reference));
    }
    expect(ordinary / cases).toBeGreaterThan(0.2);
  });

  test("whose handler faults for ever comes back to the caller soon", () => {
    const machine = new EngineMachine({ hotInstructions: withDelivery });
    machine.longMode();
    // mov [rbp], eax; the handler is nowhere, and its stack begins anew each time.
    machine.write(Place.code, "89 45 00");
    machine.setHandler(14, nowhere);
    machine.view.setUint32(Place.idt + 14 * 16 + 4, nowhere & 0xffff_0000 | 0x8e01, true);
    machine.view.setBigUint64(Place.tss + 0x24, BigInt(Place.stack), true);
    machine.setRegister(general.rbp, BigInt(nowhere));
    let asked = 0;
    const { memory } = machine.processor;
    const translateCode = memory.translateCode.bind(memory);
    memory.translateCode = (...address) => {
      asked++;
      return translateCode(...address);
    };
    expect(machine.run(1_000_000)).toBe("budget");
    expect(machine.processor.retired).toBe(0);
    expect(asked).toBeGreaterThan(10_000);
    expect(asked).toBeLessThan(30_000);
  });
});

describe("LTR", () => {
  test("does the same in numbers as by the routine for all cases", () => {
    const machine = new EngineMachine({ ramBytes: 0x4_0000 }), reference = new EngineMachine({ ramBytes: 0x4_0000 });
    (reference.processor.memory as { locate: ProcessorMemory["locate"] }).locate = undefined;
    let loaded = 0;
    for (let seed = 0; seed < cases; seed++) {
      for (const each of [machine, reference]) {
        const random = new Random(hashText("LTR"), seed);
        // ltr ax; jmp $
        prepare(each, "0F 00 D8 EB FE", 0, random);
        const access = BigInt(random.chance(90) ? 0x89 : random.pick([0x8b, 0x81, 0x82, 0x09, 0x92]));
        each.view.setBigUint64(Place.gdt + 80, access << 40n | BigInt(random.below(0x100_0000)) << 16n | 0x67n | BigInt(random.pick([0, 8])) << 52n, true);
        each.view.setBigUint64(Place.gdt + 88, BigInt(random.chance(80) ? random.pick([0, 0xffff_8000]) : random.next()) | BigInt(random.chance(80) ? 0 : random.next()) << 32n, true);
        each.setRegister(general.rax, BigInt(anySelector(random, [80, 83])));
        each.processor.modeChanged();
        for (let step = 0; step < 3; step++) each.run(1);
      }
      if (machine.processor.state.get16(state.segments[SegmentIndex.TR].selector) >>> 3 === 10) loaded++;
      expect(observe(machine), `LTR, case ${seed}`).toEqual(observe(reference));
    }
    expect(loaded / cases).toBeGreaterThan(0.2);
  });
});
