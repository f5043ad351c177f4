/** VGA register model: ports 0x3B0–0x3DF, the Bochs VBE ports and MMIO registers. Display memory and pictures are elsewhere. */
import type { ByteRegisters } from "../../byte-registers.ts";
import type { Clock, RegisterBlock } from "../../contract.ts";
import { dispiReset, readDispi, writeDispi } from "./dispi.ts";
import { VgaMemory } from "./memory.ts";
import { type Picture, readPixels } from "./picture.ts";
import {
  attributeCount,
  colorPortsMask,
  Crtc,
  crtcCount,
  crtcProtectMask,
  displayDisabledMask,
  graphicsCount,
  graphicsMasks,
  lineCompareBit8Mask,
  sequencerCount,
  verticalRetraceMask,
} from "./registers.ts";
import { dispiCount, resetRegisters, type VgaState, vgaResetState } from "./state.ts";
import { programTextMode, type TextScreen, textScreen } from "./text.ts";

export const firstPort = 0x3b0;
export const portCount = 0x30;
/** Offset of 0x3C0 among the ports: where the MMIO copy begins. */
const colorPortsOffset = 0x10;

/** 70 Hz with 449 lines, 400 of them visible, as in the text modes. */
const frameNs = 14_268_000;
const lineCount = 449;
const visibleLines = 400;
const retraceLines: readonly [number, number] = [412, 414];

const mmioPortsOffset = 0x400;
const mmioDispiOffset = 0x500;
const mmioExtensionOffset = 0x600;
const extensionBytes = 8;
const littleEndianFrameBuffer = 0x1e1e1e1e;

export class Vga {
  readonly state: VgaState;
  readonly memory: VgaMemory;
  readonly #clock: Clock;

  constructor(clock: Clock, state: VgaState | undefined) {
    this.#clock = clock;
    this.state = state ?? vgaResetState();
    this.memory = new VgaMemory(this.state);
    if (state === undefined) dispiReset(this.state);
  }

  /** What is on the screen, or undefined while it shows graphics. */
  textScreen(): TextScreen | undefined {
    return textScreen(this.state);
  }

  /** The screen as 8-bit RGBA, whatever the mode. */
  readPixels(): Picture {
    return readPixels(this.state);
  }

  /** Sets 80 × 25 text with the default palette, as firmware leaves it, for boots without firmware. */
  programTextMode(): void {
    dispiReset(this.state);
    programTextMode(this.state);
  }

  reset(): void {
    const { state } = this;
    for (const name of ["sequencer", "crtc", "graphics", "attribute", "palette", "memory"] as const) state[name].fill(0);
    Object.assign(state, resetRegisters);
    dispiReset(state);
  }

  /** Ports relative to 0x3B0. */
  readonly ports: ByteRegisters = {
    read: (offset) => this.#read(firstPort + offset),
    write: (offset, value) => this.#write(firstPort + offset, value),
  };

  /** Ports 0x1CE to 0x1D1: the index, and the data register at the odd place Bochs put it and at the aligned one. */
  readonly dispiPorts: RegisterBlock = {
    read: (offset, sizeBytes) => {
      if (sizeBytes !== 2) return sizeBytes === 1 ? 0xff : 0xffffffff;
      return offset === 0 ? this.state.dispiIndex : readDispi(this.state, this.state.dispiIndex);
    },
    write: (offset, sizeBytes, value) => {
      if (sizeBytes !== 2) return;
      if (offset === 0) this.state.dispiIndex = value;
      else writeDispi(this.state, this.state.dispiIndex, value);
    },
  };

  /** The MMIO BAR: VGA ports at 0x400, VBE registers at 0x500, extension registers at 0x600. */
  readonly mmio: RegisterBlock = {
    read: (offset, sizeBytes) => {
      if (offset >= mmioDispiOffset && offset < mmioDispiOffset + 2 * dispiCount && sizeBytes === 2) {
        return readDispi(this.state, (offset - mmioDispiOffset) >> 1);
      }
      if (offset === mmioExtensionOffset) return extensionBytes;
      if (offset === mmioExtensionOffset + 4) return littleEndianFrameBuffer;
      let value = 0;
      for (let i = 0; i < sizeBytes; i++) value |= this.#readMmioByte(offset + i) << (8 * i);
      return value >>> 0;
    },
    write: (offset, sizeBytes, value) => {
      if (offset >= mmioDispiOffset && offset < mmioDispiOffset + 2 * dispiCount && sizeBytes === 2) {
        writeDispi(this.state, (offset - mmioDispiOffset) >> 1, value);
        return;
      }
      for (let i = 0; i < sizeBytes; i++) this.#writeMmioByte(offset + i, (value >>> (8 * i)) & 0xff);
    },
  };

  #readMmioByte(offset: number): number {
    const port = offset - mmioPortsOffset + colorPortsOffset;
    return port >= colorPortsOffset && port < portCount ? this.ports.read(port) : 0xff;
  }

  #writeMmioByte(offset: number, value: number): void {
    const port = offset - mmioPortsOffset + colorPortsOffset;
    if (port >= colorPortsOffset && port < portCount) this.ports.write(port, value);
  }

  /** CRTC and status ports answer at 0x3Bx or at 0x3Dx, never at both. */
  #isDecoded(port: number): boolean {
    const isColor = (this.state.miscellaneousOutput & colorPortsMask) !== 0;
    return port < 0x3c0 ? !isColor : port < 0x3d0 || isColor;
  }

  #read(port: number): number {
    const { state } = this;
    if (!this.#isDecoded(port)) return 0xff;
    switch (port) {
      case 0x3c0:
        return state.isAttributeDataNext ? 0 : state.attributeIndex;
      case 0x3c1:
        return state.attribute[state.attributeIndex & 0x1f] ?? 0;
      case 0x3c2:
        return 0x10;
      case 0x3c4:
        return state.sequencerIndex;
      case 0x3c5:
        return state.sequencer[state.sequencerIndex];
      case 0x3c6:
        return state.pelMask;
      case 0x3c7:
        return state.isDacReading ? 3 : 0;
      case 0x3c8:
        return state.dacWriteIndex;
      case 0x3c9:
        return this.#readDac();
      case 0x3ca:
        return state.featureControl;
      case 0x3cc:
        return state.miscellaneousOutput;
      case 0x3ce:
        return state.graphicsIndex;
      case 0x3cf:
        return state.graphics[state.graphicsIndex] ?? 0;
      case 0x3b4:
      case 0x3d4:
        return state.crtcIndex;
      case 0x3b5:
      case 0x3d5:
        return state.crtc[state.crtcIndex] ?? 0;
      case 0x3ba:
      case 0x3da:
        state.isAttributeDataNext = false;
        return this.#beamStatus();
      default:
        return 0xff;
    }
  }

  #write(port: number, value: number): void {
    const { state } = this;
    if (!this.#isDecoded(port)) return;
    switch (port) {
      case 0x3c0:
        this.#writeAttribute(value);
        break;
      case 0x3c2:
        state.miscellaneousOutput = value & ~0x10;
        break;
      case 0x3c4:
        state.sequencerIndex = value % sequencerCount;
        break;
      case 0x3c5:
        state.sequencer[state.sequencerIndex] = value;
        break;
      case 0x3c6:
        state.pelMask = value;
        break;
      case 0x3c7:
        state.dacReadIndex = value;
        state.dacComponent = 0;
        state.isDacReading = true;
        break;
      case 0x3c8:
        state.dacWriteIndex = value;
        state.dacComponent = 0;
        state.isDacReading = false;
        break;
      case 0x3c9:
        this.#writeDac(value);
        break;
      case 0x3ce:
        state.graphicsIndex = value & 0x0f;
        break;
      case 0x3cf:
        if (state.graphicsIndex < graphicsCount) {
          state.graphics[state.graphicsIndex] = value & graphicsMasks[state.graphicsIndex];
        }
        break;
      case 0x3b4:
      case 0x3d4:
        state.crtcIndex = value;
        break;
      case 0x3b5:
      case 0x3d5:
        this.#writeCrtc(value);
        break;
      case 0x3ba:
      case 0x3da:
        state.featureControl = value & 0x0b;
        break;
      default:
        break;
    }
  }

  #writeAttribute(value: number): void {
    const { state } = this;
    if (state.isAttributeDataNext) {
      const index = state.attributeIndex & 0x1f;
      if (index < attributeCount) state.attribute[index] = index < 16 ? value & 0x3f : value;
    } else {
      state.attributeIndex = value & 0x3f;
    }
    state.isAttributeDataNext = !state.isAttributeDataNext;
  }

  #writeCrtc(value: number): void {
    const { crtc, crtcIndex } = this.state;
    if (crtcIndex >= crtcCount) return;
    if (crtcIndex <= Crtc.overflow && (crtc[Crtc.verticalRetraceEnd] & crtcProtectMask) !== 0) {
      // Only the line compare bit in the overflow register stays writable.
      if (crtcIndex === Crtc.overflow) {
        crtc[crtcIndex] = (crtc[crtcIndex] & ~lineCompareBit8Mask) | (value & lineCompareBit8Mask);
      }
      return;
    }
    crtc[crtcIndex] = value;
  }

  #readDac(): number {
    const { state } = this;
    const value = state.palette[3 * state.dacReadIndex + state.dacComponent];
    if (++state.dacComponent === 3) {
      state.dacComponent = 0;
      state.dacReadIndex = (state.dacReadIndex + 1) & 0xff;
    }
    return value;
  }

  #writeDac(value: number): void {
    const { state } = this;
    state.palette[3 * state.dacWriteIndex + state.dacComponent] = value;
    if (++state.dacComponent === 3) {
      state.dacComponent = 0;
      state.dacWriteIndex = (state.dacWriteIndex + 1) & 0xff;
    }
  }

  /** Input status 1 from where a beam would be: programs wait for retrace to begin and to end. */
  #beamStatus(): number {
    const line = ((this.#clock.nowNs() % frameNs) * lineCount) / frameNs;
    const isRetrace = line >= retraceLines[0] && line < retraceLines[1];
    const isHidden = line >= visibleLines || line % 1 >= 0.8;
    return (isHidden ? displayDisabledMask : 0) | (isRetrace ? verticalRetraceMask : 0);
  }
}
