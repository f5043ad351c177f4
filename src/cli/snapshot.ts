/** `ringmaster snapshot`: save a machine, go on from what was saved, and see what is in it. */
import { resolve } from "node:path";
import { chooseAccelerator, compareSnapshots, inspectSnapshot, listSnapshots, type SnapshotReport, UserError, Vm } from "../api/index.ts";
import { parseDuration } from "../api/sizes.ts";
import type { AcceleratorChoice, ChosenAccelerator, RestoreOptions } from "../api/index.ts";
import { ask } from "../host/node/control-socket.ts";
import { printProgress } from "../host/node/guests/print-progress.ts";
import { exitReportFormat, orInterrupted, serveControl, Session } from "./run.ts";
import { serialTargets, vmOptions, type RunFlags } from "./run-flags.ts";
import { describeSnapshot, formatDifference, formatList, formatSnapshot } from "./snapshot-report.ts";
import { drained, type OutputStream, type Streams } from "./streams.ts";

/** As commander delivers them. */
export interface CreateFlags extends RunFlags {
  readonly of?: string;
  readonly until?: string;
  readonly parent?: string;
}

export interface RestoreFlags {
  readonly accel?: string;
  readonly fork?: string;
  readonly command?: string;
  readonly disk?: readonly string[];
  readonly exitReport?: string;
  readonly keepGenerationId?: boolean;
  readonly name?: string;
  readonly serial?: readonly string[];
  readonly snapshotFile?: string;
  readonly timeout?: string;
  readonly verbose?: boolean;
}

function badArgument(message: string): UserError {
  return new UserError("BAD_ARGUMENT", message);
}

function tellAccelerator({ name, reason }: ChosenAccelerator, stderr: OutputStream): void {
  stderr.write(`ringmaster: accelerator: ${name} (${reason})\n`);
}

/** Saves a running machine by its name, or one that is started for it. */
export async function createSnapshot(path: string, guest: string | undefined, flags: CreateFlags, streams: Streams): Promise<number> {
  const { of, until, parent } = flags;
  if ((of === undefined) === (until === undefined)) {
    throw badArgument("A snapshot is one of a running machine (--of NAME, which was started with: ringmaster run --name NAME), or of one that is started for it (--until TEXT: when its console shows this).");
  }
  const report = of === undefined ? await bootAndSave(path, guest, flags, streams) : await ask(of, {
    verb: "snapshot", path: resolve(path), ...(parent === undefined ? {} : { parent: resolve(parent) }),
  }) as unknown as SnapshotReport;
  streams.stderr.write(`ringmaster: ${describeSnapshot({ ...report, path })}\n`);
  return 0;
}

async function bootAndSave(path: string, guest: string | undefined, flags: CreateFlags, { stderr }: Streams): Promise<SnapshotReport> {
  const options = vmOptions(guest, flags);
  tellAccelerator(chooseAccelerator(options).chosen, stderr);
  await using vm = await orInterrupted(Vm.create({ ...options, onProgress: printProgress(stderr) }));
  if (flags.verbose === true) vm.on("serial", ({ port, bytes }) => void (port === 0 && stderr.write(bytes)));
  const { seconds } = await orInterrupted(vm.boot({ until: flags.until ?? "" }));
  stderr.write(`ringmaster: the console shows ${JSON.stringify(flags.until)} after ${seconds.toFixed(1)} s\n`);
  return await orInterrupted(vm.snapshot(path, flags.parent === undefined ? {} : { parent: flags.parent }));
}

/** A machine with the terminal, or clones that each run a command. */
export async function restoreSnapshot(path: string, flags: RestoreFlags, streams: Streams): Promise<number> {
  const options: Omit<RestoreOptions, "fork"> = {
    ...(flags.accel === undefined ? {} : { accel: flags.accel as AcceleratorChoice }),
    ...(flags.disk === undefined ? {} : { disks: flags.disk }),
    ...(flags.keepGenerationId === undefined ? {} : { keepGenerationId: flags.keepGenerationId }),
    ...(flags.timeout === undefined ? {} : { timeoutMs: parseDuration(flags.timeout) }),
  };
  const targets = serialTargets(flags);
  if (flags.fork !== undefined) return await runClones(path, { ...options, fork: parseCount(flags.fork) }, flags, streams);
  const isAccounted = exitReportFormat(flags) !== undefined;
  if (isAccounted && flags.command !== undefined) throw badArgument("--exit-report is for a machine with the terminal: leave out --command.");
  await using vm = await Vm.restore(path, options);
  vm.accountExits(isAccounted);
  tellAccelerator(vm.accelerator, streams.stderr);
  if (flags.command !== undefined) return await runCommand(vm, flags.command, flags, streams);
  using session = new Session(vm, { ...flags, ...(flags.serial === undefined ? {} : { serial: flags.serial }) }, targets, streams, { isRestored: true });
  using _ = await serveControl(vm, flags.name);
  return await session.run();
}

function parseCount(text: string): number {
  const count = Number(text);
  if (text.trim() === "" || !Number.isInteger(count)) throw badArgument(`--fork ${text}: give a number of clones`);
  return count;
}

async function runCommand(vm: Vm, command: string, { verbose }: RestoreFlags, { stdout, stderr }: Streams): Promise<number> {
  if (verbose === true) vm.on("serial", ({ port, bytes }) => void (port === 0 && stderr.write(bytes)));
  const { status, output } = await orInterrupted(vm.exec(command));
  stdout.write(output);
  return status;
}

/** All at once, each on its own; their outputs come one after the other, the status is the highest. */
async function runClones(path: string, options: RestoreOptions & { readonly fork: number }, flags: RestoreFlags, { stdout, stderr }: Streams): Promise<number> {
  const { command } = flags;
  if (command === undefined) throw badArgument("Clones share one terminal and need something to do each: give --command.");
  const clones = await Vm.restore(path, options);
  tellAccelerator(clones[0].accelerator, stderr);
  try {
    const results = clones.map((vm) => vm.exec(command));
    let highest = 0;
    for (const [index, result] of results.entries()) {
      const { status, output } = await orInterrupted(result);
      stderr.write(`ringmaster: clone ${index + 1} of ${clones.length}, generation ${clones[index].generationId ?? "unknown"}, status ${status}\n`);
      stdout.write(output);
      highest = Math.max(highest, status);
    }
    return highest;
  } finally {
    for (const clone of clones) await clone.stop();
  }
}

interface Printed {
  readonly json?: boolean;
}

async function print(streams: Streams, { json }: Printed, value: unknown, text: () => string): Promise<void> {
  streams.stdout.write(json === true ? `${JSON.stringify(value, (_, found: unknown) => typeof found === "bigint" ? `0x${found.toString(16)}` : found, 2)}\n` : text());
  await drained(streams.stdout);
}

/** Those of a directory. Files that cannot be used are named, and change the exit status of nobody. */
export async function printSnapshots(directory: string, flags: Printed, streams: Streams): Promise<void> {
  const { snapshots, unusable } = listSnapshots(directory);
  for (const { message } of unusable) streams.stderr.write(`ringmaster: ${message}\n`);
  // States are for those who look at one.
  const rows = snapshots.map((info) => ({ ...info, components: undefined }));
  await print(streams, flags, rows, () => snapshots.length === 0 ? "" : formatList(snapshots));
}

export async function printSnapshot(path: string, flags: Printed & { readonly verify?: boolean }, streams: Streams): Promise<void> {
  const info = inspectSnapshot(path, flags);
  await print(streams, flags, info, () => formatSnapshot(info));
  if (flags.verify === true) streams.stderr.write("ringmaster: all of it is sound\n");
}

/** The exit status is 1 when there is a difference, as diff(1) has it. */
export async function printDifference(left: string, right: string, flags: Printed, streams: Streams): Promise<number> {
  const difference = compareSnapshots(left, right);
  await print(streams, flags, difference, () => formatDifference(difference));
  const { machine, states, regions } = difference;
  return machine.length + states.length + regions.length === 0 ? 0 : 1;
}
