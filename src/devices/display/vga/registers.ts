/** VGA register indices and bits (IBM VGA Hardware Interface; FreeVGA's and Intel's open register descriptions name them alike). */

export const Sequencer = { clockingMode: 1, mapMask: 2, characterMapSelect: 3, memoryMode: 4 } as const;
export const sequencerCount = 8;
export const eightDotMask = 0x01;
export const oddEvenDisableMask = 0x04;
export const chainFourMask = 0x08;

export const Crtc = {
  horizontalDisplayEnd: 0x01,
  overflow: 0x07,
  maximumScanLine: 0x09,
  cursorStart: 0x0a,
  cursorEnd: 0x0b,
  startAddressHigh: 0x0c,
  startAddressLow: 0x0d,
  cursorLocationHigh: 0x0e,
  cursorLocationLow: 0x0f,
  verticalRetraceEnd: 0x11,
  verticalDisplayEnd: 0x12,
  offset: 0x13,
} as const;
export const crtcCount = 0x19;
export const crtcProtectMask = 0x80;
export const lineCompareBit8Mask = 0x10;

export const Graphics = {
  setReset: 0,
  enableSetReset: 1,
  colorCompare: 2,
  dataRotate: 3,
  readMapSelect: 4,
  mode: 5,
  miscellaneous: 6,
  colorDoNotCare: 7,
  bitMask: 8,
} as const;
export const graphicsCount = 9;
/** Bits that exist in each graphics register. */
export const graphicsMasks: readonly number[] = [0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff];
export const readModeMask = 0x08;
export const shiftInterleaveMask = 0x20;
export const shift256Mask = 0x40;
export const graphicsModeMask = 0x01;

export const Attribute = { mode: 0x10, planeEnable: 0x12, colorSelect: 0x14 } as const;
export const attributeCount = 0x15;
export const paletteBits54Mask = 0x80;
export const attributeBlinkMask = 0x08;

/** Miscellaneous output: CRTC and status 1 at 0x3Dx (color) rather than 0x3Bx. */
export const colorPortsMask = 0x01;
export const displayDisabledMask = 0x01;
export const verticalRetraceMask = 0x08;
