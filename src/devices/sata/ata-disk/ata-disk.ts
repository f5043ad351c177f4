/** A SATA disk in front of a disk back end (ATA8-ACS). No queued commands: the controller does not offer them. */
import { boolean, object, type Shape } from "../../../base/shape.ts";
import {
  type DiskBackend,
  type DiskFailure,
  type DiskResult,
  type Eventually,
  forEachPiece,
  whenDone,
} from "../../disk/contract.ts";
import {
  abortError,
  diskSignature,
  failTask,
  idNotFoundError,
  putAtaString,
  readyStatus,
  type SataDrive,
  succeed,
  type Task,
  type TaskData,
  type TaskResult,
  uncorrectableError,
} from "../contract.ts";
import { parseAtaRequest, parseTrimRanges, sectorBytes, type SectorRange } from "./request.ts";

const pieceBytes = 0x10000;
const maximumTrimBlocks = 8;
const activeOrIdle = 0xff;

export interface AtaDiskPorts {
  readonly disk: DiskBackend;
  /** At most 20 ASCII characters. */
  readonly serial: string;
  readonly failed?: (failure: DiskFailure) => void;
}

export interface AtaDiskState {
  isWriteCacheEnabled: boolean;
}

export const ataDiskStateShape: Shape<AtaDiskState> = object({ isWriteCacheEnabled: boolean });

export class AtaDisk implements SataDrive {
  readonly signature: number = diskSignature;
  readonly isPacketDrive = false;
  readonly resetStatus: number = readyStatus;
  readonly state: AtaDiskState;
  readonly #ports: AtaDiskPorts;
  readonly #capacitySectors: number;

  constructor(ports: AtaDiskPorts, state: AtaDiskState = { isWriteCacheEnabled: true }) {
    this.#ports = ports;
    this.state = state;
    this.#capacitySectors = Math.floor(ports.disk.sizeBytes / sectorBytes);
  }

  execute(task: Task, data: TaskData): Eventually<TaskResult> {
    const request = parseAtaRequest(task, this.#capacitySectors);
    const { disk } = this.#ports;
    switch (request.kind) {
      case "read":
        if (request.range.sizeBytes > data.sizeBytes) return failTask(task, abortError);
        return this.#finish(task, this.#read(request.range, data), request.isPio);
      case "write":
        if (disk.readOnly || request.range.sizeBytes > data.sizeBytes) return failTask(task, abortError);
        return this.#finish(
          task,
          whenDone(this.#write(request.range, data), (failure) => failure ?? (this.state.isWriteCacheEnabled ? undefined : disk.flush())),
          false,
        );
      case "flush":
        return this.#finish(task, disk.flush(), false);
      case "verify":
        return this.#finish(task, this.#verify(request.range), false);
      case "trim":
        return this.#trim(task, request.blocks, data);
      case "identify":
        return data.write(0, this.#identity()) ? succeed(task, { isPioIn: true }) : failTask(task, abortError);
      case "setWriteCache":
        this.state.isWriteCacheEnabled = request.isEnabled;
        return succeed(task);
      case "nativeMaximum": {
        const last = this.#capacitySectors - 1;
        return succeed(task, { lba: request.isExtended ? last : Math.min(last, 0x0fff_ffff) });
      }
      case "powerMode":
        return succeed(task, { count: activeOrIdle });
      case "nothing":
        return succeed(task);
      case "outOfRange":
        return failTask(task, idNotFoundError);
      case "unknown":
        return failTask(task, abortError);
    }
  }

  reset(): void {
    this.state.isWriteCacheEnabled = true;
  }

  #finish(task: Task, result: Eventually<DiskResult>, isPioIn: boolean): Eventually<TaskResult> {
    return whenDone(result, (failure) => {
      if (failure === undefined) return succeed(task, { isPioIn });
      if (failure === notRam) return failTask(task, abortError);
      this.#ports.failed?.(failure);
      return failTask(task, uncorrectableError);
    });
  }

  #read(range: SectorRange, data: TaskData): Eventually<DiskResult> {
    return forEachPiece(range.offset, range.sizeBytes, pieceBytes, (offset, sizeBytes) => {
      const piece = new Uint8Array(sizeBytes);
      return whenDone(
        this.#ports.disk.read(offset, piece),
        (failure) => failure ?? (data.write(offset - range.offset, piece) ? undefined : notRam),
      );
    });
  }

  #write(range: SectorRange, data: TaskData): Eventually<DiskResult> {
    return forEachPiece(range.offset, range.sizeBytes, pieceBytes, (offset, sizeBytes) => {
      const piece = new Uint8Array(sizeBytes);
      return data.read(offset - range.offset, piece) ? this.#ports.disk.write(offset, piece) : notRam;
    });
  }

  #verify(range: SectorRange): Eventually<DiskResult> {
    const piece = new Uint8Array(pieceBytes);
    return forEachPiece(range.offset, range.sizeBytes, pieceBytes, (offset, sizeBytes) =>
      this.#ports.disk.read(offset, piece.subarray(0, sizeBytes)),
    );
  }

  #trim(task: Task, blocks: number, data: TaskData): Eventually<TaskResult> {
    const { disk } = this.#ports;
    if (disk.discard === undefined || disk.readOnly || blocks > maximumTrimBlocks) return failTask(task, abortError);
    const list = new Uint8Array(blocks * sectorBytes);
    if (!data.read(0, list)) return failTask(task, abortError);
    const ranges = parseTrimRanges(list, this.#capacitySectors);
    if (ranges === undefined) return failTask(task, idNotFoundError);
    const step = (index: number): Eventually<DiskResult> => disk.discard?.(ranges[index].offset, ranges[index].sizeBytes);
    return this.#finish(task, forEachPiece(0, ranges.length, 1, step), false);
  }

  /** IDENTIFY DEVICE data (ATA8-ACS, 7.16.7). */
  #identity(): Uint8Array {
    const bytes = new Uint8Array(sectorBytes);
    const view = new DataView(bytes.buffer);
    const word = (index: number, value: number): void => view.setUint16(2 * index, value, true);
    const capacity = this.#capacitySectors;
    const { disk, serial } = this.#ports;
    word(0, 0x0040);
    word(1, Math.min(16383, Math.floor(capacity / (16 * 63))));
    word(3, 16);
    word(6, 63);
    putAtaString(bytes, 10, 10, serial);
    putAtaString(bytes, 23, 4, "1.0");
    putAtaString(bytes, 27, 20, "RINGMASTER DISK");
    word(47, 0x8010);
    word(49, 0x0f00); // IORDY, LBA, DMA
    word(50, 0x4000);
    word(53, 0x0006); // words 64–70 and 88 are valid
    word(59, 0x0110);
    view.setUint32(120, Math.min(capacity, 0x0fff_ffff), true);
    word(63, 0x0407);
    word(64, 0x0003);
    for (const cycleTime of [65, 66, 67, 68]) word(cycleTime, 120);
    word(76, 0x0002); // Gen1 signaling
    word(80, 0x00f0);
    word(82, 0x0068); // look-ahead, write cache, power management
    word(83, 0x7400); // FLUSH CACHE (EXT), 48-bit addresses
    word(84, 0x4000);
    word(85, 0x0048 | (this.state.isWriteCacheEnabled ? 0x20 : 0));
    word(86, 0x3400);
    word(87, 0x4000);
    word(88, 0x203f);
    view.setBigUint64(200, BigInt(capacity), true);
    word(105, maximumTrimBlocks);
    word(106, 0x4000);
    word(169, disk.discard === undefined || disk.readOnly ? 0 : 1);
    word(217, 1); // does not rotate
    return bytes;
  }
}

const notRam: DiskFailure = { code: "IO_ERROR", message: "The guest's buffer is not in its RAM." };
