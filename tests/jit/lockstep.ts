/**
 * One random program on two processors, budget by budget: after each, state, memory, what devices saw and the number of
 * retired instructions must be the same.
 */
import fc from "fast-check";
import { readProcessorState } from "../../src/accel/soft/processor-state.ts";
import { EngineMachine, PageBit, Place, type EngineMachineOptions } from "../../src/engine/testing/engine-machine.ts";
import { allFlagsMask, writeFlags } from "../../src/isa/flags.ts";
import * as state from "../../src/isa/state.ts";
import { EferMask } from "../../src/isa/system/mode.ts";
import { littleEndian } from "../differential/address.ts";
import { Random } from "../differential/random.ts";
import { integers, poolBytes, pools } from "../differential/values.ts";
import { aliasOffset, dataPages, pointerStart, type Program } from "./program.ts";

export const ramBytes = 0x4_0000;
const userSelectors = { code: 0x1b, data: 0x23 } as const;
const pageBytes = 4096;
/** Exceptions that push an error code. */
const withErrorCode: ReadonlySet<number> = new Set([8, 10, 11, 12, 13, 14, 17, 21]);
const stub = { plain: Place.handlers + 0x800, withCode: Place.handlers + 0x880, interrupt: Place.handlers + 0x900, counter: Place.handlers + 0xa00 } as const;
/** IF, DF and the status flags: what a program keeps over a fault. */
const keptFlags = 0x3ed5;
export const interruptVector = 0x40;

/** What happens from outside before a budget is run. */
const eventKinds = ["none", "none", "none", "interrupt", "patch", "remap", "nmi"] as const;

export interface Turn {
  readonly budget: number;
  readonly event: (typeof eventKinds)[number];
  readonly seed: number;
}

export const turns: fc.Arbitrary<readonly Turn[]> = fc.array(fc.record({
  budget: fc.oneof(fc.integer({ min: 1, max: 100 }), fc.integer({ min: 1, max: 1000 })),
  event: fc.constantFrom(...eventKinds), seed: fc.nat(),
}), { minLength: 1, maxLength: 8 });

export function createMachine(options: EngineMachineOptions): EngineMachine {
  const machine = new EngineMachine({ ramBytes, ...options });
  let accesses = 0;
  machine.onAccess = () => {
    // A device that has something to say now and then.
    if (++accesses % 5 === 0 && machine.interrupts.length === 0) machine.interrupt(interruptVector);
  };
  return machine;
}

function handlerCode(program: Program): { plain: number[]; withCode: number[]; interrupt: number[] } {
  const recovery = littleEndian(program.blocks[program.blocks.length - 1], 4);
  const stackTop = littleEndian(Place.userStack, 4), flags = littleEndian(keptFlags, 4), counter = littleEndian(stub.counter, 4);
  const pointer = littleEndian(pointerStart, 4);
  const code = littleEndian(userSelectors.code, 4), data = littleEndian(userSelectors.data, 4);
  // mov esi, pointer; mov edi, pointer
  const pointers = [0xbe, ...pointer, 0xbf, ...pointer];
  if (program.bits === 64) {
    return {
      // inc dword [counter]; mov qword [rsp], recovery; … [rsp + 8], CS; and dword [rsp + 16], flags; mov … [rsp + 24], stack; … [rsp + 32], SS; iretq
      plain: [
        0xff, 0x04, 0x25, ...counter, ...pointers, 0x48, 0xc7, 0x04, 0x24, ...recovery, 0x48, 0xc7, 0x44, 0x24, 8, ...code,
        0x81, 0x64, 0x24, 16, ...flags, 0x48, 0xc7, 0x44, 0x24, 24, ...stackTop, 0x48, 0xc7, 0x44, 0x24, 32, ...data, 0x48, 0xcf,
      ],
      withCode: [0x48, 0x83, 0xc4, 8, 0xe9, ...littleEndian(stub.plain - stub.withCode - 9, 4)],
      interrupt: [0xff, 0x04, 0x25, ...littleEndian(stub.counter + 4, 4), 0x48, 0xcf],
    };
  }
  // Whatever the program has put into DS: mov eax, data; mov ds, eax; mov es, eax
  const segments = [0xb8, ...data, 0x8e, 0xd8, 0x8e, 0xc0];
  return {
    plain: [
      ...segments, 0xff, 0x05, ...counter, ...pointers, 0xc7, 0x04, 0x24, ...recovery, 0xc7, 0x44, 0x24, 4, ...code,
      0x81, 0x64, 0x24, 8, ...flags, 0xc7, 0x44, 0x24, 12, ...stackTop, 0xc7, 0x44, 0x24, 16, ...data, 0xcf,
    ],
    withCode: [0x83, 0xc4, 4, 0xe9, ...littleEndian(stub.plain - stub.withCode - 8, 4)],
    // With a selector override: DS may be anything.
    interrupt: [0x36, 0xff, 0x05, ...littleEndian(stub.counter + 4, 4), 0xcf],
  };
}

function mapPages(machine: EngineMachine): void {
  const all = PageBit.present | PageBit.writable | PageBit.user;
  for (let page = 0; page < Place.code; page += pageBytes) {
    // Tables, handlers and the kernel's stack are not the program's.
    if (page !== Place.userStack - pageBytes) machine.setPage(page, BigInt(page) | PageBit.present | PageBit.writable);
  }
  for (let page: number = Place.code; page < Place.data; page += pageBytes) machine.setPage(page + aliasOffset, BigInt(page) | all);
  machine.setPage(dataPages.readOnly, BigInt(dataPages.readOnly) | PageBit.present | PageBit.user);
  machine.setPage(dataPages.absent, 0n);
}

/** Puts a program into a machine whose state depends on nothing that ran before, but for what it has compiled. */
export function setUp(machine: EngineMachine, program: Program, seed: number, cpl: 0 | 3 = 3): void {
  const random = new Random(seed, 3);
  const { processor, physical } = machine;
  const s = processor.state;
  processor.reset();
  machine.interrupts.length = 0;
  machine.deviceAccesses.length = 0;
  machine.portWrites.length = 0;
  physical.writeRange(0, new Uint8Array(ramBytes));
  machine.ram.set(pools[random.pick(["integer", "float32", "float64", "float80"] as const)].subarray(0, Math.min(poolBytes, 0x8000)), Place.data);
  physical.writeRange(program.start, program.bytes);
  if (program.bits === 64) {
    machine.longMode(cpl);
    mapPages(machine);
  } else machine.protectedMode(cpl);
  const code = handlerCode(program);
  physical.writeRange(stub.plain, Uint8Array.from(code.plain));
  physical.writeRange(stub.withCode, Uint8Array.from(code.withCode));
  physical.writeRange(stub.interrupt, Uint8Array.from(code.interrupt));
  for (let vector = 0; vector < 256; vector++) {
    const isInterrupt = vector === interruptVector || vector === 2;
    machine.setHandler(vector, isInterrupt ? stub.interrupt : withErrorCode.has(vector) ? stub.withCode : stub.plain, program.bits === 64);
  }
  for (let register = 0; register < 16; register++) {
    if (register !== 4) machine.setRegister(register, integers[random.next() & (integers.length - 1)] & (program.bits === 64 ? -1n : 0xffff_ffffn));
  }
  for (const register of [3, 5, 6, 7]) machine.setRegister(register, BigInt(pointerStart + register * 64));
  s.set64(state.efer, s.get64(state.efer) & ~BigInt(EferMask.SCE));
  for (const field of state.xmm) {
    s.u64[(s.base + field.offset) >>> 3] = integers[random.next() & (integers.length - 1)];
    s.u64[(s.base + field.offset + 8) >>> 3] = random.next64();
  }
  s.set16(state.x87Control, random.pick([0x37f, 0x37f, 0x27f, 0x340]));
  s.set16(state.x87Status, random.below(8) << 11);
  s.set16(state.x87Tag, random.next() & 0xff);
  state.x87.forEach((field, index) => {
    s.u64[(s.base + field.offset) >>> 3] = (1n << 63n) | random.next64();
    s.u64[(s.base + field.offset + 8) >>> 3] = BigInt(16_383 + index + (random.next() & 0x8000));
  });
  s.set64(state.rip, BigInt(program.start));
  writeFlags(s, 0x3202 | (random.next() & 0x8d5), allFlagsMask);
  processor.modeChanged();
  processor.memory.flush({ keepGlobal: false });
}

/** What must be the same, as something that prints well. */
export function snapshot(machine: EngineMachine, retiredBefore: number): Record<string, unknown> {
  const { processor } = machine;
  return {
    retired: processor.retired - retiredBefore, ...readProcessorState(processor),
    ports: machine.portWrites.map(({ retired, ...rest }) => ({ ...rest, retired: retired - retiredBefore })), device: [...machine.deviceAccesses],
    waiting: [...machine.interrupts],
  };
}

function perform(machine: EngineMachine, { event, seed }: Turn, program: Program): void {
  const random = new Random(seed, 4);
  switch (event) {
    case "interrupt": return machine.interrupt(interruptVector);
    case "nmi": return machine.processor.signalNmi();
    case "patch": {
      const at = program.patchable.length === 0 ? program.start : random.pick(program.patchable);
      machine.physical.writeRange(at, Uint8Array.of(random.next()));
      return;
    }
    case "remap": {
      // The second page of the code moves to a copy of it, and back.
      if (program.bits !== 64) return;
      const page: number = Place.code + pageBytes, copy = 0x3_0000;
      const isHome = (machine.page(page) & ~0xfffn) === BigInt(page);
      machine.physical.writeRange(copy, machine.ram.slice(page, page + pageBytes));
      machine.setPage(page, BigInt(isHome ? copy : page) | 7n);
      machine.processor.memory.flush({ keepGlobal: false });
      return;
    }
    default:
  }
}

export interface Difference {
  readonly turn: number;
  readonly expected: Record<string, unknown>;
  readonly actual: Record<string, unknown>;
}

/** Undefined when both went the same way. */
export function runBoth(expected: EngineMachine, actual: EngineMachine, program: Program, turnList: readonly Turn[], seed: number, cpl: 0 | 3 = 3): Difference | undefined {
  const machines = [expected, actual] as const;
  for (const machine of machines) setUp(machine, program, seed, cpl);
  const before = machines.map(({ processor }) => processor.retired);
  for (const [turn, step] of turnList.entries()) {
    const [a, b] = machines.map((machine, index) => {
      perform(machine, step, program);
      const stop = machine.run(step.budget);
      return { stop, ...snapshot(machine, before[index]) };
    });
    const memory = firstDifference(expected.ram, actual.ram);
    if (!isSame(a, b) || memory >= 0) {
      return { turn, expected: { ...a, memory: memoryAt(expected, memory) }, actual: { ...b, memory: memoryAt(actual, memory) } };
    }
    if (a.stop !== "budget") return undefined;
  }
  return undefined;
}

function isSame(a: unknown, b: unknown): boolean {
  if (typeof a !== "object" || a === null || typeof b !== "object" || b === null) return Object.is(a, b);
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => isSame((a as Record<string, unknown>)[key], (b as Record<string, unknown>)[key]));
}

function firstDifference(a: Uint8Array, b: Uint8Array): number {
  if (Buffer.compare(Buffer.from(a.buffer, a.byteOffset, a.length), Buffer.from(b.buffer, b.byteOffset, b.length)) === 0) return -1;
  return a.findIndex((byte, index) => byte !== b[index]);
}

function memoryAt({ ram }: EngineMachine, at: number): string {
  return at < 0 ? "same" : `${at.toString(16)}: ${Buffer.from(ram.subarray(at, at + 16)).toString("hex")}`;
}

/** Only what differs, for people. */
export function describeDifference({ turn, expected, actual }: Difference, program: Program): string {
  const lines: string[] = [];
  const visit = (path: string, a: unknown, b: unknown): void => {
    if (isSame(a, b)) return;
    if (typeof a !== "object" || a === null || typeof b !== "object" || b === null) {
      const show = (value: unknown): string => typeof value === "bigint" || typeof value === "number" ? `0x${value.toString(16)}` : String(value);
      lines.push(`  ${path}: interpreter ${show(a)}, compiled ${show(b)}`);
      return;
    }
    for (const key of new Set([...Object.keys(a), ...Object.keys(b)])) visit(`${path}.${key}`, (a as Record<string, unknown>)[key], (b as Record<string, unknown>)[key]);
  };
  visit("state", expected, actual);
  const code = Buffer.from(program.bytes).toString("hex");
  return `after turn ${turn} of a program at ${program.start.toString(16)}, blocks at ${program.blocks.map((at) => at.toString(16)).join(" ")}\n${lines.join("\n")}\n${code}`;
}

