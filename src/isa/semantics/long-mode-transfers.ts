/**
 * SYSCALL, SYSRET and IRETQ between 64-bit code of levels 0 and 3 as generated code, where nothing is out of the ordinary:
 * what a kernel does at every system call and page fault. What is not ordinary goes to the routines, before anything is
 * committed (SDM volume 3, "Fast System Calls in 64-Bit Mode"; volume 2, "IRET/IRETD/IRETQ").
 */
import { type Bits, when } from "../../ir/index.ts";
import { constant, load, Register, Segment, type Cpu } from "../definition.ts";
import { FlagMask, allFlagsMask, statusFlagsMask } from "../flags.ts";
import * as state from "../state.ts";
import { EferMask, SegmentAttribute } from "../system/mode.ts";
import { flagsImage } from "./interrupt-flag.ts";
import { hasControlBits } from "./privilege.ts";

const pageBytes = 4096;
const flatEnd = 0x1_0000_0000n;
const r11 = 11;
/** Attributes of the flat segments that SYSCALL and SYSRET load, DPL 0. */
const code64Attributes = 0xa09b;
const dataAttributes = 0xc093;
const acBit = 18;
/** What of a code or data segment's attributes has to be as it is for 64-bit code, or an ordinary stack. */
const codeMask = SegmentAttribute.present | SegmentAttribute.dplMask | SegmentAttribute.codeOrData | SegmentAttribute.code |
  SegmentAttribute.expandDownOrConforming | SegmentAttribute.accessed | SegmentAttribute.long | SegmentAttribute.big;
const ordinaryCode = SegmentAttribute.present | SegmentAttribute.codeOrData | SegmentAttribute.code | SegmentAttribute.accessed |
  SegmentAttribute.long;
const stackMask = SegmentAttribute.present | SegmentAttribute.dplMask | SegmentAttribute.codeOrData | SegmentAttribute.code |
  SegmentAttribute.expandDownOrConforming | SegmentAttribute.writableOrReadable | SegmentAttribute.accessed;
const ordinaryStack = SegmentAttribute.present | SegmentAttribute.codeOrData | SegmentAttribute.writableOrReadable | SegmentAttribute.accessed;

/** The low half of fields of 64 bits. */
function read32(cpu: Cpu, { offset }: state.StateField): Bits<32> {
  return cpu.field<32>({ offset, width: 32 }).read();
}

function set32(cpu: Cpu, { offset }: state.StateField, value: Bits<32> | number): void {
  cpu.field<32>({ offset, width: 32 }).write(typeof value === "number" ? constant(32, value >>> 0) : value);
}

function set64(cpu: Cpu, field: state.StateField, value: Bits<64> | bigint): void {
  cpu.field<64>(field).write(typeof value === "bigint" ? constant(64, value) : value);
}

/** What decides whether generated code may change the privilege level itself, and RFLAGS.IF with it. */
function isPlain(cpu: Cpu): Bits<1> {
  return read32(cpu, state.isPlain).ne(0).and(read32(cpu, state.eventWaiting).isZero());
}

function isCanonical(cpu: Cpu, address: Bits<64>): Bits<1> {
  const shift = cpu.field<64>(state.canonicalShift).read();
  return address.shl(shift).sar(shift).eq(address);
}

/** The flags in `mask` from an image of RFLAGS; status flags all. */
function restoreFlags(cpu: Cpu, image: Bits<32>, mask: number): Bits<32> {
  cpu.writeFlags({ cf: image.bit(0), pf: image.bit(2), af: image.bit(4), zf: image.bit(6), sf: image.bit(7), of: image.bit(11) });
  const systemMask = (mask & allFlagsMask & ~statusFlagsMask) >>> 0;
  const flags = cpu.field<32>(state.systemFlags);
  const restored = flags.read().and(~systemMask >>> 0).or(image.and(systemMask));
  flags.write(restored);
  return restored;
}

/** Sets CPL and what of the engine's state follows from it and RFLAGS.AC; the mode stays 64-bit. */
function enterLevel(cpu: Cpu, cpl: Bits<32>, flags: Bits<32>): void {
  set32(cpu, state.cpl, cpl);
  const rule = read32(cpu, state.contextRule);
  const ac = flags.shr(acBit).and(1);
  const supervisor = rule.and(1).or(ac), user = rule.shr(1).and(ac).or(2);
  const context = read32(cpu, state.tlbContext).and(~3 >>> 0).or(cpl.isZero().select(supervisor, user));
  set32(cpu, state.tlbContext, context);
  const key = cpu.field<32>(state.codeKey);
  const modeMask = 0x3f, contextShift = 6;
  key.write(key.read().and(modeMask).or(context.shl(contextShift)));
}

function loadFlat(cpu: Cpu, index: number, selector: Bits<32>, attributes: number): void {
  const fields = state.segments[index];
  cpu.field<16>(fields.selector).write(selector.trunc(16));
  set64(cpu, fields.base, 0n);
  set32(cpu, fields.limit, 0xffff_ffff);
  set32(cpu, fields.attributes, attributes);
  set64(cpu, fields.readEnd, flatEnd);
  set64(cpu, fields.writeEnd, index === Segment.CS ? 0n : flatEnd);
}

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

/** A descriptor of the GDT, which must be within the table and the present level's to read. */
function readDescriptor(cpu: Cpu, selector: Bits<32>): Bits<64> {
  return load(64, Segment.DS, cpu.field<64>(state.gdtrBase).read().add(selector.and(0xfff8).zext(64)));
}

/** Whether a selector names a descriptor of the GDT, within its limit. */
function isInGdt(cpu: Cpu, selector: Bits<32>): Bits<1> {
  return selector.and(4).isZero().and(selector.and(0xfff8).ne(0)).and(selector.or(7).leU(read32(cpu, state.gdtrLimit)));
}

function attributesOf(descriptor: Bits<64>): Bits<32> {
  return descriptor.shr(40).trunc(32).and(0xf0ff);
}

function limitOf(descriptor: Bits<64>, attributes: Bits<32>): Bits<32> {
  const limit = descriptor.trunc(32).and(0xffff).or(descriptor.shr(32).trunc(32).and(0xf_0000));
  return attributes.and(SegmentAttribute.granularity).isZero().select(limit, limit.shl(12).or(0xfff));
}

function baseOf(descriptor: Bits<64>): Bits<64> {
  return descriptor.shr(16).and(0xff_ffff).or(descriptor.shr(56).shl(24));
}

function loadCode(cpu: Cpu, selector: Bits<32>, descriptor: Bits<64>, attributes: Bits<32>): void {
  const fields = state.segments[Segment.CS];
  const limit = limitOf(descriptor, attributes);
  const isReadable = attributes.and(SegmentAttribute.writableOrReadable).ne(0);
  cpu.field<16>(fields.selector).write(selector.trunc(16));
  set64(cpu, fields.base, baseOf(descriptor));
  set32(cpu, fields.limit, limit);
  set32(cpu, fields.attributes, attributes);
  set64(cpu, fields.readEnd, isReadable.select(limit.zext(64).add(1), 0n));
  set64(cpu, fields.writeEnd, 0n);
}

function loadStack(cpu: Cpu, selector: Bits<32>, descriptor: Bits<64>, attributes: Bits<32>, isNull: Bits<1>): void {
  const fields = state.segments[Segment.SS];
  const limit = limitOf(descriptor, attributes);
  const end = isNull.select(constant(64, 0), limit.zext(64).add(1));
  cpu.field<16>(fields.selector).write(selector.trunc(16));
  set64(cpu, fields.base, isNull.select(constant(64, 0), baseOf(descriptor)));
  set32(cpu, fields.limit, isNull.select(constant(32, 0), limit));
  set32(cpu, fields.attributes, isNull.select(constant(32, SegmentAttribute.unusable), attributes));
  set64(cpu, fields.readEnd, end);
  set64(cpu, fields.writeEnd, end);
}

/** Whether ES, DS, FS and GS are as they may stay at level 3: null, or of level 3. */
function areDataSegmentsOpen(cpu: Cpu): Bits<1> {
  return [Segment.ES, Segment.DS, Segment.FS, Segment.GS].map((index) => {
    const { selector, attributes } = state.segments[index];
    const isNull = cpu.field<16>(selector).read().and(0xfffc).isZero();
    return isNull.or(read32(cpu, attributes).and(SegmentAttribute.dplMask).eq(SegmentAttribute.dplMask));
  }).reduce((all, isOpen) => all.and(isOpen));
}

const returnFlagsMask = statusFlagsMask | FlagMask.TF | FlagMask.DF | FlagMask.NT | FlagMask.RF | FlagMask.AC | FlagMask.ID |
  FlagMask.IF | FlagMask.IOPL | FlagMask.VIF | FlagMask.VIP;

/** IRETQ at level 0 in 64-bit mode, to 64-bit code of level 0 or 3. */
export function interruptReturn64(cpu: Cpu, otherwise: () => void): void {
  const frameBytes = 40;
  const pointer = cpu.gpr(Register.RSP, 64).read();
  const system = read32(cpu, state.systemFlags);
  // RFLAGS.AC would let these reads of the tables by where SMAP forbids those of the processor.
  const readsAsProcessor = read32(cpu, state.contextRule).and(1).ne(0).or(system.and(FlagMask.AC).isZero());
  const isOrdinary = isPlain(cpu).and(read32(cpu, state.cpl).isZero()).and(read32(cpu, state.nmiBlocked).isZero())
    .and(system.and(FlagMask.NT).isZero()).and(readsAsProcessor)
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
