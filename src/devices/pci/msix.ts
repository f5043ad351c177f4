/** MSI-X: capability, vector table and pending bits (PCI Local Bus Specification 3.0, 6.8.2). */
import { bytes, object, type Shape, words32 } from "../../base/shape.ts";
import { invariant } from "../../base/errors.ts";
import type { AccessSize, MessageSignal, RegisterBlock } from "../contract.ts";
import { allOnes } from "./config-space.ts";
import { CapabilityId } from "./registers.ts";

export interface MsixState {
  /** 16 bytes a vector: message address (low, high), data, vector control. */
  readonly table: Uint32Array;
  readonly pending: Uint8Array;
}

export function msixStateShape(vectorCount: number): Shape<MsixState> {
  return object({ table: words32(4 * vectorCount), pending: bytes(8 * Math.ceil(vectorCount / 64)) });
}

const functionMaskMask = 0x4000;
const enableMask = 0x8000;
const vectorMaskedMask = 1;

/** Capability body (12 bytes from its id) for a table at `tableOffset` and pending bits at `pendingOffset` of a BAR. */
export function msixCapability(vectorCount: number, bar: number, tableOffset: number, pendingOffset: number): Uint8Array {
  invariant(vectorCount >= 1 && vectorCount <= 2048, "MSI-X has 1 to 2048 vectors");
  const body = new DataView(new ArrayBuffer(12));
  body.setUint8(0, CapabilityId.msix);
  body.setUint16(2, vectorCount - 1, true);
  body.setUint32(4, tableOffset | bar, true);
  body.setUint32(8, pendingOffset | bar, true);
  return new Uint8Array(body.buffer);
}

export function msixResetState(vectorCount: number): MsixState {
  const table = new Uint32Array(4 * vectorCount);
  for (let vector = 0; vector < vectorCount; vector++) table[4 * vector + 3] = vectorMaskedMask;
  return { table, pending: new Uint8Array(8 * Math.ceil(vectorCount / 64)) };
}

export class Msix {
  readonly state: MsixState;
  readonly vectorCount: number;
  readonly #control: () => number;
  readonly #signalMessage: MessageSignal;

  /** `control` reads the Message Control word of the capability. */
  constructor(vectorCount: number, state: MsixState, control: () => number, signalMessage: MessageSignal) {
    this.vectorCount = vectorCount;
    this.state = state;
    this.#control = control;
    this.#signalMessage = signalMessage;
  }

  get isEnabled(): boolean {
    return (this.#control() & enableMask) !== 0;
  }

  /** Sends the vector's message, or remembers it while masked. A vector that does not exist is ignored. */
  signal(vector: number): void {
    if (vector >= this.vectorCount || !this.isEnabled) return;
    if (this.#isMasked(vector)) this.state.pending[vector >> 3] |= 1 << (vector & 7);
    else this.#send(vector);
  }

  /** To be called after the Message Control word changed: sends what was held back. */
  controlChanged(): void {
    if (!this.isEnabled) return;
    for (let vector = 0; vector < this.vectorCount; vector++) this.#deliverPending(vector);
  }

  reset(): void {
    const initial = msixResetState(this.vectorCount);
    this.state.table.set(initial.table);
    this.state.pending.set(initial.pending);
  }

  readonly table: RegisterBlock = {
    read: (offset, sizeBytes) => {
      const entry = offset >> 2;
      if (entry >= this.state.table.length || (offset & 3) + sizeBytes > 4) return allOnes(sizeBytes);
      return ((this.state.table[entry] >>> (8 * (offset & 3))) & allOnes(sizeBytes)) >>> 0;
    },
    // Only aligned doublewords (and the halves of quadwords) are defined for writing.
    write: (offset, sizeBytes, value) => {
      const entry = offset >> 2;
      if (sizeBytes !== 4 || (offset & 3) !== 0 || entry >= this.state.table.length) return;
      this.state.table[entry] = value;
      if ((entry & 3) === 3) this.#deliverPending(entry >> 2);
    },
  };

  readonly pendingBits: RegisterBlock = {
    read: (offset, sizeBytes) => readBytes(this.state.pending, offset, sizeBytes),
    write: () => {},
  };

  #isMasked(vector: number): boolean {
    return (this.#control() & functionMaskMask) !== 0 || (this.state.table[4 * vector + 3] & vectorMaskedMask) !== 0;
  }

  #deliverPending(vector: number): void {
    const bit = 1 << (vector & 7);
    if ((this.state.pending[vector >> 3] & bit) === 0 || !this.isEnabled || this.#isMasked(vector)) return;
    this.state.pending[vector >> 3] &= ~bit;
    this.#send(vector);
  }

  #send(vector: number): void {
    this.#signalMessage(this.state.table[4 * vector], this.state.table[4 * vector + 2]);
  }
}

function readBytes(bytes: Uint8Array, offset: number, sizeBytes: AccessSize): number {
  let value = 0;
  for (let i = 0; i < sizeBytes; i++) value |= (bytes[offset + i] ?? 0) << (8 * i);
  return value >>> 0;
}
