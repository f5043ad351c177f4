/** A minimal AHCI driver for tests: one port's command list and received FISes in RAM, one command at a time. */
import type { AhciDevice } from "../sata/ahci/index.ts";
import type { TestBoard } from "./board.ts";

export const commandListAt = 0x1000;
export const receivedAt = 0x2000;
export const commandTableAt = 0x3000;
export const dataAt = 0x10000;

export interface TestTask {
  readonly command: number;
  readonly features?: number;
  readonly lba?: number;
  readonly count?: number;
  readonly device?: number;
  readonly packet?: readonly number[];
  readonly isWrite?: boolean;
  /** Sizes of the regions; they lie one after the other from `dataAt`. */
  readonly regions?: readonly number[];
}

export class AhciDriver {
  readonly board: TestBoard;
  readonly base: number;
  readonly port: number;

  constructor(board: TestBoard, device: AhciDevice, portIndex = 0) {
    this.board = board;
    board.pci.assignResources();
    this.base = device.pciFunction.baseAddresses[0].address;
    this.port = this.base + 0x100 + 0x80 * portIndex;
    this.start();
  }

  read(offset: number): number {
    return this.board.memoryBus.read(this.port + offset, 4);
  }

  write(offset: number, value: number): void {
    this.board.memoryBus.write(this.port + offset, 4, value >>> 0);
  }

  start(): void {
    this.write(0x00, commandListAt);
    this.write(0x08, receivedAt);
    this.write(0x30, 0xffffffff);
    this.write(0x10, 0xffffffff);
    this.write(0x18, this.read(0x18) | 0x11);
  }

  restart(): void {
    this.write(0x18, this.read(0x18) & ~1);
    this.start();
  }

  /** Fills slot 0 without issuing it. */
  prepare(task: TestTask, control?: number): void {
    const { view, bytes } = this.board.memory;
    const { regions = [], packet } = task;
    const flags = 5 | (packet === undefined ? 0 : 0x20) | (task.isWrite === true ? 0x40 : 0);
    view.setUint32(commandListAt, flags | (regions.length << 16), true);
    view.setUint32(commandListAt + 4, 0, true);
    view.setUint32(commandListAt + 8, commandTableAt, true);
    view.setUint32(commandListAt + 12, 0, true);
    const lba = task.lba ?? 0;
    const count = task.count ?? 0;
    const high = Math.floor(lba / 2 ** 24);
    bytes.fill(0, commandTableAt, commandTableAt + 0x80);
    bytes.set(
      [0x27, control === undefined ? 0x80 : 0, task.command, task.features ?? 0, lba, lba >> 8, lba >> 16, task.device ?? 0x40, high, high >> 8, high >> 16],
      commandTableAt,
    );
    bytes.set([count, count >> 8, 0, control ?? 0], commandTableAt + 12);
    if (packet !== undefined) bytes.set(packet, commandTableAt + 0x40);
    let at = dataAt;
    regions.forEach((size, i) => {
      view.setBigUint64(commandTableAt + 0x80 + 16 * i, BigInt(at), true);
      view.setUint32(commandTableAt + 0x8c + 16 * i, size - 1, true);
      at += size;
    });
  }

  /** Runs a command in slot 0; returns status, error and the count of bytes moved. Restarts the port after a failure. */
  run(task: TestTask): { readonly status: number; readonly error: number; readonly movedBytes: number } {
    this.prepare(task);
    this.write(0x38, 1);
    const taskFile = this.read(0x20);
    if ((taskFile & 1) !== 0) this.restart();
    return { status: taskFile & 0xff, error: taskFile >> 8, movedBytes: this.board.memory.view.getUint32(commandListAt + 4, true) };
  }

  data(sizeBytes: number): Uint8Array {
    return this.board.memory.bytes.slice(dataAt, dataAt + sizeBytes);
  }
}
