/**
 * What each level of the instruction set holds, from iced-x86's tables and not from our definitions: every operand form
 * (iced's `Code`) with the modes it exists in and sample bytes for each of them.
 */
import * as iced from "iced-x86";

export type Mode = 16 | 32 | 64;

export interface IsaForm {
  /** iced's name, as `Add_rm8_r8`. */
  readonly name: string;
  readonly mnemonic: string;
  readonly level: string;
  /** Bytes per mode: with a register and with memory where ModRM allows both. */
  readonly samples: ReadonlyMap<Mode, readonly Uint8Array[]>;
}

/** In the order in which they are reported; "offered" levels must be complete. */
export interface IsaLevel {
  readonly name: string;
  readonly isOffered: boolean;
}

/** CPUID features of iced by level: the x86-64 psABI's "Micro-Architecture Levels", and the extensions beside them. */
const featuresOfLevels: readonly (readonly [level: string, isOffered: boolean, features: readonly string[]])[] = [
  ["v4", false, ["AVX512F", "AVX512BW", "AVX512CD", "AVX512DQ", "AVX512VL"]],
  ["v3", false, ["AVX", "AVX2", "BMI1", "BMI2", "F16C", "FMA", "LZCNT"]],
  ["AES", true, ["AES"]],
  ["PCLMULQDQ", true, ["PCLMULQDQ"]],
  ["SHA", true, ["SHA"]],
  ["MOVBE", true, ["MOVBE"]],
  ["RDRAND", true, ["RDRAND"]],
  ["RDSEED", true, ["RDSEED"]],
  ["FSGSBASE", true, ["FSGSBASE"]],
  ["RDTSCP", true, ["RDTSCP"]],
  ["XSAVEC", true, ["XSAVEC"]],
  ["XSAVEOPT", true, ["XSAVEOPT"]],
  ["XSAVE", true, ["XSAVE"]],
  ["INVPCID", true, ["INVPCID"]],
  ["CLFLUSHOPT", true, ["CLFLUSHOPT"]],
  ["CLFLUSH", true, ["CLFSH"]],
  ["SMAP", true, ["SMAP"]],
  ["PKU", true, ["PKU"]],
  ["v2", true, ["CMPXCHG16B", "POPCNT", "SSE3", "SSSE3", "SSE4_1", "SSE4_2"]],
  [
    "v1", true,
    [
      "INTEL8086", "INTEL186", "INTEL286", "INTEL386", "INTEL486", "X64", "CMOV", "CPUID", "CX8", "FPU", "FPU287", "FPU387",
      "FXSR", "MMX", "MSR", "MULTIBYTENOP", "PAUSE", "RDPMC", "SEP", "SMM", "SSE", "SSE2", "SYSCALL", "TSC",
    ],
  ],
];

/** Anything else: other extensions and what only old processors had. */
export const otherLevel = "other extensions";

/** In the order of a report: v1, v2, the extensions, what is not offered. */
export const isaLevels: readonly IsaLevel[] = [
  ...["v1", "v2"].map((name) => ({ name, isOffered: true })),
  ...featuresOfLevels.filter(([name, isOffered]) => isOffered && !/^v\d$/.test(name)).map(([name]) => ({ name, isOffered: true })),
  ...["v3", "v4", otherLevel].map((name) => ({ name, isOffered: false })),
];

/** LAHF and SAHF exist in 64-bit mode from level 2 on. */
const lahfMnemonics: ReadonlySet<string> = new Set(["lahf", "sahf"]);

/** All forms of all levels; forms that iced decodes only on demand (old or foreign opcodes) are left out. */
export function enumerateIsaForms(): IsaForm[] {
  const forms: IsaForm[] = [];
  const instruction = new iced.Instruction();
  for (let code = 1; iced.Code[code] !== undefined; code++) {
    const opCode = iced.CodeExt.opCode(code);
    // FSTENV and the like with a wait are WAIT and another instruction.
    const isOrdinary = opCode.isInstruction && !opCode.fwait && opCode.decoderOption === iced.DecoderOptions.None;
    if (isOrdinary && isIntel(opCode) && !vendorOwn.test(iced.Code[code])) {
      instruction.code = code;
      const features = [...instruction.cpuidFeatures()].map((feature) => iced.CpuidFeature[feature]);
      const mnemonic = iced.Mnemonic[opCode.mnemonic].toLowerCase();
      forms.push(...formsOf(opCode, iced.Code[code], mnemonic, levelOf(features)));
    }
    opCode.free();
  }
  instruction.free();
  return forms;
}

/** Only AMD's 66 makes branches of 16 bits in 64-bit mode, and only its UD0 has no ModRM: iced knows them as further forms. */
function isIntel(opCode: iced.OpCodeInfo): boolean {
  return opCode.intelDecoder16 || opCode.intelDecoder32 || opCode.intelDecoder64;
}

function levelOf(features: readonly string[]): string {
  const isKnown = (feature: string): boolean => featuresOfLevels.some(([, , names]) => names.includes(feature));
  if (!features.every(isKnown)) return otherLevel;
  return featuresOfLevels.find(([, , names]) => features.some((feature) => names.includes(feature)))?.[0] ?? otherLevel;
}

function formsOf(opCode: iced.OpCodeInfo, name: string, mnemonic: string, level: string): IsaForm[] {
  const samples = new Map<Mode, readonly Uint8Array[]>();
  const isOffered = isaLevels.some((known) => known.name === level && known.isOffered);
  if (isOffered) {
    for (const mode of [16, 32, 64] as const) {
      const bytes = opCode.isAvailableInMode(mode) ? samplesOf(opCode, mode) : [];
      if (bytes.length > 0) samples.set(mode, bytes);
    }
  }
  if (!lahfMnemonics.has(mnemonic)) return [{ name, mnemonic, level, samples }];
  const at = (mode: Mode): ReadonlyMap<Mode, readonly Uint8Array[]> => new Map([...samples].filter(([known]) => (known === 64) === (mode === 64)));
  return [
    { name, mnemonic, level, samples: at(32) },
    { name: `${name} in 64-bit mode`, mnemonic, level: "v2", samples: at(64) },
  ];
}

/** 0F 0D with a register: a hint NOP on Intel's processors, #UD on AMD's. */
const vendorOwn = /^Reservednop_.*_0F0D$/;

const longestInstruction = 15;

/** Candidates from the opcode tables; only those stay that iced itself decodes to this very form. */
function samplesOf(opCode: iced.OpCodeInfo, mode: Mode): Uint8Array[] {
  const found: Uint8Array[] = [];
  for (const tail of tailCandidates(opCode)) {
    const sample = prefixCandidates(opCode, mode)
      .map((prefixes) => sampleOf(opCode.code, mode, [...prefixes, ...tail]))
      .find((bytes) => bytes !== undefined);
    if (sample) found.push(sample);
  }
  return found;
}

function sampleOf(code: iced.Code, mode: Mode, start: readonly number[]): Uint8Array | undefined {
  const bytes = new Uint8Array(longestInstruction);
  bytes.set(start);
  const decoder = new iced.Decoder(mode, bytes, iced.DecoderOptions.None);
  const decoded = decoder.decode();
  const sample = decoded.code === code ? bytes.slice(0, decoded.length) : undefined;
  decoded.free();
  decoder.free();
  return sample;
}

/** Opcode and ModRM: memory and a register, with the reg field of the group or, for hint NOPs, 0 or 1. */
function tailCandidates(opCode: iced.OpCodeInfo): number[][] {
  const opcode = opcodeBytes(opCode);
  if (opCode.opCodeLength === 2) return [opcode];
  const reg = Math.max(opCode.groupIndex, 0) << 3;
  if (opCode.isRmGroup) return [[...opcode, 0xc0 | reg | opCode.rmGroupIndex]];
  const isOpcodeRegister = Array.from({ length: opCode.opCount }, (_, index) => opCode.opKind(index)).some((kind) =>
    iced.OpCodeOperandKind[kind].endsWith("_opcode"),
  );
  if (isOpcodeRegister) return [[...opcode.slice(0, -1), opcode[opcode.length - 1] + 1]];
  const modrms = opCode.isReservedNop ? [0x01, 0xc1, 0x09, 0xc9] : [reg | 0x01, reg | 0xc1];
  return modrms.map((modrm) => [...opcode, modrm]);
}

function prefixCandidates(opCode: iced.OpCodeInfo, mode: Mode): number[][] {
  const mandatory: number[] = [];
  if (opCode.mandatoryPrefix === iced.MandatoryPrefix.P66) mandatory.push(0x66);
  if (opCode.mandatoryPrefix === iced.MandatoryPrefix.PF3) mandatory.push(0xf3);
  if (opCode.mandatoryPrefix === iced.MandatoryPrefix.PF2) mandatory.push(0xf2);
  const candidates: number[][] = [];
  const rex = mode === 64 ? [[], [0x48]] : [[]];
  for (const addressSize of [[], [0x67]]) {
    for (const operandSize of [[], [0x66]]) {
      for (const rexBytes of rex) {
        candidates.push([...addressSize, ...operandSize, ...mandatory, ...rexBytes]);
      }
    }
  }
  return candidates;
}

function opcodeBytes(opCode: iced.OpCodeInfo): number[] {
  const value = opCode.opCode;
  const opcode = opCode.opCodeLength === 2 ? [value >> 8, value & 0xff] : [value];
  switch (opCode.table) {
    case iced.OpCodeTableKind.T0F:
      return [0x0f, ...opcode];
    case iced.OpCodeTableKind.T0F38:
      return [0x0f, 0x38, ...opcode];
    case iced.OpCodeTableKind.T0F3A:
      return [0x0f, 0x3a, ...opcode];
    default:
      return opcode;
  }
}
