/** Turns what a caller asked for into bytes and open disks: fetches guests, reads files, builds the command line. */
import { UserError } from "../base/errors.ts";
import { isBzImage } from "../boot/bzimage.ts";
import type { BootModule } from "../boot/contract.ts";
import { OverlayDisk } from "../devices/disk/overlay-disk.ts";
import { checkDiskClaims } from "../host/node/disk-claims.ts";
import { readUserFile } from "../host/node/files.ts";
import { commandInitramfs, commandKernelArgument, ensureGuests, guestNames, type XenGuest } from "../host/node/guests/index.ts";
import { openRawDisk, type RawDisk } from "../host/node/raw-disk.ts";
import type { FirmwareConfig } from "../machine/config.ts";
import type { DiskOptions, FileSource, VmOptions } from "./options.ts";

/** A kernel with what it gets along. */
export interface PreparedKernel {
  /** For messages. */
  readonly name: string;
  readonly kernel: Uint8Array;
  readonly initrd: Uint8Array | undefined;
  readonly modules: readonly BootModule[];
  readonly commandLine: string;
}

/** A disk image, and the overlay that takes what the guest writes. */
export interface AttachedDisk {
  readonly file: RawDisk;
  readonly overlay: OverlayDisk | undefined;
  readonly serial: string | undefined;
}

export interface Prepared {
  readonly kernel: PreparedKernel | undefined;
  readonly firmware: FirmwareConfig | undefined;
  readonly disks: readonly AttachedDisk[];
  readonly cdrom: RawDisk | undefined;
  /** To be closed at the end, in this order. */
  readonly openFiles: readonly RawDisk[];
  readonly hasVga: boolean;
}

/** What a guest's name stands for. */
type ResolvedOptions = Omit<VmOptions, "guest">;

const serialConsole = "console=ttyS0";
const cpioAlignment = 4;
/** The rest of the memory is for Xen's guests. */
const xenCommandLine = "console=com1 com1=115200,8n1 loglvl=info dom0_mem=256M,max:256M";
const dom0CommandLine = "console=hvc0";

function badArgument(message: string): UserError {
  return new UserError("BAD_ARGUMENT", message);
}

function read(source: FileSource, what: string): Uint8Array {
  return typeof source === "string" ? readUserFile(source, what) : source;
}

async function resolveGuest(options: VmOptions): Promise<ResolvedOptions> {
  const { guest, ...rest } = options;
  if (guest === undefined) return rest;
  if (options.kernel !== undefined || options.firmware !== undefined) throw badArgument("A guest brings its own kernel or firmware: give either the guest's name, or a kernel or firmware.");
  const isFirmware = (["seabios", "ovmf"] as readonly string[]).includes(guest);
  if (!guestNames.includes(guest) || isFirmware) {
    const names = guestNames.filter((name) => name !== "seabios" && name !== "ovmf");
    throw badArgument(`There is no guest "${guest}": choose one of ${names.join(", ")}.`);
  }
  const fetch = options.onProgress === undefined ? {} : { onProgress: options.onProgress };
  switch (guest) {
    case "memtest86+": {
      const paths = await ensureGuests([guest], fetch);
      return { append: `${serialConsole},115200`, vga: true, ...rest, kernel: paths[guest].kernel };
    }
    case "disk-bios":
    case "disk-efi": {
      const paths = await ensureGuests([guest], fetch);
      const disk: DiskOptions = { path: paths[guest].image, overlay: true };
      return { ...rest, firmware: guest === "disk-bios" ? "seabios" : "ovmf", disks: [disk, ...options.disks ?? []] };
    }
    case "xen-4.17": {
      const paths = await ensureGuests([guest], fetch);
      return xenOptions(paths[guest], rest);
    }
    default: {
      const paths = await ensureGuests([guest], fetch);
      const { kernel, initramfs } = paths[guest];
      const append = options.append?.includes("console=") === true ? options.append : `${serialConsole} ${options.append ?? ""}`.trim();
      return { initrd: initramfs, ...rest, kernel, append };
    }
  }
}

/** A command and an initial RAM file system are dom0's; `append` is the hypervisor's. */
function xenOptions({ hypervisor, kernel, initramfs }: XenGuest, options: ResolvedOptions): ResolvedOptions {
  const { command, append, modules = [], initrd: given = initramfs, ...rest } = options;
  const plain = read(given, "initrd");
  const initrd = command === undefined ? plain : appendArchive(plain, commandInitramfs(command));
  return {
    ...rest, kernel: hypervisor, append: append ?? xenCommandLine,
    modules: [{ file: kernel, commandLine: dom0CommandLine }, { file: initrd }, ...modules],
  };
}

async function loadFirmware(source: FileSource, onProgress: VmOptions["onProgress"]): Promise<FirmwareConfig> {
  const fetch = onProgress === undefined ? {} : { onProgress };
  if (source === "seabios") {
    const { seabios } = await ensureGuests(["seabios"], fetch);
    return { image: readUserFile(seabios.firmware, "firmware"), vgaBios: readUserFile(seabios.vgaBios, "VGA BIOS") };
  }
  if (source === "ovmf") {
    const { ovmf } = await ensureGuests(["ovmf"], fetch);
    return { image: Buffer.concat([readUserFile(ovmf.variables, "firmware variables"), readUserFile(ovmf.code, "firmware")]) };
  }
  const image = read(source, "firmware");
  if (image.length === 0) throw new UserError("BAD_IMAGE", "The firmware file is empty: name a flash image, seabios or ovmf.");
  return { image };
}

async function openDisk(options: DiskOptions, openFiles: RawDisk[]): Promise<AttachedDisk> {
  const file = openRawDisk(options.path, { readOnly: options.readOnly === true || options.overlay === true });
  openFiles.push(file);
  await checkDiskClaims(options.path, file);
  const overlay = options.overlay === true && options.readOnly !== true ? new OverlayDisk(file) : undefined;
  return { file, overlay, serial: options.serial };
}

/** Archives of an initial RAM file system follow each other at multiples of 4 bytes (Linux: Documentation/driver-api/early-userspace/buffer-format.rst). */
function appendArchive(initrd: Uint8Array, archive: Uint8Array): Uint8Array {
  const start = Math.ceil(initrd.length / cpioAlignment) * cpioAlignment;
  const bytes = new Uint8Array(start + archive.length);
  bytes.set(initrd);
  bytes.set(archive, start);
  return bytes;
}

function prepareKernel(options: ResolvedOptions, source: FileSource): PreparedKernel {
  const kernel = read(source, "kernel");
  const isLinux = isBzImage(kernel);
  const words = [options.append ?? (isLinux ? serialConsole : "")];
  if (isLinux && options.consoleSize !== undefined) words.push(`rm.rows=${options.consoleSize.rows}`, `rm.columns=${options.consoleSize.columns}`);
  let initrd = options.initrd === undefined ? undefined : read(options.initrd, "initrd");
  if (options.command !== undefined) {
    if (!isLinux) throw badArgument("A command needs a Linux kernel with an initial RAM file system or disk of ours: leave the kernel away, or the command.");
    // A disk's own /sbin/init knows of nothing but the kernel's command line.
    if (initrd === undefined || /(?:^|\s)root=/u.test(words[0])) words.push(commandKernelArgument(options.command));
    else initrd = appendArchive(initrd, commandInitramfs(options.command));
  }
  const modules = (options.modules ?? []).map(({ file, commandLine }) => ({ bytes: read(file, "module"), commandLine: commandLine ?? "" }));
  return {
    name: typeof source === "string" ? source : "the kernel",
    kernel, initrd, modules, commandLine: words.filter((word) => word !== "").join(" "),
  };
}

function checkCombination(options: VmOptions): void {
  const { kernel, firmware, guest, disks = [], cdrom } = options;
  if (kernel !== undefined && firmware !== undefined) throw badArgument("A machine starts either a kernel or firmware: give one of them.");
  if (kernel === undefined && guest === undefined) {
    for (const [name, value] of Object.entries({ initrd: options.initrd, append: options.append, command: options.command, modules: options.modules })) {
      if (value !== undefined) throw badArgument(`The option "${name}" belongs to a kernel, and none is given.`);
    }
    if (firmware === undefined && disks.length === 0 && cdrom === undefined) throw badArgument("There is nothing to boot: give a guest, a kernel, firmware, a disk or a CD-ROM.");
  }
  if (options.command !== undefined && (guest === "disk-bios" || guest === "disk-efi" || guest === "memtest86+")) throw badArgument(`The guest ${guest} runs no commands: use cloud-6.1, for one.`);
}

/**
 * Everything that is read or fetched before a machine can be built.
 * @throws UserError for files, disks and combinations that do not work; nothing stays open then.
 */
export async function prepare(options: VmOptions): Promise<Prepared> {
  checkCombination(options);
  const resolved = await resolveGuest(options);
  const firmwareSource = resolved.firmware ?? (resolved.kernel === undefined ? "seabios" : undefined);
  const openFiles: RawDisk[] = [];
  try {
    const disks: AttachedDisk[] = [];
    for (const disk of resolved.disks ?? []) disks.push(await openDisk(disk, openFiles));
    let cdrom: RawDisk | undefined;
    if (resolved.cdrom !== undefined) {
      cdrom = openRawDisk(resolved.cdrom, { readOnly: true });
      openFiles.push(cdrom);
    }
    return {
      kernel: resolved.kernel === undefined ? undefined : prepareKernel(resolved, resolved.kernel),
      firmware: firmwareSource === undefined ? undefined : await loadFirmware(firmwareSource, options.onProgress),
      disks, cdrom, openFiles,
      hasVga: resolved.vga ?? firmwareSource !== undefined,
    };
  } catch (error) {
    for (const file of openFiles) file.close();
    throw error;
  }
}
