/** What our exit status says; `docs/guides/cli.md` has the same table, and a test compares them. */
import type { UserErrorCode } from "../api/index.ts";

/** Numbers follow sysexits.h, timeout(1) and the shell's 128 + signal where those have one. */
export const exitStatusOfError: Readonly<Record<UserErrorCode, number>> = {
  BAD_ARGUMENT: 64,
  BAD_IMAGE: 65,
  FILE_NOT_FOUND: 66,
  FILE_NOT_READABLE: 67,
  BAD_MEMORY_SIZE: 68,
  ACCELERATOR_UNAVAILABLE: 69,
  GUEST_MISSING: 71,
  TOOL_MISSING: 72,
  DISK_READ_ONLY: 73,
  DISK_FAILED: 74,
  DISK_SHORT: 75,
  TRIPLE_FAULT: 76,
  GUEST_RESET: 77,
  BAD_CONFIG: 78,
  GUEST_FAILED: 79,
  FILE_NOT_WRITABLE: 80,
  BAD_SNAPSHOT: 81,
  SNAPSHOT_NEWER: 82,
  SNAPSHOT_IMPOSSIBLE: 83,
  TIMEOUT: 124,
  ABORTED: 130,
};

/** A bug of ours. */
export const internalErrorStatus = 70;

/** For signals that end us in an orderly way. */
export const signalStatus: Readonly<Partial<Record<NodeJS.Signals, number>>> = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 };
