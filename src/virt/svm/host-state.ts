/** What VMRUN keeps of the host and #VMEXIT brings back (AMD APM volume 2, "VMRUN": "Saving Host State"). */
import { allFlagsMask, FlagMask, readFlags, writeFlags } from "../../isa/flags.ts";
import * as layout from "../../isa/state.ts";
import type { StateView } from "../../isa/state-view.ts";
import { debugControlReset } from "../../isa/system/debug.ts";
import { refreshSegmentEnds } from "../../isa/system/segments.ts";

const wideFields = [
  layout.cr0, layout.cr3, layout.cr4, layout.efer, layout.gpr[4], layout.gpr[0], layout.gdtrBase, layout.idtrBase,
] as const;
const segmentCount = 4;

/**
 * Kept beside the memory at VM_HSAVE_PA, whose contents software must not rely on: what the host does to that page does
 * not matter.
 */
export class HostState {
  readonly #wide = new BigUint64Array(wideFields.length);
  readonly #bases = new BigUint64Array(segmentCount);
  readonly #segments = new Uint32Array(segmentCount * 3);
  #gdtrLimit = 0;
  #idtrLimit = 0;
  #flags = 0;
  #rip = 0n;

  /** `rip` is where the host goes on. */
  save(state: StateView, rip: bigint): void {
    for (let index = 0; index < wideFields.length; index++) this.#wide[index] = state.get64(wideFields[index]);
    for (let index = 0; index < segmentCount; index++) {
      const { base, limit, attributes, selector } = layout.segments[index];
      this.#bases[index] = state.get64(base);
      this.#segments.set([state.get16(selector), state.get32(limit), state.get32(attributes)], index * 3);
    }
    this.#gdtrLimit = state.get32(layout.gdtrLimit);
    this.#idtrLimit = state.get32(layout.idtrLimit);
    this.#flags = readFlags(state);
    this.#rip = rip;
  }

  /** Whether the host took interrupts: with V_INTR_MASKING, this decides about physical ones. */
  get hasInterruptFlag(): boolean {
    return (this.#flags & FlagMask.IF) !== 0;
  }

  /** Breakpoints end with the guest. The hidden parts of segment registers come back as they were. */
  restore(state: StateView): void {
    for (let index = 0; index < wideFields.length; index++) state.set64(wideFields[index], this.#wide[index]);
    for (let index = 0; index < segmentCount; index++) {
      const { base, limit, attributes, selector } = layout.segments[index];
      state.set64(base, this.#bases[index]);
      state.set16(selector, this.#segments[index * 3]);
      state.set32(limit, this.#segments[index * 3 + 1]);
      state.set32(attributes, this.#segments[index * 3 + 2]);
    }
    // All six: real mode ignores types, and the guest may have been in it.
    for (let index = 0; index < 6; index++) refreshSegmentEnds(state, index);
    state.set32(layout.gdtrLimit, this.#gdtrLimit);
    state.set32(layout.idtrLimit, this.#idtrLimit);
    state.set32(layout.cpl, 0);
    state.set64(layout.dr[7], debugControlReset);
    writeFlags(state, this.#flags, allFlagsMask);
    state.set64(layout.rip, this.#rip);
  }
}
