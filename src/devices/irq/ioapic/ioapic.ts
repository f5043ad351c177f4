/** I/O APIC (Intel 82093AA, and the EOI register of version 0x20 in the ICH9 data sheet). */
import { integer, list, object, type Shape, uint32, uint8 } from "../../../base/shape.ts";
import type { AccessSize, Device, IrqLine, RegisterBlock } from "../../contract.ts";
import { registerSlice } from "../../register-slice.ts";
import { DeliveryMode, type DeliverMessage, messageTo } from "../message.ts";

export const ioApicPinCount = 24;

const Window = { select: 0x00, data: 0x10, eoi: 0x40 };
const Register = { id: 0x00, version: 0x01, arbitration: 0x02, firstRedirection: 0x10 };
const versionValue = 0x20 | ((ioApicPinCount - 1) << 16);
const Redirection = {
  logicalMask: 0x0800,
  remoteIrrMask: 0x4000,
  levelMask: 0x8000,
  maskedMask: 0x1_0000,
  /** Delivery status and remote IRR are read-only. */
  writableMask: 0x1_afff,
};

export interface IoApicState {
  select: number;
  id: number;
  /** Levels on the pins, one bit each. A level is "asserted", whatever the polarity bit calls it. */
  pins: number;
  /** Low and high words of the redirection entries. */
  redirectionLow: number[];
  redirectionHigh: number[];
}

export const ioApicStateShape: Shape<IoApicState> = object({
  select: uint8, id: integer(0, 15), pins: integer(0, 2 ** ioApicPinCount - 1),
  redirectionLow: list(uint32, ioApicPinCount), redirectionHigh: list(uint32, ioApicPinCount),
});

export function resetIoApicState(): IoApicState {
  return {
    select: 0,
    id: 0,
    pins: 0,
    redirectionLow: Array.from({ length: ioApicPinCount }, () => Redirection.maskedMask),
    redirectionHigh: Array.from({ length: ioApicPinCount }, () => 0),
  };
}

export class IoApic implements RegisterBlock, Device<IoApicState> {
  readonly state: IoApicState;
  readonly #deliver: DeliverMessage;

  constructor(deliver: DeliverMessage, state: IoApicState = resetIoApicState()) {
    this.#deliver = deliver;
    this.state = state;
  }

  reset(): void {
    const { pins } = this.state;
    Object.assign(this.state, resetIoApicState(), { pins });
  }

  /** Pin 0 to 23 as a wire. */
  input(pin: number): IrqLine {
    return { set: (level) => this.setPin(pin, level) };
  }

  setPin(pin: number, level: boolean): void {
    const { state } = this;
    const bit = 1 << pin;
    if (((state.pins & bit) !== 0) === level) return;
    state.pins ^= bit;
    if (!level) return;
    if (state.redirectionLow[pin] & Redirection.levelMask) this.#serviceLevel(pin);
    // An edge on a masked pin is lost (82093AA, "Interrupt Mask").
    else if (!(state.redirectionLow[pin] & Redirection.maskedMask)) this.#send(pin);
  }

  /** A local APIC has finished `vector`: level-triggered pins that are still asserted interrupt again. */
  endOfInterrupt(vector: number): void {
    const { redirectionLow } = this.state;
    for (let pin = 0; pin < ioApicPinCount; pin++) {
      const low = redirectionLow[pin];
      if ((low & 0xff) !== vector || !(low & Redirection.levelMask) || !(low & Redirection.remoteIrrMask)) continue;
      redirectionLow[pin] = low & ~Redirection.remoteIrrMask;
      this.#serviceLevel(pin);
    }
  }

  read(offset: number, sizeBytes: AccessSize): number {
    switch (offset & ~3) {
      case Window.select:
        return registerSlice(this.state.select, offset, sizeBytes);
      case Window.data:
        return registerSlice(this.#readRegister(this.state.select), offset, sizeBytes);
      default:
        return 0;
    }
  }

  write(offset: number, _sizeBytes: AccessSize, value: number): void {
    switch (offset) {
      case Window.select:
        this.state.select = value & 0xff;
        return;
      case Window.data:
        this.#writeRegister(this.state.select, value);
        return;
      case Window.eoi:
        this.endOfInterrupt(value & 0xff);
        return;
      default:
    }
  }

  #readRegister(register: number): number {
    const { state } = this;
    switch (register) {
      case Register.id:
      case Register.arbitration:
        return state.id << 24;
      case Register.version:
        return versionValue;
      default: {
        const pin = (register - Register.firstRedirection) >> 1;
        if (pin < 0 || pin >= ioApicPinCount) return 0;
        return register & 1 ? state.redirectionHigh[pin] : state.redirectionLow[pin];
      }
    }
  }

  #writeRegister(register: number, value: number): void {
    const { state } = this;
    if (register === Register.id) {
      state.id = (value >>> 24) & 0x0f;
      return;
    }
    const pin = (register - Register.firstRedirection) >> 1;
    if (pin < 0 || pin >= ioApicPinCount) return;
    if (register & 1) {
      state.redirectionHigh[pin] = (value & 0xff00_0000) >>> 0;
      return;
    }
    let low = (value & Redirection.writableMask) | (state.redirectionLow[pin] & Redirection.remoteIrrMask);
    // Switching to edge clears remote IRR: how software without the EOI register ends a stuck interrupt.
    if (!(low & Redirection.levelMask)) low &= ~Redirection.remoteIrrMask;
    state.redirectionLow[pin] = low;
    if (low & Redirection.levelMask) this.#serviceLevel(pin);
  }

  #serviceLevel(pin: number): void {
    const { state } = this;
    const low = state.redirectionLow[pin];
    if (!(state.pins & (1 << pin)) || low & (Redirection.maskedMask | Redirection.remoteIrrMask)) return;
    const mode = (low >> 8) & 7;
    // Only these are acknowledged by an EOI; the others are always edge-sensitive.
    if (mode === DeliveryMode.fixed || mode === DeliveryMode.lowestPriority) {
      state.redirectionLow[pin] = low | Redirection.remoteIrrMask;
    }
    this.#send(pin);
  }

  #send(pin: number): void {
    const low = this.state.redirectionLow[pin];
    const destination = this.state.redirectionHigh[pin] >>> 24;
    this.#deliver(messageTo(destination, (low & Redirection.logicalMask) !== 0, low, (low & Redirection.levelMask) !== 0));
  }
}
