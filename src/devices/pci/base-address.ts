/** Base address registers and the expansion ROM register: sizing, decoding, relocation (PCI Local Bus Specification 3.0, 6.2.5). */
import { invariant } from "../../base/errors.ts";
import type { Bus, Mapping, RegisterBlock } from "../contract.ts";
import type { PciConfigSpace } from "./config-space.ts";
import { Config, expansionRomEnableMask, ioSpaceEnableMask, memorySpaceEnableMask } from "./registers.ts";

export type BaseAddressKind = "io" | "memory32" | "memory64" | "rom";

/** One region of a function. `memory64` takes the register and its successor; `rom` is the expansion ROM register. */
export interface BaseAddressDefinition {
  readonly kind: BaseAddressKind;
  /** 0 to 5; ignored for `rom`. */
  readonly index: number;
  /** A power of two; at least 4 for I/O, 16 for memory, 2048 for a ROM. */
  readonly sizeBytes: number;
  readonly isPrefetchable?: boolean;
  readonly registers: RegisterBlock;
  readonly name: string;
}

const minimumSizes: Readonly<Record<BaseAddressKind, number>> = { io: 4, memory32: 16, memory64: 16, rom: 2048 };
const fourGiB = 0x1_0000_0000;

export class BaseAddress {
  readonly definition: BaseAddressDefinition;
  readonly #config: PciConfigSpace;
  readonly #offset: number;
  readonly #mapping: Mapping;
  #mappedAt: number | undefined;

  constructor(definition: BaseAddressDefinition, config: PciConfigSpace, ports: Bus, memoryBus: Bus) {
    const { kind, index, sizeBytes } = definition;
    invariant(Number.isInteger(Math.log2(sizeBytes)) && sizeBytes >= minimumSizes[kind], "a BAR's size is a power of two");
    invariant(kind === "rom" || (index >= 0 && index <= (kind === "memory64" ? 4 : 5)), "a function has six BARs");
    this.definition = definition;
    this.#config = config;
    this.#offset = kind === "rom" ? Config.expansionRom : Config.baseAddress0 + 4 * index;
    this.#permit();
    this.#mapping = (kind === "io" ? ports : memoryBus).map(undefined, sizeBytes, definition.registers, definition.name);
  }

  /** The address software has put into the register, decoded or not. */
  get address(): number {
    const { kind, sizeBytes } = this.definition;
    const low = this.#config.get(this.#offset, 4);
    const high = kind === "memory64" ? this.#config.get(this.#offset + 4, 4) : 0;
    const alignedLow = sizeBytes >= fourGiB ? 0 : low - (low % sizeBytes);
    return high * fourGiB + alignedLow;
  }

  /** Stores an address as firmware would. */
  assign(address: number): void {
    this.#config.write(this.#offset, 4, address % fourGiB);
    if (this.definition.kind === "memory64") this.#config.write(this.#offset + 4, 4, Math.floor(address / fourGiB));
  }

  /** True when a configuration write to `offset` can have changed this register. */
  overlaps(offset: number, sizeBytes: number): boolean {
    const registerSize = this.definition.kind === "memory64" ? 8 : 4;
    return offset < this.#offset + registerSize && offset + sizeBytes > this.#offset;
  }

  /** Switches a ROM's own enable bit; other regions follow the command register alone. */
  enableRom(isEnabled: boolean): void {
    const value = this.#config.get(this.#offset, 4);
    this.#config.set(this.#offset, 4, isEnabled ? value | expansionRomEnableMask : value & ~expansionRomEnableMask);
  }

  /** Maps, moves or unmaps the region after the command register or the address changed. */
  update(command: number): void {
    const base = this.#decodedBase(command);
    if (base === this.#mappedAt) return;
    this.#mappedAt = base;
    this.#mapping.relocate(base);
  }

  #decodedBase(command: number): number | undefined {
    const { kind, sizeBytes } = this.definition;
    if ((command & (kind === "io" ? ioSpaceEnableMask : memorySpaceEnableMask)) === 0) return undefined;
    if (kind === "rom" && (this.#config.get(this.#offset, 4) & expansionRomEnableMask) === 0) return undefined;
    const address = this.address;
    // Software sizes a BAR by writing ones with decoding on; a region at the very top, at zero or past the
    // port space is such a probe and never a real place.
    if (address === 0) return undefined;
    if (kind === "io") return address + sizeBytes <= 0x10000 ? address : undefined;
    if (kind === "memory64") return address < 2 ** 52 ? (address + sizeBytes === fourGiB ? undefined : address) : undefined;
    return address + sizeBytes < fourGiB ? address : undefined;
  }

  #permit(): void {
    const { kind, sizeBytes, isPrefetchable } = this.definition;
    const sizeMask = sizeBytes >= fourGiB ? 0 : ~(sizeBytes - 1) >>> 0;
    const typeBits = { io: 1, memory32: 0, memory64: 4, rom: 0 }[kind] | (isPrefetchable === true ? 8 : 0);
    this.#config.permit(this.#offset, 4, kind === "rom" ? (sizeMask & ~0x7ff) | expansionRomEnableMask : sizeMask);
    this.#config.set(this.#offset, 4, (this.#config.get(this.#offset, 4) | typeBits) >>> 0);
    if (kind === "memory64") {
      const highMask = sizeBytes > fourGiB ? ~(sizeBytes / fourGiB - 1) >>> 0 : 0xffffffff;
      this.#config.permit(this.#offset + 4, 4, highMask);
    }
  }
}
