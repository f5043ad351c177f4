/** `ringmaster run`: one machine, with the terminal as its console, or a command whose output and status are ours. */
import { closeSync, openSync, writeSync } from "node:fs";
import { extname } from "node:path";
import { chooseAccelerator, CommandOutput, endError, type ExitFormat, formatExits, userspacePattern, UserError, Vm, type VmEnd, type VmOptions } from "../api/index.ts";
import { ControlServer } from "../host/node/control-socket.ts";
import { ExecutionProfile, formatProfileSummary } from "../host/node/execution-profile.ts";
import { escapeHelp } from "../host/node/escape-keys.ts";
import { printProgress } from "../host/node/guests/print-progress.ts";
import { ConsoleTerminal } from "../host/node/terminal.ts";
import { exitStatusOfError } from "./exit-status.ts";
import { control } from "./control.ts";
import { formatControlBlock, noControlBlock } from "./control-block.ts";
import { Interrupts } from "./interrupts.ts";
import { serialTargets, vmOptions, type RunFlags, type SerialTarget } from "./run-flags.ts";
import { describeSnapshot, newSnapshotPath } from "./snapshot-report.ts";
import type { OutputStream, Streams } from "./streams.ts";

const endOfTransmission = 0x04;
const quietMs = 1000;
const interruptCharacter = 0x03;
/** How long a guest whose command has ended may take to write back its disks and power off. */
const powerOffGraceMs = 60_000;
const logTailLines = 12;
const panicPattern = /Kernel panic - not syncing: (?<reason>[^\r\n]*)/u;

/** Ends the run with a status of its own. */
interface Verdict {
  readonly status: number;
  /** Printed before we leave. */
  readonly message?: string;
}

/** Runs a machine to its end and returns our exit status. */
export async function run(guest: string | undefined, flags: RunFlags, streams: Streams): Promise<number> {
  const options = { ...vmOptions(guest, flags), accountExits: exitReportFormat(flags) !== undefined };
  const targets = serialTargets(flags);
  const { chosen } = chooseAccelerator(options);
  const { stdout, stderr } = streams;
  stderr.write(`ringmaster: accelerator: ${chosen.name} (${chosen.reason})\n`);
  const isTerminal = flags.command === undefined && stdout.isTTY === true && stdout.rows !== undefined && stdout.columns !== undefined;
  await using vm = await createVm({
    ...options,
    ...(isTerminal ? { consoleSize: { rows: stdout.rows ?? 0, columns: stdout.columns ?? 0 } } : {}),
    onProgress: printProgress(stderr),
  });
  using session = new Session(vm, flags, targets, streams);
  using _ = await serveControl(vm, flags.name);
  if (flags.profile === undefined) return await session.run();
  const profile = ExecutionProfile.start(flags.profile, flags.symbols);
  const status = await session.run();
  stderr.write(formatProfileSummary(await profile.finish()));
  return status;
}

const exitFormats: Readonly<Record<string, ExitFormat>> = { ".txt": "table", ".json": "json", ".svg": "svg" };

/** What `--exit-report` asks for. @throws UserError BAD_ARGUMENT. */
export function exitReportFormat({ exitReport }: RunFlags): ExitFormat | undefined {
  if (exitReport === undefined) return undefined;
  const format = exitFormats[extname(exitReport)];
  if (format === undefined) throw new UserError("BAD_ARGUMENT", `--exit-report ${exitReport}: the name's end says what to write: .svg for the picture, .json for data, .txt for a table`);
  return format;
}

/** Other processes reach a machine that has a name. */
export async function serveControl(vm: Vm, name: string | undefined): Promise<ControlServer | undefined> {
  return name === undefined ? undefined : await ControlServer.open(name, (request, onProgress, signal) => control(vm, request, onProgress, signal));
}

/** Ctrl-C while guests are fetched ends us at once: nothing has been started yet. */
async function createVm(options: VmOptions): Promise<Vm> {
  return await orInterrupted(Vm.create(options));
}

/** What is under way, unless Ctrl-C comes first. */
export async function orInterrupted<Result>(underWay: Promise<Result>): Promise<Result> {
  const interrupted = Promise.withResolvers<never>();
  using _ = new Interrupts({
    onFirst: () => interrupted.reject(new UserError("ABORTED", "Interrupted before the machine was started.")),
    onEnd: () => interrupted.reject(new UserError("ABORTED", "Interrupted before the machine was started.")),
  });
  return await Promise.race([underWay, interrupted.promise]);
}

/** How a session begins. */
interface SessionStart {
  /** The guest has been running before: it takes input at once. */
  readonly isRestored?: boolean;
}

/** A machine with the user's terminal, from its start to its end. */
export class Session implements Disposable {
  readonly #vm: Vm;
  readonly #flags: RunFlags;
  readonly #streams: Streams;
  readonly #terminal: ConsoleTerminal;
  readonly #interrupts: Interrupts;
  readonly #files: number[] = [];
  /** Opened at the start: whoever runs a guest for an hour must not hear then that the file cannot be written. */
  readonly #writeExitReport: ((bytes: Uint8Array) => void) | undefined;
  readonly #verdict: PromiseWithResolvers<Verdict> = Promise.withResolvers();
  readonly #command: CommandOutput | undefined;
  readonly #isLinux: boolean;
  /** Input that came before the guest could take it. */
  #early: Uint8Array[] | undefined;
  #hasInputEnded = false;
  #quiet: NodeJS.Timeout | undefined;
  #log = "";
  #diskStatus: number | undefined;

  constructor(vm: Vm, flags: RunFlags, targets: readonly SerialTarget[], streams: Streams, { isRestored = false }: SessionStart = {}) {
    this.#vm = vm;
    this.#flags = flags;
    this.#streams = streams;
    this.#command = flags.command === undefined ? undefined : new CommandOutput();
    // What comes from a pipe is there before a Linux kernel's serial driver is, which would drop it.
    this.#isLinux = vm.bootProtocol?.startsWith("linux") === true;
    this.#early = this.#command !== undefined || (streams.stdin.isTTY !== true && this.#isLinux && !isRestored) ? [] : undefined;
    this.#terminal = new ConsoleTerminal(streams.stdin, {
      onInput: (bytes) => this.#input(bytes),
      onEnd: () => this.#endInput(),
      onQuit: () => this.#verdict.resolve({ status: 0, message: "\r\n" }),
      onHelp: () => void streams.stderr.write(escapeHelp.replaceAll("\n", "\r\n")),
      onSnapshot: () => void this.#saveSnapshot(),
      onControlBlock: () => this.#showControlBlock(),
    });
    this.#interrupts = new Interrupts({
      onFirst: () => this.#interrupt(),
      onEnd: (status) => this.#verdict.resolve({ status, message: "ringmaster: interrupted; the machine was stopped\n" }),
    });
    streams.stdout.on("error", () => this.#verdict.resolve({ status: exitStatusOfError.ABORTED }));
    this.#connect(targets);
    if (flags.exitReport !== undefined) this.#writeExitReport = this.#fileSink(flags.exitReport);
  }

  /** Until the end; returns our exit status. */
  async run(): Promise<number> {
    const status = await this.#runToEnd();
    const format = exitReportFormat(this.#flags), exits = this.#vm.exits();
    if (format !== undefined && exits !== undefined) this.#writeExitReport?.(Buffer.from(formatExits(exits, format)));
    return status;
  }

  async #runToEnd(): Promise<number> {
    const vm = this.#vm, { stderr } = this.#streams;
    const hasStdio = this.#command === undefined || this.#streams.stdin.isTTY !== true;
    if (hasStdio) this.#terminal.open();
    if (this.#terminal.isRaw) stderr.write("ringmaster: Ctrl-A X ends the machine, Ctrl-A H shows help\r\n");
    const ended = vm.wait().then((end) => this.#judge(end));
    vm.run();
    const { status, message } = await Promise.race([this.#verdict.promise, ended]);
    this.#terminal.close();
    if (message !== undefined) stderr.write(message);
    await vm.stop();
    return status === 0 ? this.#diskStatus ?? 0 : status;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#quiet);
    this.#terminal.close();
    this.#interrupts[Symbol.dispose]();
    for (const file of this.#files) closeSync(file);
  }

  // --- output ------------------------------------------------------------------------------------------------------

  #connect(targets: readonly SerialTarget[]): void {
    const sinks = targets.map((target) => this.#sink(target));
    this.#vm.on("serial", ({ port, bytes }) => {
      if (port === 0) this.#watch(bytes);
      sinks[port]?.(bytes);
      this.#quiet?.refresh();
    });
    if (this.#flags.debugConsole !== undefined) {
      const write = this.#fileSink(this.#flags.debugConsole);
      this.#vm.on("debug", write);
    }
    this.#vm.on("disk", ({ code, message }) => {
      // A guest that writes to what it was told is read-only has only itself to blame.
      if (code !== "READ_ONLY") this.#diskStatus ??= exitStatusOfError[code === "OUT_OF_RANGE" ? "DISK_SHORT" : "DISK_FAILED"];
      this.#warn(message);
    });
    if (this.#flags.recordBootTime !== undefined) this.#recordBootTime(this.#flags.recordBootTime);
  }

  #sink(target: SerialTarget): (bytes: Uint8Array) => void {
    if (target.kind === "none") return () => {};
    if (target.kind === "file") return this.#fileSink(target.path);
    const command = this.#command;
    if (command === undefined) return (bytes) => this.#print(this.#streams.stdout, bytes);
    return (bytes) => {
      if (this.#flags.verbose === true) this.#print(this.#streams.stderr, bytes);
      const output = command.push(bytes);
      if (output.length > 0) this.#print(this.#streams.stdout, output);
      if (command.hasBegun) this.#releaseInput();
      if (command.status !== undefined) this.#commandEnded(command.status);
    };
  }

  /** The machine waits for a slow reader. */
  #print(stream: OutputStream, bytes: Uint8Array): void {
    if (stream.write(bytes)) return;
    this.#vm.pause();
    stream.once("drain", () => this.#vm.run());
  }

  #fileSink(path: string): (bytes: Uint8Array) => void {
    const fail = (cause: unknown): UserError => {
      const reason = cause instanceof Error && "code" in cause ? String(cause.code) : "unknown error";
      return new UserError("FILE_NOT_WRITABLE", `The file ${path} cannot be written (${reason}): choose another place.`, { cause });
    };
    let file: number;
    try {
      file = openSync(path, "w");
    } catch (cause) {
      throw fail(cause);
    }
    this.#files.push(file);
    return (bytes) => {
      try {
        writeSync(file, bytes);
      } catch (cause) {
        this.#verdict.reject(fail(cause));
      }
    };
  }

  #warnings: Set<string> = new Set();

  #warn(message: string): void {
    if (this.#warnings.has(message)) return;
    this.#warnings.add(message);
    this.#streams.stderr.write(`ringmaster: ${message}${this.#terminal.isRaw ? "\r\n" : "\n"}`);
  }

  /** Keeps the end of the log for the message that may be needed, and sees when the guest takes input. */
  #watch(bytes: Uint8Array): void {
    if (this.#command === undefined && this.#early === undefined) return;
    this.#log = (this.#log + Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8")).slice(-16_384);
    if (this.#command === undefined) {
      if (userspacePattern.test(this.#log)) this.#releaseInput();
      return;
    }
    const panic = panicPattern.exec(this.#log)?.groups?.["reason"];
    if (panic !== undefined && !this.#command.hasBegun) {
      this.#verdict.resolve({ status: exitStatusOfError.GUEST_FAILED, message: `${this.#logTail()}ringmaster: The guest's kernel gave up: ${panic}\n` });
    }
  }

  #logTail(): string {
    if (this.#flags.verbose === true) return "";
    return `${this.#log.trimEnd().split(/\r?\n/u).slice(-logTailLines).join("\n")}\n`;
  }

  #recordBootTime(where: string | true): void {
    void this.#vm.boot().then(({ seconds, instructions, matched }) => {
      const line = `${JSON.stringify({
        seconds, instructions, processSeconds: performance.now() / 1000, accelerator: this.#vm.accelerator.name, marker: matched.trim(),
      })}\n`;
      if (where === true) this.#streams.stderr.write(line);
      else this.#fileSink(where)(Buffer.from(line));
    }).catch((error: unknown) => {
      // Only the output file can fail here in a way that nobody else tells of.
      if (error instanceof UserError && error.code === "FILE_NOT_WRITABLE") this.#warn(error.message);
    });
  }

  // --- input -------------------------------------------------------------------------------------------------------

  #input(bytes: Uint8Array): void {
    if (this.#early !== undefined) this.#early.push(bytes);
    else this.#vm.serial.write(bytes);
  }

  #releaseInput(): void {
    const early = this.#early ?? [];
    this.#early = undefined;
    for (const bytes of early) this.#input(bytes);
    this.#awaitQuiet();
  }

  #endInput(): void {
    this.#hasInputEnded = true;
    this.#awaitQuiet();
  }

  /**
   * A serial line has no end. A terminal's is Ctrl-D, which counts for whoever reads at that moment: it is sent whenever
   * the guest has nothing more to say, so that every reader sees that there is no more input.
   */
  #awaitQuiet(): void {
    if (!this.#hasInputEnded || !this.#isLinux || this.#early !== undefined) return;
    this.#quiet ??= setTimeout(() => {
      this.#quiet?.refresh();
      this.#vm.serial.write(Uint8Array.of(endOfTransmission));
    }, quietMs);
    this.#quiet.refresh();
  }

  #interrupt(): void {
    if (this.#early === undefined) this.#vm.serial.write(Uint8Array.of(interruptCharacter));
    this.#streams.stderr.write("ringmaster: Ctrl-C again within 2 seconds stops the machine\n");
  }

  // --- snapshots ---------------------------------------------------------------------------------------------------

  async #saveSnapshot(): Promise<void> {
    const { stderr } = this.#streams, lineEnd = this.#terminal.isRaw ? "\r\n" : "\n";
    const path = this.#flags.snapshotFile ?? newSnapshotPath();
    stderr.write(`${lineEnd}ringmaster: saving ${path} …${lineEnd}`);
    try {
      stderr.write(`ringmaster: ${describeSnapshot(await this.#vm.snapshot(path))}${lineEnd}`);
    } catch (error) {
      if (error instanceof UserError) stderr.write(`ringmaster: ${error.message}${lineEnd}`);
      else this.#verdict.reject(error);
    }
  }

  /** Of the first processor. */
  #showControlBlock(): void {
    const block = this.#vm.vmcs(), lineEnd = this.#terminal.isRaw ? "\r\n" : "\n";
    const text = block === undefined ? `ringmaster: ${this.#vm.hypervisor.absence ?? noControlBlock}\n` : formatControlBlock(block);
    this.#streams.stderr.write(`${lineEnd}${text.replaceAll("\n", lineEnd)}`);
  }

  // --- the end -----------------------------------------------------------------------------------------------------

  #commandEnded(status: number): void {
    const hasDisks = (this.#flags.disk ?? []).length > 0;
    if (!hasDisks) {
      this.#verdict.resolve({ status });
      return;
    }
    // The guest still writes back what its disks are owed.
    const timer = setTimeout(() => this.#verdict.resolve({ status }), powerOffGraceMs);
    void this.#vm.wait().then(() => clearTimeout(timer)).catch(() => {});
  }

  #judge(end: VmEnd): Verdict {
    const commandStatus = this.#command?.status;
    if (commandStatus !== undefined) return { status: commandStatus };
    if (this.#command === undefined && end.kind === "poweroff") return { status: 0 };
    if (this.#command === undefined && end.kind === "debug-exit") return { status: end.status & 0xff };
    const error = endError(end);
    const log = this.#command === undefined ? "" : this.#logTail();
    return { status: exitStatusOfError[error.code], message: `${log}ringmaster: ${error.message}\n` };
  }
}
