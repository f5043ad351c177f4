/** CPUID, model-specific registers, time stamps and random numbers: SDM volume 1, "Miscellaneous Instructions" and "System Instructions". */
import { Status, type Bits } from "../../ir/index.ts";
import { constant, instruction, Register, Vector, type Cpu, type InstructionDefinition } from "../definition.ts";
import { observation, routine } from "../processor.ts";
import * as state from "../state.ts";
import {
  identify, readModelSpecificRegister, readTimeStampCounter, writeModelSpecificRegister,
} from "../system/model-specific.ts";
import { Cr4Mask, hasCr4 } from "../system/mode.ts";
import { InterceptionMask, isConcealed, isIntercepted } from "../virtualization.ts";
import { askInterceptor } from "./privilege.ts";
import { readWidePair, writeWidePair } from "./system-registers.ts";

const identifyRoutine = routine("cpuid", (p) => identify(p, p.state.argument32(0), p.state.argument32(1)));

const cpuid = instruction({
  name: "cpuid", encodings: ["0F A2"], notDifferential: "depends on the processor's model",
  execute({ cpu }) {
    const leaf = cpu.gpr(Register.RAX, 32).read();
    const subleaf = cpu.gpr(Register.RCX, 32).read();
    const [eax, ebx, ecx, edx] = cpu.call(identifyRoutine, [leaf, subleaf], [32, 32, 32, 32]);
    cpu.gpr(Register.RAX, 32).write(eax);
    cpu.gpr(Register.RBX, 32).write(ebx);
    cpu.gpr(Register.RCX, 32).write(ecx);
    cpu.gpr(Register.RDX, 32).write(edx);
  },
});

const readMsrRoutine = routine("rdmsr", (p) => readModelSpecificRegister(p, p.state.argument32(0)));
const writeMsrRoutine = routine("wrmsr", (p) => writeModelSpecificRegister(p, p.state.argument32(0), p.state.argument64(1)));

const rdmsr = instruction({
  name: "rdmsr", feature: "msr", encodings: ["0F 32"],
  execute({ cpu }) {
    const [value] = cpu.call(readMsrRoutine, [cpu.gpr(Register.RCX, 32).read()], [64]);
    writeWidePair(cpu, value);
  },
});

const wrmsr = instruction({
  name: "wrmsr", feature: "msr", encodings: ["0F 30"], endsBlock: true,
  execute({ cpu }) {
    cpu.call(writeMsrRoutine, [cpu.gpr(Register.RCX, 32).read(), readWidePair(cpu)]);
  },
});

const timeRoutine = observation("rdtsc", (p) => readTimeStampCounter(p, "rdtsc"));
const timeAndProcessorRoutine = observation("rdtscp", (p) => readTimeStampCounter(p, "rdtscp"));

const rdtsc = instruction({
  name: "rdtsc", feature: "tsc", encodings: ["0F 31"], notDifferential: "reads the time",
  execute({ cpu }) {
    const [value] = cpu.call(timeRoutine, [], [64]);
    writeWidePair(cpu, value);
  },
});

const rdtscp = instruction({
  name: "rdtscp", feature: "rdtscp", encodings: ["0F 01 F9"], notDifferential: "reads the time",
  execute({ cpu }) {
    const [value] = cpu.call(timeAndProcessorRoutine, [], [64]);
    writeWidePair(cpu, value);
    cpu.gpr(Register.RCX, 32).write(cpu.field<64>(state.tscAux).read().trunc(32));
  },
});

const processorNumberRoutine = routine("rdpid", (p) => isConcealed(p, "rdtscp") ? p.raise(Vector.UD) : Status.Next);

const rdpid = instruction({
  name: "rdpid", feature: "rdpid", encodings: ["F3 0F C7 /7 i64 Rd", "F3 0F C7 /7 o64 Rq"], notDifferential: "depends on the operating system",
  execute({ cpu, dst }) {
    askInterceptor(cpu, InterceptionMask.rdpid, processorNumberRoutine);
    dst.write(cpu.field<64>(state.tscAux).read().trunc(dst.width));
  },
});

const countersRoutine = routine("rdpmc", (p) => {
  const isRefused = p.state.get32(state.cpl) !== 0 && !hasCr4(p.state, Cr4Mask.PCE);
  return !isRefused && isIntercepted(p, { kind: "rdpmc" }) ? Status.Fault : p.raise(Vector.GP, 0);
});

/** No model has performance counters, so that every index is refused. */
const rdpmc = instruction({
  name: "rdpmc", encodings: ["0F 33"], notDifferential: "depends on the operating system", endsBlock: true,
  execute({ cpu }) {
    cpu.call(countersRoutine);
  },
});

const randomRoutines = Object.fromEntries((["rdrand", "rdseed"] as const).map((kind) => [kind, routine(kind, (p) => {
  if (isIntercepted(p, { kind })) return Status.Fault;
  p.state.result64(0, p.bus.random64());
  return Status.Next;
})]));

/** Random numbers are always at hand: CF = 1, the other status flags 0. */
function random(name: string, digit: number): InstructionDefinition {
  return instruction({
    name, feature: name, encodings: [`NFx 0F C7 /${digit} Rv`], notDifferential: "random",
    execute({ cpu, dst }) {
      const [value] = cpu.call(randomRoutines[name], [], [64]);
      dst.write(value.trunc(dst.width));
      const off = constant(1, 0);
      cpu.writeFlags({ cf: constant(1, 1), of: off, sf: off, zf: off, af: off, pf: off });
    },
  });
}

const monitorRoutine = routine("monitor", (p) => {
  if (p.state.get32(state.cpl) !== 0) return p.raise(Vector.UD);
  if (isIntercepted(p, { kind: "monitor" })) return Status.Fault;
  return p.state.argument32(0) === 0 ? Status.Next : p.raise(Vector.GP, 0);
});

function extensions(cpu: Cpu): readonly Bits[] {
  return [cpu.gpr(Register.RCX, 32).read()];
}

const monitor = instruction({
  name: "monitor", feature: "monitor", encodings: ["NP 0F 01 C8"], notDifferential: "privileged",
  execute({ cpu }) {
    cpu.call(monitorRoutine, extensions(cpu));
  },
});

const mwaitRoutine = routine("mwait", (p) => {
  if (p.state.get32(state.cpl) !== 0) return p.raise(Vector.UD);
  if (isIntercepted(p, { kind: "mwait" })) return Status.Fault;
  return p.state.argument32(0) <= 1 ? Status.Next : p.raise(Vector.GP, 0);
});

/** MWAIT may end at any time for reasons of the implementation's own (SDM volume 2, "MWAIT"): here, at once. */
const mwait = instruction({
  name: "mwait", feature: "monitor", encodings: ["NP 0F 01 C9"], notDifferential: "privileged", endsBlock: true,
  execute({ cpu }) {
    cpu.call(mwaitRoutine, extensions(cpu));
  },
});

export const processorInformation: readonly InstructionDefinition[] = [
  cpuid, rdmsr, wrmsr, rdtsc, rdtscp, rdpid, rdpmc, random("rdrand", 6), random("rdseed", 7), monitor, mwait,
];
