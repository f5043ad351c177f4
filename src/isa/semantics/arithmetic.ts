/** Binary integer arithmetic: SDM volume 1, "Binary Arithmetic Instructions". */
import { Bits, Variable, when } from "../../ir/index.ts";
import {
  constant, instruction, Register, Vector, type Context, type Cpu,
  type InstructionDefinition, type OperandWidth,
} from "../definition.ts";

/** The eight ALU operations share their encodings: opcode bytes start at `first`, the group's /digit is `digit`. */
export function aluEncodings(first: number, digit: number): string[] {
  const hex = (offset: number): string => (first + offset).toString(16).toUpperCase().padStart(2, "0");
  return [
    `${hex(0)} /r Eb,Gb`, `${hex(1)} /r Ev,Gv`, `${hex(2)} /r Gb,Eb`, `${hex(3)} /r Gv,Ev`, `${hex(4)} ib AL,Ib`,
    `${hex(5)} iz rAX,Iz`, `80 /${digit} ib Eb,Ib`, `81 /${digit} iz Ev,Iz`, `83 /${digit} ib Ev,Ibs`,
    `82 /${digit} ib i64 Eb,Ib`,
  ];
}

export const add: InstructionDefinition = instruction({
  name: "add", lockable: true, encodings: aluEncodings(0x00, 0),
  execute({ cpu, dst, src }) {
    const a = dst.read(), b = src.read();
    const sum = a.add(b);
    dst.write(sum);
    cpu.sumFlags(a, b, sum);
  },
});

export const adc: InstructionDefinition = instruction({
  name: "adc", lockable: true, encodings: aluEncodings(0x10, 2),
  execute({ cpu, dst, src }) {
    const a = dst.read(), b = src.read();
    const sum = a.add(b).add(cpu.cf.read().zext(a.width));
    dst.write(sum);
    cpu.sumFlags(a, b, sum, { hasCarryIn: true });
  },
});

export const sub: InstructionDefinition = instruction({
  name: "sub", lockable: true, encodings: aluEncodings(0x28, 5),
  execute({ cpu, dst, src }) {
    const a = dst.read(), b = src.read();
    const difference = a.sub(b);
    dst.write(difference);
    cpu.differenceFlags(a, b, difference);
  },
});

export const sbb: InstructionDefinition = instruction({
  name: "sbb", lockable: true, encodings: aluEncodings(0x18, 3),
  execute({ cpu, dst, src }) {
    const a = dst.read(), b = src.read();
    const difference = a.sub(b).sub(cpu.cf.read().zext(a.width));
    dst.write(difference);
    cpu.differenceFlags(a, b, difference, { hasCarryIn: true });
  },
});

export const cmp: InstructionDefinition = instruction({
  name: "cmp", encodings: aluEncodings(0x38, 7),
  execute({ cpu, dst, src }) {
    const a = dst.read(), b = src.read();
    const difference = a.sub(b);
    cpu.differenceFlags(a, b, difference);
  },
});

export const inc: InstructionDefinition = instruction({
  name: "inc", lockable: true, encodings: ["FE /0 Eb", "FF /0 Ev", "40+r i64 Zv"],
  execute({ cpu, dst }) {
    const a = dst.read(), one = constant(a.width, 1);
    const sum = a.add(one);
    dst.write(sum);
    cpu.sumFlags(a, one, sum, { keepCarry: true });
  },
});

export const dec: InstructionDefinition = instruction({
  name: "dec", lockable: true, encodings: ["FE /1 Eb", "FF /1 Ev", "48+r i64 Zv"],
  execute({ cpu, dst }) {
    const a = dst.read(), one = constant(a.width, 1);
    const difference = a.sub(one);
    dst.write(difference);
    cpu.differenceFlags(a, one, difference, { keepCarry: true });
  },
});

export const neg: InstructionDefinition = instruction({
  name: "neg", lockable: true, encodings: ["F6 /3 Eb", "F7 /3 Ev"],
  execute({ cpu, dst }) {
    const a = dst.read();
    const difference = a.neg();
    dst.write(difference);
    cpu.differenceFlags(constant(a.width, 0), a, difference);
  },
});

export const xadd: InstructionDefinition = instruction({
  name: "xadd", lockable: true, encodings: ["0F C0 /r Eb,Gb", "0F C1 /r Ev,Gv"],
  execute({ cpu, dst, src }) {
    const a = dst.read(), b = src.read();
    const sum = a.add(b);
    // The destination is written last, so that XADD of a register with itself leaves the sum.
    if (dst.isMemory) {
      dst.write(sum);
      src.write(a);
    } else {
      src.write(a);
      dst.write(sum);
    }
    cpu.sumFlags(a, b, sum);
  },
});

export const cmpxchg: InstructionDefinition = instruction({
  name: "cmpxchg", lockable: true, encodings: ["0F B0 /r Eb,Gb", "0F B1 /r Ev,Gv"],
  execute<W extends 8 | 16 | 32 | 64>({ cpu, dst, src, width }: Context<W>) {
    const accumulator = cpu.gpr(Register.RAX, width as 8);
    const expected = accumulator.read() as Bits as Bits<W>;
    const found = dst.read(), replacement = src.read();
    const difference = expected.sub(found);
    const equal = difference.isZero();
    // The destination is written in either case: a failing CMPXCHG still needs write permission. A register
    // destination keeps its upper half when the comparison fails.
    if (dst.isMemory) {
      dst.write(equal.select(replacement, found));
      when(equal, () => {}, () => accumulator.write(found as Bits as Bits<8>));
    } else {
      when(equal, () => dst.write(replacement), () => accumulator.write(found as Bits as Bits<8>));
    }
    cpu.differenceFlags(expected, found, difference);
  },
});

function cmpxchgPair<W extends 32 | 64>(cpu: Cpu, dst: Context<8>["dst"], width: W): void {
  const [rax, rcx, rdx, rbx] = [Register.RAX, Register.RCX, Register.RDX, Register.RBX].map((n) => cpu.gpr(n, width));
  if (width === 64) {
    const pair = dst.as(128);
    const found = pair.read();
    const low = found.lane(64, 0), high = found.lane(64, 1);
    const equal = low.eq((rax.read() as Bits as Bits<64>)).and(high.eq(rdx.read() as Bits as Bits<64>));
    const replacement = found.withLane(0, rbx.read() as Bits as Bits<64>).withLane(1, rcx.read() as Bits as Bits<64>);
    pair.write(equal.select(replacement, found));
    when(equal, () => {}, () => {
      rax.write(low as Bits as Bits<W>);
      rdx.write(high as Bits as Bits<W>);
    });
    cpu.zf.write(equal);
    return;
  }
  const pair = dst.as(64);
  const found = pair.read();
  const join = (high: Bits, low: Bits): Bits<64> => high.zext(64).shl(32).or(low.zext(64));
  const equal = found.eq(join(rdx.read(), rax.read()));
  pair.write(equal.select(join(rcx.read(), rbx.read()), found));
  when(equal, () => {}, () => {
    rax.write(found.trunc(32) as Bits as Bits<W>);
    rdx.write(found.shr(32).trunc(32) as Bits as Bits<W>);
  });
  cpu.zf.write(equal);
}

export const cmpxchg8b: InstructionDefinition = instruction({
  name: "cmpxchg8b", names: { 64: "cmpxchg16b" }, lockable: true, encodings: ["0F C7 /1 M"],
  execute({ cpu, dst, variant }) {
    if (variant.operandSize === 64) {
      when(dst.offset().and(15).ne(0), () => cpu.raise(Vector.GP, 0));
      return cmpxchgPair(cpu, dst as never, 64);
    }
    cmpxchgPair(cpu, dst as never, 32);
  },
});

/** Twice as wide, for products and dividends. */
function double(width: 8 | 16 | 32): 16 | 32 | 64 {
  return (width * 2) as 16 | 32 | 64;
}

/** Writes a 2W-bit value to AX or (E)DX:(E)AX. */
function writeWideAccumulator(cpu: Cpu, width: 8 | 16 | 32, wide: Bits): void {
  if (width === 8) return cpu.gpr(Register.RAX, 16).write(wide as Bits<16>);
  cpu.gpr(Register.RAX, width).write(wide.trunc(width));
  cpu.gpr(Register.RDX, width).write(wide.shr(width).trunc(width));
}

function multiplyFlags(cpu: Cpu, low: Bits, overflow: Bits<1>): void {
  // SF, ZF, AF and PF are undefined; processors derive them from the low half.
  cpu.logicFlags(low);
  cpu.writeFlags({ cf: overflow, of: overflow });
}

export const mul: InstructionDefinition = instruction({
  name: "mul", encodings: ["F6 /4 Eb", "F7 /4 Ev"], undefinedFlags: ["sf", "zf", "af", "pf"],
  execute({ cpu, dst, width }) {
    const accumulator = cpu.gpr(Register.RAX, width as OperandWidth as 8);
    const a = accumulator.read() as Bits, b = dst.read() as Bits;
    if (width === 64) {
      const high = (a as Bits<64>).mulHighU(b as Bits<64>), low = (a as Bits<64>).mul(b as Bits<64>);
      cpu.gpr(Register.RAX, 64).write(low);
      cpu.gpr(Register.RDX, 64).write(high);
      return multiplyFlags(cpu, low, high.ne(0));
    }
    const narrow = width as 8 | 16 | 32;
    const product = a.zext(double(narrow)).mul(b.zext(double(narrow)));
    writeWideAccumulator(cpu, narrow, product);
    multiplyFlags(cpu, product.trunc(narrow), product.shr(narrow).ne(0));
  },
});

export const imul: InstructionDefinition = instruction({
  name: "imul", undefinedFlags: ["sf", "zf", "af", "pf"],
  encodings: ["F6 /5 Eb", "F7 /5 Ev", "0F AF /r Gv,Ev", "69 /r iz Gv,Ev,Iz", "6B /r ib Gv,Ev,Ibs"],
  execute({ cpu, dst, src, src2, operands, width }) {
    const toAccumulator = operands.length === 1;
    const a: Bits = toAccumulator ? cpu.gpr(Register.RAX, width as OperandWidth as 8).read()
      : operands.length === 2 ? dst.read() : src.read();
    const b: Bits = toAccumulator ? dst.read() : operands.length === 2 ? src.read() : src2.read();
    if (width === 64) {
      const low = (a as Bits<64>).mul(b as Bits<64>), high = (a as Bits<64>).mulHighS(b as Bits<64>);
      if (toAccumulator) {
        cpu.gpr(Register.RAX, 64).write(low);
        cpu.gpr(Register.RDX, 64).write(high);
      } else dst.write(low as Bits as never);
      return multiplyFlags(cpu, low, high.ne(low.sar(63)));
    }
    const narrow = width as 8 | 16 | 32;
    const product = a.sext(double(narrow)).mul(b.sext(double(narrow)));
    const low = product.trunc(narrow);
    if (toAccumulator) writeWideAccumulator(cpu, narrow, product);
    else dst.write(low as Bits as never);
    multiplyFlags(cpu, low, product.ne(low.sext(double(narrow))));
  },
});

/** Quotient and remainder of AX or (E)DX:(E)AX; #DE before anything is committed. */
function divide(cpu: Cpu, divisor: Bits, width: 8 | 16 | 32, signed: boolean): void {
  const wide = double(width);
  const dividend: Bits = width === 8
    ? cpu.gpr(Register.RAX, 16).read()
    : cpu.gpr(Register.RDX, width).read().zext(wide).shl(width).or(cpu.gpr(Register.RAX, width).read().zext(wide));
  when(divisor.isZero(), () => cpu.raise(Vector.DE));
  // Computed one step wider than the dividend needs, so that the most negative dividend cannot trap in the host.
  const computeWidth = width === 8 ? 32 : 64;
  const n = signed ? dividend.sext(computeWidth) : dividend.zext(computeWidth);
  const d = signed ? divisor.sext(computeWidth) : divisor.zext(computeWidth);
  if (signed && width === 32) {
    when(n.eq(1n << 63n).and(d.eq(0xffff_ffff_ffff_ffffn)), () => cpu.raise(Vector.DE));
  }
  const quotient = signed ? n.divS(d) : n.divU(d);
  const remainder = signed ? n.remS(d) : n.remU(d);
  const narrowed = quotient.trunc(width);
  const fits = signed ? narrowed.sext(computeWidth).eq(quotient) : narrowed.zext(computeWidth).eq(quotient);
  when(fits, () => {}, () => cpu.raise(Vector.DE));
  if (width === 8) {
    cpu.gpr(Register.RAX, 8).write(narrowed as Bits<8>);
    cpu.highByte(Register.RAX).write(remainder.trunc(8));
  } else {
    cpu.gpr(Register.RAX, width).write(narrowed as never);
    cpu.gpr(Register.RDX, width).write(remainder.trunc(width) as never);
  }
}

function absolute(value: Bits<64>): Bits<64> {
  return value.sign().select(value.neg(), value);
}

/** Unsigned 128 by 64 bits: restoring division when the upper half is not zero, which compilers' code rarely has. */
function divide128(high: Bits<64>, low: Bits<64>, divisor: Bits<64>): { quotient: Bits<64>; remainder: Bits<64> } {
  const quotient = new Variable(low), remainder = new Variable(high);
  when(high.isZero(), () => {
    quotient.set(low.divU(divisor));
    remainder.set(low.remU(divisor));
  }, () => {
    // Knuth's algorithm D on 32-bit digits, normalized so that the divisor's top bit is set.
    const shift = divisor.clz();
    const v = divisor.shl(shift);
    const vHigh = v.shr(32), vLow = v.and(0xffff_ffffn);
    const carriedIn = shift.isZero().select(constant(64, 0), low.shr(constant(64, 64).sub(shift).and(63)));
    const u = high.shl(shift).or(carriedIn);
    const uLow = low.shl(shift);
    const step = (top: Bits<64>, digit: Bits<64>): { digit: Bits<64>; rest: Bits<64> } => {
      const estimate = new Variable(top.divU(vHigh)), rest = new Variable(top.remU(vHigh));
      for (let correction = 0; correction < 2; correction++) {
        const q = estimate.get(), r = rest.get();
        const tooLarge = q.shr(32).ne(0).or(r.shl(32).or(digit).ltU(q.mul(vLow)));
        when(tooLarge.and(r.shr(32).isZero()), () => {
          estimate.set(q.sub(1));
          rest.set(r.add(vHigh));
        });
      }
      const q = estimate.get();
      return { digit: q, rest: top.shl(32).or(digit).sub(q.mul(v)) };
    };
    const upper = step(u, uLow.shr(32));
    const lower = step(upper.rest, uLow.and(0xffff_ffffn));
    quotient.set(upper.digit.shl(32).or(lower.digit));
    remainder.set(lower.rest.shr(shift));
  });
  return { quotient: quotient.get(), remainder: remainder.get() };
}

export const div: InstructionDefinition = instruction({
  name: "div", encodings: ["F6 /6 Eb", "F7 /6 Ev"], undefinedFlags: ["cf", "pf", "af", "zf", "sf", "of"],
  execute({ cpu, dst, width }) {
    if (width !== 64) return divide(cpu, dst.read(), width as 8 | 16 | 32, false);
    const divisor = dst.read() as Bits as Bits<64>;
    const rax = cpu.gpr(Register.RAX, 64), rdx = cpu.gpr(Register.RDX, 64);
    const low = rax.read(), high = rdx.read();
    // Covers a divisor of zero too.
    when(divisor.leU(high), () => cpu.raise(Vector.DE));
    const { quotient, remainder } = divide128(high, low, divisor);
    rax.write(quotient);
    rdx.write(remainder);
  },
});

export const idiv: InstructionDefinition = instruction({
  name: "idiv", encodings: ["F6 /7 Eb", "F7 /7 Ev"], undefinedFlags: ["cf", "pf", "af", "zf", "sf", "of"],
  execute({ cpu, dst, width }) {
    if (width !== 64) return divide(cpu, dst.read(), width as 8 | 16 | 32, true);
    const divisor = dst.read() as Bits as Bits<64>;
    const rax = cpu.gpr(Register.RAX, 64), rdx = cpu.gpr(Register.RDX, 64);
    const low = rax.read(), high = rdx.read();
    const negativeDividend = high.sign(), negativeDivisor = divisor.sign();
    const negatedLow = low.neg();
    const dividendLow = negativeDividend.select(negatedLow, low);
    const dividendHigh = negativeDividend.select(high.not().add(low.isZero().zext(64)), high);
    const magnitude = absolute(divisor);
    when(magnitude.leU(dividendHigh), () => cpu.raise(Vector.DE));
    const { quotient, remainder } = divide128(dividendHigh, dividendLow, magnitude);
    const negative = negativeDividend.xor(negativeDivisor);
    const limit = negative.select(constant(64, 1n << 63n), (1n << 63n) - 1n);
    when(limit.ltU(quotient), () => cpu.raise(Vector.DE));
    rax.write(negative.select(quotient.neg(), quotient));
    rdx.write(negativeDividend.select(remainder.neg(), remainder));
  },
});

export const arithmetic: readonly InstructionDefinition[] = [
  add, adc, sub, sbb, cmp, inc, dec, neg, xadd, cmpxchg, cmpxchg8b, mul, imul, div, idiv,
];

