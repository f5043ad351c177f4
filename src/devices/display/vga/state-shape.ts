/** Which states a VGA can be in. */
import { boolean, bytes, checked, integer, object, region, type Shape, uint16, uint8, word32, words16 } from "../../../base/shape.ts";
import { isPossibleMode } from "./dispi.ts";
import { attributeCount, crtcCount, graphicsCount, sequencerCount } from "./registers.ts";
import { dispiCount, videoMemoryBytes, type VgaState } from "./state.ts";

export const vgaStateShape: Shape<VgaState> = checked(object<VgaState>({
  miscellaneousOutput: uint8, featureControl: uint8, sequencerIndex: integer(0, sequencerCount - 1),
  sequencer: bytes(sequencerCount), crtcIndex: uint8, crtc: bytes(crtcCount), graphicsIndex: integer(0, 15),
  graphics: bytes(graphicsCount), attributeIndex: integer(0, 0x3f), isAttributeDataNext: boolean, attribute: bytes(attributeCount),
  pelMask: uint8, dacReadIndex: uint8, dacWriteIndex: uint8, dacComponent: integer(0, 2), isDacReading: boolean,
  palette: bytes(3 * 256), latches: word32, memory: region(videoMemoryBytes), dispiIndex: uint16, dispi: words16(dispiCount),
}), (state) => isPossibleMode(state), "in a mode that fits into display memory");
