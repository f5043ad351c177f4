/** MMX instructions without an SSE counterpart of the same shape: moves, EMMS and exchanges with XMM registers (SDM volume 1, chapter 9). */
import { type Bits, constant, Status, vector, vectorToScalar, when } from "../../ir/index.ts";
import { type InstructionDefinition, load, Register, store } from "../definition.ts";
import { routine } from "../processor.ts";
import * as state from "../state.ts";
import { bitSelect, enterMmx, enterMmxNow, mixedInstruction, mmxInstruction, readMmx, requireMmx, writeMmx } from "./simd.ts";

const enterMmxRoutine = routine("enterMmx", (p) => {
  enterMmxNow(p.state);
  return Status.Next;
});

const emms: InstructionDefinition = {
  name: "emms", feature: "mmx", encodings: ["NP 0F 77"],
  execute({ cpu }) {
    requireMmx(cpu);
    enterMmx(cpu);
    cpu.field<16>(state.x87Tag).write(constant(16, 0));
  },
};

function isMmxRegister({ form }: { readonly form: { readonly kind: string; readonly file?: string } }): boolean {
  return form.kind === "register" && form.file === "mmx";
}

/** MOVD and MOVQ between an MMX register and a general register, memory or another MMX register. */
function move(name: string, width: 32 | 64, encodings: readonly string[]): InstructionDefinition {
  return mmxInstruction({
    name, feature: "mmx", encodings,
    execute({ cpu, dst, src }) {
      const value = src.as(width).read();
      if (isMmxRegister(dst)) return writeMmx(cpu, dst, value.zext(128));
      dst.as(width).write(value);
      enterMmx(cpu);
    },
  });
}

const movntq = mmxInstruction({
  name: "movntq", feature: "sse", encodings: ["NP 0F E7 /r Mq,Pq"],
  execute({ cpu, dst, src }) {
    dst.as(64).write(src.as(64).read());
    enterMmx(cpu);
  },
});

const pmovmskb = mmxInstruction({
  name: "pmovmskb", feature: "sse", encodings: ["NP 0F D7 /r Gy,Nq"],
  execute({ cpu, dst, src, width }) {
    const mask = vectorToScalar("i8x16.bitmask", readMmx(src)).and(0xff);
    dst.write(mask.zext(width as 32) as Bits as never);
    enterMmx(cpu);
  },
});

const maskmovq = mmxInstruction({
  name: "maskmovq", feature: "sse", encodings: ["NP 0F F7 /r Pq,Nq"],
  execute({ cpu, dst, src, variant }) {
    const offset = (cpu.gpr(Register.RDI, variant.addressSize).read() as Bits).zext(64);
    const mask = vector("i8x16.shr_s", src.as(64).read().zext(128), constant(32, 7));
    const value = readMmx(dst);
    // Processors enter MMX state before the access that may fault, and check memory even where the mask chooses nothing.
    void cpu.call(enterMmxRoutine);
    const old = load(64, "operand", offset, "readForWrite").zext(128);
    when(vectorToScalar("v128.any_true", mask).ne(0), () => store("operand", offset, bitSelect(mask, value, old).lane(64, 0)));
  },
});

const movq2dq = mixedInstruction({
  name: "movq2dq", feature: "sse2", encodings: ["F3 0F D6 /r Vdq,Nq"],
  execute({ cpu, dst, src }) {
    dst.as(128).write(src.as(64).read().zext(128));
    enterMmx(cpu);
  },
});

const movdq2q = mixedInstruction({
  name: "movdq2q", feature: "sse2", encodings: ["F2 0F D6 /r Pq,Uq"],
  execute({ cpu, dst, src }) {
    writeMmx(cpu, dst, src.as(128).read());
  },
});

export const mmx: readonly InstructionDefinition[] = [
  emms,
  move("movd", 32, ["W0 NP 0F 6E /r Pq,Ey", "W0 NP 0F 7E /r Ey,Pq"]),
  move("movq", 64, ["REX.W NP 0F 6E /r Pq,Ey", "REX.W NP 0F 7E /r Ey,Pq", "NP 0F 6F /r Pq,Qq", "NP 0F 7F /r Qq,Pq"]),
  movntq, pmovmskb, maskmovq, movq2dq, movdq2q,
];
