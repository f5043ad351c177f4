/**
 * Virtual machine generation ID (Microsoft, "Virtual Machine Generation ID", 2012): sixteen bytes in memory that change
 * when a machine goes on as a copy of itself. The guest is told by an ACPI event, and makes its random numbers anew.
 */
import { bytes, object, type Shape } from "../../../base/shape.ts";
import type { Device, DeviceContext, DeviceDefinition } from "../../contract.ts";

export const generationIdBytes = 16;
/** The general-purpose event of a change. */
export const generationChangeEvent = 5;

export interface VmGenerationIdConfig {
  /** Fills with random bytes, for the first ID. */
  fillRandom(target: Uint8Array): void;
  /** Puts the ID where the guest reads it. */
  place(id: Uint8Array): void;
  /** Raises the general-purpose event {@link generationChangeEvent}. */
  onChange(): void;
}

export interface VmGenerationIdState {
  /** As it lies in memory: a GUID's mixed byte order. */
  readonly id: Uint8Array;
}

const stateShape: Shape<VmGenerationIdState> = object<VmGenerationIdState>({ id: bytes(generationIdBytes) });

export class VmGenerationId implements Device<VmGenerationIdState> {
  readonly state: VmGenerationIdState;
  readonly #config: VmGenerationIdConfig;

  constructor(config: VmGenerationIdConfig, state: VmGenerationIdState) {
    this.#config = config;
    this.state = state;
    config.place(state.id);
  }

  /** The machine is a copy from now on. */
  change(id: Uint8Array): void {
    this.state.id.set(id);
    this.#config.place(this.state.id);
    this.#config.onChange();
  }

  /** A machine that was reset is still the same one. */
  reset(): void {}
}

export const vmGenerationId: DeviceDefinition<VmGenerationIdConfig, VmGenerationIdState, VmGenerationId> = {
  name: "vm-generation-id",
  description: "virtual machine generation ID, by which a guest sees that it was copied",
  stateVersion: 1,
  stateShape: () => stateShape,
  create(config: VmGenerationIdConfig, _context: DeviceContext, state?: VmGenerationIdState): VmGenerationId {
    if (state !== undefined) return new VmGenerationId(config, state);
    const id = new Uint8Array(generationIdBytes);
    config.fillRandom(id);
    return new VmGenerationId(config, { id });
  },
};

/** An ID as text, in a GUID's byte order. */
export function formatGenerationId(id: Uint8Array): string {
  const digits = Array.from(id, (byte) => byte.toString(16).padStart(2, "0"));
  const field = (...indices: readonly number[]): string => indices.map((index) => digits[index]).join("");
  return [field(3, 2, 1, 0), field(5, 4), field(7, 6), field(8, 9), field(10, 11, 12, 13, 14, 15)].join("-");
}
