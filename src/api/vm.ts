/** A virtual machine for programs: create, boot, talk to its console, wait for its end. */
import { randomBytes } from "node:crypto";
import { UserError } from "../base/errors.ts";
import type { BootProtocol } from "../boot/contract.ts";
import { formatGenerationId, generationIdBytes } from "../devices/acpi/vm-generation-id/index.ts";
import { textLines } from "../devices/display/vga/index.ts";
import type { DiskFailure } from "../devices/disk/contract.ts";
import type { ControlBlock } from "../isa/virtualization.ts";
import { MachineRunner } from "../host/node/runner.ts";
import type { HostClock } from "../host/node/host-clock.ts";
import type { MachineEnd } from "../machine/config.ts";
import type { ExitReport } from "../machine/exit-account.ts";
import { Machine } from "../machine/machine.ts";
import { checkAcceleratorChoice, chooseAccelerator, type AcceleratorWishes, type ChosenAccelerator } from "./accelerator.ts";
import { CommandOutput } from "./command-output.ts";
import { ConsoleWatch, type Until } from "./console-watch.ts";
import { Events } from "./events.ts";
import type { AcceleratorChoice, JitChoice, VmOptions } from "./options.ts";
import { prepare } from "./prepare.ts";
import { cloneCount, restoredParts, type RestoreOptions } from "./restore.ts";
import { saveSnapshot, type SnapshotOptions, type SnapshotReport } from "./save.ts";
import { SerialPort } from "./serial-port.ts";
import { hypervisorUse, Trace, type HypervisorUse, type TraceOptions } from "./trace.ts";
import { closeParts, hostExitAccount, load, memoryBytes, newParts, type VmParts } from "./vm-parts.ts";

export type VmState = "created" | "running" | "paused" | "ended";

/** How a machine came to its end: by itself, or by us. */
export type VmEnd = MachineEnd | { readonly kind: "stopped" } | { readonly kind: "timeout"; readonly afterMs: number };

export interface VmEvents {
  readonly exit: VmEnd;
  readonly serial: { readonly port: number; readonly bytes: Uint8Array };
  readonly state: VmState;
  /** A disk of the host's failed; the guest has been told in its own way. */
  readonly disk: DiskFailure;
  /** Bytes from the debug console, where firmware writes its log. */
  readonly debug: Uint8Array;
}

/** What `boot` waited for. */
export interface BootReport {
  /** The text that matched. */
  readonly matched: string;
  /** The host's time from power-on. */
  readonly seconds: number;
  /** Instructions retired since power-on. */
  readonly instructions: number;
}

export interface CommandResult {
  readonly status: number;
  /** Standard output and standard error, as they came. */
  readonly output: string;
}

type BuildOptions = Pick<VmOptions, "accel" | "jit" | "timeoutMs">;

const commandChunkCharacters = 512;

/**
 * A virtual machine.
 *
 * ```ts
 * import { Vm } from "ringmaster";
 *
 * await using vm = await Vm.create({ guest: "cloud-6.1", memory: "512M" });
 * const { seconds } = await vm.boot({ until: "/ # " });
 * const { output } = await vm.exec("uname -sr");
 * console.log(`up after ${seconds} s: ${output}`);
 * ```
 */
export class Vm implements AsyncDisposable {
  /** COM1, where our guests have their console. */
  readonly serial: SerialPort;
  readonly serialPorts: readonly SerialPort[];
  readonly #machine: Machine;
  readonly #runner: MachineRunner;
  readonly #clock: HostClock;
  readonly #events: Events<VmEvents> = new Events();
  readonly #parts: VmParts;
  readonly #ended: PromiseWithResolvers<VmEnd> = Promise.withResolvers();
  readonly #timeoutMs: number | undefined;
  readonly #jit: JitChoice | undefined;
  #timeout: NodeJS.Timeout | undefined;
  #state: VmState = "created";
  #blockedPorts = 0;
  #isHeld = false;
  #accelerator: ChosenAccelerator;
  /** The snapshot that the machine's notes of written pages begin with. */
  #baseId: string | undefined;
  #debugBytes: number[] = [];
  #trace: Trace | undefined;

  private constructor(parts: VmParts, { accel, jit, timeoutMs }: BuildOptions) {
    const { accelerator, chosen } = chooseAccelerator(wishesOf(parts, jit, accel));
    this.#jit = jit;
    this.#accelerator = chosen;
    this.#parts = parts;
    this.#clock = parts.clock;
    this.#timeoutMs = timeoutMs;
    const { config } = parts;
    this.serialPorts = Array.from({ length: config.devices.serialPorts }, (_, port) => this.#createSerialPort(port));
    [this.serial] = this.serialPorts;
    this.#machine = new Machine({
      ...config,
      onSerial: (port, byte) => this.serialPorts[port].receive(byte),
      onSerialReady: (port) => this.serialPorts[port].feedMore(),
      onDebugConsole: (byte) => this.#debugBytes.push(byte),
      onDiskFailure: (failure) => this.#events.emit("disk", failure),
    }, accelerator, parts.saved?.machine);
    if (parts.saved !== undefined) {
      this.#startNotes(parts.saved.snapshot.manifest.id);
      if (parts.saved.isCopy) this.#machine.board.generationId?.change(randomBytes(generationIdBytes));
    }
    this.#runner = new MachineRunner(this.#machine, () => this.#flush());
    if (parts.kernel !== undefined) load(this.#machine, parts.kernel, config.devices.vga);
    this.#runner.ended.then((end) => this.#end(end), (error: unknown) => this.#fail(error));
    // Whoever waits hears of a failure; nobody else must be killed by it.
    this.#ended.promise.catch(() => {});
  }

  /**
   * Builds a machine; it stands still until `run` or `boot`.
   *
   * ```ts
   * await using vm = await Vm.create({
   *   kernel: "vmlinuz", initrd: "initrd.img", append: "console=ttyS0 root=/dev/vda1",
   *   disks: [{ path: "debian.img", overlay: true }], memory: "1G",
   * });
   * ```
   * @throws UserError with a `code` for anything that the caller can mend: files, sizes, combinations of options.
   */
  static async create(options: VmOptions): Promise<Vm> {
    chooseAccelerator(options);
    memoryBytes(options);
    const prepared = await prepare(options);
    return Vm.#build(newParts(options, prepared), options);
  }

  /**
   * Builds a machine that goes on from a snapshot; it stands still until `run`. Memory is read from the file when the
   * guest first touches it, so the file stays open. With `fork`, as many machines that know nothing of each other.
   *
   * ```ts
   * await using vm = await Vm.restore("debian.rmsnap");
   * const { output } = await vm.exec("uptime");
   * const clones = await Vm.restore("debian.rmsnap", { fork: 10 });
   * ```
   * @throws UserError FILE_NOT_FOUND, FILE_NOT_READABLE, BAD_SNAPSHOT, SNAPSHOT_NEWER; what `create` throws for disks.
   */
  static async restore(path: string, options: RestoreOptions & { readonly fork: number }): Promise<Vm[]>;
  static async restore(path: string, options?: RestoreOptions & { readonly fork?: undefined }): Promise<Vm>;
  static async restore(path: string, options: RestoreOptions = {}): Promise<Vm | Vm[]> {
    checkAcceleratorChoice(options.accel);
    if (options.fork === undefined) return Vm.#build(await restoredParts(path, options), options);
    const clones: Vm[] = [];
    try {
      for (let clone = 0; clone < cloneCount(options.fork); clone++) clones.push(Vm.#build(await restoredParts(path, options), options));
      return clones;
    } catch (error) {
      for (const clone of clones) await clone.stop();
      throw error;
    }
  }

  static #build(parts: VmParts, options: BuildOptions): Vm {
    try {
      return new Vm(parts, options);
    } catch (error) {
      closeParts(parts);
      throw error;
    }
  }

  /** What executes the guest's instructions, and why. */
  get accelerator(): ChosenAccelerator {
    return this.#accelerator;
  }

  get state(): VmState {
    return this.#state;
  }

  /** By which protocol the kernel was started; undefined for a machine that starts firmware. */
  get bootProtocol(): BootProtocol | undefined {
    return this.#machine.bootImage?.protocol ?? this.#parts.saved?.bootProtocol;
  }

  /** The machine's generation ID, a GUID: another one in every machine that goes on from a snapshot. */
  get generationId(): string | undefined {
    const device = this.#machine.board.generationId;
    return device === undefined ? undefined : formatGenerationId(device.state.id);
  }

  /** Instructions retired since power-on. */
  get retiredInstructions(): number {
    return this.#machine.retiredInstructions;
  }

  /**
   * What the guest was left for since exits are counted, by time; undefined when they are not.
   *
   * ```ts
   * vm.accountExits(true);
   * for (const { reason, place, device, count, totalNs } of vm.exits()?.lines ?? []) console.log(reason, place, device, count, totalNs);
   * ```
   */
  exits(): ExitReport | undefined {
    return this.#machine.exits();
  }

  /** Begins to count exits, as the option `accountExits` does from the start, or ends that; a running machine goes on meanwhile. */
  accountExits(isOn: boolean): void {
    if (isOn !== (this.exits() !== undefined)) this.#machine.accountExits(isOn ? hostExitAccount() : undefined);
  }

  /**
   * Records every entry and exit of the guest's own hypervisor from now on, until `stop`.
   *
   * ```ts
   * const trace = vm.trace({ kind: "exit", minimumDurationNs: 10_000 });
   * await vm.exec("/virt/kvm-client");
   * for (const { level, reason, count, totalNs } of trace.stop().lines) console.log(level, reason, count, totalNs);
   * ```
   * @throws UserError BAD_ARGUMENT while another trace of this machine is being recorded.
   */
  trace(options: TraceOptions = {}): Trace {
    if (this.#trace?.isRecording === true) throw new UserError("BAD_ARGUMENT", "A trace of this machine is being recorded already: stop it first.");
    this.#trace = new Trace(this.#machine, options);
    return this.#trace;
  }

  /**
   * The VMCB or VMCS that is current on a processor, field by field, with the checks that an entry with it would fail;
   * undefined while the guest uses no virtualization, see `hypervisor`.
   *
   * ```ts
   * for (const { name, value, meaning } of vm.vmcs()?.fields ?? []) console.log(name, value.toString(16), meaning ?? "");
   * ```
   * @throws UserError BAD_ARGUMENT when there is no such processor.
   */
  vmcs(processor: number = 0): ControlBlock | undefined {
    const found = this.#machine.processors.at(processor);
    if (found === undefined || processor < 0) throw new UserError("BAD_ARGUMENT", `There is no processor ${processor}: the machine has ${this.#machine.processors.length}, counted from 0.`);
    return found.virtualization?.controlBlock();
  }

  /** Whether the guest uses hardware-assisted virtualization itself, and if not, why. */
  get hypervisor(): HypervisorUse {
    return hypervisorUse(this.#machine);
  }

  /** Seconds that the machine has been running, pauses excluded. */
  get uptimeSeconds(): number {
    return this.#clock.nowNs() / 1e9;
  }

  /**
   * Calls `listener` at every event of a kind; returns what ends that.
   *
   * ```ts
   * const off = vm.on("serial", ({ bytes }) => process.stdout.write(bytes));
   * vm.on("exit", (end) => console.log(end.kind));
   * ```
   */
  on<Name extends keyof VmEvents>(name: Name, listener: (event: VmEvents[Name]) => void): () => void {
    return this.#events.on(name, listener);
  }

  /** Starts the machine, or lets it go on after `pause`. */
  run(): void {
    if (this.#state === "ended" || this.#state === "running") return;
    if (this.#state === "created") this.#startTimeout();
    this.#setState("running");
    this.#resume();
  }

  /** Holds the machine; its time stands still. */
  pause(): void {
    if (this.#state !== "running") return;
    this.#runner.pause();
    this.#clock.pause();
    this.#flush();
    this.#setState("paused");
  }

  /**
   * Saves the machine into a file, from which `Vm.restore` makes machines that go on from this moment. The machine is
   * held meanwhile. The file appears when it is complete; until then, and after any failure, an older one of the same
   * name stays as it was.
   *
   * ```ts
   * const { fileBytes, seconds } = await vm.snapshot("debian.rmsnap");
   * await vm.snapshot("later.rmsnap", { parent: "debian.rmsnap" });   // only what has changed
   * ```
   * @throws UserError FILE_NOT_WRITABLE; BAD_ARGUMENT for a machine that has ended; SNAPSHOT_IMPOSSIBLE while the guest runs
   * a hypervisor of its own; what `restore` throws for `parent`;
   * ABORTED by `signal`.
   */
  async snapshot(path: string, options: SnapshotOptions = {}): Promise<SnapshotReport> {
    if (this.#state === "ended") throw new UserError("BAD_ARGUMENT", "The machine has ended: there is nothing to go on from.");
    if (this.#isHeld) throw new UserError("BAD_ARGUMENT", "A snapshot of this machine is being saved already: wait for it.");
    this.#hold();
    try {
      const report = await saveSnapshot(path, {
        machine: this.#machine, parts: this.#parts, accelerator: this.accelerator.name, bootProtocol: this.bootProtocol, baseId: this.#baseId,
      }, options);
      this.#startNotes(report.id);
      return report;
    } finally {
      this.#release();
    }
  }

  /** The next snapshot that is based on this one needs to look at written pages only. */
  #startNotes(snapshotId: string): void {
    this.#baseId = snapshotId;
    this.#machine.noteWrites();
  }

  /**
   * Goes on with another accelerator, between two instructions, so that a guest can run fast to the interesting place
   * and be looked at closely from there.
   *
   * ```ts
   * vm.switchAccelerator("soft");
   * ```
   * @throws UserError ACCELERATOR_UNAVAILABLE, BAD_CONFIG, BAD_MEMORY_SIZE, SNAPSHOT_IMPOSSIBLE, and the machine goes on as it was; BAD_ARGUMENT
   * for a machine that has ended or is being saved.
   */
  switchAccelerator(choice: AcceleratorChoice): ChosenAccelerator {
    if (this.#state === "ended") throw new UserError("BAD_ARGUMENT", "The machine has ended: nothing executes it any more.");
    if (this.#isHeld) throw new UserError("BAD_ARGUMENT", "A snapshot of this machine is being saved: wait for it.");
    const { accelerator, chosen } = chooseAccelerator(wishesOf(this.#parts, this.#jit, choice));
    this.#hold();
    try {
      this.#machine.switchAccelerator(accelerator);
      this.#accelerator = chosen;
    } finally {
      this.#release();
    }
    return chosen;
  }

  /** How the machine ended. Rejects only when something in Ringmaster itself broke. */
  wait(): Promise<VmEnd> {
    return this.#ended.promise;
  }

  /**
   * Runs the machine until the console shows `until`: a text, a pattern, or "userspace" (the default), which is when a
   * Linux kernel starts its first program. The machine runs on afterwards.
   *
   * ```ts
   * const report = await vm.boot({ until: /login: $/, signal: AbortSignal.timeout(60_000) });
   * ```
   * @throws UserError ABORTED by `signal`, TIMEOUT, TRIPLE_FAULT, GUEST_RESET or GUEST_FAILED when the machine ended first.
   */
  async boot(options: { readonly until?: Until; readonly signal?: AbortSignal } = {}): Promise<BootReport> {
    const { until = "userspace", signal } = options;
    const watch = new ConsoleWatch(until);
    return this.#whileRunning(signal, (resolve) => this.on("serial", ({ port, bytes }) => {
      if (port !== 0) return;
      const matched = watch.push(bytes);
      if (matched !== undefined) resolve({ matched, seconds: this.uptimeSeconds, instructions: this.retiredInstructions });
    }));
  }

  /**
   * Runs a command in the shell that the console shows, and returns when it has ended. For guests with a POSIX shell,
   * `base64` and `printf`, as ours are, whose prompt has been waited for.
   *
   * ```ts
   * const { status, output } = await vm.exec("cat /proc/cpuinfo");
   * ```
   * @throws UserError as `boot` does.
   */
  async exec(command: string, options: { readonly signal?: AbortSignal } = {}): Promise<CommandResult> {
    const output = new CommandOutput();
    const parts: Uint8Array[] = [];
    const result = this.#whileRunning<CommandResult>(options.signal, (resolve) => this.on("serial", ({ port, bytes }) => {
      if (port !== 0) return;
      parts.push(output.push(bytes));
      // The line discipline puts a carriage return before every line feed.
      if (output.status !== undefined) resolve({ status: output.status, output: Buffer.concat(parts).toString("utf8").replaceAll("\r\n", "\n") });
    }));
    // Quoting is no concern to base64, and short lines pass every line editor.
    const encoded = Buffer.from(command).toString("base64");
    this.serial.write("rm_command=\n");
    for (let at = 0; at < encoded.length; at += commandChunkCharacters) {
      this.serial.write(`rm_command=\${rm_command}${encoded.slice(at, at + commandChunkCharacters)}\n`);
    }
    this.serial.write(`printf '\\033]ringmaster;begin\\007'; sh -c "$(echo $rm_command | base64 -d)"; printf '\\033]ringmaster;exit=%d\\007' $?\n`);
    return result;
  }

  /** The lines of the VGA screen, without trailing blanks; undefined without a display or in a graphics mode. */
  screenText(): string[] | undefined {
    const screen = this.#machine.board.vga?.textScreen();
    return screen === undefined ? undefined : textLines(screen);
  }

  /** Ends the machine as if its plug were pulled; completed writes to disks are kept. */
  async stop(): Promise<void> {
    this.#end({ kind: "stopped" });
    await this.#ended.promise.catch(() => {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  // --- holding -----------------------------------------------------------------------------------------------------

  #resume(): void {
    if (this.#isHeld || this.#blockedPorts > 0 || this.#state !== "running") return;
    this.#clock.resume();
    this.#machine.timeChanged();
    this.#runner.resume();
  }

  /** Stands still without anybody being told; `run` takes effect when it is released. */
  #hold(): void {
    this.#isHeld = true;
    this.#runner.pause();
    this.#clock.pause();
    this.#flush();
  }

  #release(): void {
    this.#isHeld = false;
    this.#resume();
  }

  // --- lifecycle ---------------------------------------------------------------------------------------------------

  #setState(state: VmState): void {
    this.#state = state;
    this.#events.emit("state", state);
  }

  #startTimeout(): void {
    const afterMs = this.#timeoutMs;
    if (afterMs !== undefined) this.#timeout = setTimeout(() => this.#end({ kind: "timeout", afterMs }), afterMs);
  }

  #end(end: VmEnd): void {
    if (this.#state === "ended") return;
    this.#shutDown();
    this.#ended.resolve(end);
    this.#events.emit("exit", end);
  }

  #fail(error: unknown): void {
    if (this.#state === "ended") return;
    this.#shutDown();
    this.#ended.reject(error);
  }

  #shutDown(): void {
    clearTimeout(this.#timeout);
    this.#runner.pause();
    this.#clock.pause();
    this.#flush();
    for (const port of this.serialPorts) port.close();
    this.#machine.close();
    for (const failure of closeParts(this.#parts)) this.#events.emit("disk", failure);
    this.#setState("ended");
  }

  #createSerialPort(port: number): SerialPort {
    return new SerialPort({
      feed: (bytes) => {
        const count = this.#machine.board.feedSerial(port, bytes);
        this.#runner.wake();
        return count;
      },
      received: (bytes) => this.#events.emit("serial", { port, bytes }),
      setBlocked: (isBlocked) => {
        this.#blockedPorts += isBlocked ? 1 : -1;
        if (this.#state !== "running") return;
        if (this.#blockedPorts > 0) this.#runner.pause();
        else this.#resume();
      },
    });
  }

  #flush(): void {
    for (const port of this.serialPorts) port.flush();
    if (this.#debugBytes.length === 0) return;
    const bytes = Uint8Array.from(this.#debugBytes);
    this.#debugBytes = [];
    this.#events.emit("debug", bytes);
  }

  /** Runs the machine until `listen` has its result; the machine's end or `signal` make that an error. */
  async #whileRunning<Result>(signal: AbortSignal | undefined, listen: (resolve: (result: Result) => void) => () => void): Promise<Result> {
    const { promise, resolve, reject } = Promise.withResolvers<Result>();
    const abort = (): void => reject(new UserError("ABORTED", "Waiting for the guest was aborted.", { cause: signal?.reason }));
    const off = listen(resolve);
    if (signal?.aborted === true) abort();
    signal?.addEventListener("abort", abort);
    this.#ended.promise.then((end) => reject(endError(end)), reject);
    try {
      this.run();
      return await promise;
    } finally {
      off();
      signal?.removeEventListener("abort", abort);
    }
  }
}

/** What a machine needs of an accelerator. */
function wishesOf({ config }: VmParts, jit: JitChoice | undefined, accel: AcceleratorChoice = "auto"): AcceleratorWishes {
  return { accel, cpu: config.cpu, deterministic: config.clock.mode === "deterministic", ...(jit === undefined ? {} : { jit }) };
}

/** The error for a machine that ended while something was expected of it. */
export function endError(end: VmEnd): UserError {
  switch (end.kind) {
    case "timeout":
      return new UserError("TIMEOUT", `The machine did not end within ${end.afterMs / 1000} s and was stopped: allow it more time, or look at what it is doing.`);
    case "triple-fault":
      return new UserError("TRIPLE_FAULT", `The guest's processor shut down by a triple fault: the guest could not handle an exception, which is mostly a bug in it, or a kernel that is not made for this machine. What happened: ${end.cause}.`);
    case "reset":
      return new UserError("GUEST_RESET", "The guest reset the machine, which started from a kernel and has no firmware to start again with: run it once more.");
    case "stopped":
      return new UserError("ABORTED", "The machine was stopped.");
    case "poweroff":
      return new UserError("GUEST_FAILED", "The guest switched the machine off before it came to what was waited for.");
    case "accelerator-failure":
      return new UserError("GUEST_FAILED", `The guest cannot go on here: ${end.reason}. Try --accel soft.`);
    case "debug-exit":
      return new UserError("GUEST_FAILED", `The guest ended by itself, with status ${end.status}, before it came to what was waited for.`);
  }
}
