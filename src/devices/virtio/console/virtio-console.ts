/** Virtio console with one port, with or without the control queues of MULTIPORT (Virtual I/O Device 1.2, 5.3). */
import { bytes, list, object, type Shape, uint16 } from "../../../base/shape.ts";
import type { RegisterBlock } from "../../contract.ts";
import type { VirtioDevice, VirtioPort } from "../contract.ts";
import { ControlEvent, controlMessageBytes, encodeControlMessage, parseControlMessage } from "./request.ts";

const sizeFeature = 1 << 0;
const multiportFeature = 1 << 1;
const emergencyWriteFeature = 1 << 2;

const Queue = { receive: 0, transmit: 1, controlReceive: 2, controlTransmit: 3 } as const;
const dataQueueSize = 128;
const controlQueueSize = 32;
const pieceBytes = 4096;
const emergencyWriteOffset = 8;
/** A guest that never reads its control queue must not make us keep messages without end. */
const maximumQueuedMessages = 32;

export interface VirtioConsolePorts {
  /** Bytes the guest wrote. The array is fresh: the callee may keep it. */
  transmit(bytes: Uint8Array): void;
  /** After `feed` took less than it was given: there is room again. */
  receiveReady(): void;
}

export interface VirtioConsoleState {
  columns: number;
  rows: number;
  /** Control messages the driver has no buffer for yet. */
  readonly messages: Uint8Array[];
}

export const virtioConsoleStateShape: Shape<VirtioConsoleState> = object({
  columns: uint16, rows: uint16, messages: list(bytes({ maximum: 64 }), { maximum: maximumQueuedMessages }),
});

export function consoleQueueSizes(isMultiport: boolean): number[] {
  const data = [dataQueueSize, dataQueueSize];
  return isMultiport ? [...data, controlQueueSize, controlQueueSize] : data;
}

export class VirtioConsole implements VirtioDevice {
  readonly state: VirtioConsoleState;
  readonly deviceType = 3;
  readonly classCode = 0x078000;
  readonly features: number;
  readonly queueSizes: readonly number[];
  readonly #ports: VirtioConsolePorts;
  #port: VirtioPort | undefined;
  #isMultiport = false;
  #wasRefused = false;

  constructor(ports: VirtioConsolePorts, isMultiport: boolean, state: VirtioConsoleState) {
    this.#ports = ports;
    this.state = state;
    this.features = sizeFeature | emergencyWriteFeature | (isMultiport ? multiportFeature : 0);
    this.queueSizes = consoleQueueSizes(isMultiport);
  }

  readonly config: RegisterBlock = {
    read: (offset, sizeBytes) => {
      const view = new DataView(new ArrayBuffer(16));
      view.setUint16(0, this.state.columns, true);
      view.setUint16(2, this.state.rows, true);
      view.setUint32(4, 1, true);
      let value = 0;
      for (let i = 0; i < sizeBytes; i++) value |= (offset + i < 12 ? view.getUint8(offset + i) : 0xff) << (8 * i);
      return value >>> 0;
    },
    // Works before any negotiation, for a driver that dies early (5.3.4).
    write: (offset, _sizeBytes, value) => {
      if (offset === emergencyWriteOffset) this.#ports.transmit(Uint8Array.of(value & 0xff));
    },
  };

  /** Bytes from the host; returns how many were accepted, so the caller owns back-pressure. */
  feed(bytes: Uint8Array): number {
    const port = this.#port;
    let accepted = 0;
    if (port?.isRunning === true) {
      const queue = port.queue(Queue.receive);
      while (accepted < bytes.length) {
        const chain = queue.pop();
        if (chain === undefined) break;
        const piece = bytes.subarray(accepted, accepted + chain.writableBytes);
        if (!chain.write(0, piece)) queue.fail("console buffer outside of RAM");
        queue.push(chain, piece.length);
        accepted += piece.length;
      }
      if (accepted > 0) port.interrupt(Queue.receive);
    }
    this.#wasRefused = accepted < bytes.length;
    return accepted;
  }

  /** The terminal's size changed. */
  resize(columns: number, rows: number): void {
    this.state.columns = columns & 0xffff;
    this.state.rows = rows & 0xffff;
    if (this.#isMultiport) this.#sendSize();
    else this.#port?.configChanged();
  }

  start(port: VirtioPort, features: number): void {
    this.#port = port;
    this.#isMultiport = (features & multiportFeature) !== 0;
  }

  notify(queueIndex: number): void {
    switch (queueIndex) {
      case Queue.receive:
        this.#offerRoom();
        break;
      case Queue.transmit:
        this.#drain(Queue.transmit, (bytes) => this.#ports.transmit(bytes));
        break;
      case Queue.controlReceive:
        this.#sendMessages();
        break;
      default:
        // A message may be longer than the fixed part; the rest is for ports that we do not have.
        this.#drain(Queue.controlTransmit, (bytes) => this.#handleControl(bytes));
        break;
    }
  }

  reset(): void {
    this.#port = undefined;
    this.#isMultiport = false;
    this.state.messages.length = 0;
  }

  #offerRoom(): void {
    if (!this.#wasRefused) return;
    this.#wasRefused = false;
    this.#ports.receiveReady();
  }

  /** Passes on every buffer of a driver-to-device queue, in pieces of bounded size. */
  #drain(queueIndex: number, consume: (bytes: Uint8Array) => void): void {
    const port = this.#port;
    if (port === undefined) return;
    const queue = port.queue(queueIndex);
    let hasCompleted = false;
    for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
      for (let done = 0; done < chain.readableBytes; done += pieceBytes) {
        const bytes = new Uint8Array(Math.min(pieceBytes, chain.readableBytes - done));
        if (!chain.read(done, bytes)) {
          queue.fail("console buffer outside of RAM");
          return;
        }
        consume(bytes);
      }
      queue.push(chain, 0);
      hasCompleted = true;
    }
    if (hasCompleted) port.interrupt(queueIndex);
  }

  #handleControl(bytes: Uint8Array): void {
    const message = parseControlMessage(bytes);
    if (message === undefined || message.value !== 1) return;
    if (message.event === ControlEvent.deviceReady) this.#send(ControlEvent.portAdd, 0);
    if (message.event !== ControlEvent.portReady || message.port !== 0) return;
    this.#send(ControlEvent.consolePort, 1);
    this.#sendSize();
    this.#send(ControlEvent.portOpen, 1);
  }

  #sendSize(): void {
    // Columns first, as 5.3.6.2 has it; Linux read rows first for years.
    this.#send(ControlEvent.resize, 0, [this.state.columns, this.state.rows]);
  }

  #send(event: number, value: number, tail: readonly number[] = []): void {
    if (this.state.messages.length >= maximumQueuedMessages) return;
    this.state.messages.push(encodeControlMessage({ port: 0, event, value }, tail));
    this.#sendMessages();
  }

  #sendMessages(): void {
    const port = this.#port;
    if (port?.isRunning !== true || !this.#isMultiport) return;
    const queue = port.queue(Queue.controlReceive);
    let hasCompleted = false;
    while (this.state.messages.length > 0) {
      const chain = queue.pop();
      if (chain === undefined) break;
      const bytes = this.state.messages[0];
      if (chain.writableBytes < controlMessageBytes || !chain.write(0, bytes)) {
        queue.fail("console control buffer too short or outside of RAM");
        return;
      }
      this.state.messages.shift();
      queue.push(chain, bytes.length);
      hasCompleted = true;
    }
    if (hasCompleted) port.interrupt(Queue.controlReceive);
  }
}
