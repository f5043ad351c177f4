/** Descriptor tables, stacks and TSSs of random bytes: system routines never throw, and a fault changes nothing. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { Status } from "../../ir/index.ts";
import { FlagMask, allFlagsMask, readFlags, writeFlags } from "../flags.ts";
import * as layout from "../state.ts";
import { At, longModeProcessor, protectedModeProcessor, realModeProcessor, virtual8086Processor } from "../testing/descriptors.ts";
import type { FlatProcessor } from "../testing/flat-processor.ts";
import { deliverEvent } from "./exceptions.ts";
import { xrstor } from "./extended-state.ts";
import { farReturn, farTransfer } from "./far-transfer.ts";
import { interruptReturn } from "./interrupt-return.ts";
import { isProtectedMode, isVirtual8086 } from "./mode.ts";
import { writeModelSpecificRegister } from "./model-specific.ts";
import { loadSegmentRegister } from "./segment-load.ts";
import { loadAccessRights, loadLocalTableRegister, loadSegmentLimit, loadTaskRegister } from "./selector-queries.ts";
import { interruptByNumber } from "./software-interrupt.ts";

const modes = {
  real: () => realModeProcessor(),
  protected0: () => protectedModeProcessor(0),
  protected3: () => protectedModeProcessor(3),
  virtual8086: () => virtual8086Processor(),
  long0: () => longModeProcessor(0),
  long3: () => longModeProcessor(3),
} as const;

const modeNames = Object.keys(modes) as (keyof typeof modes)[];
const operandSizes = [16, 32, 64] as const;

/** A byte that makes plausible descriptors more often than chance does. */
const descriptorByte = fc.oneof(fc.nat(255), fc.constantFrom(0, 0xff, 0x89, 0x8b, 0x8e, 0x8f, 0x85, 0x8c, 0xec, 0x9a, 0xfa, 0x92, 0xf2, 0xf3, 0xa0, 0xcf, 0x08, 0x10, 0x1b, 0x23, 0x28, 0x38));

const scenario = fc.record({
  mode: fc.constantFrom(...modeNames),
  operandSize: fc.constantFrom(...operandSizes),
  selector: fc.oneof(fc.nat(0xffff), fc.integer({ min: 0, max: 31 }).map((index) => index * 8), fc.integer({ min: 0, max: 127 })),
  offset: fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn }),
  patches: fc.array(fc.record({ at: fc.constantFrom(At.gdt, At.idt, At.tss, At.otherTss, At.stack0, At.stack3, At.stack0 - 64), offset: fc.nat(0x140), byte: descriptorByte }), { maxLength: 60 }),
  stack: fc.array(fc.oneof(fc.constantFrom(0x08n, 0x10n, 0x1bn, 0x23n, 0x48n, 0x53n, 0x2_0202n, 0x4202n, 0x202n, 0x6000n), fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn })), { minLength: 9, maxLength: 9 }),
  flags: fc.nat(allFlagsMask),
  vector: fc.nat(255),
  msr: fc.oneof(fc.nat(0x300), fc.integer({ min: 0xc000_0080, max: 0xc000_0110 })),
  absentPages: fc.array(fc.nat(20), { maxLength: 3 }),
});

function prepare(s: (typeof scenario) extends fc.Arbitrary<infer T> ? T : never): FlatProcessor {
  const p = modes[s.mode]();
  for (const { at, offset, byte } of s.patches) p.guest.setUint8(at + offset, byte);
  const pointer = Number(p.state.get64(layout.gpr[4]) & 0xffffn);
  const base = Number(p.state.get64(layout.segments[2].base));
  const bytes = s.operandSize / 8;
  for (const [index, value] of s.stack.entries()) {
    for (let byte = 0; byte < bytes; byte++) {
      const at = base + pointer + index * bytes + byte;
      if (at < 0x2_0000) p.guest.setUint8(at, Number((value >> BigInt(8 * byte)) & 0xffn));
    }
  }
  writeFlags(p.state, s.flags, allFlagsMask & ~FlagMask.VM);
  for (const page of s.absentPages) p.absentPages.add(page);
  return p;
}

function snapshot(p: FlatProcessor): unknown {
  const segments = layout.segments.map((fields) => [
    p.state.get16(fields.selector), p.state.get64(fields.base), p.state.get32(fields.limit), p.state.get32(fields.attributes),
  ]);
  return [
    segments, layout.gpr.map((field) => p.state.get64(field)), p.state.get64(layout.rip), readFlags(p.state),
    p.state.get32(layout.cpl), p.state.get64(layout.cr0), p.state.get64(layout.cr3), p.state.get64(layout.efer),
  ];
}

function expectSoundness(p: FlatProcessor): void {
  const cpl = p.state.get32(layout.cpl);
  expect(cpl).toBeLessThanOrEqual(3);
  if (isProtectedMode(p.state) && isVirtual8086(p.state)) expect(cpl).toBe(3);
  if (isProtectedMode(p.state) && !isVirtual8086(p.state)) expect(p.state.get16(layout.segments[1].selector) & 3).toBe(cpl);
}

type Scenario = (typeof scenario) extends fc.Arbitrary<infer T> ? T : never;

const routines: Readonly<Record<string, (p: FlatProcessor, s: Scenario) => Status>> = {
  "far jump": (p, s) => farTransfer(p, s.selector, s.offset, s.operandSize, false),
  "far jump to a low offset": (p, s) => farTransfer(p, s.selector, s.offset & 0xffffn, s.operandSize, false),
  "far call": (p, s) => farTransfer(p, s.selector, s.offset & 0xffffn, s.operandSize, true),
  "far return": (p, s) => farReturn(p, s.operandSize, s.vector),
  iret: (p, s) => interruptReturn(p, s.operandSize),
  int: (p, s) => interruptByNumber(p, s.vector),
  "segment load": (p, s) => loadSegmentRegister(p, [0, 2, 3, 4, 5][s.vector % 5], s.selector),
  lldt: (p, s) => loadLocalTableRegister(p, s.selector),
  ltr: (p, s) => loadTaskRegister(p, s.selector),
  lar: (p, s) => loadAccessRights(p, s.selector),
  lsl: (p, s) => loadSegmentLimit(p, s.selector),
  wrmsr: (p, s) => writeModelSpecificRegister(p, s.msr, s.offset),
  xrstor: (p, s) => xrstor(p, BigInt(At.stack0), s.offset, true, false),
};

test.each(Object.keys(routines))("%s", (name) => {
  fc.assert(fc.property(scenario, (s) => {
    const p = prepare(s);
    const before = snapshot(p);
    const status = routines[name](p, s);
    if (status === Status.Fault) {
      expect(p.fault).toBeDefined();
      expect(snapshot(p)).toEqual(before);
    }
    expectSoundness(p);
  }), { numRuns: 1000 });
});

test("event delivery", () => {
  const kinds = ["exception", "external", "software", "privileged software", "nmi"] as const;
  fc.assert(fc.property(scenario, fc.constantFrom(...kinds), (s, kind) => {
    const p = prepare(s);
    const before = snapshot(p);
    const isDelivered = deliverEvent(p, { vector: s.vector, kind, errorCode: kind === "exception" ? s.vector : undefined });
    if (!isDelivered) expect(p.state.get32(layout.activity)).toBe(2);
    if (!isDelivered && s.mode !== "protected0" && s.mode !== "protected3" && s.mode !== "virtual8086") expect(snapshot(p)).toEqual(before);
    expectSoundness(p);
  }), { numRuns: 1000 });
});
