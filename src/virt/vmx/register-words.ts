/** Copies of registers between the processor's state area and a VMCS. */
import type { StateView } from "../../isa/state-view.ts";
import type { StateField } from "../../isa/state.ts";
import type { VmcsField } from "./fields.ts";
import type { Vmcs } from "./vmcs.ts";

/** 64-bit registers, each with the field that it is loaded from or saved to; transitions take most of their time for such. */
export class RegisterWords {
  /** Pairs of numbers of words: in the state area, in the region. */
  readonly #pairs: Uint32Array;

  constructor(registers: readonly (readonly [register: StateField, field: VmcsField])[]) {
    this.#pairs = Uint32Array.from(registers.flatMap(([register, field]) => {
      const to = register.offset >>> 2, from = field.offset >>> 2;
      return [to, from, to + 1, from + 1];
    }));
  }

  load({ u32, base }: StateView, { words }: Vmcs): void {
    const pairs = this.#pairs, first = base >>> 2;
    for (let at = 0; at < pairs.length; at += 2) u32[first + pairs[at]] = words[pairs[at + 1]];
  }

  save({ u32, base }: StateView, { words }: Vmcs): void {
    const pairs = this.#pairs, first = base >>> 2;
    for (let at = 0; at < pairs.length; at += 2) words[pairs[at + 1]] = u32[first + pairs[at]];
  }
}
