/**
 * The decode table: for every opcode the encodings that can match, already split by mandatory prefix and ModRM byte,
 * most specific first. `checkAll`, which the tests call for every CPU model, proves that no bytes have two meanings.
 */
import { invariant } from "../base/errors.ts";
import { ConditionBit, parseEncoding } from "./encoding.ts";
import type { MandatoryPrefix, ParsedEncoding } from "./encoding.ts";

/** What the decoder needs to know of an instruction's definition. */
export interface EncodedInstruction {
  readonly name: string;
  readonly encodings: readonly string[];
  /** LOCK is allowed with a memory destination. */
  readonly lockable?: boolean;
  /** The processor feature without which the encodings do not exist. */
  readonly feature?: string;
  /** Mnemonics where they follow the operand size. */
  readonly names?: Partial<Readonly<Record<16 | 32 | 64, string>>>;
}

/** One encoding of one instruction. */
export interface TableEntry<I extends EncodedInstruction> {
  readonly instruction: I;
  readonly encoding: ParsedEncoding;
  readonly conditionMask: number;
  readonly conditionValue: number;
}

/** The prefix column: which of 66, F3, F2 stands in front; F3 and F2 outrank 66. */
export const PrefixSlot = { none: 0, "66": 1, F3: 2, F2: 3 } as const;

/** ModRM classes: 8 for memory (by reg), then 64 for registers (by reg and rm). */
const modrmClassCount = 72;

/** All encodings of one opcode. */
export interface OpcodeRow<I extends EncodedInstruction> {
  readonly hasModrm: boolean;
  /** Number of the candidate list, by prefix slot and (with ModRM) ModRM class; 0 is the empty list. */
  readonly cells: Uint16Array;
  readonly lists: readonly (readonly TableEntry<I>[])[];
}

/** Rows by `map << 8 | opcode`, each made when it is first asked for: guests use few of them, and nobody waits for the others. */
export class DecodeTable<I extends EncodedInstruction> {
  readonly #entries: ReadonlyMap<number, readonly TableEntry<I>[]>;
  readonly #rows: (OpcodeRow<I> | undefined)[] = Array.from({ length: 7 * 256 }, () => undefined);

  constructor(entries: ReadonlyMap<number, readonly TableEntry<I>[]>) {
    this.#entries = entries;
  }

  row(key: number): OpcodeRow<I> | undefined {
    return this.#rows[key] ?? this.#make(key);
  }

  /** Throws if two encodings claim the same bytes. */
  checkAll(): void {
    for (const key of this.#entries.keys()) this.row(key);
  }

  #make(key: number): OpcodeRow<I> | undefined {
    const entries = this.#entries.get(key);
    if (entries === undefined) return undefined;
    const row = buildRow(yieldToRexB(entries));
    this.#rows[key] = row;
    return row;
  }
}

/** The cell that a prefix slot and a ModRM byte select. */
export function cellIndex(hasModrm: boolean, prefixSlot: number, modrm: number): number {
  if (!hasModrm) return prefixSlot;
  const modrmClass = modrm >= 0xc0 ? 8 + (modrm & 0x3f) : (modrm >> 3) & 7;
  return prefixSlot * modrmClassCount + modrmClass;
}

/** Tables built before, by instructions and the features that were present among theirs. */
const builtTables: WeakMap<readonly EncodedInstruction[], Map<string, DecodeTable<EncodedInstruction>>> = new WeakMap();

/** The table of the instructions whose feature is present. Processors of one model share it. */
export function decodeTable<I extends EncodedInstruction>(instructions: readonly I[], hasFeature: (name: string) => boolean): DecodeTable<I> {
  const features = new Set(instructions.flatMap(({ feature }) => feature === undefined || !hasFeature(feature) ? [] : [feature]));
  const key = [...features].toSorted().join(" ");
  const known = builtTables.get(instructions) ?? new Map<string, DecodeTable<EncodedInstruction>>();
  builtTables.set(instructions, known);
  const table = known.get(key) as DecodeTable<I> | undefined ?? buildDecodeTable(instructions, hasFeature);
  known.set(key, table);
  return table;
}

function buildDecodeTable<I extends EncodedInstruction>(
  instructions: readonly I[],
  hasFeature: (name: string) => boolean,
): DecodeTable<I> {
  const byOpcode = new Map<number, TableEntry<I>[]>();
  for (const instruction of instructions) {
    if (instruction.feature !== undefined && !hasFeature(instruction.feature)) continue;
    for (const text of instruction.encodings) {
      const encoding = parseEncoding(text);
      const { conditionMask, conditionValue } = encoding;
      for (const opcode of opcodesOf(encoding)) {
        const key = (encoding.map << 8) | opcode;
        const entries = byOpcode.get(key) ?? [];
        entries.push({ instruction, encoding, conditionMask, conditionValue });
        byOpcode.set(key, entries);
      }
    }
  }
  return new DecodeTable(byOpcode);
}

function opcodesOf({ opcode, hasOpcodeRegister }: ParsedEncoding): number[] {
  return hasOpcodeRegister ? Array.from({ length: 8 }, (_, index) => opcode + index) : [opcode];
}

/** `90` is NOP only without REX.B: with it the bytes are XCHG r8, rAX; `F3 90` stays PAUSE (SDM, XCHG and PAUSE). */
function yieldToRexB<I extends EncodedInstruction>(entries: readonly TableEntry<I>[]): readonly TableEntry<I>[] {
  if (!entries.some(({ encoding }) => encoding.hasOpcodeRegister)) return entries;
  return entries.map((entry) =>
    entry.encoding.hasOpcodeRegister || entry.encoding.prefix === "F3"
      ? entry
      : { ...entry, conditionMask: entry.conditionMask | ConditionBit.rexB },
  );
}

function buildRow<I extends EncodedInstruction>(entries: readonly TableEntry<I>[]): OpcodeRow<I> {
  const { hasModrm } = entries[0].encoding;
  for (const entry of entries) {
    invariant(entry.encoding.hasModrm === hasModrm, `${describe(entry)} and ${describe(entries[0])} disagree on a ModRM byte`);
  }
  const cells = new Uint16Array(4 * (hasModrm ? modrmClassCount : 1));
  const lists: TableEntry<I>[][] = [[]];
  const numberOfList = new Map<string, number>();
  const looksAtFields = entries.some(({ encoding }) => encoding.modrmReg !== undefined || encoding.modrmByte !== undefined);
  for (let slot = 0; slot < 4; slot++) {
    for (let modrmClass = 0; modrmClass < (hasModrm ? modrmClassCount : 1); modrmClass++) {
      const modrm = modrmClass < 8 ? modrmClass << 3 : 0xc0 + modrmClass - 8;
      const cell = cellIndex(hasModrm, slot, modrm);
      // Mostly, all memory operands are alike, and all registers.
      if (!looksAtFields && modrmClass !== 0 && modrmClass !== 8) {
        cells[cell] = cells[cell - 1];
        continue;
      }
      const members = entries.filter(({ encoding }) => matchesPrefix(encoding.prefix, slot) && matchesModrm(encoding, modrm));
      if (members.length === 0) continue;
      const key = members.map((entry) => entries.indexOf(entry)).join();
      let number = numberOfList.get(key);
      if (number === undefined) {
        number = lists.push(orderBySpecificity(members)) - 1;
        numberOfList.set(key, number);
      }
      cells[cell] = number;
    }
  }
  return { hasModrm, cells, lists };
}

function matchesPrefix(prefix: MandatoryPrefix, slot: number): boolean {
  if (prefix === "any") return true;
  if (prefix === "NFx") return slot === PrefixSlot.none || slot === PrefixSlot["66"];
  return slot === PrefixSlot[prefix === "NP" ? "none" : prefix];
}

function matchesModrm(encoding: ParsedEncoding, modrm: number): boolean {
  if (!encoding.hasModrm) return true;
  const isRegister = modrm >= 0xc0;
  if (isRegister ? !encoding.allowsRegister : !encoding.allowsMemory) return false;
  if (encoding.modrmReg !== undefined && encoding.modrmReg !== ((modrm >> 3) & 7)) return false;
  if (encoding.modrmByte === undefined) return true;
  return (encoding.hasModrmIndex ? modrm & 0xf8 : modrm) === encoding.modrmByte;
}

/** Fixed ModRM before /n before /r; prefix word before none; one form of ModRM before both; fixed opcode before +r. */
function specificity({ encoding }: TableEntry<EncodedInstruction>): number {
  let score = 0;
  if (encoding.modrmByte !== undefined) score += encoding.hasModrmIndex ? 400 : 500;
  if (encoding.modrmReg !== undefined) score += 200;
  if (encoding.prefix !== "any") score += encoding.prefix === "NFx" ? 90 : 100;
  if (encoding.allowsRegister !== encoding.allowsMemory) score += 40;
  if (!encoding.hasOpcodeRegister) score += 20;
  return score;
}

function countBits(value: number): number {
  let count = 0;
  for (let bits = value; bits !== 0; bits &= bits - 1) count += 1;
  return count;
}

/** Among equals, more conditions come first; such a pair must exclude each other, or one narrow the other down. */
function orderBySpecificity<I extends EncodedInstruction>(members: readonly TableEntry<I>[]): TableEntry<I>[] {
  const ordered = members.toSorted(
    (left, right) =>
      specificity(right) - specificity(left) || countBits(right.conditionMask) - countBits(left.conditionMask),
  );
  for (const [index, entry] of ordered.entries()) {
    for (const other of ordered.slice(index + 1)) {
      if (specificity(entry) !== specificity(other)) break;
      const sharedMask = entry.conditionMask & other.conditionMask;
      const isDisjoint = ((entry.conditionValue ^ other.conditionValue) & sharedMask) !== 0;
      const isNarrower = sharedMask === other.conditionMask && entry.conditionMask !== other.conditionMask;
      invariant(isDisjoint || isNarrower, `${describe(entry)} and ${describe(other)} claim the same bytes`);
    }
  }
  return ordered;
}

function describe<I extends EncodedInstruction>({ instruction, encoding }: TableEntry<I>): string {
  return `${instruction.name} "${encoding.text}"`;
}
