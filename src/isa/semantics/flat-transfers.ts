/**
 * SYSENTER, SYSEXIT and IRETD between 32-bit code of levels 0 and 3 whose segments are flat, as generated code: what a 32-bit
 * kernel does at every system call and page fault. What is not ordinary goes to the routines, before anything is committed
 * (SDM volume 3, "Performing Fast Calls to System Procedures with the SYSENTER and SYSEXIT Instructions"; volume 2,
 * "IRET/IRETD/IRETQ").
 */
import { type Bits, when } from "../../ir/index.ts";
import { constant, load, Register, Segment, type Cpu } from "../definition.ts";
import { FlagMask } from "../flags.ts";
import * as state from "../state.ts";
import { SegmentAttribute } from "../system/mode.ts";
import {
  areDataSegmentsOpen, attributesOf, baseOf, dataAttributes, enterLevel, flatEnd, isInGdt, isPlain, limitOf, loadCode, loadFlat, loadStack,
  ordinaryStack, pageBytes, read32, readDescriptor, readsAsProcessor, restoreFlags, returnFlagsMask, stackMask,
} from "./transfer-parts.ts";

/** Attributes of the flat code segment that SYSENTER and SYSEXIT load, DPL 0. */
const code32Attributes = 0xc09b;
const userPrivilege = 3 << SegmentAttribute.dplShift;
/** What of a code segment's attributes has to be as it is for 32-bit code. */
const codeMask = SegmentAttribute.present | SegmentAttribute.dplMask | SegmentAttribute.codeOrData | SegmentAttribute.code |
  SegmentAttribute.expandDownOrConforming | SegmentAttribute.writableOrReadable | SegmentAttribute.accessed | SegmentAttribute.long | SegmentAttribute.big;
const ordinaryCode = SegmentAttribute.present | SegmentAttribute.codeOrData | SegmentAttribute.code | SegmentAttribute.writableOrReadable |
  SegmentAttribute.accessed | SegmentAttribute.big;

/** Whether code runs in flat 32-bit segments of legacy mode, and may change its level by itself. */
function isPlainAndFlat(cpu: Cpu): Bits<1> {
  return isPlain(cpu).and(read32(cpu, state.isFlat).ne(0));
}

function codeSelectorOfSystemCalls(cpu: Cpu): Bits<32> {
  return read32(cpu, state.sysenterCs).and(0xfffc);
}

/** SYSENTER; `otherwise` records the call of its routine. */
export function systemEnterFlat(cpu: Cpu, otherwise: () => void): void {
  const selector = codeSelectorOfSystemCalls(cpu);
  when(isPlainAndFlat(cpu).and(selector.ne(0)), () => {
    const flags = cpu.field<32>(state.systemFlags);
    const cleared = flags.read().and(~(FlagMask.VM | FlagMask.IF | FlagMask.RF) >>> 0);
    flags.write(cleared);
    cpu.gpr(Register.RSP, 32).write(read32(cpu, state.sysenterEsp));
    loadFlat(cpu, Segment.CS, selector, code32Attributes);
    loadFlat(cpu, Segment.SS, selector.add(8), dataAttributes);
    enterLevel(cpu, constant(32, 0), cleared);
    cpu.jump(read32(cpu, state.sysenterEip).zext(64));
  }, otherwise);
}

/** SYSEXIT to 32-bit code. */
export function systemExitFlat(cpu: Cpu, otherwise: () => void): void {
  const selector = codeSelectorOfSystemCalls(cpu);
  when(isPlainAndFlat(cpu).and(selector.ne(0)).and(read32(cpu, state.cpl).isZero()), () => {
    const target = cpu.gpr(Register.RDX, 32).read();
    cpu.gpr(Register.RSP, 32).write(cpu.gpr(Register.RCX, 32).read());
    loadFlat(cpu, Segment.CS, selector.add(16).or(3), code32Attributes | userPrivilege);
    loadFlat(cpu, Segment.SS, selector.add(24).or(3), dataAttributes | userPrivilege);
    enterLevel(cpu, constant(32, 3), read32(cpu, state.systemFlags));
    cpu.jump(target.zext(64));
  }, otherwise);
}

function isFlat(descriptor: Bits<64>, attributes: Bits<32>): Bits<1> {
  return baseOf(descriptor).isZero().and(limitOf(descriptor, attributes).eq(Number(flatEnd - 1n)));
}

/** IRETD at level 0, to flat code of level 0 or 3. */
export function interruptReturnFlat(cpu: Cpu, otherwise: () => void): void {
  const innerBytes = 12, outerBytes = 20;
  const pointer = cpu.gpr(Register.RSP, 32).read();
  const word = (offset: number): Bits<32> => load(32, Segment.SS, pointer.add(offset).zext(64));
  const isOrdinary = isPlainAndFlat(cpu).and(read32(cpu, state.nmiBlocked).isZero())
    .and(read32(cpu, state.systemFlags).and(FlagMask.NT).isZero()).and(readsAsProcessor(cpu))
    .and(cpu.field<64>(state.segments[Segment.CS].readEnd).read().eq(flatEnd))
    .and(pointer.and(pageBytes - 1).leU(pageBytes - outerBytes));
  when(isOrdinary, () => {
    const [target, code, image] = [0, 4, 8].map(word);
    const codeSelector = code.and(0xffff), level = code.and(3);
    const isOrdinaryFrame = level.isZero().or(level.eq(3).and(areDataSegmentsOpen(cpu)))
      .and(image.and(FlagMask.TF | FlagMask.VM).isZero()).and(isInGdt(cpu, codeSelector));
    when(isOrdinaryFrame, () => {
      const descriptor = readDescriptor(cpu, codeSelector, Segment.CS);
      const attributes = attributesOf(descriptor);
      const isOrdinaryCode = attributes.and(codeMask).eq(level.shl(SegmentAttribute.dplShift).or(ordinaryCode)).and(isFlat(descriptor, attributes));
      when(isOrdinaryCode, () => {
        when(level.isZero(), () => {
          loadCode(cpu, codeSelector, descriptor, attributes);
          cpu.gpr(Register.RSP, 32).write(pointer.add(innerBytes));
          enterLevel(cpu, level, restoreFlags(cpu, image, returnFlagsMask));
          cpu.jump(target.zext(64));
        }, () => returnOutward(cpu, { target, codeSelector, descriptor, attributes, image, newPointer: word(12), stack: word(16) }, otherwise));
      }, otherwise);
    }, otherwise);
  }, otherwise);
}

interface OutwardReturn {
  readonly target: Bits<32>;
  readonly codeSelector: Bits<32>;
  readonly descriptor: Bits<64>;
  readonly attributes: Bits<32>;
  readonly image: Bits<32>;
  readonly newPointer: Bits<32>;
  readonly stack: Bits<32>;
}

/** The end of an IRETD to level 3, whose frame has a stack. */
function returnOutward(cpu: Cpu, frame: OutwardReturn, otherwise: () => void): void {
  const stackSelector = frame.stack.and(0xffff);
  when(stackSelector.and(3).eq(3).and(isInGdt(cpu, stackSelector)), () => {
    const descriptor = readDescriptor(cpu, stackSelector, Segment.CS);
    const attributes = attributesOf(descriptor);
    const mask = stackMask | SegmentAttribute.big;
    when(attributes.and(mask).eq(ordinaryStack | userPrivilege | SegmentAttribute.big), () => {
      loadCode(cpu, frame.codeSelector, frame.descriptor, frame.attributes);
      loadStack(cpu, stackSelector, descriptor, attributes, constant(1, 0));
      cpu.gpr(Register.RSP, 32).write(frame.newPointer);
      enterLevel(cpu, constant(32, 3), restoreFlags(cpu, frame.image, returnFlagsMask));
      cpu.jump(frame.target.zext(64));
    }, otherwise);
  }, otherwise);
}
