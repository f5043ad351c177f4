/** MSI with one vector, a 64-bit address and no per-vector masking (PCI Local Bus Specification 3.0, 6.8.1). */
import type { MessageSignal } from "../contract.ts";
import type { PciConfigSpace } from "./config-space.ts";
import { CapabilityId } from "./registers.ts";

const enableMask = 0x0001;
const is64BitMask = 0x0080;

/** Capability body (14 bytes from its id). */
export function msiCapability(): Uint8Array {
  const body = new Uint8Array(14);
  body[0] = CapabilityId.msi;
  body[2] = is64BitMask;
  return body;
}

export class Msi {
  readonly #config: PciConfigSpace;
  readonly #offset: number;
  readonly #signalMessage: MessageSignal;
  readonly #changed: (() => void)[] = [];

  constructor(config: PciConfigSpace, offset: number, signalMessage: MessageSignal) {
    this.#config = config;
    this.#offset = offset;
    this.#signalMessage = signalMessage;
    // Multiple Message Enable is writable although one vector is all there is; software reads it back.
    config.permit(offset + 2, 2, 0x0071);
    config.permit(offset + 4, 4, 0xfffffffc);
    config.permit(offset + 8, 4, 0xffffffff);
    config.permit(offset + 12, 2, 0xffff);
  }

  get isEnabled(): boolean {
    return (this.#config.get(this.#offset + 2, 2) & enableMask) !== 0;
  }

  signal(): void {
    if (this.isEnabled) this.#signalMessage(this.#config.get(this.#offset + 4, 4), this.#config.get(this.#offset + 12, 2));
  }

  /** Registers a listener for software switching MSI on or off. */
  onControlChange(listener: () => void): void {
    this.#changed.push(listener);
  }

  controlChanged(): void {
    for (const listener of this.#changed) listener();
  }
}
