/** Command list entries, command tables and FISes in guest memory (AHCI 1.3.1, chapters 4.2 and 5; Serial ATA 3.x, 10.5). */
import { guestPhysical } from "../../../base/address.ts";
import type { GuestMemory } from "../../contract.ts";
import type { Task, TaskData, TaskResult } from "../contract.ts";

const headerBytes = 32;
const prdtOffset = 0x80;
const prdtEntryBytes = 16;
const byteCountMask = 0x003f_ffff;
const hostToDeviceFis = 0x27;
const deviceToHostFis = 0x34;
const pioSetupFis = 0x5f;
const interruptFlag = 0x40;
const toHostFlag = 0x20;
const dataRequestStatus = 0x58;
const softwareResetMask = 0x04;

export interface CommandSlot {
  readonly headerAddress: number;
  readonly data: ScatterList;
  /** Undefined when the FIS carries a new device control value instead of a command. */
  readonly task: Task | undefined;
  readonly isSoftwareReset: boolean;
}

/** Memory named by a physical region descriptor table. */
export class ScatterList implements TaskData {
  readonly sizeBytes: number;
  readonly #memory: GuestMemory;
  readonly #segments: readonly { readonly address: number; readonly sizeBytes: number }[];
  /** What was moved so far, for the byte count in the command header. */
  transferredBytes = 0;
  #isCancelled = false;

  constructor(memory: GuestMemory, table: Uint8Array) {
    this.#memory = memory;
    const view = new DataView(table.buffer, table.byteOffset, table.length);
    const segments = [];
    let sizeBytes = 0;
    for (let at = 0; at + prdtEntryBytes <= table.length; at += prdtEntryBytes) {
      const address = view.getUint32(at + 4, true) * 2 ** 32 + view.getUint32(at, true);
      const size = (view.getUint32(at + 12, true) & byteCountMask) + 1;
      segments.push({ address, sizeBytes: size });
      sizeBytes += size;
    }
    this.#segments = segments;
    this.sizeBytes = sizeBytes;
  }

  read(offset: number, target: Uint8Array): boolean {
    return this.#walk(offset, target, (address, piece) => this.#memory.read(address, piece));
  }

  write(offset: number, source: Uint8Array): boolean {
    return this.#walk(offset, source, (address, piece) => this.#memory.write(address, piece));
  }

  /** From now on nothing is moved: the command that this belongs to was abandoned. */
  cancel(): void {
    this.#isCancelled = true;
  }

  #walk(offset: number, bytes: Uint8Array, visit: (address: ReturnType<typeof guestPhysical>, piece: Uint8Array) => boolean): boolean {
    if (this.#isCancelled) return false;
    let skip = offset;
    let done = 0;
    for (const segment of this.#segments) {
      if (done === bytes.length) break;
      if (skip >= segment.sizeBytes) {
        skip -= segment.sizeBytes;
        continue;
      }
      const size = Math.min(segment.sizeBytes - skip, bytes.length - done);
      if (!visit(guestPhysical(segment.address + skip), bytes.subarray(done, done + size))) return false;
      done += size;
      skip = 0;
    }
    this.transferredBytes += done;
    return done === bytes.length;
  }
}

/** Reads a slot of the command list; undefined when its memory is not RAM or it does not hold a host-to-device FIS. */
export function readCommandSlot(memory: GuestMemory, commandList: number, slot: number): CommandSlot | undefined {
  const headerAddress = commandList + headerBytes * slot;
  const header = new DataView(new ArrayBuffer(headerBytes));
  if (!memory.read(guestPhysical(headerAddress), new Uint8Array(header.buffer))) return undefined;
  const tableAddress = header.getUint32(12, true) * 2 ** 32 + ((header.getUint32(8, true) & ~0x7f) >>> 0);
  const fixed = new Uint8Array(prdtOffset);
  const regions = new Uint8Array(prdtEntryBytes * header.getUint16(2, true));
  if (!memory.read(guestPhysical(tableAddress), fixed)) return undefined;
  if (!memory.read(guestPhysical(tableAddress + prdtOffset), regions)) return undefined;
  if (fixed[0] !== hostToDeviceFis) return undefined;
  const isCommand = (fixed[1] & 0x80) !== 0;
  return {
    headerAddress,
    data: new ScatterList(memory, regions),
    task: isCommand ? parseTask(fixed) : undefined,
    isSoftwareReset: !isCommand && (fixed[15] & softwareResetMask) !== 0,
  };
}

function parseTask(fis: Uint8Array): Task {
  const low = fis[4] | (fis[5] << 8) | (fis[6] << 16);
  const high = fis[8] | (fis[9] << 8) | (fis[10] << 16);
  return {
    command: fis[2],
    features: fis[3] | (fis[11] << 8),
    lba: high * 2 ** 24 + low,
    count: fis[12] | (fis[13] << 8),
    device: fis[7],
    packet: fis.subarray(0x40, 0x50),
  };
}

/** Stores how many bytes a command moved; false when the header is not RAM any more. */
export function writeByteCount(memory: GuestMemory, slot: CommandSlot): boolean {
  const count = new DataView(new ArrayBuffer(4));
  count.setUint32(0, slot.data.transferredBytes, true);
  return memory.write(guestPhysical(slot.headerAddress + 4), new Uint8Array(count.buffer));
}

/** The drive's register FIS after a command or a reset. */
export function registerFis(result: TaskResult, device: number): Uint8Array {
  return fis(deviceToHostFis, interruptFlag, result.status, result, device);
}

/** The FIS that announces the last data of a PIO data-in command; its end status is the command's. */
export function pioSetup(result: TaskResult, device: number, sizeBytes: number): Uint8Array {
  const bytes = fis(pioSetupFis, interruptFlag | toHostFlag, dataRequestStatus, result, device);
  bytes[15] = result.status;
  bytes[16] = sizeBytes & 0xff;
  bytes[17] = (sizeBytes >> 8) & 0xff;
  return bytes;
}

function fis(type: number, flags: number, status: number, result: TaskResult, device: number): Uint8Array {
  const bytes = new Uint8Array(20);
  const low = result.lba % 2 ** 24;
  const high = Math.floor(result.lba / 2 ** 24);
  bytes.set([type, flags, status, result.error, low, low >> 8, low >> 16, device, high, high >> 8, high >> 16, 0]);
  bytes.set([result.count, result.count >> 8], 12);
  return bytes;
}
