/** Bytes of the machine's own as a region of a snapshot: a display's memory, firmware. */
import { granuleBytes } from "./layout.ts";
import type { SnapshotRegion } from "./reader.ts";
import type { RegionContents } from "./writer.ts";

export function byteContents(name: string, bytes: Uint8Array, parent: SnapshotRegion | undefined): RegionContents {
  return {
    name, sizeBytes: bytes.length, background: "zero",
    granules: () => Array.from({ length: Math.ceil(bytes.length / granuleBytes) }, (_, granule) => granule),
    read(granule) {
      const piece = bytes.subarray(granule * granuleBytes, (granule + 1) * granuleBytes);
      if (piece.length === granuleBytes) return piece;
      const padded = new Uint8Array(granuleBytes);
      padded.set(piece);
      return padded;
    },
    ...(parent === undefined ? {} : { parent }),
  };
}
