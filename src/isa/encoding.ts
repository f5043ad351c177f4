/**
 * Encoding strings such as `"81 /2 iz Ev,Iz"`: the notation of the instruction pages of the Intel SDM (volume 2,
 * "Interpreting the Instruction Reference Pages") with the operand codes of its opcode maps (appendix A.2).
 *
 *     [NP|NFx|66|F3|F2] [attributes] opcode-bytes[+r|+i] [/r|/0…/7] [ib|iw|id|iq|iz|iv|cb|cz|cp|is4 …] [operands]
 *     VEX.{128|256|LIG|LZ}.{NP|66|F3|F2}.{0F|0F38|0F3A}[.W0|.W1|.WIG] opcode-byte …
 *
 * Without a prefix word 66, F3 and F2 are ordinary prefixes; `NP` forbids them all, `NFx` F3 and F2. Attributes: `REX.W`/`W1`, `W0`; `i64` (not in 64-bit
 * mode), `o64` (only there), `d64` (operand size 64 by default there), `f64` (always 64 there), `a16`/`a32`/`a64`
 * (address size), `mod3`/`mem` (ModRM names a register, or memory). A byte after the opcode is a fixed ModRM byte.
 */
import { invariant } from "../base/errors.ts";
import { parseOperand } from "./operand-template.ts";
import type { OperandTemplate } from "./operand-template.ts";

/** What the 66, F3 and F2 prefixes mean to an encoding: `any` leaves them their ordinary meaning. */
export type MandatoryPrefix = "any" | "NFx" | "NP" | "66" | "F3" | "F2";

/** How the effective operand size in 64-bit mode comes about; `mode` is 64 there and 32 elsewhere (MOV CR, MOV DR). */
export type OperandSizeRule = "default" | "d64" | "f64" | "mode";

/** Opcode maps; the number is also the row in the decode table. */
export const OpcodeMap = { oneByte: 0, "0F": 1, "0F38": 2, "0F3A": 3, vex0F: 4, vex0F38: 5, vex0F3A: 6 } as const;

/** Bits of the state that an encoding's `condition` tests. */
export const ConditionBit = { mode64: 1, w: 2, vexL: 4, address32: 8, address64: 16, rexB: 32 } as const;

/** One encoding string, taken apart. */
export interface ParsedEncoding {
  readonly text: string;
  readonly map: number;
  readonly opcode: number;
  /** The low three opcode bits name a register (`+r`). */
  readonly hasOpcodeRegister: boolean;
  readonly prefix: MandatoryPrefix;
  readonly isVex: boolean;
  readonly hasModrm: boolean;
  /** Required ModRM.reg (`/0` to `/7`), or undefined. */
  readonly modrmReg: number | undefined;
  /** Required ModRM byte, with 8 consecutive values when `hasModrmIndex` (`+i`), or undefined. */
  readonly modrmByte: number | undefined;
  readonly hasModrmIndex: boolean;
  readonly allowsRegister: boolean;
  readonly allowsMemory: boolean;
  /** ModRM.mod is ignored and taken for 3: moves to and from control and debug registers. */
  readonly ignoresMod: boolean;
  /** Matches when `(state & conditionMask) === conditionValue`, in `ConditionBit`s. */
  readonly conditionMask: number;
  readonly conditionValue: number;
  readonly operandSizeRule: OperandSizeRule;
  readonly operands: readonly OperandTemplate[];
  /** The operand that ModRM.rm names, if any. */
  readonly rmOperand: OperandTemplate | undefined;
  /** Whether an operand comes from VEX.vvvv; if not, vvvv must be 1111b. */
  readonly usesVvvv: boolean;
  /** ModRM.rm names a far pointer in memory (`Mp`). */
  readonly hasFarPointer: boolean;
  /** Whether any operand's width follows the effective operand size. */
  readonly followsOperandSize: boolean;
}

interface Draft {
  prefix: MandatoryPrefix;
  isVex: boolean;
  vexMap: number;
  vexLength: number;
  conditionMask: number;
  conditionValue: number;
  operandSizeRule: OperandSizeRule;
  bytes: number[];
  plus: "" | "r" | "i";
  hasModrm: boolean;
  modrmReg: number | undefined;
  mod: "any" | "register" | "memory";
  immediates: string[];
}

const immediateTokens: ReadonlySet<string> = new Set(["ib", "iw", "id", "iq", "iz", "iv", "cb", "cz", "cp", "is4"]);

/** Parses one encoding; a malformed one is our own mistake and throws. */
export function parseEncoding(text: string): ParsedEncoding {
  const draft: Draft = {
    prefix: "any", isVex: false, vexMap: 0, vexLength: 0, conditionMask: 0, conditionValue: 0,
    operandSizeRule: "default", bytes: [], plus: "", hasModrm: false, modrmReg: undefined, mod: "any", immediates: [],
  };
  const tokens = text.trim().split(/\s+/);
  let operandText = "";
  for (const [index, token] of tokens.entries()) {
    if (parsePrefixWord(draft, token) || parseAttribute(draft, token) || parseOpcodeToken(draft, token)) continue;
    invariant(index === tokens.length - 1, `encoding "${text}": "${token}" is not part of the notation`);
    operandText = token;
  }
  return assemble(text, draft, operandText);
}

function parsePrefixWord(draft: Draft, token: string): boolean {
  if (draft.bytes.length > 0 || draft.prefix !== "any") return false;
  if (token === "NP" || token === "NFx" || token === "66" || token === "F3" || token === "F2") {
    draft.prefix = token;
    return true;
  }
  const vex = /^VEX\.(128|256|LIG|LZ)\.(NP|66|F3|F2)\.(0F|0F38|0F3A)(?:\.(W0|W1|WIG))?$/.exec(token);
  if (!vex) return false;
  draft.isVex = true;
  draft.prefix = vex[2] as MandatoryPrefix;
  draft.vexMap = OpcodeMap[`vex${vex[3] as "0F" | "0F38" | "0F3A"}`];
  draft.vexLength = vex[1] === "256" ? 256 : 128;
  if (vex[1] !== "LIG") require(draft, ConditionBit.vexL, vex[1] === "256" ? ConditionBit.vexL : 0);
  if (vex[4] === "W0") require(draft, ConditionBit.w, 0);
  if (vex[4] === "W1") require(draft, ConditionBit.w, ConditionBit.w);
  return true;
}

function require(draft: Draft, mask: number, value: number): void {
  draft.conditionMask |= mask;
  draft.conditionValue |= value;
}

function parseAttribute(draft: Draft, token: string): boolean {
  const addressMask = ConditionBit.address32 | ConditionBit.address64;
  switch (token) {
    case "REX.W":
    case "W1":
      require(draft, ConditionBit.w, ConditionBit.w);
      return true;
    case "W0":
      require(draft, ConditionBit.w, 0);
      return true;
    case "i64":
      require(draft, ConditionBit.mode64, 0);
      return true;
    case "o64":
      require(draft, ConditionBit.mode64, ConditionBit.mode64);
      return true;
    case "d64":
    case "f64":
      draft.operandSizeRule = token;
      return true;
    case "a16":
      require(draft, addressMask, 0);
      return true;
    case "a32":
      require(draft, addressMask, ConditionBit.address32);
      return true;
    case "a64":
      require(draft, addressMask, ConditionBit.address64);
      return true;
    case "mod3":
      draft.mod = "register";
      return true;
    case "mem":
      draft.mod = "memory";
      return true;
    default:
      return false;
  }
}

function parseOpcodeToken(draft: Draft, token: string): boolean {
  const byte = /^([0-9A-F]{2})(?:\+([ri]))?$/.exec(token);
  if (byte && !draft.hasModrm && draft.plus === "") {
    draft.bytes.push(Number.parseInt(byte[1], 16));
    draft.plus = (byte[2] ?? "") as Draft["plus"];
    return true;
  }
  if (token === "+r" || token === "+i") {
    draft.plus = token[1] as Draft["plus"];
    return true;
  }
  if (/^\/[0-7r]$/.test(token)) {
    draft.hasModrm = true;
    if (token !== "/r") draft.modrmReg = Number(token[1]);
    return true;
  }
  const immediate = token.startsWith("/") ? token.slice(1) : token;
  if (!immediateTokens.has(immediate)) return false;
  draft.immediates.push(immediate);
  return true;
}

function assemble(text: string, draft: Draft, operandText: string): ParsedEncoding {
  const bytes = [...draft.bytes];
  let map: number = draft.isVex ? draft.vexMap : OpcodeMap.oneByte;
  if (!draft.isVex && bytes[0] === 0x0f) {
    const [, second] = bytes;
    if (second === 0x38) map = OpcodeMap["0F38"];
    else if (second === 0x3a) map = OpcodeMap["0F3A"];
    else map = OpcodeMap["0F"];
    bytes.splice(0, map === OpcodeMap["0F"] ? 1 : 2);
  }
  invariant(bytes.length === 1 || bytes.length === 2, `encoding "${text}": wants one opcode byte in its map`);
  const [opcode, modrmByte] = bytes;
  invariant(modrmByte === undefined || modrmByte >= 0xc0, `encoding "${text}": a fixed ModRM byte has mod 3`);
  invariant((draft.plus !== "i") || modrmByte !== undefined, `encoding "${text}": +i needs a fixed ModRM byte`);

  const operands = operandText === "" ? [] : operandText.split(",").map((code) => parseOperand(code, draft.vexLength));
  const hasModrm = draft.hasModrm || modrmByte !== undefined;
  checkOperands(text, draft, operands, hasModrm);
  const rmOperand = operands.find((operand) => operand.source === "modrmRm");
  const ignoresMod = operands.some((operand) => operand.file === "control" || operand.file === "debug");
  const isRegisterOnly = modrmByte !== undefined || draft.mod === "register" || rmOperand?.allowsMemory === false;
  const isMemoryOnly = draft.mod === "memory" || rmOperand?.allowsRegister === false;
  invariant(!(isRegisterOnly && isMemoryOnly), `encoding "${text}": both memory and a register demanded`);
  return {
    text, map, opcode, modrmByte, hasModrm, ignoresMod, operands, rmOperand,
    hasOpcodeRegister: draft.plus === "r",
    hasModrmIndex: draft.plus === "i",
    prefix: draft.prefix,
    isVex: draft.isVex,
    modrmReg: draft.modrmReg,
    allowsRegister: !isMemoryOnly,
    allowsMemory: !isRegisterOnly || ignoresMod,
    conditionMask: draft.conditionMask,
    conditionValue: draft.conditionValue,
    operandSizeRule: ignoresMod ? "mode" : draft.operandSizeRule,
    usesVvvv: operands.some((operand) => operand.source === "vvvv"),
    hasFarPointer: rmOperand?.code === "Mp",
    followsOperandSize: operands.some((operand) => operand.followsOperandSize),
  };
}

function checkOperands(text: string, draft: Draft, operands: readonly OperandTemplate[], hasModrm: boolean): void {
  for (const { source, code } of operands) {
    const needsModrm = source === "modrmRm" || source === "modrmReg";
    invariant(!needsModrm || hasModrm, `encoding "${text}": ${code} needs /r, /0 to /7 or a fixed ModRM byte`);
    invariant(source !== "opcode" || draft.plus === "r", `encoding "${text}": ${code} needs +r`);
    invariant(source !== "vvvv" || draft.isVex, `encoding "${text}": ${code} needs VEX`);
  }
  const wanted = operands.map((operand) => operand.immediateToken).filter((token) => token !== "");
  const given = draft.immediates;
  const isSame = wanted.length === given.length && wanted.every((token, index) => token === given[index]);
  invariant(isSame, `encoding "${text}": the operands take [${wanted.join(" ")}] but it says [${given.join(" ")}]`);
}
