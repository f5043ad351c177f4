/** Wider accesses to devices whose registers are single bytes, as the ISA bus splits them. */
import type { AccessSize, RegisterBlock } from "./contract.ts";

/** A device with 8-bit registers only. */
export interface ByteRegisters {
  read(offset: number): number;
  write(offset: number, value: number): void;
}

/** Splits 16- and 32-bit accesses into bytes at ascending offsets. */
export function byteRegisterBlock(registers: ByteRegisters): RegisterBlock {
  return {
    read(offset: number, sizeBytes: AccessSize): number {
      if (sizeBytes === 1) return registers.read(offset);
      let value = 0;
      for (let byte = 0; byte < sizeBytes; byte++) value |= registers.read(offset + byte) << (8 * byte);
      return value >>> 0;
    },
    write(offset: number, sizeBytes: AccessSize, value: number): void {
      for (let byte = 0; byte < sizeBytes; byte++) registers.write(offset + byte, (value >>> (8 * byte)) & 0xff);
    },
  };
}
