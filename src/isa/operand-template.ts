/**
 * Operand codes of the Intel SDM's opcode maps (volume 2, appendix A.2): an addressing letter (`E`, `G`, `V` …) and a
 * size (`b`, `v`, `dq` …), and the codes we add to them: `Ibs` (imm8 sign-extended to the operand size), `Zv` (the
 * register in the opcode's low bits), `Rd/Mb` (register form / memory form), `Mfsave` and the like (areas).
 */
import { invariant } from "../base/errors.ts";
import type { RegisterFile } from "./registers.ts";

/** Where an operand's value or name comes from. */
export type OperandSource =
  | "modrmReg"
  | "modrmRm"
  | "opcode"
  | "vvvv"
  | "immediateRegister"
  | "fixed"
  | "constant"
  | "immediate"
  | "relative"
  | "far"
  | "offset"
  | "stringSource"
  | "stringDestination";

/** Widths in bits at operand size 16, 32, 64 outside of 64-bit mode, then inside; see `widthIndex`. */
export type Widths = readonly [number, number, number, number, number, number];

/** How many bits of immediate are in the instruction, at operand size 16, 32, 64, and whether the sign extends. */
export interface ImmediateForm {
  readonly storedBits: readonly [number, number, number];
  readonly isSigned: boolean;
}

/** One operand of an encoding, before the bytes are known. */
export interface OperandTemplate {
  readonly code: string;
  readonly source: OperandSource;
  /** The register file of its register form; "gpr" where it has none. */
  readonly file: RegisterFile;
  /** The register number of `fixed`, the value of `constant`. */
  readonly fixedNumber: number;
  readonly isHighByte: boolean;
  readonly widths: Widths;
  /** Widths of the memory form; differs from `widths` only in codes such as `Rd/Mb`. */
  readonly memoryWidths: Widths;
  readonly allowsRegister: boolean;
  readonly allowsMemory: boolean;
  readonly immediate: ImmediateForm;
  /** The word that must stand for it in the encoding string (`ib`, `cz` …), or "". */
  readonly immediateToken: string;
  readonly followsOperandSize: boolean;
}

/** Index into `Widths`. */
export function widthIndex(operandSize: 16 | 32 | 64, isMode64: boolean): number {
  return (operandSize >> 5) + (isMode64 ? 3 : 0);
}

function fixed(widthBits: number): Widths {
  return [widthBits, widthBits, widthBits, widthBits, widthBits, widthBits];
}

function byOperandSize(at16: number, at32: number, at64: number): Widths {
  return [at16, at32, at64, at16, at32, at64];
}

const wordWidths: Widths = byOperandSize(16, 32, 64);
const zWidths: Widths = byOperandSize(16, 32, 32);
const yWidths: Widths = byOperandSize(32, 32, 64);

const sizes: Readonly<Record<string, Widths>> = {
  "": fixed(0),
  b: fixed(8), w: fixed(16), d: fixed(32), q: fixed(64), t: fixed(80), dq: fixed(128), qq: fixed(256),
  v: wordWidths, z: zWidths, y: yWidths, "d/q": yWidths,
  /** Far pointers: m16:16, m16:32, m16:64. */
  p: byOperandSize(32, 48, 80),
  /** BOUND: a pair of the operand size. */
  a: byOperandSize(32, 64, 64),
  /** Pseudo-descriptor: limit and base. */
  s: [48, 48, 48, 80, 80, 80],
  ss: fixed(32), sd: fixed(64), si: fixed(32), pi: fixed(64),
  fenv: byOperandSize(14 * 8, 28 * 8, 28 * 8),
  fsave: byOperandSize(94 * 8, 108 * 8, 108 * 8),
  fxsave: fixed(512 * 8),
  /** XSAVE areas: as long as the state components asked for. */
  xsave: fixed(0),
};

/** Sizes that are a whole vector register: 128 bits, or 256 under VEX.256. */
const vectorSizes: ReadonlySet<string> = new Set(["x", "ps", "pd"]);

const followingSizes: ReadonlySet<string> = new Set(["v", "z", "y", "d/q", "p", "a", "fenv", "fsave"]);

const noImmediate: ImmediateForm = { storedBits: [0, 0, 0], isSigned: false };

const registerLetters: Readonly<Record<string, { source: OperandSource; file: RegisterFile; forms: "R" | "M" | "RM" }>> = {
  E: { source: "modrmRm", file: "gpr", forms: "RM" },
  R: { source: "modrmRm", file: "gpr", forms: "R" },
  M: { source: "modrmRm", file: "gpr", forms: "M" },
  G: { source: "modrmReg", file: "gpr", forms: "R" },
  B: { source: "vvvv", file: "gpr", forms: "R" },
  Z: { source: "opcode", file: "gpr", forms: "R" },
  S: { source: "modrmReg", file: "segment", forms: "R" },
  C: { source: "modrmReg", file: "control", forms: "R" },
  D: { source: "modrmReg", file: "debug", forms: "R" },
  P: { source: "modrmReg", file: "mmx", forms: "R" },
  Q: { source: "modrmRm", file: "mmx", forms: "RM" },
  N: { source: "modrmRm", file: "mmx", forms: "R" },
  V: { source: "modrmReg", file: "xmm", forms: "R" },
  W: { source: "modrmRm", file: "xmm", forms: "RM" },
  U: { source: "modrmRm", file: "xmm", forms: "R" },
  H: { source: "vvvv", file: "xmm", forms: "R" },
  L: { source: "immediateRegister", file: "xmm", forms: "R" },
  O: { source: "offset", file: "gpr", forms: "M" },
  X: { source: "stringSource", file: "gpr", forms: "M" },
  Y: { source: "stringDestination", file: "gpr", forms: "M" },
};

interface Immediate {
  readonly token: string;
  readonly source: OperandSource;
  readonly widths: Widths;
  readonly form: ImmediateForm;
  readonly followsOperandSize: boolean;
}

const immediates: Readonly<Record<string, Immediate>> = {
  Ib: immediate("ib", "immediate", fixed(8), [8, 8, 8], false),
  Ibs: immediate("ib", "immediate", wordWidths, [8, 8, 8], true),
  Iw: immediate("iw", "immediate", fixed(16), [16, 16, 16], false),
  Id: immediate("id", "immediate", fixed(32), [32, 32, 32], false),
  Iq: immediate("iq", "immediate", fixed(64), [64, 64, 64], false),
  Iz: immediate("iz", "immediate", wordWidths, [16, 32, 32], true),
  Iv: immediate("iv", "immediate", wordWidths, [16, 32, 64], false),
  Jb: immediate("cb", "relative", wordWidths, [8, 8, 8], true),
  Jz: immediate("cz", "relative", wordWidths, [16, 32, 32], true),
  Ap: immediate("cp", "far", zWidths, [16, 32, 32], false),
};

function immediate(
  token: string, source: OperandSource, widths: Widths, storedBits: readonly [number, number, number], isSigned: boolean,
): Immediate {
  return { token, source, widths, form: { storedBits, isSigned }, followsOperandSize: widths[0] !== widths[1] };
}

const segments: readonly string[] = ["ES", "CS", "SS", "DS", "FS", "GS"];
const bytes: readonly string[] = ["AL", "CL", "DL", "BL"];
const highBytes: readonly string[] = ["AH", "CH", "DH", "BH"];
const words: readonly string[] = ["AX", "CX", "DX", "BX", "SP", "BP", "SI", "DI"];

/** Parses one operand code; `vexLength` is 256 where vector sizes mean a YMM register. */
export function parseOperand(code: string, vexLength: number): OperandTemplate {
  const mixed = /^([RNUVE][a-z]*)\/(M[a-z]*)$/.exec(code);
  if (mixed) {
    const register = parseOperand(mixed[1], vexLength);
    const memory = parseOperand(mixed[2], vexLength);
    return {
      ...register, code, memoryWidths: memory.widths, allowsRegister: true, allowsMemory: true,
      followsOperandSize: register.followsOperandSize || memory.followsOperandSize,
    };
  }
  const template = parseFixed(code) ?? parseImmediate(code) ?? parseLettered(code, vexLength);
  invariant(template, `operand code "${code}" is unknown`);
  return template;
}

function parseFixed(code: string): OperandTemplate | undefined {
  if (code === "1") return fixedOperand(code, "gpr", 1, fixed(8), { source: "constant" });
  if (code === "ST(0)") return fixedOperand(code, "x87", 0, fixed(80));
  if (code === "ST(i)") return fixedOperand(code, "x87", 0, fixed(80), { source: "modrmRm" });
  const vector = /^XMM(\d)$/.exec(code);
  if (vector) return fixedOperand(code, "xmm", Number(vector[1]), fixed(128));
  if (segments.includes(code)) return fixedOperand(code, "segment", segments.indexOf(code), fixed(16));
  if (bytes.includes(code)) return fixedOperand(code, "gpr", bytes.indexOf(code), fixed(8));
  if (highBytes.includes(code)) return fixedOperand(code, "gpr", highBytes.indexOf(code), fixed(8), { isHighByte: true });
  const widthsOf: Readonly<Record<string, Widths>> = { "": fixed(16), E: fixed(32), R: fixed(64), e: zWidths, r: wordWidths };
  const word = /^([ERer]?)([ABCDS][XPI])$/.exec(code);
  if (!word || !words.includes(word[2])) return undefined;
  const followsOperandSize = word[1] === "e" || word[1] === "r";
  return fixedOperand(code, "gpr", words.indexOf(word[2]), widthsOf[word[1]], { followsOperandSize });
}

function fixedOperand(
  code: string, file: RegisterFile, fixedNumber: number, widths: Widths, more: Partial<OperandTemplate> = {},
): OperandTemplate {
  return {
    code, file, fixedNumber, widths, source: "fixed", isHighByte: false, memoryWidths: widths, allowsRegister: true,
    allowsMemory: false, immediate: noImmediate, immediateToken: "", followsOperandSize: false, ...more,
  };
}

function parseImmediate(code: string): OperandTemplate | undefined {
  if (!Object.hasOwn(immediates, code)) return undefined;
  const { source, token, widths, form, followsOperandSize } = immediates[code];
  return fixedOperand(code, "gpr", 0, widths, { source, immediate: form, immediateToken: token, followsOperandSize });
}

function parseLettered(code: string, vexLength: number): OperandTemplate | undefined {
  const [letter] = code;
  const size = code.slice(1);
  if (!Object.hasOwn(registerLetters, letter)) return undefined;
  const { source, file, forms } = registerLetters[letter];
  const widths = widthsOfSize(size, vexLength);
  if (!widths) return undefined;
  return fixedOperand(code, file, 0, widths, {
    source,
    allowsRegister: forms !== "M",
    allowsMemory: forms !== "R",
    immediateToken: source === "immediateRegister" ? "is4" : "",
    followsOperandSize: followingSizes.has(size),
  });
}

function widthsOfSize(size: string, vexLength: number): Widths | undefined {
  if (vectorSizes.has(size)) return fixed(vexLength === 256 ? 256 : 128);
  if (/^\d+$/.test(size)) return fixed(Number(size) * 8);
  return Object.hasOwn(sizes, size) ? sizes[size] : undefined;
}
