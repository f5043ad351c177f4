/** Catalog definition of the VGA: a PCI display that also answers at the legacy addresses (QEMU's standard VGA, 1234:1111). */
import { invariant } from "../../../base/errors.ts";
import { object } from "../../../base/shape.ts";
import { byteRegisterBlock } from "../../byte-registers.ts";
import type { RegisterBlock } from "../../contract.ts";
import type { BaseAddressDefinition } from "../../pci/base-address.ts";
import type { PciDevice, PciDeviceContext, PciDeviceDefinition } from "../../pci/contract.ts";
import { PciFunction, type PciFunctionState, pciFunctionStateShape } from "../../pci/function.ts";
import { windowBase, windowBytes } from "./memory.ts";
import { vgaStateShape } from "./state-shape.ts";
import { videoMemoryBytes, type VgaState } from "./state.ts";
import type { Picture } from "./picture.ts";
import { type TextScreen, textLines } from "./text.ts";
import { firstPort, portCount, Vga } from "./vga.ts";

export interface VgaConfig {
  /** The video BIOS that firmware runs from the expansion ROM; at most 64 KiB. */
  readonly rom?: Uint8Array;
}

export interface VgaDeviceState {
  readonly pci: PciFunctionState;
  readonly vga: VgaState;
}

const dispiPortBase = 0x1ce;
const mmioBytes = 0x1000;
const maximumRomBytes = 0x10000;

export class VgaDevice implements PciDevice<VgaDeviceState> {
  readonly vga: Vga;
  readonly pciFunction: PciFunction;
  readonly state: VgaDeviceState;

  constructor(config: VgaConfig, context: PciDeviceContext, saved: VgaDeviceState | undefined) {
    this.vga = new Vga(context.clock, saved?.vga);
    const { memory, mmio, ports, dispiPorts } = this.vga;
    this.pciFunction = new PciFunction(
      { vendorId: 0x1234, deviceId: 0x1111, revisionId: 2, classCode: 0x030000, subsystemVendorId: 0x1af4, subsystemId: 0x1100 },
      context,
      [
        {
          kind: "memory32",
          index: 0,
          sizeBytes: videoMemoryBytes,
          isPrefetchable: true,
          registers: memory.linear,
          name: "vga frame buffer",
        },
        { kind: "memory32", index: 2, sizeBytes: mmioBytes, registers: mmio, name: "vga mmio" },
        ...(config.rom === undefined ? [] : [romRegion(config.rom)]),
      ],
    );
    this.state = { pci: this.pciFunction.state, vga: this.vga.state };
    context.ports.map(firstPort, portCount, byteRegisterBlock(ports), "vga");
    context.ports.map(dispiPortBase, 4, dispiPorts, "vga vbe");
    context.memoryBus.map(windowBase, windowBytes, memory.window, "vga window");
    context.pci.attach(this.pciFunction, context.address ?? { device: 1, function: 0 });
    if (saved !== undefined) this.pciFunction.restore(saved.pci);
  }

  textScreen(): TextScreen | undefined {
    return this.vga.textScreen();
  }

  readPixels(): Picture {
    return this.vga.readPixels();
  }

  reset(): void {
    this.vga.reset();
    this.pciFunction.reset();
  }
}

export const vga: PciDeviceDefinition<VgaConfig, VgaDeviceState, VgaDevice> = {
  name: "vga",
  description: "VGA with Bochs VBE extensions (1234:1111)",
  stateVersion: 1,
  stateShape: () => object<VgaDeviceState>({ pci: pciFunctionStateShape(), vga: vgaStateShape }),
  create: (config, context, state) => new VgaDevice(config, context, state),
};

function romRegion(rom: Uint8Array): BaseAddressDefinition {
  invariant(rom.length > 0 && rom.length <= maximumRomBytes, "a video BIOS has at most 64 KiB");
  const sizeBytes = Math.max(2048, 2 ** Math.ceil(Math.log2(rom.length)));
  const registers: RegisterBlock = {
    read(offset, size) {
      let value = 0;
      for (let i = 0; i < size; i++) value |= (rom[offset + i] ?? 0xff) << (8 * i);
      return value >>> 0;
    },
    write() {},
  };
  return { kind: "rom", index: 0, sizeBytes, registers, name: "vga rom" };
}

export { textLines };
export type { Picture, TextScreen, VgaState };
