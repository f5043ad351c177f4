/** The native runner reports what the manual says of instructions whose outcome is beyond doubt. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CaseBatch, CaseFlag, MemoryMap, Outcome, recordBytes, RecordOffset, ResultBatch, WindowPlace } from "./layout.ts";
import type { CodeBits } from "./layout.ts";
import { NativeProcessor } from "./native-processor.ts";

interface Given {
  readonly bytes: readonly number[];
  readonly gpr?: Readonly<Record<number, number>>;
  readonly rflags?: number;
  readonly codeOffset?: number;
  readonly windowAddress?: number;
  readonly caseFlags?: number;
  readonly fcw?: number;
  readonly fsw?: number;
  readonly mxcsr?: number;
}

function append(batch: CaseBatch, given: Given): void {
  const start = batch.count++ * recordBytes;
  const { bytes, view, words } = batch;
  bytes.fill(0, start, start + recordBytes);
  bytes[start + RecordOffset.lengthBytes] = given.bytes.length;
  bytes[start + RecordOffset.caseFlags] = given.caseFlags ?? 0;
  bytes.set(given.bytes, start + RecordOffset.instruction);
  view.setUint16(start + RecordOffset.codeOffset, given.codeOffset ?? 0x100, true);
  view.setUint32(start + RecordOffset.windowAddress, given.windowAddress ?? WindowPlace.startOfA, true);
  words[(start + RecordOffset.rflags) / 8] = BigInt(given.rflags ?? 0x202);
  for (const [register, value] of Object.entries(given.gpr ?? {})) {
    words[(start + RecordOffset.gpr) / 8 + Number(register)] = BigInt(value);
  }
  view.setUint16(start + RecordOffset.fxsave, given.fcw ?? 0x37f, true);
  view.setUint16(start + RecordOffset.fxsave + 2, given.fsw ?? 0, true);
  view.setUint32(start + RecordOffset.fxsave + 24, given.mxcsr ?? 0x1f80, true);
}

const { codePage, dataA, readOnly, guardLow, unmapped } = MemoryMap;
const entry = codePage + 0x100;

describe.each([64, 32] as const)("%i-bit code", (bits: CodeBits) => {
  let processor: NativeProcessor | undefined;
  const batch = new CaseBatch(bits, 4);
  const results = new ResultBatch(bits, 4);

  beforeAll(async () => {
    const built = await NativeProcessor.build(bits, 4);
    if ("skipped" in built) console.warn(`skipped: ${built.skipped}`);
    else processor = built;
  });
  afterAll(() => processor?.close());

  async function run(given: Given): Promise<Record<string, unknown> | undefined> {
    if (!processor) return undefined;
    batch.count = 0;
    append(batch, given);
    await processor.run(batch, results);
    const outcome = results.outcome(0);
    const { rip, cr2 } = { rip: Number(results.rip(0)), cr2: Number(results.cr2(0)) };
    if (outcome !== Outcome.fault) return { outcome, rip };
    return { vector: results.vector(0), error: results.errorCode(0), rip, ...(cr2 === 0 ? {} : { cr2 }) };
  }

  test.for<[string, Given, Record<string, number>]>([
    ["nop", { bytes: [0x90] }, { outcome: Outcome.completed, rip: entry + 1 }],
    ["nop left by a trap", { bytes: [0x90], caseFlags: CaseFlag.exitByTrap }, { outcome: Outcome.completed, rip: entry + 1 }],
    ["jmp", { bytes: [0xeb, 0x70] }, { outcome: Outcome.completed, rip: entry + 0x72 }],
    ["jmp to nowhere", { bytes: [0xff, 0xe0], gpr: { 0: unmapped } }, { outcome: Outcome.completed, rip: unmapped }],
    ["ud2", { bytes: [0x0f, 0x0b] }, { vector: 6, error: 0, rip: entry }],
    ["div by zero", { bytes: [0xf7, 0xf1] }, { vector: 0, error: 0, rip: entry }],
    ["hlt", { bytes: [0xf4] }, { vector: 13, error: 0, rip: entry }],
    ["int3", { bytes: [0xcc] }, { vector: 3, error: 0, rip: entry + 1 }],
    ["int 0x20", { bytes: [0xcd, 0x20] }, { vector: 13, error: 0x102, rip: entry }],
    ["load below the window", { bytes: [0x8b, 0x01], gpr: { 1: dataA - 2 } }, { vector: 14, error: 4, rip: entry, cr2: dataA - 2 }],
    [
      "store into the read-only page", { bytes: [0x89, 0x01], gpr: { 1: readOnly - 2 }, windowAddress: WindowPlace.endOfA },
      { vector: 14, error: 7, rip: entry, cr2: readOnly },
    ],
    ["fetch past the page", { bytes: [0x01, 0xc8], codeOffset: 4095 }, { vector: 14, error: 0x14, rip: codePage + 4095, cr2: codePage + 4096 }],
    ["end of the page", { bytes: [0x01, 0xc8], codeOffset: 4094 }, { outcome: Outcome.completed, rip: codePage + 4096 }],
    ["unaligned movaps", { bytes: [0x0f, 0x28, 0x01], gpr: { 1: dataA + 1 } }, { vector: 13, error: 0, rip: entry }],
    ["alignment check", { bytes: [0x8b, 0x01], gpr: { 1: dataA + 1 }, rflags: 0x4_0202 }, { vector: 17, error: 0, rip: entry }],
    ["pending x87 exception", { bytes: [0x9b], fcw: 0x37e, fsw: 0x8081 }, { vector: 16, error: 0, rip: entry }],
    ["SSE division by zero", { bytes: [0x0f, 0x5e, 0xc1], mxcsr: 0 }, { vector: 19, error: 0, rip: entry }],
    ["endless loop", { bytes: [0xeb, 0xfe] }, { outcome: Outcome.timeout, rip: entry }],
  ])("%s", async ([, given, expected]) => {
    const found = await run(given);
    if (found) expect(found).toEqual(expected);
  });

  test("registers, flags and memory", async () => {
    if (!processor) return;
    batch.count = 0;
    append(batch, { bytes: [0x01, 0x01], gpr: { 0: 5, 1: dataA + 8 } });
    batch.window(0)[8] = 0xfb;
    await processor.run(batch, results);
    expect(results.window(0)[8]).toBe(0);
    expect(results.window(0)[9]).toBe(1);
    expect(results.gpr(0, 1)).toBe(BigInt(dataA + 8));
    expect(results.rflags(0) & 0x8d5n).toBe(0x14n);
  });

  test("a store outside of the window is told and undone", async () => {
    if (!processor) return;
    batch.count = 0;
    append(batch, { bytes: [0xc6, 0x01, 0x55], gpr: { 1: dataA + 0x800 } });
    append(batch, { bytes: [0x90] });
    await processor.run(batch, results);
    expect([results.resultFlags(0), results.resultFlags(1)]).toEqual([1, 0]);
  });

  test("memory below the pages is not accessible", async () => {
    expect((await run({ bytes: [0x8b, 0x01], gpr: { 1: guardLow } }))?.["vector"] ?? 14).toBe(14);
  });
});
