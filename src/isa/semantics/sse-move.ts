/** Moves between XMM registers, memory, general registers and MXCSR (SDM volume 1, "SSE Data Transfer Instructions" and relatives). */
import { type Bits, constant, shuffle, splat, vector, vectorToScalar, when } from "../../ir/index.ts";
import { type InstructionDefinition, load, Register, store, Vector } from "../definition.ts";
import * as state from "../state.ts";
import { bitSelect, mxcsrMask, range, readAligned, requireAligned, sseInstruction } from "./simd.ts";

/** Whole-register moves; `isAligned` demands 16-byte alignment of memory. */
function wholeMove(name: string, feature: string, encodings: readonly string[], isAligned: boolean): InstructionDefinition {
  return sseInstruction({
    name, feature, encodings,
    execute({ cpu, dst, src }) {
      if (isAligned && dst.isMemory) requireAligned(cpu, dst);
      dst.as(128).write(isAligned ? readAligned(cpu, src) : src.as(128).read());
    },
  });
}

/** MOVSS and MOVSD: a load clears the rest of the register, a move between registers keeps it. */
function scalarMove(name: string, feature: string, encodings: readonly string[]): InstructionDefinition {
  return sseInstruction({
    name, feature, encodings,
    execute({ dst, src }) {
      if (src.isMemory) dst.as(128).write((src.read() as Bits).zext(128));
      else dst.write(src.read());
    },
  });
}

/** Moves of the lower (MOVLPS) half: all but that half of a register stays. */
function lowHalfMove(name: string, feature: string, prefix: string): InstructionDefinition {
  return sseInstruction({
    name, feature, encodings: [`${prefix} 0F 12 /r Vq,Mq`, `${prefix} 0F 13 /r Mq,Vq`],
    execute({ dst, src }) {
      dst.write(src.read());
    },
  });
}

function highHalfMove(name: string, feature: string, prefix: string): InstructionDefinition {
  return sseInstruction({
    name, feature, encodings: [`${prefix} 0F 16 /r Vq,Mq`, `${prefix} 0F 17 /r Mq,Vq`],
    execute({ dst, src }) {
      if (dst.isMemory) return dst.as(64).write(src.as(128).read().lane(64, 1));
      const low = src.as(64).read();
      dst.as(128).write(dst.as(128).read().withLane(1, low));
    },
  });
}

const movhlps = sseInstruction({
  name: "movhlps", feature: "sse", encodings: ["NP 0F 12 /r Vq,Uq"],
  execute({ dst, src }) {
    dst.as(64).write(src.as(128).read().lane(64, 1));
  },
});

const movlhps = sseInstruction({
  name: "movlhps", feature: "sse", encodings: ["NP 0F 16 /r Vq,Uq"],
  execute({ dst, src }) {
    dst.as(128).write(dst.as(128).read().withLane(1, src.as(64).read()));
  },
});

const movddup = sseInstruction({
  name: "movddup", feature: "sse3", encodings: ["F2 0F 12 /r Vq,Wq"],
  execute({ dst, src }) {
    dst.as(128).write(splat(src.as(64).read()));
  },
});

function duplicate(name: string, opcode: string, choice: readonly number[]): InstructionDefinition {
  return sseInstruction({
    name, feature: "sse3", encodings: [`F3 0F ${opcode} /r Vdq,Wdq`],
    execute({ cpu, dst, src }) {
      const value = readAligned(cpu, src);
      dst.as(128).write(shuffle(value, value, choice.flatMap((lane) => range(4, lane * 4))));
    },
  });
}

const movd = sseInstruction({
  name: "movd", feature: "sse2", encodings: ["W0 66 0F 6E /r Vdq,Ey", "W0 66 0F 7E /r Ey,Vdq"],
  execute({ dst, src }) {
    if (dst.form.kind === "register" && dst.form.file === "xmm") {
      return dst.as(128).write(src.as(32).read().zext(128));
    }
    dst.as(32).write(src.as(32).read());
  },
});

const movq = sseInstruction({
  name: "movq", feature: "sse2",
  encodings: ["REX.W 66 0F 6E /r Vdq,Ey", "REX.W 66 0F 7E /r Ey,Vdq", "F3 0F 7E /r Vq,Wq", "66 0F D6 /r Wq,Vq"],
  execute({ dst, src }) {
    const value = src.as(64).read();
    if (dst.form.kind === "register" && dst.form.file === "xmm") dst.as(128).write(value.zext(128));
    else dst.as(64).write(value);
  },
});

function nonTemporalStore(name: string, feature: string, encodings: readonly string[]): InstructionDefinition {
  return wholeMove(name, feature, encodings, true);
}

/** No check of CR0 and CR4: it touches no SIMD state. */
const movnti: InstructionDefinition = {
  name: "movnti", feature: "sse2", encodings: ["NP 0F C3 /r My,Gy"],
  execute({ dst, src }) {
    dst.write(src.read());
  },
};

function signMask(name: string, feature: string, prefix: string, operation: string): InstructionDefinition {
  return sseInstruction({
    name, feature, encodings: [`${prefix} 0F 50 /r Gy,Udq`],
    execute({ dst, src, width }) {
      dst.write(vectorToScalar(operation, src.as(128).read()).zext(width as 32) as Bits as never);
    },
  });
}

const pmovmskb = sseInstruction({
  name: "pmovmskb", feature: "sse2", encodings: ["66 0F D7 /r Gy,Udq"],
  execute({ dst, src, width }) {
    dst.write(vectorToScalar("i8x16.bitmask", src.as(128).read()).zext(width as 32) as Bits as never);
  },
});

const maskmovdqu = sseInstruction({
  name: "maskmovdqu", feature: "sse2", encodings: ["66 0F F7 /r Vdq,Udq"],
  execute({ cpu, dst, src, variant }) {
    const offset = (cpu.gpr(Register.RDI, variant.addressSize).read() as Bits).zext(64);
    const mask = vector("i8x16.shr_s", src.as(128).read(), constant(32, 7));
    const value = dst.as(128).read();
    // Memory is checked even where the mask chooses nothing, and its alignment to eight bytes.
    const upperOffset = variant.addressSize === 64 ? offset.add(8) : offset.add(8).trunc(variant.addressSize).zext(64);
    const lower = load(64, "operand", offset, "readForWrite"), upper = load(64, "operand", upperOffset, "readForWrite");
    const result = bitSelect(mask, value, lower.zext(128).withLane(1, upper));
    when(vectorToScalar("v128.any_true", mask).ne(0), () => {
      store("operand", offset, result.lane(64, 0));
      store("operand", upperOffset, result.lane(64, 1));
    });
  },
});

const ldmxcsr = sseInstruction({
  name: "ldmxcsr", feature: "sse", encodings: ["NP 0F AE /2 Md"],
  execute({ cpu, dst }) {
    const value = dst.as(32).read();
    when(value.and(~mxcsrMask).ne(0), () => cpu.raise(Vector.GP, 0));
    cpu.field<32>(state.mxcsr).write(value);
  },
});

const stmxcsr = sseInstruction({
  name: "stmxcsr", feature: "sse", encodings: ["NP 0F AE /3 Md"],
  execute({ cpu, dst }) {
    dst.as(32).write(cpu.field<32>(state.mxcsr).read());
  },
});

export const sseMove: readonly InstructionDefinition[] = [
  wholeMove("movups", "sse", ["NP 0F 10 /r Vps,Wps", "NP 0F 11 /r Wps,Vps"], false),
  wholeMove("movupd", "sse2", ["66 0F 10 /r Vpd,Wpd", "66 0F 11 /r Wpd,Vpd"], false),
  wholeMove("movdqu", "sse2", ["F3 0F 6F /r Vdq,Wdq", "F3 0F 7F /r Wdq,Vdq"], false),
  wholeMove("lddqu", "sse3", ["F2 0F F0 /r Vdq,Mdq"], false),
  wholeMove("movaps", "sse", ["NP 0F 28 /r Vps,Wps", "NP 0F 29 /r Wps,Vps"], true),
  wholeMove("movapd", "sse2", ["66 0F 28 /r Vpd,Wpd", "66 0F 29 /r Wpd,Vpd"], true),
  wholeMove("movdqa", "sse2", ["66 0F 6F /r Vdq,Wdq", "66 0F 7F /r Wdq,Vdq"], true),
  wholeMove("movntdqa", "sse4_1", ["66 0F 38 2A /r Vdq,Mdq"], true),
  nonTemporalStore("movntps", "sse", ["NP 0F 2B /r Mps,Vps"]),
  nonTemporalStore("movntpd", "sse2", ["66 0F 2B /r Mpd,Vpd"]),
  nonTemporalStore("movntdq", "sse2", ["66 0F E7 /r Mdq,Vdq"]),
  movnti,
  scalarMove("movss", "sse", ["F3 0F 10 /r Vss,Wss", "F3 0F 11 /r Wss,Vss"]),
  scalarMove("movsd", "sse2", ["F2 0F 10 /r Vsd,Wsd", "F2 0F 11 /r Wsd,Vsd"]),
  lowHalfMove("movlps", "sse", "NP"), lowHalfMove("movlpd", "sse2", "66"),
  highHalfMove("movhps", "sse", "NP"), highHalfMove("movhpd", "sse2", "66"),
  movhlps, movlhps, movddup,
  duplicate("movsldup", "12", [0, 0, 2, 2]), duplicate("movshdup", "16", [1, 1, 3, 3]),
  movd, movq,
  signMask("movmskps", "sse", "NP", "i32x4.bitmask"), signMask("movmskpd", "sse2", "66", "i64x2.bitmask"),
  pmovmskb, maskmovdqu, ldmxcsr, stmxcsr,
];
