/** A processor for unit tests of system routines: one MiB of memory, no paging, a page list that faults on demand. */
import { Status } from "../../ir/index.ts";
import { Vector } from "../definition.ts";
import type { CpuModel, Processor, ProcessorBus, ProcessorMemory } from "../processor.ts";
import { allFlagsMask, writeFlags } from "../flags.ts";
import { StateView } from "../state-view.ts";
import * as layout from "../state.ts";
import { isWithinLimit, readSegmentCache } from "../system/segments.ts";

const flatMemorySizeBytes: number = 1 << 20;
const noException = 0xffff_ffff;

/** A model with every feature, for routines that ask. */
const everyFeature: CpuModel = {
  name: "flat", vendor: "intel", physicalAddressBits: 40, linearAddressBits: 57,
  hasFeature: () => true,
  cpuid: () => ({ eax: 0, ebx: 0, ecx: 0, edx: 0 }),
  msr: () => undefined,
};

export class FlatProcessor implements Processor {
  shutdownCause: string | undefined;
  readonly state: StateView = new StateView(new ArrayBuffer(layout.processorAreaSizeBytes), 0);
  readonly guest: DataView = new DataView(new ArrayBuffer(flatMemorySizeBytes));
  /** Page numbers whose accesses raise #PF. */
  readonly absentPages: Set<number> = new Set();
  readonly memory: ProcessorMemory;
  readonly bus: ProcessorBus;
  readonly model: CpuModel;
  readonly msrs: Map<number, bigint> = new Map();
  readonly virtualization: undefined = undefined;
  /** Bytes between the current and the next instruction. */
  instructionLength: number = 2;
  modeChanges: number = 0;
  flushes: number = 0;
  breakpoints: number = 0;
  readonly portWrites: { readonly port: number; readonly value: number }[] = [];

  constructor(model: CpuModel = everyFeature) {
    this.model = model;
    this.state.set32(layout.exceptionVector, noException);
    writeFlags(this.state, 0, allFlagsMask);
    this.memory = {
      load: (linear, sizeBytes) => {
        if (!this.#reach(linear, sizeBytes)) return undefined;
        const at = Number(linear);
        if (sizeBytes === 8) return this.guest.getBigUint64(at, true);
        if (sizeBytes === 4) return BigInt(this.guest.getUint32(at, true));
        return BigInt(sizeBytes === 2 ? this.guest.getUint16(at, true) : this.guest.getUint8(at));
      },
      store: (linear, sizeBytes, value) => {
        if (!this.#reach(linear, sizeBytes)) return false;
        for (let index = 0; index < sizeBytes; index++) {
          this.guest.setUint8(Number(linear) + index, Number((value >> BigInt(8 * index)) & 0xffn));
        }
        return true;
      },
      probe: (linear, sizeBytes) => this.#reach(linear, sizeBytes),
      linear: (segment, offset, sizeBytes) => {
        const cache = readSegmentCache(this.state, segment);
        if (isWithinLimit(cache, Number(offset), sizeBytes)) return cache.base + offset;
        this.raise(segment === 2 ? Vector.SS : Vector.GP, 0);
        return undefined;
      },
      loadPhysical: (address) => this.guest.getBigUint64(Number(address), true),
      readsPointersOnDemand: false,
      invalidatePage: () => {},
      switchAddressSpace: () => {
        this.flushes++;
      },
      flush: () => {
        this.flushes++;
      },
    };
    this.bus = {
      portRead: (port) => port,
      portWrite: (port, _sizeBytes, value) => void this.portWrites.push({ port, value }),
      timeStampCounter: () => 0x1_2345_6789n,
      setTimeStampCounter: () => {},
      readMsr: () => undefined,
      writeMsr: () => "unknown",
      taskPriority: () => 0,
      setTaskPriority: () => {},
      random64: () => 4n,
    };
  }

  #reach(linear: bigint, sizeBytes: number): boolean {
    const first = Number(linear >> 12n);
    const last = Number((linear + BigInt(sizeBytes - 1)) >> 12n);
    for (let page = first; page <= last; page++) {
      if (page * 4096 < flatMemorySizeBytes && !this.absentPages.has(page)) continue;
      this.state.set64(layout.pageFaultAddress, linear);
      this.raise(Vector.PF, 0);
      return false;
    }
    return true;
  }

  raise(vector: number, errorCode: number = 0): Status {
    this.state.set32(layout.exceptionVector, vector);
    this.state.set32(layout.exceptionErrorCode, errorCode);
    return Status.Fault;
  }

  dropSingleStep(): void {}

  singleStepByNewFlags(): void {}

  reportBreakpoints(conditions: number): void {
    this.breakpoints |= conditions;
  }

  currentRip(): bigint {
    return this.state.get64(layout.rip);
  }

  nextRip(): bigint {
    return this.currentRip() + BigInt(this.instructionLength);
  }

  decodeCurrent(): undefined {
    return undefined;
  }

  currentBytes(): Uint8Array {
    return new Uint8Array();
  }

  currentShadow(): number {
    return this.state.get32(layout.interruptShadow);
  }

  modeChanged(): void {
    this.modeChanges++;
  }

  /** Vector and error code that are recorded, or undefined. */
  get fault(): readonly [vector: number, errorCode: number] | undefined {
    const vector = this.state.get32(layout.exceptionVector);
    return vector === noException ? undefined : [vector, this.state.get32(layout.exceptionErrorCode)];
  }

  clearFault(): void {
    this.state.set32(layout.exceptionVector, noException);
  }
}
