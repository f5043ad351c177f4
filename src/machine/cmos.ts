/** CMOS bytes by which firmware learns the memory sizes (as QEMU sets them; SeaBIOS src/fw/paravirt.c and edk2 PlatformPei read them). */
import type { MemoryMap } from "../boot/memory-map.ts";

const kibibyte = 1024;
const extendedStart = 0x10_0000;
const above16MibStart = 0x100_0000;
const highStart = 0x1_0000_0000;

export function cmosContents(memory: MemoryMap): Record<number, number> {
  const lowSizeBytes = memory.ram[0].sizeBytes;
  const highSizeBytes = memory.ram.filter(({ address }) => address >= highStart).reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const extendedKib = Math.min(Math.max(lowSizeBytes - extendedStart, 0) / kibibyte, 0xffff);
  const above16MibBlocks = Math.min(Math.max(lowSizeBytes - above16MibStart, 0) / 0x1_0000, 0xffff);
  const highBlocks = highSizeBytes / 0x1_0000;
  return {
    0x15: 640 & 0xff, 0x16: 640 >> 8,
    0x17: extendedKib & 0xff, 0x18: extendedKib >> 8, 0x30: extendedKib & 0xff, 0x31: extendedKib >> 8,
    0x34: above16MibBlocks & 0xff, 0x35: above16MibBlocks >> 8,
    0x5b: highBlocks & 0xff, 0x5c: (highBlocks >> 8) & 0xff, 0x5d: (highBlocks >> 16) & 0xff,
    // Boot order: hard disk, then CD-ROM; no floppy, signature check on.
    0x38: 0x30, 0x3d: 0x32,
  };
}
