/** Data transfer and stack instructions: SDM volume 1, "Data Transfer Instructions". */
import { Bits, when, type Width } from "../../ir/index.ts";
import {
  checkWrite, constant, instruction, load, Register, Segment, store, type Context, type InstructionDefinition,
} from "../definition.ts";
import { swapBytes } from "./logic.ts";

type IntegerWidth = 8 | 16 | 32 | 64;

const mov = instruction({
  name: "mov",
  encodings: [
    "88 /r Eb,Gb", "89 /r Ev,Gv", "8A /r Gb,Eb", "8B /r Gv,Ev", "A0 AL,Ob", "A1 rAX,Ov", "A2 Ob,AL", "A3 Ov,rAX",
    "B0+r ib Zb,Ib", "B8+r iv Zv,Iv", "C6 /0 ib Eb,Ib", "C7 /0 iz Ev,Iz",
  ],
  execute({ dst, src }) {
    dst.write(src.read());
  },
});

const movzx = instruction({
  name: "movzx", encodings: ["0F B6 /r Gv,Eb", "0F B7 /r Gv,Ew"],
  execute({ dst, src, width }) {
    dst.write((src.read() as Bits).zext(width));
  },
});

const movsx = instruction({
  name: "movsx", encodings: ["0F BE /r Gv,Eb", "0F BF /r Gv,Ew"],
  execute({ dst, src, width }) {
    dst.write((src.read() as Bits).sext(width));
  },
});

const movsxd = instruction({
  // With 66, too, 32 bits are read on AMD (APM volume 3, "MOVSXD"); Intel reads 16, which no result shows.
  name: "movsxd", encodings: ["63 /r o64 Gv,Ed"],
  execute({ dst, src, width }) {
    const value = src.as(32).read();
    dst.write((width === 64 ? value.sext(64) : value.trunc(width as 16 | 32)) as never);
  },
});

const movbe = instruction({
  name: "movbe", feature: "movbe", encodings: ["NFx 0F 38 F0 /r Gv,Mv", "NFx 0F 38 F1 /r Mv,Gv"],
  execute({ dst, src }) {
    dst.write(swapBytes(src.read()));
  },
});

const lea = instruction({
  name: "lea", encodings: ["8D /r Gv,M"],
  execute({ dst, src, width }) {
    dst.write(src.offset().trunc(width));
  },
});

const xchg = instruction({
  name: "xchg", lockable: true, encodings: ["86 /r Eb,Gb", "87 /r Ev,Gv", "90+r Zv,rAX"],
  execute({ dst, src }) {
    const a = dst.read(), b = src.read();
    dst.write(b);
    src.write(a);
  },
});

const nop = instruction({ name: "nop", encodings: ["90"], execute() {} });

const push = instruction({
  name: "push", encodings: ["50+r d64 Zv", "FF /6 d64 Ev", "68 iz d64 Iz", "6A ib d64 Ibs"],
  execute({ cpu, dst }) {
    cpu.push(dst.read());
  },
});

const pop = instruction({
  name: "pop", encodings: ["58+r d64 Zv", "8F /0 d64 Ev"],
  execute<W extends IntegerWidth>({ cpu, dst, width }: Context<W>) {
    const value = cpu.peek(width);
    const next = cpu.stackOffset(cpu.stackPointer().add(width / 8));
    if (!dst.isMemory) {
      // The pointer moves first: POP rSP leaves the popped value in it.
      cpu.writeStackPointer(next);
      return dst.write(value);
    }
    // An address based on rSP uses the value after the increment; whoever makes the record adds that to its displacement.
    dst.write(value);
    cpu.writeStackPointer(next);
  },
});

const generalRegisters = [0, 1, 2, 3, 4, 5, 6, 7];

const pusha = instruction({
  name: "pusha", names: { 16: "pusha", 32: "pushad" }, encodings: ["60 i64"],
  execute({ cpu, variant }) {
    const width = variant.operandSize as 16 | 32, sizeBytes = width / 8;
    const top = cpu.stackPointer();
    const offsets = generalRegisters.map((_, index) => cpu.stackOffset(top.sub((index + 1) * sizeBytes)));
    for (const offset of offsets) checkWrite(Segment.SS, offset, sizeBytes);
    generalRegisters.forEach((number, index) => store(Segment.SS, offsets[index], cpu.gpr(number, width).read()));
    cpu.writeStackPointer(offsets[7]);
  },
});

const popa = instruction({
  name: "popa", names: { 16: "popa", 32: "popad" }, encodings: ["61 i64"],
  execute({ cpu, variant }) {
    const width = variant.operandSize as 16 | 32;
    const values = generalRegisters.map((_, index) => cpu.peek(width, index * (width / 8)));
    const next = cpu.stackOffset(cpu.stackPointer().add(width));
    values.forEach((value, index) => {
      const number = 7 - index;
      // The stored value of rSP is skipped.
      if (number !== Register.RSP) cpu.gpr(number, width).write(value as Bits<typeof width>);
    });
    cpu.writeStackPointer(next);
  },
});

const enter = instruction({
  name: "enter", encodings: ["C8 d64 iw ib Iw,Ib"],
  execute({ cpu, variant }) {
    const width = variant.operandSize, sizeBytes = width / 8;
    // The record's immediate holds both operands: the size in bits 15:0, the level in bits 23:16.
    const frameSize = cpu.immediate64().and(0xffff);
    const level = cpu.immediate64().shr(16).and(31);
    const framePointer = cpu.gpr(Register.RBP, variant.stackSize).read().zext(64);
    const top = cpu.stackPointer();
    const frame = cpu.stackOffset(top.sub(sizeBytes));
    // With 32-bit operands on a 16-bit stack the upper half comes from ESP.
    const framePointerValue = variant.stackSize < width
      ? cpu.gpr(Register.RSP, width).read().and(0xffff_0000).or(frame.trunc(width)) : frame.trunc(width);
    const slot = (index: number): Bits<64> => cpu.stackOffset(top.sub((index + 1) * sizeBytes));
    // All reads and checks come first, so that a fault leaves nothing half done.
    for (let index = 0; index <= 31; index++) {
      when(constant(64, index).leU(level), () => {
        checkWrite(Segment.SS, slot(index), sizeBytes);
        if (index > 0 && index < 31) {
          when(constant(64, index).ltU(level), () => {
            void load(width, Segment.SS, cpu.stackOffset(framePointer.sub(index * sizeBytes)));
          });
        }
      });
    }
    const final = cpu.stackOffset(top.sub(level.add(1).mul(sizeBytes)).sub(frameSize));
    checkWrite(Segment.SS, final, sizeBytes);
    store(Segment.SS, frame, cpu.gpr(Register.RBP, width).read());
    for (let index = 1; index <= 31; index++) {
      const last = (): void => store(Segment.SS, slot(index), framePointerValue);
      when(constant(64, index).leU(level), index === 31 ? last : () => {
        when(constant(64, index).ltU(level), () => {
          store(Segment.SS, slot(index), load(width, Segment.SS, cpu.stackOffset(framePointer.sub(index * sizeBytes))));
        }, last);
      });
    }
    cpu.gpr(Register.RBP, width).write(framePointerValue as Bits<typeof width>);
    cpu.writeStackPointer(final);
  },
});

const leave = instruction({
  name: "leave", encodings: ["C9 d64"],
  execute({ cpu, variant }) {
    const width = variant.operandSize;
    const framePointer = cpu.stackOffset(cpu.gpr(Register.RBP, variant.stackSize).read().zext(64));
    const value = load(width, Segment.SS, framePointer);
    cpu.writeStackPointer(cpu.stackOffset(framePointer.add(width / 8)));
    cpu.gpr(Register.RBP, width).write(value);
  },
});

const convertWithin = instruction({
  name: "cbw", names: { 16: "cbw", 32: "cwde", 64: "cdqe" }, encodings: ["98"],
  execute({ cpu, variant }) {
    const width = variant.operandSize;
    const half = (width / 2) as 8 | 16 | 32;
    cpu.gpr(Register.RAX, width).write((cpu.gpr(Register.RAX, half).read() as Bits).sext(width));
  },
});

const convertAcross = instruction({
  name: "cwd", names: { 16: "cwd", 32: "cdq", 64: "cqo" }, encodings: ["99"],
  execute({ cpu, variant }) {
    const width = variant.operandSize;
    cpu.gpr(Register.RDX, width).write(cpu.gpr(Register.RAX, width).read().sar(width - 1));
  },
});

const xlat = instruction({
  name: "xlatb", encodings: ["D7"],
  execute({ cpu, variant }) {
    const size = variant.addressSize;
    const base = cpu.gpr(Register.RBX, size).read() as Bits<Width>;
    const index = cpu.gpr(Register.RAX, 8).read().zext(size) as Bits<Width>;
    cpu.gpr(Register.RAX, 8).write(load(8, "operand", base.add(index).zext(64)));
  },
});

export const movement: readonly InstructionDefinition[] = [
  mov, movzx, movsx, movsxd, movbe, lea, xchg, nop, push, pop, pusha, popa, enter, leave, convertWithin, convertAcross, xlat,
];
