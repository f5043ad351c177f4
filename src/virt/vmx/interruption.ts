/** Formats of interruption-information fields: entry, exit and IDT-vectoring (SDM volume 3, "VM-Entry Controls for Event Injection"). */

export const InterruptionType = {
  external: 0, reserved: 1, nmi: 2, hardwareException: 3, softwareInterrupt: 4, privilegedSoftwareException: 5,
  softwareException: 6, otherEvent: 7,
} as const;

export const InterruptionMask = {
  vector: 0xff, errorCode: 0x800,
  /** VM-exit information: IRET had unblocked NMIs before it faulted. */
  nmiUnblocking: 0x1000,
  valid: 0x8000_0000,
} as const;

const typeShift = 8;
const reservedMask = 0x7fff_f000;

export interface Interruption {
  readonly isValid: boolean;
  readonly vector: number;
  readonly type: number;
  readonly deliversErrorCode: boolean;
  readonly hasReservedBits: boolean;
}

export function parseInterruption(word: number): Interruption {
  return {
    isValid: (word & InterruptionMask.valid) !== 0,
    vector: word & InterruptionMask.vector,
    type: (word >>> typeShift) & 7,
    deliversErrorCode: (word & InterruptionMask.errorCode) !== 0,
    hasReservedBits: (word & reservedMask) !== 0,
  };
}

export function encodeInterruption(vector: number, type: number, hasErrorCode: boolean): number {
  return (InterruptionMask.valid | (hasErrorCode ? InterruptionMask.errorCode : 0) | (type << typeShift) | vector) >>> 0;
}

/** Exceptions that push an error code: #DF #TS #NP #SS #GP #PF #AC. */
const errorCodeVectors: ReadonlySet<number> = new Set([8, 10, 11, 12, 13, 14, 17]);

export function hasErrorCodeVector(vector: number): boolean {
  return errorCodeVectors.has(vector);
}
