/** A raw image file as a disk. The file may be read-only, shrink, vanish or sit on a failing or full file system at any time. */
import { closeSync, constants, fstatSync, fsyncSync, openSync, readSync, type Stats, writeSync } from "node:fs";
import { UserError } from "../../base/errors.ts";
import {
  type DiskBackend,
  type DiskFailure,
  type DiskResult,
  rangeFailure,
  readOnlyFailure,
} from "../../devices/disk/contract.ts";

export interface RawDiskOptions {
  /** Opens the file for reading only. */
  readonly readOnly?: boolean;
}

/** All access is synchronous, so devices complete requests at once. */
export class RawDisk implements DiskBackend, Disposable {
  readonly path: string;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly #descriptor: number;
  #isOpen = true;

  /** Use {@link openRawDisk}. */
  constructor(path: string, descriptor: number, sizeBytes: number, readOnly: boolean) {
    this.path = path;
    this.#descriptor = descriptor;
    this.sizeBytes = sizeBytes;
    this.readOnly = readOnly;
  }

  /** When the file was last written, milliseconds since 1970; 0 when the host does not say. */
  get modifiedMs(): number {
    try {
      return this.#isOpen ? fstatSync(this.#descriptor).mtimeMs : 0;
    } catch {
      return 0;
    }
  }

  read(offset: number, target: Uint8Array): DiskResult {
    return (
      rangeFailure(this, offset, target.length) ??
      this.#attempt("read", () => {
        for (let done = 0; done < target.length; ) {
          const count = readSync(this.#descriptor, target, done, target.length - done, offset + done);
          if (count === 0) return this.#shortFailure();
          done += count;
        }
        return undefined;
      })
    );
  }

  write(offset: number, bytes: Uint8Array): DiskResult {
    if (this.readOnly) return readOnlyFailure;
    return (
      rangeFailure(this, offset, bytes.length) ??
      this.#attempt("written", () => {
        // Writing behind the end would grow the file again and hide that its contents are lost.
        if (fstatSync(this.#descriptor).size < this.sizeBytes) return this.#shortFailure();
        for (let done = 0; done < bytes.length; ) {
          done += writeSync(this.#descriptor, bytes, done, bytes.length - done, offset + done);
        }
        return undefined;
      })
    );
  }

  flush(): DiskResult {
    return this.#attempt("flushed", () => {
      if (!this.readOnly) fsyncSync(this.#descriptor);
      if (fstatSync(this.#descriptor).nlink > 0) return undefined;
      return {
        code: "VANISHED",
        message: `The disk image ${this.path} was deleted while the machine runs: its contents are lost when the machine ends.`,
      };
    });
  }

  /** Flushes and closes; later accesses fail. Closing again does nothing. */
  close(): DiskResult {
    if (!this.#isOpen) return undefined;
    const failure = this.flush();
    this.#isOpen = false;
    closeSync(this.#descriptor);
    return failure;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #shortFailure(): DiskFailure {
    return {
      code: "OUT_OF_RANGE",
      message: `The disk image ${this.path} became shorter than the ${this.sizeBytes} bytes it had: restore it and start the machine again.`,
    };
  }

  #attempt(what: string, access: () => DiskResult): DiskResult {
    if (!this.#isOpen) return { code: "IO_ERROR", message: `The disk image ${this.path} is closed.` };
    try {
      return access();
    } catch (cause) {
      const reason = errorCode(cause);
      return {
        code: reason === "ENOSPC" || reason === "EDQUOT" ? "FULL" : "IO_ERROR",
        message: `The disk image ${this.path} cannot be ${what} (${reason}): check the file system it is on.`,
        cause,
      };
    }
  }
}

/**
 * Opens a raw disk image.
 * @throws {UserError} FILE_NOT_FOUND, FILE_NOT_READABLE, DISK_READ_ONLY (it may be read, not written), BAD_IMAGE (no
 * regular file, or less than a sector).
 */
export function openRawDisk(path: string, options: RawDiskOptions = {}): RawDisk {
  const readOnly = options.readOnly ?? false;
  const descriptor = open(path, readOnly);
  try {
    const stats = fstatSync(descriptor);
    checkImage(path, stats);
    return new RawDisk(path, descriptor, stats.size, readOnly);
  } catch (cause) {
    closeSync(descriptor);
    throw cause;
  }
}

function open(path: string, readOnly: boolean): number {
  try {
    // Not blocking, or a named pipe would hang us here.
    return openSync(path, (readOnly ? constants.O_RDONLY : constants.O_RDWR) | constants.O_NONBLOCK);
  } catch (cause) {
    const reason = errorCode(cause);
    if (reason === "ENOENT" || reason === "ENOTDIR") {
      throw new UserError("FILE_NOT_FOUND", `There is no disk image ${path}: check the path.`, { cause });
    }
    if (reason === "EISDIR") throw notAFile(path);
    if (!readOnly && isReadable(path)) {
      throw new UserError(
        "DISK_READ_ONLY",
        `The disk image ${path} cannot be written (${reason}): change its permissions, or attach it read-only.`,
        { cause },
      );
    }
    throw new UserError("FILE_NOT_READABLE", `The disk image ${path} cannot be opened (${reason}): check its permissions.`, {
      cause,
    });
  }
}

function isReadable(path: string): boolean {
  try {
    closeSync(openSync(path, constants.O_RDONLY | constants.O_NONBLOCK));
    return true;
  } catch {
    return false;
  }
}

function checkImage(path: string, stats: Stats): void {
  if (!stats.isFile()) throw notAFile(path);
  if (stats.size < 512) {
    throw new UserError("BAD_IMAGE", `The disk image ${path} has ${stats.size} bytes; a disk has at least one sector of 512.`);
  }
}

function notAFile(path: string): UserError {
  return new UserError("BAD_IMAGE", `${path} is not a file: name a raw disk image.`);
}

function errorCode(cause: unknown): string {
  return cause instanceof Error && "code" in cause ? String(cause.code) : "unknown error";
}
