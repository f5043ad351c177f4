/** Reads the setup header of a Linux bzImage (Linux: Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header"). */
import { UserError } from "../base/errors.ts";
import { dataView, hasAsciiAt, hex, readAscii } from "./bytes.ts";

/** Offsets in the file, and equally in the zero page. */
export const setupHeaderOffsets = {
  setupSectors: 0x1f1,
  systemSize: 0x1f4,
  videoMode: 0x1fa,
  bootFlag: 0x1fe,
  jumpDisplacement: 0x201,
  magic: 0x202,
  version: 0x206,
  kernelVersion: 0x20e,
  loaderType: 0x210,
  loadFlags: 0x211,
  code32Start: 0x214,
  ramdiskImage: 0x218,
  ramdiskSize: 0x21c,
  commandLinePointer: 0x228,
  initrdAddressMaximum: 0x22c,
  kernelAlignment: 0x230,
  isRelocatable: 0x234,
  extendedLoadFlags: 0x236,
  commandLineSize: 0x238,
  payloadOffset: 0x248,
  payloadLength: 0x24c,
  preferredAddress: 0x258,
  initSize: 0x260,
} as const;

const sectorSizeBytes = 512;
const headerStart = 0x1f1;
const smallestFileBytes = 0x268;
const bootFlagValue = 0xaa55;
/** 2.06, the first with the length of the command line; every x86 kernel since 2007 has it. */
const oldestVersion = 0x206;
const version210 = 0x20a;
const version212 = 0x20c;
const loadedHighMask = 0x01;
const kernel64Mask = 0x0001;

export type PayloadFormat = "gzip" | "bzip2" | "lzma" | "xz" | "lzo" | "lz4" | "zstd" | "elf" | "unknown";

export interface BzImage {
  /** Boot protocol version, major in the high byte. */
  readonly version: number;
  /** The kernel's own words, such as "6.1.0-56-cloud-amd64 (…)"; empty when it has none. */
  readonly kernelVersion: string;
  /** The bytes of the setup header, to be copied to the same offset of the zero page. */
  readonly header: Uint8Array;
  /** What is loaded at {@link preferredAddress}. */
  readonly protectedModeCode: Uint8Array;
  readonly has64BitEntry: boolean;
  readonly preferredAddress: number;
  readonly kernelAlignment: number;
  /** Memory the kernel uses before it looks at the memory map, from its load address on. */
  readonly initSizeBytes: number;
  readonly initrdAddressMaximum: number;
  /** Without the terminating zero. */
  readonly commandLineBytesMaximum: number;
  /** The compressed kernel; empty before protocol 2.08. */
  readonly payload: Uint8Array;
  readonly payloadFormat: PayloadFormat;
}

/** What a file that is no bzImage looks like, for the message; undefined when nothing we know. */
export function describeForeignFile(bytes: Uint8Array): string | undefined {
  if (bytes.length === 0) return "the file is empty";
  if (hasAsciiAt(bytes, 0, "\x7fELF")) return "it is an ELF file";
  if (hasAsciiAt(bytes, 0, "\x1f\x8b")) return "it is compressed with gzip; unpack it first";
  if (hasAsciiAt(bytes, 0, "\xfd7zXZ")) return "it is compressed with xz; unpack it first";
  if (hasAsciiAt(bytes, 0x38, "ARM\x64")) return "it is a kernel for 64-bit ARM";
  if (hasAsciiAt(bytes, 0, "\x27\x05\x19\x56")) return "it is a U-Boot image";
  if (hasAsciiAt(bytes, 0, "070701")) return "it is a cpio archive (an initial RAM file system?)";
  if (hasAsciiAt(bytes, 0, "#!")) return "it is a script";
  if (hasAsciiAt(bytes, 0, "QFI\xfb")) return "it is a qcow2 disk image";
  if (hasAsciiAt(bytes, 0, "MZ")) return "it is an EFI program";
  if (bytes.length >= 512 && bytes[510] === 0x55 && bytes[511] === 0xaa) return "it looks like a disk image; boot it with --disk";
  return undefined;
}

function badImage(reason: string): UserError {
  return new UserError("BAD_IMAGE", `this is not a Linux kernel that can be booted: ${reason}`);
}

/** True when the file has the magic of a Linux kernel, whole or not. */
export function isBzImage(bytes: Uint8Array): boolean {
  return hasAsciiAt(bytes, setupHeaderOffsets.magic, "HdrS");
}

function payloadFormat(payload: Uint8Array): PayloadFormat {
  const magics: readonly (readonly [string, PayloadFormat])[] = [
    ["\x1f\x8b", "gzip"], ["\x1f\x9e", "gzip"], ["BZh", "bzip2"], ["\x5d\x00\x00", "lzma"], ["\xfd7zXZ\x00", "xz"],
    ["\x89LZO", "lzo"], ["\x02\x21\x4c\x18", "lz4"], ["\x28\xb5\x2f\xfd", "zstd"], ["\x7fELF", "elf"],
  ];
  return magics.find(([magic]) => hasAsciiAt(payload, 0, magic))?.[1] ?? "unknown";
}

/**
 * Reads and checks a bzImage.
 * @throws UserError BAD_IMAGE when the file is something else, is cut off, or is too old.
 */
export function parseBzImage(bytes: Uint8Array): BzImage {
  if (!isBzImage(bytes)) throw badImage(describeForeignFile(bytes) ?? "it has no Linux setup header");
  if (bytes.length < smallestFileBytes) throw badImage(`the file ends after ${bytes.length} bytes, within its setup header`);
  const view = dataView(bytes);
  const at = setupHeaderOffsets;
  if (view.getUint16(at.bootFlag, true) !== bootFlagValue) throw badImage("its boot sector has no signature");
  const version = view.getUint16(at.version, true);
  if (version < oldestVersion) {
    throw badImage(`its boot protocol is ${version >> 8}.${(version & 0xff).toString().padStart(2, "0")}, and 2.06 is the oldest that is supported`);
  }
  if ((view.getUint8(at.loadFlags) & loadedHighMask) === 0) throw badImage("it is a zImage, which loads below 1 MiB; build a bzImage");

  const setupSectors = view.getUint8(at.setupSectors) || 4;
  const setupSizeBytes = (setupSectors + 1) * sectorSizeBytes;
  const systemSizeBytes = view.getUint32(at.systemSize, true) * 16;
  // The last paragraph may be missing: the count is rounded up.
  if (bytes.length + 15 < setupSizeBytes + systemSizeBytes || bytes.length <= setupSizeBytes) {
    throw badImage(`the file is cut off: its header tells of ${setupSizeBytes + systemSizeBytes} bytes, and there are ${bytes.length}`);
  }
  const headerEnd = at.magic + view.getUint8(at.jumpDisplacement);
  if (headerEnd < smallestFileBytes - 4 && version >= version210) throw badImage(`its setup header ends at ${hex(headerEnd)}, too early for its version`);
  const protectedModeCode = bytes.subarray(setupSizeBytes);

  const isRelocatable = view.getUint8(at.isRelocatable) !== 0;
  const hasPreferredAddress = version >= version210;
  const preferredAddress = hasPreferredAddress ? view.getBigUint64(at.preferredAddress, true) : 0x10_0000n;
  if (preferredAddress < 0x10_0000n || preferredAddress >= 0x1_0000_0000n) throw badImage(`it wants to be loaded at ${hex(Number(preferredAddress))}`);
  const payloadOffset = version >= 0x208 ? view.getUint32(at.payloadOffset, true) : 0;
  const payloadLength = version >= 0x208 ? view.getUint32(at.payloadLength, true) : 0;
  const payload = protectedModeCode.subarray(Math.min(payloadOffset, protectedModeCode.length), Math.min(payloadOffset + payloadLength, protectedModeCode.length));
  const versionPointer = view.getUint16(at.kernelVersion, true);
  return {
    version,
    kernelVersion: versionPointer === 0 ? "" : readAscii(bytes.subarray(0, setupSizeBytes), versionPointer + sectorSizeBytes, 256),
    header: bytes.slice(headerStart, Math.min(Math.max(headerEnd, smallestFileBytes - 4), setupSizeBytes, 0x290)),
    protectedModeCode,
    has64BitEntry: version >= version212 && (view.getUint16(at.extendedLoadFlags, true) & kernel64Mask) !== 0,
    preferredAddress: Number(preferredAddress),
    kernelAlignment: isRelocatable ? view.getUint32(at.kernelAlignment, true) : 1,
    initSizeBytes: Math.max(hasPreferredAddress ? view.getUint32(at.initSize, true) : 0, protectedModeCode.length),
    initrdAddressMaximum: view.getUint32(at.initrdAddressMaximum, true),
    commandLineBytesMaximum: view.getUint32(at.commandLineSize, true),
    payload,
    payloadFormat: payloadFormat(payload),
  };
}
