/** The flags of `ringmaster run`, and what they mean for the machine. */
import type { DiskOptions, ModuleOptions, VmOptions } from "../api/index.ts";
import { parseDuration } from "../api/sizes.ts";
import { UserError } from "../base/errors.ts";

/** As commander delivers them. */
export interface RunFlags {
  readonly kernel?: string;
  readonly initrd?: string;
  readonly append?: string;
  readonly module?: readonly string[];
  readonly firmware?: string;
  readonly disk?: readonly string[];
  readonly cdrom?: string;
  readonly memory?: string;
  readonly cpu?: string;
  readonly accel?: string;
  readonly jit?: string;
  readonly profile?: string;
  readonly exitReport?: string;
  readonly symbols?: string;
  readonly serial?: readonly string[];
  readonly command?: string;
  readonly timeout?: string;
  readonly vga?: boolean;
  readonly debugExit?: string;
  readonly debugConsole?: string;
  readonly deterministic?: boolean;
  readonly recordBootTime?: string | true;
  readonly verbose?: boolean;
  readonly name?: string;
  readonly snapshotFile?: string;
}

/** Where a serial port's output goes. */
export type SerialTarget = { readonly kind: "stdio" } | { readonly kind: "none" } | { readonly kind: "file"; readonly path: string };

const defaultGuest = "cloud-6.1";

function badArgument(message: string): UserError {
  return new UserError("BAD_ARGUMENT", message);
}

/** `path[,readonly][,overlay][,serial=text]`. */
export function parseDisk(text: string): DiskOptions {
  const [path, ...words] = text.split(",");
  if (path === "") throw badArgument(`--disk ${text}: the path of the image comes first`);
  let disk: DiskOptions = { path };
  for (const word of words) {
    if (word === "readonly" || word === "ro") disk = { ...disk, readOnly: true };
    else if (word === "overlay") disk = { ...disk, overlay: true };
    else if (word.startsWith("serial=")) disk = { ...disk, serial: word.slice("serial=".length) };
    else throw badArgument(`--disk ${text}: there is no disk option "${word}"; there are readonly, overlay and serial=<text>`);
  }
  return disk;
}

/** `path[,command line]`. */
export function parseModule(text: string): ModuleOptions {
  const comma = text.indexOf(",");
  return comma < 0 ? { file: text } : { file: text.slice(0, comma), commandLine: text.slice(comma + 1) };
}

export function parseSerial(text: string): SerialTarget {
  if (text === "stdio" || text === "none") return { kind: text };
  if (text.startsWith("file:") && text.length > "file:".length) return { kind: "file", path: text.slice("file:".length) };
  throw badArgument(`--serial ${text}: use stdio, none or file:<path>`);
}

function parsePort(text: string): number | false {
  if (text === "none") return false;
  const port = Number(text);
  if (text.trim() === "" || !Number.isInteger(port) || port < 0 || port > 0xffff) throw badArgument(`--debug-exit ${text}: give a port number from 0 to 0xffff, or none`);
  return port;
}

/** Where each serial port goes; the terminal is COM1's where nothing is said. */
export function serialTargets(flags: RunFlags): SerialTarget[] {
  const targets = (flags.serial ?? ["stdio"]).map(parseSerial);
  if (targets.filter(({ kind }) => kind === "stdio").length > 1) throw badArgument("--serial stdio can be given once: there is one terminal");
  return targets;
}

/** A profile wants names. */
function jitOption({ jit, profile }: RunFlags): Pick<VmOptions, "jit"> {
  const chosen = jit ?? (profile === undefined ? undefined : "named");
  return chosen === undefined ? {} : { jit: chosen as NonNullable<VmOptions["jit"]> };
}

/** @throws UserError BAD_ARGUMENT. */
export function vmOptions(guest: string | undefined, flags: RunFlags): VmOptions {
  if (flags.symbols !== undefined && flags.profile === undefined) throw badArgument("--symbols names the code in a profile: give --profile <file>, too");
  const bootsSomethingElse = flags.kernel !== undefined || flags.firmware !== undefined || flags.disk !== undefined || flags.cdrom !== undefined;
  const isFromDisk = flags.kernel === undefined && bootsSomethingElse;
  // With a command or a command line, disks are along for the ride: the kernel is ours.
  const chosen = guest ?? (!bootsSomethingElse || (isFromDisk && flags.firmware === undefined && (flags.command ?? flags.append) !== undefined) ? defaultGuest : undefined);
  return {
    ...(chosen === undefined ? {} : { guest: chosen as NonNullable<VmOptions["guest"]> }),
    ...(flags.kernel === undefined ? {} : { kernel: flags.kernel }),
    ...(flags.initrd === undefined ? {} : { initrd: flags.initrd }),
    ...(flags.append === undefined ? {} : { append: flags.append }),
    ...(flags.module === undefined ? {} : { modules: flags.module.map(parseModule) }),
    ...(flags.firmware === undefined ? {} : { firmware: flags.firmware }),
    ...(flags.disk === undefined ? {} : { disks: flags.disk.map(parseDisk) }),
    ...(flags.cdrom === undefined ? {} : { cdrom: flags.cdrom }),
    ...(flags.memory === undefined ? {} : { memory: flags.memory }),
    ...(flags.cpu === undefined ? {} : { cpu: flags.cpu }),
    ...(flags.accel === undefined ? {} : { accel: flags.accel as NonNullable<VmOptions["accel"]> }),
    ...jitOption(flags),
    ...(flags.command === undefined ? {} : { command: flags.command }),
    ...(flags.timeout === undefined ? {} : { timeoutMs: parseDuration(flags.timeout) }),
    ...(flags.vga === undefined ? {} : { vga: flags.vga }),
    ...(flags.debugExit === undefined ? {} : { debugExitPort: parsePort(flags.debugExit) }),
    ...(flags.deterministic === undefined ? {} : { deterministic: flags.deterministic }),
  };
}
