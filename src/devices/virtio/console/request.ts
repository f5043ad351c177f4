/** Control messages of the virtio console (Virtual I/O Device 1.2, 5.3.6.2). Parsing is pure and total. */

export const ControlEvent = {
  deviceReady: 0,
  portAdd: 1,
  portReady: 3,
  consolePort: 4,
  resize: 5,
  portOpen: 6,
} as const;

export const controlMessageBytes = 8;

export interface ControlMessage {
  readonly port: number;
  readonly event: number;
  readonly value: number;
}

/** Undefined for a message that is too short. */
export function parseControlMessage(bytes: Uint8Array): ControlMessage | undefined {
  if (bytes.length < controlMessageBytes) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, controlMessageBytes);
  return { port: view.getUint32(0, true), event: view.getUint16(4, true), value: view.getUint16(6, true) };
}

/** `tail` follows the fixed part. */
export function encodeControlMessage(message: ControlMessage, tail: readonly number[] = []): Uint8Array {
  const bytes = new Uint8Array(controlMessageBytes + 2 * tail.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, message.port, true);
  view.setUint16(4, message.event, true);
  view.setUint16(6, message.value, true);
  tail.forEach((value, i) => view.setUint16(controlMessageBytes + 2 * i, value, true));
  return bytes;
}
