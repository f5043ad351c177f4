/** Virtio block requests: from bytes to a checked request. Pure and total (Virtual I/O Device 1.2, 5.2.6). */

export const sectorBytes = 512;
export const headerBytes = 16;
export const rangeBytes = 16;
export const identityBytes = 20;

export const Status = { ok: 0, ioError: 1, unsupported: 2 } as const;
export type RequestStatus = (typeof Status)[keyof typeof Status];

const RequestType = { in: 0, out: 1, flush: 4, getId: 8, discard: 11, writeZeroes: 13 } as const;
const unmapMask = 1;

/** What the device is like, for the checks. */
export interface RequestLimits {
  readonly capacitySectors: number;
  readonly isReadOnly: boolean;
  readonly hasDiscard: boolean;
  /** Most ranges in a DISCARD or WRITE_ZEROES, and most sectors in each. */
  readonly maximumRanges: number;
  readonly maximumRangeSectors: number;
}

/** The guest's request: header, sizes without header and status byte, and for range requests the first data bytes. */
export interface RawRequest {
  readonly header: Uint8Array;
  readonly outBytes: number;
  readonly inBytes: number;
  readonly ranges: Uint8Array;
}

export interface ByteRange {
  readonly offset: number;
  readonly sizeBytes: number;
}

export type BlockRequest =
  | { readonly kind: "in" | "out"; readonly range: ByteRange }
  | { readonly kind: "flush" }
  | { readonly kind: "getId" }
  | { readonly kind: "discard"; readonly ranges: readonly ByteRange[] }
  | { readonly kind: "writeZeroes"; readonly ranges: readonly ByteRange[] }
  | { readonly kind: "refused"; readonly status: RequestStatus };

const ioError: BlockRequest = { kind: "refused", status: Status.ioError };
const unsupported: BlockRequest = { kind: "refused", status: Status.unsupported };

/** Every input has a result; what is wrong with it is the status the guest gets. */
export function parseRequest(raw: RawRequest, limits: RequestLimits): BlockRequest {
  const header = new DataView(raw.header.buffer, raw.header.byteOffset, headerBytes);
  const type = header.getUint32(0, true);
  // A sector number beyond 2^53 loses its low bits here, and is beyond any capacity all the same.
  const sector = header.getUint32(12, true) * 2 ** 32 + header.getUint32(8, true);
  switch (type) {
    case RequestType.in:
      return transfer("in", sector, raw.inBytes, limits);
    case RequestType.out:
      return limits.isReadOnly ? ioError : transfer("out", sector, raw.outBytes, limits);
    case RequestType.flush:
      return { kind: "flush" };
    case RequestType.getId:
      return { kind: "getId" };
    case RequestType.discard:
      return limits.hasDiscard ? ranges("discard", 0, raw, limits) : unsupported;
    case RequestType.writeZeroes:
      return ranges("writeZeroes", unmapMask, raw, limits);
    default:
      return unsupported;
  }
}

function transfer(kind: "in" | "out", sector: number, sizeBytes: number, limits: RequestLimits): BlockRequest {
  if (sizeBytes % sectorBytes !== 0 || !fits(sector, sizeBytes / sectorBytes, limits)) return ioError;
  return { kind, range: { offset: sector * sectorBytes, sizeBytes } };
}

function ranges(kind: "discard" | "writeZeroes", allowedFlags: number, raw: RawRequest, limits: RequestLimits): BlockRequest {
  if (limits.isReadOnly) return ioError;
  const count = raw.outBytes / rangeBytes;
  if (!Number.isInteger(count) || count < 1 || count > limits.maximumRanges) return ioError;
  if (raw.ranges.length < raw.outBytes) return ioError;
  const view = new DataView(raw.ranges.buffer, raw.ranges.byteOffset, raw.outBytes);
  const parsed: ByteRange[] = [];
  for (let at = 0; at < raw.outBytes; at += rangeBytes) {
    const sector = view.getUint32(at + 4, true) * 2 ** 32 + view.getUint32(at, true);
    const sectors = view.getUint32(at + 8, true);
    if ((view.getUint32(at + 12, true) & ~allowedFlags) !== 0) return unsupported;
    if (sectors > limits.maximumRangeSectors || !fits(sector, sectors, limits)) return ioError;
    parsed.push({ offset: sector * sectorBytes, sizeBytes: sectors * sectorBytes });
  }
  return { kind, ranges: parsed };
}

function fits(sector: number, sectors: number, limits: RequestLimits): boolean {
  return sector + sectors <= limits.capacitySectors;
}
