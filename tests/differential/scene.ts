/** One case under construction: its registers, memory and segments, and where its memory operand shall lie. */
import { littleEndian } from "./address.ts";
import type { Encoded } from "./encoder.ts";
import type { Form } from "./forms.ts";
import { codeBase, dataBase, defaultSelectors, MemoryMap, Selector, windowBytes, WindowPlace } from "./layout.ts";
import type { SegmentSelectors } from "./layout.ts";
import type { Random } from "./random.ts";

export type SegmentName = keyof SegmentSelectors;
/** As in ModRM.reg. */
export const segmentOrder: readonly SegmentName[] = ["es", "cs", "ss", "ds", "fs", "gs"];

/** Status flags, and the others that CPL 3 can set: DF, NT, AC, ID. */
export const statusFlags: readonly number[] = [0x001, 0x004, 0x010, 0x040, 0x080, 0x800];
export const RflagsBit = { direction: 0x400, nestedTask: 0x4000, alignmentCheck: 0x4_0000, identification: 0x20_0000 } as const;

export class Scene {
  readonly random: Random;
  readonly form: Form;
  /** The case's general registers, in the batch. */
  readonly gpr: BigUint64Array;
  /** The case's memory, in the batch. */
  readonly window: Uint8Array;
  readonly windowAddress: number;
  rflags = 2;
  fsBase = 0n;
  gsBase = 0n;
  /** Offset of the instruction in the code page. */
  codeOffset = 0;
  selectors: Record<SegmentName, number>;
  loadsSegments: boolean;
  /** Bases of ES, CS, SS, DS, FS, GS. */
  readonly segmentBases: bigint[];
  /** Linear address of the memory operand. */
  target = 0;
  override = -1;
  addressSize: 16 | 32 | 64;
  repeat = 0;
  /** Set once the bytes are chosen. */
  encoded!: Encoded;

  constructor(random: Random, form: Form, gpr: BigUint64Array, window: Uint8Array) {
    this.random = random;
    this.form = form;
    this.gpr = gpr;
    this.window = window;
    const { bits } = form;
    this.addressSize = bits;
    this.windowAddress = chooseWindow(random, bits === 16);
    this.selectors = { ...defaultSelectors(bits) };
    this.loadsSegments = bits === 16;
    const data = BigInt(dataBase(bits));
    const fs = BigInt(MemoryMap.dataA);
    const gs = BigInt(MemoryMap.dataB);
    if (bits === 64) {
      this.fsBase = chooseBase(random);
      this.gsBase = chooseBase(random);
      this.segmentBases = [0n, 0n, 0n, 0n, this.fsBase, this.gsBase];
    } else {
      this.segmentBases = [data, BigInt(codeBase(bits)), data, data, fs, gs];
    }
  }

  /** An address for an operand of this size: mostly inside the window, at times across one of its page's borders. */
  chooseTarget(sizeBytes: number, alignmentBytes: number): number {
    const { random, windowAddress } = this;
    const choice = random.below(100);
    const isAtStart = windowAddress === WindowPlace.startOfA || windowAddress === WindowPlace.startOfB;
    if (choice < 6 && sizeBytes > 1) {
      const cut = random.between(1, sizeBytes - 1);
      return isAtStart ? windowAddress - cut : windowAddress + windowBytes - cut;
    }
    if (choice < 8) return isAtStart ? windowAddress - sizeBytes : windowAddress + windowBytes;
    if (choice < 9) return MemoryMap.unmapped + random.below(0x1000);
    if (choice < 10) return MemoryMap.readOnly + random.below(MemoryMap.pageBytes - Math.min(sizeBytes, 1024));
    const offset = random.below(windowBytes - Math.min(sizeBytes, windowBytes) + 1);
    const isAligned = random.chance(alignmentBytes >= 16 ? 92 : 70);
    return windowAddress + (isAligned ? offset - (offset % alignmentBytes) : offset);
  }

  /** Writes to the window; bytes outside of it are dropped. */
  poke(linear: number, bytes: ArrayLike<number>): void {
    const at = linear - this.windowAddress;
    for (let index = 0; index < bytes.length; index++) {
      if (at + index >= 0 && at + index < windowBytes) this.window[at + index] = bytes[index];
    }
  }

  pokeValue(linear: number, value: bigint | number, sizeBytes: number): void {
    this.poke(linear, littleEndian(value, sizeBytes));
  }

  /** Replaces the low bits of a register. */
  setLow(register: number, widthBits: number, value: bigint | number): void {
    const { gpr } = this;
    if (widthBits === 64) gpr[register] = BigInt.asUintN(64, BigInt(value));
    else gpr[register] = ((gpr[register] >> BigInt(widthBits)) << BigInt(widthBits)) | BigInt.asUintN(widthBits, BigInt(value));
  }

  isAddressRegister(register: number): boolean {
    return this.encoded.base === register || this.encoded.index === register;
  }

  /** Linear address of the top of the stack. */
  stackTop(): number {
    const { gpr, form } = this;
    const pointer = form.bits === 16 ? gpr[4] & 0xffffn : BigInt.asUintN(form.bits, gpr[4]);
    const linear = pointer + this.segmentBases[2];
    return linear < 0x1_0000_0000n ? Number(linear) : 0;
  }

  /** Base of a segment register, an override taken into account where one is allowed. */
  baseOf(segment: number, allowsOverride: boolean): bigint {
    const isIgnored = this.override < 0 || !allowsOverride || (this.form.bits === 64 && this.override < 4);
    return this.segmentBases[isIgnored ? segment : this.override];
  }

  /** An offset in CS where execution ends: INT3 in the code page, at times nothing at all. */
  branchTarget(isNear: boolean): bigint {
    const { random, codeOffset, form } = this;
    const pageOffset = BigInt(MemoryMap.codePage - codeBase(form.bits));
    const reach = isNear ? 90 : 250;
    const isForward = random.chance(50);
    const offset = isForward ? codeOffset + 30 + random.below(reach) : codeOffset - 2 - random.below(reach);
    if (isNear || random.chance(92)) return pageOffset + BigInt(offset);
    return form.bits === 16 ? BigInt(random.between(0x1000, 0xffff)) : BigInt(MemoryMap.unmapped + random.below(0x1000));
  }

  /** Null selectors are 0: a switch to another program in between may lose their RPL, and traps outside of 64-bit mode do. */
  selector(): number {
    const selector = this.random.pick(selectorPool);
    return selector < 4 ? 0 : selector;
  }
}

/** Null ones, flat ones, those of the LDT, some with another RPL, some outside of their table. */
const selectorPool: readonly number[] = [
  0, 1, 2, 3, Selector.code32, Selector.data, Selector.data, Selector.code64, ...Object.values(Selector).filter((value) => value & 4),
  0x57, 0xfffb, 0x08, 0x10, 0x28, 0x29, 0x2a, 0x04, 0x05, 0x06, 0x34, 0xffff,
];

function chooseWindow(random: Random, isInA: boolean): number {
  const { startOfA, endOfA, startOfB, endOfB } = WindowPlace;
  return random.pick(isInA ? [startOfA, startOfA, endOfA] : [startOfA, endOfA, startOfB, endOfB]);
}

function chooseBase(random: Random): bigint {
  return random.pick([0n, BigInt(MemoryMap.dataA), BigInt(MemoryMap.dataB), BigInt(random.next()), 0x7fff_0000_0000n, -0x1000n & 0xffff_ffff_ffff_ffffn]);
}
