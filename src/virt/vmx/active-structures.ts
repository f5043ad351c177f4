/** The VMCSs that are active on a processor: their data is here, and in memory again after VMCLEAR (SDM volume 3, "Initialization of VMCS"). */
import type { PhysicalMemory } from "../../engine/physical-memory.ts";
import { Vmcs } from "./vmcs.ts";

/** More than a hypervisor keeps on one processor; the one that was used longest ago goes back to memory. */
export const maximumActive = 64;

export class ActiveStructures {
  readonly #memory: PhysicalMemory;
  readonly #active = new Map<number, Vmcs>();

  constructor(memory: PhysicalMemory) {
    this.#memory = memory;
  }

  /** The VMCS at a physical address, made active. */
  activate(address: number): Vmcs {
    let vmcs = this.#active.get(address);
    if (vmcs === undefined) {
      vmcs = new Vmcs(address);
      this.#memory.readRange(address, vmcs.bytes);
    }
    // The map's order tells which was used last.
    this.#active.delete(address);
    this.#active.set(address, vmcs);
    if (this.#active.size > maximumActive) this.writeBack([...this.#active.keys()][0]);
    return vmcs;
  }

  /** Memory has the data from now on. */
  writeBack(address: number): void {
    const vmcs = this.#active.get(address);
    if (vmcs === undefined) return;
    this.#active.delete(address);
    // A region that is not RAM keeps nothing.
    this.#memory.writeRange(address, vmcs.bytes);
  }

  /** All of them, the one that was used longest ago first. */
  all(): readonly Vmcs[] {
    return [...this.#active.values()];
  }

  /** Makes `bytes` the data of an active VMCS. */
  restore(address: number, bytes: Uint8Array): void {
    const vmcs = new Vmcs(address);
    vmcs.bytes.set(bytes);
    this.#active.set(address, vmcs);
  }

  /** Nothing is active any more; what software did not VMCLEAR is lost, so that memory it uses for something else stays. */
  drop(): void {
    this.#active.clear();
  }
}
