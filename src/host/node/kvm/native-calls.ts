/**
 * The KVM accelerator's host calls, made through koffi, an optional dependency. The only place of Ringmaster that calls
 * native code.
 */
import { createRequire } from "node:module";
import type { CallResult, HostCalls, RunInterrupter, SharedMapping, ThreadName } from "../../../accel/kvm/host-calls.ts";

/** What we use of koffi's interface; its own types would be needed by everybody who compiles against ours. */
interface Koffi {
  load(path: string | null): { func(declaration: string): (...values: unknown[]) => unknown; symbol(name: string): bigint };
  address(value: ArrayBufferView): bigint;
  view(address: bigint, sizeBytes: number): ArrayBuffer;
  errno(): number;
}

/** Why native calls cannot be made, for people. */
export interface NativeCallsProblem {
  readonly problem: string;
  readonly remedy: string;
}

const openReadWriteCloseOnExec = 0o2000002;
const protectionReadWrite = 3;
const mapSharedFlag = 1;
const mapFailed = -1n;

/** x86-64's numbers (Linux, arch/x86/entry/syscalls/syscall_64.tbl). */
const SystemCall = {
  rtSigprocmask: 14, getpid: 39, gettid: 186, rtSigtimedwait: 128, timerCreate: 222, timerSettime: 223, timerDelete: 226, tgkill: 234,
} as const;

/** A real-time signal that neither glibc (32, 33) nor Node.js uses. */
const interruptSignal = 41;
const signalSetBytes = 8;
const sigBlock = 0;
const clockMonotonic = 1;
const notifyThreadId = 4;
const nanosecondsPerSecond = 1e9;
/** What an interrupter shows to the kernel. */
const AreaOffset = { setOfOurs: 0, setBefore: 8, event: 16, timer: 80, expiry: 88, noWait: 120, end: 136 } as const;

type Syscall = (number: number, a: number | bigint, b: number | bigint, c: number | bigint, d: number | bigint) => number;

let loaded: { readonly calls: HostCalls; readonly kick: (thread: ThreadName) => void } | NativeCallsProblem | undefined;

/** Bytes whose address holds: V8 keeps small typed arrays on its heap, where they move. */
function fixedBytes(sizeBytes: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new ArrayBuffer(sizeBytes));
}

function load(): { readonly calls: HostCalls; readonly kick: (thread: ThreadName) => void } | NativeCallsProblem {
  if (process.platform !== "linux") return { problem: `KVM is Linux's, and this host runs ${process.platform}`, remedy: "use a Linux host" };
  if (process.arch !== "x64") return { problem: `guests are x86-64, and this host's processor is ${process.arch}`, remedy: "use an x86-64 host" };
  let koffi: Koffi;
  try {
    koffi = createRequire(import.meta.url)("koffi") as Koffi;
  } catch (error) {
    const [reason] = String((error as Error).message).split("\n", 1);
    return { problem: `the optional package koffi, which calls the kernel, does not load (${reason})`, remedy: "install it: npm install koffi" };
  }
  try {
    return bind(koffi);
  } catch (error) {
    return { problem: `koffi cannot call the C library (${(error as Error).message})`, remedy: "install koffi anew: npm install koffi" };
  }
}

function bind(koffi: Koffi): { readonly calls: HostCalls; readonly kick: (thread: ThreadName) => void } {
  const libc = koffi.load(null);
  const open = libc.func("int open(const char *path, int flags)") as (path: string, flags: number) => number;
  const closeDescriptor = libc.func("int close(int descriptor)") as (descriptor: number) => number;
  // ioctl's last argument is a number for some requests and a pointer for others: two declarations of one function.
  const ioctlNumber = libc.func("int ioctl(int descriptor, unsigned long request, intptr_t argument)") as (descriptor: number, request: number, argument: number) => number;
  const ioctlPointer = libc.func("int ioctl(int descriptor, unsigned long request, void *argument)") as (descriptor: number, request: number, bytes: Uint8Array) => number;
  const mmap = libc.func("intptr_t mmap(intptr_t address, size_t size, int protection, int flags, int descriptor, long offset)") as (...values: readonly number[]) => number | bigint;
  const munmap = libc.func("int munmap(intptr_t address, size_t size)") as (address: bigint, size: number) => number;
  const sigaction = libc.func("int sigaction(int signal, void *action, void *old)") as (signal: number, action: Uint8Array, old: null) => number;
  const syscall = libc.func("long syscall(long number, intptr_t a, intptr_t b, intptr_t c, intptr_t d)") as Syscall;

  const outcome = (result: number): CallResult => (result === -1 ? -koffi.errno() : result);
  const addressOf = (bytes: Uint8Array): bigint => koffi.address(bytes);
  installHarmlessHandler();

  /** Should a signal ever come where it is not blocked, it must not end the process: a C function that does nothing takes it. */
  function installHarmlessHandler(): void {
    const action = fixedBytes(152);
    new DataView(action.buffer).setBigUint64(0, libc.symbol("getpid"), true);
    sigaction(interruptSignal, action, null);
  }

  const kick = ({ processId, threadId }: ThreadName): void => {
    syscall(SystemCall.tgkill, processId, threadId, interruptSignal, 0);
  };

  const createInterrupter = (): RunInterrupter => {
    // SAFETY: the kernel gets addresses into this one area, which lives as long as any of the functions below.
    const area = new DataView(new ArrayBuffer(AreaOffset.end));
    const start = addressOf(new Uint8Array(area.buffer));
    const at = (offset: number): bigint => start + BigInt(offset);
    const setBefore = new Uint8Array(area.buffer, AreaOffset.setBefore, signalSetBytes);
    const setOfOurs = new Uint8Array(area.buffer, AreaOffset.setOfOurs, signalSetBytes);
    area.setBigUint64(AreaOffset.setOfOurs, 1n << BigInt(interruptSignal - 1), true);
    syscall(SystemCall.rtSigprocmask, sigBlock, at(AreaOffset.setOfOurs), at(AreaOffset.setBefore), signalSetBytes);
    const maskDuringRun = setBefore.map((byte, index) => byte & ~setOfOurs[index]);
    const thread = { processId: syscall(SystemCall.getpid, 0, 0, 0, 0), threadId: syscall(SystemCall.gettid, 0, 0, 0, 0) };

    // struct sigevent: value, signal, notify, thread ID.
    area.setInt32(AreaOffset.event + 8, interruptSignal, true);
    area.setInt32(AreaOffset.event + 12, notifyThreadId, true);
    area.setInt32(AreaOffset.event + 16, thread.threadId, true);
    const created = syscall(SystemCall.timerCreate, clockMonotonic, at(AreaOffset.event), at(AreaOffset.timer), 0);
    if (created !== 0) throw new Error(`timer_create fails with error ${koffi.errno()}`);
    const timer = area.getInt32(AreaOffset.timer, true);
    const expiryAddress = at(AreaOffset.expiry), oursAddress = at(AreaOffset.setOfOurs), noWaitAddress = at(AreaOffset.noWait);
    return {
      thread, maskDuringRun,
      arm: (ns) => {
        const whole = Math.max(Math.round(ns), 1);
        // struct itimerspec: interval, then time to expiry, in seconds and nanoseconds.
        area.setUint32(AreaOffset.expiry + 16, Math.floor(whole / nanosecondsPerSecond), true);
        area.setUint32(AreaOffset.expiry + 24, whole % nanosecondsPerSecond, true);
        syscall(SystemCall.timerSettime, timer, 0, expiryAddress, 0);
      },
      clear: () => {
        let count = 0;
        while (syscall(SystemCall.rtSigtimedwait, oursAddress, 0, noWaitAddress, signalSetBytes) > 0) count++;
        return count;
      },
      close: () => {
        syscall(SystemCall.timerDelete, timer, 0, 0, 0);
      },
    };
  };

  const calls: HostCalls = {
    openDevice: (path) => outcome(open(path, openReadWriteCloseOnExec)),
    close: (descriptor) => void closeDescriptor(descriptor),
    control: (descriptor, request, argument) => outcome(ioctlNumber(descriptor, request, argument)),
    controlBytes: (descriptor, request, bytes) => outcome(ioctlPointer(descriptor, request, bytes)),
    mapShared: (descriptor, sizeBytes): SharedMapping => {
      const address = BigInt(mmap(0, sizeBytes, protectionReadWrite, mapSharedFlag, descriptor, 0));
      if (address === mapFailed) throw new Error(`mmap of ${sizeBytes} bytes fails with error ${koffi.errno()}`);
      return { address, sizeBytes, buffer: koffi.view(address, sizeBytes) };
    },
    unmap: ({ address, sizeBytes }) => void munmap(address, sizeBytes),
    addressOf, createInterrupter,
    nowNs: () => performance.now() * 1e6,
  };
  return { calls, kick };
}

/** The host's calls, or why there are none. Loaded once a thread. */
export function nativeCalls(): { readonly calls: HostCalls; readonly kick: (thread: ThreadName) => void } | NativeCallsProblem {
  loaded ??= load();
  return loaded;
}
