/** The seam between a virtio device type and its transport (Virtual I/O Device 1.2, chapters 2 and 4). */
import type { RegisterBlock } from "../contract.ts";
import type { Virtqueue } from "./virtqueue.ts";

/** What the transport offers to the device type. */
export interface VirtioPort {
  queue(index: number): Virtqueue;
  /** The driver has set DRIVER_OK and nothing is broken. */
  readonly isRunning: boolean;
  /** Interrupts the driver for used buffers of a queue, if it wants to know. */
  interrupt(queueIndex: number): void;
  /** Tells the driver that the configuration changed. */
  configChanged(): void;
}

/** A device type: what is the same under every transport. */
export interface VirtioDevice {
  /** The device id of chapter 5. */
  readonly deviceType: number;
  /** PCI class code, 0xCCSSPP. */
  readonly classCode: number;
  /** Device-specific feature bits 0 to 23. */
  readonly features: number;
  /** Largest size of each queue; powers of two. */
  readonly queueSizes: readonly number[];
  /** Device-specific configuration. */
  readonly config: RegisterBlock;
  /** Requests handed to an asynchronous back end and not answered yet. */
  readonly requestsUnderWay?: number;
  /** The driver is ready; `features` are the negotiated bits 0 to 23. */
  start(port: VirtioPort, features: number): void;
  /** The driver made buffers available. */
  notify(queueIndex: number): void;
  /** Forgets the driver; what is still under way must not touch the queues any more. */
  reset(): void;
}
