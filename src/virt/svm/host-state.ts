/** What VMRUN keeps of the host and #VMEXIT brings back (AMD APM volume 2, "VMRUN": "Saving Host State"). */
import { allFlagsMask, FlagMask, readFlags, writeFlags } from "../../isa/flags.ts";
import * as layout from "../../isa/state.ts";
import type { StateView } from "../../isa/state-view.ts";
import { refreshSegmentEnds } from "../../isa/system/segments.ts";

const wideFields = [
  layout.cr0, layout.cr3, layout.cr4, layout.efer, layout.gpr[4], layout.gpr[0], layout.gdtrBase, layout.idtrBase,
] as const;
const wideNames = ["cr0", "cr3", "cr4", "efer", "rsp", "rax", "gdtrBase", "idtrBase"] as const;
const segmentParts = ["selector", "limit", "attributes"] as const;
const segmentCount = 4;
const segmentWords = 5;
const debugControlDisabled = 0x400;

/**
 * Kept beside the memory at VM_HSAVE_PA, whose contents software must not rely on: what the host does to that page does
 * not matter.
 */
export class HostState {
  readonly #wide = new Uint32Array(wideFields.length * 2);
  /** Per segment register: selector, limit, attributes, base. */
  readonly #segments = new Uint32Array(segmentCount * segmentWords);
  #gdtrLimit = 0;
  #idtrLimit = 0;
  #flags = 0;
  #rip = 0n;

  /** `rip` is where the host goes on. */
  save(state: StateView, rip: bigint): void {
    const wide = this.#wide, segments = this.#segments;
    for (let index = 0; index < wideFields.length; index++) {
      wide[index * 2] = state.get32(wideFields[index]);
      wide[index * 2 + 1] = state.getHigh32(wideFields[index]);
    }
    for (let index = 0; index < segmentCount; index++) {
      const { base, limit, attributes, selector } = layout.segments[index];
      const at = index * segmentWords;
      segments[at] = state.get16(selector);
      segments[at + 1] = state.get32(limit);
      segments[at + 2] = state.get32(attributes);
      segments[at + 3] = state.get32(base);
      segments[at + 4] = state.getHigh32(base);
    }
    this.#gdtrLimit = state.get32(layout.gdtrLimit);
    this.#idtrLimit = state.get32(layout.idtrLimit);
    this.#flags = readFlags(state);
    this.#rip = rip;
  }

  /** Everything kept, by name. */
  getState(): Record<string, bigint> {
    const values: Record<string, bigint> = { gdtrLimit: BigInt(this.#gdtrLimit), idtrLimit: BigInt(this.#idtrLimit), flags: BigInt(this.#flags), rip: this.#rip };
    for (const [index, name] of wideNames.entries()) values[name] = wideValue(this.#wide, index * 2);
    for (let index = 0; index < segmentCount; index++) {
      const at = index * segmentWords, name = layout.segmentNames[index];
      for (const [word, part] of segmentParts.entries()) values[`${name}.${part}`] = BigInt(this.#segments[at + word]);
      values[`${name}.base`] = wideValue(this.#segments, at + segmentParts.length);
    }
    return values;
  }

  /** `value` finds what `getState` gave by its name. */
  setState(value: (name: string) => bigint): void {
    const word = (name: string): number => Number(value(name) & 0xffff_ffffn);
    this.#gdtrLimit = word("gdtrLimit") & 0xffff;
    this.#idtrLimit = word("idtrLimit") & 0xffff;
    this.#flags = word("flags");
    this.#rip = value("rip");
    for (const [index, name] of wideNames.entries()) setWideValue(this.#wide, index * 2, value(name));
    for (let index = 0; index < segmentCount; index++) {
      const at = index * segmentWords, name = layout.segmentNames[index];
      for (const [offset, part] of segmentParts.entries()) this.#segments[at + offset] = word(`${name}.${part}`);
      setWideValue(this.#segments, at + segmentParts.length, value(`${name}.base`));
    }
  }

  get cr0(): number {
    return this.#wide[0];
  }

  get cr4(): number {
    return this.#wide[4];
  }

  get efer(): number {
    return this.#wide[6];
  }

  /** Whether the host took interrupts: with V_INTR_MASKING, this decides about physical ones. */
  get hasInterruptFlag(): boolean {
    return (this.#flags & FlagMask.IF) !== 0;
  }

  /** The host's CR3. */
  get root(): number {
    return this.#wide[3] * 0x1_0000_0000 + this.#wide[2];
  }

  /** Breakpoints end with the guest. The hidden parts of segment registers come back as they were. */
  restore(state: StateView): void {
    const wide = this.#wide, segments = this.#segments;
    for (let index = 0; index < wideFields.length; index++) state.setHalves(wideFields[index], wide[index * 2], wide[index * 2 + 1]);
    for (let index = 0; index < segmentCount; index++) {
      const { base, limit, attributes, selector } = layout.segments[index];
      const at = index * segmentWords;
      state.set16(selector, segments[at]);
      state.set32(limit, segments[at + 1]);
      state.set32(attributes, segments[at + 2]);
      state.setHalves(base, segments[at + 3], segments[at + 4]);
    }
    // All six: real mode ignores types, and the guest may have been in it.
    for (let index = 0; index < 6; index++) refreshSegmentEnds(state, index);
    state.set32(layout.gdtrLimit, this.#gdtrLimit);
    state.set32(layout.idtrLimit, this.#idtrLimit);
    state.set32(layout.cpl, 0);
    state.setHalves(layout.dr[7], debugControlDisabled, 0);
    writeFlags(state, this.#flags, allFlagsMask);
    state.set64(layout.rip, this.#rip);
  }
}

function wideValue(words: Uint32Array, at: number): bigint {
  return (BigInt(words[at + 1]) << 32n) | BigInt(words[at]);
}

function setWideValue(words: Uint32Array, at: number, value: bigint): void {
  words[at] = Number(value & 0xffff_ffffn);
  words[at + 1] = Number((value >> 32n) & 0xffff_ffffn);
}
