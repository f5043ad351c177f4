/** A hard disk from which a BIOS starts a Linux kernel with an initial RAM file system (Linux, Documentation/arch/x86/boot.rst). */
import { readFileSync, writeFileSync } from "node:fs";
import { invariant } from "../../src/base/errors.ts";
import type { GuestJob } from "../contract.ts";

const sectorBytes = 512;
export const diskHeads = 16, diskSectorsPerTrack = 63;
/** Of bench/guests/linux-boot.asm. */
const pieceTableOffset = 0x1b8 - 5 * 12;
/** Real-mode code, protected-mode code, command line. */
const address = { setup: 0x9_0000, kernel: 0x10_0000, commandLine: 0x9_e000 } as const;
/** Fields of the kernel's header. */
const Header = { setupSectors: 0x1f1, loader: 0x210, flags: 0x211, initramfs: 0x218, initramfsSize: 0x21c, heapEnd: 0x224, commandLine: 0x228 } as const;
const unknownLoader = 0xff, canUseHeapMask = 0x80, heapEnd = 0xde00;
/** The last megabyte may be the firmware's. */
const reservedBytes = 0x10_0000;

function paddedToSectors(bytes: Uint8Array): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & (sectorBytes - 1))]);
}

/** Writes the disk; the result is how many cylinders it has. */
export function writeLinuxDisk(path: string, bootSector: Uint8Array, { kernel, initramfs, commandLine, memoryMib }: GuestJob): number {
  const image = readFileSync(kernel), ram = initramfs === undefined ? Buffer.alloc(0) : readFileSync(initramfs);
  const setupBytes = (image[Header.setupSectors] + 1) * sectorBytes;
  const setup = Buffer.from(image.subarray(0, setupBytes));
  const ramAddress = (memoryMib * 0x10_0000 - reservedBytes - ram.length) & ~0xfff;
  setup[Header.loader] = unknownLoader;
  setup[Header.flags] |= canUseHeapMask;
  setup.writeUInt16LE(heapEnd, Header.heapEnd);
  setup.writeUInt32LE(ramAddress, Header.initramfs);
  setup.writeUInt32LE(ram.length, Header.initramfsSize);
  setup.writeUInt32LE(address.commandLine, Header.commandLine);
  const pieces = [
    { at: address.setup, bytes: setup }, { at: address.kernel, bytes: image.subarray(setupBytes) }, { at: ramAddress, bytes: ram },
    { at: address.commandLine, bytes: Buffer.from(`${commandLine}\0`) },
  ].map(({ at, bytes }) => ({ at, bytes: paddedToSectors(bytes) }));
  const first = Buffer.from(bootSector);
  invariant(first.length === sectorBytes, "the boot code is one sector");
  let sector = 1;
  for (const [index, { at, bytes }] of pieces.entries()) {
    const words = [sector, bytes.length / sectorBytes, at];
    for (const [word, value] of words.entries()) first.writeUInt32LE(value, pieceTableOffset + index * 12 + word * 4);
    sector += bytes.length / sectorBytes;
  }
  const cylinderSectors = diskHeads * diskSectorsPerTrack;
  const cylinders = Math.ceil(sector / cylinderSectors);
  const padding = Buffer.alloc((cylinders * cylinderSectors - sector) * sectorBytes);
  writeFileSync(path, Buffer.concat([first, ...pieces.map(({ bytes }) => bytes), padding]));
  return cylinders;
}
