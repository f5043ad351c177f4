/** Starts a kernel by the Multiboot Specification 0.6.96 (GNU): ELF32, or raw images with load addresses in their header. */
import { UserError } from "../base/errors.ts";
import { placeBiosDataArea } from "./bios-data.ts";
import { concatBytes, dataView, encodeCString, hex, pageSizeBytes } from "./bytes.ts";
import type { BootImage, BootModule } from "./contract.ts";
import { isElf, parseElf } from "./elf.ts";
import { biosAreaEnd, conventionalMemoryEnd, lowRamEndMaximum, memoryTypeNumbers, type MemoryMap } from "./memory-map.ts";
import { Placement } from "./placement.ts";
import { descriptorTable32, protectedModeRegisters } from "./registers.ts";

const headerMagic = 0x1bad_b002;
const loaderMagic = 0x2bad_b002;
const kernelName = "kernel";
const moduleName = "module";
const searchBytes = 8192;
const headerFlags = { alignModulesMask: 1 << 0, wantMemoryMask: 1 << 1, wantVideoMask: 1 << 2, hasAddressesMask: 1 << 16 } as const;
/** Requirements are in the low half; one that we do not know must stop us. */
const knownRequirements: number = headerFlags.alignModulesMask | headerFlags.wantMemoryMask | headerFlags.wantVideoMask;
const informationFlags = { memoryMask: 1 << 0, commandLineMask: 1 << 2, modulesMask: 1 << 3, memoryMapMask: 1 << 6, loaderNameMask: 1 << 9 } as const;
const informationSizeBytes = 120;
const moduleEntrySizeBytes = 16;
const memoryMapEntrySizeBytes = 24;

/** Our own structures go above the real-mode vectors and the BIOS data area. */
export const lowestAddress = 0x1000;

export const bootLoaderName = "Ringmaster";

export interface MultibootOptions {
  readonly kernel: Uint8Array;
  readonly commandLine: string;
  readonly modules: readonly BootModule[];
  readonly memory: MemoryMap;
  /** The root pointer's bytes, which version 2 passes on. */
  readonly rsdp?: Uint8Array;
}

export interface Multiboot1Header {
  readonly offset: number;
  readonly flags: number;
  readonly headerAddress: number;
  readonly loadAddress: number;
  readonly loadEndAddress: number;
  readonly bssEndAddress: number;
  readonly entryAddress: number;
}

function badImage(reason: string): UserError {
  return new UserError("BAD_IMAGE", `this multiboot kernel cannot be booted: ${reason}`);
}

/** The header in the first 8 KiB; undefined when there is none. */
export function findMultiboot1Header(bytes: Uint8Array): Multiboot1Header | undefined {
  const view = dataView(bytes);
  const end = Math.min(bytes.length, searchBytes);
  for (let offset = 0; offset + 12 <= end; offset += 4) {
    if (view.getUint32(offset, true) !== headerMagic) continue;
    const flags = view.getUint32(offset + 4, true);
    if (((headerMagic + flags + view.getUint32(offset + 8, true)) >>> 0) !== 0) continue;
    const hasAddresses = (flags & headerFlags.hasAddressesMask) !== 0;
    if (hasAddresses && offset + 32 > bytes.length) continue;
    const address = (index: number): number => (hasAddresses ? view.getUint32(offset + 12 + 4 * index, true) : 0);
    return {
      offset, flags, headerAddress: address(0), loadAddress: address(1), loadEndAddress: address(2), bssEndAddress: address(3), entryAddress: address(4),
    };
  }
  return undefined;
}

/** The "a.out kludge": the header itself says what of the file goes where. Returns the entry point. */
function placeRaw(kernel: Uint8Array, header: Multiboot1Header, placement: Placement): number {
  const { offset, headerAddress, loadAddress, loadEndAddress, bssEndAddress, entryAddress } = header;
  if (loadAddress > headerAddress || headerAddress - loadAddress > offset) throw badImage(`its header at ${hex(offset)} cannot lie at ${hex(headerAddress)} when loading starts at ${hex(loadAddress)}`);
  const start = offset - (headerAddress - loadAddress);
  const loadBytes = loadEndAddress === 0 ? kernel.length - start : loadEndAddress - loadAddress;
  if (loadBytes < 0 || start + loadBytes > kernel.length) throw badImage(`the file is cut off: ${loadBytes} bytes are to be loaded from ${hex(start)}, the file has ${kernel.length}`);
  const sizeBytes = bssEndAddress === 0 ? loadBytes : bssEndAddress - loadAddress;
  if (sizeBytes < loadBytes) throw badImage(`its memory ends at ${hex(bssEndAddress)}, before its loaded part`);
  placement.place("kernel", loadAddress, kernel.subarray(start, start + loadBytes), sizeBytes);
  return entryAddress;
}

/** Places an ELF file's segments. Returns the entry point. */
export function placeElf(kernel: Uint8Array, placement: Placement): number {
  const elf = parseElf(kernel);
  elf.loadSegments.forEach((segment, i) => placement.place(`segment ${i} of the kernel`, segment.physicalAddress, segment.bytes, segment.sizeBytes));
  const { entry } = elf;
  // Kernels linked high have a virtual entry point; loaders of this protocol start them at its physical place.
  const home = elf.loadSegments.find(({ virtualAddress, sizeBytes }) => entry >= virtualAddress && entry < virtualAddress + sizeBytes);
  const physicalEntry = home === undefined ? entry : entry - home.virtualAddress + home.physicalAddress;
  if (physicalEntry > 0xffff_ffff) throw badImage(`its entry point ${hex(physicalEntry)} is above 4 GiB`);
  return physicalEntry;
}

/** Modules go above 1 MiB where there is room, page-aligned. */
export function placeModules(modules: readonly BootModule[], placement: Placement): number[] {
  return modules.map(({ bytes }, i) => (bytes.length === 0 ? 0 : placement.placeLow(`module ${i}`, bytes, biosAreaEnd, pageSizeBytes)));
}

/** KiB of RAM below 1 MiB, and from there to the first hole. */
export function memoryAmounts(memory: MemoryMap): { readonly lowerKib: number; readonly upperKib: number } {
  const lowEnd = Math.min(memory.ram[0].sizeBytes, lowRamEndMaximum);
  return { lowerKib: conventionalMemoryEnd >> 10, upperKib: (lowEnd - biosAreaEnd) >>> 10 };
}

function encodeMemoryMap(memory: MemoryMap): Uint8Array {
  const bytes = new Uint8Array(memory.regions.length * memoryMapEntrySizeBytes);
  const view = dataView(bytes);
  memory.regions.forEach(({ address, sizeBytes, kind }, i) => {
    const at = i * memoryMapEntrySizeBytes;
    // The size does not count itself.
    view.setUint32(at, memoryMapEntrySizeBytes - 4, true);
    view.setBigUint64(at + 4, BigInt(address), true);
    view.setBigUint64(at + 12, BigInt(sizeBytes), true);
    view.setUint32(at + 20, memoryTypeNumbers[kind], true);
  });
  return bytes;
}

/** Loaders put an image's name before its command line, and kernels skip it (GNU GRUB Legacy's manual, "kernel"; Xen's cmdline_cook). */
function afterName(name: string, commandLine: string): string {
  return commandLine === "" ? name : `${name} ${commandLine}`;
}

/**
 * Lays out a multiboot kernel. Registers: EAX has the loader's magic, EBX the information structure.
 * @throws UserError BAD_IMAGE (no header, damaged, unknown requirement), BAD_MEMORY_SIZE (too little).
 */
export function loadMultiboot1(options: MultibootOptions): BootImage {
  const header = findMultiboot1Header(options.kernel);
  if (header === undefined) throw badImage("there is no multiboot header in its first 8 KiB");
  const unknown = header.flags & 0xffff & ~knownRequirements;
  if (unknown !== 0) throw badImage(`it requires features ${hex(unknown)}, which are not in the specification`);
  const placement = new Placement(options.memory);
  const hasAddresses = (header.flags & headerFlags.hasAddressesMask) !== 0;
  if (!hasAddresses && !isElf(options.kernel)) throw badImage("it is no ELF file, and its header has no load addresses");
  const entry = hasAddresses ? placeRaw(options.kernel, header, placement) : placeElf(options.kernel, placement);
  placeBiosDataArea(placement);
  const descriptorTable = placement.placeLow("descriptor table", descriptorTable32, lowestAddress);
  const commandLines = options.modules.map(({ commandLine }) => afterName(moduleName, commandLine));
  const texts = [afterName(kernelName, options.commandLine), bootLoaderName, ...commandLines].map(encodeCString);
  const memoryMap = encodeMemoryMap(options.memory);
  const modulesOffset = informationSizeBytes;
  const memoryMapOffset = modulesOffset + options.modules.length * moduleEntrySizeBytes;
  const textsOffset = memoryMapOffset + memoryMap.length;
  const totalBytes = textsOffset + texts.reduce((sum, text) => sum + text.length, 0);
  const base = placement.reserveLow("multiboot information", totalBytes, lowestAddress);
  const textAddresses: number[] = [];
  let end = base + textsOffset;
  for (const text of texts) {
    textAddresses.push(end);
    end += text.length;
  }
  const moduleAddresses = placeModules(options.modules, placement);

  const modules = new Uint8Array(options.modules.length * moduleEntrySizeBytes);
  const modulesView = dataView(modules);
  options.modules.forEach(({ bytes }, i) => {
    modulesView.setUint32(i * moduleEntrySizeBytes, moduleAddresses[i], true);
    modulesView.setUint32(i * moduleEntrySizeBytes + 4, moduleAddresses[i] + bytes.length, true);
    modulesView.setUint32(i * moduleEntrySizeBytes + 8, textAddresses[2 + i], true);
  });
  const information = new Uint8Array(informationSizeBytes);
  const view = dataView(information);
  const { lowerKib, upperKib } = memoryAmounts(options.memory);
  view.setUint32(0, Object.values(informationFlags).reduce((all, mask) => all | mask, 0), true);
  view.setUint32(4, lowerKib, true);
  view.setUint32(8, upperKib, true);
  view.setUint32(16, textAddresses[0], true);
  view.setUint32(20, options.modules.length, true);
  view.setUint32(24, base + modulesOffset, true);
  view.setUint32(44, memoryMap.length, true);
  view.setUint32(48, base + memoryMapOffset, true);
  view.setUint32(64, textAddresses[1], true);
  placement.fill("multiboot information", base, concatBytes([information, modules, memoryMap, ...texts]));
  const registers = protectedModeRegisters({ rip: entry, general: { rax: loaderMagic, rbx: base }, descriptorTable });
  return { protocol: "multiboot1", mode: "protected32", writes: placement.writes, registers };
}
