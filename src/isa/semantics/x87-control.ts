/** Control instructions that move one word or none: FLDCW, FNSTCW, FNSTSW, FNCLEX, FNINIT, FFREE, FINCSTP, FWAIT and the 8087's leftovers (SDM volume 1, "x87 FPU Control Instructions"). */
import { type Bits, type FastPath, Status } from "../../ir/index.ts";
import { constant, type Cpu, instruction, type InstructionDefinition, Register } from "../definition.ts";
import { routine } from "../processor.ts";
import * as state from "../state.ts";
import { firstArgument, registerInstruction, requireWait, x87Instruction } from "./x87-definition.ts";
import { fastX87, inRegisters } from "./x87-fast-unit.ts";
import { initialize, StatusMask, X87Operation } from "./x87-unit.ts";

const wait = instruction({
  name: "wait", feature: "fpu", encodings: ["9B"],
  execute({ cpu }) {
    requireWait(cpu);
  },
});

/** As `writeControlWord`. */
function writeControl(cpu: Cpu, value: Bits<16>): void {
  const control = value.and(0x1f3f).or(0x40);
  const status = cpu.field<16>(state.x87Status), summaryMask = StatusMask.errorSummary | StatusMask.busy;
  const flags = status.read();
  const isPending = flags.and(control.not()).and(0x3f).ne(0);
  cpu.field<16>(state.x87Control).write(control);
  status.write(flags.and(0xffff & ~summaryMask).or(isPending.select(constant(16, summaryMask), 0)));
}

const loadControl = x87Instruction({
  name: "fldcw", encodings: ["D9 /5 Mw"],
  execute({ cpu, dst }) {
    writeControl(cpu, dst.as(16).read());
  },
});

const storeControl = x87Instruction({
  name: "fnstcw", encodings: ["D9 /7 Mw"], isWaiting: false,
  execute({ cpu, dst }) {
    dst.as(16).write(cpu.field<16>(state.x87Control).read());
  },
});

const storeStatus = x87Instruction({
  name: "fnstsw", encodings: ["DD /7 Mw"], isWaiting: false,
  execute({ cpu, dst }) {
    dst.as(16).write(cpu.field<16>(state.x87Status).read());
  },
});

const storeStatusInAx = x87Instruction({
  name: "fnstsw", encodings: ["DF E0 AX"], isWaiting: false,
  execute({ cpu }) {
    cpu.gpr(Register.RAX, 16).write(cpu.field<16>(state.x87Status).read());
  },
});

/** Everything but the exception flags, SF, ES and B. */
const keptByClear = 0x7f00;

const clearExceptions = x87Instruction({
  name: "fnclex", encodings: ["DB E2"], isWaiting: false,
  execute({ cpu }) {
    const status = cpu.field<16>(state.x87Status);
    status.write(status.read().and(keptByClear));
  },
});

const initializeRoutine = routine("fninit", (p) => {
  initialize(p.state);
  return Status.Next;
});

const initializeUnit = x87Instruction({
  name: "fninit", encodings: ["DB E3"], isWaiting: false,
  execute({ cpu }) {
    cpu.call(initializeRoutine);
  },
});

function fastRotation(steps: number): () => FastPath {
  return fastX87([], inRegisters, (x87) => x87.settle({ rotation: steps }));
}

function fastFree(pops: boolean): () => FastPath {
  return fastX87([32, 32], inRegisters, (x87, index) => {
    const freed = x87.tagBit(index as Bits<32>);
    x87.settle(pops ? { rotation: 1, emptied: freed.or(x87.tagBit(0)) } : { emptied: freed });
  });
}

/** Changes nothing but tags, TOP and C1. */
function stackInstruction(
  name: string, encoding: string, change: (x87: X87Operation, index: number) => void, fast: () => FastPath,
): InstructionDefinition {
  return registerInstruction(name, [encoding], routine(name, (p) => {
    const x87 = new X87Operation(p);
    change(x87, p.state.argument32(firstArgument));
    return x87.settle();
  }, fast));
}

/** Does nothing on processors after the 8087 and the 80287. */
function leftover(name: string, encoding: string): InstructionDefinition {
  return x87Instruction({ name, encodings: [encoding], isWaiting: false, execute() {} });
}

export const x87Control: readonly InstructionDefinition[] = [
  wait, loadControl, storeControl, storeStatus, storeStatusInAx, clearExceptions, initializeUnit,
  stackInstruction("ffree", "DD C0+i ST(i)", (x87, index) => x87.free(index), fastFree(false)),
  stackInstruction("ffreep", "DF C0+i ST(i)", (x87, index) => {
    x87.free(index);
    x87.pop();
  }, fastFree(true)),
  stackInstruction("fincstp", "D9 F7", (x87) => x87.rotate(1), fastRotation(1)),
  stackInstruction("fdecstp", "D9 F6", (x87) => x87.rotate(-1), fastRotation(-1)),
  registerInstruction("fnop", ["D9 D0"], routine("fnop", (p) => new X87Operation(p).settleKeepingC1(), fastX87([], inRegisters, (x87) => x87.settle({ keepsC1: true })))),
  leftover("fneni", "DB E0"), leftover("fndisi", "DB E1"), leftover("fnsetpm", "DB E4"),
];
