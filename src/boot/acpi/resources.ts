/** Resource descriptors for `_CRS` (ACPI specification 6.5, section 6.4). */
import { concatBytes } from "../bytes.ts";
import { buffer, type Aml } from "./aml.ts";

/** One descriptor's bytes. */
export type Resource = Uint8Array;

const decode16Mask = 0x01;
const resourceType = { memory: 0, io: 1, busNumber: 2 } as const;
/** Producer, positive decode, minimum and maximum fixed. */
const windowFlags = 0x0c;
const memoryFlags = { nonCacheableReadWrite: 0x01, cacheableReadWrite: 0x03 } as const;
const ioEntireRangeFlags = 0x03;

function little(sizeBytes: number, ...values: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(values.length * sizeBytes);
  const view = new DataView(bytes.buffer);
  values.forEach((value, i) => {
    if (sizeBytes === 8) view.setBigUint64(i * 8, BigInt(value), true);
    else if (sizeBytes === 4) view.setUint32(i * 4, value, true);
    else view.setUint16(i * 2, value, true);
  });
  return bytes;
}

/** Ports `base` to `base + length - 1`. */
export function ioPorts(base: number, length: number): Resource {
  return concatBytes([Uint8Array.of(0x47, decode16Mask), little(2, base, base), Uint8Array.of(1, length)]);
}

/** An ISA interrupt: edge-triggered, active high, not shared. */
export function isaInterrupt(line: number): Resource {
  return concatBytes([Uint8Array.of(0x22), little(2, 1 << line)]);
}

/** A fixed 32-bit memory range. */
export function memoryRange(base: number, length: number, isWritable = true): Resource {
  return concatBytes([Uint8Array.of(0x86, 9, 0, isWritable ? 1 : 0), little(4, base, length)]);
}

function window(tag: number, sizeBytes: number, type: number, specificFlags: number, minimum: number, maximum: number): Resource {
  const body = little(sizeBytes, 0, minimum, maximum, 0, maximum - minimum + 1);
  return concatBytes([Uint8Array.of(tag), little(2, 3 + body.length), Uint8Array.of(type, windowFlags, specificFlags), body]);
}

/** Bus numbers that a bridge produces; both ends are inclusive, as in all windows. */
export function busNumbers(minimum: number, maximum: number): Resource {
  return window(0x88, 2, resourceType.busNumber, 0, minimum, maximum);
}

export function ioWindow(minimum: number, maximum: number): Resource {
  return window(0x88, 2, resourceType.io, ioEntireRangeFlags, minimum, maximum);
}

export function memoryWindow32(minimum: number, maximum: number, isCacheable = false): Resource {
  return window(0x87, 4, resourceType.memory, isCacheable ? memoryFlags.cacheableReadWrite : memoryFlags.nonCacheableReadWrite, minimum, maximum);
}

export function memoryWindow64(minimum: number, maximum: number): Resource {
  return window(0x8a, 8, resourceType.memory, memoryFlags.cacheableReadWrite, minimum, maximum);
}

/** A `_CRS` value. The end tag's checksum of zero means that it is not to be checked. */
export function resourceTemplate(...resources: readonly Resource[]): Aml {
  return buffer(concatBytes([...resources, Uint8Array.of(0x79, 0)]));
}
