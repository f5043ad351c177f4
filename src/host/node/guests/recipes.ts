/** How each guest is made from packages. */
import { copyFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { UserError } from "../../../base/errors.ts";
import type { AptChannel, PackageSource, UnpackedPackage } from "./apt.ts";
import type { BuildTools } from "./build-tools.ts";
import { readBusybox } from "./busybox.ts";
import { sha256Hex } from "./cache.ts";
import type { GuestName } from "./catalog.ts";
import { initScript, sessionScript } from "./init-script.ts";
import { buildInitramfs } from "./initramfs.ts";
import { isWantedKernelFile, moduleGroups, readKernelModules } from "./kernel-modules.ts";
import type { Progress } from "./progress.ts";

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
  readonly version: string;
  build(kitchen: Kitchen, directory: string): Promise<Built>;
}

/** The one file in `directory` that matches. */
export async function findFile(directory: string, pattern: RegExp): Promise<string> {
  const file = (await readdir(directory)).find((name) => pattern.test(name));
  if (file === undefined) throw new UserError("GUEST_MISSING", `the package in ${directory} holds no file like ${pattern.source}; delete the directory and run again`);
  return join(directory, file);
}

const initramfsVersion = sha256Hex(JSON.stringify([initScript, sessionScript, moduleGroups, 1]));

/** Fetches a kernel and keeps what we use of it. */
export function unpackKernel(kitchen: Kitchen, name: string, channel: AptChannel): Promise<UnpackedPackage> {
  return kitchen.packages[channel].unpack(name, { keep: isWantedKernelFile });
}

function linux(packageName: string, channel: AptChannel): Recipe {
  return {
    version: initramfsVersion,
    async build(kitchen, directory) {
      const kernel = await unpackKernel(kitchen, packageName, channel);
      const busyboxPackage = await kitchen.packages.release.unpack("busybox-static");
      kitchen.progress.step(`initial RAM file system for ${kernel.name}`);
      const busybox = await readBusybox(busyboxPackage.directory);
      await copyFile(await findFile(join(kernel.directory, "boot"), /^vmlinuz-/u), join(directory, "vmlinuz"));
      const modules = await readKernelModules(kernel.directory, kitchen.tools);
      await writeFile(join(directory, "initramfs.cpio"), buildInitramfs({ busybox: busybox.program, applets: busybox.applets, modules }));
      return { files: { kernel: "vmlinuz", initramfs: "initramfs.cpio" }, packages: [kernel, busyboxPackage] };
    },
  };
}

/** Copies files out of one package. */
function copies(packageName: string, files: Readonly<Record<string, string>>): Recipe {
  return {
    version: sha256Hex(JSON.stringify(files)),
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
  seabios: copies("seabios", { firmware: "usr/share/seabios/bios-256k.bin", vgaBios: "usr/share/seabios/vgabios-stdvga.bin" }),
  ovmf: copies("ovmf", { code: "usr/share/OVMF/OVMF_CODE_4M.fd", variables: "usr/share/OVMF/OVMF_VARS_4M.fd" }),
  "memtest86+": copies("memtest86+", { kernel: "boot/memtest86+x64.bin", efi: "boot/memtest86+x64.efi" }),
} as Readonly<Record<GuestName, Recipe>>;
