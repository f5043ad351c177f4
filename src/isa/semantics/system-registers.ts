/** Descriptor-table, control, debug and extended control registers: SDM volume 1, "System Instructions". */
import { Status, type Bits, when } from "../../ir/index.ts";
import {
  constant, instruction, load, Register, Segment, store, Vector, type Context, type Cpu, type InstructionDefinition,
  type Operand,
} from "../definition.ts";
import { FlagMask } from "../flags.ts";
import { routine, type Processor } from "../processor.ts";
import * as state from "../state.ts";
import {
  clearTaskSwitched, getExtendedControlRegister, loadMachineStatusWord, readDebugRegister, setExtendedControlRegister,
  writeControlRegister, writeDebugRegister,
} from "../system/control-registers.ts";
import { Cr4Mask, isCanonical } from "../system/mode.ts";
import { loadLocalTableRegister, loadTaskRegister } from "../system/selector-queries.ts";
import { InterceptionMask, interceptionStatus, isIntercepted } from "../virtualization.ts";
import {
  askInterceptor, hasControlBits, requireNoUserModePrevention, requirePrivilegeZero, requireProtectedMode,
} from "./privilege.ts";

const canonicalBaseRoutine = routine("check canonical table base", (p) =>
  isCanonical(p.state, p.state.argument64(0)) ? Status.Next : p.raise(Vector.GP, 0));

/** LGDT and LIDT: a 16-bit limit and a base of 24, 32 or 64 bits. */
function tableLoad(name: "lgdt" | "lidt", digit: number, base: state.StateField, limit: state.StateField): InstructionDefinition {
  const ask = routine(name, (p) => interceptionStatus(p, name));
  return instruction({
    name, encodings: [`0F 01 /${digit} Ms`],
    execute({ cpu, dst, variant }) {
      requirePrivilegeZero(cpu);
      askInterceptor(cpu, InterceptionMask.globalTables, ask);
      const at = dst.offset();
      const newLimit = load(16, "operand", at).zext(32);
      const newBase = load(variant.long ? 64 : 32, "operand", at.add(2)).zext(64);
      if (variant.long) cpu.call(canonicalBaseRoutine, [newBase]);
      const low24Mask = 0xff_ffff;
      cpu.field<64>(base).write(variant.operandSize === 16 && !variant.long ? newBase.and(low24Mask) : newBase);
      cpu.field<32>(limit).write(newLimit);
    },
  });
}

function tableStore(name: "sgdt" | "sidt", digit: number, base: state.StateField, limit: state.StateField): InstructionDefinition {
  const ask = routine(name, (p) => interceptionStatus(p, name));
  return instruction({
    name, encodings: [`0F 01 /${digit} Ms`], notDifferential: "shows the operating system's tables",
    execute({ cpu, dst, variant }) {
      requireNoUserModePrevention(cpu);
      askInterceptor(cpu, InterceptionMask.globalTables, ask);
      const at = dst.offset();
      const tableBase = cpu.field<64>(base).read();
      const high = at.add(2);
      // Both parts are checked before either is written.
      load(16, "operand", at, "readForWrite");
      const prepared = variant.long ? load(64, "operand", high, "readForWrite") : load(32, "operand", high, "readForWrite");
      store("operand", at, cpu.field<32>(limit).read().trunc(16));
      store("operand", high, prepared.width === 64 ? tableBase : tableBase.trunc(32));
    },
  });
}

const localTableRoutine = routine("lldt", (p) => loadLocalTableRegister(p, p.state.argument32(0)));
const taskRoutine = routine("ltr", (p) => loadTaskRegister(p, p.state.argument32(0)));

function selectorLoad(name: "lldt" | "ltr", digit: number, load: typeof taskRoutine): InstructionDefinition {
  const ask = routine(name, (p) => interceptionStatus(p, name));
  return instruction({
    name, encodings: [`0F 00 /${digit} Ew`],
    execute({ cpu, dst }) {
      requireProtectedMode(cpu);
      requirePrivilegeZero(cpu);
      askInterceptor(cpu, InterceptionMask.localTables, ask);
      cpu.call(load, [(dst.read() as Bits).zext(32)]);
    },
  });
}

/** A 16-bit system register to memory, or zero-extended to a register of the operand size. */
function writeWord(dst: Operand, word: Bits<16>): void {
  dst.write(dst.width === 16 ? word : word.zext(dst.width));
}

function selectorStore(name: "sldt" | "str", digit: number, segment: number): InstructionDefinition {
  const ask = routine(name, (p) => interceptionStatus(p, name));
  return instruction({
    name, encodings: [`0F 00 /${digit} Rv/Mw`], notDifferential: "shows the operating system's tables",
    execute({ cpu, dst }) {
      requireProtectedMode(cpu);
      requireNoUserModePrevention(cpu);
      askInterceptor(cpu, InterceptionMask.localTables, ask);
      writeWord(dst as Operand, cpu.field<16>(state.segments[segment].selector).read());
    },
  });
}

/** The visible CR0 is result 0. */
const machineStatusQuery = routine("smsw", (p) => {
  if (isIntercepted(p, { kind: "smsw" })) return Status.Fault;
  p.state.result64(0, p.virtualization?.isGuest === true ? p.virtualization.visibleControlValue(0) : p.state.get64(state.cr0));
  return Status.Next;
});

const smsw = instruction({
  name: "smsw", encodings: ["0F 01 /4 Rv/Mw"], notDifferential: "shows the operating system's CR0",
  execute({ cpu, dst }) {
    requireNoUserModePrevention(cpu);
    const place = dst as Operand;
    const isIntercepting = cpu.field<32>(state.interception).read().and(InterceptionMask.smsw).ne(0);
    when(isIntercepting, () => place.write(cpu.call(machineStatusQuery, [], [64])[0].trunc(place.width)), () =>
      place.write(cpu.field<64>(state.cr0).read().trunc(place.width)));
  },
});

const machineStatusRoutine = routine("lmsw", (p) => loadMachineStatusWord(p, p.state.argument32(0)));

const lmsw = instruction({
  name: "lmsw", encodings: ["0F 01 /6 Ew"], endsBlock: true,
  execute({ cpu, dst }) {
    requirePrivilegeZero(cpu);
    cpu.call(machineStatusRoutine, [(dst.read() as Bits).zext(32)]);
  },
});

const clearTaskRoutine = routine("clts", clearTaskSwitched);

const clts = instruction({
  name: "clts", encodings: ["0F 06"], endsBlock: true,
  execute({ cpu }) {
    cpu.call(clearTaskRoutine);
  },
});

const controlFields = new Map([[0, state.cr0], [2, state.cr2], [3, state.cr3], [4, state.cr4]]);
function readTaskPriority(p: Processor): Status {
  const own = p.virtualization?.isGuest === true ? p.virtualization.guestTaskPriority() : undefined;
  p.state.result64(0, BigInt(own ?? p.bus.taskPriority()));
  return Status.Next;
}

const taskPriorityRoutine = routine("mov from cr8", readTaskPriority);

/** While an extension may intercept or change what is read: the value is result 0. */
const readControlRoutine = routine("mov from cr", (p) => {
  const number = p.state.argument32(0);
  if (isIntercepted(p, { kind: "read cr", number })) return Status.Fault;
  const isVirtual = p.virtualization?.isGuest === true && (number === 0 || number === 4);
  const field = controlFields.get(number);
  const visible = isVirtual ? p.virtualization?.visibleControlValue(number) : field && p.state.get64(field);
  if (visible === undefined) return readTaskPriority(p);
  p.state.result64(0, visible);
  return Status.Next;
});

const fromControl = instruction({
  name: "mov", encodings: ["0F 20 /r Ry,Cy"],
  execute({ cpu, dst, src }) {
    const field = controlFields.get(src.number);
    if (field === undefined && src.number !== 8) return cpu.raise(Vector.UD);
    requirePrivilegeZero(cpu);
    const isIntercepting = cpu.field<32>(state.interception).read().and(InterceptionMask.readControlRegister).ne(0);
    when(isIntercepting, () => {
      const [visible] = cpu.call(readControlRoutine, [constant(32, src.number)], [64]);
      dst.write(visible.trunc(dst.width));
    }, () => {
      const value = field === undefined ? cpu.call(taskPriorityRoutine, [], [64])[0] : cpu.field<64>(field).read();
      dst.write(value.trunc(dst.width));
    });
  },
});

const toControlRoutine = routine("mov to cr", (p) => writeControlRegister(p, p.state.argument32(0), p.state.argument64(1)));

const toControl = instruction({
  name: "mov", encodings: ["0F 22 /r Cy,Ry"], endsBlock: true,
  execute({ cpu, dst, src }) {
    if (!controlFields.has(dst.number) && dst.number !== 8) return cpu.raise(Vector.UD);
    cpu.call(toControlRoutine, [constant(32, dst.number), (src.read() as Bits).zext(64)]);
  },
});

const fromDebugRoutine = routine("mov from dr", (p) => readDebugRegister(p, p.state.argument32(0)));
const toDebugRoutine = routine("mov to dr", (p) => writeDebugRegister(p, p.state.argument32(0), p.state.argument64(1)));

const fromDebug = instruction({
  name: "mov", encodings: ["0F 21 /r Ry,Dy"],
  execute({ cpu, dst, src }) {
    const [value] = cpu.call(fromDebugRoutine, [constant(32, src.number)], [64]);
    dst.write(value.trunc(dst.width));
  },
});

const toDebug = instruction({
  name: "mov", encodings: ["0F 23 /r Dy,Ry"], endsBlock: true,
  execute({ cpu, dst, src }) {
    cpu.call(toDebugRoutine, [constant(32, dst.number), (src.read() as Bits).zext(64)]);
  },
});

/** EDX:EAX as one value. */
export function readWidePair(cpu: Cpu): Bits<64> {
  return cpu.gpr(Register.RDX, 32).read().zext(64).shl(32).or(cpu.gpr(Register.RAX, 32).read().zext(64));
}

/** Splits a value into EDX:EAX, clearing the upper halves of both registers. */
export function writeWidePair(cpu: Cpu, value: Bits<64>): void {
  cpu.gpr(Register.RAX, 32).write(value.trunc(32));
  cpu.gpr(Register.RDX, 32).write(value.shr(32).trunc(32));
}

const getExtendedRoutine = routine("xgetbv", (p) => getExtendedControlRegister(p, p.state.argument32(0)));
const setExtendedRoutine = routine("xsetbv", (p) => setExtendedControlRegister(p, p.state.argument32(0), p.state.argument64(1)));

const extendedControl = [
  instruction({
    name: "xgetbv", feature: "xsave", encodings: ["NP 0F 01 D0"], notDifferential: "depends on the operating system",
    execute({ cpu }) {
      const [value] = cpu.call(getExtendedRoutine, [cpu.gpr(Register.RCX, 32).read()], [64]);
      writeWidePair(cpu, value);
    },
  }),
  instruction({
    name: "xsetbv", feature: "xsave", encodings: ["NP 0F 01 D1"], endsBlock: true,
    execute({ cpu }) {
      cpu.call(setExtendedRoutine, [cpu.gpr(Register.RCX, 32).read(), readWidePair(cpu)]);
    },
  }),
];

const modeChangedRoutine = routine("access rights changed", (p) => {
  p.modeChanged();
  return Status.Next;
});

/** CLAC and STAC: #UD above CPL 0, unlike other privileged instructions. */
function alignmentCheckFlag(name: string, encoding: string, isSet: boolean): InstructionDefinition {
  return instruction({
    name, feature: "smap", encodings: [encoding],
    execute({ cpu }) {
      when(cpu.field<32>(state.cpl).read().ne(0), () => cpu.raise(Vector.UD));
      const flags = cpu.field<32>(state.systemFlags);
      const old = flags.read();
      flags.write(isSet ? old.or(FlagMask.AC) : old.and(~FlagMask.AC >>> 0));
      cpu.call(modeChangedRoutine);
    },
  });
}

const protectionKeyRoutine = routine("wrpkru", (p) => {
  p.state.set32(state.pkru, p.state.argument32(0));
  p.modeChanged();
  p.memory.flush({ keepGlobal: false });
  return Status.Next;
});

function requireProtectionKeys(cpu: Cpu): void {
  when(hasControlBits(cpu, state.cr4, Cr4Mask.PKE).xor(1), () => cpu.raise(Vector.UD));
  when(cpu.gpr(Register.RCX, 32).read().ne(0), () => cpu.raise(Vector.GP, 0));
}

const protectionKeys = [
  instruction({
    name: "rdpkru", feature: "pku", encodings: ["NP 0F 01 EE"], notDifferential: "depends on the operating system",
    execute({ cpu }) {
      requireProtectionKeys(cpu);
      cpu.gpr(Register.RAX, 32).write(cpu.field<32>(state.pkru).read());
      cpu.gpr(Register.RDX, 32).write(constant(32, 0));
    },
  }),
  instruction({
    name: "wrpkru", feature: "pku", encodings: ["NP 0F 01 EF"], notDifferential: "depends on the operating system",
    execute({ cpu }: Context<32>) {
      requireProtectionKeys(cpu);
      when(cpu.gpr(Register.RDX, 32).read().ne(0), () => cpu.raise(Vector.GP, 0));
      cpu.call(protectionKeyRoutine, [cpu.gpr(Register.RAX, 32).read()]);
    },
  } as InstructionDefinition),
];

export const systemRegisters: readonly InstructionDefinition[] = [
  tableStore("sgdt", 0, state.gdtrBase, state.gdtrLimit), tableStore("sidt", 1, state.idtrBase, state.idtrLimit),
  tableLoad("lgdt", 2, state.gdtrBase, state.gdtrLimit), tableLoad("lidt", 3, state.idtrBase, state.idtrLimit),
  selectorStore("sldt", 0, Segment.LDTR), selectorStore("str", 1, Segment.TR),
  selectorLoad("lldt", 2, localTableRoutine), selectorLoad("ltr", 3, taskRoutine),
  smsw, lmsw, clts, fromControl, toControl, fromDebug, toDebug, ...extendedControl,
  alignmentCheckFlag("clac", "NP 0F 01 CA", false), alignmentCheckFlag("stac", "NP 0F 01 CB", true), ...protectionKeys,
];
