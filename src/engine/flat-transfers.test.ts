/** Changes of privilege in flat 32-bit code as generated code makes them, and ordinary deliveries, against the routines that do all cases. */
import { describe, expect, test } from "vitest";
import { hashText, Random } from "../../tests/differential/random.ts";
import { allFlagsMask, FlagMask, writeFlags } from "../isa/flags.ts";
import type { ProcessorMemory } from "../isa/processor.ts";
import * as state from "../isa/state.ts";
import { Cr0Mask, Cr4Mask, SegmentIndex } from "../isa/system/mode.ts";
import { EngineMachine, Place } from "./testing/engine-machine.ts";
import {
  anyFlags, anySelector, anyTarget, cases, compareWithRoutine, gdtEntries, general, loopForever, nowhere, observe, type Setting,
} from "../../tests/transfer-cases.ts";

/** As `prepare` writes them behind the machine's own. */
const Flat = { code0: 0x48, code3: 0x53, data0: 0x58, data3: 0x63, first: 9, afterFlat: 13 } as const;
const largeUserPage = 0x87;
const pageSizeExtension = Cr4Mask.PSE;

function descriptor(access: number, flags: number, base = 0): bigint {
  return BigInt(access) << 40n | BigInt(flags) << 52n | 0xf_0000_0000_ffffn | BigInt(base) << 16n;
}

/** Flat segments, then descriptors of all kinds; 4 MiB mapped to themselves, and the code at its place. */
function prepare(machine: EngineMachine, code: string, cpl: 0 | 3, random: Random): void {
  const s = machine.processor.state;
  machine.ram.fill(0);
  machine.protectedMode(cpl);
  machine.write(Place.code, code);
  machine.write(Place.data, loopForever);
  for (const [index, access] of [0x9b, 0xfb, 0x93, 0xf3].entries()) {
    machine.view.setBigUint64(Place.gdt + (Flat.first + index) * 8, descriptor(access, 0xc), true);
  }
  for (let index = Flat.afterFlat; index < gdtEntries; index++) {
    const access = random.pick([0x9b, 0xfb, 0x93, 0xf3, 0x99, 0x9a, 0xf2, 0xf1, 0x9f, 0x1b, 0x97, 0x8b, 0xfa]);
    machine.view.setBigUint64(Place.gdt + index * 8, descriptor(access, random.pick([0xc, 0xc, 0xa, 0x4, 0x8]), random.pick([0, 0, 0x12])), true);
  }
  machine.view.setUint32(Place.level4, largeUserPage, true);
  s.set64(state.cr3, BigInt(Place.level4));
  s.set64(state.cr4, BigInt(pageSizeExtension));
  s.set64(state.cr0, s.get64(state.cr0) | BigInt((random.chance(30) ? Cr0Mask.AM : 0) | Cr0Mask.PG) & 0xffff_ffffn);
  s.set32(state.gdtrLimit, random.pick([gdtEntries * 8 - 1, gdtEntries * 8 - 1, 0x57]));
  s.set32(state.nmiBlocked, random.chance(5) ? 1 : 0);
  machine.loadSegment(SegmentIndex.CS, random.chance(95) ? (cpl === 0 ? Flat.code0 : Flat.code3) : cpl === 0 ? 0x08 : 0x1b);
  machine.loadSegment(SegmentIndex.SS, cpl === 0 ? Flat.data0 : Flat.data3);
  for (const index of [SegmentIndex.ES, SegmentIndex.DS, SegmentIndex.FS, SegmentIndex.GS]) {
    machine.loadSegment(index, random.chance(80) ? Flat.data3 : Flat.data0);
  }
  machine.view.setUint16(Place.tss + 8, Flat.data0, true);
  writeFlags(s, anyFlags(random) & ~FlagMask.TF, allFlagsMask);
  machine.processor.modeChanged();
  machine.processor.memory.flush({ keepGlobal: false });
}

function arrangeSystemCalls(machine: EngineMachine, random: Random): void {
  const s = machine.processor.state;
  s.set64(state.sysenterCs, BigInt(random.chance(90) ? random.below(gdtEntries) * 8 + random.below(8) : random.below(4)));
  s.set64(state.sysenterEip, BigInt(Place.data));
  s.set64(state.sysenterEsp, BigInt(random.next()));
  machine.setRegister(general.rdx, anyTarget(random));
  machine.setRegister(general.rcx, random.next64());
}

const settings: Readonly<Record<"SYSENTER" | "SYSEXIT" | "IRETD" | "POPFD" | "POPFD at level 3" | "MOV ES" | "POP FS", Setting>> = {
  SYSENTER: { code: "0F 34", cpl: 3, arrange: arrangeSystemCalls },
  SYSEXIT: { code: "0F 35", cpl: 0, arrange: arrangeSystemCalls },
  IRETD: {
    code: "CF", cpl: 0,
    arrange(machine, random) {
      const frame = random.chance(90) ? Place.stack - 0x100 : Place.stack - random.below(64);
      const isOutward = random.chance(50);
      const words = [
        Number(anyTarget(random) & 0xffff_ffffn), anySelector(random, isOutward ? [Flat.code3] : [Flat.code0]),
        (anyFlags(random) | (random.chance(3) ? FlagMask.VM : 0)) >>> 0, Place.userStack - 8, anySelector(random, [Flat.data3]),
      ];
      words.forEach((word, index) => machine.view.setUint32(frame + index * 4, word, true));
      machine.setRegister(general.rsp, BigInt(frame));
    },
  },
  POPFD: { code: "9D EB FE", cpl: 0, arrange: arrangeFlags },
  "POPFD at level 3": { code: "9D EB FE", cpl: 3, arrange: arrangeFlags },
  "MOV ES": {
    code: "8E C0 EB FE", cpl: 0,
    arrange(machine, random) {
      machine.setRegister(general.rax, BigInt(anySelector(random, [0, Flat.data3, Flat.data0])));
    },
  },
  "POP FS": {
    code: "0F A1 EB FE", cpl: 0,
    arrange(machine, random) {
      machine.view.setUint32(Place.stack - 4, anySelector(random, [3, Flat.data3, Flat.data0]), true);
      machine.setRegister(general.rsp, BigInt(Place.stack - 4));
    },
  },
};

function arrangeFlags(machine: EngineMachine, random: Random): void {
  machine.view.setUint32(Place.stack - 4, anyFlags(random), true);
  machine.setRegister(general.rsp, BigInt(Place.stack - 4));
}

describe.each(Object.entries(settings))("%s", (name, setting) => {
  test("does the same as its routine", () => {
    compareWithRoutine(name, setting, 32, prepare);
  });
});

describe("a page fault", () => {
  test("is delivered as by the routine for all cases", () => {
    const machine = new EngineMachine({ ramBytes: 0x4_0000 }), reference = new EngineMachine({ ramBytes: 0x4_0000 });
    (reference.processor.memory as { locate: ProcessorMemory["locate"] }).locate = undefined;
    for (let seed = 0; seed < cases; seed++) {
      for (const each of [machine, reference]) {
        const random = new Random(hashText("32-bit page fault"), seed);
        // mov [ebp], eax
        prepare(each, "89 45 00", random.pick([0, 3]), random);
        const gate = Place.idt + 14 * 8;
        const kind = random.chance(70) ? random.pick([0x8e, 0x8f]) : random.below(256);
        each.view.setUint32(gate, anySelector(random, [Flat.code0]) << 16 | (Place.data & 0xffff), true);
        each.view.setUint32(gate + 4, (Place.data & 0xffff_0000) | kind << 8, true);
        if (random.chance(10)) each.view.setUint32(Place.tss + 4, random.next(), true);
        if (random.chance(20)) each.view.setUint16(Place.tss + 8, anySelector(random, [Flat.data0]), true);
        if (random.chance(10)) each.processor.state.set32(state.idtrLimit, 14 * 8 + random.below(8));
        const top = random.chance(80) ? Place.stack : Place.stack - 0x1000 + random.below(64);
        each.setRegister(general.rsp, BigInt(top));
        each.setRegister(general.rbp, BigInt(nowhere));
        each.processor.memory.flush({ keepGlobal: false });
        for (let step = 0; step < 6; step++) each.run(1);
      }
      expect(observe(machine), `page fault, case ${seed}`).toEqual(observe(reference));
    }
  });
});
