/** The differential test itself: makes cases, runs them on the host's processor and on ours, and collects what differs. */
import type { InstructionDefinition } from "../../src/isa/definition.ts";
import { Comparer, describeState } from "./compare.ts";
import type { Difference } from "./compare.ts";
import type { Form } from "./forms.ts";
import { CaseGenerator } from "./generate.ts";
import { CaseBatch, Outcome, recordBytes, RecordOffset, ResultBatch, Way } from "./layout.ts";
import type { CodeBits, ProcessorUnderTest } from "./layout.ts";
import { NativeProcessor } from "./native-processor.ts";
import type { HostFeatures } from "./native-processor.ts";
import type { Skipped } from "./native/build.ts";
import { familyOf, selectForms } from "./select.ts";

export interface DifferentialOptions {
  readonly seed: number;
  /** How many cases in all, at least; every form gets the same number. */
  readonly cases: number;
  /** This case number only. */
  readonly onlyCase: number | undefined;
  readonly codeSizes: readonly CodeBits[];
  /** A form's key, or an expression to find in it. */
  readonly filter: RegExp | string | undefined;
  readonly definitions: readonly InstructionDefinition[];
  /** Makes our processors for a code size and the host's vendor and features. */
  processors(bits: CodeBits, host: HostFeatures): readonly ProcessorUnderTest[];
  progress?(done: number, total: number, mismatches: number): void;
}

export interface Mismatch {
  readonly processor: string;
  readonly form: string;
  readonly caseNumber: number;
  /** The instruction's bytes, hexadecimal. */
  readonly bytes: string;
  readonly codeBits: CodeBits;
  readonly differences: readonly Difference[];
  /** Registers, flags and the like before the instruction, by name. */
  readonly given: Readonly<Record<string, string>>;
  /** Command that runs this case alone. */
  readonly replay: string;
}

export interface FamilyCount {
  readonly name: string;
  forms: number;
  cases: number;
  mismatches: number;
}

export interface DifferentialReport {
  readonly seed: number;
  readonly host: string;
  /** Our processors, and the instructions that each has counted itself. */
  readonly executed: Readonly<Record<string, number>>;
  readonly cases: number;
  readonly mismatchCount: number;
  readonly families: readonly FamilyCount[];
  /** Cases per form. */
  readonly forms: Readonly<Record<string, number>>;
  readonly notRun: readonly { readonly form: string; readonly reason: string }[];
  /** How many cases each rule excused. */
  readonly excused: Readonly<Record<string, number>>;
  /** The first few of each form. */
  readonly mismatches: readonly Mismatch[];
  /** What each of our processors did. */
  readonly tiers: readonly TierCount[];
}

export interface TierCount {
  readonly name: string;
  cases: number;
  mismatches: number;
  /** Of a processor that compiles: in how many cases compiled code did what. */
  readonly ways: Partial<Record<Way, number>>;
  /** Forms of the cases that compiled code did not execute, with their number. */
  readonly notCompiled: Record<string, number>;
}

const batchCapacity = 2048;
/** Forms that one set of our processors runs: what they compile for a form is let go with them. */
const formsPerGroup = 256;
const mismatchesKeptPerForm = 2;

/** Runs the test; `skipped` says why the host's processor cannot be asked. */
export async function runDifferential(options: DifferentialOptions): Promise<DifferentialReport | Skipped> {
  const run = new DifferentialRun(options);
  return run.run();
}

/** What one batch travels in. */
interface Batches {
  readonly cases: CaseBatch;
  readonly host: ResultBatch;
  readonly ours: ResultBatch;
  /** Form and number of each case. */
  readonly owners: { form: Form; caseNumber: number }[];
  readonly comparer: Comparer;
}

class DifferentialRun {
  private readonly options: DifferentialOptions;
  private readonly generator: CaseGenerator;
  private readonly families = new Map<string, FamilyCount>();
  private readonly countByForm = new Map<string, number>();
  private readonly notRun: { form: string; reason: string }[] = [];
  private readonly excused = new Map<string, number>();
  private readonly mismatches: Mismatch[] = [];
  private readonly keptByForm = new Map<string, number>();
  private readonly executed = new Map<string, number>();
  private readonly tiers = new Map<string, TierCount>();
  private mismatchCount = 0;
  private done = 0;
  private total = 0;
  private host = "";

  constructor(options: DifferentialOptions) {
    this.options = options;
    this.generator = new CaseGenerator(options.seed);
  }

  async run(): Promise<DifferentialReport | Skipped> {
    const { codeSizes, definitions, filter, cases, onlyCase } = this.options;
    const natives: NativeProcessor[] = [];
    try {
      for (const bits of codeSizes) {
        const native = await NativeProcessor.build(bits, batchCapacity);
        if ("skipped" in native) return native;
        natives.push(native);
      }
      const selections = natives.map((native) => selectForms(definitions, native.bits, native.features, filter));
      const formCount = selections.reduce((sum, { forms }) => sum + forms.length, 0);
      const casesPerForm = onlyCase === undefined ? Math.ceil(cases / Math.max(formCount, 1)) : 1;
      this.total = casesPerForm * formCount;
      for (const [index, native] of natives.entries()) {
        this.host = native.features.vendor;
        this.notRun.push(...selections[index].notRun.map(({ form, reason }) => ({ form: form.key, reason })));
        await this.runCodeSize(native, selections[index].forms, casesPerForm);
      }
    } finally {
      for (const native of natives) native.close();
    }
    return this.report();
  }

  private async runCodeSize(native: NativeProcessor, forms: readonly Form[], casesPerForm: number): Promise<void> {
    const { bits, features } = native;
    const batches: Batches = {
      cases: new CaseBatch(bits, batchCapacity),
      host: new ResultBatch(bits, batchCapacity),
      ours: new ResultBatch(bits, batchCapacity),
      owners: [],
      comparer: new Comparer(bits),
    };
    const firstCase = this.options.onlyCase ?? 0;
    for (let first = 0; first < forms.length; first += formsPerGroup) {
      const processors = this.options.processors(bits, features);
      for (const form of forms.slice(first, first + formsPerGroup)) {
        this.countForm(form, casesPerForm);
        for (let caseNumber = firstCase; caseNumber < firstCase + casesPerForm; caseNumber++) {
          this.generator.append(form, caseNumber, batches.cases);
          batches.owners.push({ form, caseNumber });
          if (batches.cases.count === batchCapacity) await this.runBatch(native, processors, batches);
        }
      }
      await this.runBatch(native, processors, batches);
    }
  }

  private async runBatch(
    native: NativeProcessor, processors: readonly ProcessorUnderTest[], { cases, host, ours, owners, comparer }: Batches,
  ): Promise<void> {
    if (cases.count === 0) return;
    await native.run(cases, host);
    for (const processor of processors) {
      const before = processor.executed;
      const ways = runOurs(processor, cases, ours);
      this.countExecuted(processor, processor.executed - before, ours);
      const tier = this.tierCount(processor.name);
      tier.cases += cases.count;
      for (const [index, { form, caseNumber }] of owners.entries()) {
        countWay(tier, form, ways[index]);
        const { differences, excused } = comparer.compare(form, cases, index, host, ours);
        for (const rule of excused) this.excused.set(rule, (this.excused.get(rule) ?? 0) + 1);
        if (differences.length > 0) tier.mismatches++;
        if (differences.length > 0) this.addMismatch(processor.name, form, caseNumber, cases, index, differences);
      }
    }
    this.done += cases.count;
    cases.count = 0;
    owners.length = 0;
    this.options.progress?.(this.done, this.total, this.mismatchCount);
  }

  /** What ended must have been executed by the tier that the processor is named after. */
  private countExecuted({ name }: ProcessorUnderTest, executed: number, ours: ResultBatch): void {
    let completed = 0;
    for (let index = 0; index < ours.count; index++) if (ours.outcome(index) === Outcome.completed) completed++;
    if (executed < completed) throw new Error(`${name} counted ${executed} instructions in ${completed} completed cases`);
    this.executed.set(name, (this.executed.get(name) ?? 0) + executed);
  }

  private tierCount(name: string): TierCount {
    const known = this.tiers.get(name);
    if (known) return known;
    const made: TierCount = { name, cases: 0, mismatches: 0, ways: {}, notCompiled: {} };
    this.tiers.set(name, made);
    return made;
  }

  private countForm(form: Form, cases: number): void {
    this.countByForm.set(form.key, cases);
    const family = this.familyCount(form);
    family.forms++;
    family.cases += cases;
  }

  private familyCount(form: Form): FamilyCount {
    const name = familyOf(form);
    const known = this.families.get(name);
    if (known) return known;
    const made: FamilyCount = { name, forms: 0, cases: 0, mismatches: 0 };
    this.families.set(name, made);
    return made;
  }

  private addMismatch(
    processor: string, form: Form, caseNumber: number, batch: CaseBatch, index: number, differences: readonly Difference[],
  ): void {
    this.mismatchCount++;
    this.familyCount(form).mismatches++;
    const kept = this.keptByForm.get(form.key) ?? 0;
    if (kept >= mismatchesKeptPerForm) return;
    this.keptByForm.set(form.key, kept + 1);
    const { seed } = this.options;
    this.mismatches.push({
      processor,
      form: form.key,
      caseNumber,
      codeBits: form.bits,
      bytes: Buffer.from(batch.instruction(index)).toString("hex"),
      differences,
      given: Object.fromEntries(describeState(form.bits, index, batch)),
      replay: `npm run test:differential -- --seed ${seed} --bits ${form.bits} --form '${form.key}' --case ${caseNumber}`,
    });
  }

  private report(): DifferentialReport {
    const { seed } = this.options;
    return {
      seed,
      host: this.host,
      executed: Object.fromEntries(this.executed),
      cases: this.done,
      mismatchCount: this.mismatchCount,
      families: [...this.families.values()],
      forms: Object.fromEntries(this.countByForm),
      notRun: this.notRun,
      excused: Object.fromEntries(this.excused),
      mismatches: this.mismatches,
      tiers: [...this.tiers.values()],
    };
  }
}

function countWay({ ways, notCompiled }: TierCount, { key }: Form, way: Way | undefined): void {
  if (way === undefined) return;
  ways[way] = (ways[way] ?? 0) + 1;
  if (way === Way.handedBack || way === Way.absent) notCompiled[key] = (notCompiled[key] ?? 0) + 1;
}

/**
 * A processor of ours that throws has lost the case, not the test: the batch runs again one by one. Returns what compiled
 * code did in each case, if there is any.
 */
function runOurs(processor: ProcessorUnderTest, batch: CaseBatch, results: ResultBatch): readonly (Way | undefined)[] {
  results.count = batch.count;
  try {
    processor.run(batch, results);
    return processor.ways ?? [];
  } catch {
    const ways: (Way | undefined)[] = [];
    const single = new CaseBatch(batch.bits, 1);
    const singleResult = new ResultBatch(batch.bits, 1);
    for (let index = 0; index < batch.count; index++) {
      const start = index * recordBytes;
      single.bytes.set(batch.bytes.subarray(start, start + recordBytes));
      single.count = 1;
      try {
        processor.run(single, singleResult);
      } catch {
        singleResult.bytes.fill(0);
        singleResult.bytes[RecordOffset.outcome] = Outcome.rejected;
      }
      results.bytes.set(singleResult.bytes, start);
      ways.push(processor.ways?.[0]);
    }
    return ways;
  }
}
