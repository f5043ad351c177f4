/** Boots a subject's guest with a command that /init runs, and measures the way there. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { commandBeginMarker, commandInitramfs, type LinuxGuest } from "../src/host/node/guests/index.ts";
import type { GuestJob, Subject } from "./contract.ts";
import { GuestProcess, type MemorySize } from "./guest-process.ts";
import { formatBytes } from "./report/format.ts";
import { medianOfKnown } from "./statistics.ts";

const cpioAlignment = 4;
const memoryMib = 512;
/**
 * Without mitigations: Linux turns them on by the processor's model, and page-table isolation alone, on for QEMU's
 * Nehalem and off for ours, makes system calls and page faults six to twenty-five times slower there.
 */
const commandLine = "console=ttyS0 mitigations=off";

/** A guest whose initial RAM file system holds a command; the file is deleted at the end. */
export class CommandGuest implements AsyncDisposable {
  readonly job: GuestJob;
  readonly #directory: string;

  private constructor(job: GuestJob, directory: string) {
    this.job = job;
    this.#directory = directory;
  }

  static async create(guest: LinuxGuest, command: string): Promise<CommandGuest> {
    const directory = await mkdtemp(join(tmpdir(), "ringmaster-bench-"));
    const base = await readFile(guest.initramfs);
    const padding = Buffer.alloc(-base.length & (cpioAlignment - 1));
    const initramfs = join(directory, "initramfs.cpio");
    await writeFile(initramfs, Buffer.concat([base, padding, commandInitramfs(command)]));
    return new CommandGuest({ kernel: guest.kernel, initramfs, commandLine, memoryMib }, directory);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#directory, { recursive: true, force: true });
  }
}

/** One line on what whole processes occupy; the figures are medians. */
export function describeMemory(sizes: readonly { readonly name: string; readonly sizes: readonly MemorySize[] }[]): string {
  const figure = (values: readonly (number | undefined)[]): string => formatBytes(medianOfKnown(values));
  const parts = sizes.map(({ name, sizes: of }) =>
    `${name} ${figure(of.map(({ residentBytes }) => residentBytes))} resident, ${figure(of.map(({ proportionalBytes }) => proportionalBytes))} proportional`);
  return `memory of the whole process after boot, for a guest of ${memoryMib} MiB: ${parts.join("; ")}`;
}

/** The first line that a command of a bench has to print: the guest's own clock. */
export const uptimeCommand = "read -r uptime rest < /proc/uptime; echo UPTIME $uptime";

export interface BootMeasurement {
  /** From the start of the process to the moment when /init runs the command, by the host's clock. */
  readonly seconds: number;
  /** The guest's clock at that moment. */
  readonly guestSeconds: number;
  /** When the kernel started /init, by the guest's clock. */
  readonly guestInitSeconds: number;
  readonly memory: MemorySize;
  readonly consoleBytes: number;
}

/** Starts the guest and waits for its command to run. */
export async function bootGuest(guest: GuestProcess, timeoutSeconds: number, signal: AbortSignal): Promise<BootMeasurement> {
  const init = await guest.waitFor(/\[ *(?<seconds>\d+\.\d+)\] Run \/init as init process/u, timeoutSeconds, signal);
  const begin = await guest.waitFor(new RegExp(RegExp.escape(commandBeginMarker), "u"), timeoutSeconds, signal);
  const uptime = await guest.waitFor(/UPTIME (?<seconds>\d+\.\d+)\r?\n/u, timeoutSeconds, signal);
  return {
    seconds: begin.seconds,
    guestSeconds: Number(uptime.match.groups?.["seconds"]),
    guestInitSeconds: Number(init.match.groups?.["seconds"]),
    memory: await guest.memory(),
    consoleBytes: begin.consoleBytes,
  };
}

export function startGuest(subject: Subject, guest: CommandGuest): GuestProcess {
  return new GuestProcess(subject.launch(guest.job));
}
