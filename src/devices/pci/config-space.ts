/** The 256 bytes of a function's configuration space with their write permissions (PCI Local Bus Specification 3.0, chapter 6). */
import { invariant } from "../../base/errors.ts";
import type { AccessSize } from "../contract.ts";
import { configSizeBytes } from "./registers.ts";

/** Which bits software may change is part of the model, so only the bytes are state. */
export class PciConfigSpace {
  readonly bytes: Uint8Array;
  readonly #writable: Uint8Array = new Uint8Array(configSizeBytes);
  readonly #clearedByOne: Uint8Array = new Uint8Array(configSizeBytes);

  constructor(bytes: Uint8Array) {
    invariant(bytes.length === configSizeBytes, "a configuration space has 256 bytes");
    this.bytes = bytes;
  }

  /** Software may set and clear the bits of `mask`. */
  permit(offset: number, sizeBytes: AccessSize, mask: number): void {
    putLittleEndian(this.#writable, offset, sizeBytes, mask);
  }

  /** Software clears the bits of `mask` by writing ones to them. */
  permitClear(offset: number, sizeBytes: AccessSize, mask: number): void {
    putLittleEndian(this.#clearedByOne, offset, sizeBytes, mask);
  }

  get(offset: number, sizeBytes: AccessSize): number {
    let value = 0;
    for (let i = 0; i < sizeBytes; i++) value |= this.bytes[offset + i] << (8 * i);
    return value >>> 0;
  }

  /** The model's own store: ignores permissions. */
  set(offset: number, sizeBytes: AccessSize, value: number): void {
    putLittleEndian(this.bytes, offset, sizeBytes, value);
  }

  /** Bytes beyond the 256 read as all ones, as on a function without extended configuration space. */
  read(offset: number, sizeBytes: AccessSize): number {
    let value = 0;
    for (let i = 0; i < sizeBytes; i++) value |= (this.bytes[offset + i] ?? 0xff) << (8 * i);
    return value >>> 0;
  }

  /** Software's store: obeys permissions. */
  write(offset: number, sizeBytes: AccessSize, value: number): void {
    for (let i = 0; i < sizeBytes; i++) {
      const at = offset + i;
      if (at >= configSizeBytes) return;
      const written = (value >>> (8 * i)) & 0xff;
      const writable = this.#writable[at];
      const old = this.bytes[at] & ~(written & this.#clearedByOne[at]);
      this.bytes[at] = (old & ~writable) | (written & writable);
    }
  }
}

function putLittleEndian(target: Uint8Array, offset: number, sizeBytes: AccessSize, value: number): void {
  for (let i = 0; i < sizeBytes; i++) target[offset + i] = (value >>> (8 * i)) & 0xff;
}

/** All bits of an access of `sizeBytes` set: what a read returns when nothing answers. */
export function allOnes(sizeBytes: AccessSize): number {
  return sizeBytes === 4 ? 0xffffffff : (1 << (8 * sizeBytes)) - 1;
}
