/** The differences that are not mistakes, each with its name and the place where the manual allows it. */
import { OpcodeMap } from "../../src/isa/encoding.ts";
import type { Difference } from "./compare.ts";
import type { Form } from "./forms.ts";
import { FxsaveOffset, MemoryMap, Outcome, recordBytes, RecordOffset, Selector } from "./layout.ts";
import type { CaseBatch, ResultBatch } from "./layout.ts";

/** A difference and all that is known of its case. */
export interface DifferenceInCase {
  readonly difference: Difference;
  readonly form: Form;
  readonly cases: CaseBatch;
  readonly index: number;
  readonly host: ResultBatch;
  readonly ours: ResultBatch;
}

export interface Excuse {
  readonly name: string;
  /** Which manual, which chapter. */
  readonly source: string;
  appliesTo(form: Form): boolean;
  covers(found: DifferenceInCase): boolean;
}

const shiftOpcodes: ReadonlySet<number> = new Set([0xc0, 0xc1, 0xd0, 0xd1, 0xd2, 0xd3]);
const doubleShiftOpcodes: ReadonlySet<number> = new Set([0xa4, 0xa5, 0xac, 0xad]);

function isShift({ encoding }: Form): boolean {
  return encoding.map === OpcodeMap.oneByte && shiftOpcodes.has(encoding.opcode);
}

function isDoubleShift({ encoding }: Form): boolean {
  return encoding.map === OpcodeMap["0F"] && doubleShiftOpcodes.has(encoding.opcode);
}

/** The count after masking to five or six bits. */
function shiftCount({ form, cases, index }: DifferenceInCase): number {
  const mask = form.operandSize === 64 && (form.encoding.opcode & 1 || isDoubleShift(form)) ? 63 : 31;
  const { opcode } = form.encoding;
  if (isShift(form) && (opcode === 0xd0 || opcode === 0xd1)) return 1;
  const isByRegister = isShift(form) ? opcode >= 0xd2 : (opcode & 1) === 1;
  if (isByRegister) return Number(cases.gpr(index, 1) & 0xffn) & mask;
  const bytes = cases.instruction(index);
  return bytes[bytes.length - 1] & mask;
}

function shiftWidth({ encoding, operandSize }: Form): number {
  return isShift({ encoding } as Form) && (encoding.opcode & 1) === 0 ? 8 : operandSize;
}

/** What the definition says of this count; a count of zero changes no flag at all. */
function undefinedAfterShift(found: DifferenceInCase): readonly string[] {
  const { undefinedFlags = [], undefinedUnlessCountIsOne = [], undefinedWhenCountReachesWidth = [] } = found.form.definition;
  const count = shiftCount(found);
  if (count === 0) return [];
  return [
    ...undefinedFlags, ...(count === 1 ? [] : undefinedUnlessCountIsOne),
    ...(count < shiftWidth(found.form) ? [] : undefinedWhenCountReachesWidth),
  ];
}

/** D9 F0 and so on: F2XM1 FYL2X FPTAN FPATAN FYL2XP1 FSINCOS FSIN FCOS. */
const transcendentals: ReadonlySet<number> = new Set([0xf0, 0xf1, 0xf2, 0xf3, 0xf9, 0xfb, 0xfe, 0xff]);

/** One unit in the last place, counted over the encodings of the same sign. */
function isWithinOneUnit(left: string, right: string): boolean {
  const parse = (text: string): readonly bigint[] => text.split(":").map(BigInt);
  const [leftTop, leftBits] = parse(left);
  const [rightTop, rightBits] = parse(right);
  if ((leftTop ^ rightTop) & 0x8000n) return false;
  const order = (top: bigint, bits: bigint): bigint => ((top & 0x7fffn) << 63n) + (bits & 0x7fff_ffff_ffff_ffffn);
  const distance = order(leftTop, leftBits) - order(rightTop, rightBits);
  return distance >= -1n && distance <= 1n;
}

export const excuses: readonly Excuse[] = [
  {
    name: "the host's kernel tells of no mappings of its own",
    source: "Linux, arch/x86/mm/fault.c, set_signal_archinfo",
    appliesTo: ({ bits }) => bits === 64,
    covers: isReportedAsPresent,
  },
  {
    name: "memory below the stack pointer after a fault of ENTER",
    source: "SDM volume 2, ENTER: the pushes come before the accesses that can fault",
    appliesTo: ({ encoding }) => encoding.map === OpcodeMap.oneByte && encoding.opcode === 0xc8,
    covers: isPushedByEnter,
  },
  {
    name: "an offset in FS or GS that is canonical only with the base",
    source: "measured: AMD's Zen checks the offset, too; the manuals speak of the linear address alone",
    appliesTo: ({ bits }) => bits === 64,
    covers: isOffsetNotCanonical,
  },
  {
    name: "a branch into the bytes of its own instruction",
    source: "the host goes on with what it finds there, ours stops",
    appliesTo: ({ definition }) => /^(j|loop|call|ret|iret|sysret|sysexit)/.test(definition.name),
    covers: isWithinItself,
  },
  {
    name: "MXCSR_MASK, which is the model's",
    source: "AMD APM volume 1, MXCSR, Misaligned Exception Mask",
    appliesTo: (form) => isAreaAccess(form, false),
    covers: isMisalignedExceptionBit,
  },
  {
    name: "which byte of a state area faults first",
    source: "SDM volume 3, Page-Fault Exception: no order is given for the parts of one access; volume 2, MASKMOVDQU",
    appliesTo: (form) => isAreaAccess(form, true) || isMaskedMove(form),
    covers: isSameArea,
  },
  {
    name: "x87 state after a fault within FLDENV's or FRSTOR's operand",
    source: "measured: AMD's Zen has loaded the words that lie within the segment; the instruction starts over",
    appliesTo: ({ encoding, rm }) =>
      encoding.map === OpcodeMap.oneByte && (encoding.opcode === 0xd9 || encoding.opcode === 0xdd) && encoding.modrmReg === 4 && rm === "memory",
    covers: ({ difference, host, ours, index }) =>
      /^(fcw|fsw|ftw|st\d)$/.test(difference.field) && host.outcome(index) === Outcome.fault && ours.outcome(index) === Outcome.fault,
  },
  {
    name: "flags the manual leaves undefined",
    source: "the definition's undefinedFlags",
    appliesTo: (form) => (form.definition.undefinedFlags?.length ?? 0) > 0 && !isShift(form) && !isDoubleShift(form),
    covers: ({ difference, form }) => form.definition.undefinedFlags?.some((flag) => flag === difference.field) === true,
  },
  {
    name: "flags undefined after a shift by this count",
    source: "SDM volume 2, RCL/RCR/ROL/ROR, SAL/SAR/SHL/SHR, SHLD, SHRD: Flags Affected",
    appliesTo: (form) => isShift(form) || isDoubleShift(form),
    covers: (found) => undefinedAfterShift(found).includes(found.difference.field),
  },
  {
    name: "result undefined for a double shift by more than the operand's size",
    source: "SDM volume 2, SHLD, SHRD: Description",
    appliesTo: (form) => isDoubleShift(form) && form.operandSize === 16,
    covers: (found) => shiftCount(found) > 16 && /^(r[a-z0-9]+|memory.*|outside)$/.test(found.difference.field) && found.difference.field !== "rip",
  },
  {
    name: "x87 transcendental within one unit in the last place",
    source: "SDM volume 1, Transcendental Instruction Accuracy",
    appliesTo: ({ encoding }) =>
      encoding.map === OpcodeMap.oneByte && encoding.opcode === 0xd9 && transcendentals.has(encoding.modrmByte ?? 0),
    covers({ difference, host, ours, index }) {
      if (difference.field.startsWith("st")) return isWithinOneUnit(difference.host, difference.ours);
      if (difference.field !== "fsw") return false;
      // C1 tells which way the last place was rounded.
      const status = (batch: ResultBatch): number => batch.fxsave(index)[FxsaveOffset.fsw + 1] & ~2;
      return status(host) === status(ours) && host.fxsave(index)[FxsaveOffset.fsw] === ours.fxsave(index)[FxsaveOffset.fsw];
    },
  },
];

/** FXSAVE, FXRSTOR and the XSAVE family; with `x87` FLDENV, FNSTENV, FRSTOR and FNSAVE as well. */
function isAreaAccess({ encoding, rm }: Form, x87: boolean): boolean {
  const { map, opcode, modrmReg = -1 } = encoding;
  if (rm !== "memory") return false;
  if (map === OpcodeMap["0F"]) return (opcode === 0xae && [0, 1, 4, 5, 6].includes(modrmReg)) || (opcode === 0xc7 && [3, 4, 5].includes(modrmReg));
  return x87 && map === OpcodeMap.oneByte && ((opcode === 0xd9 || opcode === 0xdd) && (modrmReg === 4 || modrmReg === 6));
}

const largestAreaBytes = 832n;
const mxcsrMaskByte = 30;

/** Bit 17, in the third byte of MXCSR_MASK; areas are aligned to 16 bytes. */
function isMisalignedExceptionBit({ difference, cases, index }: DifferenceInCase): boolean {
  const { field, host, ours } = difference;
  if (!field.startsWith("memory+") || (Number(host) ^ Number(ours)) !== 2) return false;
  return (cases.windowAddress(index) + Number(field.slice("memory+".length)) - mxcsrMaskByte) % 16 === 0;
}

function isMaskedMove({ encoding }: Form): boolean {
  return encoding.map === OpcodeMap["0F"] && encoding.opcode === 0xf7;
}

/** Both name a byte of the same area, or one a page or the alignment and the other the segment's limit. */
function isSameArea({ difference, form, index, host: hostResults, ours: ourResults }: DifferenceInCase): boolean {
  const { field, host, ours } = difference;
  const vectors = [hostResults.vector(index), ourResults.vector(index)];
  const isAgainstLimit = form.bits !== 64 && vectors.every((vector) => accessFaults.has(vector)) &&
    (vectors.includes(stackFault) || vectors.includes(generalProtection));
  if (isAgainstLimit && (field === "outcome" || field === "cr2")) return true;
  if (field !== "cr2" || host === "0x0" || ours === "0x0") return false;
  const distance = BigInt(host) - BigInt(ours);
  return distance > -largestAreaBytes && distance < largestAreaBytes;
}

const presentBit = 1;
/** TASK_SIZE_MAX. */
const userAddresses = (1n << 47n) - 4096n;
const stackFault = 12;
const generalProtection = 13;
const pageFault = 14;
const alignmentCheck = 17;
const accessFaults: ReadonlySet<number> = new Set([stackFault, generalProtection, pageFault, alignmentCheck]);

/** Linux reports every user access above its own addresses as a protection fault, whatever is mapped there. */
function isReportedAsPresent({ difference, index, host, ours }: DifferenceInCase): boolean {
  return difference.field === "outcome" && host.outcome(index) === Outcome.fault && ours.outcome(index) === Outcome.fault &&
    host.vector(index) === pageFault && ours.vector(index) === pageFault && host.cr2(index) >= userAddresses &&
    host.errorCode(index) === (ours.errorCode(index) | presentBit);
}

/** Ours faulted at an address that is canonical only with the base of FS or GS added. */
function isOffsetNotCanonical({ difference, cases, index, host, ours }: DifferenceInCase): boolean {
  if (difference.field !== "outcome" && difference.field !== "cr2") return false;
  if (host.vector(index) !== generalProtection || ours.vector(index) !== pageFault) return false;
  return [RecordOffset.fsBase, RecordOffset.gsBase].some((field) => {
    const base = cases.words[(index * recordBytes + field) / 8];
    const offset = BigInt.asUintN(64, ours.cr2(index) - base);
    return BigInt.asUintN(64, BigInt.asIntN(48, offset)) !== offset;
  });
}

/** Whether the instruction pointer is one that a branch found among the bytes of its own instruction. */
function isWithinItself({ cases, index, ours }: DifferenceInCase): boolean {
  const entry = BigInt(cases.entry(index));
  const rip = ours.rip(index);
  return ours.outcome(index) === Outcome.completed && rip > entry && rip < entry + BigInt(cases.lengthBytes(index));
}

/** Whether a byte of the window lies in what ENTER may have pushed: 32 slots below the stack pointer. */
function isPushedByEnter({ difference, cases, index, host, form }: DifferenceInCase): boolean {
  if (!difference.field.startsWith("memory+") || host.outcome(index) !== Outcome.fault) return false;
  const { ss } = cases.selectors(index);
  const base = form.bits === 16 && ss !== Selector.data ? MemoryMap.dataA : 0;
  const pointer = Number(BigInt.asUintN(form.bits, cases.gpr(index, 4))) + base;
  const address = cases.windowAddress(index) + Number(difference.field.slice("memory+".length));
  return address < pointer && address >= pointer - 32 * (form.operandSize / 8);
}

const excusesByForm = new Map<Form, readonly Excuse[]>();

/** The rules that can apply to a form at all. */
export function excusesOf(form: Form): readonly Excuse[] {
  let found = excusesByForm.get(form);
  if (found === undefined) {
    found = excuses.filter((excuse) => excuse.appliesTo(form));
    excusesByForm.set(form, found);
  }
  return found;
}
