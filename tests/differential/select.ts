/** Which forms run on the host, and why the others do not. */
import type { InstructionDefinition } from "../../src/isa/definition.ts";
import { OpcodeMap } from "../../src/isa/encoding.ts";
import { enumerateForms } from "./forms.ts";
import type { Form } from "./forms.ts";
import type { CodeBits } from "./layout.ts";
import type { HostFeatures } from "./native-processor.ts";

export interface FormNotRun {
  readonly form: Form;
  readonly reason: string;
}

export interface Selection {
  readonly forms: readonly Form[];
  readonly notRun: readonly FormNotRun[];
}

/** Opcodes that would leave the test for the host's kernel, or that its hypervisor is known to answer itself. */
const hostOwned: readonly { readonly map: number; readonly opcode: number; readonly reason: string }[] = [
  { map: OpcodeMap["0F"], opcode: 0x05, reason: "a system call of the host" },
  { map: OpcodeMap["0F"], opcode: 0x34, reason: "a system call of the host" },
  { map: OpcodeMap.oneByte, opcode: 0xf1, reason: "hypervisors report the #DB of INT1 with different instruction pointers" },
];

/** All forms at a code size, sorted into those that run and those that do not. `filter`: the form's key, or a part. */
export function selectForms(
  definitions: readonly InstructionDefinition[], bits: CodeBits, host: HostFeatures, filter: RegExp | string | undefined,
): Selection {
  const forms: Form[] = [];
  const notRun: FormNotRun[] = [];
  for (const form of enumerateForms(definitions, bits)) {
    if (typeof filter === "string" ? form.key !== filter : filter && !filter.test(form.key)) continue;
    const reason = reasonNotToRun(form, host);
    if (reason === undefined) forms.push(form);
    else notRun.push({ form, reason });
  }
  return { forms, notRun };
}

function reasonNotToRun({ definition, encoding }: Form, host: HostFeatures): string | undefined {
  if (definition.notDifferential !== undefined) return definition.notDifferential;
  if (definition.feature !== undefined && !host.names.has(definition.feature)) return `the host lacks ${definition.feature}`;
  return hostOwned.find(({ map, opcode }) => map === encoding.map && opcode === encoding.opcode)?.reason;
}

/** The part of the instruction set that a form belongs to, for the summary. */
export function familyOf({ definition, encoding }: Form): string {
  const { map, opcode, operands } = encoding;
  if (map === OpcodeMap.oneByte && ((opcode >= 0xd8 && opcode <= 0xdf) || opcode === 0x9b)) return "x87";
  if (definition.feature !== undefined && !baseFeatures.has(definition.feature)) return definition.feature;
  if (operands.some(({ file }) => file === "xmm")) return "sse";
  if (operands.some(({ file }) => file === "mmx")) return "mmx";
  if (operands.some(({ file }) => file === "segment" || file === "control" || file === "debug")) return "system";
  return "integer";
}

const baseFeatures: ReadonlySet<string> = new Set(["fpu", "mmx", "sse", "sse2", "fxsr", "cmov", "cx8", "lm", "tsc", "msr"]);
