/** Text modes: what the screen says, and the register values of mode 3 (IBM VGA BIOS mode tables). */
import {
  Attribute,
  attributeBlinkMask,
  Crtc,
  Graphics,
  graphicsModeMask,
} from "./registers.ts";
import { isDispiEnabled } from "./dispi.ts";
import type { VgaState } from "./state.ts";

export interface TextCell {
  /** One Unicode character for the code page 437 code. */
  readonly character: string;
  /** The code as stored. */
  readonly code: number;
  /** 0 to 15: blue 1, green 2, red 4, bright 8. */
  readonly foreground: number;
  /** 0 to 7, or 0 to 15 when blinking is off. */
  readonly background: number;
  readonly isBlinking: boolean;
}

export interface TextScreen {
  readonly columns: number;
  readonly rows: number;
  /** Row by row. */
  readonly cells: readonly TextCell[];
  /** Undefined while the cursor is hidden or off the screen. */
  readonly cursor: { readonly column: number; readonly row: number } | undefined;
}

const codePage437 =
  " ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼ !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmno" +
  "pqrstuvwxyz{|}~⌂ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀" +
  "αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00a0";

/** Geometry that text and graphics modes share. */
export interface CrtcGeometry {
  /** Character clocks a line. */
  readonly columns: number;
  /** Scan lines shown. */
  readonly lines: number;
  /** Scan lines a character row (or a doubled pixel row). */
  readonly rowLines: number;
  /** Plane addresses from one row to the next. */
  readonly stride: number;
  readonly startAddress: number;
}

export function crtcGeometry({ crtc }: VgaState): CrtcGeometry {
  const overflow = crtc[Crtc.overflow];
  const isDoubled = (crtc[Crtc.maximumScanLine] & 0x80) !== 0;
  return {
    columns: crtc[Crtc.horizontalDisplayEnd] + 1,
    lines: (crtc[Crtc.verticalDisplayEnd] | ((overflow & 0x02) << 7) | ((overflow & 0x40) << 3)) + 1,
    rowLines: ((crtc[Crtc.maximumScanLine] & 0x1f) + 1) * (isDoubled ? 2 : 1),
    stride: 2 * crtc[Crtc.offset],
    startAddress: (crtc[Crtc.startAddressHigh] << 8) | crtc[Crtc.startAddressLow],
  };
}

export function isTextMode(state: VgaState): boolean {
  return !isDispiEnabled(state) && (state.graphics[Graphics.miscellaneous] & graphicsModeMask) === 0;
}

export function textScreen(state: VgaState): TextScreen | undefined {
  if (!isTextMode(state)) return undefined;
  const { columns, lines, rowLines, stride, startAddress } = crtcGeometry(state);
  const rows = Math.floor(lines / rowLines);
  const hasBlinking = (state.attribute[Attribute.mode] & attributeBlinkMask) !== 0;
  const cells: TextCell[] = [];
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const at = 4 * ((startAddress + row * stride + column) & 0xffff);
      const code = state.memory[at];
      const colors = state.memory[at + 1];
      cells.push({
        character: codePage437[code],
        code,
        foreground: colors & 0x0f,
        background: hasBlinking ? (colors >> 4) & 7 : colors >> 4,
        isBlinking: hasBlinking && (colors & 0x80) !== 0,
      });
    }
  }
  return { columns, rows, cells, cursor: cursor(state, columns, rows, stride, startAddress) };
}

function cursor(state: VgaState, columns: number, rows: number, stride: number, startAddress: number): TextScreen["cursor"] {
  const { crtc } = state;
  const location = ((crtc[Crtc.cursorLocationHigh] << 8) | crtc[Crtc.cursorLocationLow]) - startAddress;
  if ((crtc[Crtc.cursorStart] & 0x20) !== 0 || location < 0 || stride === 0) return undefined;
  const row = Math.floor(location / stride);
  const column = location % stride;
  return row < rows && column < columns ? { column, row } : undefined;
}

/** The screen's lines without trailing blanks. */
export function textLines({ columns, rows, cells }: TextScreen): string[] {
  return Array.from({ length: rows }, (_, row) =>
    cells
      .slice(row * columns, (row + 1) * columns)
      .map(({ character }) => character)
      .join("")
      .trimEnd(),
  );
}

const mode3 = {
  miscellaneousOutput: 0x67,
  sequencer: [0x03, 0x00, 0x03, 0x00, 0x02],
  crtc: [
    0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00, 0x4f, 0x0d, 0x0e, 0x00, 0x00, 0x00, 0x00, 0x9c, 0x8e, 0x8f,
    0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff,
  ],
  graphics: [0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0e, 0x00, 0xff],
  attribute: [
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x0c, 0x00, 0x0f,
    0x08, 0x00,
  ],
} as const;

export function programTextMode(state: VgaState): void {
  state.miscellaneousOutput = mode3.miscellaneousOutput;
  state.sequencer.set(mode3.sequencer);
  state.crtc.set(mode3.crtc);
  state.graphics.set(mode3.graphics);
  state.attribute.set(mode3.attribute);
  state.attributeIndex = 0x20;
  for (let color = 0; color < 64; color++) {
    // Bits 2, 1, 0 are red, green, blue at two thirds; bits 5, 4, 3 add one third.
    const level = (bright: number, normal: number): number => ((color >> normal) & 1) * 0x2a + ((color >> bright) & 1) * 0x15;
    state.palette.set([level(5, 2), level(4, 1), level(3, 0)], 3 * color);
  }
  for (let cell = 0; cell < 80 * 25; cell++) {
    state.memory[4 * cell] = 0x20;
    state.memory[4 * cell + 1] = 0x07;
  }
}
