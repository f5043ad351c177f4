/** Starts a bzImage by the 64-bit boot protocol, or by the 32-bit one where the kernel has no other (Linux: Documentation/arch/x86/boot.rst, zero-page.rst). */
import { UserError } from "../base/errors.ts";
import { placeBiosDataArea } from "./bios-data.ts";
import { alignDown, alignUp, dataView, encodeCString, pageSizeBytes } from "./bytes.ts";
import { parseBzImage, setupHeaderOffsets, type BzImage } from "./bzimage.ts";
import type { BootImage } from "./contract.ts";
import { encodeE820, lowRamEndMaximum, tooLittleMemory, type MemoryMap } from "./memory-map.ts";
import { createIdentityTables } from "./page-tables.ts";
import { Placement } from "./placement.ts";
import { descriptorTable32, descriptorTable64, longModeRegisters, protectedModeRegisters } from "./registers.ts";

const zeroPage = {
  rsdpAddress: 0x070,
  ramdiskImageHigh: 0x0c0,
  e820Count: 0x1e8,
  setupHeader: 0x1f1,
  e820Table: 0x2d0,
} as const;
const screenInfo = { videoMode: 0x06, columns: 0x07, lines: 0x0e, isVga: 0x0f, points: 0x10 } as const;
const e820CountMaximum = 128;

/** Where the parts go that a kernel expects in conventional memory. */
const lowAddresses = { descriptorTable: 0x1000, zeroPage: 0x7000, stackTop: 0x9000, pageTables: 0x9000, commandLine: 0x2_0000 } as const;
const entry64Offset = 0x200;
const loaderTypeUnregistered = 0xff;
const videoModeNormal = 0xffff;

export interface LinuxBootOptions {
  readonly kernel: Uint8Array;
  readonly commandLine: string;
  readonly initrd?: Uint8Array;
  readonly memory: MemoryMap;
  /** Physical address of the ACPI root pointer; the kernel searches for it where none is given. */
  readonly rsdpAddress?: number;
  /** Tells the kernel of a VGA adapter in text mode 3 (80 by 25), as firmware leaves it. */
  readonly hasVgaText?: boolean;
}

interface Addresses {
  readonly initrd: number;
  readonly initrdSizeBytes: number;
}

function createZeroPage(image: BzImage, options: LinuxBootOptions, addresses: Addresses): Uint8Array {
  const bytes = new Uint8Array(pageSizeBytes);
  const view = dataView(bytes);
  bytes.set(image.header, zeroPage.setupHeader);
  const at = setupHeaderOffsets;
  view.setUint8(at.loaderType, loaderTypeUnregistered);
  view.setUint16(at.videoMode, videoModeNormal, true);
  view.setUint32(at.code32Start, image.preferredAddress, true);
  view.setUint32(at.ramdiskImage, addresses.initrd, true);
  view.setUint32(at.ramdiskSize, addresses.initrdSizeBytes, true);
  view.setUint32(at.commandLinePointer, lowAddresses.commandLine, true);
  if (options.rsdpAddress !== undefined) view.setBigUint64(zeroPage.rsdpAddress, BigInt(options.rsdpAddress), true);
  if (options.hasVgaText === true) {
    view.setUint8(screenInfo.videoMode, 3);
    view.setUint8(screenInfo.columns, 80);
    view.setUint8(screenInfo.lines, 25);
    view.setUint8(screenInfo.isVga, 1);
    view.setUint16(screenInfo.points, 16, true);
  }
  const regions = options.memory.regions.slice(0, e820CountMaximum);
  view.setUint8(zeroPage.e820Count, regions.length);
  bytes.set(encodeE820(regions), zeroPage.e820Table);
  return bytes;
}

function encodeCommandLine(image: BzImage, commandLine: string): Uint8Array {
  if (commandLine.includes("\0")) throw new UserError("BAD_ARGUMENT", "the kernel's command line must not contain a zero character");
  const bytes = encodeCString(commandLine);
  if (bytes.length - 1 > image.commandLineBytesMaximum) {
    throw new UserError("BAD_ARGUMENT", `the kernel's command line has ${bytes.length - 1} bytes; this kernel takes at most ${image.commandLineBytesMaximum}`);
  }
  return bytes;
}

/**
 * Lays out a Linux kernel with its initial RAM file system.
 * @throws UserError BAD_IMAGE (the kernel), BAD_MEMORY_SIZE (too little), BAD_ARGUMENT (command line too long).
 */
export function loadLinux(options: LinuxBootOptions): BootImage {
  const image = parseBzImage(options.kernel);
  const commandLine = encodeCommandLine(image, options.commandLine);
  const placement = new Placement(options.memory);
  placeBiosDataArea(placement);
  const initrd = options.initrd ?? new Uint8Array(0);
  const lowRamBytes = options.memory.ram[0].sizeBytes;
  const kernelEnd = image.preferredAddress + image.initSizeBytes;
  const neededBytes = alignUp(kernelEnd, pageSizeBytes) + alignUp(initrd.length, pageSizeBytes);
  const initrdEndMaximum = Math.min(image.initrdAddressMaximum + 1, lowRamEndMaximum);
  if (neededBytes > initrdEndMaximum) {
    throw new UserError("BAD_IMAGE", `the initial RAM file system of ${initrd.length} bytes does not fit below the address that this kernel accepts`);
  }
  if (neededBytes > lowRamBytes) throw tooLittleMemory("this kernel with its initial RAM file system", neededBytes, options.memory);

  placement.place("kernel", image.preferredAddress, image.protectedModeCode, alignUp(image.initSizeBytes, pageSizeBytes));
  const initrdAddress = initrd.length === 0 ? 0 : alignDown(Math.min(initrdEndMaximum, lowRamBytes) - initrd.length, pageSizeBytes);
  placement.place("initrd", initrdAddress, initrd);
  placement.place("kernel command line", lowAddresses.commandLine, commandLine);
  placement.place("zero page", lowAddresses.zeroPage, createZeroPage(image, options, { initrd: initrdAddress, initrdSizeBytes: initrd.length }));
  const general = { rsi: lowAddresses.zeroPage, rsp: lowAddresses.stackTop };
  const descriptorTable = lowAddresses.descriptorTable;
  if (!image.has64BitEntry) {
    placement.place("descriptor table", descriptorTable, descriptorTable32);
    const registers = protectedModeRegisters({ rip: image.preferredAddress, general, descriptorTable });
    return { protocol: "linux32", mode: "protected32", writes: placement.writes, registers };
  }
  const pageTables = lowAddresses.pageTables;
  placement.place("descriptor table", descriptorTable, descriptorTable64);
  placement.place("page tables", pageTables, createIdentityTables(pageTables));
  const registers = longModeRegisters({ rip: image.preferredAddress + entry64Offset, general, descriptorTable, pageTables });
  return { protocol: "linux64", mode: "long64", writes: placement.writes, registers };
}
