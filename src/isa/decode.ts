/**
 * The decoder: from bytes to instruction and operands (SDM volume 2, "Instruction Format"), for any set of encodings.
 * It is total: every byte string has a result, and nothing outside the 15 bytes is read.
 */
import { ByteCursor } from "./byte-cursor.ts";
import { decodeTable, cellIndex, PrefixSlot } from "./decode-table.ts";
import type { DecodeTable, EncodedInstruction, OpcodeRow, TableEntry } from "./decode-table.ts";
import { ConditionBit, OpcodeMap } from "./encoding.ts";
import type { ParsedEncoding } from "./encoding.ts";
import { hasSib, memoryOperand, readMemoryOperand, RexBit } from "./memory-address.ts";
import { widthIndex } from "./operand-template.ts";
import type { OperandTemplate } from "./operand-template.ts";
import type {
  DecodeResult, ImmediateOperand, InvalidInstruction, MemoryOperand, Operand, RegisterOperand, Size,
  TooLongInstruction, TruncatedInstruction,
} from "./operand.ts";
import { GprNumber, SegmentNumber } from "./registers.ts";

export interface DecoderOptions {
  /** Which features the processor has; instructions of others do not exist. */
  hasFeature(name: string): boolean;
  /**
   * In 64-bit mode AMD honours 66 on near branches, Intel ignores it; AMD has no 64-bit offsets in far pointers:
   * with REX.W they are 32 bits. Default "intel".
   */
  readonly vendor?: "intel" | "amd";
}

const invalid: InvalidInstruction = Object.freeze({ kind: "invalid" });
const tooLong: TooLongInstruction = Object.freeze({ kind: "tooLong" });
const truncated: TruncatedInstruction = Object.freeze({ kind: "truncated" });

/** imm8 sign-extended to 64 bits, by the byte: REX.W with imm8 is too common to compute a bigint each time. */
const signExtendedBytes: readonly bigint[] = Array.from({ length: 256 }, (_, byte) =>
  BigInt.asUintN(64, BigInt((byte << 24) >> 24)),
);

const noOperands: readonly Operand[] = Object.freeze([]);

/** MOV CR with LOCK reaches CR8 outside of 64-bit mode (AMD APM volume 3, "MOV CRn", AltMovCr8). */
const lockedCr8Feature = "altmovcr8";

/** Decodes the given instructions; one per thread, since it keeps its place in fields between the steps of a decode. */
export class Decoder<I extends EncodedInstruction> {
  private readonly table: DecodeTable<I>;
  private readonly isAmd: boolean;
  private readonly hasLockedCr8: boolean;
  private readonly cursor: ByteCursor = new ByteCursor();

  private mode: Size = 16;
  private hasOperandSizePrefix = false;
  private addressSize: Size = 16;
  private segmentOverride: number | undefined = undefined;
  private lock = false;
  /** 0, 0xf3 or 0xf2. */
  private repeatPrefix = 0;
  /** REX prefix with its 0x40 bit, 0 if none; under VEX its W, R, X, B bits alone. */
  private rex = 0;
  private modrm = 0;
  private map = 0;
  /** VEX.vvvv, inverted: 0 where no register is named. */
  private vvvv = 0;
  private vexL = 0;
  private vexPrefixSlot = 0;

  constructor(instructions: readonly I[], options: DecoderOptions) {
    this.table = decodeTable(instructions, (name) => options.hasFeature(name));
    this.isAmd = options.vendor === "amd";
    this.hasLockedCr8 = options.hasFeature(lockedCr8Feature);
  }

  /**
   * Decodes the instruction at `offset`, reading at most 15 bytes. `mode` is the code segment's: 64-bit mode, or the
   * default operand size. In real and virtual-8086 mode there is no VEX.
   */
  decode(bytes: Uint8Array, offset: number, mode: Size, isRealOrVirtual8086: boolean = false): DecodeResult<I> {
    const { cursor } = this;
    cursor.reset(bytes, offset);
    this.mode = mode;
    const lead = this.readPrefixes();
    const opcode = this.readOpcode(lead, isRealOrVirtual8086);
    if (cursor.hasOverrun) return this.overrun();
    if (opcode < 0) return invalid;
    const row = this.table.row((this.map << 8) | opcode);
    if (row === undefined) return invalid;
    if (row.hasModrm) {
      this.modrm = cursor.unsigned8();
      if (cursor.hasOverrun) return this.overrun();
    }
    const entry = this.findEntry(row);
    if (entry === undefined) return invalid;
    return this.readInstruction(entry, opcode);
  }

  private overrun(): TooLongInstruction | TruncatedInstruction {
    return this.cursor.isTooLong ? tooLong : truncated;
  }

  /** Returns the first byte that is no prefix. The last prefix of a group wins; REX counts only right before the opcode. */
  private readPrefixes(): number {
    const { cursor, mode } = this;
    let hasAddressSizePrefix = false;
    this.hasOperandSizePrefix = false;
    this.segmentOverride = undefined;
    this.lock = false;
    this.repeatPrefix = 0;
    this.rex = 0;
    let byte = cursor.unsigned8();
    for (; ; byte = cursor.unsigned8()) {
      switch (byte) {
        case 0x26:
        case 0x2e:
        case 0x36:
        case 0x3e:
          // Ignored in 64-bit mode, where an earlier FS or GS override stays in force.
          if (mode !== 64) this.segmentOverride = (byte >> 3) & 3;
          break;
        case 0x64:
        case 0x65:
          this.segmentOverride = byte - 0x60;
          break;
        case 0x66:
          this.hasOperandSizePrefix = true;
          break;
        case 0x67:
          hasAddressSizePrefix = true;
          break;
        case 0xf0:
          this.lock = true;
          break;
        case 0xf2:
        case 0xf3:
          this.repeatPrefix = byte;
          break;
        default:
          if (mode === 64 && (byte & 0xf0) === 0x40) {
            this.rex = byte;
            continue;
          }
          this.addressSize = hasAddressSizePrefix ? (mode === 32 ? 16 : 32) : mode;
          return byte;
      }
      this.rex = 0;
    }
  }

  /** Reads the opcode that `lead` starts and sets its map; negative if there can be none. */
  private readOpcode(lead: number, isRealOrVirtual8086: boolean): number {
    const { cursor } = this;
    if (lead === 0x0f) {
      const second = cursor.unsigned8();
      if (second !== 0x38 && second !== 0x3a) {
        this.map = OpcodeMap["0F"];
        return second;
      }
      this.map = second === 0x38 ? OpcodeMap["0F38"] : OpcodeMap["0F3A"];
      return cursor.unsigned8();
    }
    if (lead === 0xc4 || lead === 0xc5) {
      // Outside of 64-bit mode these are LES and LDS unless what would be ModRM.mod is 3.
      if (this.mode === 64 || (!isRealOrVirtual8086 && cursor.peek() >= 0xc0)) return this.readVex(lead);
    }
    this.map = OpcodeMap.oneByte;
    return lead;
  }

  private readVex(lead: number): number {
    const { cursor } = this;
    let last = cursor.unsigned8();
    let rex = (~last >> 5) & RexBit.r;
    let map: number = OpcodeMap.vex0F;
    if (lead === 0xc4) {
      const mapSelect = last & 0x1f;
      if (mapSelect < 1 || mapSelect > 3) map = -1;
      else map = OpcodeMap.vex0F + mapSelect - 1;
      rex = (~last >> 5) & (RexBit.r | RexBit.x | RexBit.b);
      last = cursor.unsigned8();
      rex |= (last >> 4) & RexBit.w;
    }
    const opcode = cursor.unsigned8();
    if (map < 0 || this.lock || this.repeatPrefix !== 0 || this.hasOperandSizePrefix || this.rex !== 0) return -1;
    this.map = map;
    this.vvvv = (~last >> 3) & 15;
    this.vexL = (last >> 2) & 1;
    this.vexPrefixSlot = last & 3;
    this.rex = rex;
    if (this.mode !== 64) {
      this.rex &= RexBit.w;
      this.vvvv &= 7;
    }
    return opcode;
  }

  private findEntry(row: OpcodeRow<I>): TableEntry<I> | undefined {
    const isVex = this.map >= OpcodeMap.vex0F;
    let slot: number;
    if (isVex) slot = this.vexPrefixSlot;
    else if (this.repeatPrefix !== 0) slot = this.repeatPrefix === 0xf3 ? PrefixSlot.F3 : PrefixSlot.F2;
    else slot = this.hasOperandSizePrefix ? PrefixSlot["66"] : PrefixSlot.none;
    const list = row.lists[row.cells[cellIndex(row.hasModrm, slot, this.modrm)]];

    let state = this.mode === 64 ? ConditionBit.mode64 : 0;
    if (this.rex & RexBit.w) state |= ConditionBit.w;
    if (this.rex & RexBit.b) state |= ConditionBit.rexB;
    if (this.addressSize === 32) state |= ConditionBit.address32;
    else if (this.addressSize === 64) state |= ConditionBit.address64;
    if (isVex && this.vexL !== 0) state |= ConditionBit.vexL;
    for (let index = 0; index < list.length; index++) {
      const entry = list[index];
      if ((state & entry.conditionMask) === entry.conditionValue) return entry;
    }
    return undefined;
  }

  private readInstruction({ instruction, encoding }: TableEntry<I>, opcode: number): DecodeResult<I> {
    const { cursor, mode } = this;
    if (encoding.isVex && !encoding.usesVvvv && this.vvvv !== 0) return invalid;
    const operandSize = this.operandSizeOf(encoding);
    const width = widthIndex(operandSize, mode === 64);
    let memory: MemoryOperand | undefined;
    let addressStart = cursor.length;
    if (encoding.hasModrm && this.modrm < 0xc0 && !encoding.ignoresMod) {
      const memoryWidth = encoding.hasFarPointer && this.isAmd ? widthIndex(operandSize === 64 ? 32 : operandSize, mode === 64) : width;
      const widthBits = encoding.rmOperand === undefined ? 0 : encoding.rmOperand.memoryWidths[memoryWidth];
      const { modrm, rex, addressSize, segmentOverride } = this;
      if (hasSib(modrm, addressSize)) addressStart++;
      memory = readMemoryOperand(cursor, modrm, rex, mode, addressSize, widthBits, segmentOverride);
    }
    const addressEnd = cursor.length;
    const operands = encoding.operands.length === 0 ? noOperands : this.readOperands(encoding, opcode, width, memory);
    if (cursor.hasOverrun) return this.overrun();
    if (operands === undefined) return invalid;
    if (this.lock && !this.allowsLock(instruction, encoding, operands)) return invalid;
    const isRepeated = this.repeatPrefix !== 0 && encoding.prefix === "any";
    return {
      kind: "instruction",
      instruction,
      encoding,
      length: cursor.length,
      displacementBytes: addressEnd - addressStart,
      immediateBytes: cursor.length - addressEnd,
      modrm: encoding.hasModrm ? this.modrm : -1,
      mode,
      operandSize,
      addressSize: this.addressSize,
      operands,
      lock: this.lock && !encoding.ignoresMod,
      repeat: isRepeated ? (this.repeatPrefix === 0xf3 ? "rep" : "repne") : "none",
      segmentOverride: this.segmentOverride,
      hasRex: !encoding.isVex && this.rex !== 0,
    };
  }

  private operandSizeOf({ operandSizeRule, prefix, hasFarPointer, operands }: ParsedEncoding): Size {
    const { mode } = this;
    if (operandSizeRule === "mode") return mode === 64 ? 64 : 32;
    const isToggled = this.hasOperandSizePrefix && prefix !== "66";
    if (mode !== 64) return (mode === 32) === isToggled ? 16 : 32;
    // CALL still pushes 64 bits each; the register of LSS and its kin is as wide as the offset.
    if (this.rex & RexBit.w) return hasFarPointer && this.isAmd && operands.length > 1 ? 32 : 64;
    if (operandSizeRule === "f64" && !this.isAmd) return 64;
    if (isToggled) return 16;
    return operandSizeRule === "default" ? 32 : 64;
  }

  private allowsLock(instruction: I, encoding: ParsedEncoding, operands: readonly Operand[]): boolean {
    if (encoding.ignoresMod) return this.hasLockedCr8 && operands.some(isCr8);
    return instruction.lockable === true && operands.length > 0 && operands[0].kind === "memory";
  }

  /** Undefined if an operand names a register that does not exist. */
  private readOperands(
    encoding: ParsedEncoding, opcode: number, width: number, memory: MemoryOperand | undefined,
  ): Operand[] | undefined {
    const operands: Operand[] = [];
    for (let index = 0; index < encoding.operands.length; index++) {
      const operand = this.readOperand(encoding.operands[index], opcode, width, memory);
      if (operand === undefined) return undefined;
      operands.push(operand);
    }
    return operands;
  }

  private readOperand(
    template: OperandTemplate, opcode: number, width: number, memory: MemoryOperand | undefined,
  ): Operand | undefined {
    const { cursor, modrm, rex } = this;
    const widthBits = template.widths[width];
    switch (template.source) {
      case "modrmRm":
        return memory ?? this.register(template, widthBits, (modrm & 7) | ((rex & RexBit.b) << 3));
      case "modrmReg":
        return this.register(template, widthBits, ((modrm >> 3) & 7) | ((rex & RexBit.r) << 1));
      case "opcode":
        return this.register(template, widthBits, (opcode & 7) | ((rex & RexBit.b) << 3));
      case "vvvv":
        return this.register(template, widthBits, this.vvvv);
      case "immediateRegister":
        return this.register(template, widthBits, (cursor.unsigned8() >> 4) & (this.mode === 64 ? 15 : 7));
      case "fixed":
        return register(template.file, template.fixedNumber, widthBits, template.isHighByte);
      case "constant":
        return { kind: "immediate", value: template.fixedNumber, widthBits };
      case "immediate":
        return this.readImmediate(template, width, widthBits);
      case "relative":
        return { kind: "relative", displacement: this.readSigned(template.immediate.storedBits[width % 3]), widthBits };
      case "far": {
        const offset = widthBits === 16 ? cursor.unsigned16() : cursor.unsigned32();
        return { kind: "far", offset, selector: cursor.unsigned16(), widthBits };
      }
      case "offset":
        return memoryOperand(widthBits, this.segmentOverride, undefined, undefined, 0, this.readOffset());
      case "stringSource":
        return memoryOperand(widthBits, this.segmentOverride, GprNumber.SI, undefined, 0, 0);
      case "stringDestination":
        return memoryOperand(widthBits, SegmentNumber.ES, GprNumber.DI, undefined, 0, 0);
    }
  }

  /** A register of the template's file; REX extends only the files that have more than eight. */
  private register({ file }: OperandTemplate, widthBits: number, number: number): RegisterOperand | undefined {
    switch (file) {
      case "gpr":
        if (widthBits === 8 && this.rex === 0 && this.map < OpcodeMap.vex0F && number >= 4) {
          return register("gpr", number - 4, 8, true);
        }
        return register("gpr", number, widthBits, false);
      case "xmm":
        return register("xmm", number, widthBits, false);
      case "mmx":
      case "x87":
        return register(file, number & 7, widthBits, false);
      case "segment":
        return (number & 7) > SegmentNumber.GS ? undefined : register("segment", number & 7, 16, false);
      case "control": {
        const control = this.lock && this.hasLockedCr8 && number === 0 ? 8 : number;
        const exists = control === 0 || control === 2 || control === 3 || control === 4 || control === 8;
        return exists ? register("control", control, widthBits, false) : undefined;
      }
      case "debug":
        return number > 7 ? undefined : register("debug", number, widthBits, false);
    }
  }

  private readImmediate({ immediate }: OperandTemplate, width: number, widthBits: number): ImmediateOperand {
    const storedBits = immediate.storedBits[width % 3];
    if (widthBits === 64) {
      let value: bigint;
      if (storedBits === 64) value = this.cursor.unsigned64();
      else if (storedBits === 8) value = signExtendedBytes[this.cursor.unsigned8()];
      else value = BigInt.asUintN(64, BigInt(this.cursor.signed32()));
      return { kind: "immediate", value, widthBits };
    }
    const signed = this.readSigned(storedBits);
    const extendedBits = immediate.isSigned ? widthBits : storedBits;
    const value = extendedBits === 32 ? signed >>> 0 : signed & ((1 << extendedBits) - 1);
    return { kind: "immediate", value, widthBits };
  }

  private readSigned(storedBits: number): number {
    if (storedBits === 8) return this.cursor.signed8();
    return storedBits === 16 ? this.cursor.signed16() : this.cursor.signed32();
  }

  private readOffset(): number | bigint {
    switch (this.addressSize) {
      case 16:
        return this.cursor.unsigned16();
      case 32:
        return this.cursor.unsigned32();
      case 64:
        return this.cursor.unsigned64();
    }
  }
}

function register(
  file: RegisterOperand["file"], number: number, widthBits: number, highByte: boolean,
): RegisterOperand {
  return { kind: "register", file, number, widthBits, highByte };
}

function isCr8(operand: Operand): boolean {
  return operand.kind === "register" && operand.file === "control" && operand.number === 8;
}
