/** Local APIC register numbers (xAPIC offset / 16, x2APIC MSR - 0x800) and fields. Intel SDM volume 3, "APIC". */

export const Register = {
  id: 0x02,
  version: 0x03,
  taskPriority: 0x08,
  arbitrationPriority: 0x09,
  processorPriority: 0x0a,
  endOfInterrupt: 0x0b,
  remoteRead: 0x0c,
  logicalDestination: 0x0d,
  destinationFormat: 0x0e,
  spuriousVector: 0x0f,
  inService: 0x10,
  triggerMode: 0x18,
  interruptRequest: 0x20,
  errorStatus: 0x28,
  interruptCommandLow: 0x30,
  interruptCommandHigh: 0x31,
  lvtTimer: 0x32,
  lvtThermal: 0x33,
  lvtPerformance: 0x34,
  lvtLint0: 0x35,
  lvtLint1: 0x36,
  lvtError: 0x37,
  initialCount: 0x38,
  currentCount: 0x39,
  divideConfiguration: 0x3e,
  selfIpi: 0x3f,
} as const;

export const lvtCount = 6;
/** Version 0x14, six LVT entries, EOI-broadcast suppression. */
export const versionValue: number = 0x14 | ((lvtCount - 1) << 16) | (1 << 24);

export const Lvt = { maskedMask: 0x1_0000, levelMask: 0x8000, remoteIrrMask: 0x4000, timerModeMask: 0x6_0000 } as const;
export const TimerMode = { oneShot: 0x0_0000, periodic: 0x2_0000, tscDeadline: 0x4_0000 } as const;

/** Writable bits of each LVT entry, from the timer's to the error's. */
export const lvtWritableMasks: readonly number[] = [0x7_00ff, 0x1_07ff, 0x1_07ff, 0x1_a7ff, 0x1_a7ff, 0x1_00ff];

export const SpuriousVector = { enableMask: 0x100, suppressEoiBroadcastMask: 0x1000, writableMask: 0x11ff } as const;
export const ErrorStatus = { sendIllegalVectorMask: 0x20, receiveIllegalVectorMask: 0x40, illegalRegisterMask: 0x80 } as const;

export const InterruptCommand = {
  logicalMask: 0x0800,
  assertMask: 0x4000,
  levelMask: 0x8000,
  shorthandShift: 18,
  /** Delivery status reads as idle: messages arrive at once. */
  writableMask: 0xc_cfff,
  reservedMask: 0xfff3_2000,
} as const;

export const ApicBase = { bootProcessorMask: 0x100n, x2ApicMask: 0x400n, enableMask: 0x800n, addressMask: 0xf_ffff_f000n } as const;

export const apicBaseMsr = 0x1b;
export const tscDeadlineMsr = 0x6e0;
export const firstX2ApicMsr = 0x800;
export const lastX2ApicMsr = 0x8ff;

/** Whether a register exists for reading, in xAPIC mode. */
export function isReadable(register: number): boolean {
  return (
    register === Register.id ||
    register === Register.version ||
    (register >= Register.taskPriority && register <= Register.processorPriority) ||
    (register >= Register.remoteRead && register <= Register.errorStatus) ||
    (register >= Register.interruptCommandLow && register <= Register.currentCount) ||
    register === Register.divideConfiguration
  );
}

/** Whether `low` has no reserved bit set in an x2APIC register that can be written. */
export function isX2ApicValue(register: number, low: number): boolean {
  if (register >= Register.lvtTimer && register <= Register.lvtError) {
    // Read-only status bits may be written back.
    return (low & ~(lvtWritableMasks[register - Register.lvtTimer] | 0x1000 | Lvt.remoteIrrMask)) === 0;
  }
  switch (register) {
    case Register.taskPriority:
    case Register.selfIpi:
      return (low & ~0xff) === 0;
    case Register.endOfInterrupt:
    case Register.errorStatus:
      return low === 0;
    case Register.spuriousVector:
      return (low & ~SpuriousVector.writableMask) === 0;
    case Register.initialCount:
      return true;
    case Register.divideConfiguration:
      return (low & ~0x0b) === 0;
    default:
      return false;
  }
}
