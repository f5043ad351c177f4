/**
 * SYSCALL, SYSRET and IRETQ between 64-bit code of levels 0 and 3 as generated code, where nothing is out of the ordinary:
 * what a kernel does at every system call and page fault. What is not ordinary goes to the routines, before anything is
 * committed (SDM volume 3, "Fast System Calls in 64-Bit Mode"; volume 2, "IRET/IRETD/IRETQ").
 */
import { when } from "../../ir/index.ts";
import { constant, load, Register, Segment, type Cpu } from "../definition.ts";
import { FlagMask, allFlagsMask } from "../flags.ts";
import * as state from "../state.ts";
import { EferMask, SegmentAttribute } from "../system/mode.ts";
import { flagsImage } from "./interrupt-flag.ts";
import { hasControlBits } from "./privilege.ts";
import {
  areDataSegmentsOpen, attributesOf, dataAttributes, enterLevel, isCanonical, isInGdt, isPlain, loadCode, loadFlat, loadStack, ordinaryStack,
  pageBytes, read32, readDescriptor, readsAsProcessor, restoreFlags, returnFlagsMask, stackMask,
} from "./transfer-parts.ts";

const r11 = 11;
/** Attributes of the flat segments that SYSCALL and SYSRET load, DPL 0. */
const code64Attributes = 0xa09b;
/** What of a code segment's attributes has to be as it is for 64-bit code. */
const codeMask = SegmentAttribute.present | SegmentAttribute.dplMask | SegmentAttribute.codeOrData | SegmentAttribute.code |
  SegmentAttribute.expandDownOrConforming | SegmentAttribute.accessed | SegmentAttribute.long | SegmentAttribute.big;
const ordinaryCode = SegmentAttribute.present | SegmentAttribute.codeOrData | SegmentAttribute.code | SegmentAttribute.accessed |
  SegmentAttribute.long;

/** SYSCALL in 64-bit mode; `otherwise` records the call of its routine. */
export function systemCallTo64Bit(cpu: Cpu, otherwise: () => void): void {
  const isOrdinary = read32(cpu, state.isPlain).ne(0).and(hasControlBits(cpu, state.efer, EferMask.SCE));
  when(isOrdinary, () => {
    const image = flagsImage(cpu);
    const cleared = read32(cpu, state.fmask);
    const selectors = cpu.field<64>(state.star).read().shr(32).trunc(32);
    cpu.gpr(Register.RCX, 64).write(cpu.nextRip());
    cpu.gpr(r11, 64).write(image.zext(64));
    const flags = restoreFlags(cpu, image.and(cleared.not()), allFlagsMask);
    loadFlat(cpu, Segment.CS, selectors.and(0xfffc), code64Attributes);
    loadFlat(cpu, Segment.SS, selectors.add(8).and(0xfffc), dataAttributes);
    enterLevel(cpu, constant(32, 0), flags);
    cpu.jump(cpu.field<64>(state.lstar).read());
  }, otherwise);
}

/** SYSRET to 64-bit mode. */
export function systemReturnTo64Bit(cpu: Cpu, otherwise: () => void): void {
  const target = cpu.gpr(Register.RCX, 64).read();
  const image = cpu.gpr(r11, 32).read();
  const isOrdinary = isPlain(cpu).and(hasControlBits(cpu, state.efer, EferMask.SCE))
    .and(read32(cpu, state.cpl).isZero()).and(image.and(FlagMask.TF).isZero()).and(isCanonical(cpu, target));
  when(isOrdinary, () => {
    const selectors = cpu.field<64>(state.star).read().shr(48).trunc(32);
    const flags = restoreFlags(cpu, image, allFlagsMask & ~(FlagMask.RF | FlagMask.VM));
    const userPrivilege = 3 << SegmentAttribute.dplShift;
    loadFlat(cpu, Segment.CS, selectors.add(16).or(3), code64Attributes | userPrivilege);
    loadFlat(cpu, Segment.SS, selectors.add(8).or(3), dataAttributes | userPrivilege);
    enterLevel(cpu, constant(32, 3), flags);
    cpu.jump(target);
  }, otherwise);
}

/** IRETQ at level 0 in 64-bit mode, to 64-bit code of level 0 or 3. */
export function interruptReturn64(cpu: Cpu, otherwise: () => void): void {
  const frameBytes = 40;
  const pointer = cpu.gpr(Register.RSP, 64).read();
  const isOrdinary = isPlain(cpu).and(read32(cpu, state.nmiBlocked).isZero())
    .and(read32(cpu, state.systemFlags).and(FlagMask.NT).isZero()).and(readsAsProcessor(cpu))
    .and(pointer.trunc(32).and(pageBytes - 1).leU(pageBytes - frameBytes));
  when(isOrdinary, () => {
    const [target, code, image, newPointer, stack] = [0, 8, 16, 24, 32].map((offset) => load(64, Segment.SS, pointer.add(offset)));
    const codeSelector = code.trunc(16).zext(32), stackSelector = stack.trunc(16).zext(32);
    const level = codeSelector.and(3);
    const isKnownLevel = level.isZero().or(level.eq(3).and(areDataSegmentsOpen(cpu)));
    // Interrupts from level 3 leave the kernel with a null SS.
    const isStackNull = stackSelector.isZero().and(level.isZero());
    const isOrdinaryFrame = isKnownLevel.and(image.trunc(32).and(FlagMask.TF).isZero()).and(isCanonical(cpu, target))
      .and(isInGdt(cpu, codeSelector)).and(isStackNull.or(stackSelector.and(3).eq(level).and(isInGdt(cpu, stackSelector))));
    when(isOrdinaryFrame, () => {
      const codeDescriptor = readDescriptor(cpu, codeSelector);
      const stackDescriptor = readDescriptor(cpu, isStackNull.select(codeSelector, stackSelector));
      const codeAttributes = attributesOf(codeDescriptor), stackAttributes = attributesOf(stackDescriptor);
      const privilege = level.shl(SegmentAttribute.dplShift);
      const areOrdinary = codeAttributes.and(codeMask).eq(privilege.or(ordinaryCode))
        .and(isStackNull.or(stackAttributes.and(stackMask).eq(privilege.or(ordinaryStack))));
      when(areOrdinary, () => {
        loadCode(cpu, codeSelector, codeDescriptor, codeAttributes);
        loadStack(cpu, stackSelector, stackDescriptor, stackAttributes, isStackNull);
        cpu.gpr(Register.RSP, 64).write(newPointer);
        enterLevel(cpu, level, restoreFlags(cpu, image.trunc(32), returnFlagsMask));
        cpu.jump(target);
      }, otherwise);
    }, otherwise);
  }, otherwise);
}
