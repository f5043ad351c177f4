/** Linux's KVM interface on x86-64: request numbers, offsets and constants (Linux, Documentation/virt/kvm/api.rst). */

/** Sizes of structures, in bytes. */
export const Size = {
  regs: 144, sregs: 312, sregs2: 320, debugregs: 128, vcpuEvents: 64, xsave: 4096, xcrs: 392, guestDebug: 72,
  memoryRegion: 32, enableCap: 104, msrFilter: 392, cpuidEntry: 40, msrEntry: 16, deviceAttr: 24, dirtyLog: 16, clockData: 48,
} as const;

/** Request numbers: direction and size of the structure in the upper half, 0xAE and the request below. */
export const Request = {
  getApiVersion: 0xae00, createVm: 0xae01, checkExtension: 0xae03, getVcpuMmapSize: 0xae04,
  getSupportedCpuid: 0xc008_ae05,
  createVcpu: 0xae41, getDirtyLog: 0x4010_ae42, setUserMemoryRegion: 0x4020_ae46,
  setClock: 0x4030_ae7b,
  setTssAddress: 0xae47, setIdentityMapAddress: 0x4008_ae48,
  run: 0xae80, getRegs: 0x8090_ae81, setRegs: 0x4090_ae82,
  getSregs: 0x8138_ae83, setSregs: 0x4138_ae84, interrupt: 0x4004_ae86,
  getMsrs: 0xc008_ae88, setMsrs: 0x4008_ae89, setSignalMask: 0x4004_ae8b, setCpuid2: 0x4008_ae90,
  nmi: 0xae9a, setGuestDebug: 0x4048_ae9b,
  getVcpuEvents: 0x8040_ae9f, setVcpuEvents: 0x4040_aea0,
  getDebugregs: 0x8080_aea1, setDebugregs: 0x4080_aea2,
  setTscKhz: 0xaea2, getTscKhz: 0xaea3, enableCap: 0x4068_aea3,
  getXsave: 0x9000_aea4, setXsave: 0x5000_aea5,
  getXcrs: 0x8188_aea6, setXcrs: 0x4188_aea7,
  setMsrFilter: 0x4188_aec6,
  getSregs2: 0x8140_aecc, setSregs2: 0x4140_aecd,
  setDeviceAttr: 0x4018_aee1, getDeviceAttr: 0x4018_aee2, hasDeviceAttr: 0x4018_aee3,
} as const;

export const apiVersion = 12;

export const Capability = {
  irqchip: 0, userMemory: 3, setTssAddress: 4, memorySlots: 10, recommendedVcpus: 9, setGuestDebug: 23, vcpuEvents: 41,
  debugregs: 50, xsave: 55, xcrs: 56, tscControl: 60, getTscKhz: 61, maximumVcpus: 66, readOnlyMemory: 81, splitIrqchip: 121,
  immediateExit: 136, userSpaceMsr: 188, msrFilter: 189, enforcePvFeatures: 190, sregs2: 200,
} as const;

/** Offsets in struct kvm_run. */
export const Run = {
  requestInterruptWindow: 0, immediateExit: 1, exitReason: 8, readyForInterruptInjection: 12, ifFlag: 13, cr8: 16,
  hardwareExitReason: 32, failEntryReason: 32,
  ioDirection: 32, ioSizeBytes: 33, ioPort: 34, ioCount: 36, ioDataOffset: 40,
  mmioAddress: 32, mmioData: 40, mmioSizeBytes: 48, mmioIsWrite: 52,
  msrError: 32, msrIndex: 44, msrData: 48,
  internalErrorKind: 32,
  debugException: 32, debugPc: 40, debugDr6: 48,
} as const;

export const ExitReason = {
  unknown: 0, exception: 1, io: 2, hypercall: 3, debug: 4, halt: 5, mmio: 6, interruptWindowOpen: 7, shutdown: 8,
  failEntry: 9, interrupted: 10, setTpr: 11, internalError: 17, systemEvent: 24, readMsr: 29, writeMsr: 30,
} as const;

export const ioDirectionOut = 1;

/** Offsets in struct kvm_vcpu_events. */
export const Events = {
  exceptionInjected: 0, exceptionVector: 1, exceptionHasErrorCode: 2, exceptionErrorCode: 4,
  interruptInjected: 8, interruptVector: 9, interruptShadow: 11,
  nmiInjected: 12, nmiPending: 13, nmiMasked: 14, flags: 20,
} as const;
export const EventsFlag = { nmiPendingMask: 1, shadowMask: 4 } as const;
export const EventsShadow = { stackSegmentMask: 1, stiMask: 2 } as const;

export const MemoryRegionFlag = { logDirtyPagesMask: 1, readOnlyMask: 2 } as const;
export const MsrExitReason = { invalidMask: 1, unknownMask: 2, filterMask: 4 } as const;
export const MsrFilterFlag = { defaultDenyMask: 1, readMask: 1, writeMask: 2 } as const;
export const GuestDebugControl = { enableMask: 1, singleStepMask: 2, hardwareBreakpointsMask: 0x2_0000 } as const;
export const cpuidSignificantIndexMask = 1;

/** KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET. */
export const tscControlGroup = 0;
export const tscOffsetAttribute = 0;
