/** What a storage device asks of the image behind it. Failures are values: a broken host disk is no reason to stop the guest. */

export type DiskFailureCode =
  /** A write to a disk that cannot be written. */
  | "READ_ONLY"
  /** The range is not on the disk; a caller that checked it has found an image that became shorter. */
  | "OUT_OF_RANGE"
  /** The image is gone. */
  | "VANISHED"
  /** The host has no room left. */
  | "FULL"
  /** Any other host error. */
  | "IO_ERROR";

export interface DiskFailure {
  readonly code: DiskFailureCode;
  /** Says what failed and what the user can do about it. */
  readonly message: string;
  readonly cause?: unknown;
}

/** Undefined when all went well. */
export type DiskResult = DiskFailure | undefined;

/** A back end that answers at once returns the value itself, and the device then completes at once. */
export type Eventually<T> = T | Promise<T>;

/** Random access to the bytes of a disk. Promises never reject. */
export interface DiskBackend {
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  /** Fills `target` from `offset` bytes. */
  read(offset: number, target: Uint8Array): Eventually<DiskResult>;
  /** Stores `bytes` at `offset`; the caller may reuse the array once the result is there. */
  write(offset: number, bytes: Uint8Array): Eventually<DiskResult>;
  /** Makes completed writes survive a crash of the host. */
  flush(): Eventually<DiskResult>;
  /** The range's contents are not needed any more; reading it returns zeros or the old contents. */
  discard?(offset: number, sizeBytes: number): Eventually<DiskResult>;
}

/** Continues with `next` at once when `value` is already there. */
export function whenDone<T, U>(value: Eventually<T>, next: (value: T) => Eventually<U>): Eventually<U> {
  return value instanceof Promise ? value.then(next) : next(value);
}

/** The failure of an access that does not lie on the disk, or undefined. */
export function rangeFailure(disk: { readonly sizeBytes: number }, offset: number, sizeBytes: number): DiskResult {
  if (offset >= 0 && sizeBytes >= 0 && offset + sizeBytes <= disk.sizeBytes) return undefined;
  return {
    code: "OUT_OF_RANGE",
    message: `Bytes ${offset} to ${offset + sizeBytes} are not on a disk of ${disk.sizeBytes} bytes.`,
  };
}

export const readOnlyFailure: DiskFailure = {
  code: "READ_ONLY",
  message: "The disk is read-only: attach it writable or put a copy-on-write overlay on it.",
};

/** Runs `step` over the pieces of a range, one after the other, until one fails. */
export function forEachPiece(
  offset: number,
  sizeBytes: number,
  pieceBytes: number,
  step: (offset: number, sizeBytes: number) => Eventually<DiskResult>,
): Eventually<DiskResult> {
  const end = offset + sizeBytes;
  let at = offset;
  const run = (): Eventually<DiskResult> => {
    while (at < end) {
      // Pieces end at multiples of their size, so that block-wise steps see one block each.
      const size = Math.min(end - at, pieceBytes - (at % pieceBytes));
      const result = step(at, size);
      at += size;
      if (result instanceof Promise) return result.then((failure) => failure ?? run());
      if (result !== undefined) return result;
    }
    return undefined;
  };
  return run();
}
