/** The screen as pixels: text with its fonts, planar and packed VGA modes, and Bochs VBE modes. */
import { dac8BitMask, Dispi, dispiLineBytes, isDispiEnabled } from "./dispi.ts";
import {
  Attribute,
  attributeBlinkMask,
  Crtc,
  eightDotMask,
  Graphics,
  paletteBits54Mask,
  Sequencer,
  shift256Mask,
  shiftInterleaveMask,
} from "./registers.ts";
import type { VgaState } from "./state.ts";
import { crtcGeometry, isTextMode } from "./text.ts";

export interface Picture {
  readonly width: number;
  readonly height: number;
  /** Red, green, blue, alpha (always 255); row by row from the top. */
  readonly data: Uint8ClampedArray;
}

/** A color as it lies in an RGBA array read as little-endian 32-bit words. */
type PackedColor = number;

class Canvas {
  readonly width: number;
  readonly height: number;
  readonly words: Uint32Array;

  constructor(width: number, height: number) {
    this.width = width;
    this.height = height;
    this.words = new Uint32Array(width * height).fill(0xff000000);
  }

  get picture(): Picture {
    return { width: this.width, height: this.height, data: new Uint8ClampedArray(this.words.buffer) };
  }
}

export function readPixels(state: VgaState): Picture {
  if (isDispiEnabled(state) && state.dispi[Dispi.bitsPerPixel] !== 4) return drawLinear(state);
  if (isTextMode(state)) return drawText(state);
  if ((state.graphics[Graphics.mode] & shift256Mask) !== 0) return draw256(state);
  return drawPlanar(state);
}

function pack(red: number, green: number, blue: number): PackedColor {
  return (0xff000000 | (blue << 16) | (green << 8) | red) >>> 0;
}

/** The 256 DAC entries; six bits a component unless VBE switched to eight. */
function dacColors(state: VgaState): Uint32Array {
  const is8Bit = isDispiEnabled(state) && (state.dispi[Dispi.enable] & dac8BitMask) !== 0;
  const level = (value: number): number => (is8Bit ? value : ((value & 0x3f) << 2) | ((value & 0x3f) >> 4));
  return Uint32Array.from({ length: 256 }, (_, i) => {
    const at = 3 * (i & state.pelMask);
    return pack(level(state.palette[at]), level(state.palette[at + 1]), level(state.palette[at + 2]));
  });
}

/** The sixteen attribute colors, through the DAC. */
function attributeColors(state: VgaState): Uint32Array {
  const dac = dacColors(state);
  const { attribute } = state;
  const select = attribute[Attribute.colorSelect];
  return Uint32Array.from({ length: 16 }, (_, color) => {
    const entry = attribute[color & attribute[Attribute.planeEnable]];
    const low = (attribute[Attribute.mode] & paletteBits54Mask) === 0 ? entry & 0x3f : (entry & 0x0f) | ((select & 3) << 4);
    return dac[low | ((select & 0x0c) << 4)];
  });
}

function drawLinear(state: VgaState): Picture {
  const { dispi, memory } = state;
  const bitsPerPixel = dispi[Dispi.bitsPerPixel];
  const pixelBytes = (bitsPerPixel + 7) >> 3;
  const lineBytes = dispiLineBytes(state);
  const canvas = new Canvas(dispi[Dispi.width], dispi[Dispi.height]);
  const start = dispi[Dispi.offsetY] * lineBytes + dispi[Dispi.offsetX] * pixelBytes;
  const dac = dacColors(state);
  const scale5 = (value: number): number => ((value & 31) << 3) | ((value & 31) >> 2);
  const color = (at: number): PackedColor => {
    switch (bitsPerPixel) {
      case 8:
        return dac[memory[at]];
      case 15: {
        const value = memory[at] | (memory[at + 1] << 8);
        return pack(scale5(value >> 10), scale5(value >> 5), scale5(value));
      }
      case 16: {
        const value = memory[at] | (memory[at + 1] << 8);
        return pack(scale5(value >> 11), (((value >> 5) & 63) << 2) | ((value >> 9) & 3), scale5(value));
      }
      default:
        return pack(memory[at + 2], memory[at + 1], memory[at]);
    }
  };
  for (let y = 0; y < canvas.height; y++) {
    for (let x = 0; x < canvas.width; x++) {
      canvas.words[y * canvas.width + x] = color(start + y * lineBytes + x * pixelBytes);
    }
  }
  return canvas.picture;
}

function drawText(state: VgaState): Picture {
  const { columns, lines, rowLines, stride, startAddress } = crtcGeometry(state);
  const { crtc, memory, sequencer, attribute } = state;
  const cellWidth = (sequencer[Sequencer.clockingMode] & eightDotMask) === 0 ? 9 : 8;
  const colors = attributeColors(state);
  const hasBlinking = (attribute[Attribute.mode] & attributeBlinkMask) !== 0;
  const repeatsLastDot = (attribute[Attribute.mode] & 0x04) !== 0;
  const [fontB, fontA] = fontAddresses(sequencer[Sequencer.characterMapSelect]);
  const cursorAt = (crtc[Crtc.cursorLocationHigh] << 8) | crtc[Crtc.cursorLocationLow];
  const isCursorShown = (crtc[Crtc.cursorStart] & 0x20) === 0;
  const canvas = new Canvas(columns * cellWidth, lines);
  for (let y = 0; y < lines; y++) {
    const row = Math.floor(y / rowLines);
    const glyphLine = y % rowLines;
    for (let column = 0; column < columns; column++) {
      const cell = (startAddress + row * stride + column) & 0xffff;
      const code = memory[4 * cell];
      const cellColors = memory[4 * cell + 1];
      const font = (cellColors & 8) !== 0 ? fontA : fontB;
      let dots = memory[4 * (font + 32 * code + (glyphLine & 31)) + 2] << 1;
      if (repeatsLastDot && code >= 0xc0 && code <= 0xdf) dots |= (dots >> 1) & 1;
      const isCursor =
        isCursorShown && cell === cursorAt && glyphLine >= (crtc[Crtc.cursorStart] & 31) && glyphLine <= (crtc[Crtc.cursorEnd] & 31);
      if (isCursor) dots = 0x1ff;
      const foreground = colors[cellColors & 0x0f];
      const background = colors[hasBlinking ? (cellColors >> 4) & 7 : cellColors >> 4];
      const at = y * canvas.width + column * cellWidth;
      for (let x = 0; x < cellWidth; x++) canvas.words[at + x] = ((dots >> (8 - x)) & 1) === 0 ? background : foreground;
    }
  }
  return canvas.picture;
}

/** Plane 2 addresses of character maps B and A: two bits and a third one apart. */
function fontAddresses(select: number): [number, number] {
  const address = (map: number, high: number): number => map * 0x4000 + high * 0x2000;
  return [address(select & 3, (select >> 4) & 1), address((select >> 2) & 3, (select >> 5) & 1)];
}

function draw256(state: VgaState): Picture {
  const { columns, lines, rowLines, stride, startAddress } = crtcGeometry(state);
  const dac = dacColors(state);
  const canvas = new Canvas(4 * columns, Math.floor(lines / rowLines));
  for (let y = 0; y < canvas.height; y++) {
    for (let x = 0; x < canvas.width; x++) {
      const at = 4 * (startAddress + y * stride) + x;
      canvas.words[y * canvas.width + x] = dac[state.memory[at % state.memory.length]];
    }
  }
  return canvas.picture;
}

function drawPlanar(state: VgaState): Picture {
  const { columns, lines, rowLines, stride, startAddress } = crtcGeometry(state);
  const { memory, graphics, crtc } = state;
  const colors = attributeColors(state);
  const isInterleaved = (graphics[Graphics.mode] & shiftInterleaveMask) !== 0;
  // CGA modes keep odd lines in another bank: address bit 13 comes from the row scan counter.
  const usesCgaBanks = (crtc[0x17] & 1) === 0;
  const linesPerRow = usesCgaBanks ? Math.max(1, rowLines >> 1) : rowLines;
  const canvas = new Canvas(8 * columns, Math.floor(lines / linesPerRow));
  for (let y = 0; y < canvas.height; y++) {
    const base = usesCgaBanks ? (startAddress + (y >> 1) * stride) | ((y & 1) << 13) : startAddress + y * stride;
    for (let x = 0; x < canvas.width; x++) {
      const at = 4 * ((base + (x >> 3)) & 0xffff);
      const color = isInterleaved ? cgaColor(memory, at, x & 7) : planarColor(memory, at, 7 - (x & 7));
      canvas.words[y * canvas.width + x] = colors[color];
    }
  }
  return canvas.picture;
}

function planarColor(memory: Uint8Array, at: number, bit: number): number {
  let color = 0;
  for (let plane = 0; plane < 4; plane++) color |= ((memory[at + plane] >> bit) & 1) << plane;
  return color;
}

/** Two bits a pixel, four pixels in plane 0's byte and four in plane 1's. */
function cgaColor(memory: Uint8Array, at: number, pixel: number): number {
  return (memory[at + (pixel >> 2)] >> (6 - 2 * (pixel & 3))) & 3;
}
