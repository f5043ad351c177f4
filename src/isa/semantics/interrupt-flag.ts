/** CLI, STI, PUSHF and POPF with IOPL, VME and PVI (SDM volume 1, "EFLAG Instructions"; volume 3, "Virtual Mode Extensions"). */
import { Status, type Bits, when } from "../../ir/index.ts";
import { constant, instruction, Vector, type Cpu, type InstructionDefinition } from "../definition.ts";
import { FlagMask, hasSystemFlag, ioPrivilegeLevel, readFlags, writeFlags } from "../flags.ts";
import { routine, type Processor } from "../processor.ts";
import * as state from "../state.ts";
import { restorableFlagsMask, userFlagsMask, wideFlagsMask, writeVirtualInterruptFlag } from "../system/interrupt-return.ts";
import { InterceptionMask, interceptionStatus } from "../virtualization.ts";
import { askInterceptor } from "./privilege.ts";
import { Cr4Mask, hasCr4, isProtectedMode, isVirtual8086 } from "../system/mode.ts";
import { enterLevel, isPlain, restoreFlags } from "./transfer-parts.ts";

const ioplShift = 12;

function systemFlags(cpu: Cpu): { read(): Bits<32>; write(value: Bits<32>): void } {
  return cpu.field<32>(state.systemFlags);
}

/** CPL above IOPL: never in real-address mode, whose CPL is 0. */
function lacksPrivilege(cpu: Cpu, flags: Bits<32>): Bits<1> {
  return flags.shr(ioplShift).and(3).ltU(cpu.field<32>(state.cpl).read());
}

/** Whether CLI and STI above IOPL reach VIF in the place of IF. */
function hasVirtualInterruptFlag({ state: view }: Processor): boolean {
  if (!isProtectedMode(view)) return false;
  if (isVirtual8086(view)) return hasCr4(view, Cr4Mask.VME);
  return hasCr4(view, Cr4Mask.PVI) && view.get32(state.cpl) === 3;
}

const virtualCli = routine("cli with VIF", (p) => {
  if (!hasVirtualInterruptFlag(p)) return p.raise(Vector.GP, 0);
  writeFlags(p.state, 0, FlagMask.VIF);
  return Status.Next;
});

const virtualSti = routine("sti with VIF", (p) => {
  if (!hasVirtualInterruptFlag(p) || hasSystemFlag(p.state, FlagMask.VIP)) return p.raise(Vector.GP, 0);
  writeFlags(p.state, FlagMask.VIF, FlagMask.VIF);
  return Status.Next;
});

const cli = instruction({
  name: "cli", encodings: ["FA"],
  execute({ cpu }) {
    const flags = systemFlags(cpu);
    const old = flags.read();
    when(lacksPrivilege(cpu, old), () => void cpu.call(virtualCli), () => flags.write(old.and(~FlagMask.IF >>> 0)));
  },
});

/** IF goes from 0 to 1: interrupts are taken after the next instruction. */
const enableInterrupts = routine("sti", ({ state: view }) => {
  writeFlags(view, FlagMask.IF, FlagMask.IF);
  view.set32(state.interruptShadow, state.ShadowMask.sti);
  return Status.Next;
});

const sti = instruction({
  name: "sti", encodings: ["FB"], endsBlock: true,
  execute({ cpu }) {
    const flags = systemFlags(cpu);
    const old = flags.read();
    when(lacksPrivilege(cpu, old), () => void cpu.call(virtualSti), () => {
      when(old.and(FlagMask.IF).isZero(), () => {
        when(isPlain(cpu), () => {
          flags.write(old.or(FlagMask.IF));
          cpu.field<32>(state.interruptShadow).write(constant(32, state.ShadowMask.stiAtRip));
          cpu.field<64>(state.shadowRip).write(cpu.nextRip());
        }, () => void cpu.call(enableInterrupts));
      });
    });
  },
});

/** PUSHF's image in virtual-8086 mode below IOPL 3: VIF in the place of IF, and an IOPL of 3. */
const virtualPushf = routine("pushf with VIF", (p) => {
  const { state: view } = p;
  if (!hasCr4(view, Cr4Mask.VME) || view.argument32(0) !== 16) return p.raise(Vector.GP, 0);
  const flags = readFlags(view);
  const image = (flags & ~FlagMask.IF) | FlagMask.IOPL | ((flags & FlagMask.VIF) !== 0 ? FlagMask.IF : 0);
  view.result32(0, image);
  return Status.Next;
});

/** All status flags at their places in RFLAGS, and the system flags except RF and VM. */
export function flagsImage(cpu: Cpu): Bits<32> {
  const status: readonly (readonly [Bits<1>, number])[] = [
    [cpu.pf.read(), 2], [cpu.af.read(), 4], [cpu.zf.read(), 6], [cpu.sf.read(), 7], [cpu.of.read(), 11],
  ];
  const visible = systemFlags(cpu).read().and(~(FlagMask.RF | FlagMask.VM) >>> 0).or(FlagMask.fixed);
  return status.reduce((image, [bit, position]) => image.or(bit.zext(32).shl(position)), visible.or(cpu.cf.read().zext(32)));
}

const pushFlagsRoutine = routine("pushf", (p) => interceptionStatus(p, "pushf"));

const pushf = instruction({
  name: "pushf", names: { 16: "pushf", 32: "pushfd", 64: "pushfq" }, encodings: ["9C d64"],
  execute({ cpu, variant }) {
    const size = variant.operandSize;
    askInterceptor(cpu, InterceptionMask.pushf, pushFlagsRoutine);
    const push = (image: Bits<32>): void => cpu.push(size === 64 ? image.zext(64) : image.trunc(size));
    if (variant.long) return push(flagsImage(cpu));
    const flags = systemFlags(cpu).read();
    const isVirtualized = flags.and(FlagMask.VM).ne(0).and(flags.and(FlagMask.IOPL).ne(FlagMask.IOPL));
    when(isVirtualized, () => {
      const [image] = cpu.call(virtualPushf, [constant(32, size)], [32]);
      push(image);
    }, () => push(flagsImage(cpu)));
  },
});

const popFlags = routine("popf", (p) => {
  const { state: view } = p;
  const flags = view.argument32(0);
  const size = view.argument32(1) as 16 | 32 | 64;
  const cpl = view.get32(state.cpl);
  const isUnprivileged8086 = isVirtual8086(view) && ioPrivilegeLevel(view) < 3;
  const isVirtualized = size === 16 && hasVirtualInterruptFlag(p) && ioPrivilegeLevel(view) < cpl;
  if (isUnprivileged8086 && !isVirtualized) return p.raise(Vector.GP, 0);
  if (isVirtualized && isVirtual8086(view) && !writeVirtualInterruptFlag(p, flags)) return p.raise(Vector.GP, 0);
  // POPF clears RF and leaves VM, VIF and VIP as they are.
  const mask = restorableFlagsMask(p, cpl, size) & ~(FlagMask.VIF | FlagMask.VIP);
  writeFlags(view, flags & ~FlagMask.RF, mask | FlagMask.RF);
  p.modeChanged();
  return Status.Next;
});

const popFlagsQuery = routine("popf", (p) => interceptionStatus(p, "popf"));

/** POPF where it changes no mode, and no privilege but that of RFLAGS.AC; `otherwise` records the call of its routine. */
function popOrdinaryFlags(cpu: Cpu, image: Bits<32>, otherwise: () => void): void {
  const level = cpu.field<32>(state.cpl).read();
  const old = systemFlags(cpu).read();
  const isKernel = level.isZero();
  // Level 3 restores IF only with an IOPL of 3.
  const isOrdinary = isPlain(cpu).and(isKernel.or(level.eq(3).and(old.and(FlagMask.IOPL).isZero())))
    .and(image.and(FlagMask.TF).isZero());
  when(cpu.variant.long ? isOrdinary : isOrdinary.and(cpu.field<32>(state.isFlat).read().ne(0)), () => {
    const userMask = userFlagsMask | wideFlagsMask;
    const mask = isKernel.select(constant(32, userMask | FlagMask.IF | FlagMask.IOPL), constant(32, userMask));
    enterLevel(cpu, level, restoreFlags(cpu, image.and(~FlagMask.RF >>> 0), mask));
  }, otherwise);
}

const popf = instruction({
  name: "popf", names: { 16: "popf", 32: "popfd", 64: "popfq" }, encodings: ["9D d64"], endsBlock: true,
  execute({ cpu, variant }) {
    const size = variant.operandSize;
    askInterceptor(cpu, InterceptionMask.popf, popFlagsQuery);
    const popped = cpu.peek(size) as Bits;
    const image = popped.width === 64 ? popped.trunc(32) : popped.zext(32);
    const call = (): void => void cpu.call(popFlags, [image, constant(32, size)]);
    if (size === 16) call();
    else popOrdinaryFlags(cpu, image, call);
    cpu.writeStackPointer(cpu.stackOffset(cpu.stackPointer().add(size / 8)));
  },
});

export const interruptFlag: readonly InstructionDefinition[] = [cli, sti, pushf, popf];
