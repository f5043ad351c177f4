/** Everything a VGA with Bochs VBE extensions remembers. */
import { attributeCount, crtcCount, graphicsCount, sequencerCount } from "./registers.ts";

export const videoMemoryBytes: number = 16 * 1024 * 1024;

export interface VgaState {
  miscellaneousOutput: number;
  featureControl: number;
  sequencerIndex: number;
  readonly sequencer: Uint8Array;
  crtcIndex: number;
  readonly crtc: Uint8Array;
  graphicsIndex: number;
  readonly graphics: Uint8Array;
  /** Bit 5 is "palette address source": set while the display shows. */
  attributeIndex: number;
  isAttributeDataNext: boolean;
  readonly attribute: Uint8Array;
  pelMask: number;
  dacReadIndex: number;
  dacWriteIndex: number;
  /** Which of red, green and blue comes next. */
  dacComponent: number;
  isDacReading: boolean;
  readonly palette: Uint8Array;
  /** One byte a plane, plane 0 lowest. */
  latches: number;
  /** Plane p of address a is byte 4a + p; chain-4 and linear frame buffers address the same bytes directly. */
  readonly memory: Uint8Array;
  dispiIndex: number;
  readonly dispi: Uint16Array;
}

export const dispiCount = 11;

/** The single registers as they are after reset. */
export const resetRegisters = {
  miscellaneousOutput: 0,
  featureControl: 0,
  sequencerIndex: 0,
  crtcIndex: 0,
  graphicsIndex: 0,
  attributeIndex: 0,
  isAttributeDataNext: false,
  pelMask: 0xff,
  dacReadIndex: 0,
  dacWriteIndex: 0,
  dacComponent: 0,
  isDacReading: false,
  latches: 0,
  dispiIndex: 0,
} as const;

export function vgaResetState(): VgaState {
  return {
    ...resetRegisters,
    sequencer: new Uint8Array(sequencerCount),
    crtc: new Uint8Array(crtcCount),
    graphics: new Uint8Array(graphicsCount),
    attribute: new Uint8Array(attributeCount),
    palette: new Uint8Array(3 * 256),
    memory: new Uint8Array(videoMemoryBytes),
    dispi: new Uint16Array(dispiCount),
  };
}
