/** Builds disk images that boot through firmware and GRUB into Linux with its root on ext4, without root privileges. */
import { chmod, mkdir, open, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { CpioEntry } from "../../../boot/cpio.ts";
import type { BuildTools } from "./build-tools.ts";
import { createFat16 } from "./fat16.ts";
import { embedGrub, grubConfiguration, makeGrubCore } from "./grub.ts";
import { createGpt, createMbr, gptTailSectors, gptTypes, sectorSizeBytes } from "./partition-tables.ts";

const sectorsPerMib: number = 0x10_0000 / sectorSizeBytes;
const firstPartitionSector = sectorsPerMib;
const rootSizeMib = 64;
const efiSizeMib = 16;
const linuxPartitionType = 0x83;
const identifiers = {
  biosRoot: "2f6b1c1e-6f0b-4a57-9d9e-52494e474d31",
  efiRoot: "2f6b1c1e-6f0b-4a57-9d9e-52494e474d32",
  disk: "2F6B1C1E-6F0B-4A57-9D9E-52494E474D33",
  efiPartition: "2F6B1C1E-6F0B-4A57-9D9E-52494E474D34",
  rootPartition: "2F6B1C1E-6F0B-4A57-9D9E-52494E474D35",
  hashSeed: "2f6b1c1e-6f0b-4a57-9d9e-52494e474d36",
  diskSignature: 0x52_4d_47_01,
  fatSerial: 0x524d_0001,
} as const;
/** What GRUB 2.06 can read; spelled out, since the defaults of newer mke2fs hold more. */
const ext4Features = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,64bit,metadata_csum";

/** What goes onto the root file system, by path. */
export interface DiskContents {
  readonly entries: readonly CpioEntry[];
  readonly kernel: Uint8Array;
  readonly initramfs: Uint8Array;
}

async function writeTree(root: string, entries: readonly CpioEntry[]): Promise<void> {
  for (const entry of entries) {
    const path = join(root, entry.path);
    await mkdir(dirname(path), { recursive: true });
    switch (entry.kind) {
      case "directory":
        await mkdir(path, { recursive: true });
        break;
      case "file":
        await writeFile(path, entry.bytes);
        await chmod(path, entry.permissions ?? 0o644);
        break;
      case "symlink":
        await symlink(entry.target, path);
        break;
      case "character-device":
        // Devices appear in devtmpfs; making them here would take root.
        break;
    }
  }
}

async function makeRootFileSystem(contents: DiskContents, rootDevice: string, uuid: string, tools: BuildTools, directory: string): Promise<Buffer> {
  const tree = join(directory, "root");
  const image = join(directory, "root.ext4");
  const text = (path: string, content: string): CpioEntry => ({ kind: "file", path, bytes: Buffer.from(content) });
  await writeTree(tree, [
    ...contents.entries,
    { kind: "file", path: "boot/vmlinuz", bytes: contents.kernel },
    { kind: "file", path: "boot/initrd.img", bytes: contents.initramfs },
    text("boot/grub/grub.cfg", grubConfiguration(rootDevice)),
    text("etc/fstab", `${rootDevice} / ext4 defaults 0 1\n`),
  ]);
  const mke2fs = await tools.find("mke2fs");
  await mke2fs.run([
    "-q", "-F", "-t", "ext4", "-O", ext4Features, "-b", "4096", "-m", "0", "-L", "ringmaster", "-U", uuid,
    "-E", `root_owner=0:0,hash_seed=${identifiers.hashSeed},lazy_itable_init=0,lazy_journal_init=0`, "-d", tree, image, `${rootSizeMib}M`,
  ]);
  return readFile(image);
}

/** Writes `parts` (by sector) into a file of `sectorCount`, leaving holes where there is nothing but zeros. */
async function writeDisk(path: string, sectorCount: number, parts: readonly (readonly [sector: number, bytes: Buffer])[]): Promise<void> {
  const chunkBytes = 0x1_0000;
  const file = await open(path, "w");
  try {
    await file.truncate(sectorCount * sectorSizeBytes);
    const zeros = Buffer.alloc(chunkBytes);
    for (const [sector, bytes] of parts) {
      for (let offset = 0; offset < bytes.length; offset += chunkBytes) {
        const chunk = bytes.subarray(offset, offset + chunkBytes);
        if (!chunk.equals(zeros.subarray(0, chunk.length))) await file.write(chunk, 0, chunk.length, sector * sectorSizeBytes + offset);
      }
    }
  } finally {
    await file.close();
  }
}

async function withScratch<Result>(path: string, action: (directory: string) => Promise<Result>): Promise<Result> {
  const directory = `${path}.scratch`;
  await mkdir(directory, { recursive: true });
  try {
    return await action(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** A disk for BIOSes: MBR, GRUB in the gap, one ext4 partition. `grub` is the unpacked package grub-pc-bin. */
export function buildBiosDisk(path: string, contents: DiskContents, grub: string, tools: BuildTools): Promise<void> {
  return withScratch(path, async (directory) => {
    const root = await makeRootFileSystem(contents, "/dev/vda1", identifiers.biosRoot, tools, directory);
    const core = await makeGrubCore("i386-pc", grub, identifiers.biosRoot, tools, directory);
    const bootImage = await readFile(join(grub, "usr/lib/grub/i386-pc/boot.img"));
    const { bootCode, embedded } = embedGrub(bootImage, core, firstPartitionSector - 1);
    const place = { firstSector: firstPartitionSector, sectorCount: root.length / sectorSizeBytes };
    await writeDisk(path, place.firstSector + place.sectorCount, [
      [0, createMbr(bootCode, place, linuxPartitionType, identifiers.diskSignature)],
      [1, embedded],
      [place.firstSector, root],
    ]);
  });
}

/** A disk for UEFI: GPT, an EFI system partition with GRUB, and ext4. `grub` is the unpacked package grub-efi-amd64-bin. */
export function buildEfiDisk(path: string, contents: DiskContents, grub: string, tools: BuildTools): Promise<void> {
  return withScratch(path, async (directory) => {
    const root = await makeRootFileSystem(contents, "/dev/vda2", identifiers.efiRoot, tools, directory);
    const core = await makeGrubCore("x86_64-efi", grub, identifiers.efiRoot, tools, directory);
    const efi = { firstSector: firstPartitionSector, sectorCount: efiSizeMib * sectorsPerMib };
    const linux = { firstSector: efi.firstSector + efi.sectorCount, sectorCount: root.length / sectorSizeBytes };
    const diskSectors = linux.firstSector + linux.sectorCount + Math.ceil(gptTailSectors / sectorsPerMib) * sectorsPerMib;
    const table = createGpt([
      { ...efi, type: gptTypes.efiSystem, id: identifiers.efiPartition, name: "EFI system" },
      { ...linux, type: gptTypes.linuxFilesystem, id: identifiers.rootPartition, name: "root" },
    ], diskSectors, identifiers.disk);
    const files = new Map([["EFI/BOOT/BOOTX64.EFI", core]]);
    await writeDisk(path, diskSectors, [
      [0, table.head],
      [efi.firstSector, createFat16(files, efi.sectorCount, identifiers.fatSerial, efi.firstSector)],
      [linux.firstSector, root],
      [diskSectors - gptTailSectors, table.tail],
    ]);
  });
}
