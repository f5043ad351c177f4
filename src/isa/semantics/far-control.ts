/** Far transfers, interrupts by software and fast system calls: SDM volume 1, "Control Transfer Instructions" and volume 3, "Fast System Calls". */
import { type Bits, when } from "../../ir/index.ts";
import {
  constant, instruction, load, Vector, type Context, type InstructionDefinition, type Operand, type Variant,
} from "../definition.ts";
import { Status } from "../../ir/index.ts";
import { routine, type Processor } from "../processor.ts";
import * as state from "../state.ts";
import { isIntercepted } from "../virtualization.ts";
import { systemCall, systemEnter, systemExit, systemReturn } from "../system/fast-calls.ts";
import { farReturn, farTransfer } from "../system/far-transfer.ts";
import { interruptReturn } from "../system/interrupt-return.ts";
import { Activity } from "../system/mode.ts";
import { interruptByNumber, raiseSoftwareInterrupt } from "../system/software-interrupt.ts";
import { interruptReturnFlat, systemEnterFlat, systemExitFlat } from "./flat-transfers.ts";
import { interruptReturn64, systemCallTo64Bit, systemReturnTo64Bit } from "./long-mode-transfers.ts";
import { requirePrivilegeZero } from "./privilege.ts";

type Size = 16 | 32 | 64;

/** Selector and offset of a far pointer, in the instruction or in memory. */
function readFarPointer(pointer: Operand, operandSize: Size): { selector: Bits<32>; offset: Bits<64> } {
  if (!pointer.isMemory) {
    const both = pointer.read() as Bits<64>;
    return { selector: both.shr(32).trunc(16).zext(32), offset: both.trunc(operandSize === 16 ? 16 : 32).zext(64) };
  }
  // As wide as the pointer, which with REX.W need not be as wide as what is pushed.
  const offsetBits = ((pointer.form as { width: number }).width - 16) as Size;
  const at = pointer.offset();
  return {
    offset: load(offsetBits, "operand", at).zext(64),
    selector: load(16, "operand", at.add(offsetBits / 8)).zext(32),
  };
}

function sizeArgument(p: Processor, index: number): Size {
  return p.state.argument32(index) as Size;
}

const transferRoutines = {
  jmp: routine("jmp far", (p) =>
    farTransfer(p, p.state.argument32(0), p.state.argument64(1), sizeArgument(p, 2), false)),
  call: routine("call far", (p) =>
    farTransfer(p, p.state.argument32(0), p.state.argument64(1), sizeArgument(p, 2), true)),
};

function farBranch(name: "jmp" | "call", encodings: readonly string[]): InstructionDefinition {
  return instruction({
    name, encodings, endsBlock: true,
    execute({ cpu, dst, variant }) {
      const { selector, offset } = readFarPointer(dst, variant.operandSize);
      cpu.call(transferRoutines[name], [selector, offset, constant(32, variant.operandSize)]);
    },
  });
}

const farReturnRoutine = routine("ret far", (p) => farReturn(p, sizeArgument(p, 0), p.state.argument32(1)));

const retf = instruction({
  name: "retf", encodings: ["CB", "CA iw Iw"], endsBlock: true,
  execute({ cpu, operands, variant }) {
    const release = operands.length === 1 ? (operands[0].read() as Bits).zext(32) : constant(32, 0);
    cpu.call(farReturnRoutine, [constant(32, variant.operandSize), release]);
  },
});

/** Whether code of this kind may be that of a flat 32-bit kernel; the state tells whether it is. */
function isFlat32({ long, operandSize, stackSize }: Variant): boolean {
  return !long && operandSize === 32 && stackSize === 32;
}

const interruptReturnRoutine = routine("iret", (p) =>
  isIntercepted(p, { kind: "iret" }) ? Status.Fault : interruptReturn(p, sizeArgument(p, 0)));

const iret = instruction({
  name: "iret", names: { 16: "iret", 32: "iretd", 64: "iretq" }, encodings: ["CF"], endsBlock: true,
  execute({ cpu, variant }) {
    const call = (): void => void cpu.call(interruptReturnRoutine, [constant(32, variant.operandSize)]);
    if (variant.long && variant.operandSize === 64) interruptReturn64(cpu, call);
    else if (isFlat32(variant)) interruptReturnFlat(cpu, call);
    else call();
  },
});

const interruptRoutine = routine("int", (p) => interruptByNumber(p, p.state.argument32(0)));
const softwareExceptionRoutine = routine("int3", (p) => raiseSoftwareInterrupt(p, p.state.argument32(0), "software exception"));
const debugTrapRoutine = routine("int1", (p) =>
  isIntercepted(p, { kind: "icebp" }) ? Status.Fault : raiseSoftwareInterrupt(p, Vector.DB, "privileged software"));

const int = instruction({
  name: "int", encodings: ["CD ib Ib"], endsBlock: true,
  execute({ cpu, dst }) {
    cpu.call(interruptRoutine, [(dst.read() as Bits).zext(32)]);
  },
});

const int3 = instruction({
  name: "int3", encodings: ["CC"], endsBlock: true,
  execute({ cpu }) {
    cpu.call(softwareExceptionRoutine, [constant(32, Vector.BP)]);
  },
});

const into = instruction({
  name: "into", encodings: ["CE i64"], endsBlock: true,
  execute({ cpu }) {
    when(cpu.of.read(), () => void cpu.call(softwareExceptionRoutine, [constant(32, Vector.OF)]));
  },
});

const int1 = instruction({
  name: "int1", encodings: ["F1"], endsBlock: true, notDifferential: "enters the operating system",
  execute({ cpu }) {
    cpu.call(debugTrapRoutine);
  },
});

/** Array index in a register against a pair of signed bounds in memory. */
const bound = instruction({
  name: "bound", encodings: ["62 /r i64 Gv,Ma"],
  execute({ cpu, dst, src, variant }: Context<16>) {
    const width = variant.operandSize as 16 | 32;
    const index = dst.read() as Bits<16 | 32>;
    const at = src.offset();
    const lower = load(width, "operand", at);
    const upper = load(width, "operand", at.add(width / 8));
    when(index.ltS(lower).or(upper.ltS(index)), () => cpu.raise(Vector.BR));
  },
} as InstructionDefinition);

const systemCallRoutine = routine("syscall", systemCall);
const systemReturnRoutine = routine("sysret", (p) => systemReturn(p, sizeArgument(p, 0)));
const systemEnterRoutine = routine("sysenter", systemEnter);
const systemExitRoutine = routine("sysexit", (p) => systemExit(p, sizeArgument(p, 0)));

function operandSizeArgument({ operandSize }: Variant): readonly Bits[] {
  return [constant(32, operandSize)];
}

const fastCalls = [
  instruction({
    name: "syscall", feature: "syscall", encodings: ["0F 05"], endsBlock: true, notDifferential: "enters the operating system",
    execute({ cpu, variant }) {
      const call = (): void => void cpu.call(systemCallRoutine);
      if (variant.long) systemCallTo64Bit(cpu, call);
      else call();
    },
  }),
  instruction({
    name: "sysret", feature: "syscall", encodings: ["0F 07"], endsBlock: true,
    execute({ cpu, variant }) {
      const call = (): void => void cpu.call(systemReturnRoutine, operandSizeArgument(variant));
      if (variant.long && variant.operandSize === 64) systemReturnTo64Bit(cpu, call);
      else call();
    },
  }),
  instruction({
    name: "sysenter", feature: "sep", encodings: ["0F 34"], endsBlock: true, notDifferential: "enters the operating system",
    execute({ cpu, variant }) {
      const call = (): void => void cpu.call(systemEnterRoutine);
      if (isFlat32(variant)) systemEnterFlat(cpu, call);
      else call();
    },
  }),
  instruction({
    name: "sysexit", feature: "sep", encodings: ["0F 35"], endsBlock: true,
    execute({ cpu, variant }) {
      const call = (): void => void cpu.call(systemExitRoutine, operandSizeArgument(variant));
      if (isFlat32(variant)) systemExitFlat(cpu, call);
      else call();
    },
  }),
  instruction({
    name: "swapgs", feature: "lm", encodings: ["0F 01 F8 o64"],
    execute({ cpu }) {
      requirePrivilegeZero(cpu);
      const current = cpu.field<64>(state.segments[5].base);
      const saved = cpu.field<64>(state.kernelGsBase);
      const base = current.read();
      current.write(saved.read());
      saved.write(base);
    },
  }),
];

const haltRoutine = routine("hlt", (p) => {
  if (p.state.get32(state.cpl) !== 0) return p.raise(Vector.GP, 0);
  if (isIntercepted(p, { kind: "hlt" })) return Status.Fault;
  p.state.set64(state.rip, p.nextRip());
  p.state.set32(state.activity, Activity.halted);
  return Status.Exit;
});

const hlt = instruction({
  name: "hlt", encodings: ["F4"], endsBlock: true,
  execute({ cpu }) {
    cpu.call(haltRoutine);
  },
});

/** Outside of system management mode RSM does not exist. */
const resumeRoutine = routine("rsm", (p) => isIntercepted(p, { kind: "rsm" }) ? Status.Fault : p.raise(Vector.UD));

const rsm = instruction({
  name: "rsm", encodings: ["0F AA"], endsBlock: true,
  execute({ cpu }) {
    cpu.call(resumeRoutine);
  },
});

/** Opcodes reserved to raise #UD for good. UD0 and UD1 have a ModRM byte. */
const undefinedInstructions = [["ud2", "0F 0B"], ["ud1", "0F B9 /r Gv,Ev"], ["ud0", "0F FF /r Gv,Ev"]].map(([name, encoding]) =>
  instruction({
    name, encodings: [encoding], endsBlock: true,
    execute({ cpu }) {
      cpu.raise(Vector.UD);
    },
  }));

export const farControl: readonly InstructionDefinition[] = [
  farBranch("jmp", ["EA cp i64 Ap", "FF /5 Mp"]), farBranch("call", ["9A cp i64 Ap", "FF /3 Mp"]), retf, iret,
  int, int3, into, int1, bound, ...fastCalls, hlt, rsm, ...undefinedInstructions,
];
