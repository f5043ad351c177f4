/**
 * AVIC: a guest's local APIC as a page of memory, whose registers it reaches and by which it gets interrupts without leaving
 * (AMD APM volume 2, "Advanced Virtual Interrupt Controller").
 */
import type { VirtualPage } from "../../engine/mmu.ts";
import type { PhysicalMemory } from "../../engine/physical-memory.ts";
import type { StateView } from "../../isa/state-view.ts";
import { eventExit, ExitCode, type Exit } from "./exit-codes.ts";
import { Control, InterruptControlMask } from "./vmcb.ts";

/** Offsets of registers on the page. */
const Offset = {
  id: 0x20, taskPriority: 0x80, processorPriority: 0xa0, endOfInterrupt: 0xb0, remoteRead: 0xc0, logicalDestination: 0xd0, destinationFormat: 0xe0,
  spuriousVector: 0xf0, inService: 0x100, triggerMode: 0x180, request: 0x200, errorStatus: 0x280, commandLow: 0x300, commandHigh: 0x310,
  localVectors: 0x320, initialCount: 0x380, currentCount: 0x390, divideConfiguration: 0x3e0,
} as const;
const registerStride = 0x10, lastRegister = 0x3f0, localVectorCount = 6;

/** Registers whose writes are the hypervisor's business, behind the instruction ("Guest vAPIC Register Access Behavior"). */
const trappedWrites: ReadonlySet<number> = new Set([
  Offset.id, Offset.remoteRead, Offset.logicalDestination, Offset.destinationFormat, Offset.spuriousVector, Offset.errorStatus, Offset.initialCount,
  Offset.divideConfiguration, ...Array.from({ length: localVectorCount }, (_, index) => Offset.localVectors + index * registerStride),
]);
/** What AVIC does itself. */
const acceleratedWrites: ReadonlySet<number> = new Set([Offset.taskPriority, Offset.endOfInterrupt, Offset.commandLow, Offset.commandHigh]);

/** Fields of ICR. */
const Command = {
  vectorMask: 0xff, modeMask: 0x700, logicalMask: 0x800, levelMask: 0x8000, shorthandShift: 18, destinationShift: 24,
} as const;
const Shorthand = { none: 0, self: 1, all: 2, others: 3 } as const;
const broadcast = 0xff, flatFormat = 0xf;

/** An entry of the table of physical APIC IDs, by halves, and of the table of logical ones. */
const PhysicalEntry = { validHighMask: 0x8000_0000, runningHighMask: 0x4000_0000, addressHighMask: 0xf_ffff, addressLowMask: 0xffff_f000 } as const;
const LogicalEntry = { validMask: 0x8000_0000, idMask: 0xff } as const;
const highestIdMask = 0xff;

/** Why an interrupt did not reach everybody: EXITINFO2[63:32]. */
const Incomplete = { type: 0, notRunning: 1, target: 2 } as const;
const twoPow32 = 0x1_0000_0000;
const writeInfo = 1n << 32n;

/** Who else has to do with it. */
export interface AvicHost {
  /** Accesses that are exits take the instruction's place. */
  record(exit: Exit): void;
  /** A write has to be executed alone, so that what follows from it comes right behind it. */
  readonly isStepping: boolean;
}

export class Avic implements VirtualPage {
  isEnabled = false;
  /** The guest-physical page; -1 while it is not enabled. */
  guestPage = -1;
  /** An exit that follows the instruction that has just been executed. */
  pendingExit: Exit | undefined;
  /** The access asks to be executed again, alone. */
  wantsAlone = false;
  readonly #memory: PhysicalMemory;
  readonly #host: AvicHost;
  #page = 0;
  #logicalTable = 0;
  #physicalTable = 0;
  #highestId = 0;

  constructor(memory: PhysicalMemory, host: AvicHost) {
    this.#memory = memory;
    this.#host = host;
  }

  load(vmcb: StateView): void {
    this.pendingExit = undefined;
    this.wantsAlone = false;
    if ((vmcb.get32(Control.interruptControl) & InterruptControlMask.avicEnable) === 0) return;
    this.isEnabled = true;
    this.guestPage = pageAddress(vmcb.get64(Control.avicBar));
    this.#page = pageAddress(vmcb.get64(Control.avicBackingPage));
    this.#logicalTable = pageAddress(vmcb.get64(Control.avicLogicalTable));
    const physicalTable = vmcb.get64(Control.avicPhysicalTable);
    this.#physicalTable = pageAddress(physicalTable);
    this.#highestId = Number(physicalTable) & highestIdMask;
  }

  leave(): void {
    this.isEnabled = false;
    this.guestPage = -1;
  }

  #read(offset: number): number {
    return this.#memory.read32(this.#page + offset);
  }

  #write(offset: number, value: number): void {
    this.#memory.write32(this.#page + offset, value >>> 0);
  }

  // --- accesses ----------------------------------------------------------------------------------------------------

  read(offset: number, sizeBytes: number): number | undefined {
    const register = offset & ~3;
    if (!isRegister(offset, sizeBytes) || register === Offset.currentCount) {
      this.#host.record(eventExit(ExitCode.avicUnaccelerated, BigInt(offset & 0xff0), 0n));
      return undefined;
    }
    return this.#read(register) >>> ((offset & 3) * 8);
  }

  write(offset: number, sizeBytes: number, value: number): boolean {
    const isKnown = isRegister(offset, sizeBytes) && sizeBytes === 4 && (acceleratedWrites.has(offset) || trappedWrites.has(offset));
    if (!isKnown) {
      this.#host.record(eventExit(ExitCode.avicUnaccelerated, writeInfo | BigInt(offset & 0xff0), 0n));
      return false;
    }
    if (!this.#host.isStepping) {
      this.wantsAlone = true;
      return false;
    }
    this.wantsAlone = false;
    this.#emulateWrite(offset, value);
    return true;
  }

  #emulateWrite(register: number, value: number): void {
    switch (register) {
      case Offset.taskPriority: return this.#setPriority(value & 0xff);
      case Offset.endOfInterrupt: return this.#endInterrupt();
      case Offset.commandLow:
        this.#write(register, value);
        return this.#send(value);
      default:
        this.#write(register, value);
        if (register !== Offset.commandHigh) this.pendingExit = eventExit(ExitCode.avicUnaccelerated, writeInfo | BigInt(register), 0n);
    }
  }

  // --- priorities and interrupts -----------------------------------------------------------------------------------

  /** CR8. */
  get taskPriority(): number {
    return (this.#read(Offset.taskPriority) >>> 4) & 0xf;
  }

  set taskPriority(value: number) {
    this.#setPriority(value << 4);
  }

  #setPriority(value: number): void {
    this.#write(Offset.taskPriority, value);
    this.#updatePriority();
  }

  #updatePriority(): void {
    const task = this.#read(Offset.taskPriority) & 0xff, serviced = this.#highest(Offset.inService);
    this.#write(Offset.processorPriority, task >>> 4 >= serviced >>> 4 ? task : serviced & 0xf0);
  }

  /** The vector that the guest would take now; -1: none. */
  get pendingVector(): number {
    const vector = this.#highest(Offset.request);
    return vector >>> 4 > (this.#read(Offset.processorPriority) & 0xff) >>> 4 ? vector : -1;
  }

  /** The pending interrupt begins: its vector. */
  acknowledge(): number {
    const vector = this.#highest(Offset.request);
    this.#setBit(this.#page + Offset.request, vector, false);
    this.#setBit(this.#page + Offset.inService, vector, true);
    this.#updatePriority();
    return vector;
  }

  /** Level-triggered interrupts end with the hypervisor's help. */
  #endInterrupt(): void {
    const vector = this.#highest(Offset.inService);
    if (vector === 0) return;
    const isLevel = (this.#read(Offset.triggerMode + (vector >>> 5) * registerStride) & (1 << (vector & 31))) !== 0;
    if (isLevel) {
      this.pendingExit = eventExit(ExitCode.avicUnaccelerated, writeInfo | BigInt(Offset.endOfInterrupt), BigInt(vector));
      return;
    }
    this.#setBit(this.#page + Offset.inService, vector, false);
    this.#updatePriority();
  }

  /** `at`: the first of eight words of bits. */
  #setBit(at: number, vector: number, isSet: boolean): void {
    const word = at + (vector >>> 5) * registerStride, mask = 1 << (vector & 31);
    const old = this.#memory.read32(word);
    this.#memory.write32(word, (isSet ? old | mask : old & ~mask) >>> 0);
  }

  /** The highest vector in one of the registers of 256 bits, 0 when empty. */
  #highest(first: number): number {
    for (let word = 7; word >= 0; word--) {
      const bits = this.#read(first + word * registerStride);
      if (bits !== 0) return word * 32 + 31 - Math.clz32(bits);
    }
    return 0;
  }

  // --- interrupts between processors -------------------------------------------------------------------------------

  #send(command: number): void {
    const shorthand = (command >>> Command.shorthandShift) & 3, destination = this.#read(Offset.commandHigh) >>> Command.destinationShift;
    const ownId = this.#read(Offset.id) >>> Command.destinationShift;
    if ((command & (Command.modeMask | Command.levelMask)) !== 0) return this.#incomplete(command, Incomplete.type, 0);
    const vector = command & Command.vectorMask;
    if (shorthand === Shorthand.self) return this.#setBit(this.#page + Offset.request, vector, true);
    const isForMany = shorthand !== Shorthand.none || ((command & Command.logicalMask) === 0 && destination === broadcast);
    const targets = isForMany ? Array.from({ length: this.#highestId + 1 }, (_, id) => id).filter((id) => shorthand !== Shorthand.others || id !== ownId)
      : (command & Command.logicalMask) === 0 ? [destination] : this.#logicalTargets(destination);
    let missing: number | undefined, sleeping: number | undefined;
    for (const id of targets) {
      const entry = this.#physicalTable + id * 8;
      const high = id >= 0 && id <= this.#highestId ? this.#memory.read32(entry + 4) : 0;
      if ((high & PhysicalEntry.validHighMask) === 0) {
        // Broadcasts go to whom there is.
        if (!isForMany) missing ??= id < 0 ? ~id : id;
        continue;
      }
      const page = (high & PhysicalEntry.addressHighMask) * twoPow32 + ((this.#memory.read32(entry) & PhysicalEntry.addressLowMask) >>> 0);
      this.#setBit(page + Offset.request, vector, true);
      if ((high & PhysicalEntry.runningHighMask) === 0) sleeping ??= id;
    }
    if (missing !== undefined) this.#incomplete(command, Incomplete.target, missing);
    else if (sleeping !== undefined) this.#incomplete(command, Incomplete.notRunning, sleeping);
  }

  #incomplete(command: number, reason: number, index: number): void {
    const high = BigInt(this.#read(Offset.commandHigh) >>> 0);
    this.pendingExit = eventExit(ExitCode.avicIncompleteIpi, (high << 32n) | BigInt(command >>> 0), (BigInt(reason) << 32n) | BigInt(index));
  }

  /** Physical IDs by the table of logical ones; where it has none, the complement of the place in the table. */
  #logicalTargets(destination: number): number[] {
    const isFlat = this.#read(Offset.destinationFormat) >>> 28 === flatFormat;
    const bits = isFlat ? destination : destination & 0xf, first = isFlat ? 0 : (destination >>> 4) * 4;
    return Array.from({ length: 8 }, (_, bit) => bit).filter((bit) => (bits & (1 << bit)) !== 0).map((bit) => {
      const entry = this.#memory.read32(this.#logicalTable + (first + bit) * 4);
      return (entry & LogicalEntry.validMask) === 0 ? ~(first + bit) : entry & LogicalEntry.idMask;
    });
  }
}

function pageAddress(value: bigint): number {
  return Number(value & 0x000f_ffff_ffff_f000n);
}

function isRegister(offset: number, sizeBytes: number): boolean {
  return (offset & 0xf) + sizeBytes <= 4 && offset <= lastRegister + 3;
}
