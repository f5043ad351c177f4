/** A minimal virtio driver for tests: negotiates, lays out split rings in RAM from 0x1000, offers buffers, collects used ones. */
import type { VirtioPciTransport } from "../virtio/pci-transport.ts";
import type { TestBoard } from "./board.ts";

export interface Buffer {
  readonly address: number;
  readonly sizeBytes: number;
  readonly isWritable: boolean;
}

const queueAreaBytes = 0x4000;
const firstQueueArea = 0x1000;
export const version1 = 2n ** 32n;

export class VirtioDriver {
  readonly board: TestBoard;
  readonly transport: VirtioPciTransport;
  readonly registers: number;
  readonly msix: number;
  queueSize = 8;
  readonly #available: number[] = [];
  readonly #used: number[] = [];
  readonly #nextDescriptor: number[] = [];

  constructor(board: TestBoard, transport: VirtioPciTransport) {
    this.board = board;
    this.transport = transport;
    board.pci.assignResources();
    const [msix, registers] = transport.pciFunction.baseAddresses;
    this.msix = msix.address;
    this.registers = registers.address;
  }

  read(offset: number, sizeBytes: 1 | 2 | 4): number {
    return this.board.memoryBus.read(this.registers + offset, sizeBytes);
  }

  write(offset: number, sizeBytes: 1 | 2 | 4, value: number): void {
    this.board.memoryBus.write(this.registers + offset, sizeBytes, value);
  }

  offeredFeatures(): bigint {
    this.write(0, 4, 1);
    const high = BigInt(this.read(4, 4));
    this.write(0, 4, 0);
    return (high << 32n) | BigInt(this.read(4, 4));
  }

  /** Resets, negotiates `features`, enables every queue and sets DRIVER_OK. Returns the status register. */
  start(features: bigint): number {
    this.write(0x14, 1, 0);
    this.write(0x14, 1, 3);
    for (const half of [0, 1]) {
      this.write(8, 4, half);
      this.write(0xc, 4, Number((features >> BigInt(32 * half)) & 0xffffffffn));
    }
    this.write(0x14, 1, 0xb);
    const queueCount = this.read(0x12, 2);
    for (let queue = 0; queue < queueCount; queue++) {
      const area = this.descriptors(queue);
      this.board.memory.bytes.fill(0, area, area + queueAreaBytes);
      this.#available[queue] = 0;
      this.#used[queue] = 0;
      this.#nextDescriptor[queue] = 0;
      this.write(0x16, 2, queue);
      this.write(0x18, 2, this.queueSize);
      this.write(0x1a, 2, queue);
      this.write(0x20, 4, area);
      this.write(0x28, 4, this.available(queue));
      this.write(0x30, 4, this.used(queue));
      this.write(0x1c, 2, 1);
    }
    this.write(0x14, 1, 0xf);
    return this.read(0x14, 1);
  }

  descriptors(queue: number): number {
    return firstQueueArea + queue * queueAreaBytes;
  }

  available(queue: number): number {
    return this.descriptors(queue) + 0x1000;
  }

  used(queue: number): number {
    return this.descriptors(queue) + 0x2000;
  }

  writeDescriptor(table: number, index: number, address: number, sizeBytes: number, flags: number, next: number): void {
    const { view } = this.board.memory;
    const at = table + 16 * index;
    view.setBigUint64(at, BigInt(address), true);
    view.setUint32(at + 8, sizeBytes, true);
    view.setUint16(at + 12, flags, true);
    view.setUint16(at + 14, next, true);
  }

  /** Makes a chain of buffers available; the notification is separate. */
  offer(queue: number, buffers: readonly Buffer[]): number {
    const head = this.#nextDescriptor[queue];
    buffers.forEach(({ address, sizeBytes, isWritable }, i) => {
      const index = (head + i) % this.queueSize;
      const hasNext = i < buffers.length - 1;
      this.writeDescriptor(
        this.descriptors(queue),
        index,
        address,
        sizeBytes,
        (hasNext ? 1 : 0) | (isWritable ? 2 : 0),
        (index + 1) % this.queueSize,
      );
    });
    this.#nextDescriptor[queue] = (head + buffers.length) % this.queueSize;
    this.publish(queue, head);
    return head;
  }

  /** Puts a descriptor index into the available ring. */
  publish(queue: number, head: number): void {
    const { view } = this.board.memory;
    const available = this.available(queue);
    view.setUint16(available + 4 + 2 * (this.#available[queue] % this.queueSize), head, true);
    this.#available[queue] = (this.#available[queue] + 1) & 0xffff;
    view.setUint16(available + 2, this.#available[queue], true);
  }

  notify(queue: number): void {
    this.write(0x3000 + 4 * queue, 2, queue);
  }

  /** Used buffers since the last call. */
  collect(queue: number): { readonly head: number; readonly writtenBytes: number }[] {
    const { view } = this.board.memory;
    const used = this.used(queue);
    const end = view.getUint16(used + 2, true);
    const collected = [];
    for (; this.#used[queue] !== end; this.#used[queue] = (this.#used[queue] + 1) & 0xffff) {
      const at = used + 4 + 8 * (this.#used[queue] % this.queueSize);
      collected.push({ head: view.getUint32(at, true), writtenBytes: view.getUint32(at + 4, true) });
    }
    return collected;
  }

  /** Turns MSI-X on; vector n sends data 0x40 + n. */
  enableMsix(vectorCount: number): void {
    for (let vector = 0; vector < vectorCount; vector++) {
      this.board.memoryBus.write(this.msix + 16 * vector, 4, 0xfee00000);
      this.board.memoryBus.write(this.msix + 16 * vector + 8, 4, 0x40 + vector);
      this.board.memoryBus.write(this.msix + 16 * vector + 12, 4, 0);
    }
    const { pciFunction } = this.transport;
    for (let at = pciFunction.readConfig(0x34, 1); at !== 0; at = pciFunction.readConfig(at + 1, 1)) {
      if (pciFunction.readConfig(at, 1) === 0x11) pciFunction.writeConfig(at + 2, 2, 0x8000);
    }
  }
}
