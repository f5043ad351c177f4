/** Virtio entropy device: fills buffers from an injected source (Virtual I/O Device 1.2, 5.4). */
import type { RegisterBlock } from "../../contract.ts";
import { bytesRegisterBlock } from "../config-bytes.ts";
import type { VirtioDevice, VirtioPort } from "../contract.ts";

/** Fills all of `target` with random bytes. */
export type EntropySource = (target: Uint8Array) => void;

/** A buffer gets at most this much at a time: the driver asks again if it wants more. */
const maximumFillBytes = 0x10000;
export const queueSizes: readonly number[] = [8];

/** Nothing outlives a request. */
export type VirtioEntropyState = Readonly<Record<string, never>>;

export class VirtioEntropy implements VirtioDevice {
  readonly state: VirtioEntropyState = {};
  readonly deviceType = 4;
  readonly classCode = 0x00ff00;
  readonly features = 0;
  readonly queueSizes: readonly number[] = queueSizes;
  readonly config: RegisterBlock = bytesRegisterBlock(new Uint8Array(0));
  readonly #source: EntropySource;
  #port: VirtioPort | undefined;

  constructor(source: EntropySource) {
    this.#source = source;
  }

  start(port: VirtioPort): void {
    this.#port = port;
  }

  notify(queueIndex: number): void {
    const port = this.#port;
    if (port === undefined) return;
    const queue = port.queue(queueIndex);
    for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
      const bytes = new Uint8Array(Math.min(chain.writableBytes, maximumFillBytes));
      this.#source(bytes);
      if (chain.write(0, bytes)) queue.push(chain, bytes.length);
      else queue.fail("entropy buffer outside of RAM");
    }
    port.interrupt(queueIndex);
  }

  reset(): void {
    this.#port = undefined;
  }
}
