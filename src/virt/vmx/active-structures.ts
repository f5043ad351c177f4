/** The VMCSs that are active on a processor: their data is here, and in memory again after VMCLEAR (SDM volume 3, "Initialization of VMCS"). */
import type { PhysicalMemory } from "../../engine/physical-memory.ts";
import type { StateView } from "../../isa/state-view.ts";
import { vmcsCount, vmcsOffset, vmcsSizeBytes } from "../../isa/state.ts";
import { Vmcs } from "./vmcs.ts";

/** More than a hypervisor keeps on one processor; the one that was used longest ago goes back to memory. */
export const maximumActive: number = vmcsCount;

export class ActiveStructures {
  readonly #memory: PhysicalMemory;
  readonly #buffer: ArrayBufferLike;
  readonly #active = new Map<number, Vmcs>();
  /** Places in the processor's area that no active VMCS has. */
  readonly #free: number[];

  /** They are kept in the processor's `state` area. */
  constructor(memory: PhysicalMemory, state: StateView) {
    this.#memory = memory;
    this.#buffer = state.u8.buffer;
    this.#free = Array.from({ length: vmcsCount }, (_, index) => state.base + vmcsOffset + index * vmcsSizeBytes);
  }

  /** The VMCS at a physical address, made active. */
  activate(address: number): Vmcs {
    let vmcs = this.#active.get(address);
    if (vmcs === undefined) {
      vmcs = this.#create(address);
      this.#memory.readRange(address, vmcs.bytes);
    }
    // The map's order tells which was used last.
    this.#active.delete(address);
    this.#active.set(address, vmcs);
    return vmcs;
  }

  #create(address: number): Vmcs {
    if (this.#free.length === 0) this.writeBack([...this.#active.keys()][0]);
    return new Vmcs(address, this.#buffer, this.#free.pop());
  }

  /** Memory has the data from now on. */
  writeBack(address: number): void {
    const vmcs = this.#active.get(address);
    if (vmcs === undefined) return;
    this.#active.delete(address);
    this.#free.push(vmcs.place);
    // A region that is not RAM keeps nothing.
    this.#memory.writeRange(address, vmcs.bytes);
  }

  /** All of them, the one that was used longest ago first. */
  all(): readonly Vmcs[] {
    return [...this.#active.values()];
  }

  /** Makes `bytes` the data of an active VMCS. */
  restore(address: number, bytes: Uint8Array): void {
    // A snapshot that names one twice does not take two places.
    const known = this.#active.get(address);
    if (known !== undefined) this.#free.push(known.place);
    const vmcs = this.#create(address);
    vmcs.bytes.set(bytes);
    this.#active.set(address, vmcs);
  }

  /** Nothing is active any more; what software did not VMCLEAR is lost, so that memory it uses for something else stays. */
  drop(): void {
    for (const { place } of this.#active.values()) this.#free.push(place);
    this.#active.clear();
  }
}
