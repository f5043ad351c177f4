/** Bochs VBE extensions ("dispi"): mode, bank and panning registers (Bochs VBE display interface, version 0xB0C5). */
import { dispiCount, type VgaState } from "./state.ts";

export const Dispi = {
  id: 0,
  width: 1,
  height: 2,
  bitsPerPixel: 3,
  enable: 4,
  bank: 5,
  virtualWidth: 6,
  virtualHeight: 7,
  offsetX: 8,
  offsetY: 9,
  memory64KiB: 10,
} as const;

const dispiEnabledMask = 0x01;
const getCapabilitiesMask = 0x02;
export const dac8BitMask = 0x20;
const keepMemoryMask = 0x80;
const bankBytes = 0x10000;

const newestId = 0xb0c5;
const oldestId = 0xb0c0;
const maximumWidth = 16000;
const maximumHeight = 12000;
const maximumBitsPerPixel = 32;
const depths: readonly number[] = [4, 8, 15, 16, 24, 32];

export function dispiReset(state: VgaState): void {
  state.dispiIndex = 0;
  state.dispi.fill(0);
  state.dispi[Dispi.id] = newestId;
}

export function isDispiEnabled(state: VgaState): boolean {
  return (state.dispi[Dispi.enable] & dispiEnabledMask) !== 0;
}

/** Where the 64 KiB window at 0xA0000 lies in display memory. */
export function dispiBankOffset(state: VgaState): number {
  return isDispiEnabled(state) ? state.dispi[Dispi.bank] * bankBytes : 0;
}

/** Bytes from one line to the next. */
export function dispiLineBytes(state: VgaState): number {
  return lineBytes(state.dispi[Dispi.virtualWidth], state.dispi[Dispi.bitsPerPixel]);
}

export function readDispi(state: VgaState, index: number): number {
  if (index === Dispi.memory64KiB) return state.memory.length / bankBytes;
  if (index >= dispiCount) return 0;
  if ((state.dispi[Dispi.enable] & getCapabilitiesMask) !== 0) {
    if (index === Dispi.width) return maximumWidth;
    if (index === Dispi.height) return maximumHeight;
    if (index === Dispi.bitsPerPixel) return maximumBitsPerPixel;
  }
  return state.dispi[index];
}

export function writeDispi(state: VgaState, index: number, value: number): void {
  const { dispi } = state;
  switch (index) {
    case Dispi.id:
      if (value >= oldestId && value <= newestId) dispi[Dispi.id] = value;
      break;
    case Dispi.width:
      // A mode is fixed while it shows; software disables it first.
      if (!isDispiEnabled(state) && value <= maximumWidth && value % 8 === 0) dispi[Dispi.width] = value;
      break;
    case Dispi.height:
      if (!isDispiEnabled(state) && value <= maximumHeight) dispi[Dispi.height] = value;
      break;
    case Dispi.bitsPerPixel:
      if (!isDispiEnabled(state) && depths.includes(value || 8)) dispi[Dispi.bitsPerPixel] = value || 8;
      break;
    case Dispi.enable:
      enable(state, value);
      break;
    case Dispi.bank:
      if (value * bankBytes < state.memory.length) dispi[Dispi.bank] = value;
      break;
    case Dispi.virtualWidth:
      if (isDispiEnabled(state)) setVirtualWidth(state, value);
      break;
    case Dispi.offsetX:
      if (isDispiEnabled(state) && value + dispi[Dispi.width] <= dispi[Dispi.virtualWidth]) dispi[Dispi.offsetX] = value;
      break;
    case Dispi.offsetY:
      if (isDispiEnabled(state) && value + dispi[Dispi.height] <= dispi[Dispi.virtualHeight]) dispi[Dispi.offsetY] = value;
      break;
    default:
      break;
  }
}

/** Whether the picture, wherever it was panned to, lies in display memory. */
export function isPossibleMode(state: VgaState): boolean {
  const { dispi } = state;
  if (dispi[Dispi.bank] * bankBytes >= state.memory.length) return false;
  if (!isDispiEnabled(state)) return true;
  const visibleBytes = dispiLineBytes(state) * dispi[Dispi.height];
  return depths.includes(dispi[Dispi.bitsPerPixel]) && visibleBytes > 0 && visibleBytes <= state.memory.length &&
    dispi[Dispi.offsetX] + dispi[Dispi.width] <= dispi[Dispi.virtualWidth] &&
    dispi[Dispi.offsetY] + dispi[Dispi.height] <= dispi[Dispi.virtualHeight];
}

function enable(state: VgaState, value: number): void {
  const { dispi } = state;
  const wasEnabled = isDispiEnabled(state);
  dispi[Dispi.enable] = value;
  if ((value & dispiEnabledMask) === 0) {
    dispi[Dispi.bank] = 0;
    return;
  }
  if (wasEnabled) return;
  const visibleBytes = lineBytes(dispi[Dispi.width], dispi[Dispi.bitsPerPixel]) * dispi[Dispi.height];
  if (visibleBytes === 0 || visibleBytes > state.memory.length) {
    dispi[Dispi.enable] = value & ~dispiEnabledMask;
    return;
  }
  dispi[Dispi.offsetX] = 0;
  dispi[Dispi.offsetY] = 0;
  setVirtualWidth(state, dispi[Dispi.width]);
  if ((value & keepMemoryMask) === 0) state.memory.fill(0, 0, visibleBytes);
}

function setVirtualWidth(state: VgaState, width: number): void {
  const { dispi } = state;
  const bytes = lineBytes(width, dispi[Dispi.bitsPerPixel]);
  if (width < dispi[Dispi.width] || bytes === 0 || bytes * dispi[Dispi.height] > state.memory.length) return;
  dispi[Dispi.virtualWidth] = width;
  dispi[Dispi.virtualHeight] = Math.min(Math.floor(state.memory.length / bytes), 0xffff);
  dispi[Dispi.offsetX] = Math.min(dispi[Dispi.offsetX], width - dispi[Dispi.width]);
  dispi[Dispi.offsetY] = Math.min(dispi[Dispi.offsetY], dispi[Dispi.virtualHeight] - dispi[Dispi.height]);
}

/** Four-bit pixels lie in four planes, which take four bytes for eight pixels. */
function lineBytes(width: number, bitsPerPixel: number): number {
  return bitsPerPixel === 4 ? width >> 1 : width * ((bitsPerPixel + 7) >> 3);
}
