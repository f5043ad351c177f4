/** The virtual-APIC page: TPR shadow, APIC-register virtualization, virtual interrupts and posted ones (SDM volume 3, "APIC Virtualization and Virtual Interrupts"). */
import type { VirtualPage } from "../../engine/mmu.ts";
import type { PhysicalMemory } from "../../engine/physical-memory.ts";
import { Control } from "./controls.ts";
import type { ExitSink, VmxContext } from "./context.ts";
import { accessExit, boundaryExit, ExitReason, type Exit } from "./exit-reasons.ts";
import { ApicAccessType, apicAccessQualification } from "./extended-page-tables.ts";
import { eoiExitBitmaps, Field } from "./fields.ts";
import type { VmxGuestState } from "./saved-state.ts";

/** Offsets of registers on the page. */
const Offset = {
  id: 0x20, version: 0x30, taskPriority: 0x80, processorPriority: 0xa0, endOfInterrupt: 0xb0, logicalDestination: 0xd0,
  destinationFormat: 0xe0, spuriousVector: 0xf0, inService: 0x100, triggerMode: 0x180, request: 0x200, errorStatus: 0x280,
  commandLow: 0x300, commandHigh: 0x310, localVectors: 0x320, initialCount: 0x380, divideConfiguration: 0x3e0,
} as const;

const localVectorCount = 6;
const registerStride = 0x10;

function group(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, index) => first + index * registerStride);
}

const writable: readonly number[] = [
  Offset.id, Offset.taskPriority, Offset.endOfInterrupt, Offset.logicalDestination, Offset.destinationFormat, Offset.spuriousVector,
  Offset.errorStatus, Offset.commandLow, Offset.commandHigh, ...group(Offset.localVectors, localVectorCount), Offset.initialCount,
  Offset.divideConfiguration,
];
/** What reads and writes reach without an exit, by the controls that are 1. */
const readableRegisters: ReadonlySet<number> = new Set([...writable, Offset.version, ...group(Offset.inService, 24)]);
const writableRegisters: ReadonlySet<number> = new Set(writable);
const interruptRegisters: ReadonlySet<number> = new Set([Offset.taskPriority, Offset.endOfInterrupt, Offset.commandLow]);
const taskPriorityOnly: ReadonlySet<number> = new Set([Offset.taskPriority]);

const firstMsr = 0x800, lastMsr = 0x8ff;
const Msr = { taskPriority: 0x808, endOfInterrupt: 0x80b, selfIpi: 0x83f } as const;
const selfIpiOffset = 0x3f0;
/** An interrupt command that is a fixed, edge-triggered interrupt to the processor itself: these bits have this value. */
const selfCommandMask = 0xffff_b700;
const selfCommandValue = 0x4_0000;
const notificationWord = 32;

export class VirtualApic implements VirtualPage {
  /** A virtual interrupt is to be delivered as soon as the guest lets it in. */
  isRecognized = false;
  /** An exit that follows the instruction that has just been executed. */
  pendingExit: Exit | undefined;
  /** The access asks to be executed alone, so that its exit comes right behind it. */
  wantsAlone = false;
  readonly #context: VmxContext;
  readonly #memory: PhysicalMemory;
  readonly #sink: ExitSink;

  constructor(context: VmxContext, sink: ExitSink) {
    this.#context = context;
    this.#memory = context.processor.physical;
    this.#sink = sink;
  }

  /** VM entry. */
  enter(): void {
    const context = this.#context;
    this.isRecognized = false;
    this.pendingExit = undefined;
    this.wantsAlone = false;
    if (context.has(Control.virtualInterruptDelivery)) this.#updatePriority();
    else if (context.has(Control.tprShadow)) this.pendingExit = this.#thresholdExit();
  }

  restore({ isInterruptRecognized, pendingExit }: VmxGuestState): void {
    this.isRecognized = isInterruptRecognized;
    this.pendingExit = pendingExit && boundaryExit(pendingExit.reason, pendingExit.qualification);
    this.wantsAlone = false;
  }

  #address(offset: number): number {
    return this.#context.vmcs.getAddress(Field.virtualApicAddress) + offset;
  }

  #read(offset: number): number {
    return this.#memory.read32(this.#address(offset));
  }

  #write(offset: number, value: number): void {
    this.#memory.write32(this.#address(offset), value >>> 0);
  }

  // --- accesses ----------------------------------------------------------------------------------------------------

  read(offset: number, sizeBytes: number): number | undefined {
    const context = this.#context;
    const reachable = context.has(Control.apicRegisters) ? readableRegisters : taskPriorityOnly;
    if (!this.#isVirtualized(offset, sizeBytes, reachable)) {
      this.#recordAccess(offset, ApicAccessType.read);
      return undefined;
    }
    return this.#read(offset & ~3) >>> ((offset & 3) * 8);
  }

  write(offset: number, sizeBytes: number, value: number): boolean {
    const context = this.#context;
    const reachable = context.has(Control.apicRegisters) ? writableRegisters
      : context.has(Control.virtualInterruptDelivery) ? interruptRegisters : taskPriorityOnly;
    if (!this.#isVirtualized(offset, sizeBytes, reachable)) {
      this.#recordAccess(offset, ApicAccessType.write);
      return false;
    }
    if (!this.#context.processor.isStepping) {
      this.wantsAlone = true;
      return false;
    }
    this.wantsAlone = false;
    const register = offset & ~3, shift = (offset & 3) * 8;
    const mask = sizeBytes === 4 ? 0xffff_ffff : ((1 << (sizeBytes * 8)) - 1) << shift;
    this.#write(register, (this.#read(register) & ~mask) | ((value << shift) & mask));
    this.#emulateWrite(register);
    return true;
  }

  #isVirtualized(offset: number, sizeBytes: number, reachable: ReadonlySet<number>): boolean {
    return this.#context.has(Control.tprShadow) && sizeBytes <= 4 && (offset & 3) + sizeBytes <= 4 && reachable.has(offset & ~3);
  }

  #recordAccess(offset: number, type: number): void {
    this.#sink.record(accessExit(ExitReason.apicAccess, apicAccessQualification(offset, type)));
  }

  /** What a write has as its consequence ("APIC-Write Emulation"). */
  #emulateWrite(register: number): void {
    const deliversInterrupts = this.#context.has(Control.virtualInterruptDelivery);
    if (register === Offset.taskPriority) {
      this.#write(register, this.#read(register) & 0xff);
      return this.#virtualizeTaskPriority();
    }
    if (register === Offset.commandHigh) return this.#write(register, this.#read(register) & 0xff00_0000);
    if (register === Offset.endOfInterrupt && deliversInterrupts) {
      this.#write(register, 0);
      return this.#virtualizeEndOfInterrupt();
    }
    if (register === Offset.commandLow && deliversInterrupts) {
      const command = this.#read(register);
      const vector = command & 0xff;
      if (((command & selfCommandMask) >>> 0) === selfCommandValue && vector >= 16) return this.#sendToSelf(vector);
    }
    this.pendingExit = boundaryExit(ExitReason.apicWrite, BigInt(register));
  }

  /** MOV from CR8 and MOV to CR8 with a TPR shadow. */
  get taskPriority(): number {
    return (this.#read(Offset.taskPriority) >>> 4) & 0xf;
  }

  setTaskPriority(value: number): void {
    this.#write(Offset.taskPriority, value << 4);
    this.#virtualizeTaskPriority();
  }

  /** RDMSR of an x2APIC register; undefined: not virtualized. */
  readMsr(index: number): bigint | undefined {
    const context = this.#context;
    if (index < firstMsr || index > lastMsr || !context.has(Control.x2ApicMode)) return undefined;
    if (index !== Msr.taskPriority && !context.has(Control.apicRegisters)) return undefined;
    const offset = (index & 0xff) << 4;
    return (BigInt(this.#read(offset + 4)) << 32n) | BigInt(this.#read(offset));
  }

  /** WRMSR of an x2APIC register; "unknown": not virtualized, false: #GP. */
  writeMsr(index: number, value: bigint): boolean | "unknown" {
    const context = this.#context;
    if (index < firstMsr || index > lastMsr || !context.has(Control.x2ApicMode)) return "unknown";
    const deliversInterrupts = context.has(Control.virtualInterruptDelivery);
    if (index === Msr.taskPriority) {
      if (value > 0xffn) return false;
      this.#write(Offset.taskPriority, Number(value));
      this.#write(Offset.taskPriority + 4, 0);
      this.#virtualizeTaskPriority();
    } else if (index === Msr.endOfInterrupt && deliversInterrupts) {
      if (value !== 0n) return false;
      this.#virtualizeEndOfInterrupt();
    } else if (index === Msr.selfIpi && deliversInterrupts) {
      if (value > 0xffn) return false;
      const vector = Number(value);
      this.#write(selfIpiOffset, vector);
      if (vector < 16) this.pendingExit = boundaryExit(ExitReason.apicWrite, BigInt(selfIpiOffset));
      else this.#sendToSelf(vector);
    } else {
      return "unknown";
    }
    return true;
  }

  // --- priorities and interrupts -----------------------------------------------------------------------------------

  #thresholdExit(): Exit | undefined {
    const threshold = this.#context.vmcs.get32(Field.tprThreshold) & 0xf;
    return this.taskPriority < threshold ? boundaryExit(ExitReason.tprBelowThreshold) : undefined;
  }

  #virtualizeTaskPriority(): void {
    if (this.#context.has(Control.virtualInterruptDelivery)) this.#updatePriority();
    else this.pendingExit = this.#thresholdExit();
  }

  get #requested(): number {
    return this.#context.vmcs.get32(Field.guestInterruptStatus) & 0xff;
  }

  get #serviced(): number {
    return this.#context.vmcs.get32(Field.guestInterruptStatus) >>> 8;
  }

  #setStatus(requested: number, serviced: number): void {
    this.#context.vmcs.set32(Field.guestInterruptStatus, (serviced << 8) | requested);
  }

  /** PPR virtualization, and what follows from it. */
  #updatePriority(): void {
    const priority = this.#read(Offset.taskPriority) & 0xff;
    const serviced = this.#serviced;
    this.#write(Offset.processorPriority, priority >>> 4 >= serviced >>> 4 ? priority : serviced & 0xf0);
    this.#evaluate();
  }

  #evaluate(): void {
    const priority = this.#read(Offset.processorPriority) & 0xff;
    this.isRecognized = !this.#context.has(Control.interruptWindowExiting) && this.#requested >>> 4 > priority >>> 4;
  }

  #setBit(first: number, vector: number, isSet: boolean): void {
    const offset = first + (vector >>> 5) * registerStride;
    const mask = 1 << (vector & 31);
    this.#write(offset, isSet ? this.#read(offset) | mask : this.#read(offset) & ~mask);
  }

  /** The highest vector in one of the registers of 256 bits, 0 when empty. */
  #highest(first: number): number {
    for (let word = 7; word >= 0; word--) {
      const bits = this.#read(first + word * registerStride);
      if (bits !== 0) return word * 32 + 31 - Math.clz32(bits);
    }
    return 0;
  }

  #sendToSelf(vector: number): void {
    this.#setBit(Offset.request, vector, true);
    this.#setStatus(Math.max(this.#requested, vector), this.#serviced);
    this.#evaluate();
  }

  #virtualizeEndOfInterrupt(): void {
    const vector = this.#serviced;
    this.#setBit(Offset.inService, vector, false);
    this.#setStatus(this.#requested, this.#highest(Offset.inService));
    this.#updatePriority();
    const bits = this.#context.vmcs.get(eoiExitBitmaps[vector >>> 6]);
    if (((bits >> BigInt(vector & 63)) & 1n) !== 0n) this.pendingExit = boundaryExit(ExitReason.virtualizedEoi, BigInt(vector));
  }

  /** The recognized interrupt begins: its vector. */
  acknowledge(): number {
    const vector = this.#requested;
    this.#setBit(Offset.inService, vector, true);
    this.#write(Offset.processorPriority, vector & 0xf0);
    this.#setBit(Offset.request, vector, false);
    this.#setStatus(this.#highest(Offset.request), vector);
    this.isRecognized = false;
    return vector;
  }

  /** The notification vector has arrived: posted interrupts become virtual ones. */
  processPosted(): void {
    const descriptor = this.#context.vmcs.getAddress(Field.postedInterruptDescriptorAddress);
    this.#memory.write32(descriptor + notificationWord, this.#memory.read32(descriptor + notificationWord) & ~1);
    let highest = 0;
    for (let word = 0; word < 8; word++) {
      const posted = this.#memory.read32(descriptor + word * 4);
      if (posted === 0) continue;
      this.#memory.write32(descriptor + word * 4, 0);
      const offset = Offset.request + word * registerStride;
      this.#write(offset, this.#read(offset) | posted);
      highest = word * 32 + 31 - Math.clz32(posted);
    }
    this.#setStatus(Math.max(this.#requested, highest), this.#serviced);
    this.#evaluate();
  }
}
