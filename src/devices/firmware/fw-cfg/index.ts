/** fw_cfg on ports 0x510 (selector), 0x511 (data) and 0x514 to 0x51B (DMA address). The board adds the contents. */
import type { AccessSize, DeviceContext, DeviceDefinition, RegisterBlock } from "../../contract.ts";
import { dmaAddressBytes, FwCfg, type FwCfgState, fwCfgStateShape } from "./fw-cfg.ts";

export { FwCfg, type FwCfgFileOptions, FwCfgItem, type FwCfgState } from "./fw-cfg.ts";

/** The board calls `addFile` and `addItem` on what it gets. */
export type FwCfgConfig = Record<string, never>;

export const selectorPort = 0x510;
export const dmaPort = 0x514;

function selectorAndData(device: FwCfg): RegisterBlock {
  return {
    read: (offset: number, sizeBytes: AccessSize) => {
      if (sizeBytes === 1) return offset === 1 ? device.readData() : 0;
      return 0;
    },
    write: (offset: number, sizeBytes: AccessSize, value: number) => {
      // The data port ignores writes since QEMU 2.4; an 8-bit selector write is not decoded.
      if (offset === 0 && sizeBytes === 2) device.select(value);
    },
  };
}

function swapBytes(value: number): number {
  return (((value & 0xff) << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | (value >>> 24)) >>> 0;
}

/** The register is big-endian on a little-endian bus, so a guest writes swapped values. */
function dmaAddress(device: FwCfg): RegisterBlock {
  return {
    read: (offset: number, sizeBytes: AccessSize) => {
      let value = 0;
      for (let byte = 0; byte < sizeBytes; byte++) value |= device.readDmaRegister(offset + byte) << (8 * byte);
      return value >>> 0;
    },
    write: (offset: number, sizeBytes: AccessSize, value: number) => {
      if (sizeBytes !== 4) return;
      if (offset === 0) device.writeDmaAddress("high", swapBytes(value));
      else if (offset === 4) device.writeDmaAddress("low", swapBytes(value));
    },
  };
}

export const fwCfg: DeviceDefinition<FwCfgConfig, FwCfgState, FwCfg> = {
  name: "fw-cfg",
  description: "firmware configuration device",
  stateVersion: 1,
  stateShape: () => fwCfgStateShape,
  create(_config: FwCfgConfig, context: DeviceContext, state?: FwCfgState): FwCfg {
    const device = new FwCfg(context.memory, state);
    context.ports.map(selectorPort, 2, selectorAndData(device), "fw-cfg");
    context.ports.map(dmaPort, dmaAddressBytes, dmaAddress(device), "fw-cfg-dma");
    return device;
  },
};
