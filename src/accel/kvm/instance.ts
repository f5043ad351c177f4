/** One virtual machine of KVM's: its memory, its vCPUs, and its part of the CPU model. */
import { invariant, UserError } from "../../base/errors.ts";
import { wasm } from "../../engine/web-assembly.ts";
import type { ProcessorBus } from "../../isa/processor.ts";
import type {
  AcceleratorInstance, AcceleratorOptions, InterruptSource, MemoryMapping, StorageSource, VirtualProcessor,
} from "../contract.ts";
import { storageGranuleBytes } from "../contract.ts";
import { Capability, MsrExitReason, Request, Size } from "./abi.ts";
import { cpuidRows, cpuidTable, missingFeatures, msrFilter } from "./cpu-model.ts";
import type { KvmDevice } from "./device.ts";
import type { HostCalls } from "./host-calls.ts";
import { MemorySlots } from "./memory-slots.ts";
import { KvmProcessor, type MmioTarget } from "./processor.ts";
import { VcpuCalls } from "./vcpu-calls.ts";
import type { StateFormat } from "./vcpu-state.ts";

const wasmPageBytes = 65_536;
/** Below the firmware and above every device: Intel's processors need four pages there for real mode without "unrestricted guest". */
const identityMapAddress = 0xfeff_c000;
const taskStateAddress = 0xfeff_d000;
const pkruSubleaf = 9;

/** What KVM has no flag for: it is tried out when somebody needs to know. */
export interface Abilities {
  /** KVM stops a guest at breakpoints. */
  breakpointsWork(): boolean;
  /** Writes of IA32_TSC_DEADLINE come to us. */
  deadlineExits(): boolean;
}

export class KvmInstance implements AcceleratorInstance {
  readonly storage: Uint8Array;
  readonly #device: KvmDevice;
  readonly #calls: HostCalls;
  readonly #options: AcceleratorOptions;
  readonly #descriptor: number;
  readonly #slots: MemorySlots;
  readonly #format: StateFormat;
  readonly #processors: KvmProcessor[] = [];
  readonly #mmio: MmioTarget = {
    read: (address, sizeBytes) => this.#readPhysical(address, sizeBytes),
    write: (address, sizeBytes, value) => this.#writePhysical(address, sizeBytes, value),
  };

  readonly #abilities: Abilities;

  constructor(device: KvmDevice, options: AcceleratorOptions, abilities: Abilities) {
    this.#device = device;
    this.#abilities = abilities;
    this.#calls = device.calls;
    this.#options = options;
    const { model, storageBytes } = options;
    const missing = missingFeatures(model, device.supportedCpuid, abilities.deadlineExits);
    if (missing.length > 0) {
      throw new UserError("BAD_CONFIG", `This host's KVM cannot give guests ${missing.join(", ")}, which the CPU model ${model.name} has: take them away (--cpu ${model.name},${missing.map((name) => `-${name}`).join(",")}) or use --accel soft.`);
    }
    this.#format = {
      hasSregs2: device.has(Capability.sregs2),
      pkruOffset: model.hasFeature("pku") ? model.cpuid(0xd, pkruSubleaf).ebx : undefined,
    };
    const pages = storageBytes / wasmPageBytes;
    this.storage = new Uint8Array(createMemory(pages).buffer, 0, storageBytes);
    this.#descriptor = device.createVm();
    this.#slots = new MemorySlots({
      calls: this.#calls, vmDescriptor: this.#descriptor, storageAddress: this.#calls.addressOf(this.storage), storageBytes,
    });
    this.#setUp();
  }

  #setUp(): void {
    const calls = this.#calls;
    const identity = new BigUint64Array([BigInt(identityMapAddress)]);
    invariant(calls.controlBytes(this.#descriptor, Request.setIdentityMapAddress, new Uint8Array(identity.buffer)) === 0, "KVM takes the identity map's address");
    invariant(calls.control(this.#descriptor, Request.setTssAddress, taskStateAddress) === 0, "KVM takes the task state segment's address");
    this.#enable(Capability.userSpaceMsr, MsrExitReason.invalidMask | MsrExitReason.unknownMask | MsrExitReason.filterMask);
    const filter = new Uint8Array(msrFilter(calls, this.#options.model).buffer);
    invariant(calls.controlBytes(this.#descriptor, Request.setMsrFilter, filter) === 0, "KVM takes the MSR filter");
  }

  #enable(capability: number, argument: number): void {
    const view = new DataView(new ArrayBuffer(Size.enableCap));
    view.setUint32(0, capability, true);
    view.setBigUint64(8, BigInt(argument), true);
    const result = this.#calls.controlBytes(this.#descriptor, Request.enableCap, new Uint8Array(view.buffer));
    invariant(result === 0, `KVM enables capability ${capability}`);
  }

  /** The time that kvmclock tells the guest. */
  #setClock(ns: bigint): void {
    const clock = new DataView(new ArrayBuffer(Size.clockData));
    clock.setBigUint64(0, ns, true);
    const result = this.#calls.controlBytes(this.#descriptor, Request.setClock, new Uint8Array(clock.buffer));
    invariant(result === 0, `KVM takes its clock's time (error ${-result})`);
  }

  /** KVM does not tell of a first touch: everything comes at once. */
  fillStorage(source: StorageSource): void {
    for (const granule of source.granules()) {
      const start = granule * storageGranuleBytes;
      source.read(granule, this.storage.subarray(start, start + storageGranuleBytes));
    }
  }

  isFilled(): boolean {
    return true;
  }

  map(mapping: MemoryMapping): void {
    this.#slots.map(mapping);
  }

  createProcessor(index: number, bus: ProcessorBus, interrupts: InterruptSource): VirtualProcessor {
    const calls = this.#calls;
    const { model } = this.#options;
    const descriptor = calls.control(this.#descriptor, Request.createVcpu, index);
    invariant(descriptor >= 0, `KVM creates a vCPU (error ${-descriptor})`);
    const vcpu = new VcpuCalls(calls, descriptor);
    vcpu.set(Request.setCpuid2, cpuidTable(cpuidRows(model)));
    const khz = Math.round(this.#device.timeStampFrequencyHz(this.#options.timeStampFrequencyHz) / 1000);
    if (this.#device.has(Capability.tscControl)) invariant(vcpu.call(Request.setTscKhz, khz) >= 0, "KVM takes the time stamp's frequency");
    const processor = new KvmProcessor({
      index, calls, descriptor, run: calls.mapShared(descriptor, this.#device.runBytes), interrupter: calls.createInterrupter(),
      format: this.#format, model, bus, interrupts, mmio: this.#mmio, breakpointsWork: this.#abilities.breakpointsWork, hostCapabilities: this.#device.archCapabilities,
      exits: this.#options.exits,
      ...(model.hasFeature("kvmclock") ? { setClock: (ns: bigint) => this.#setClock(ns) } : {}),
      timeStampFrequencyHz: khz * 1000,
    });
    this.#processors.push(processor);
    return processor;
  }

  // --- memory ------------------------------------------------------------------------------------------------------

  readMemory(address: number, target: Uint8Array): boolean {
    return this.#slots.visitRam(address, target.length, (offset, start, length) => target.set(this.storage.subarray(offset, offset + length), start));
  }

  writeMemory(address: number, source: Uint8Array): boolean {
    return this.#slots.visitRam(address, source.length, (offset, start, length) => {
      this.storage.set(source.subarray(start, start + length), offset);
      this.#slots.markWritten(offset, length);
    });
  }

  /** Pieces of at most 4 bytes, aligned, which lie in one mapping. */
  #readPhysical(address: number, sizeBytes: 1 | 2 | 4): number {
    const mapping = this.#slots.find(address);
    if (mapping?.readOffset === undefined) return this.#options.memoryBus.read(address, sizeBytes);
    const offset = mapping.readOffset + address - mapping.address;
    let value = 0;
    for (let byte = 0; byte < sizeBytes; byte++) value |= this.storage[offset + byte] << (8 * byte);
    return value >>> 0;
  }

  /** ROM's writes come here, whether they go to a device or to RAM behind the ROM. */
  #writePhysical(address: number, sizeBytes: 1 | 2 | 4, value: number): void {
    const mapping = this.#slots.find(address);
    if (mapping?.writeOffset === undefined) return this.#options.memoryBus.write(address, sizeBytes, value);
    const offset = mapping.writeOffset + address - mapping.address;
    for (let byte = 0; byte < sizeBytes; byte++) this.storage[offset + byte] = value >>> (8 * byte);
    this.#slots.markWritten(offset, sizeBytes);
  }

  noteWrites(isOn: boolean): void {
    this.#slots.noteWrites(isOn);
  }

  takeWrittenPages(): Uint8Array {
    return this.#slots.takeWrittenPages();
  }

  close(): void {
    for (const processor of this.#processors) processor.close();
    this.#calls.close(this.#descriptor);
  }
}

function createMemory(pages: number): InstanceType<typeof wasm.Memory> {
  try {
    return new wasm.Memory({ initial: pages, maximum: pages, shared: true });
  } catch (cause) {
    throw new UserError("BAD_MEMORY_SIZE", `The host does not give the ${pages / 16} MiB of address space that this machine needs: ask for less with --memory, or raise the limit (ulimit -v).`, { cause });
  }
}
