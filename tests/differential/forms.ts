/** Instruction forms: an encoding at one code size, operand size and kind of ModRM operand. The unit that is counted. */
import type { InstructionDefinition } from "../../src/isa/definition.ts";
import { ConditionBit, OpcodeMap, parseEncoding } from "../../src/isa/encoding.ts";
import type { ParsedEncoding } from "../../src/isa/encoding.ts";
import type { CodeBits } from "./layout.ts";

export interface Form {
  /** Unique and stable: `64 add 01 /r Ev,Gv @32 memory`. */
  readonly key: string;
  readonly bits: CodeBits;
  readonly definition: InstructionDefinition;
  readonly encoding: ParsedEncoding;
  readonly operandSize: 16 | 32 | 64;
  /** What ModRM.rm names. */
  readonly rm: "register" | "memory" | "none";
}

/** All forms of the definitions at a code size. */
export function enumerateForms(definitions: readonly InstructionDefinition[], bits: CodeBits): Form[] {
  const forms: Form[] = [];
  for (const definition of definitions) {
    for (const text of new Set(definition.encodings)) {
      const encoding = parseEncoding(text);
      if (encoding.isVex || !existsAt(encoding, bits)) continue;
      for (const operandSize of operandSizes(encoding, bits)) {
        for (const rm of rmKinds(encoding)) {
          const key = `${bits} ${definition.name} ${text} @${operandSize}${rm === "none" ? "" : ` ${rm}`}`;
          forms.push({ key, bits, definition, encoding, operandSize, rm });
        }
      }
    }
  }
  return forms;
}

function existsAt({ conditionMask, conditionValue }: ParsedEncoding, bits: CodeBits): boolean {
  const demands = (bit: number, value: boolean): boolean =>
    (conditionMask & bit) !== 0 && ((conditionValue & bit) !== 0) === value;
  if (demands(ConditionBit.mode64, bits !== 64)) return false;
  if (demands(ConditionBit.w, true) && bits !== 64) return false;
  if (demands(ConditionBit.address64, true) && bits !== 64) return false;
  const wantsAddress16 = demands(ConditionBit.address32, false) && demands(ConditionBit.address64, false);
  return !(wantsAddress16 && bits === 64);
}

function operandSizes(encoding: ParsedEncoding, bits: CodeBits): (16 | 32 | 64)[] {
  const { operandSizeRule, prefix, conditionMask, conditionValue } = encoding;
  if (operandSizeRule === "mode") return [bits === 64 ? 64 : 32];
  const fixedW = (conditionMask & ConditionBit.w) !== 0;
  const wantsW = fixedW && (conditionValue & ConditionBit.w) !== 0;
  let sizes: (16 | 32 | 64)[] = [16, 32, 64];
  // Only an ordinary 66 changes the size; of NP encodings it would make another instruction.
  if (prefix === "NP") sizes = bits === 16 ? [16, 64] : [32, 64];
  if (prefix === "66") sizes = bits === 16 ? [16, 64] : [32, 64];
  if ((prefix !== "any" && !encoding.followsOperandSize) || isByteOnly(encoding)) {
    sizes = wantsW ? [64] : [bits === 16 ? 16 : 32];
  }
  if (bits !== 64) return sizes.filter((size) => size !== 64);
  if (operandSizeRule === "f64") return [64];
  if (operandSizeRule === "d64") return prefix === "any" ? [16, 64] : [64];
  if (fixedW) sizes = sizes.filter((size) => (size === 64) === wantsW);
  return sizes;
}

/** Neither the prefix nor REX.W means anything to instructions on bytes alone. */
function isByteOnly({ operands, map }: ParsedEncoding): boolean {
  return map === OpcodeMap.oneByte && operands.length > 0 && operands.every((operand) => operand.widths[1] === 8);
}

function rmKinds(encoding: ParsedEncoding): Form["rm"][] {
  if (!encoding.hasModrm) return ["none"];
  if (encoding.ignoresMod) return ["register"];
  const kinds: Form["rm"][] = [];
  if (encoding.allowsRegister) kinds.push("register");
  if (encoding.allowsMemory) kinds.push("memory");
  return kinds;
}
