/** Records of instructions whose bytes are known are those that the decoder's results give. */
import fc from "fast-check";
import { expect, test, vi } from "vitest";
import { maximumInstructionBytes } from "../isa/byte-cursor.ts";
import { Decoder } from "../isa/decode.ts";
import { instructions } from "../isa/instructions.ts";
import type { CodeMode } from "./code-cache.ts";
import { RecordPatterns } from "./record-patterns.ts";
import { recordSizeBytes } from "./record.ts";
import { bytesOf, EngineMachine, Place } from "./testing/engine-machine.ts";

const learning = new EngineMachine(), forgetting = new EngineMachine();
const write = vi.spyOn(RecordPatterns.prototype, "write");

/** Length and record of the one instruction at an address. */
function recordAt({ processor, physical }: EngineMachine, address: number, mode: CodeMode): number[] {
  const header = processor.code.find({ physical: address, nextPage: () => -1, bytesToLimit: 0x1_0000 }, mode);
  const first = (header + recordSizeBytes) / 4;
  return [processor.code.blockOf(header)!.lengthBytes, ...physical.words.subarray(first, first + recordSizeBytes / 4)];
}

function expectSameRecord(code: Uint8Array, mode: CodeMode): void {
  const [known, decoded] = [learning, forgetting].map((machine) => {
    machine.physical.writeRange(Place.code, code);
    return recordAt(machine, Place.code, mode);
  });
  expect(known).toEqual(decoded);
  forgetting.processor.code.flush();
}

const long: CodeMode = { code: 64, stack: 64, isRealOrVirtual8086: false, single: true };
const modes: readonly CodeMode[] = [
  long, { ...long, code: 32, stack: 32 }, { ...long, code: 32, stack: 16 }, { ...long, code: 16, stack: 16, isRealOrVirtual8086: true },
];

test("any instruction, after others with the same beginning", () => {
  const byte = fc.integer({ min: 0, max: 255 });
  const prefixes = fc.array(fc.constantFrom(0x66, 0x67, 0xf2, 0xf3, 0x64, 0x2e, 0xf0, 0x41, 0x48, 0x4c), { maxLength: 3 });
  const opcode = fc.oneof(fc.tuple(byte), fc.tuple(fc.constant(0x0f), byte), fc.tuple(fc.constant(0x0f), fc.constantFrom(0x38, 0x3a), byte), fc.tuple(fc.constant(0xc5), byte, byte));
  const rest = fc.array(byte, { minLength: maximumInstructionBytes, maxLength: maximumInstructionBytes });
  fc.assert(fc.property(fc.constantFrom(...modes), prefixes, opcode, rest, rest, fc.integer({ min: 0, max: 6 }), (mode, prefix, bytes, first, second, kept) => {
    for (const last of [first, [...first.slice(0, kept), ...second]]) expectSameRecord(Uint8Array.from([...prefix, ...bytes, ...last]), mode);
  }), { numRuns: 3000 });
  expect(write.mock.calls.length).toBeGreaterThan(1000);
});

test.each([
  ["a displacement from RIP", "488d05 00010000", "488d05 feffffff"],
  ["POP to memory that the stack pointer points at", "8f442408", "8f4424f0"],
  ["64 bits of immediate", "48b8 8877665544332211", "48b8 01020304050607f8"],
  ["32 bits with their sign", "48c7c0 01000000", "48c7c0 00000080"],
  ["8 bits with their sign to 16", "6683c001", "6683c0ff"],
  ["displacement and immediate", "c78380000000 78563412", "c78384ffffff 00000080"],
  ["a branch back", "0f84 00010000", "0f84 00ffffff"],
])("%s", (_, first, second) => {
  expectSameRecord(bytesOf(first), long);
  write.mockClear();
  expectSameRecord(bytesOf(second), long);
  expect(write).toHaveBeenCalledOnce();
});

test("what is known has a bound", () => {
  const patterns = new RecordPatterns();
  const decoder = new Decoder(instructions, { hasFeature: () => true });
  const record = new Uint32Array(recordSizeBytes / 4);
  for (let number = 0; number < 40_000; number++) {
    // Prefixes in any order, before NOP.
    const code = Uint8Array.from({ length: 8 }, (_unused, place) => place === 7 ? 0x90 : [0x66, 0x67, 0x2e, 0x3e, 0x26][Math.floor(number / 5 ** place) % 5]);
    const decoded = decoder.decode(code, 0, 64);
    if (decoded.kind !== "instruction") throw new Error("no instruction");
    patterns.learn(decoded, code, record, 0, false);
    expect(patterns.find(code, 0, code.length, 0)).toBeGreaterThanOrEqual(0);
  }
  expect(patterns.sizeBytes).toBeLessThan(8 << 20);
});
