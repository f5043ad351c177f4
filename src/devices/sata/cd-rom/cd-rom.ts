/** An ATAPI CD-ROM drive with one data track (MMC-6; ATA8-ACS packet feature set). */
import { boolean, object, type Shape, uint8 } from "../../../base/shape.ts";
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
  failTask,
  packetSignature,
  putAtaString,
  type SataDrive,
  succeed,
  type Task,
  type TaskData,
  type TaskResult,
} from "../contract.ts";
import { blockBytes, type PacketRequest, parsePacket } from "./request.ts";
import {
  configuration,
  discInformation,
  eventStatus,
  identifyBytes,
  inquiry,
  mechanismStatus,
  modeSense,
  tableOfContents,
} from "./responses.ts";

const Command = { deviceReset: 0x08, packet: 0xa0, identifyPacket: 0xa1, identify: 0xec, setFeatures: 0xef, flush: 0xe7 } as const;
const pieceBytes = 0x10000;
const checkConditionStatus = 0x51;
/** Interrupt reason in the count register: the command is over. */
const commandDone = 3;

/** Sense key, additional sense code and qualifier (SPC-4, 4.5). */
export interface Sense {
  readonly key: number;
  readonly code: number;
  readonly qualifier: number;
}

const noSense: Sense = { key: 0, code: 0, qualifier: 0 };
const mediumNotPresent: Sense = { key: 2, code: 0x3a, qualifier: 0 };
const unrecoveredRead: Sense = { key: 3, code: 0x11, qualifier: 0 };
const unknownCommand: Sense = { key: 5, code: 0x20, qualifier: 0 };
const blockOutOfRange: Sense = { key: 5, code: 0x21, qualifier: 0 };
const invalidField: Sense = { key: 5, code: 0x24, qualifier: 0 };
const removalPrevented: Sense = { key: 5, code: 0x53, qualifier: 2 };
const mediumChanged: Sense = { key: 6, code: 0x28, qualifier: 0 };
const transferFailed: Sense = { key: 11, code: 0x4b, qualifier: 0 };

export interface CdRomPorts {
  /** The disc in the drive at power-on. */
  readonly disc?: DiskBackend;
  readonly serial: string;
  readonly failed?: (failure: DiskFailure) => void;
}

export interface CdRomState {
  sense: Sense;
  /** A new disc that the host has not been told of. */
  hasChanged: boolean;
  isRemovalPrevented: boolean;
  isTrayOpen: boolean;
}

export const cdRomStateShape: Shape<CdRomState> = object({
  sense: object<Sense>({ key: uint8, code: uint8, qualifier: uint8 }),
  hasChanged: boolean, isRemovalPrevented: boolean, isTrayOpen: boolean,
});

export class CdRom implements SataDrive {
  readonly signature: number = packetSignature;
  readonly isPacketDrive = true;
  readonly resetStatus = 0;
  readonly state: CdRomState;
  readonly #ports: CdRomPorts;
  #disc: DiskBackend | undefined;

  constructor(ports: CdRomPorts, state?: CdRomState) {
    this.#ports = ports;
    this.#disc = ports.disc;
    this.state = state ?? { sense: noSense, hasChanged: false, isRemovalPrevented: false, isTrayOpen: false };
  }

  /** Changes the disc, or takes it out; the guest learns of it. False while the guest has locked the tray. */
  insert(disc: DiskBackend | undefined): boolean {
    if (this.state.isRemovalPrevented && this.#disc !== undefined) return false;
    this.#disc = disc;
    this.state.isTrayOpen = false;
    this.state.hasChanged = disc !== undefined;
    return true;
  }

  execute(task: Task, data: TaskData): Eventually<TaskResult> {
    switch (task.command) {
      case Command.packet:
        return this.#executePacket(task, data);
      case Command.identifyPacket:
        return data.write(0, this.#identity()) ? succeed(task, { isPioIn: true }) : failTask(task, abortError);
      case Command.setFeatures:
      case Command.flush:
        return succeed(task);
      case Command.deviceReset:
        this.reset();
        return succeed(task, { status: this.resetStatus, error: 1, ...signatureRegisters });
      case Command.identify:
        // Fails, and the registers say why: this is a packet drive.
        return { ...failTask(task, abortError), ...signatureRegisters };
      default:
        return failTask(task, abortError);
    }
  }

  reset(): void {
    this.state.sense = noSense;
    this.state.isRemovalPrevented = false;
  }

  get #medium(): DiskBackend | undefined {
    return this.state.isTrayOpen ? undefined : this.#disc;
  }

  get #blockCount(): number {
    return Math.min(Math.floor((this.#medium?.sizeBytes ?? 0) / blockBytes), 0xffff_ffff);
  }

  #executePacket(task: Task, data: TaskData): Eventually<TaskResult> {
    const request = parsePacket(task.packet);
    const isInquiring = request.kind === "inquiry" || request.kind === "requestSense" || request.kind === "getEventStatus";
    if (this.state.hasChanged && !isInquiring) {
      this.state.hasChanged = false;
      return this.#end(task, mediumChanged);
    }
    if (needsMedium(request) && this.#medium === undefined) return this.#end(task, mediumNotPresent);
    return whenDone(this.#perform(request, data), (sense) => this.#end(task, sense, request.kind === "requestSense"));
  }

  #perform(request: PacketRequest, data: TaskData): Eventually<Sense> {
    const { state } = this;
    switch (request.kind) {
      case "requestSense": {
        const { key, code, qualifier } = state.sense;
        return reply(data, [0x70, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0, code, qualifier, 0, 0, 0, 0], request.allocationBytes);
      }
      case "inquiry":
        return reply(data, inquiry(), request.allocationBytes);
      case "startStop":
        if (request.movesTray && !request.starts && state.isRemovalPrevented) return removalPrevented;
        if (request.movesTray) state.isTrayOpen = !request.starts;
        return noSense;
      case "preventRemoval":
        state.isRemovalPrevented = request.isPrevented;
        return noSense;
      case "readCapacity": {
        const bytes = new DataView(new ArrayBuffer(8));
        bytes.setUint32(0, Math.max(this.#blockCount - 1, 0));
        bytes.setUint32(4, blockBytes);
        return reply(data, new Uint8Array(bytes.buffer), 8);
      }
      case "read":
        return this.#read(request.block, request.blocks, data);
      case "seek":
        return request.block < this.#blockCount ? noSense : blockOutOfRange;
      case "readToc":
        return reply(data, tableOfContents(request, this.#blockCount), request.allocationBytes);
      case "modeSense": {
        const pages = modeSense(request.page, request.isShort, state.isRemovalPrevented);
        return pages === undefined ? invalidField : reply(data, pages, request.allocationBytes);
      }
      case "getConfiguration":
        return reply(
          data,
          configuration(request.firstFeature, request.onlyFirst, this.#medium === undefined ? undefined : this.#blockCount),
          request.allocationBytes,
        );
      case "getEventStatus": {
        const event = eventStatus(request.classes, state.hasChanged, state.isTrayOpen, this.#medium !== undefined);
        return reply(data, event, request.allocationBytes);
      }
      case "readDiscInformation":
        return reply(data, discInformation(), request.allocationBytes);
      case "mechanismStatus":
        return reply(data, mechanismStatus(state.isTrayOpen), request.allocationBytes);
      case "testUnitReady":
      case "nothing":
        return noSense;
      case "invalidField":
        return invalidField;
      case "unknown":
        return unknownCommand;
    }
  }

  #read(block: number, blocks: number, data: TaskData): Eventually<Sense> {
    const disc = this.#medium;
    if (disc === undefined) return mediumNotPresent;
    if (block + blocks > this.#blockCount) return blockOutOfRange;
    const start = block * blockBytes;
    const sizeBytes = blocks * blockBytes;
    if (sizeBytes > data.sizeBytes) return invalidField;
    let hasMemory = true;
    const result = forEachPiece(start, sizeBytes, pieceBytes, (offset, pieceSize): Eventually<DiskResult> => {
      const piece = new Uint8Array(pieceSize);
      return whenDone(disc.read(offset, piece), (failure) => {
        if (failure !== undefined) return failure;
        hasMemory &&= data.write(offset - start, piece);
        return undefined;
      });
    });
    return whenDone(result, (failure) => {
      if (failure !== undefined) this.#ports.failed?.(failure);
      return failure !== undefined ? unrecoveredRead : hasMemory ? noSense : transferFailed;
    });
  }

  #end(task: Task, sense: Sense, keepsNone = false): TaskResult {
    this.state.sense = keepsNone ? noSense : sense;
    if (sense.key === 0) return succeed(task, { count: commandDone });
    return { ...failTask(task, (sense.key << 4) | abortError), status: checkConditionStatus, count: commandDone };
  }

  /** IDENTIFY PACKET DEVICE data (ATA8-ACS, 7.17.6). */
  #identity(): Uint8Array {
    const bytes = new Uint8Array(identifyBytes);
    const view = new DataView(bytes.buffer);
    const word = (index: number, value: number): void => view.setUint16(2 * index, value, true);
    word(0, 0x85c0); // packet drive, CD-ROM, removable, 12-byte packets
    putAtaString(bytes, 10, 10, this.#ports.serial);
    putAtaString(bytes, 23, 4, "1.0");
    putAtaString(bytes, 27, 20, "RINGMASTER CD-ROM");
    word(49, 0x0f00);
    word(50, 0x4000);
    word(53, 0x0006);
    word(63, 0x0407);
    word(64, 0x0003);
    for (const cycleTime of [65, 66, 67, 68]) word(cycleTime, 120);
    word(76, 0x0002);
    word(80, 0x00f0);
    word(82, 0x4210); // NOP, DEVICE RESET, PACKET
    word(83, 0x4000);
    word(84, 0x4000);
    word(85, 0x4210);
    word(87, 0x4000);
    word(88, 0x203f);
    return bytes;
  }
}

const signatureRegisters = { lba: 0xeb1401, count: 1 } as const;

function needsMedium({ kind }: PacketRequest): boolean {
  return (
    kind === "testUnitReady" ||
    kind === "readCapacity" ||
    kind === "read" ||
    kind === "seek" ||
    kind === "readToc" ||
    kind === "readDiscInformation"
  );
}

/** Sends at most what the host allocated and the buffer holds. */
function reply(data: TaskData, bytes: Uint8Array | readonly number[], allocationBytes: number): Sense {
  const sizeBytes = Math.min(bytes.length, allocationBytes, data.sizeBytes);
  return data.write(0, Uint8Array.from(bytes).subarray(0, sizeBytes)) ? noSense : transferFailed;
}
