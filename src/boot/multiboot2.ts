/** Starts a kernel by the Multiboot2 Specification 2.0 (GNU): ELF, or raw images with an address tag. */
import { UserError } from "../base/errors.ts";
import { placeBiosDataArea } from "./bios-data.ts";
import { alignUp, concatBytes, dataView, encodeCString, hex } from "./bytes.ts";
import type { BootImage } from "./contract.ts";
import { isElf } from "./elf.ts";
import { memoryTypeNumbers, type MemoryMap } from "./memory-map.ts";
import { bootLoaderName, lowestAddress, memoryAmounts, placeElf, placeModules, type MultibootOptions } from "./multiboot1.ts";
import { Placement } from "./placement.ts";
import { descriptorTable32, protectedModeRegisters } from "./registers.ts";

const headerMagic = 0xe852_50d6;
const loaderMagic = 0x36d7_6289;
const searchBytes = 32_768;
const architectureI386 = 0;
const tagAlignment = 8;
const optionalTagMask = 1;
/** What a header may ask for. */
const headerTag = { end: 0, informationRequest: 1, address: 2, entryAddress: 3, consoleFlags: 4, framebuffer: 5, moduleAlignment: 6, efiBootServices: 7, efiEntry32: 8, efiEntry64: 9, relocatable: 10 } as const;
/** What we tell. */
const informationTag = { end: 0, commandLine: 1, bootLoaderName: 2, module: 3, basicMemory: 4, memoryMap: 6, acpiOld: 14, acpiNew: 15 } as const;
const toldTags: ReadonlySet<number> = new Set(Object.values(informationTag));
const memoryMapEntrySizeBytes = 24;
const acpiOldSizeBytes = 20;

interface AddressTag {
  readonly headerAddress: number;
  readonly loadAddress: number;
  readonly loadEndAddress: number;
  readonly bssEndAddress: number;
}

export interface Multiboot2Header {
  readonly offset: number;
  readonly address?: AddressTag;
  readonly entryAddress?: number;
  /** Numbers of information tags that the kernel cannot do without. */
  readonly requiredInformation: readonly number[];
  /** Numbers of other header tags that are not marked optional. */
  readonly requiredTags: readonly number[];
}

function badImage(reason: string): UserError {
  return new UserError("BAD_IMAGE", `this multiboot2 kernel cannot be booted: ${reason}`);
}

function findHeaderOffset(bytes: Uint8Array): number | undefined {
  const view = dataView(bytes);
  for (let offset = 0; offset + 16 <= Math.min(bytes.length, searchBytes); offset += tagAlignment) {
    if (view.getUint32(offset, true) !== headerMagic) continue;
    const sum = headerMagic + view.getUint32(offset + 4, true) + view.getUint32(offset + 8, true) + view.getUint32(offset + 12, true);
    if (sum % 0x1_0000_0000 === 0 && view.getUint32(offset + 4, true) === architectureI386) return offset;
  }
  return undefined;
}

/**
 * The header in the first 32 KiB; undefined when there is none.
 * @throws UserError BAD_IMAGE when its tags are damaged.
 */
export function findMultiboot2Header(bytes: Uint8Array): Multiboot2Header | undefined {
  const offset = findHeaderOffset(bytes);
  if (offset === undefined) return undefined;
  const view = dataView(bytes);
  const end = Math.min(offset + view.getUint32(offset + 8, true), bytes.length);
  let header: Multiboot2Header = { offset, requiredInformation: [], requiredTags: [] };
  for (let at = offset + 16; at + 8 <= end;) {
    const type = view.getUint16(at, true);
    const isOptional = (view.getUint16(at + 2, true) & optionalTagMask) !== 0;
    const sizeBytes = view.getUint32(at + 4, true);
    if (type === headerTag.end) return header;
    if (sizeBytes < 8 || at + sizeBytes > end) throw badImage(`the header's tag at ${hex(at)} is damaged`);
    const field = (index: number): number => (8 + 4 * index + 4 <= sizeBytes ? view.getUint32(at + 8 + 4 * index, true) : 0);
    switch (type) {
      case headerTag.informationRequest:
        if (!isOptional) header = { ...header, requiredInformation: Array.from({ length: (sizeBytes - 8) >> 2 }, (_, i) => field(i)) };
        break;
      case headerTag.address:
        header = { ...header, address: { headerAddress: field(0), loadAddress: field(1), loadEndAddress: field(2), bssEndAddress: field(3) } };
        break;
      case headerTag.entryAddress:
        header = { ...header, entryAddress: field(0) };
        break;
      // Modules always start on a page; EFI entries do not concern a machine without EFI; the preferred place is where we load.
      case headerTag.consoleFlags:
      case headerTag.moduleAlignment:
      case headerTag.efiBootServices:
      case headerTag.efiEntry32:
      case headerTag.efiEntry64:
      case headerTag.relocatable:
        break;
      default:
        if (!isOptional) header = { ...header, requiredTags: [...header.requiredTags, type] };
    }
    at += alignUp(sizeBytes, tagAlignment);
  }
  return header;
}

function placeRaw(kernel: Uint8Array, header: Multiboot2Header, address: AddressTag, placement: Placement): number {
  const { headerAddress, loadAddress, loadEndAddress, bssEndAddress } = address;
  const loadsWholeFile = loadAddress === 0xffff_ffff;
  const start = loadsWholeFile ? 0 : header.offset - (headerAddress - loadAddress);
  const target = loadsWholeFile ? headerAddress - header.offset : loadAddress;
  const loadBytes = loadEndAddress === 0 ? kernel.length - start : loadEndAddress - target;
  if (start < 0 || start > header.offset || target < 0 || loadBytes < 0 || start + loadBytes > kernel.length) throw badImage("the addresses in its header do not fit the file");
  const sizeBytes = bssEndAddress === 0 ? loadBytes : bssEndAddress - target;
  if (sizeBytes < loadBytes) throw badImage(`its memory ends at ${hex(bssEndAddress)}, before its loaded part`);
  placement.place("kernel", target, kernel.subarray(start, start + loadBytes), sizeBytes);
  if (header.entryAddress === undefined) throw badImage("it has load addresses but no entry address");
  return header.entryAddress;
}

function tag(type: number, ...content: readonly Uint8Array[]): Uint8Array {
  const sizeBytes = 8 + content.reduce((sum, part) => sum + part.length, 0);
  return concatBytes([words(type, sizeBytes), ...content, new Uint8Array(alignUp(sizeBytes, tagAlignment) - sizeBytes)]);
}

function words(...values: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(values.length * 4);
  values.forEach((value, i) => dataView(bytes).setUint32(i * 4, value, true));
  return bytes;
}

function memoryMapTag(memory: MemoryMap): Uint8Array {
  const entries = new Uint8Array(memory.regions.length * memoryMapEntrySizeBytes);
  const view = dataView(entries);
  memory.regions.forEach(({ address, sizeBytes, kind }, i) => {
    view.setBigUint64(i * memoryMapEntrySizeBytes, BigInt(address), true);
    view.setBigUint64(i * memoryMapEntrySizeBytes + 8, BigInt(sizeBytes), true);
    view.setUint32(i * memoryMapEntrySizeBytes + 16, memoryTypeNumbers[kind], true);
  });
  return tag(informationTag.memoryMap, words(memoryMapEntrySizeBytes, 0), entries);
}

/**
 * Lays out a multiboot2 kernel. Registers: EAX has the loader's magic, EBX the information structure.
 * @throws UserError BAD_IMAGE (no header, damaged, unknown requirement), BAD_MEMORY_SIZE (too little).
 */
export function loadMultiboot2(options: MultibootOptions): BootImage {
  const header = findMultiboot2Header(options.kernel);
  if (header === undefined) throw badImage("there is no multiboot2 header in its first 32 KiB");
  const untold = header.requiredInformation.filter((type) => !toldTags.has(type));
  if (untold.length > 0) throw badImage(`it needs information that we do not have (tags ${untold.join(", ")})`);
  if (header.requiredTags.length > 0) throw badImage(`it requires features that we do not have (header tags ${header.requiredTags.join(", ")})`);
  if (header.address === undefined && !isElf(options.kernel)) throw badImage("it is no ELF file, and its header has no load addresses");
  const placement = new Placement(options.memory);
  const elfEntry = header.address === undefined ? placeElf(options.kernel, placement) : placeRaw(options.kernel, header, header.address, placement);
  placeBiosDataArea(placement);
  const descriptorTable = placement.placeLow("descriptor table", descriptorTable32, lowestAddress);

  const { lowerKib, upperKib } = memoryAmounts(options.memory);
  const moduleTag = (address: number, sizeBytes: number, commandLine: string): Uint8Array =>
    tag(informationTag.module, words(address, address + sizeBytes), encodeCString(commandLine));
  const rsdp = options.rsdp;
  const fixedTags = [
    tag(informationTag.commandLine, encodeCString(options.commandLine)),
    tag(informationTag.bootLoaderName, encodeCString(bootLoaderName)),
    tag(informationTag.basicMemory, words(lowerKib, upperKib)),
    memoryMapTag(options.memory),
    ...(rsdp === undefined ? [] : [tag(rsdp.length > acpiOldSizeBytes ? informationTag.acpiNew : informationTag.acpiOld, rsdp)]),
  ];
  const moduleTagBytes = options.modules.map(({ commandLine }) => moduleTag(0, 0, commandLine).length);
  const totalBytes = 8 + [...fixedTags.map(({ length }) => length), ...moduleTagBytes, 8].reduce((sum, length) => sum + length, 0);
  const base = placement.reserveLow("multiboot information", totalBytes, lowestAddress);
  const moduleAddresses = placeModules(options.modules, placement);
  const moduleTags = options.modules.map(({ bytes, commandLine }, i) => moduleTag(moduleAddresses[i], bytes.length, commandLine));
  placement.fill("multiboot information", base, concatBytes([words(totalBytes, 0), ...fixedTags, ...moduleTags, tag(informationTag.end)]));
  const rip = header.entryAddress ?? elfEntry;
  const registers = protectedModeRegisters({ rip, general: { rax: loaderMagic, rbx: base }, descriptorTable });
  return { protocol: "multiboot2", mode: "protected32", writes: placement.writes, registers };
}
