/** Privilege and mode checks that system instructions begin with. */
import { type Bits, type Routine, when } from "../../ir/index.ts";
import { Vector, type Cpu } from "../definition.ts";
import { FlagMask } from "../flags.ts";
import * as state from "../state.ts";
import { Cr0Mask, Cr4Mask } from "../system/mode.ts";

/** 1 when any bit of `mask` is set in the low half of a control register. */
export function hasControlBits(cpu: Cpu, register: state.StateField, mask: number): Bits<1> {
  return cpu.field<64>(register).read().and(mask).ne(0);
}

/** #GP(0) unless CPL is 0, which it is in real-address mode and is not in virtual-8086 mode. */
export function requirePrivilegeZero(cpu: Cpu): void {
  when(cpu.field<32>(state.cpl).read().ne(0), () => cpu.raise(Vector.GP, 0));
}

/** #UD in real-address and virtual-8086 mode. */
export function requireProtectedMode(cpu: Cpu): void {
  if (cpu.variant.long) return;
  const isReal = hasControlBits(cpu, state.cr0, Cr0Mask.PE).xor(1);
  const isVirtual8086 = cpu.field<32>(state.systemFlags).read().and(FlagMask.VM).ne(0);
  when(isReal.or(isVirtual8086), () => cpu.raise(Vector.UD));
}

/** Calls `ask`, which looks for an intercept of this instruction, while one of the kind `mask` is armed: see `InterceptionMask`. */
export function askInterceptor(cpu: Cpu, mask: number, ask: Routine, args: readonly Bits[] = []): void {
  when(cpu.field<32>(state.interception).read().and(mask).ne(0), () => void cpu.call(ask, args));
}

/** CR4.UMIP: #GP(0) for user programs that look at system registers. */
export function requireNoUserModePrevention(cpu: Cpu): void {
  const isPrevented = hasControlBits(cpu, state.cr4, Cr4Mask.UMIP);
  when(isPrevented.and(cpu.field<32>(state.cpl).read().ne(0)), () => cpu.raise(Vector.GP, 0));
}
