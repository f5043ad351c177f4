/** The host's end of a serial line: queues towards the guest, chunks and a web stream from it. */

const firstChunkBytes = 4096;
const backlogBytesMaximum = 1 << 20;

export interface SerialPortWires {
  /** Offers bytes to the UART; returns how many it took. */
  feed(bytes: Uint8Array): number;
  /** A chunk has come from the guest. */
  received(bytes: Uint8Array): void;
  /** The reader of the stream is behind by more than its backlog holds, or has caught up. */
  setBlocked(isBlocked: boolean): void;
}

/** One serial port of a machine, seen from the host. */
export class SerialPort {
  readonly #wires: SerialPortWires;
  #chunk: Uint8Array = new Uint8Array(firstChunkBytes);
  #chunkLength = 0;
  #input: { readonly bytes: Uint8Array; readonly taken?: () => void }[] = [];
  #backlog: Uint8Array[] = [];
  #backlogBytes = 0;
  #isBlocked = false;
  #isClosed = false;
  #wanted: (() => void) | undefined;
  #readable: ReadableStream<Uint8Array> | undefined;
  #writable: WritableStream<Uint8Array | string> | undefined;

  constructor(wires: SerialPortWires) {
    this.#wires = wires;
  }

  /**
   * What the guest sends, from the beginning. Until somebody reads, the last MiB is kept; a reader that falls more
   * than that behind makes the machine wait. The stream ends with the machine.
   */
  get readable(): ReadableStream<Uint8Array> {
    this.#readable ??= new ReadableStream<Uint8Array>({ pull: (controller) => this.#pull(controller) }, { highWaterMark: 0 });
    return this.#readable;
  }

  /** Input for the guest. A write is done when the guest's UART has taken all of it. */
  get writable(): WritableStream<Uint8Array | string> {
    this.#writable ??= new WritableStream<Uint8Array | string>({
      write: (data) => new Promise<void>((resolve) => {
        this.#enqueue(data, resolve);
      }),
    });
    return this.#writable;
  }

  /** Input for the guest, without waiting. */
  write(data: Uint8Array | string): void {
    this.#enqueue(data);
  }

  /** @internal A byte from the UART. */
  receive(byte: number): void {
    if (this.#chunkLength === this.#chunk.length) {
      const larger = new Uint8Array(2 * this.#chunk.length);
      larger.set(this.#chunk);
      this.#chunk = larger;
    }
    this.#chunk[this.#chunkLength++] = byte;
  }

  /** @internal Hands on what has been received. */
  flush(): void {
    if (this.#chunkLength === 0) return;
    const bytes = this.#chunk.slice(0, this.#chunkLength);
    this.#chunkLength = 0;
    this.#backlog.push(bytes);
    this.#backlogBytes += bytes.length;
    this.#wanted?.();
    this.#limitBacklog();
    this.#wires.received(bytes);
  }

  /** @internal The UART has room. */
  feedMore(): void {
    while (this.#input.length > 0) {
      const [{ bytes, taken }] = this.#input;
      const count = this.#wires.feed(bytes);
      if (count < bytes.length) {
        this.#input[0] = { bytes: bytes.subarray(count), ...(taken === undefined ? {} : { taken }) };
        return;
      }
      this.#input.shift();
      taken?.();
    }
  }

  /** @internal The machine has ended: there is no more output, and input goes nowhere. */
  close(): void {
    this.flush();
    this.#isClosed = true;
    this.#wanted?.();
    for (const { taken } of this.#input) taken?.();
    this.#input = [];
  }

  #enqueue(data: Uint8Array | string, taken?: () => void): void {
    const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data.slice();
    if (this.#isClosed) {
      taken?.();
      return;
    }
    this.#input.push({ bytes, ...(taken === undefined ? {} : { taken }) });
    if (this.#input.length === 1) this.feedMore();
  }

  #limitBacklog(): void {
    if (this.#backlogBytes <= backlogBytesMaximum) return;
    if (this.#readable?.locked === true) {
      this.#setBlocked(true);
      return;
    }
    while (this.#backlogBytes > backlogBytesMaximum) this.#backlogBytes -= this.#backlog.shift()?.length ?? this.#backlogBytes;
  }

  #setBlocked(isBlocked: boolean): void {
    if (this.#isBlocked === isBlocked) return;
    this.#isBlocked = isBlocked;
    this.#wires.setBlocked(isBlocked);
  }

  async #pull(controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> {
    while (this.#backlog.length === 0 && !this.#isClosed) {
      await new Promise<void>((resolve) => {
        this.#wanted = resolve;
      });
      this.#wanted = undefined;
    }
    const bytes = this.#backlog.shift();
    if (bytes === undefined) {
      controller.close();
      return;
    }
    this.#backlogBytes -= bytes.length;
    if (this.#backlogBytes < backlogBytesMaximum / 2) this.#setBlocked(false);
    controller.enqueue(bytes);
  }
}
