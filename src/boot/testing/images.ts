/** Small images made up for tests. */
import { alignUp, ascii, concatBytes, dataView } from "../bytes.ts";

export interface TestSegment {
  readonly type?: number;
  readonly physicalAddress: number;
  readonly virtualAddress?: number;
  readonly bytes: Uint8Array;
  readonly sizeBytes?: number;
}

/** A Xen note with the entry point of PVH, as the content of a segment of type 4. */
export function pvhNote(entry: number): Uint8Array {
  const bytes = new Uint8Array(20);
  const view = dataView(bytes);
  view.setUint32(0, 4, true);
  view.setUint32(4, 4, true);
  view.setUint32(8, 18, true);
  bytes.set(ascii("Xen\0"), 12);
  view.setUint32(16, entry, true);
  return bytes;
}

/** An ELF executable of 32 or 64 bits. */
export function makeElf(is64Bit: boolean, entry: number, segments: readonly TestSegment[]): Uint8Array {
  const headerBytes = is64Bit ? 64 : 52;
  const entryBytes = is64Bit ? 56 : 32;
  const header = new Uint8Array(headerBytes + segments.length * entryBytes);
  const view = dataView(header);
  const word = (offset: number, value: number): void => {
    if (is64Bit) view.setBigUint64(offset, BigInt(value), true);
    else view.setUint32(offset, value, true);
  };
  header.set([0x7f, 0x45, 0x4c, 0x46, is64Bit ? 2 : 1, 1, 1]);
  view.setUint16(16, 2, true);
  view.setUint16(18, is64Bit ? 62 : 3, true);
  view.setUint32(20, 1, true);
  word(24, entry);
  word(is64Bit ? 32 : 28, headerBytes);
  view.setUint16(is64Bit ? 54 : 42, entryBytes, true);
  view.setUint16(is64Bit ? 56 : 44, segments.length, true);
  let offset = header.length;
  segments.forEach((segment, i) => {
    const at = headerBytes + i * entryBytes;
    const sizeBytes = segment.sizeBytes ?? segment.bytes.length;
    const virtualAddress = segment.virtualAddress ?? segment.physicalAddress;
    view.setUint32(at, segment.type ?? 1, true);
    const fields = [offset, virtualAddress, segment.physicalAddress, segment.bytes.length, sizeBytes];
    fields.forEach((value, field) => word(at + (is64Bit ? 8 + 8 * field : 4 + 4 * field), value));
    offset += segment.bytes.length;
  });
  return concatBytes([header, ...segments.map(({ bytes }) => bytes)]);
}

/** A multiboot 1 header; `addresses` are header, load, load end, bss end and entry address. */
export function multiboot1Header(flags: number, addresses: readonly number[] = []): Uint8Array {
  const bytes = new Uint8Array(12 + 4 * addresses.length);
  const view = dataView(bytes);
  view.setUint32(0, 0x1bad_b002, true);
  view.setUint32(4, flags, true);
  view.setUint32(8, -(0x1bad_b002 + flags), true);
  addresses.forEach((address, i) => view.setUint32(12 + 4 * i, address, true));
  return bytes;
}

/** A multiboot 2 header of the given tags (type, flags, words) and the end tag. */
export function multiboot2Header(tags: readonly (readonly [type: number, flags: number, ...content: number[]])[]): Uint8Array {
  const parts = [...tags, [0, 0] as const].map(([type, flags, ...content]) => {
    const sizeBytes = 8 + 4 * content.length;
    const bytes = new Uint8Array(alignUp(sizeBytes, 8));
    const view = dataView(bytes);
    view.setUint16(0, type, true);
    view.setUint16(2, flags, true);
    view.setUint32(4, sizeBytes, true);
    content.forEach((value, i) => view.setUint32(8 + 4 * i, value, true));
    return bytes;
  });
  const length = 16 + parts.reduce((sum, part) => sum + part.length, 0);
  const start = new Uint8Array(16);
  const view = dataView(start);
  view.setUint32(0, 0xe852_50d6, true);
  view.setUint32(8, length, true);
  view.setUint32(12, -(0xe852_50d6 + length), true);
  return concatBytes([start, ...parts]);
}

export interface TestKernelFields {
  readonly version?: number;
  readonly setupSectors?: number;
  readonly initSizeBytes?: number;
  readonly preferredAddress?: number;
  readonly extendedLoadFlags?: number;
  readonly commandLineSize?: number;
  readonly initrdAddressMaximum?: number;
  readonly payload?: Uint8Array;
}

/** A bzImage with a protected-mode part of 64 KiB (and the payload at 0x1000 of it). */
export function makeBzImage(fields: TestKernelFields = {}): Uint8Array {
  const setupSectors = fields.setupSectors ?? 4;
  const setupBytes = (setupSectors + 1) * 512;
  const payload = fields.payload ?? new Uint8Array(16);
  const codeBytes = alignUp(Math.max(0x1_0000, 0x1000 + payload.length), 16);
  const bytes = new Uint8Array(setupBytes + codeBytes);
  const view = dataView(bytes);
  view.setUint8(0x1f1, setupSectors);
  view.setUint32(0x1f4, codeBytes / 16, true);
  view.setUint16(0x1fe, 0xaa55, true);
  view.setUint8(0x200, 0xeb);
  view.setUint8(0x201, 0x6a);
  bytes.set(ascii("HdrS"), 0x202);
  view.setUint16(0x206, fields.version ?? 0x20f, true);
  view.setUint16(0x20e, 0x200, true);
  bytes.set(ascii("6.6.6-test\0"), 0x400);
  view.setUint8(0x211, 1);
  view.setUint32(0x22c, fields.initrdAddressMaximum ?? 0x7fff_ffff, true);
  view.setUint32(0x230, 0x20_0000, true);
  view.setUint8(0x234, 1);
  view.setUint16(0x236, fields.extendedLoadFlags ?? 0x7f, true);
  view.setUint32(0x238, fields.commandLineSize ?? 2047, true);
  view.setUint32(0x248, 0x1000, true);
  view.setUint32(0x24c, payload.length, true);
  view.setBigUint64(0x258, BigInt(fields.preferredAddress ?? 0x100_0000), true);
  view.setUint32(0x260, fields.initSizeBytes ?? 0x20_0000, true);
  bytes.set(payload, setupBytes + 0x1000);
  return bytes;
}
