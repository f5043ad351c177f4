/** Virtio block device: one queue in front of a disk back end (Virtual I/O Device 1.2, 5.2). */
import type { RegisterBlock } from "../../contract.ts";
import { type DiskBackend, type DiskFailure, type DiskResult, type Eventually, forEachPiece, whenDone } from "../../disk/contract.ts";
import type { VirtioDevice, VirtioPort } from "../contract.ts";
import { bytesRegisterBlock } from "../config-bytes.ts";
import type { DescriptorChain } from "../virtqueue.ts";
import {
  type BlockRequest,
  type ByteRange,
  headerBytes,
  identityBytes,
  parseRequest,
  rangeBytes,
  type RequestLimits,
  type RequestStatus,
  sectorBytes,
  Status,
} from "./request.ts";

const segmentsMaximumFeature = 1 << 2;
const readOnlyFeature = 1 << 5;
const blockSizeFeature = 1 << 6;
const flushFeature = 1 << 9;
const discardFeature = 1 << 13;
const writeZeroesFeature = 1 << 14;

const queueSize = 256;
export const queueSizes: readonly number[] = [queueSize];
const configBytes = 60;
const maximumRanges = 32;
/** 32 MiB in one range: long enough to be useful, short enough to keep a synchronous back end responsive. */
const maximumRangeSectors = 0x10000;
const pieceBytes = 0x10000;

export interface VirtioBlockPorts {
  readonly disk: DiskBackend;
  /** At most 20 bytes of ASCII: what GET_ID returns. */
  readonly serial: string;
  /** A back end failed; the guest gets an I/O error, the user should hear of it too. */
  readonly failed?: (failure: DiskFailure) => void;
}

/** Nothing outlives a request: all there is to save is in the transport. */
export type VirtioBlockState = Readonly<Record<string, never>>;

export class VirtioBlock implements VirtioDevice {
  readonly state: VirtioBlockState = {};
  readonly deviceType = 2;
  readonly classCode = 0x010000;
  readonly queueSizes: readonly number[] = queueSizes;
  readonly features: number;
  readonly config: RegisterBlock;
  readonly #ports: VirtioBlockPorts;
  readonly #limits: RequestLimits;
  readonly #identity: Uint8Array = new Uint8Array(identityBytes);
  readonly #zeroes: Uint8Array = new Uint8Array(pieceBytes);
  #port: VirtioPort | undefined;
  #flushesEveryWrite = false;
  /** Raised by reset: requests of an older generation complete into nothing. */
  #generation = 0;
  #requestsUnderWay = 0;

  constructor(ports: VirtioBlockPorts) {
    const { disk, serial } = ports;
    this.#ports = ports;
    this.#limits = {
      capacitySectors: Math.floor(disk.sizeBytes / sectorBytes),
      isReadOnly: disk.readOnly,
      hasDiscard: disk.discard !== undefined,
      maximumRanges,
      maximumRangeSectors,
    };
    this.features =
      segmentsMaximumFeature |
      blockSizeFeature |
      flushFeature |
      (disk.readOnly ? readOnlyFeature : writeZeroesFeature) |
      (this.#hasDiscard ? discardFeature : 0);
    this.config = bytesRegisterBlock(this.#configBytes());
    for (let i = 0; i < Math.min(identityBytes, serial.length); i++) this.#identity[i] = serial.charCodeAt(i) & 0x7f;
  }

  /** Requests handed to an asynchronous back end and not answered yet. */
  get requestsUnderWay(): number {
    return this.#requestsUnderWay;
  }

  start(port: VirtioPort, features: number): void {
    this.#port = port;
    // Without FLUSH the driver relies on completed writes being durable (5.2.6.2).
    this.#flushesEveryWrite = (features & flushFeature) === 0;
  }

  notify(queueIndex: number): void {
    const port = this.#port;
    if (port === undefined) return;
    const queue = port.queue(queueIndex);
    let hasCompleted = false;
    for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
      const generation = this.#generation;
      const request = chain;
      const status = this.#process(request);
      if (status === undefined) {
        queue.fail("block request without header or status byte");
      } else if (status instanceof Promise) {
        this.#requestsUnderWay++;
        void status.then((value) => {
          this.#requestsUnderWay--;
          if (generation !== this.#generation) return;
          this.#complete(port, queueIndex, request, value);
          port.interrupt(queueIndex);
        });
      } else {
        this.#complete(port, queueIndex, request, status);
        hasCompleted = true;
      }
    }
    if (hasCompleted) port.interrupt(queueIndex);
  }

  reset(): void {
    this.#port = undefined;
    this.#generation++;
  }

  get #hasDiscard(): boolean {
    return this.#limits.hasDiscard && !this.#limits.isReadOnly;
  }

  #complete(port: VirtioPort, queueIndex: number, chain: DescriptorChain, status: RequestStatus): void {
    const queue = port.queue(queueIndex);
    if (!chain.write(chain.writableBytes - 1, Uint8Array.of(status))) queue.fail("block request's status byte outside of RAM");
    // The length may only count bytes that were surely written, without holes: after an error that is none of them.
    queue.push(chain, status === Status.ok ? chain.writableBytes : 0);
  }

  /** The status for the guest, or undefined for a chain that has no room for one. */
  #process(chain: DescriptorChain): Eventually<RequestStatus> | undefined {
    const header = new Uint8Array(headerBytes);
    if (chain.writableBytes < 1 || !chain.read(0, header)) return undefined;
    const outBytes = chain.readableBytes - headerBytes;
    const ranges = new Uint8Array(Math.min(outBytes, maximumRanges * rangeBytes));
    if (!chain.read(headerBytes, ranges)) return Status.ioError;
    const request = parseRequest({ header, outBytes, inBytes: chain.writableBytes - 1, ranges }, this.#limits);
    return this.#perform(request, chain);
  }

  #perform(request: BlockRequest, chain: DescriptorChain): Eventually<RequestStatus> {
    const { disk } = this.#ports;
    switch (request.kind) {
      case "in":
        return this.#status(this.#read(request.range, chain));
      case "out":
        return this.#status(whenDone(this.#write(request.range, chain), (failure) => failure ?? this.#settle()));
      case "flush":
        return this.#status(disk.flush());
      case "getId": {
        const room = Math.min(identityBytes, chain.writableBytes - 1);
        return chain.write(0, this.#identity.subarray(0, room)) ? Status.ok : Status.ioError;
      }
      case "discard":
        return this.#status(eachRange(request.ranges, (range) => disk.discard?.(range.offset, range.sizeBytes)));
      case "writeZeroes":
        return this.#status(
          whenDone(eachRange(request.ranges, (range) => this.#clear(range)), (failure) => failure ?? this.#settle()),
        );
      case "refused":
        return request.status;
    }
  }

  #settle(): Eventually<DiskResult> {
    return this.#flushesEveryWrite ? this.#ports.disk.flush() : undefined;
  }

  #read(range: ByteRange, chain: DescriptorChain): Eventually<DiskResult> {
    const { disk } = this.#ports;
    const generation = this.#generation;
    return forEachPiece(range.offset, range.sizeBytes, pieceBytes, (offset, sizeBytes) => {
      const piece = new Uint8Array(sizeBytes);
      return whenDone(disk.read(offset, piece), (failure) => {
        if (failure !== undefined || generation !== this.#generation) return failure;
        return chain.write(offset - range.offset, piece) ? undefined : notRam;
      });
    });
  }

  #write(range: ByteRange, chain: DescriptorChain): Eventually<DiskResult> {
    return forEachPiece(range.offset, range.sizeBytes, pieceBytes, (offset, sizeBytes) => {
      const piece = new Uint8Array(sizeBytes);
      if (!chain.read(headerBytes + offset - range.offset, piece)) return notRam;
      return this.#ports.disk.write(offset, piece);
    });
  }

  #clear(range: ByteRange): Eventually<DiskResult> {
    return forEachPiece(range.offset, range.sizeBytes, pieceBytes, (offset, sizeBytes) =>
      this.#ports.disk.write(offset, this.#zeroes.subarray(0, sizeBytes)),
    );
  }

  #status(result: Eventually<DiskResult>): Eventually<RequestStatus> {
    return whenDone(result, (failure) => {
      if (failure === undefined) return Status.ok;
      if (failure !== notRam) this.#ports.failed?.(failure);
      return Status.ioError;
    });
  }

  #configBytes(): Uint8Array {
    const view = new DataView(new ArrayBuffer(configBytes));
    view.setBigUint64(0, BigInt(this.#limits.capacitySectors), true);
    view.setUint32(12, queueSize - 2, true);
    view.setUint32(20, sectorBytes, true);
    view.setUint16(34, 1, true);
    if (this.#hasDiscard) {
      view.setUint32(36, maximumRangeSectors, true);
      view.setUint32(40, maximumRanges, true);
      view.setUint32(44, 1, true);
    }
    if (!this.#limits.isReadOnly) {
      view.setUint32(48, maximumRangeSectors, true);
      view.setUint32(52, maximumRanges, true);
    }
    return new Uint8Array(view.buffer);
  }
}

/** The guest named memory that is not there: its own fault, so nobody but the guest hears of it. */
const notRam: DiskFailure = { code: "IO_ERROR", message: "The guest's buffer is not in its RAM." };

function eachRange(
  ranges: readonly ByteRange[],
  step: (range: ByteRange) => Eventually<DiskResult>,
): Eventually<DiskResult> {
  return forEachPiece(0, ranges.length, 1, (index) => step(ranges[index]));
}
