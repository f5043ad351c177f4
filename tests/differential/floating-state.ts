/** Random x87, MMX and SSE state as FXSAVE images (SDM volume 1, "FXSAVE Area", "x87 FPU Control Word", "MXCSR"). */
import { FxsaveOffset } from "./layout.ts";
import type { Random } from "./random.ts";
import { poolBytes, pools } from "./values.ts";
import type { ValueKind } from "./values.ts";

const exceptionMask = 0x3f;

/** A place in a pool from which `sizeBytes` can be read. */
function slice(random: Random, pool: Uint8Array, sizeBytes: number): Uint8Array {
  const at = random.below((poolBytes - sizeBytes) / 16) * 16;
  return pool.subarray(at, at + sizeBytes);
}

/** Fills the 512 bytes at `image`; no reserved bit is set. */
export function writeFloatingState(random: Random, image: Uint8Array, kind: ValueKind, isMmx: boolean): void {
  image.fill(0);
  const control = controlWord(random);
  const status = statusWord(random, control);
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  view.setUint16(FxsaveOffset.fcw, control, true);
  view.setUint16(FxsaveOffset.fsw, status, true);
  image[FxsaveOffset.ftw] = random.chance(60) ? 0xff : random.next() & 0xff;
  view.setUint32(FxsaveOffset.mxcsr, mxcsr(random), true);
  image.set(slice(random, isMmx ? pools.integer : pools.float80, 128), FxsaveOffset.st);
  for (let register = 0; register < 8; register++) {
    const at = FxsaveOffset.st + 16 * register;
    if (isMmx) view.setUint16(at + 8, random.chance(80) ? 0xffff : random.next() & 0xffff, true);
    image.fill(0, at + 10, at + 16);
  }
  image.set(slice(random, pools[kind === "float80" || kind === "bcd" ? "integer" : kind], 256), FxsaveOffset.xmm);
}

export function controlWord(random: Random): number {
  const masks = random.chance(75) ? exceptionMask : random.next() & exceptionMask;
  // Precision control 01 is reserved.
  const precision = random.pick([3, 3, 3, 2, 0]);
  return 0x40 | masks | (precision << 8) | (random.below(4) << 10);
}

/** Summary and busy bits agree with the flags and masks. */
export function statusWord(random: Random, control: number): number {
  let flags = random.chance(50) ? 0 : random.next() & exceptionMask;
  if (random.chance(85)) flags &= control;
  const isPending = (flags & ~control & exceptionMask) !== 0;
  const conditions = random.next() & 0x4700;
  const stackFault = random.chance(20) ? 0x40 : 0;
  return flags | stackFault | conditions | (random.below(8) << 11) | (isPending ? 0x8080 : 0);
}

export function mxcsr(random: Random): number {
  const masks = random.chance(75) ? exceptionMask : random.next() & exceptionMask;
  const flags = random.chance(50) ? 0 : random.next() & exceptionMask;
  const denormalsAreZero = random.chance(25) ? 0x40 : 0;
  const flushToZero = random.chance(25) ? 0x8000 : 0;
  return flags | denormalsAreZero | (masks << 7) | (random.below(4) << 13) | flushToZero;
}
