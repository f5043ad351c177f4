/** Flags that are kept lazily: every operation before every condition, alone, in pairs, and where two ways meet. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Twins, warm } from "../../../tests/jit/twins.ts";
import { Place } from "../testing/engine-machine.ts";

const widths = [8, 16, 32, 64] as const;
type Width = (typeof widths)[number];

/** Operations on AL, AX, EAX or RAX and CL, CX, ECX or RCX, as ModRM opcodes whose lowest bit is clear for bytes. */
const operations: Readonly<Record<string, (width: Width) => string | undefined>> = {
  add: alu(0x00), or: alu(0x08), adc: alu(0x10), sbb: alu(0x18), and: alu(0x20), sub: alu(0x28), xor: alu(0x30), cmp: alu(0x38), test: alu(0x84),
  inc: group(0xfe, 0), dec: group(0xfe, 1), neg: group(0xf6, 3), not: group(0xf6, 2), mul: group(0xf6, 4), imul: group(0xf6, 5),
  rol: shift(0), ror: shift(1), rcl: shift(2), rcr: shift(3), shl: shift(4), shr: shift(5), sar: shift(7),
  rolByCl: group(0xd2, 0), rclByCl: group(0xd2, 2), shlByCl: group(0xd2, 4), shrByCl: group(0xd2, 5), sarByCl: group(0xd2, 7),
  shld: wide("0fa4c803"), shrd: wide("0facc803"), imulTwo: wide("0fafc1"), bt: wide("0fa3c8"), bts: wide("0fabc8"), bsf: wide("0fbcc1"), bsr: wide("0fbdc1"),
  popcnt: (width) => width === 8 ? undefined : `${width === 16 ? "66" : ""}f3${width === 64 ? "48" : ""}0fb8c1`,
  xadd: (width) => sized(width, width === 8 ? "0fc0c8" : "0fc1c8"),
  cmpxchg: (width) => sized(width, width === 8 ? "0fb0cb" : "0fb1cb"),
  clc: once("f8"), stc: once("f9"), cmc: once("f5"), sahf: once("9e"), popf: once("51812424d50c00009d"), comisd: once("660f2fc1"), ucomiss: once("0f2ec1"), fcomi: once("dbf1"),
  ptest: once("660f3817c1"), addToMemory: (width) => sized(width, width === 8 ? "0003" : "0103"), subFromMemory: (width) => sized(width, width === 8 ? "2803" : "2903"),
  nop: once("90"),
};

function sized(width: Width, code: string): string {
  return `${width === 16 ? "66" : width === 64 ? "48" : ""}${code}`;
}

function hex(...bytes: readonly number[]): string {
  return bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function alu(opcode: number): (width: Width) => string {
  return (width) => sized(width, hex(opcode + (width === 8 ? 0 : 1), 0xc8));
}

function group(opcode: number, digit: number): (width: Width) => string {
  return (width) => sized(width, hex(opcode + (width === 8 ? 0 : 1), 0xc0 | (digit << 3)));
}

function shift(digit: number): (width: Width) => string {
  return (width) => sized(width, hex(width === 8 ? 0xc0 : 0xc1, 0xc0 | (digit << 3), 3));
}

function wide(code: string): (width: Width) => string | undefined {
  return (width) => width === 8 ? undefined : sized(width, code);
}

function once(code: string): (width: Width) => string | undefined {
  return (width) => width === 64 ? code : undefined;
}

const values = [
  0n, 1n, 2n, 0x7fn, 0x80n, 0xffn, 0x7fffn, 0x8000n, 0xffffn, 0x7fff_ffffn, 0x8000_0000n, 0xffff_ffffn, 0x7fff_ffff_ffff_ffffn, 0x8000_0000_0000_0000n,
  0xffff_ffff_ffff_ffffn, 0x1234_5678_9abc_def0n, 0x0fn, 0x10n,
];

/** Stores all sixteen conditions at [rdi], then RFLAGS by LAHF and PUSHF, and moves on. */
const observeBySet = `${Array.from({ length: 16 }, (_, code) => `0f${hex(0x90 | code)}47${hex(code)}`).join("")}9f8867109c8f47184883c720`;
/** The same by jumps: [rdi + code] stays 0 where the condition does not hold. */
const observeByJump = `${Array.from({ length: 16 }, (_, code) => `${hex(0x70 | (code ^ 1))}04c647${hex(code)}01`).join("")}4883c720`;
/** By CMOV of R8D over 0. */
const observeByMove = `${Array.from({ length: 16 }, (_, code) => `ba00000000410f${hex(0x40 | code)}d08957${hex(code * 4)}`).join("")}4883c740`;
const observers = { set: observeBySet, jump: observeByJump, move: observeByMove } as const;

/** mov rax, a; mov rcx, b; mov rbx, data; initial flags: push imm32; popf */
function given(a: bigint, b: bigint, flags: number): string {
  const bytes = (value: bigint): string => hex(...Array.from({ length: 8 }, (_, index) => Number((value >> BigInt(index * 8)) & 0xffn)));
  return `68${bytes(BigInt(flags)).slice(0, 8)}9d48b8${bytes(a)}48b9${bytes(b)}`;
}

const programEnd = "f4";
const dataAddress = 0x2_8000;

const twins = new Twins({ ...warm, threshold: 1 });

/** Runs straight-line code, which is compiled as it is entered. */
function check(code: string): void {
  const { entries, executed } = twins.counters;
  twins.write(Place.code, code + programEnd);
  twins.start();
  twins.each((machine) => {
    machine.setRegister(7, BigInt(Place.data));
    machine.setRegister(3, BigInt(dataAddress));
    machine.setRegister(8, 0x1_0001n);
  });
  twins.runToHalt();
  expect(twins.counters.entries).toBeGreaterThan(entries);
  expect(twins.counters.executed - executed).toBeGreaterThan(16);
}

function allOf(width: Width): [name: string, code: string][] {
  return Object.entries(operations).flatMap(([name, codeFor]) => {
    const code = codeFor(width);
    return code === undefined ? [] : [[name, code] as [string, string]];
  });
}

const flagSets = [0x202, 0xad7, 0x203, 0xa02, 0x242, 0x292, 0x206, 0x212];

describe.each(widths)("operations of %i bits", (width) => {
  test.each(allOf(width))("%s before every condition", (_name, code) => {
    const observe = [observeBySet, observeByJump, observeByMove];
    const cases = values.map((a, index) => given(a, values[(index * 7 + 3) % values.length], flagSets[index % flagSets.length]));
    check(cases.map((start, index) => start + code + observe[index % observe.length]).join(""));
    check(cases.map((start, index) => start + code + observe[(index + 1) % observe.length]).join(""));
  });
});

const operation = fc.constantFrom(...widths.flatMap((width) => allOf(width).map(([, code]) => code)));
const value = fc.oneof(fc.constantFrom(...values), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }));
const observer = fc.constantFrom(...Object.values(observers));

test("one operation after another", () => {
  fc.assert(fc.property(fc.array(fc.tuple(fc.array(operation, { minLength: 1, maxLength: 4 }), value, value, fc.constantFrom(...flagSets), observer), { minLength: 1, maxLength: 12 }), (steps) => {
    check(steps.map(([codes, a, b, flags, observe]) => given(a, b, flags) + codes.join("") + observe).join(""));
  }), { numRuns: 100 });
});

/** jcc over; way; jmp meet; over: other way; meet: */
function diamond(condition: number, first: string, second: string): string {
  const displacement = (code: string): string => hex(...[0, 8, 16, 24].map((bits) => ((code.length / 2) >> bits) & 0xff));
  const way = `${first}e9${displacement(second)}`;
  return `0f${hex(0x80 | condition)}${displacement(way)}${way}${second}`;
}

test("where two ways meet, each with an operation of its own", () => {
  const meeting = new Twins({ ...warm, threshold: 4 });
  fc.assert(fc.property(
    fc.array(fc.tuple(operation, operation, operation, fc.nat(15), observer), { minLength: 1, maxLength: 4 }), value, value, (steps, a, b) => {
      // Twelve rounds with values that change: the fourth is compiled, and comes back to where it began.
      const body = steps.map(([before, first, second, condition, observe]) => before + diamond(condition, first, second) + observe).join("");
      const bytes = (count: number): string => hex(...[0, 8, 16, 24].map((bits) => (count >> bits) & 0xff));
      const loop = `4c01f84c01f1${body}41ffce0f85`; // add rax, r15; add rcx, r14; …; dec r14d; jnz
      const length = loop.length / 2 + 4;
      meeting.write(Place.code, `${loop}${bytes(-length)}${programEnd}`);
      meeting.start();
      meeting.each((machine) => {
        machine.setRegister(0, a);
        machine.setRegister(1, b);
        machine.setRegister(7, BigInt(Place.data));
        machine.setRegister(3, BigInt(dataAddress));
        machine.setRegister(14, 12n);
        machine.setRegister(15, 0x9e37_79b9_7f4a_7c15n);
      });
      meeting.runToHalt();
    }), { numRuns: 60 });
  expect(meeting.counters.blocks).toBeGreaterThan(meeting.counters.regions * 3);
  expect(meeting.counters.executed).toBeGreaterThan(meeting.compiled.processor.retired / 2);
});
