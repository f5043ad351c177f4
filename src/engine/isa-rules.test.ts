/** Rules that hold for every encoding of every instruction, in every variant that can be decoded. */
import { beforeAll, describe, expect, test } from "vitest";
import { instructions } from "../isa/instructions.ts";
import { Comparer } from "../../tests/differential/compare.ts";
import { enumerateForms, type Form } from "../../tests/differential/forms.ts";
import { CaseGenerator } from "../../tests/differential/generate.ts";
import { CaseBatch, type CodeBits, ResultBatch, Way } from "../../tests/differential/layout.ts";
import { makeProcessors, tierNames } from "../../tests/differential/processors.ts";
import { Decoder } from "../isa/decode.ts";
import { handlerFormOf } from "./code-cache.ts";
import { findFaultAfterCommit } from "./commit-rule.ts";
import { type HandlerForm, handlerName, makeHandler } from "./handler.ts";
import { Interpreter } from "./interpreter.ts";
import { wasm } from "./web-assembly.ts";

const codeSizes: readonly CodeBits[] = [64, 32, 16];
const samplesPerForm = 6;
/** Some forms are made with registers that do not exist: their examples go on until one decodes. */
const samplesAtMost = 60;
const host = { vendor: "AuthenticAMD", names: new Set<string>() };
const decoder = new Decoder(instructions, { hasFeature: () => true, vendor: "amd" });

/** Handler forms of one definition: what random examples of its encodings decode to, on every stack. */
function sampleForms(bits: CodeBits, form: Form, generator: CaseGenerator): Map<string, HandlerForm> {
  const found = new Map<string, HandlerForm>();
  const batch = new CaseBatch(bits, 1);
  for (let sample = 0; sample < samplesPerForm || (found.size === 0 && sample < samplesAtMost); sample++) {
    batch.count = 0;
    generator.append(form, sample, batch);
    const decoded = decoder.decode(batch.instruction(0), 0, bits);
    if (decoded.kind !== "instruction") continue;
    for (const stack of bits === 64 ? [64] as const : [16, 32] as const) {
      const handlerForm = handlerFormOf(decoded, { code: bits, stack });
      found.set(handlerName(handlerForm), handlerForm);
    }
  }
  return found;
}

describe.each(codeSizes)("%i-bit code", (bits) => {
  const forms = enumerateForms(instructions, bits);
  let handlerForms: HandlerForm[] = [];

  beforeAll(() => {
    const generator = new CaseGenerator(1);
    const byDefinition = new Map<object, Map<string, HandlerForm>>();
    for (const form of forms) {
      const known = byDefinition.get(form.definition) ?? new Map<string, HandlerForm>();
      for (const [name, handlerForm] of sampleForms(bits, form, generator)) known.set(name, handlerForm);
      byDefinition.set(form.definition, known);
    }
    handlerForms = [...byDefinition.values()].flatMap((known) => [...known.values()]);
  });

  test("every form has an example that decodes to it", () => {
    const generator = new CaseGenerator(1);
    const missing = forms.filter((form) => sampleForms(bits, form, generator).size === 0).map(({ key }) => key);
    expect(missing).toEqual([]);
  });

  test("records, and commits nothing before the last fault", () => {
    const problems = handlerForms.map((form) => findFaultAfterCommit(makeHandler(form))).filter((problem) => problem !== undefined);
    expect(problems).toEqual([]);
    expect(handlerForms.length).toBeGreaterThan(1000);
  });

  test("compiles to valid WebAssembly", () => {
    const memory = new wasm.Memory({ initial: 16, maximum: 16, shared: true });
    const answer = (): number => 0;
    const makeInterpreter = (): Interpreter => new Interpreter(memory, 0, {
      slowLoad: answer, slowStore: answer, slowCheckWrite: answer, segmentCheck: answer, runRoutine: answer, observe: answer, findBlock: answer, blockIsHot: () => undefined, leaveGuest: () => 0,
    }, () => []);
    const invalid: string[] = [];
    let interpreter = makeInterpreter();
    for (const [index, form] of handlerForms.entries()) {
      // What is compiled lives as long as its interpreter.
      if (index % 2000 === 1999) interpreter = makeInterpreter();
      interpreter.handler(form);
      if (index % 50 !== 49 && index !== handlerForms.length - 1) continue;
      try {
        interpreter.flush();
      } catch (error) {
        invalid.push(`${handlerName(form)} or one of the 50 before: ${String(error)}`);
      }
    }
    expect(invalid).toEqual([]);
  });

  test("interpreter, oracle and compiled code agree", () => {
    const generator = new CaseGenerator(2);
    const comparer = new Comparer(bits);
    const wrong: string[] = [];
    let compiled = 0;
    for (let first = 0; first < forms.length; first += 256) {
      const group = forms.slice(first, first + 256);
      const cases = new CaseBatch(bits, group.length * 2);
      for (const form of group) for (let number = 0; number < 2; number++) generator.append(form, number, cases);
      const results = makeProcessors(bits, host, tierNames).map((processor) => {
        const result = new ResultBatch(bits, cases.count);
        processor.run(cases, result);
        compiled += processor.ways?.filter((way) => way === Way.executed || way === Way.faulted).length ?? 0;
        return result;
      });
      for (let index = 0; index < cases.count; index++) {
        const form = group[index >> 1];
        for (const tier of [1, 2]) {
          const { differences } = comparer.compare(form, cases, index, results[tier], results[0]);
          if (differences.length === 0) continue;
          const bytes = Buffer.from(cases.instruction(index)).toString("hex");
          wrong.push(`${form.key} case ${index & 1} ${bytes}: ${differences.map(({ field, host: other, ours }) => `${field} ${tierNames[tier]} ${other}, interpreter ${ours}`).join(", ")}`);
        }
      }
    }
    expect(wrong).toEqual([]);
    expect(compiled).toBeGreaterThan(forms.length * 2 * 0.8);
  }, 180_000);
});
