/** Display memory through the window at 0xA0000: planar, odd/even and chain-4 addressing, read and write modes. */
import type { AccessSize, RegisterBlock } from "../../contract.ts";
import { dispiBankOffset } from "./dispi.ts";
import { chainFourMask, Graphics, oddEvenDisableMask, readModeMask, Sequencer } from "./registers.ts";
import type { VgaState } from "./state.ts";

export const windowBase = 0xa0000;
export const windowBytes = 0x20000;

/** Spreads four plane bits to four bytes of ones. */
const planeBytes: Uint32Array = Uint32Array.from({ length: 16 }, (_, planes) => {
  let spread = 0;
  for (let plane = 0; plane < 4; plane++) if ((planes >> plane) & 1) spread |= 0xff << (8 * plane);
  return spread >>> 0;
});

export class VgaMemory {
  readonly #state: VgaState;
  readonly #planes: Uint32Array;

  constructor(state: VgaState) {
    this.#state = state;
    this.#planes = new Uint32Array(state.memory.buffer, state.memory.byteOffset, state.memory.length >> 2);
  }

  readonly window: RegisterBlock = {
    read: (offset, sizeBytes) => {
      let value = 0;
      for (let i = 0; i < sizeBytes; i++) value |= this.#readByte(offset + i) << (8 * i);
      return value >>> 0;
    },
    write: (offset, sizeBytes, value) => {
      for (let i = 0; i < sizeBytes; i++) this.#writeByte(offset + i, (value >>> (8 * i)) & 0xff);
    },
  };

  /** All of display memory, byte by byte as stored: the linear frame buffer. */
  readonly linear: RegisterBlock = {
    read: (offset, sizeBytes) => {
      if (sizeBytes === 4 && (offset & 3) === 0) return this.#planes[offset >> 2];
      return readBytes(this.#state.memory, offset, sizeBytes);
    },
    write: (offset, sizeBytes, value) => {
      if (sizeBytes === 4 && (offset & 3) === 0) this.#planes[offset >> 2] = value;
      else for (let i = 0; i < sizeBytes; i++) this.#state.memory[offset + i] = value >>> (8 * i);
    },
  };

  /** The address inside of display memory's 64 KiB a plane, or undefined where the memory map has nothing. */
  #decode(offset: number): number | undefined {
    switch ((this.#state.graphics[Graphics.miscellaneous] >> 2) & 3) {
      case 0:
        return offset;
      case 1:
        return offset < 0x10000 ? offset + dispiBankOffset(this.#state) : undefined;
      case 2:
        return offset >= 0x10000 && offset < 0x18000 ? offset - 0x10000 : undefined;
      default:
        return offset >= 0x18000 ? offset - 0x18000 : undefined;
    }
  }

  #readByte(offset: number): number {
    const { sequencer, graphics, memory } = this.#state;
    const address = this.#decode(offset);
    if (address === undefined) return 0xff;
    if ((sequencer[Sequencer.memoryMode] & chainFourMask) !== 0) return memory[address] ?? 0xff;
    const planar = this.#isOddEven ? address >> 1 : address;
    if (planar >= this.#planes.length) return 0xff;
    const latches = this.#planes[planar];
    this.#state.latches = latches;
    if (this.#isOddEven) return (latches >>> (8 * ((address & 1) | (graphics[Graphics.readMapSelect] & 2)))) & 0xff;
    if ((graphics[Graphics.mode] & readModeMask) === 0) {
      return (latches >>> (8 * graphics[Graphics.readMapSelect])) & 0xff;
    }
    const care = planeBytes[graphics[Graphics.colorDoNotCare]];
    const differing = (latches ^ planeBytes[graphics[Graphics.colorCompare]]) & care;
    return ~(differing | (differing >>> 8) | (differing >>> 16) | (differing >>> 24)) & 0xff;
  }

  #writeByte(offset: number, value: number): void {
    const { sequencer, memory } = this.#state;
    const address = this.#decode(offset);
    if (address === undefined) return;
    const mapMask = sequencer[Sequencer.mapMask] & 0x0f;
    if ((sequencer[Sequencer.memoryMode] & chainFourMask) !== 0) {
      if (((mapMask >> (address & 3)) & 1) !== 0 && address < memory.length) memory[address] = value;
      return;
    }
    // Even addresses reach planes 0 and 2, odd ones 1 and 3.
    const planes = this.#isOddEven ? mapMask & (0b0101 << (address & 1)) : mapMask;
    const planar = this.#isOddEven ? address >> 1 : address;
    if (planar >= this.#planes.length) return;
    const writable = planeBytes[planes];
    this.#planes[planar] = (this.#planes[planar] & ~writable) | (this.#compose(value) & writable);
  }

  get #isOddEven(): boolean {
    return (this.#state.sequencer[Sequencer.memoryMode] & oddEvenDisableMask) === 0;
  }

  /** What the four planes would receive, by write mode. */
  #compose(value: number): number {
    const { graphics, latches } = this.#state;
    const rotation = graphics[Graphics.dataRotate] & 7;
    const rotated = ((value >> rotation) | (value << (8 - rotation))) & 0xff;
    const setReset = planeBytes[graphics[Graphics.setReset]];
    switch (graphics[Graphics.mode] & 3) {
      case 0: {
        const enabled = planeBytes[graphics[Graphics.enableSetReset]];
        return this.#combine((repeat(rotated) & ~enabled) | (setReset & enabled), graphics[Graphics.bitMask]);
      }
      case 1:
        return latches;
      case 2:
        return this.#combine(planeBytes[value & 0x0f], graphics[Graphics.bitMask]);
      default:
        return this.#combine(setReset, rotated & graphics[Graphics.bitMask]);
    }
  }

  #combine(data: number, bitMask: number): number {
    const { graphics, latches } = this.#state;
    const mask = repeat(bitMask);
    const results = [data, data & latches, data | latches, data ^ latches];
    return (results[(graphics[Graphics.dataRotate] >> 3) & 3] & mask) | (latches & ~mask);
  }
}

function repeat(byte: number): number {
  return Math.imul(byte, 0x01010101);
}

function readBytes(bytes: Uint8Array, offset: number, sizeBytes: AccessSize): number {
  let value = 0;
  for (let i = 0; i < sizeBytes; i++) value |= (bytes[offset + i] ?? 0xff) << (8 * i);
  return value >>> 0;
}
