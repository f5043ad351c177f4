/** The few words of the BIOS data area that systems read even when no BIOS has run: where conventional memory ends. */
import { conventionalMemoryEnd } from "./memory-map.ts";
import type { Placement } from "./placement.ts";

const biosDataAreaStart = 0x400;
const biosDataAreaSizeBytes = 0x100;
const extendedAreaSegmentOffset = 0x0e;
const conventionalKibOffset = 0x13;

export function placeBiosDataArea(placement: Placement): void {
  const bytes = new Uint8Array(biosDataAreaSizeBytes);
  const view = new DataView(bytes.buffer);
  view.setUint16(extendedAreaSegmentOffset, conventionalMemoryEnd >> 4, true);
  view.setUint16(conventionalKibOffset, conventionalMemoryEnd >> 10, true);
  placement.place("BIOS data area", biosDataAreaStart, bytes);
}
