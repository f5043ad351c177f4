/** Virtio over PCI, modern interface only (Virtual I/O Device 1.2, 4.1). */
import { object, row, type Shape, uint16, uint32, uint8, words32 } from "../../base/shape.ts";
import { invariant } from "../../base/errors.ts";
import type { AccessSize, GuestMemory, RegisterBlock } from "../contract.ts";
import { allOnes } from "../pci/config-space.ts";
import { PciFunction, type PciFunctionPorts, type PciFunctionState, pciFunctionStateShape } from "../pci/function.ts";
import type { Msix } from "../pci/msix.ts";
import { CapabilityId } from "../pci/registers.ts";
import type { VirtioDevice, VirtioPort } from "./contract.ts";
import { maximumQueueSize, noVector, Virtqueue, type VirtqueueState, virtqueueStateShape } from "./virtqueue.ts";

const acknowledgeAndDriverMask = 0x03;
const driverOkMask = 0x04;
const featuresOkMask = 0x08;
const needsResetMask = 0x40;
const failedMask = 0x80;
const driverStatusMask = acknowledgeAndDriverMask | driverOkMask | featuresOkMask | failedMask;

const deviceFeaturesMask = 0x00ff_ffff;
const indirectFeatureMask = 1 << 28;
const eventIndexFeatureMask = 1 << 29;
/** VERSION_1 is bit 32: the lowest of the upper half. */
const version1FeatureMask = 1;

const queueInterruptMask = 1;
const configInterruptMask = 2;

const msixBar = 1;
const registersBar = 4;
const pendingBitsOffset = 0x800;
const regionBytes = 0x1000;
const registersBytes = 4 * regionBytes;
const commonBytes = 56;
const notifyMultiplier = 4;

const CapabilityType = { common: 1, notify: 2, isr: 3, device: 4, pciAccess: 5 } as const;
const regionOf = { common: 0, isr: 1, device: 2, notify: 3 } as const;

export interface VirtioPciPorts extends PciFunctionPorts {
  readonly memory: GuestMemory;
  /** The guest broke the device; for the machine's log. */
  readonly broken?: (reason: string) => void;
}

export interface VirtioPciState {
  readonly pci: PciFunctionState;
  status: number;
  deviceFeatureSelect: number;
  driverFeatureSelect: number;
  /** Low and high half of what the driver accepted. */
  readonly driverFeatures: Uint32Array;
  queueSelect: number;
  configVector: number;
  configGeneration: number;
  interruptStatus: number;
  readonly queues: readonly VirtqueueState[];
}

/** For a device type with these queues. */
export function virtioPciStateShape(queueSizes: readonly number[]): Shape<VirtioPciState> {
  const queues = queueSizes.map((size) => virtqueueStateShape(size));
  return object<VirtioPciState>({
    pci: pciFunctionStateShape(queueSizes.length + 1), status: uint8, deviceFeatureSelect: uint32, driverFeatureSelect: uint32,
    driverFeatures: words32(2), queueSelect: uint16, configVector: uint16, configGeneration: uint8, interruptStatus: uint8,
    queues: row(queues),
  });
}

export class VirtioPciTransport implements VirtioPort {
  readonly state: VirtioPciState;
  readonly pciFunction: PciFunction;
  readonly #ports: VirtioPciPorts;
  readonly #device: VirtioDevice;
  readonly #queues: readonly Virtqueue[];
  readonly #msix: Msix;
  readonly #accessCapability: number;

  constructor(device: VirtioDevice, ports: VirtioPciPorts) {
    invariant((device.features & ~deviceFeaturesMask) === 0, "a device type has feature bits 0 to 23");
    invariant(device.queueSizes.every((size) => size <= maximumQueueSize), "queues have at most 1024 entries");
    this.#device = device;
    this.#ports = ports;
    this.#queues = device.queueSizes.map((size) => new Virtqueue(ports.memory, size, (reason) => this.#break(reason)));
    this.pciFunction = this.#createFunction();
    this.state = {
      pci: this.pciFunction.state,
      status: 0,
      deviceFeatureSelect: 0,
      driverFeatureSelect: 0,
      driverFeatures: new Uint32Array(2),
      queueSelect: 0,
      configVector: noVector,
      configGeneration: 0,
      interruptStatus: 0,
      queues: this.#queues.map((queue) => queue.state),
    };
    this.#addCapability(CapabilityType.common, regionOf.common, commonBytes);
    this.#addCapability(CapabilityType.isr, regionOf.isr, 4);
    this.#addCapability(CapabilityType.device, regionOf.device, regionBytes);
    this.#addCapability(CapabilityType.notify, regionOf.notify, regionBytes, [notifyMultiplier, 0, 0, 0]);
    this.#accessCapability = this.#addAccessCapability();
    this.#msix = this.pciFunction.addMsix(device.queueSizes.length + 1, msixBar, 0, pendingBitsOffset);
  }

  get isRunning(): boolean {
    return (this.state.status & (driverOkMask | needsResetMask)) === driverOkMask;
  }

  queue(index: number): Virtqueue {
    return this.#queues[index];
  }

  interrupt(queueIndex: number): void {
    const queue = this.#queues[queueIndex];
    if (!this.isRunning || !queue.takeInterrupt()) return;
    this.#raise(queueInterruptMask, queue.state.vector);
  }

  configChanged(): void {
    this.state.configGeneration = (this.state.configGeneration + 1) & 0xff;
    if ((this.state.status & driverOkMask) !== 0) this.#raise(configInterruptMask, this.state.configVector);
  }

  /** Continues from a saved state. */
  restore(saved: VirtioPciState): void {
    const { pci, driverFeatures, queues, ...plain } = saved;
    Object.assign(this.state, plain);
    this.state.driverFeatures.set(driverFeatures);
    this.#queues.forEach((queue, i) => queue.restore(queues[i]));
    this.pciFunction.restore(pci);
    if ((this.state.status & driverOkMask) !== 0) this.#start();
  }

  /** Platform reset. */
  reset(): void {
    this.#resetDevice();
    this.pciFunction.reset();
  }

  #createFunction(): PciFunction {
    const { deviceType, classCode } = this.#device;
    return new PciFunction(
      {
        vendorId: 0x1af4,
        deviceId: 0x1040 + deviceType,
        revisionId: 1,
        classCode,
        subsystemVendorId: 0x1af4,
        subsystemId: 0x1100,
        interruptPin: 1,
      },
      this.#ports,
      [
        { kind: "memory32", index: msixBar, sizeBytes: 0x1000, registers: this.#msixRegisters, name: "virtio msi-x" },
        {
          kind: "memory64",
          index: registersBar,
          sizeBytes: registersBytes,
          isPrefetchable: true,
          registers: this.#registers,
          name: "virtio registers",
        },
      ],
    );
  }

  #addCapability(type: number, region: number, sizeBytes: number, extra: readonly number[] = []): number {
    const body = new Uint8Array(16 + extra.length);
    const view = new DataView(body.buffer);
    body[0] = CapabilityId.vendorSpecific;
    body[2] = body.length;
    body[3] = type;
    body[4] = registersBar;
    view.setUint32(8, region * regionBytes, true);
    view.setUint32(12, sizeBytes, true);
    body.set(extra, 16);
    return this.pciFunction.addCapability(body);
  }

  /** The window that lets firmware without memory access reach the registers (4.1.4.9). */
  #addAccessCapability(): number {
    const offset = this.#addCapability(CapabilityType.pciAccess, 0, 0, [0, 0, 0, 0]);
    const { config } = this.pciFunction;
    config.permit(offset + 4, 1, 0xff);
    config.permit(offset + 8, 4, 0xffffffff);
    config.permit(offset + 12, 4, 0xffffffff);
    config.permit(offset + 16, 4, 0xffffffff);
    this.pciFunction.addHook({
      offset: offset + 16,
      sizeBytes: 4,
      beforeRead: () => {
        const target = this.#accessTarget();
        if (target !== undefined) config.set(offset + 16, target.sizeBytes, this.#registers.read(target.offset, target.sizeBytes));
      },
      afterWrite: () => {
        const target = this.#accessTarget();
        if (target !== undefined) {
          this.#registers.write(target.offset, target.sizeBytes, config.get(offset + 16, target.sizeBytes));
        }
      },
    });
    return offset;
  }

  #accessTarget(): { readonly offset: number; readonly sizeBytes: AccessSize } | undefined {
    const { config } = this.pciFunction;
    const offset = config.get(this.#accessCapability + 8, 4);
    const sizeBytes = config.get(this.#accessCapability + 12, 4);
    if (config.get(this.#accessCapability + 4, 1) !== registersBar) return undefined;
    if ((sizeBytes !== 1 && sizeBytes !== 2 && sizeBytes !== 4) || offset % sizeBytes !== 0) return undefined;
    return offset + sizeBytes <= registersBytes ? { offset, sizeBytes } : undefined;
  }

  readonly #msixRegisters: RegisterBlock = {
    read: (offset, sizeBytes) =>
      offset < pendingBitsOffset
        ? this.#msix.table.read(offset, sizeBytes)
        : this.#msix.pendingBits.read(offset - pendingBitsOffset, sizeBytes),
    write: (offset, sizeBytes, value) => {
      if (offset < pendingBitsOffset) this.#msix.table.write(offset, sizeBytes, value);
    },
  };

  readonly #registers: RegisterBlock = {
    read: (offset, sizeBytes) => {
      const within = offset % regionBytes;
      switch (Math.floor(offset / regionBytes)) {
        case regionOf.common:
          return this.#readCommon(within, sizeBytes);
        case regionOf.isr:
          return within === 0 ? this.#readInterruptStatus() : 0;
        case regionOf.device:
          return this.#device.config.read(within, sizeBytes);
        default:
          return 0;
      }
    },
    write: (offset, sizeBytes, value) => {
      const within = offset % regionBytes;
      switch (Math.floor(offset / regionBytes)) {
        case regionOf.common:
          this.#writeCommon(within, sizeBytes, value);
          break;
        case regionOf.device:
          this.#device.config.write(within, sizeBytes, value);
          break;
        case regionOf.notify:
          this.#notify(Math.floor(within / notifyMultiplier));
          break;
        default:
          break;
      }
    },
  };

  #notify(queueIndex: number): void {
    if (!this.isRunning || !this.pciFunction.isBusMaster) return;
    if (this.#queues[queueIndex]?.isUsable === true) this.#device.notify(queueIndex);
  }

  #readInterruptStatus(): number {
    const value = this.state.interruptStatus;
    this.state.interruptStatus = 0;
    this.pciFunction.setInterrupt(false);
    return value;
  }

  get #selectedQueue(): Virtqueue | undefined {
    return this.#queues[this.state.queueSelect];
  }

  #readCommon(offset: number, sizeBytes: AccessSize): number {
    if ((offset & 3) + sizeBytes > 4) return allOnes(sizeBytes);
    return ((this.#commonDoubleword(offset & ~3) >>> (8 * (offset & 3))) & allOnes(sizeBytes)) >>> 0;
  }

  /** The fields of 4.1.4.3, packed as they lie in memory. */
  #commonDoubleword(offset: number): number {
    const { state } = this;
    const queue = this.#selectedQueue?.state;
    switch (offset) {
      case 0x00:
        return state.deviceFeatureSelect;
      case 0x04:
        return this.#offeredFeatures(state.deviceFeatureSelect);
      case 0x08:
        return state.driverFeatureSelect;
      case 0x0c:
        return state.driverFeatureSelect < 2 ? state.driverFeatures[state.driverFeatureSelect] : 0;
      case 0x10:
        return (state.configVector | (this.#queues.length << 16)) >>> 0;
      case 0x14:
        return (state.status | (state.configGeneration << 8) | (state.queueSelect << 16)) >>> 0;
      case 0x18:
        return queue === undefined ? 0 : (queue.size | (queue.vector << 16)) >>> 0;
      case 0x1c:
        return queue === undefined ? 0 : ((queue.isEnabled ? 1 : 0) | (state.queueSelect << 16)) >>> 0;
      default:
        return offset >= 0x20 && offset < 0x38 ? (queue?.addresses[(offset - 0x20) >> 2] ?? 0) : 0;
    }
  }

  #writeCommon(offset: number, sizeBytes: AccessSize, value: number): void {
    const { state } = this;
    const queue = this.#selectedQueue;
    switch (offset) {
      case 0x00:
        state.deviceFeatureSelect = value;
        break;
      case 0x08:
        state.driverFeatureSelect = value;
        break;
      case 0x0c:
        if (state.driverFeatureSelect < 2 && (state.status & featuresOkMask) === 0) {
          state.driverFeatures[state.driverFeatureSelect] = value;
        }
        break;
      case 0x10:
        state.configVector = this.#vector(value);
        break;
      case 0x14:
        this.#writeStatus(value & 0xff);
        break;
      case 0x16:
        state.queueSelect = value & 0xffff;
        break;
      case 0x18:
        if (queue !== undefined && !queue.state.isEnabled && isQueueSize(value, queue.maximumSize)) queue.state.size = value;
        break;
      case 0x1a:
        if (queue !== undefined) queue.state.vector = this.#vector(value);
        break;
      case 0x1c:
        if (queue !== undefined && value === 1 && !queue.state.isEnabled) this.#enable(queue);
        break;
      default:
        if (offset >= 0x20 && offset < 0x38 && (offset & 3) === 0 && sizeBytes === 4 && queue?.state.isEnabled === false) {
          queue.state.addresses[(offset - 0x20) >> 2] = value;
        }
        break;
    }
  }

  #enable(queue: Virtqueue): void {
    queue.state.isEnabled = true;
    if (!queue.isWellPlaced) queue.fail("ring not aligned");
  }

  /** A vector that does not exist reads back as NO_VECTOR, which tells the driver so. */
  #vector(value: number): number {
    return value < this.#msix.vectorCount ? value : noVector;
  }

  #offeredFeatures(half: number): number {
    if (half === 0) return (this.#device.features | indirectFeatureMask | eventIndexFeatureMask) >>> 0;
    return half === 1 ? version1FeatureMask : 0;
  }

  #writeStatus(value: number): void {
    const { state } = this;
    if (value === 0) {
      this.#resetDevice();
      return;
    }
    const before = state.status;
    let status = (value & driverStatusMask) | (before & needsResetMask);
    if ((status & featuresOkMask) !== 0 && (before & featuresOkMask) === 0 && !this.#hasValidFeatures()) {
      status &= ~featuresOkMask;
    }
    // A driver that skipped feature negotiation is a legacy driver, and there is no legacy interface here.
    if ((status & featuresOkMask) === 0) status &= ~driverOkMask;
    state.status = status;
    if ((status & driverOkMask) !== 0 && (before & driverOkMask) === 0) this.#start();
  }

  #hasValidFeatures(): boolean {
    const [low, high] = this.state.driverFeatures;
    return (low & ~this.#offeredFeatures(0)) === 0 && high === version1FeatureMask;
  }

  #start(): void {
    const [low] = this.state.driverFeatures;
    for (const queue of this.#queues) {
      queue.negotiate({
        hasIndirect: (low & indirectFeatureMask) !== 0,
        hasEventIndex: (low & eventIndexFeatureMask) !== 0,
      });
    }
    this.#device.start(this, low & deviceFeaturesMask);
  }

  #resetDevice(): void {
    const { state } = this;
    this.#device.reset();
    for (const queue of this.#queues) queue.reset();
    state.status = 0;
    state.deviceFeatureSelect = 0;
    state.driverFeatureSelect = 0;
    state.driverFeatures.fill(0);
    state.queueSelect = 0;
    state.configVector = noVector;
    state.interruptStatus = 0;
    this.pciFunction.setInterrupt(false);
  }

  #break(reason: string): void {
    this.state.status |= needsResetMask;
    this.#ports.broken?.(reason);
    this.configChanged();
  }

  #raise(cause: number, vector: number): void {
    if (this.#msix.isEnabled) {
      if (vector !== noVector) this.#msix.signal(vector);
      return;
    }
    this.state.interruptStatus |= cause;
    this.pciFunction.setInterrupt(true);
  }
}

function isQueueSize(value: number, maximum: number): boolean {
  return value > 0 && value <= maximum && (value & (value - 1)) === 0;
}
