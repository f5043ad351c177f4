/** What the KVM accelerator needs of a Linux host. Everything acts on, and for, the calling thread. */

/** A file descriptor, or a result of ioctl; negative: an error number of errno(3), negated. */
export type CallResult = number;

export interface SharedMapping {
  readonly address: bigint;
  readonly sizeBytes: number;
  /** The mapped bytes themselves, not a copy. Not to be touched after `unmap`. */
  readonly buffer: ArrayBuffer;
}

/** Names a thread to whom wants to interrupt it, from whichever thread of the process. Plain data. */
export interface ThreadName {
  readonly processId: number;
  readonly threadId: number;
}

/**
 * Interrupts a thread while it is in KVM_RUN, by a signal that is blocked at all other times: a signal sent too early
 * waits and ends the next KVM_RUN at once, so none is ever lost.
 */
export interface RunInterrupter {
  readonly thread: ThreadName;
  /** The set of blocked signals for KVM_SET_SIGNAL_MASK: as it was, and without ours. */
  readonly maskDuringRun: Uint8Array;
  /** Interrupts once, after `ns` nanoseconds; replaces what was armed before. */
  arm(ns: number): void;
  /** Takes away interruptions that have come, and says how many. */
  clear(): number;
  close(): void;
}

export interface HostCalls {
  openDevice(path: string): CallResult;
  close(descriptor: number): void;
  control(descriptor: number, request: number, argument: number): CallResult;
  controlBytes(descriptor: number, request: number, bytes: Uint8Array): CallResult;
  /** @throws Error when the host refuses, which it does only for want of address space. */
  mapShared(descriptor: number, sizeBytes: number): SharedMapping;
  unmap(mapping: SharedMapping): void;
  /** Where bytes lie in this process. They must not be on V8's heap: views of buffers of their own, or of WebAssembly's. */
  addressOf(bytes: Uint8Array): bigint;
  createInterrupter(): RunInterrupter;
  /** The host's monotonic clock. */
  nowNs(): number;
}

export const ErrorNumber = { EPERM: 1, ENOENT: 2, EINTR: 4, EAGAIN: 11, EACCES: 13, EBUSY: 16, ENODEV: 19, EINVAL: 22 } as const;
