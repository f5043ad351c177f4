/** Cases can be made again, run everywhere, and a difference is found in every part of the state. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { InstructionDefinition } from "../../src/isa/definition.ts";
import { encodingFixtures } from "../encoding-fixtures.ts";
import { Comparer } from "./compare.ts";
import { enumerateForms } from "./forms.ts";
import type { Form } from "./forms.ts";
import { CaseGenerator } from "./generate.ts";
import { CaseBatch, Outcome, recordBytes, RecordOffset, ResultBatch } from "./layout.ts";
import type { CodeBits } from "./layout.ts";
import { NativeProcessor } from "./native-processor.ts";
import { selectForms } from "./select.ts";

const definitions = encodingFixtures.map((fixture): InstructionDefinition => ({ ...fixture, execute: () => undefined }));
/** Results that differ from run to run, or that the host's kernel makes up. */
const environmental = /^\d+ (rdtscp?|rdrand|rdseed|cpuid|rdpid|rdpmc|xgetbv|sgdt|sidt|sldt|str|smsw|lsl|vmmcall|vmcall) /;

function makeCases(generator: CaseGenerator, forms: readonly Form[], bits: CodeBits, caseNumber: number): CaseBatch {
  const batch = new CaseBatch(bits, forms.length);
  for (const form of forms) generator.append(form, caseNumber, batch);
  return batch;
}

test("a case depends on seed, form and number only", () => {
  const forms = enumerateForms(definitions, 64);
  const whole = makeCases(new CaseGenerator(7), forms, 64, 3);
  const index = 1000;
  const alone = makeCases(new CaseGenerator(7), [forms[index]], 64, 3);
  const start = index * recordBytes;
  expect(Buffer.compare(alone.bytes, whole.bytes.subarray(start, start + recordBytes))).toBe(0);
  expect(Buffer.compare(makeCases(new CaseGenerator(8), [forms[index]], 64, 3).bytes, alone.bytes)).not.toBe(0);
});

test("keys are unique", () => {
  for (const bits of [16, 32, 64] as const) {
    const keys = enumerateForms(definitions, bits).map(({ key }) => key);
    expect(new Set(keys).size).toBe(keys.length);
  }
});

describe.each([64, 32, 16] as const)("%i-bit code on the host", (bits: CodeBits) => {
  const capacity = 4096;
  let processor: NativeProcessor | undefined;
  let forms: readonly Form[] = [];

  beforeAll(async () => {
    const built = await NativeProcessor.build(bits, capacity);
    if ("skipped" in built) return console.warn(`skipped: ${built.skipped}`);
    processor = built;
    ({ forms } = selectForms(definitions, bits, built.features, undefined));
    forms = forms.filter(({ key }) => !environmental.test(key));
  });
  afterAll(() => processor?.close());

  async function runHost(cases: CaseBatch): Promise<ResultBatch> {
    const results = new ResultBatch(bits, capacity);
    await processor?.run(cases, results);
    return results;
  }

  test("every case runs, most to their end, and runs the same again", async () => {
    if (!processor) return;
    const cases = makeCases(new CaseGenerator(1), forms, bits, 0);
    const first = await runHost(cases);
    const second = await runHost(cases);
    const comparer = new Comparer(bits);
    let completed = 0;
    for (const [index, form] of forms.entries()) {
      expect([Outcome.completed, Outcome.fault], form.key).toContain(first.outcome(index));
      expect(comparer.compare(form, cases, index, first, second).differences, form.key).toEqual([]);
      if (first.outcome(index) === Outcome.completed) completed++;
    }
    expect(completed / forms.length).toBeGreaterThan(0.7);
  });

  test("no part of a result goes unseen", async () => {
    if (!processor) return;
    // A case that ends without a fault: after one, not every part means something.
    let number = 0, cases = makeCases(new CaseGenerator(1), forms.slice(0, 1), bits, number);
    let first = await runHost(cases);
    for (; first.outcome(0) !== Outcome.completed && number < 50; number++) {
      cases = makeCases(new CaseGenerator(1), forms.slice(0, 1), bits, number);
      first = await runHost(cases);
    }
    expect(first.outcome(0)).toBe(Outcome.completed);
    const comparer = new Comparer(bits);
    const { gpr, rflags, fxsave, window, rip } = RecordOffset;
    for (const offset of [0, rip, 16, rflags, 48, gpr, gpr + 7 * 8, fxsave, fxsave + 2, fxsave + 4, fxsave + 24, fxsave + 32, fxsave + 160, window + 1023]) {
      const second = await runHost(cases);
      second.bytes[offset] ^= 0x01;
      const { differences } = comparer.compare(forms[0], cases, 0, first, second);
      expect(differences.length, `offset ${offset}`).toBeGreaterThan(0);
    }
  });
});
