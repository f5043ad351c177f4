/** A disk whose contents are bytes in memory. */
import { type DiskBackend, type DiskResult, rangeFailure, readOnlyFailure } from "./contract.ts";

export class MemoryDisk implements DiskBackend {
  readonly bytes: Uint8Array;
  readonly readOnly: boolean;

  /** Keeps `bytes` without copying them. */
  constructor(bytes: Uint8Array, options: { readonly readOnly?: boolean } = {}) {
    this.bytes = bytes;
    this.readOnly = options.readOnly ?? false;
  }

  get sizeBytes(): number {
    return this.bytes.length;
  }

  read(offset: number, target: Uint8Array): DiskResult {
    const failure = rangeFailure(this, offset, target.length);
    if (failure === undefined) target.set(this.bytes.subarray(offset, offset + target.length));
    return failure;
  }

  write(offset: number, bytes: Uint8Array): DiskResult {
    if (this.readOnly) return readOnlyFailure;
    const failure = rangeFailure(this, offset, bytes.length);
    if (failure === undefined) this.bytes.set(bytes, offset);
    return failure;
  }

  flush(): DiskResult {
    return undefined;
  }

  discard(offset: number, sizeBytes: number): DiskResult {
    if (this.readOnly) return readOnlyFailure;
    const failure = rangeFailure(this, offset, sizeBytes);
    if (failure === undefined) this.bytes.fill(0, offset, offset + sizeBytes);
    return failure;
  }
}
