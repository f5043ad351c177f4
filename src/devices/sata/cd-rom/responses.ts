/** What the CD-ROM says about itself and its disc (MMC-6, chapters 5 to 7; SPC-4, 6.4). */
import type { PacketRequest } from "./request.ts";

export const identifyBytes = 512;
const leadOut = 0xaa;
const dataTrackControl = 0x14;
/** Above this a disc is taken for a DVD. */
const largestCdBlocks = 450_000;

export function inquiry(): Uint8Array {
  const bytes = new Uint8Array(36).fill(0x20, 8);
  bytes.set([0x05, 0x80, 0x00, 0x21, 31]);
  putText(bytes, 8, "RNGMASTR");
  putText(bytes, 16, "CD-ROM");
  putText(bytes, 32, "1.0");
  return bytes;
}

export function tableOfContents(request: Extract<PacketRequest, { kind: "readToc" }>, blockCount: number): number[] {
  if (request.format === "sessions") {
    return [0, 10, 1, 1, 0, dataTrackControl, 1, 0, ...address(0, request.isMsf)];
  }
  const tracks = [
    ...(request.firstTrack <= 1 ? [0, dataTrackControl, 1, 0, ...address(0, request.isMsf)] : []),
    0,
    dataTrackControl,
    leadOut,
    0,
    ...address(blockCount, request.isMsf),
  ];
  return [0, tracks.length + 2, 1, 1, ...tracks];
}

/** Undefined for a page that does not exist. */
export function modeSense(page: number, isShort: boolean, isRemovalPrevented: boolean): number[] | undefined {
  const pages = new Map<number, readonly number[]>([
    [0x01, [0x01, 0x06, 0, 5, 0, 0, 0, 0]],
    [0x2a, [0x2a, 0x12, 0, 0, 0x70, 0x60, isRemovalPrevented ? 0x2b : 0x29, 0, 0x02, 0xc2, 0, 2, 0x02, 0, 0x02, 0xc2, 0, 0, 0, 0]],
  ]);
  const chosen = page === 0x3f ? [...pages.values()].flat() : pages.get(page);
  if (chosen === undefined) return undefined;
  return isShort ? [chosen.length + 3, 1, 0, 0, ...chosen] : [0, chosen.length + 6, 1, 0, 0, 0, 0, 0, ...chosen];
}

/** Feature descriptors; `blockCount` is undefined without a disc. */
export function configuration(firstFeature: number, onlyFirst: boolean, blockCount: number | undefined): number[] {
  const isDvd = blockCount !== undefined && blockCount > largestCdBlocks;
  const isCd = blockCount !== undefined && !isDvd;
  const features: readonly (readonly [number, readonly number[]])[] = [
    [0x0000, [0x03, 8, 0x00, 0x10, isDvd ? 1 : 0, 0, 0x00, 0x08, isCd ? 1 : 0, 0]],
    [0x0001, [0x0b, 8, 0, 0, 0, 8, 1, 0, 0, 0]], // core, over Serial ATA
    [0x0003, [0x03, 4, 0x29, 0, 0, 0]], // removable medium in a tray
    [0x0010, [isCd || isDvd ? 1 : 0, 8, 0, 0, 8, 0, 0, 1, 0, 0]], // random readable, 2048-byte blocks
  ];
  const body = features
    .filter(([code]) => (onlyFirst ? code === firstFeature : code >= firstFeature))
    .flatMap(([code, bytes]) => [code >> 8, code & 0xff, ...bytes]);
  const profile = isDvd ? 0x10 : isCd ? 0x08 : 0;
  return [0, 0, 0, body.length + 4, 0, 0, 0, profile, ...body];
}

export function eventStatus(classes: number, hasChanged: boolean, isTrayOpen: boolean, hasMedium: boolean): number[] {
  const mediaClass = 4;
  if ((classes & (1 << mediaClass)) === 0) return [0, 2, 0x80, 1 << mediaClass];
  return [0, 6, mediaClass, 1 << mediaClass, hasChanged ? 2 : 0, (isTrayOpen ? 1 : 0) | (hasMedium ? 2 : 0), 0, 0];
}

export function discInformation(): number[] {
  const bytes = Array.from({ length: 34 }, () => 0);
  // Complete disc, last session complete; one session with one track.
  bytes.splice(0, 8, 0, 32, 0x0e, 1, 1, 1, 1, 0x20);
  return bytes;
}

export function mechanismStatus(isTrayOpen: boolean): number[] {
  return [0, isTrayOpen ? 0x10 : 0, 0, 0, 0, 1, 0, 0];
}

/** As a block number, or as minutes, seconds and frames from two seconds before the first block. */
function address(block: number, isMsf: boolean): number[] {
  if (!isMsf) return [block >>> 24, (block >>> 16) & 0xff, (block >>> 8) & 0xff, block & 0xff];
  const frames = block + 150;
  return [0, Math.min(Math.floor(frames / 4500), 255), Math.floor(frames / 75) % 60, frames % 75];
}

function putText(bytes: Uint8Array, at: number, text: string): void {
  for (let i = 0; i < text.length; i++) bytes[at + i] = text.charCodeAt(i);
}
