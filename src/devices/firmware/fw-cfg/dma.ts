/** The request of fw_cfg's DMA interface (QEMU docs/specs/fw_cfg, "Guest-side DMA Interface"): 16 big-endian bytes. */

export const dmaRequestBytes = 16;

export const DmaControl = { errorMask: 0x01, readMask: 0x02, skipMask: 0x04, selectMask: 0x08, writeMask: 0x10 } as const;

export interface DmaRequest {
  /** Low half of the control word. */
  readonly control: number;
  /** What to select when the control word says so. */
  readonly selector: number;
  readonly lengthBytes: number;
  /** Guest-physical address of the data. Beyond 2^53 it is inexact, and refused in any case. */
  readonly target: number;
}

/** Total: any 16 bytes are a request. */
export function decodeDmaRequest(bytes: Uint8Array): DmaRequest {
  const view = new DataView(bytes.buffer, bytes.byteOffset, dmaRequestBytes);
  return {
    control: view.getUint16(2),
    selector: view.getUint16(0),
    lengthBytes: view.getUint32(4),
    target: view.getUint32(8) * 2 ** 32 + view.getUint32(12),
  };
}
