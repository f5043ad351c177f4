/**
 * Q35 memory controller hub, device 0: configuration mechanisms, PAM shadow RAM control and SMRAM
 * (Intel 3 Series Express Chipset Family datasheet, 5.1; PCI Local Bus Specification 3.0, 3.2.2.3.2).
 */
import { object, type Shape, uint32 } from "../../../base/shape.ts";
import type { Bus, Mapping, RegisterBlock } from "../../contract.ts";
import type { PciBus } from "../bus.ts";
import { allOnes } from "../config-space.ts";
import { PciFunction, type PciFunctionPorts, type PciFunctionState, pciFunctionStateShape } from "../function.ts";

const pciExBarOffset = 0x60;
const pamOffset = 0x90;
const smramOffset = 0x9d;
const extendedSmramOffset = 0x9e;
const pamRegisterCount = 7;
const pamWritableMask = 0x33;
const pciExBarEnableMask = 1;
const defaultEcamBase = 0xb000_0000;

const smramOpenMask = 0x40;
const smramClosedMask = 0x20;
const smramLockMask = 0x10;
const smramEnableMask = 0x08;
const smramReset = 0x02;

/** One of the thirteen areas between 0xC0000 and 0xFFFFF and where its reads and writes go: RAM, or the bus behind it. */
export interface ShadowRegion {
  readonly start: number;
  readonly sizeBytes: number;
  readonly readsRam: boolean;
  readonly writesRam: boolean;
}

/** What compatible SMRAM at 0xA0000 does outside of system management mode. */
export interface SmramControl {
  readonly isEnabled: boolean;
  readonly isOpen: boolean;
  readonly isClosed: boolean;
}

export interface HostBridgePorts extends PciFunctionPorts {
  readonly pci: PciBus;
  /** Called for every area whose attributes changed, and for all areas at reset. */
  readonly shadowChanged: (region: ShadowRegion) => void;
  readonly smramChanged: (control: SmramControl) => void;
}

export interface HostBridgeState {
  readonly pci: PciFunctionState;
  configAddress: number;
}

export const hostBridgeStateShape: Shape<HostBridgeState> = object({ pci: pciFunctionStateShape(), configAddress: uint32 });

export class HostBridge {
  readonly state: HostBridgeState;
  readonly pciFunction: PciFunction;
  readonly #ports: HostBridgePorts;
  readonly #ecam: EcamWindow;

  constructor(ports: HostBridgePorts) {
    this.#ports = ports;
    this.pciFunction = new PciFunction(
      { vendorId: 0x8086, deviceId: 0x29c0, classCode: 0x060000, subsystemVendorId: 0x1af4, subsystemId: 0x1100 },
      ports,
    );
    this.state = { pci: this.pciFunction.state, configAddress: 0 };
    this.#ecam = new EcamWindow(ports.memoryBus, ports.pci);
    this.#defineRegisters();
    ports.ports.map(0xcf8, 4, this.#addressPort, "pci configuration address");
    ports.ports.map(0xcfc, 4, this.#dataPort, "pci configuration data");
    this.#shadowChanged(undefined);
    this.#smramChanged();
  }

  /** The base of the enhanced configuration window, or undefined while it is off. */
  get ecamBase(): number | undefined {
    return this.#decodeEcam()?.base;
  }

  /** Switches the enhanced configuration window on, as firmware does before it describes it in ACPI's MCFG. */
  enableEcam(base: number = defaultEcamBase): void {
    this.pciFunction.writeConfig(pciExBarOffset + 4, 4, Math.floor(base / 2 ** 32));
    this.pciFunction.writeConfig(pciExBarOffset, 4, (base % 2 ** 32) + pciExBarEnableMask);
  }

  /** Opens all of the shadow areas for reading and writing, for boots that put tables there without firmware. */
  openShadow(): void {
    for (let i = 0; i < pamRegisterCount; i++) this.pciFunction.writeConfig(pamOffset + i, 1, pamWritableMask);
  }

  /** Continues from a saved state. */
  restore(saved: HostBridgeState): void {
    this.state.configAddress = saved.configAddress;
    this.pciFunction.restore(saved.pci);
    this.#smramWritten();
    this.#update();
  }

  reset(): void {
    this.state.configAddress = 0;
    this.pciFunction.reset();
    this.#permitSmram();
    this.#update();
  }

  #update(): void {
    this.#ecam.relocate(this.#decodeEcam());
    this.#shadowChanged(undefined);
    this.#smramChanged();
  }

  // Narrower accesses are ordinary port accesses that pass the register by; the reset register lies on top of 0xCF9.
  readonly #addressPort: RegisterBlock = {
    read: (offset, sizeBytes) => (offset === 0 && sizeBytes === 4 ? this.state.configAddress : allOnes(sizeBytes)),
    write: (offset, sizeBytes, value) => {
      if (offset === 0 && sizeBytes === 4) this.state.configAddress = (value & 0x80fffffc) >>> 0;
    },
  };

  readonly #dataPort: RegisterBlock = {
    read: (offset, sizeBytes) => {
      const { configAddress } = this.state;
      if (configAddress < 0x80000000) return allOnes(sizeBytes);
      return this.#ports.pci.readConfig((configAddress >>> 8) & 0xffff, (configAddress & 0xfc) + offset, sizeBytes);
    },
    write: (offset, sizeBytes, value) => {
      const { configAddress } = this.state;
      if (configAddress < 0x80000000) return;
      this.#ports.pci.writeConfig((configAddress >>> 8) & 0xffff, (configAddress & 0xfc) + offset, sizeBytes, value);
    },
  };

  #defineRegisters(): void {
    const { config } = this.pciFunction;
    config.permit(pciExBarOffset, 4, 0xfc000007);
    config.permit(pciExBarOffset + 4, 4, 0x0000000f);
    this.pciFunction.setFixed(pciExBarOffset, 4, defaultEcamBase);
    for (let i = 0; i < pamRegisterCount; i++) config.permit(pamOffset + i, 1, i === 0 ? 0x30 : pamWritableMask);
    this.pciFunction.setFixed(smramOffset, 1, smramReset);
    this.#permitSmram();
    this.pciFunction.addHook({
      offset: pciExBarOffset,
      sizeBytes: 8,
      afterWrite: () => this.#ecam.relocate(this.#decodeEcam()),
    });
    this.pciFunction.addHook({
      offset: pamOffset,
      sizeBytes: pamRegisterCount,
      afterWrite: (_offset, _sizeBytes, previous) => this.#shadowChanged(previous),
    });
    this.pciFunction.addHook({ offset: smramOffset, sizeBytes: 1, afterWrite: () => this.#smramWritten() });
  }

  #permitSmram(): void {
    this.pciFunction.config.permit(smramOffset, 1, smramOpenMask | smramClosedMask | smramLockMask | smramEnableMask);
    this.pciFunction.config.permit(extendedSmramOffset, 1, 0xff);
  }

  #smramWritten(): void {
    const { config } = this.pciFunction;
    const value = config.get(smramOffset, 1);
    if ((value & smramLockMask) !== 0) {
      config.set(smramOffset, 1, value & ~smramOpenMask);
      config.permit(smramOffset, 1, smramClosedMask);
      config.permit(extendedSmramOffset, 1, 0x40);
    }
    this.#smramChanged();
  }

  #smramChanged(): void {
    const value = this.pciFunction.config.get(smramOffset, 1);
    this.#ports.smramChanged({
      isEnabled: (value & smramEnableMask) !== 0,
      isOpen: (value & smramOpenMask) !== 0,
      isClosed: (value & smramClosedMask) !== 0,
    });
  }

  #shadowChanged(previous: Uint8Array | undefined): void {
    const before = previous === undefined ? undefined : shadowRegions(previous);
    const after = shadowRegions(this.pciFunction.config.bytes);
    after.forEach((region, i) => {
      const old = before?.[i];
      if (old?.readsRam === region.readsRam && old.writesRam === region.writesRam) return;
      this.#ports.shadowChanged(region);
    });
  }

  #decodeEcam(): EcamRange | undefined {
    const { config } = this.pciFunction;
    const low = config.get(pciExBarOffset, 4);
    if ((low & pciExBarEnableMask) === 0) return undefined;
    const sizeBytes = [0x1000_0000, 0x0800_0000, 0x0400_0000][(low >>> 1) & 3];
    if (sizeBytes === undefined) return undefined;
    const base = config.get(pciExBarOffset + 4, 4) * 2 ** 32 + (low - (low % sizeBytes));
    return { base, sizeBytes };
  }
}

interface EcamRange {
  readonly base: number;
  readonly sizeBytes: number;
}

/** The memory window onto configuration space: 4 KiB a function (PCI Express Base Specification, 7.2.2). */
class EcamWindow {
  readonly #memoryBus: Bus;
  readonly #pci: PciBus;
  /** One mapping for each size the register can select, made when it is first used. */
  readonly #mappings: Map<number, Mapping> = new Map();
  #current: EcamRange | undefined;

  constructor(memoryBus: Bus, pci: PciBus) {
    this.#memoryBus = memoryBus;
    this.#pci = pci;
  }

  relocate(range: EcamRange | undefined): void {
    if (range?.base === this.#current?.base && range?.sizeBytes === this.#current?.sizeBytes) return;
    if (this.#current !== undefined) this.#mappings.get(this.#current.sizeBytes)?.relocate(undefined);
    this.#current = range;
    if (range === undefined) return;
    const existing = this.#mappings.get(range.sizeBytes);
    if (existing !== undefined) existing.relocate(range.base);
    else this.#mappings.set(range.sizeBytes, this.#memoryBus.map(range.base, range.sizeBytes, this.#registers, "pci ecam"));
  }

  readonly #registers: RegisterBlock = {
    read: (offset, sizeBytes) => this.#pci.readConfig(Math.floor(offset / 4096), offset & 0xfff, sizeBytes),
    write: (offset, sizeBytes, value) =>
      this.#pci.writeConfig(Math.floor(offset / 4096), offset & 0xfff, sizeBytes, value),
  };
}

/** Decodes the PAM registers: PAM0's high half is 0xF0000–0xFFFFF, the others hold two 16 KiB areas each. */
function shadowRegions(config: Uint8Array): ShadowRegion[] {
  const regions: ShadowRegion[] = [];
  for (let i = 1; i < pamRegisterCount; i++) {
    const start = 0xc0000 + (i - 1) * 0x8000;
    regions.push(shadowRegion(start, 0x4000, config[pamOffset + i] & 3));
    regions.push(shadowRegion(start + 0x4000, 0x4000, (config[pamOffset + i] >> 4) & 3));
  }
  regions.push(shadowRegion(0xf0000, 0x10000, (config[pamOffset] >> 4) & 3));
  return regions;
}

function shadowRegion(start: number, sizeBytes: number, attributes: number): ShadowRegion {
  return { start, sizeBytes, readsRam: (attributes & 1) !== 0, writesRam: (attributes & 2) !== 0 };
}
