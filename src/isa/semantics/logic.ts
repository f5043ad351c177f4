/** Logical, shift, rotate, bit and byte instructions: SDM volume 1, "Logical", "Shift and Rotate", "Bit and Byte". */
import { Bits, flagNames, when, type Width } from "../../ir/index.ts";
import { condition, constant, instruction, load, store, type Context, type Cpu, type InstructionDefinition } from "../definition.ts";
import { aluEncodings } from "./arithmetic.ts";

type IntegerWidth = 8 | 16 | 32 | 64;

function bitwise(name: "and" | "or" | "xor", first: number, digit: number): InstructionDefinition {
  return instruction({
    name, lockable: true, encodings: aluEncodings(first, digit), undefinedFlags: ["af"],
    execute({ cpu, dst, src }) {
      const result = dst.read()[name](src.read());
      dst.write(result);
      cpu.logicFlags(result);
    },
  });
}

const test = instruction({
  name: "test", undefinedFlags: ["af"],
  encodings: ["84 /r Eb,Gb", "85 /r Ev,Gv", "A8 ib AL,Ib", "A9 iz rAX,Iz", "F6 /0 ib Eb,Ib", "F7 /0 iz Ev,Iz", "F6 /1 ib Eb,Ib", "F7 /1 iz Ev,Iz"],
  execute({ cpu, dst, src }) {
    cpu.logicFlags(dst.read().and(src.read()));
  },
});

const not = instruction({
  name: "not", lockable: true, encodings: ["F6 /2 Eb", "F7 /2 Ev"],
  execute({ dst }) {
    dst.write(dst.read().not());
  },
});

function shiftEncodings(digit: number): string[] {
  return [
    `C0 /${digit} ib Eb,Ib`, `C1 /${digit} ib Ev,Ib`, `D0 /${digit} Eb,1`, `D1 /${digit} Ev,1`,
    `D2 /${digit} Eb,CL`, `D3 /${digit} Ev,CL`,
  ];
}

/** Wide enough that one bit beyond the operand survives a shift by up to 31. */
function wider(width: IntegerWidth): 32 | 64 {
  return width <= 16 ? 32 : 64;
}

/** The count, masked to 5 bits (6 for 64-bit operands), as an 8-bit value. */
function maskedCount(src: { as(width: 8): { read(): Bits<8> } }, width: Width): Bits<8> {
  return src.as(8).read().and(width === 64 ? 63 : 31);
}

type ShiftResult<W extends Width> = { result: Bits<W>; cf: Bits<1>; of: Bits<1> };

/** The common frame of shifts and rotates: a count of zero changes no flag, but still writes the destination. */
function shift(
  name: string, digit: number | readonly number[],
  compute: <W extends IntegerWidth>(cpu: Cpu, a: Bits<W>, count: Bits<W>, width: W) => ShiftResult<W>,
  options: { rotate: boolean; undefinedWhenLarge: boolean },
): InstructionDefinition {
  return instruction({
    name, encodings: [digit].flat().flatMap(shiftEncodings),
    undefinedFlags: options.rotate ? [] : ["af"],
    undefinedUnlessCountIsOne: ["of"],
    undefinedWhenCountReachesWidth: options.undefinedWhenLarge ? ["cf"] : [],
    execute<W extends IntegerWidth>({ cpu, dst, src, width }: Context<W>) {
      const a = dst.read() as Bits<W>;
      const count = maskedCount(src as never, width);
      const wide = count.zext(width) as Bits<W>;
      const { result, cf, of } = compute(cpu, a, wide, width);
      dst.write(result);
      when(count.ne(0), () => {
        if (!options.rotate) cpu.logicFlags(result);
        cpu.writeFlags({ cf, of });
      });
    },
  });
}

const shl = shift("shl", [4, 6], (_cpu, a, count, width) => {
  if (width === 64) {
    const result = a.shl(count);
    const cf = a.shr(constant(width, 64).sub(count).and(63)).trunc(1);
    return { result, cf, of: result.sign().xor(cf) };
  }
  const w = wider(width);
  const shifted = a.zext(w).shl(count.zext(w));
  const result = shifted.trunc(width), cf = shifted.bit(width);
  return { result, cf, of: result.sign().xor(cf) };
}, { rotate: false, undefinedWhenLarge: true });

const shr = shift("shr", 5, (_cpu, a, count, width) => {
  const w = wider(width);
  // One bit to the left first, so that the last bit shifted out is bit 0 of the result.
  if (width === 64) {
    const cf = a.shr(count.sub(1).and(63)).trunc(1);
    return { result: a.shr(count), cf, of: a.sign() };
  }
  const shifted = a.zext(w).shl(1).shr(count.zext(w));
  return { result: shifted.shr(1).trunc(width), cf: shifted.trunc(1), of: a.sign() };
}, { rotate: false, undefinedWhenLarge: true });

const sar = shift("sar", 7, (_cpu, a, count, width) => {
  if (width === 64) {
    const cf = a.sar(count.sub(1).and(63)).trunc(1);
    return { result: a.sar(count), cf, of: constant(1, 0) };
  }
  const w = wider(width);
  const shifted = a.sext(w).shl(1).sar(count.zext(w));
  return { result: shifted.sar(1).trunc(width), cf: shifted.trunc(1), of: constant(1, 0) };
}, { rotate: false, undefinedWhenLarge: false });

const rol = shift("rol", 0, (_cpu, a, count, width) => {
  const result = a.rotl(count.and(width - 1));
  return { result, cf: result.trunc(1), of: result.sign().xor(result.trunc(1)) };
}, { rotate: true, undefinedWhenLarge: false });

const ror = shift("ror", 1, (_cpu, a, count, width) => {
  const result = a.rotr(count.and(width - 1));
  return { result, cf: result.sign(), of: result.sign().xor(result.bit(width - 2)) };
}, { rotate: true, undefinedWhenLarge: false });

/** Rotate counts of 8- and 16-bit operands through carry count modulo 9 and 17. */
function carryRotateCount<W extends IntegerWidth>(count: Bits<W>, width: W): Bits<32> {
  const c = (width <= 32 ? count.zext(32) : count.trunc(32)) as Bits<32>;
  return width < 32 ? c.remU(width + 1) : c;
}

const rcl = shift("rcl", 2, (cpu, a, count, width) => {
  const carry = cpu.cf.read();
  if (width === 64) {
    const outer = a.shr(1).shr(constant(width, 64).sub(count).and(63));
    const entering = carry.zext(width).shl(count.sub(1).and(63));
    const rotated = a.shl(count).or(entering).or(outer);
    const unchanged = count.isZero();
    const result = unchanged.select(a, rotated);
    const cf = unchanged.select(carry, a.shr(constant(width, 64).sub(count).and(63)).trunc(1));
    return { result, cf, of: result.sign().xor(cf) };
  }
  const c = carryRotateCount(count, width).zext(64);
  const joined = carry.zext(64).shl(width).or(a.zext(64));
  const rotated = joined.shl(c).or(joined.shr(constant(64, width + 1).sub(c)));
  const result = rotated.trunc(width), cf = rotated.bit(width);
  return { result, cf, of: result.sign().xor(cf) };
}, { rotate: true, undefinedWhenLarge: false });

const rcr = shift("rcr", 3, (cpu, a, count, width) => {
  const carry = cpu.cf.read();
  if (width === 64) {
    const outer = a.shl(1).shl(constant(width, 64).sub(count).and(63));
    const entering = carry.zext(width).shl(constant(width, 64).sub(count).and(63));
    const unchanged = count.isZero();
    const result = unchanged.select(a, a.shr(count).or(entering).or(outer));
    const cf = unchanged.select(carry, a.shr(count.sub(1).and(63)).trunc(1));
    return { result, cf, of: result.sign().xor(result.bit(62)) };
  }
  const c = carryRotateCount(count, width).zext(64);
  const joined = carry.zext(64).shl(width).or(a.zext(64));
  const rotated = joined.shr(c).or(joined.shl(constant(64, width + 1).sub(c)));
  const result = rotated.trunc(width), cf = rotated.bit(width);
  return { result, cf, of: result.sign().xor(result.bit(width - 2)) };
}, { rotate: true, undefinedWhenLarge: false });

function doubleShift(name: "shld" | "shrd", opcode: number): InstructionDefinition {
  const hex = (offset: number): string => (opcode + offset).toString(16).toUpperCase();
  return instruction({
    name, encodings: [`0F ${hex(0)} /r ib Ev,Gv,Ib`, `0F ${hex(1)} /r Ev,Gv,CL`],
    undefinedFlags: ["af"], undefinedUnlessCountIsOne: ["of"],
    undefinedWhenCountReachesWidth: ["cf", "sf", "zf", "pf"],
    execute<W extends IntegerWidth>({ cpu, dst, src, src2, width }: Context<W>) {
      const a = dst.read(), b = src.read();
      const count = maskedCount(src2 as never, width);
      const c = count.zext(width) as Bits<W>;
      let result: Bits<W>, cf: Bits<1>;
      const complement = constant(width, width).sub(c);
      if (width === 16) {
        // Counts above 16 go on into the destination's own bits again, as processors do: undefined by the manual.
        const first = name === "shld" ? a.zext(64).shl(32).or(b.zext(64).shl(16)).or(a.zext(64))
          : a.zext(64).shl(32).or(b.zext(64).shl(16)).or(a.zext(64));
        const wideCount = count.zext(64);
        const shifted = name === "shld" ? first.shl(wideCount).shr(32) : first.shr(wideCount);
        result = shifted.trunc(width);
        cf = name === "shld" ? first.shl(wideCount).bit(48) : first.shl(1).shr(wideCount).trunc(1);
      } else if (name === "shld") {
        result = a.shl(c).or(b.shr(1).shr(complement.sub(1).and(width - 1)));
        cf = a.shr(complement.and(width - 1)).trunc(1);
      } else {
        result = a.shr(c).or(b.shl(1).shl(complement.sub(1).and(width - 1)));
        cf = a.shr(c.sub(1).and(width - 1)).trunc(1);
      }
      const final = count.isZero().select(a, result);
      dst.write(final);
      when(count.ne(0), () => {
        cpu.logicFlags(result);
        cpu.writeFlags({ cf, of: result.sign().xor(a.sign()) });
      });
    },
  });
}

/** BT and its relatives: a register bit number addresses memory beyond the operand, signed. */
function bitTest(name: "bt" | "bts" | "btr" | "btc", opcode: number, digit: number): InstructionDefinition {
  return instruction({
    name, lockable: name !== "bt", undefinedFlags: ["of", "sf", "af", "pf"],
    encodings: [`0F ${opcode.toString(16).toUpperCase()} /r Ev,Gv`, `0F BA /${digit} ib Ev,Ib`],
    execute<W extends IntegerWidth>({ cpu, dst, src, width, variant }: Context<W>) {
      const byImmediate = src.form.kind === "immediate";
      const number = (byImmediate ? src.as(8).read().zext(width) : src.read()) as Bits<W>;
      const bit = number.and(width - 1);
      const change = (value: Bits<W>): Bits<W> => {
        const mask = constant(width, 1).shl(bit);
        return name === "bts" ? value.or(mask) : name === "btr" ? value.and(mask.not()) : value.xor(mask);
      };
      if (dst.isMemory && !byImmediate) {
        const units = number.sar(width === 16 ? 4 : width === 32 ? 5 : 6).sext(64).mul(width / 8);
        const address = dst.offset().add(units);
        const offset = variant.addressSize === 64 ? address : address.trunc(variant.addressSize).zext(64);
        const value = load(width, "operand", offset, name === "bt" ? "read" : "readForWrite");
        if (name !== "bt") store("operand", offset, change(value));
        return cpu.cf.write(value.shr(bit).trunc(1));
      }
      const value = dst.read();
      if (name !== "bt") dst.write(change(value));
      cpu.cf.write(value.shr(bit).trunc(1));
    },
  });
}

function bitScan(name: "bsf" | "bsr", opcode: string): InstructionDefinition {
  return instruction({
    name, encodings: [`0F ${opcode} /r Gv,Ev`], undefinedFlags: ["cf", "of", "sf", "af", "pf"],
    execute({ cpu, dst, src, width }) {
      const value = src.read();
      const w = width === 64 ? 64 : 32;
      const wide = value.zext(w);
      const found = (name === "bsf" ? wide.ctz() : wide.clz().xor(w - 1)).trunc(width);
      // A source of zero leaves the destination unchanged, upper half included, as all processors in use do.
      when(value.ne(0), () => dst.write(found));
      cpu.zf.write(value.isZero());
    },
  });
}

const popcnt = instruction({
  name: "popcnt", feature: "popcnt", encodings: ["F3 0F B8 /r Gv,Ev"],
  execute({ cpu, dst, src }) {
    const value = src.read();
    dst.write(value.popcnt());
    const zero = constant(1, 0);
    cpu.writeFlags({ cf: zero, pf: zero, af: zero, zf: value.isZero(), sf: zero, of: zero });
  },
});

const bswap = instruction({
  name: "bswap", encodings: ["0F C8+r Zv"],
  execute({ dst, width }) {
    // BSWAP of a 16-bit register is undefined; processors clear it.
    if (width === 16) return dst.write(constant(width, 0));
    dst.write(swapBytes(dst.read()));
  },
});

/** The bytes of a value in reverse order. */
export function swapBytes<W extends Width>(value: Bits<W>): Bits<W> {
  if (value.width === 16) return value.rotl(8);
  const mask = (pattern: bigint): Bits<W> => constant(value.width, pattern);
  if (value.width === 32) {
    return value.rotl(8).and(mask(0x00ff00ffn)).or(value.rotr(8).and(mask(0xff00ff00n)));
  }
  const bytes = value.shl(8).and(mask(0xff00ff00ff00ff00n)).or(value.shr(8).and(mask(0x00ff00ff00ff00ffn)));
  const words = bytes.shl(16).and(mask(0xffff0000ffff0000n)).or(bytes.shr(16).and(mask(0x0000ffff0000ffffn)));
  return words.rotl(32);
}

export const conditionNames: readonly string[] =
  ["o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g"];

const setcc = conditionNames.map((suffix, code) => instruction({
  name: `set${suffix}`, encodings: [`0F ${(0x90 + code).toString(16).toUpperCase()} /r Eb`],
  execute({ dst }) {
    dst.as(8).write(condition(code).zext(8));
  },
}));

const cmovcc = conditionNames.map((suffix, code) => instruction({
  name: `cmov${suffix}`, encodings: [`0F ${(0x40 + code).toString(16).toUpperCase()} /r Gv,Ev`],
  execute({ dst, src }) {
    // The source is read, and a 32-bit destination zero-extended, whether the condition holds or not.
    dst.write(condition(code).select(src.read(), dst.read()));
  },
}));

const carryFlag = [
  instruction({ name: "clc", encodings: ["F8"], execute({ cpu }) { cpu.cf.write(constant(1, 0)); } }),
  instruction({ name: "stc", encodings: ["F9"], execute({ cpu }) { cpu.cf.write(constant(1, 1)); } }),
  instruction({ name: "cmc", encodings: ["F5"], execute({ cpu }) { cpu.cf.write(cpu.cf.read().xor(1)); } }),
];

const lahf = instruction({
  name: "lahf", encodings: ["9F"],
  execute({ cpu }) {
    const place: Record<string, number> = { cf: 0, pf: 2, af: 4, zf: 6, sf: 7 };
    let image: Bits<8> = constant(8, 2);
    for (const name of flagNames) {
      if (name in place) image = image.or(cpu[name].read().zext(8).shl(place[name]));
    }
    cpu.highByte(0).write(image);
  },
});

const sahf = instruction({
  name: "sahf", encodings: ["9E"],
  execute({ cpu }) {
    const image = cpu.highByte(0).read();
    cpu.writeFlags({ cf: image.bit(0), pf: image.bit(2), af: image.bit(4), zf: image.bit(6), sf: image.bit(7) });
  },
});

export const logic: readonly InstructionDefinition[] = [
  bitwise("and", 0x20, 4), bitwise("or", 0x08, 1), bitwise("xor", 0x30, 6), test, not,
  shl, shr, sar, rol, ror, rcl, rcr, doubleShift("shld", 0xa4), doubleShift("shrd", 0xac),
  bitTest("bt", 0xa3, 4), bitTest("bts", 0xab, 5), bitTest("btr", 0xb3, 6), bitTest("btc", 0xbb, 7),
  bitScan("bsf", "BC"), bitScan("bsr", "BD"), popcnt, bswap, ...setcc, ...cmovcc, ...carryFlag, lahf, sahf,
];
