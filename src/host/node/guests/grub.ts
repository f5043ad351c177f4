/** Puts GRUB together from its packages: the core image, its place between boot sector and first partition, its configuration. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { invariant } from "../../../base/errors.ts";
import type { BuildTools } from "./build-tools.ts";
import { sectorSizeBytes } from "./partition-tables.ts";

const sharedModules = ["part_gpt", "part_msdos", "ext2", "search", "search_fs_uuid", "normal", "configfile", "linux", "serial", "terminal", "boot", "echo", "test", "sleep", "halt", "reboot", "minicmd", "ls", "cat"];

export type GrubPlatform = "i386-pc" | "x86_64-efi";

const platforms: Readonly<Record<GrubPlatform, { readonly modules: readonly string[]; readonly directory: string }>> = {
  "i386-pc": { modules: ["biosdisk", ...sharedModules], directory: "usr/lib/grub/i386-pc" },
  "x86_64-efi": { modules: ["fat", ...sharedModules], directory: "usr/lib/grub/x86_64-efi" },
};

/** Of boot.img (GRUB: grub-core/boot/i386/pc/boot.S; include/grub/i386/pc/boot.h). */
const bootSector = { kernelSectorOffset: 0x5c, bootDriveOffset: 0x64, driveCheckOffset: 0x66, anyDrive: 0xff } as const;
/** Of the core image's first sector (diskboot.S): one entry that says where the rest is and where it goes. */
const blockList = { entryOffset: sectorSizeBytes - 12, loadSegment: 0x0820 } as const;
const noOperation = 0x90;

/** The core image, made to find its configuration on the file system `rootUuid`. `directory` takes temporary files. */
export async function makeGrubCore(platform: GrubPlatform, packageDirectory: string, rootUuid: string, tools: BuildTools, directory: string): Promise<Buffer> {
  const { modules, directory: moduleDirectory } = platforms[platform];
  const early = join(directory, "grub-early.cfg");
  const output = join(directory, "grub-core.img");
  await writeFile(early, `search.fs_uuid ${rootUuid} root\nset prefix=($root)/boot/grub\n`);
  const grubMkimage = await tools.find("grub-mkimage");
  await grubMkimage.run(["-O", platform, "-d", join(packageDirectory, moduleDirectory), "-p", "/boot/grub", "-c", early, "-o", output, ...modules]);
  return readFile(output);
}

/**
 * The boot code and the core image, ready for a disk whose sectors from 1 on take the core image.
 * @param bootImage boot.img of the package grub-pc-bin.
 */
export function embedGrub(bootImage: Uint8Array, core: Uint8Array, gapSectors: number): { readonly bootCode: Buffer; readonly embedded: Buffer } {
  const coreStart = 1;
  const coreSectors = Math.ceil(core.length / sectorSizeBytes);
  invariant(coreSectors <= gapSectors, "GRUB's core image fits before the first partition");
  const bootCode = Buffer.from(bootImage);
  bootCode.writeBigUInt64LE(BigInt(coreStart), bootSector.kernelSectorOffset);
  bootCode[bootSector.bootDriveOffset] = bootSector.anyDrive;
  // As grub-install does for hard disks: some BIOSes pass a floppy's number.
  bootCode.fill(noOperation, bootSector.driveCheckOffset, bootSector.driveCheckOffset + 2);
  const embedded = Buffer.alloc(coreSectors * sectorSizeBytes);
  embedded.set(core);
  embedded.writeBigUInt64LE(BigInt(coreStart + 1), blockList.entryOffset);
  embedded.writeUInt16LE(coreSectors - 1, blockList.entryOffset + 8);
  embedded.writeUInt16LE(blockList.loadSegment, blockList.entryOffset + 10);
  return { bootCode, embedded };
}

/** grub.cfg: one entry, on screen and serial line. */
export function grubConfiguration(rootDevice: string): string {
  return `serial --unit=0 --speed=115200
terminal_input serial console
terminal_output serial console
set timeout=1
set default=0
menuentry "Debian GNU/Linux" {
  echo "Loading Linux ..."
  linux /boot/vmlinuz root=${rootDevice} console=tty0 console=ttyS0
  echo "Loading initial RAM file system ..."
  initrd /boot/initrd.img
}
menuentry "Power off" {
  halt
}
`;
}
