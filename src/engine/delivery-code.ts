/**
 * Delivery of page faults in 64-bit mode as generated code: where all that it reads and writes is in the TLB, and nothing is out of
 * the ordinary. Whatever is not so is refused before anything has changed: `deliverOrdinarily` and `deliver` know all of it
 * (SDM volume 3, "Exception and Interrupt Handling in 64-bit Mode").
 */
import {
  type Bits, constant, fastPath, readMemory, Variable, when, writeMemory, type FastPath,
} from "../ir/index.ts";
import { Cpu, Segment, Vector } from "../isa/definition.ts";
import { FlagMask } from "../isa/flags.ts";
import {
  attributesOf, enterLevel, isCanonical, isInGdt, loadCode, set32, set64,
} from "../isa/semantics/transfer-parts.ts";
import * as state from "../isa/state.ts";
import { SegmentAttribute } from "../isa/system/mode.ts";
import { SystemType } from "../isa/system/segments.ts";
import { exitVector } from "../isa/virtualization.ts";
import { entryPlace, field, refuseIf, setField, statusFlags } from "../isa/fast-path-parts.ts";
import { ModuleBuilder } from "../wasm/index.ts";
import { pageSizeBytes } from "./physical-memory.ts";
import { RecordField } from "./record.ts";
import { emitFastPath } from "./wasm-emitter.ts";
import { wasm, type WasmMemory } from "./web-assembly.ts";

const gateBytes = 16, frameBytes = 48;
const gateOffset = Vector.PF * gateBytes;
const noException = 0xffff_ffff;
const interruptGate = SegmentAttribute.present | SystemType.interruptGate32, trapGate = SegmentAttribute.present | SystemType.trapGate32;
const gateMask = SegmentAttribute.present | SegmentAttribute.codeOrData | SegmentAttribute.typeMask;
/** Present 64-bit code, not conforming, of level 0, accessed; readable or not. */
const kernelCode = SegmentAttribute.present | SegmentAttribute.codeOrData | SegmentAttribute.code | SegmentAttribute.accessed | SegmentAttribute.long;
const kernelCodeMask = kernelCode | SegmentAttribute.dplMask | SegmentAttribute.expandDownOrConforming | SegmentAttribute.big;
const stackPointer = state.gpr[4];

/** Place in linear memory of bytes that the processor itself reads or writes; refuses when the TLB does not have all of them. */
function locate(base: Bits<32>, linear: Bits<64>, sizeBytes: number, isWrite: boolean): Bits<32> {
  const low = linear.trunc(32);
  refuseIf(low.and(pageSizeBytes - 1).leU(pageSizeBytes - sizeBytes).xor(1));
  // RFLAGS.AC does not lift SMAP for what is not the program's own access.
  const context = field(state.tlbContext, 32).and(~3 >>> 0).or(field(state.contextRule, 32).and(1));
  const place = entryPlace(base, low);
  const tag = readMemory(64, isWrite ? place.add(8) : place);
  refuseIf(tag.ne(linear.and(~BigInt(pageSizeBytes - 1) & 0xffff_ffff_ffff_ffffn).or(context.zext(64))));
  return low.add(readMemory(32, place.add(16)));
}

/** RIP of the instruction that faults. */
function faultingRip(): Bits<64> {
  const record = field(state.currentRecord, 32);
  const rip = new Variable(field(state.rip, 64));
  when(record.ne(0), () => rip.set(field(state.ripBase, 64).add(readMemory(16, record.add(RecordField.start)).zext(64))));
  return rip.get();
}

/** Argument: where the processor's area is. */
const pageFaultPath: () => FastPath = fastPath([32], (argument) => {
  const base = argument as Bits<32>;
  const cpu = new Cpu({ long: true, operandSize: 64, addressSize: 64, stackSize: 64, repeat: "none", lock: false });
  const otherShadows = field(state.interruptShadow, 32).and(~state.ShadowMask.stiAtRip >>> 0);
  refuseIf(field(state.exceptionVector, 32).ne(Vector.PF).or(field(state.deliversFaults, 32).isZero()).or(otherShadows.ne(0))
    .or(field(state.idtrLimit, 32).ltU(gateOffset + gateBytes - 1)));
  const gate = locate(base, field(state.idtrBase, 64).add(gateOffset), gateBytes, false);
  const gateLow = readMemory(32, gate), gateHigh = readMemory(32, gate.add(4));
  const type = gateHigh.shr(8).and(gateMask);
  const isInterruptGate = type.eq(interruptGate);
  const target = readMemory(32, gate.add(8)).zext(64).shl(32).or(gateHigh.and(0xffff_0000).or(gateLow.and(0xffff)).zext(64));
  const selector = gateLow.shr(16);
  refuseIf(isInterruptGate.or(type.eq(trapGate)).and(isCanonical(cpu, target)).and(isInGdt(cpu, selector)).xor(1));
  const descriptor = readMemory(64, locate(base, field(state.gdtrBase, 64).add(selector.and(0xfff8).zext(64)), 8, false));
  const attributes = attributesOf(descriptor);
  refuseIf(attributes.and(kernelCodeMask).ne(kernelCode));

  const isInward = field(state.cpl, 32).ne(0), interruptStack = gateHigh.and(7);
  const top = new Variable(field(stackPointer, 64));
  when(isInward.or(interruptStack.ne(0)), () => {
    const task = state.segments[Segment.TR];
    const offset = interruptStack.isZero().select(constant(32, 4), interruptStack.shl(3).add(0x1c));
    refuseIf(field(task.limit, 32).ltU(offset.add(7)));
    top.set(readMemory(64, locate(base, field(task.base, 64).add(offset.zext(64)), 8, false)));
    refuseIf(isCanonical(cpu, top.get()).xor(1));
  });
  const bottom = top.get().and(~0xfn & 0xffff_ffff_ffff_ffffn).sub(frameBytes);
  const frame = locate(base, bottom, frameBytes, true);

  const systemFlags = field(state.systemFlags, 32);
  const pushed = [
    field(state.exceptionErrorCode, 32).zext(64), faultingRip(), field(state.segments[Segment.CS].selector, 16).zext(64),
    statusFlags().or(systemFlags).or(FlagMask.fixed | FlagMask.RF).zext(64), field(stackPointer, 64),
    field(state.segments[Segment.SS].selector, 16).zext(64),
  ];
  pushed.forEach((value, index) => writeMemory(frame.add(index * 8), value));
  when(isInward, () => {
    const stack = state.segments[Segment.SS];
    cpu.field<16>(stack.selector).write(constant(16, 0));
    for (const place of [stack.base, stack.readEnd, stack.writeEnd]) set64(cpu, place, 0n);
    set32(cpu, stack.limit, 0);
    set32(cpu, stack.attributes, SegmentAttribute.unusable);
  });
  setField(stackPointer, bottom);
  setField(state.cr2, field(state.pageFaultAddress, 64));
  setField(state.rip, target);
  loadCode(cpu, selector.and(0xfffc), descriptor, attributes);
  const flags = systemFlags.and(~(FlagMask.TF | FlagMask.NT | FlagMask.VM | FlagMask.RF) >>> 0)
    .and(isInterruptGate.select(constant(32, ~FlagMask.IF >>> 0), constant(32, 0xffff_ffff)));
  setField(state.systemFlags, flags);
  enterLevel(cpu, constant(32, 0), flags);
  setField(state.exceptionVector, constant(32, noException));
  setField(state.interruptShadow, constant(32, 0));
  setField(state.currentRecord, constant(32, 0));
});

/**
 * A WebAssembly function that delivers the exception that is recorded in the state, if it is an ordinary page fault, and answers 1;
 * else 0, with nothing changed. When an exit from a guest is recorded, `leaveGuest` is asked, and answers the same. `base`: offset of
 * the processor's area in linear memory.
 */
export function faultDelivery(memory: WasmMemory, base: number, leaveGuest: () => number): () => number {
  const builder = new ModuleBuilder();
  const pages = memory.buffer.byteLength / 65_536;
  builder.importMemory("host", "memory", { min: pages, max: pages, shared: true });
  const leave = builder.importFunction("host", "leaveGuest", { params: [], results: ["i32"] });
  const deliver = builder.addFunction("deliver page fault", { params: ["i32", "i32"], results: ["i32"] }, (f) => emitFastPath(f, pageFaultPath()));
  builder.exportFunction("deliver", builder.addFunction("deliver", { params: [], results: ["i32"] }, (f) => {
    f.i32.const(base);
    f.i32.load(state.exceptionVector.offset);
    f.i32.const(exitVector);
    f.i32.eq();
    f.if("i32");
    f.call(leave);
    f.else();
    f.i32.const(base);
    f.i32.const(base);
    f.call(deliver);
    f.end();
  }));
  return new wasm.Instance(new wasm.Module(builder.build()), { host: { memory, leaveGuest } }).exports["deliver"];
}
