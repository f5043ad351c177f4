/** Starts an ELF kernel by the PVH protocol (Xen: docs/misc/pvh.pandoc; public/arch-x86/hvm/start_info.h). */
import { UserError } from "../base/errors.ts";
import { placeBiosDataArea } from "./bios-data.ts";
import { concatBytes, dataView, encodeCString, hex } from "./bytes.ts";
import { isBzImage, parseBzImage } from "./bzimage.ts";
import type { BootImage, BootModule } from "./contract.ts";
import { parseElf, type ElfImage } from "./elf.ts";
import { decompressLz4Legacy } from "./lz4.ts";
import { lowRamEndMaximum, memoryTypeNumbers, type MemoryMap } from "./memory-map.ts";
import { Placement } from "./placement.ts";
import { descriptorTable32, protectedModeRegisters } from "./registers.ts";

const noteOwner = "Xen";
const physical32EntryNote = 18;
const startInfoMagic = 0x336e_c578;
const startInfoVersion = 1;
const startInfoSizeBytes = 56;
const moduleEntrySizeBytes = 32;
const memoryMapEntrySizeBytes = 24;
const lowestAddress = 0x1000;
/** What the largest kernels unpack to is below 128 MiB; the limit keeps a damaged size from asking for all memory. */
const unpackedSizeMaximum = 0x2000_0000;

export interface PvhBootOptions {
  /** An ELF file, or a bzImage with one in it that is stored or packed with LZ4. */
  readonly kernel: Uint8Array;
  readonly commandLine: string;
  /** The first is Linux's initial RAM file system. */
  readonly modules: readonly BootModule[];
  readonly memory: MemoryMap;
  readonly rsdpAddress?: number;
}

/** The entry point that the note gives; undefined when there is none. */
export function findPvhEntry(elf: ElfImage): number | undefined {
  const note = elf.notes.find(({ owner, type, content }) => owner === noteOwner && type === physical32EntryNote && (content.length === 4 || content.length === 8));
  if (note === undefined) return undefined;
  const view = dataView(note.content);
  return note.content.length === 4 ? view.getUint32(0, true) : Number(view.getBigUint64(0, true));
}

/**
 * The ELF file in a bzImage.
 * @throws UserError BAD_IMAGE when it is packed in a way that only the kernel itself unpacks.
 */
export function extractVmlinux(kernel: Uint8Array): Uint8Array {
  const { payload, payloadFormat } = parseBzImage(kernel);
  if (payloadFormat === "elf") return payload;
  if (payloadFormat !== "lz4" || payload.length < 8) {
    throw new UserError("BAD_IMAGE", `this kernel is packed with ${payloadFormat}; only kernels packed with LZ4 can be started by PVH: unpack it, or boot it by the Linux protocol`);
  }
  // The build appends the unpacked size to the stream.
  const sizeBytes = dataView(payload).getUint32(payload.length - 4, true);
  const vmlinux = sizeBytes > unpackedSizeMaximum ? undefined : decompressLz4Legacy(payload.subarray(0, payload.length - 4), sizeBytes);
  if (vmlinux === undefined) throw new UserError("BAD_IMAGE", "this kernel's packed part is damaged");
  return vmlinux;
}

function encodeModules(modules: readonly { address: number; sizeBytes: number; commandLine: number }[]): Uint8Array {
  const bytes = new Uint8Array(modules.length * moduleEntrySizeBytes);
  const view = dataView(bytes);
  modules.forEach(({ address, sizeBytes, commandLine }, i) => {
    view.setBigUint64(i * moduleEntrySizeBytes, BigInt(address), true);
    view.setBigUint64(i * moduleEntrySizeBytes + 8, BigInt(sizeBytes), true);
    view.setBigUint64(i * moduleEntrySizeBytes + 16, BigInt(commandLine), true);
  });
  return bytes;
}

function encodeMemoryMap(memory: MemoryMap): Uint8Array {
  const bytes = new Uint8Array(memory.regions.length * memoryMapEntrySizeBytes);
  const view = dataView(bytes);
  memory.regions.forEach(({ address, sizeBytes, kind }, i) => {
    view.setBigUint64(i * memoryMapEntrySizeBytes, BigInt(address), true);
    view.setBigUint64(i * memoryMapEntrySizeBytes + 8, BigInt(sizeBytes), true);
    view.setUint32(i * memoryMapEntrySizeBytes + 16, memoryTypeNumbers[kind], true);
  });
  return bytes;
}

/**
 * Lays out an ELF kernel.
 * @throws UserError BAD_IMAGE (no PVH entry, damaged), BAD_MEMORY_SIZE (too little).
 */
export function loadPvh(options: PvhBootOptions): BootImage {
  const elf = parseElf(isBzImage(options.kernel) ? extractVmlinux(options.kernel) : options.kernel);
  const entry = findPvhEntry(elf);
  if (entry === undefined) throw new UserError("BAD_IMAGE", "this ELF file has no PVH entry (a note 18 of Xen), so it cannot be started as a kernel");
  if (entry > 0xffff_ffff) throw new UserError("BAD_IMAGE", `its PVH entry ${hex(entry)} is above 4 GiB`);
  const placement = new Placement(options.memory);
  elf.loadSegments.forEach((segment, i) => placement.place(`segment ${i} of the kernel`, segment.physicalAddress, segment.bytes, segment.sizeBytes));
  placeBiosDataArea(placement);
  const descriptorTable = placement.placeLow("descriptor table", descriptorTable32, lowestAddress);

  const commandLine = encodeCString(options.commandLine);
  const moduleLines = options.modules.map((module) => encodeCString(module.commandLine));
  const memoryMap = encodeMemoryMap(options.memory);
  const offsets = { modules: startInfoSizeBytes, memoryMap: startInfoSizeBytes + options.modules.length * moduleEntrySizeBytes, text: 0 };
  offsets.text = offsets.memoryMap + memoryMap.length;
  const informationBytes = offsets.text + commandLine.length + moduleLines.reduce((sum, line) => sum + line.length, 0);
  const base = placement.reserveLow("start information", informationBytes, lowestAddress);

  let textAddress = base + offsets.text + commandLine.length;
  const placedModules = options.modules.map(({ bytes }, i) => {
    const address = bytes.length === 0 ? 0 : placement.placeHigh(`module ${i}`, bytes, lowRamEndMaximum);
    const commandLineAddress = textAddress;
    textAddress += moduleLines[i].length;
    return { address, sizeBytes: bytes.length, commandLine: commandLineAddress };
  });
  const startInfo = new Uint8Array(startInfoSizeBytes);
  const view = dataView(startInfo);
  view.setUint32(0, startInfoMagic, true);
  view.setUint32(4, startInfoVersion, true);
  view.setUint32(12, placedModules.length, true);
  view.setBigUint64(16, BigInt(placedModules.length === 0 ? 0 : base + offsets.modules), true);
  view.setBigUint64(24, BigInt(base + offsets.text), true);
  view.setBigUint64(32, BigInt(options.rsdpAddress ?? 0), true);
  view.setBigUint64(40, BigInt(base + offsets.memoryMap), true);
  view.setUint32(48, options.memory.regions.length, true);
  placement.fill("start information", base, concatBytes([startInfo, encodeModules(placedModules), memoryMap, commandLine, ...moduleLines]));
  const registers = protectedModeRegisters({ rip: entry, general: { rbx: base }, descriptorTable });
  return { protocol: "pvh", mode: "protected32", writes: placement.writes, registers };
}
