/** A KVM vCPU's registers as the accelerators' common state, and back. What the kernel does not keep stays with the caller. */
import { Msr } from "../../isa/system/model-specific.ts";
import type { CoreMsrState, FloatingPointState, PendingEvent, ProcessorState, SegmentState } from "../processor-state.ts";
import { Events, EventsFlag, EventsShadow, Request, Size } from "./abi.ts";
import type { VcpuCalls } from "./vcpu-calls.ts";

/** RAX RCX RDX RBX RSP RBP RSI RDI, as struct kvm_regs orders its first eight (by index of 64-bit words). */
const lowRegisterWords = [0, 2, 3, 1, 6, 7, 4, 5];
const ripWord = 16;
const rflagsWord = 17;

/** Offsets of the segments in struct kvm_sregs, in our order: ES CS SS DS FS GS LDTR TR. */
const segmentOffsets = [2, 0, 5, 1, 3, 4, 7, 6].map((place) => place * 24);
const SregsOffset = { gdt: 192, idt: 208, cr0: 224, cr2: 232, cr3: 240, cr4: 248, cr8: 256, efer: 264, apicBase: 272 } as const;
const Sregs2Offset = { flags: 280, pdptrs: 288 } as const;
const pdptrsValidMask = 1n;

const presentComponentsOffset = 512;
const x87AndSse = 3n;
const pkruComponent = 0x200n;

const coreMsrs = {
  star: Msr.STAR, lstar: Msr.LSTAR, cstar: Msr.CSTAR, fmask: Msr.FMASK, kernelGsBase: Msr.KERNEL_GS_BASE,
  sysenterCs: Msr.SYSENTER_CS, sysenterEsp: Msr.SYSENTER_ESP, sysenterEip: Msr.SYSENTER_EIP, tscAux: Msr.TSC_AUX, pat: Msr.PAT,
} as const satisfies Readonly<Record<Exclude<keyof CoreMsrState, "efer">, number>>;
const coreMsrNames = Object.keys(coreMsrs) as (keyof typeof coreMsrs)[];

/** The part of the state that KVM keeps. */
export type KernelState = Omit<ProcessorState, "activity" | "storedMsrs" | "version" | "heldDebugConditions">;

export interface StateFormat {
  /** KVM_GET_SREGS2 exists: page directory pointers can be had and set. */
  readonly hasSregs2: boolean;
  /** Where PKRU lies in the XSAVE area, when the model has it. */
  readonly pkruOffset: number | undefined;
}

/** Offsets in struct kvm_segment. */
const SegmentOffset = { base: 0, limit: 8, selector: 12, type: 14, present: 15, dpl: 16, db: 17, s: 18, l: 19, g: 20, avl: 21, unusable: 22 } as const;
/** Where the flags of struct kvm_segment are in the attributes. */
const attributeBits = [
  [SegmentOffset.s, 4], [SegmentOffset.present, 7], [SegmentOffset.avl, 12], [SegmentOffset.l, 13], [SegmentOffset.db, 14],
  [SegmentOffset.g, 15], [SegmentOffset.unusable, 16],
] as const;
const privilegeShift = 5;

function readSegment(view: DataView, at: number): SegmentState {
  const flags = attributeBits.reduce((bits, [offset, bit]) => bits | ((view.getUint8(at + offset) & 1) << bit), 0);
  const privilege = (view.getUint8(at + SegmentOffset.dpl) & 3) << privilegeShift;
  return {
    selector: view.getUint16(at + SegmentOffset.selector, true), base: view.getBigUint64(at + SegmentOffset.base, true),
    limit: view.getUint32(at + SegmentOffset.limit, true), attributes: flags | privilege | (view.getUint8(at + SegmentOffset.type) & 15),
  };
}

function writeSegment(view: DataView, at: number, { selector, base, limit, attributes }: SegmentState): void {
  view.setBigUint64(at + SegmentOffset.base, base, true);
  view.setUint32(at + SegmentOffset.limit, limit, true);
  view.setUint16(at + SegmentOffset.selector, selector, true);
  view.setUint8(at + SegmentOffset.type, attributes & 15);
  view.setUint8(at + SegmentOffset.dpl, (attributes >>> privilegeShift) & 3);
  for (const [offset, bit] of attributeBits) view.setUint8(at + offset, (attributes >>> bit) & 1);
}

function readFloatingPoint(xsave: DataView): FloatingPointState {
  return {
    controlWord: xsave.getUint16(0, true), statusWord: xsave.getUint16(2, true), abridgedTagWord: xsave.getUint8(4),
    lastOpcode: xsave.getUint16(6, true) & 0x7ff,
    // FXSAVE64's form: 64-bit pointers, no selectors.
    instructionPointer: xsave.getBigUint64(8, true), instructionSelector: 0,
    dataPointer: xsave.getBigUint64(16, true), dataSelector: 0,
    stack: Array.from({ length: 8 }, (_, index) => ({
      significand: xsave.getBigUint64(32 + 16 * index, true), signAndExponent: xsave.getUint16(40 + 16 * index, true),
    })),
  };
}

function writeFloatingPoint(xsave: DataView, fpu: FloatingPointState): void {
  xsave.setUint16(0, fpu.controlWord, true);
  xsave.setUint16(2, fpu.statusWord, true);
  xsave.setUint8(4, fpu.abridgedTagWord);
  xsave.setUint16(6, fpu.lastOpcode, true);
  xsave.setBigUint64(8, fpu.instructionPointer, true);
  xsave.setBigUint64(16, fpu.dataPointer, true);
  fpu.stack.forEach(({ significand, signAndExponent }, index) => {
    xsave.setBigUint64(32 + 16 * index, significand, true);
    xsave.setUint16(40 + 16 * index, signAndExponent, true);
  });
}

function pendingEvent(events: DataView): PendingEvent | undefined {
  if (events.getUint8(Events.exceptionInjected) !== 0) {
    const hasErrorCode = events.getUint8(Events.exceptionHasErrorCode) !== 0;
    return {
      kind: "exception", vector: events.getUint8(Events.exceptionVector),
      ...(hasErrorCode ? { errorCode: events.getUint32(Events.exceptionErrorCode, true) } : {}),
    };
  }
  if (events.getUint8(Events.nmiInjected) !== 0) return { kind: "nmi", vector: 2 };
  if (events.getUint8(Events.interruptInjected) !== 0) return { kind: "external", vector: events.getUint8(Events.interruptVector) };
  return undefined;
}

function shadowOf(events: DataView): ProcessorState["shadow"] {
  // AMD's processors do not tell one from the other, and set both.
  const shadow = events.getUint8(Events.interruptShadow);
  if ((shadow & EventsShadow.stackSegmentMask) !== 0) return "stack-segment";
  return (shadow & EventsShadow.stiMask) !== 0 ? "sti" : "none";
}

/** Reads what KVM keeps. I/O must have been completed. */
export function readKernelState(vcpu: VcpuCalls, format: StateFormat): KernelState {
  const regs = vcpu.get(Request.getRegs, Size.regs);
  const sregs = format.hasSregs2 ? vcpu.get(Request.getSregs2, Size.sregs2) : vcpu.get(Request.getSregs, Size.sregs);
  const events = vcpu.get(Request.getVcpuEvents, Size.vcpuEvents);
  const debug = vcpu.get(Request.getDebugregs, Size.debugregs);
  const xsave = vcpu.get(Request.getXsave, Size.xsave);
  const word = (index: number): bigint => regs.getBigUint64(index * 8, true);
  const system = (offset: number): bigint => sregs.getBigUint64(offset, true);
  const table = (offset: number): { base: bigint; limit: number } => ({ base: system(offset), limit: sregs.getUint16(offset + 8, true) });
  const segments = segmentOffsets.map((offset) => readSegment(sregs, offset));
  const hasPointers = format.hasSregs2 && (system(Sregs2Offset.flags) & pdptrsValidMask) !== 0n;
  const msrs = vcpu.readMsrs(coreMsrNames.map((name) => coreMsrs[name]));
  const event = pendingEvent(events);
  const [, , stack] = segments;
  return {
    general: Array.from({ length: 16 }, (_, number) => word(number < 8 ? lowRegisterWords[number] : number)),
    rip: word(ripWord), rflags: Number(word(rflagsWord)),
    privilegeLevel: (stack.attributes >>> privilegeShift) & 3,
    segments,
    gdtr: table(SregsOffset.gdt), idtr: table(SregsOffset.idt),
    cr0: system(SregsOffset.cr0), cr2: system(SregsOffset.cr2), cr3: system(SregsOffset.cr3), cr4: system(SregsOffset.cr4),
    xcr0: readXcr0(vcpu),
    ...(hasPointers ? { pageDirectoryPointers: [0, 1, 2, 3].map((index) => system(Sregs2Offset.pdptrs + 8 * index)) } : {}),
    breakpointAddresses: [0, 1, 2, 3].map((index) => debug.getBigUint64(8 * index, true)),
    dr6: debug.getBigUint64(32, true), dr7: debug.getBigUint64(40, true),
    floatingPoint: readFloatingPoint(xsave),
    mxcsr: xsave.getUint32(24, true),
    xmm: Array.from({ length: 16 }, (_, index) => ({
      low: xsave.getBigUint64(160 + 16 * index, true), high: xsave.getBigUint64(168 + 16 * index, true),
    })),
    pkru: format.pkruOffset === undefined ? 0 : xsave.getUint32(format.pkruOffset, true),
    msrs: {
      efer: system(SregsOffset.efer),
      ...Object.fromEntries(coreMsrNames.map((name, at) => [name, msrs[at] ?? 0n])) as Record<keyof typeof coreMsrs, bigint>,
    },
    shadow: shadowOf(events),
    isNmiBlocked: events.getUint8(Events.nmiMasked) !== 0,
    isNmiPending: events.getUint8(Events.nmiPending) !== 0,
    ...(event === undefined ? {} : { pendingEvent: event }),
  };
}

function readXcr0(vcpu: VcpuCalls): bigint {
  const view = vcpu.get(Request.getXcrs, Size.xcrs);
  return view.getUint32(0, true) === 0 ? 1n : view.getBigUint64(16, true);
}

export interface OutsideState {
  /** IA32_APIC_BASE and CR8, which the local APIC keeps. */
  readonly apicBase: bigint;
  readonly taskPriority: number;
}

/** The next KVM_RUN goes on in `state`. */
export function writeKernelState(vcpu: VcpuCalls, state: KernelState, format: StateFormat, outside: OutsideState): void {
  writeSystemRegisters(vcpu, state, format, outside);
  const regs = new DataView(new ArrayBuffer(Size.regs));
  state.general.forEach((value, number) => regs.setBigUint64((number < 8 ? lowRegisterWords[number] : number) * 8, value, true));
  regs.setBigUint64(ripWord * 8, state.rip, true);
  regs.setBigUint64(rflagsWord * 8, BigInt(state.rflags), true);
  vcpu.set(Request.setRegs, regs);

  const xcrs = new DataView(new ArrayBuffer(Size.xcrs));
  xcrs.setUint32(0, 1, true);
  xcrs.setBigUint64(16, state.xcr0, true);
  vcpu.set(Request.setXcrs, xcrs);

  const xsave = new DataView(new ArrayBuffer(Size.xsave));
  writeFloatingPoint(xsave, state.floatingPoint);
  xsave.setUint32(24, state.mxcsr, true);
  state.xmm.forEach(({ low, high }, index) => {
    xsave.setBigUint64(160 + 16 * index, low, true);
    xsave.setBigUint64(168 + 16 * index, high, true);
  });
  if (format.pkruOffset !== undefined) xsave.setUint32(format.pkruOffset, state.pkru, true);
  xsave.setBigUint64(presentComponentsOffset, format.pkruOffset === undefined ? x87AndSse : x87AndSse | pkruComponent, true);
  vcpu.set(Request.setXsave, xsave);

  const debug = new DataView(new ArrayBuffer(Size.debugregs));
  state.breakpointAddresses.forEach((address, index) => debug.setBigUint64(8 * index, address, true));
  debug.setBigUint64(32, state.dr6, true);
  debug.setBigUint64(40, state.dr7, true);
  vcpu.set(Request.setDebugregs, debug);

  vcpu.writeMsrs(coreMsrNames.map((name) => [coreMsrs[name], state.msrs[name]]));
  writeEvents(vcpu, state);
}

function writeSystemRegisters(vcpu: VcpuCalls, state: KernelState, format: StateFormat, { apicBase, taskPriority }: OutsideState): void {
  const view = new DataView(new ArrayBuffer(format.hasSregs2 ? Size.sregs2 : Size.sregs));
  state.segments.forEach((segment, index) => {
    const isStack = index === 2;
    // KVM's privilege level is SS.DPL.
    const attributes = isStack ? (segment.attributes & ~(3 << privilegeShift)) | (state.privilegeLevel << privilegeShift) : segment.attributes;
    writeSegment(view, segmentOffsets[index], { ...segment, attributes });
  });
  const values: readonly (readonly [number, bigint])[] = [
    [SregsOffset.gdt, state.gdtr.base], [SregsOffset.idt, state.idtr.base], [SregsOffset.cr0, state.cr0], [SregsOffset.cr2, state.cr2],
    [SregsOffset.cr3, state.cr3], [SregsOffset.cr4, state.cr4], [SregsOffset.cr8, BigInt(taskPriority)],
    [SregsOffset.efer, state.msrs.efer], [SregsOffset.apicBase, apicBase],
  ];
  for (const [offset, value] of values) view.setBigUint64(offset, value, true);
  view.setUint16(SregsOffset.gdt + 8, state.gdtr.limit, true);
  view.setUint16(SregsOffset.idt + 8, state.idtr.limit, true);
  if (format.hasSregs2 && state.pageDirectoryPointers !== undefined) {
    view.setBigUint64(Sregs2Offset.flags, pdptrsValidMask, true);
    state.pageDirectoryPointers.forEach((entry, index) => view.setBigUint64(Sregs2Offset.pdptrs + 8 * index, entry, true));
  }
  vcpu.set(format.hasSregs2 ? Request.setSregs2 : Request.setSregs, view);
}

function writeEvents(vcpu: VcpuCalls, state: KernelState): void {
  const events = new DataView(new ArrayBuffer(Size.vcpuEvents));
  const event = state.pendingEvent;
  if (event?.kind === "exception") {
    events.setUint8(Events.exceptionInjected, 1);
    events.setUint8(Events.exceptionVector, event.vector);
    events.setUint8(Events.exceptionHasErrorCode, event.errorCode === undefined ? 0 : 1);
    events.setUint32(Events.exceptionErrorCode, event.errorCode ?? 0, true);
  } else if (event?.kind === "nmi") {
    events.setUint8(Events.nmiInjected, 1);
  } else if (event !== undefined) {
    events.setUint8(Events.interruptInjected, 1);
    events.setUint8(Events.interruptVector, event.vector);
  }
  const shadow = state.shadow === "none" ? 0 : state.shadow === "sti" ? EventsShadow.stiMask : EventsShadow.stackSegmentMask;
  events.setUint8(Events.interruptShadow, shadow);
  events.setUint8(Events.nmiPending, state.isNmiPending ? 1 : 0);
  events.setUint8(Events.nmiMasked, state.isNmiBlocked ? 1 : 0);
  events.setUint32(Events.flags, EventsFlag.nmiPendingMask | EventsFlag.shadowMask, true);
  vcpu.set(Request.setVcpuEvents, events);
}
