/** Offsets and bits of the PCI configuration header (PCI Local Bus Specification 3.0, chapter 6; capability ids in appendix H). */

export const Config = {
  vendorId: 0x00,
  deviceId: 0x02,
  command: 0x04,
  status: 0x06,
  revisionId: 0x08,
  classCode: 0x09,
  cacheLineSize: 0x0c,
  latencyTimer: 0x0d,
  headerType: 0x0e,
  baseAddress0: 0x10,
  subsystemVendorId: 0x2c,
  subsystemId: 0x2e,
  expansionRom: 0x30,
  capabilitiesPointer: 0x34,
  interruptLine: 0x3c,
  interruptPin: 0x3d,
} as const;

export const ioSpaceEnableMask = 0x0001;
export const memorySpaceEnableMask = 0x0002;
export const busMasterEnableMask = 0x0004;
export const interruptDisableMask = 0x0400;
/** Command bits a function without parity or SERR# logic lets software keep. */
export const commandWritableMask = 0x0547;

export const interruptStatusMask = 0x0008;
export const capabilitiesListMask = 0x0010;

export const multiFunctionMask = 0x80;
export const expansionRomEnableMask = 0x01;

export const CapabilityId = {
  powerManagement: 0x01,
  msi: 0x05,
  vendorSpecific: 0x09,
  msix: 0x11,
  sata: 0x12,
} as const;

export const configSizeBytes = 256;
