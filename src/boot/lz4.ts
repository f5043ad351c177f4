/** Decompresses the legacy LZ4 frames that Linux kernels are packed in (LZ4 frame format, "Legacy frame"; block format description). */
import { dataView } from "./bytes.ts";

const legacyMagic = 0x184c_2102;
const blockSizeMaximum = 8 * 0x10_0000;
const minimumMatchBytes = 4;

/** Lengths of 15 go on in further bytes; undefined at the end of the input. */
function readLength(input: Uint8Array, offset: number, start: number): { length: number; offset: number } | undefined {
  let length = start;
  let next = offset;
  if (start === 15) {
    let byte = 255;
    while (byte === 255) {
      if (next >= input.length) return undefined;
      byte = input[next++];
      length += byte;
    }
  }
  return { length, offset: next };
}

/** Bytes written to `output` from `start` on; undefined when the block is damaged. */
function decompressBlock(input: Uint8Array, output: Uint8Array, start: number): number | undefined {
  let from = 0;
  let to = start;
  while (from < input.length) {
    const token = input[from++];
    const literals = readLength(input, from, token >> 4);
    if (literals === undefined || literals.offset + literals.length > input.length || to + literals.length > output.length) return undefined;
    output.set(input.subarray(literals.offset, literals.offset + literals.length), to);
    from = literals.offset + literals.length;
    to += literals.length;
    if (from >= input.length) return to - start;
    if (from + 2 > input.length) return undefined;
    const distance = input[from] | (input[from + 1] << 8);
    const match = readLength(input, from + 2, token & 0x0f);
    if (match === undefined || distance === 0 || distance > to - start) return undefined;
    const length = match.length + minimumMatchBytes;
    if (to + length > output.length) return undefined;
    if (distance >= length) output.copyWithin(to, to - distance, to - distance + length);
    else for (let i = 0; i < length; i++) output[to + i] = output[to - distance + i];
    from = match.offset;
    to += length;
  }
  return to - start;
}

/** The content of a legacy frame that unpacks to exactly `sizeBytes`; undefined when it is damaged. */
export function decompressLz4Legacy(frame: Uint8Array, sizeBytes: number): Uint8Array | undefined {
  if (frame.length < 4 || dataView(frame).getUint32(0, true) !== legacyMagic) return undefined;
  const view = dataView(frame);
  const output = new Uint8Array(sizeBytes);
  let from = 4;
  let to = 0;
  while (to < sizeBytes) {
    if (from + 4 > frame.length) return undefined;
    const blockBytes = view.getUint32(from, true);
    from += 4;
    if (blockBytes === legacyMagic) continue;
    if (from + blockBytes > frame.length) return undefined;
    const written = decompressBlock(frame.subarray(from, from + blockBytes), output.subarray(0, Math.min(sizeBytes, to + blockSizeMaximum)), to);
    if (written === undefined || written === 0) return undefined;
    from += blockBytes;
    to += written;
  }
  return output;
}
