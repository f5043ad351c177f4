/** How each guest is made from packages. */
import { copyFile, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { UserError } from "../../../base/errors.ts";
import type { AptChannel, PackageSource, UnpackedPackage } from "./apt.ts";
import { benchVersion, buildBenchPrograms, type BenchWidth } from "./bench-programs.ts";
import type { BuildTools } from "./build-tools.ts";
import { readBusybox } from "./busybox.ts";
import { sha256Hex } from "./cache.ts";
import type { CpioEntry } from "../../../boot/cpio.ts";
import type { GuestName } from "./catalog.ts";
import { buildBiosDisk, buildEfiDisk, type DiskContents } from "./disk-image.ts";
import { initScript, sessionScript } from "./init-script.ts";
import { baseEntries, buildInitramfs } from "./initramfs.ts";
import { isWantedKernelFile, moduleGroups, readKernelModules } from "./kernel-modules.ts";
import { buildNestedPrograms, kvmModuleGroups, nestedDirectory, nestedVersion } from "./nested-programs.ts";
import type { Progress } from "./progress.ts";
import { xenRecipe } from "./xen.ts";

/** What a recipe works with. */
export interface Kitchen {
  readonly packages: Readonly<Record<AptChannel, PackageSource>>;
  readonly tools: BuildTools;
  readonly progress: Progress;
}

/** What came out: file names in the directory by key, and where they are from. */
export interface Built {
  readonly files: Readonly<Record<string, string>>;
  readonly packages: readonly UnpackedPackage[];
}

export interface Recipe {
  /** Identifies the way of building; a guest built another way is built anew. */
  version(): string | Promise<string>;
  build(kitchen: Kitchen, directory: string): Promise<Built>;
}

/** The one file in `directory` that matches. */
export async function findFile(directory: string, pattern: RegExp): Promise<string> {
  const file = (await readdir(directory)).find((name) => pattern.test(name));
  if (file === undefined) throw new UserError("GUEST_MISSING", `the package in ${directory} holds no file like ${pattern.source}; delete the directory and run again`);
  return join(directory, file);
}

const initramfsVersion = sha256Hex(JSON.stringify([initScript, sessionScript, moduleGroups, 1]));
/** To be raised when the disks' layout or GRUB's configuration changes. */
const diskVersion = 1;

interface LinuxParts {
  readonly kernelPackage: UnpackedPackage;
  readonly busyboxPackage: UnpackedPackage;
  /** Path of the bzImage. */
  readonly kernel: string;
  readonly initramfs: Uint8Array;
  readonly userland: readonly CpioEntry[];
}

async function prepareLinux(
  kitchen: Kitchen, packageName: string, channel: AptChannel, extraFiles: readonly CpioEntry[] = [], groups: typeof moduleGroups = moduleGroups,
): Promise<LinuxParts> {
  const kernelPackage = await kitchen.packages[channel].unpack(packageName, { keep: isWantedKernelFile });
  const busyboxPackage = await kitchen.packages[channel === "backports" ? "release" : channel].unpack("busybox-static");
  kitchen.progress.step(`initial RAM file system for ${kernelPackage.name}`);
  const { program, applets } = await readBusybox(busyboxPackage.directory);
  const modules = await readKernelModules(kernelPackage.directory, kitchen.tools, groups);
  const contents = { busybox: program, applets, modules, extraFiles };
  return {
    kernelPackage,
    busyboxPackage,
    kernel: await findFile(join(kernelPackage.directory, "boot"), /^vmlinuz-/u),
    initramfs: buildInitramfs(contents),
    userland: baseEntries(contents),
  };
}

async function writeLinux(directory: string, parts: LinuxParts): Promise<Built> {
  await copyFile(parts.kernel, join(directory, "vmlinuz"));
  await writeFile(join(directory, "initramfs.cpio"), parts.initramfs);
  return { files: { kernel: "vmlinuz", initramfs: "initramfs.cpio" }, packages: [parts.kernelPackage, parts.busyboxPackage] };
}

function linux(packageName: string, channel: AptChannel): Recipe {
  return {
    version: () => initramfsVersion,
    build: async (kitchen, directory) => writeLinux(directory, await prepareLinux(kitchen, packageName, channel)),
  };
}

/** A Linux guest with the programs of guests/bench in /bench. */
function bench(packageName: string, channel: AptChannel, width: BenchWidth): Recipe {
  return {
    version: async () => `${initramfsVersion} ${await benchVersion(width)}`,
    async build(kitchen, directory) {
      kitchen.progress.step(`${width}-bit benchmark programs`);
      const scratch = join(directory, "scratch");
      await mkdir(scratch);
      const programs = await buildBenchPrograms(kitchen.tools, scratch, width);
      await rm(scratch, { recursive: true });
      return writeLinux(directory, await prepareLinux(kitchen, packageName, channel, programs));
    },
  };
}

/**
 * A Linux guest with KVM's modules and, in /virt, the programs of guests/virt; kernel and initial RAM file system of the
 * guest within the guest, which has these programs again, lie beside them.
 */
function nested(packageName: string, channel: AptChannel): Recipe {
  const layout = 2;
  return {
    version: async () => `${initramfsVersion} ${await nestedVersion()} ${layout}`,
    async build(kitchen, directory) {
      kitchen.progress.step("clients of KVM");
      const scratch = join(directory, "scratch");
      await mkdir(scratch);
      const programs = await buildNestedPrograms(kitchen.tools, scratch);
      await rm(scratch, { recursive: true });
      const inner = await prepareLinux(kitchen, packageName, channel, programs, kvmModuleGroups);
      const parts = await prepareLinux(kitchen, packageName, channel, [
        ...programs,
        { kind: "file", path: `${nestedDirectory}/vmlinuz`, bytes: await readFile(inner.kernel) },
        { kind: "file", path: `${nestedDirectory}/initramfs.cpio`, bytes: inner.initramfs },
      ], { ...moduleGroups, ...kvmModuleGroups });
      return writeLinux(directory, parts);
    },
  };
}

type DiskBuilder = (path: string, contents: DiskContents, grub: string, tools: BuildTools) => Promise<void>;

function disk(grubPackageName: string, builder: DiskBuilder): Recipe {
  return {
    version: () => `${initramfsVersion} ${diskVersion}`,
    async build(kitchen, directory) {
      const grub = await kitchen.packages.release.unpack(grubPackageName);
      const parts = await prepareLinux(kitchen, "linux-image-cloud-amd64", "release");
      kitchen.progress.step(`disk image with ${grub.name}`);
      const image = "disk.img";
      const init: CpioEntry = { kind: "file", path: "bin/init", permissions: 0o755, bytes: Buffer.from(initScript) };
      const entries = [...parts.userland.filter(({ path }) => path !== init.path), init];
      await builder(join(directory, image), { entries, kernel: await readFile(parts.kernel), initramfs: parts.initramfs }, grub.directory, kitchen.tools);
      return { files: { image }, packages: [parts.kernelPackage, parts.busyboxPackage, grub] };
    },
  };
}

/** Copies files out of one package. */
function copies(packageName: string, files: Readonly<Record<string, string>>): Recipe {
  return {
    version: () => sha256Hex(JSON.stringify(files)),
    async build(kitchen, directory) {
      const unpacked = await kitchen.packages.release.unpack(packageName);
      const names: Record<string, string> = {};
      for (const [key, path] of Object.entries(files)) {
        const name = path.slice(path.lastIndexOf("/") + 1);
        await copyFile(join(unpacked.directory, path), join(directory, name));
        names[key] = name;
      }
      return { files: names, packages: [unpacked] };
    },
  };
}

export const recipes: Readonly<Record<GuestName, Recipe>> = {
  "cloud-6.1": linux("linux-image-cloud-amd64", "release"),
  "generic-6.1": linux("linux-image-amd64", "release"),
  "cloud-6.12": linux("linux-image-cloud-amd64", "backports"),
  "686-6.1": linux("linux-image-686", "release-i386"),
  seabios: copies("seabios", {
    firmware: "usr/share/seabios/bios-256k.bin", smallFirmware: "usr/share/seabios/bios.bin", vgaBios: "usr/share/seabios/vgabios-stdvga.bin",
  }),
  ovmf: copies("ovmf", { code: "usr/share/OVMF/OVMF_CODE_4M.fd", variables: "usr/share/OVMF/OVMF_VARS_4M.fd" }),
  "memtest86+": copies("memtest86+", { kernel: "boot/memtest86+x64.bin", efi: "boot/memtest86+x64.efi" }),
  "disk-bios": disk("grub-pc-bin", buildBiosDisk),
  "disk-efi": disk("grub-efi-amd64-bin", buildEfiDisk),
  bench: bench("linux-image-cloud-amd64", "release", 64),
  "nested-6.1": nested("linux-image-cloud-amd64", "release"),
  "nested-6.12": nested("linux-image-cloud-amd64", "backports"),
  "xen-4.17": xenRecipe,
  "bench-686": bench("linux-image-686", "release-i386", 32),
};
