/** Errors a user can cause and mend. Guest faults are values, never errors; broken invariants use `invariant`. */

/** Every code a user error can carry; the CLI maps each to its own exit status. */
export type UserErrorCode =
  | "BAD_ARGUMENT"
  | "BAD_CONFIG"
  | "BAD_IMAGE"
  | "BAD_MEMORY_SIZE"
  | "FILE_NOT_FOUND"
  | "FILE_NOT_READABLE"
  | "FILE_NOT_WRITABLE"
  | "DISK_READ_ONLY"
  | "DISK_SHORT"
  | "DISK_FAILED"
  | "ACCELERATOR_UNAVAILABLE"
  | "BAD_SNAPSHOT"
  | "SNAPSHOT_NEWER"
  | "SNAPSHOT_IMPOSSIBLE"
  | "GUEST_MISSING"
  | "TOOL_MISSING"
  | "TIMEOUT"
  | "TRIPLE_FAULT"
  | "GUEST_RESET"
  | "GUEST_FAILED"
  | "ABORTED";

/** A mistake or circumstance outside of us: `message` says what to do about it. */
export class UserError extends Error {
  readonly code: UserErrorCode;

  constructor(code: UserErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = "UserError";
    this.code = code;
  }
}

/** Throws when our own code is wrong. Never reachable from guest input. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`broken invariant: ${message}`);
}
