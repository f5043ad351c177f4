/** ATA commands: from a task file to a checked request. Pure and total (ATA8-ACS, chapter 7). */
import type { Task } from "../contract.ts";

export const sectorBytes = 512;

export interface SectorRange {
  readonly offset: number;
  readonly sizeBytes: number;
}

export type AtaRequest =
  | { readonly kind: "read" | "write"; readonly range: SectorRange; readonly isPio: boolean }
  | { readonly kind: "verify"; readonly range: SectorRange }
  | { readonly kind: "outOfRange" }
  | { readonly kind: "flush" }
  | { readonly kind: "identify" }
  | { readonly kind: "setWriteCache"; readonly isEnabled: boolean }
  | { readonly kind: "trim"; readonly blocks: number }
  | { readonly kind: "nativeMaximum"; readonly isExtended: boolean }
  | { readonly kind: "powerMode" }
  | { readonly kind: "nothing" }
  | { readonly kind: "unknown" };

interface Transfer {
  readonly kind: "read" | "write" | "verify";
  readonly isExtended: boolean;
  readonly isPio: boolean;
}

const transfers: ReadonlyMap<number, Transfer> = new Map([
  [0x20, { kind: "read", isExtended: false, isPio: true }],
  [0x24, { kind: "read", isExtended: true, isPio: true }],
  [0x25, { kind: "read", isExtended: true, isPio: false }],
  [0x29, { kind: "read", isExtended: true, isPio: true }],
  [0x30, { kind: "write", isExtended: false, isPio: true }],
  [0x34, { kind: "write", isExtended: true, isPio: true }],
  [0x35, { kind: "write", isExtended: true, isPio: false }],
  [0x39, { kind: "write", isExtended: true, isPio: true }],
  [0x40, { kind: "verify", isExtended: false, isPio: false }],
  [0x42, { kind: "verify", isExtended: true, isPio: false }],
  [0xc4, { kind: "read", isExtended: false, isPio: true }],
  [0xc5, { kind: "write", isExtended: false, isPio: true }],
  [0xc8, { kind: "read", isExtended: false, isPio: false }],
  [0xca, { kind: "write", isExtended: false, isPio: false }],
]);

const SetFeature = { enableWriteCache: 0x02, setTransferMode: 0x03, disableLookAhead: 0x55, disableWriteCache: 0x82, enableLookAhead: 0xaa } as const;

const addressesByLbaMask = 0x40;
const lba28Limit = 0x1000_0000;

export function parseAtaRequest(task: Task, capacitySectors: number): AtaRequest {
  const transfer = transfers.get(task.command);
  if (transfer !== undefined) return parseTransfer(task, transfer, capacitySectors);
  switch (task.command) {
    case 0x06: // DATA SET MANAGEMENT
      return (task.features & 1) !== 0 ? { kind: "trim", blocks: task.count === 0 ? 0x10000 : task.count } : { kind: "unknown" };
    case 0xec:
      return { kind: "identify" };
    case 0xe7:
    case 0xea:
      return { kind: "flush" };
    case 0xef:
      return parseSetFeatures(task.features & 0xff);
    case 0x27:
      return { kind: "nativeMaximum", isExtended: true };
    case 0xf8:
      return { kind: "nativeMaximum", isExtended: false };
    case 0xe5:
    case 0x98:
      return { kind: "powerMode" };
    case 0x10: // RECALIBRATE
    case 0x91: // INITIALIZE DEVICE PARAMETERS
    case 0xc6: // SET MULTIPLE MODE
    case 0xe0: // STANDBY IMMEDIATE
    case 0xe1: // IDLE IMMEDIATE
    case 0xe2: // STANDBY
    case 0xe3: // IDLE
      return { kind: "nothing" };
    default:
      return { kind: "unknown" };
  }
}

function parseTransfer(task: Task, transfer: Transfer, capacitySectors: number): AtaRequest {
  const { kind, isExtended, isPio } = transfer;
  if ((task.device & addressesByLbaMask) === 0) return { kind: "unknown" };
  const lba = isExtended ? task.lba : (task.lba % 0x100_0000) + (task.device & 0x0f) * 0x100_0000;
  const sectors = isExtended ? task.count || 0x10000 : (task.count & 0xff) || 0x100;
  const limit = isExtended ? capacitySectors : Math.min(capacitySectors, lba28Limit);
  if (lba + sectors > limit) return { kind: "outOfRange" };
  const range = { offset: lba * sectorBytes, sizeBytes: sectors * sectorBytes };
  return kind === "verify" ? { kind, range } : { kind, range, isPio };
}

function parseSetFeatures(feature: number): AtaRequest {
  switch (feature) {
    case SetFeature.enableWriteCache:
      return { kind: "setWriteCache", isEnabled: true };
    case SetFeature.disableWriteCache:
      return { kind: "setWriteCache", isEnabled: false };
    case SetFeature.setTransferMode:
    case SetFeature.enableLookAhead:
    case SetFeature.disableLookAhead:
      return { kind: "nothing" };
    default:
      return { kind: "unknown" };
  }
}

/** The ranges of a TRIM's data: 8 bytes each, a 48-bit sector and a 16-bit count; empty ones are padding. */
export function parseTrimRanges(data: Uint8Array, capacitySectors: number): SectorRange[] | undefined {
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  const ranges: SectorRange[] = [];
  for (let at = 0; at + 8 <= data.length; at += 8) {
    const sector = view.getUint16(at + 4, true) * 2 ** 32 + view.getUint32(at, true);
    const sectors = view.getUint16(at + 6, true);
    if (sectors === 0) continue;
    if (sector + sectors > capacitySectors) return undefined;
    ranges.push({ offset: sector * sectorBytes, sizeBytes: sectors * sectorBytes });
  }
  return ranges;
}
