/**
 * What privilege-changing instructions in generated code are made of: flags, levels, and segment registers that are loaded from
 * ordinary descriptors (SDM volume 3, "Segmentation" and "Protection").
 */
import { type Bits, type SegmentReference, when } from "../../ir/index.ts";
import { constant, load, Segment, type Cpu } from "../definition.ts";
import { FlagMask, allFlagsMask, statusFlagsMask } from "../flags.ts";
import * as state from "../state.ts";
import { SegmentAttribute } from "../system/mode.ts";

export const flatEnd = 0x1_0000_0000n;
/** Attributes of the flat data segments that system calls load, DPL 0. */
export const dataAttributes = 0xc093;
const acBit = 18;
/** What of a data segment's attributes has to be as it is for an ordinary stack. */
export const stackMask: number = SegmentAttribute.present | SegmentAttribute.dplMask | SegmentAttribute.codeOrData | SegmentAttribute.code |
  SegmentAttribute.expandDownOrConforming | SegmentAttribute.writableOrReadable | SegmentAttribute.accessed;
export const ordinaryStack: number = SegmentAttribute.present | SegmentAttribute.codeOrData | SegmentAttribute.writableOrReadable | SegmentAttribute.accessed;
/** The same for data that may be read-only, of any level. */
const dataMask = SegmentAttribute.present | SegmentAttribute.codeOrData | SegmentAttribute.code | SegmentAttribute.expandDownOrConforming |
  SegmentAttribute.accessed;
export const pageBytes = 4096;
/** Flags that an IRET at level 0 restores. */
export const returnFlagsMask: number = statusFlagsMask | FlagMask.TF | FlagMask.DF | FlagMask.NT | FlagMask.RF | FlagMask.AC | FlagMask.ID |
  FlagMask.IF | FlagMask.IOPL | FlagMask.VIF | FlagMask.VIP;

/** The low half of fields of 64 bits. */
export function read32(cpu: Cpu, { offset }: state.StateField): Bits<32> {
  return cpu.field<32>({ offset, width: 32 }).read();
}

export function set32(cpu: Cpu, { offset }: state.StateField, value: Bits<32> | number): void {
  cpu.field<32>({ offset, width: 32 }).write(typeof value === "number" ? constant(32, value >>> 0) : value);
}

export function set64(cpu: Cpu, field: state.StateField, value: Bits<64> | bigint): void {
  cpu.field<64>(field).write(typeof value === "bigint" ? constant(64, value) : value);
}

/** What decides whether generated code may change the privilege level itself, and RFLAGS.IF with it. */
export function isPlain(cpu: Cpu): Bits<1> {
  return read32(cpu, state.isPlain).ne(0).and(read32(cpu, state.eventWaiting).isZero());
}

export function isCanonical(cpu: Cpu, address: Bits<64>): Bits<1> {
  const shift = cpu.field<64>(state.canonicalShift).read();
  return address.shl(shift).sar(shift).eq(address);
}

/** The flags in `mask` from an image of RFLAGS; status flags all. Answers the system flags. */
export function restoreFlags(cpu: Cpu, image: Bits<32>, mask: number | Bits<32>): Bits<32> {
  cpu.writeFlags({ cf: image.bit(0), pf: image.bit(2), af: image.bit(4), zf: image.bit(6), sf: image.bit(7), of: image.bit(11) });
  const systemFlagsMask = allFlagsMask & ~statusFlagsMask;
  const systemMask = typeof mask === "number" ? constant(32, (mask & systemFlagsMask) >>> 0) : mask.and(systemFlagsMask >>> 0);
  const flags = cpu.field<32>(state.systemFlags);
  const restored = flags.read().and(systemMask.not()).or(image.and(systemMask));
  flags.write(restored);
  return restored;
}

/** Sets CPL and what of the engine's state follows from it and RFLAGS.AC; the mode stays. */
export function enterLevel(cpu: Cpu, cpl: Bits<32>, flags: Bits<32>): void {
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

/** Flat data segment for a stack, or code, as system calls load them without a look at the tables. */
export function loadFlat(cpu: Cpu, index: number, selector: Bits<32>, attributes: number): void {
  const fields = state.segments[index];
  cpu.field<16>(fields.selector).write(selector.trunc(16));
  set64(cpu, fields.base, 0n);
  set32(cpu, fields.limit, 0xffff_ffff);
  set32(cpu, fields.attributes, attributes);
  set64(cpu, fields.readEnd, flatEnd);
  set64(cpu, fields.writeEnd, index === Segment.CS ? 0n : flatEnd);
}

/** A descriptor of the GDT, which must be within the table and the present level's to read, through a flat segment. */
export function readDescriptor(cpu: Cpu, selector: Bits<32>, segment: SegmentReference = Segment.DS): Bits<64> {
  return load(64, segment, cpu.field<64>(state.gdtrBase).read().add(selector.and(0xfff8).zext(64)));
}

/** Whether reads at level 0 are those of the processor itself: RFLAGS.AC would let them by where SMAP forbids its own. */
export function readsAsProcessor(cpu: Cpu): Bits<1> {
  return read32(cpu, state.cpl).isZero().and(
    read32(cpu, state.contextRule).and(1).ne(0).or(read32(cpu, state.systemFlags).and(FlagMask.AC).isZero()));
}

/** Whether a selector names a descriptor of the GDT, within its limit. */
export function isInGdt(cpu: Cpu, selector: Bits<32>): Bits<1> {
  return selector.and(4).isZero().and(selector.and(0xfff8).ne(0)).and(selector.or(7).leU(read32(cpu, state.gdtrLimit)));
}

export function attributesOf(descriptor: Bits<64>): Bits<32> {
  return descriptor.shr(40).trunc(32).and(0xf0ff);
}

export function limitOf(descriptor: Bits<64>, attributes: Bits<32>): Bits<32> {
  const limit = descriptor.trunc(32).and(0xffff).or(descriptor.shr(32).trunc(32).and(0xf_0000));
  return attributes.and(SegmentAttribute.granularity).isZero().select(limit, limit.shl(12).or(0xfff));
}

export function baseOf(descriptor: Bits<64>): Bits<64> {
  return descriptor.shr(16).and(0xff_ffff).or(descriptor.shr(56).shl(24));
}

export function loadCode(cpu: Cpu, selector: Bits<32>, descriptor: Bits<64>, attributes: Bits<32>): void {
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

export function loadStack(cpu: Cpu, selector: Bits<32>, descriptor: Bits<64>, attributes: Bits<32>, isNull: Bits<1>): void {
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
export function areDataSegmentsOpen(cpu: Cpu): Bits<1> {
  return [Segment.ES, Segment.DS, Segment.FS, Segment.GS].map((index) => {
    const { selector, attributes } = state.segments[index];
    const isNull = cpu.field<16>(selector).read().and(0xfffc).isZero();
    return isNull.or(read32(cpu, attributes).and(SegmentAttribute.dplMask).eq(SegmentAttribute.dplMask));
  }).reduce((all, isOpen) => all.and(isOpen));
}

/**
 * Loads ES, DS, FS or GS: a null selector, or at level 0 an ordinary data segment of the GDT; `otherwise` records the call of its
 * routine.
 */
export function loadDataSegment(cpu: Cpu, number: number, selector: Bits<32>, otherwise: () => void): void {
  const fields = state.segments[number];
  const write = (base: Bits<64>, limit: Bits<32>, attributes: Bits<32>, readEnd: Bits<64>, writeEnd: Bits<64>): void => {
    cpu.field<16>(fields.selector).write(selector.trunc(16));
    set64(cpu, fields.base, base);
    set32(cpu, fields.limit, limit);
    set32(cpu, fields.attributes, attributes);
    set64(cpu, fields.readEnd, readEnd);
    set64(cpu, fields.writeEnd, writeEnd);
  };
  const hasOrdinaryMode = read32(cpu, cpu.variant.long ? state.isPlain : state.isFlat).ne(0);
  const zero = constant(64, 0);
  when(hasOrdinaryMode.and(selector.and(0xfffc).isZero()), () => {
    write(zero, constant(32, 0), constant(32, SegmentAttribute.unusable), zero, zero);
  }, () => {
    const isReadable = cpu.field<64>(state.segments[Segment.CS].readEnd).read().eq(flatEnd);
    when(hasOrdinaryMode.and(isReadable).and(readsAsProcessor(cpu)).and(isInGdt(cpu, selector)), () => {
      const descriptor = readDescriptor(cpu, selector, Segment.CS);
      const attributes = attributesOf(descriptor);
      const isData = attributes.and(dataMask).eq(SegmentAttribute.present | SegmentAttribute.codeOrData | SegmentAttribute.accessed);
      const isOpen = selector.and(3).leU(attributes.shr(SegmentAttribute.dplShift).and(3));
      when(isData.and(isOpen), () => {
        const limit = limitOf(descriptor, attributes);
        const end = limit.zext(64).add(1);
        write(baseOf(descriptor), limit, attributes, end, attributes.and(SegmentAttribute.writableOrReadable).isZero().select(zero, end));
      }, otherwise);
    }, otherwise);
  });
}
