/** Asks our decoder for every form of the independent list, and the differential test's record for what was compared. */
import type { EncodedInstruction } from "../../src/isa/decode-table.ts";
import { Decoder } from "../../src/isa/decode.ts";
import { mnemonicOf } from "../../src/isa/disassemble.ts";
import { enumerateIsaForms, isaLevels } from "./isa-levels.ts";
import type { IsaForm, Mode } from "./isa-levels.ts";

/** A definition as far as this measurement goes. */
export interface MeasuredInstruction extends EncodedInstruction {
  readonly notDifferential?: string;
}

export interface LevelCoverage {
  readonly name: string;
  readonly isOffered: boolean;
  readonly forms: number;
  /** Forms that decode in all their modes to an instruction of the same name. */
  readonly defined: number;
  /** Forms of which some case was compared with a processor. */
  readonly tested: number;
  /** Forms whose definition says why they are not compared. */
  readonly notTestable: number;
  /** Forms with the modes in which they are missing. */
  readonly missing: readonly string[];
  /** Defined forms that could be compared with a processor and were not. */
  readonly untested: readonly string[];
}

/** iced's name for ours, where several of its mnemonics are one instruction. */
const aliases: ReadonlyMap<string, string> = new Map([
  ["reservednop", "nop"], ["sysretq", "sysret"], ["sysexitq", "sysexit"], ["pcmpestri64", "pcmpestri"], ["pcmpestrm64", "pcmpestrm"],
  ["sal", "shl"],
]);

interface FormCoverage {
  readonly missingModes: readonly Mode[];
  readonly isTested: boolean;
  readonly isTestable: boolean;
}

/** `recorded`: cases per form key of the differential test. */
export function measureCoverage(
  instructions: readonly MeasuredInstruction[], recorded: Readonly<Record<string, number>>,
): LevelCoverage[] {
  const decoder = new Decoder(instructions, { hasFeature: () => true });
  const tested = new Set(Object.keys(recorded).filter((key) => recorded[key] > 0).map(withoutOperands));
  const forms = enumerateIsaForms();
  return isaLevels.map(({ name, isOffered }) => {
    const ofLevel = forms.filter(({ level }) => level === name);
    const covered = isOffered ? ofLevel.map((form) => ({ form, ...coverageOf(form, decoder, tested) })) : [];
    const isDefined = ({ missingModes }: FormCoverage): boolean => missingModes.length === 0;
    return {
      name,
      isOffered,
      forms: ofLevel.length,
      defined: covered.filter(isDefined).length,
      tested: covered.filter(({ isTested }) => isTested).length,
      notTestable: covered.filter(({ isTested, isTestable }) => !isTested && !isTestable).length,
      missing: covered
        .filter((coverage) => !isDefined(coverage))
        .map(({ form, missingModes }) => `${form.name} (${missingModes.join("/")}-bit)`),
      untested: covered
        .filter((coverage) => isDefined(coverage) && !coverage.isTested && coverage.isTestable)
        .map(({ form }) => form.name),
    };
  });
}

/** A form's key up to its encoding: code size, name, encoding. */
function withoutOperands(key: string): string {
  return key.replace(/ @\d+( register| memory)?$/, "");
}

function isNamed(ours: string, theirs: string): boolean {
  return ours === theirs || ours === aliases.get(theirs);
}

function coverageOf(
  { mnemonic, samples }: IsaForm, decoder: Decoder<MeasuredInstruction>, tested: ReadonlySet<string>,
): FormCoverage {
  const missingModes: Mode[] = [];
  let isTested = false;
  let isTestable = false;
  for (const [mode, modeSamples] of samples) {
    for (const bytes of modeSamples) {
      const decoded = decoder.decode(bytes, 0, mode);
      if (decoded.kind !== "instruction" || decoded.length !== bytes.length || !isNamed(mnemonicOf(decoded), mnemonic)) {
        if (!missingModes.includes(mode)) missingModes.push(mode);
        continue;
      }
      const { instruction, encoding } = decoded;
      if (instruction.notDifferential === undefined) isTestable = true;
      if (tested.has(`${mode} ${instruction.name} ${encoding.text}`)) isTested = true;
    }
  }
  if (samples.size === 0) missingModes.push(16, 32, 64);
  return { missingModes, isTested, isTestable };
}
