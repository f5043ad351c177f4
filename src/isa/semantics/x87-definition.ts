/** What x87 definitions share: who may run, pending exceptions, and how routines are called. */
import { type Bits, type Routine, Status, when, type Width } from "../../ir/index.ts";
import { constant, type Context, type Cpu, instruction, type InstructionDefinition, type Operand, Vector } from "../definition.ts";
import { type Processor, routine } from "../processor.ts";
import * as state from "../state.ts";
import { Cr0Mask } from "../system/mode.ts";
import { StatusMask } from "./x87-unit.ts";

/**
 * Answers to an exception that an earlier instruction left pending. With CR0.NE clear FERR# asks the interrupt controller
 * for IRQ 13, and the instruction waits for it unless IGNNE# is asserted (SDM volume 1, "Handling x87 FPU Exceptions in Software").
 */
export function answerPending(p: Processor): Status {
  if ((p.state.get32(state.cr0) & Cr0Mask.NE) !== 0) return p.raise(Vector.MF);
  if (p.bus.floatingPointError?.() ?? true) return Status.Next;
  p.state.set64(state.rip, p.currentRip());
  return Status.Branch;
}

const pendingRoutine = routine("x87Pending", answerPending);

const unavailableRoutine = routine("x87Unavailable", (p) =>
  (p.state.get32(state.cr0) & (Cr0Mask.EM | Cr0Mask.TS)) === 0 ? answerPending(p) : p.raise(Vector.NM));

function controlBits(cpu: Cpu, mask: number): Bits<32> {
  return cpu.fieldBits(state.cr0, mask);
}

function pendingBit(cpu: Cpu): Bits<32> {
  return cpu.fieldBits(state.x87Status, StatusMask.errorSummary);
}

/** #NM while the unit is emulated or belongs to another task; then pending exceptions, for all but the FN… instructions. */
function requireX87(cpu: Cpu, isWaiting: boolean): void {
  const unavailable = controlBits(cpu, Cr0Mask.EM | Cr0Mask.TS);
  if (isWaiting) when(unavailable.or(pendingBit(cpu)).ne(0), () => void cpu.call(unavailableRoutine));
  else when(unavailable.ne(0), () => cpu.raise(Vector.NM));
}

/** FWAIT looks at CR0.TS only if CR0.MP says so, and never at EM. */
export function requireWait(cpu: Cpu): void {
  const both = Cr0Mask.MP | Cr0Mask.TS;
  when(controlBits(cpu, both).eq(both), () => cpu.raise(Vector.NM));
  when(pendingBit(cpu).ne(0), () => void cpu.call(pendingRoutine));
}

export interface X87Definition {
  readonly name: string;
  readonly encodings: readonly string[];
  readonly feature?: string;
  /** False: runs while an exception is pending. */
  readonly isWaiting?: boolean;
  execute(context: Context<8 | 16 | 32 | 64>): void;
}

/** An instruction of the x87 unit, FWAIT apart. */
export function x87Instruction({ name, encodings, feature = "fpu", isWaiting = true, execute }: X87Definition): InstructionDefinition {
  return instruction({
    name, encodings, feature,
    execute(context) {
      requireX87(context.cpu, isWaiting);
      execute(context as unknown as Context<8 | 16 | 32 | 64>);
    },
  });
}

/**
 * Calls the routine that ends a non-control instruction, and notes where instruction and operand are. Argument 0 is the
 * `x87InstructionWord`, `args` follow.
 */
export function callX87<const R extends readonly Width[]>(
  cpu: Cpu, run: Routine, operand: Operand | undefined, args: readonly Bits[] = [], resultWidths?: R,
): { [K in keyof R]: Bits<R[K]> } {
  const results = cpu.call(run, [cpu.immediate64().trunc(32), ...args], resultWidths);
  cpu.field<64>(state.x87InstructionPointer).write(cpu.thisRip());
  if (operand?.isMemory === true) cpu.field<64>(state.x87DataPointer).write(operand.offset());
  return results;
}

/** Stack indices as arguments, followed by one that has bit i set for ST(i), if there are any. */
export function registerArguments(indices: readonly number[]): Bits[] {
  if (indices.length === 0) return [];
  return [...indices, indices.reduce((mask, index) => mask | (1 << index), 0)].map((value) => constant(32, value));
}

/** Index of the first argument that is an instruction's own. */
export const firstArgument = 1;

/** An instruction without memory operand; the routine gets the stack index of each register operand, then a bit for each. */
export function registerInstruction(name: string, encodings: readonly string[], run: Routine, feature?: string): InstructionDefinition {
  return x87Instruction({
    name, encodings, ...(feature === undefined ? {} : { feature }),
    execute({ cpu, operands }) {
      callX87(cpu, run, undefined, registerArguments(operands.map((operand) => operand.number)));
    },
  });
}
