/** Device-specific configuration that is an array of bytes (Virtual I/O Device 1.2, 2.5). */
import type { RegisterBlock } from "../contract.ts";

/** Read-only view of `bytes`; beyond them all ones. */
export function bytesRegisterBlock(bytes: Uint8Array): RegisterBlock {
  return {
    read(offset, sizeBytes) {
      let value = 0;
      for (let i = 0; i < sizeBytes; i++) value |= (bytes[offset + i] ?? 0xff) << (8 * i);
      return value >>> 0;
    },
    write() {},
  };
}
