/** Packet commands of a CD-ROM: from 16 bytes to a checked request. Pure and total (MMC-6, SPC-4). */

export const blockBytes = 2048;

export type PacketRequest =
  | { readonly kind: "testUnitReady" }
  | { readonly kind: "requestSense"; readonly allocationBytes: number }
  | { readonly kind: "inquiry"; readonly allocationBytes: number }
  | { readonly kind: "startStop"; readonly movesTray: boolean; readonly starts: boolean }
  | { readonly kind: "preventRemoval"; readonly isPrevented: boolean }
  | { readonly kind: "readCapacity" }
  | { readonly kind: "read"; readonly block: number; readonly blocks: number }
  | { readonly kind: "seek"; readonly block: number }
  | { readonly kind: "readToc"; readonly format: "toc" | "sessions"; readonly isMsf: boolean; readonly firstTrack: number; readonly allocationBytes: number }
  | { readonly kind: "modeSense"; readonly page: number; readonly isShort: boolean; readonly allocationBytes: number }
  | { readonly kind: "getConfiguration"; readonly firstFeature: number; readonly onlyFirst: boolean; readonly allocationBytes: number }
  | { readonly kind: "getEventStatus"; readonly classes: number; readonly allocationBytes: number }
  | { readonly kind: "readDiscInformation"; readonly allocationBytes: number }
  | { readonly kind: "mechanismStatus"; readonly allocationBytes: number }
  | { readonly kind: "nothing" }
  | { readonly kind: "invalidField" }
  | { readonly kind: "unknown" };

/** `packet` has at least 12 bytes. */
export function parsePacket(packet: Uint8Array): PacketRequest {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
  switch (packet[0]) {
    case 0x00:
      return { kind: "testUnitReady" };
    case 0x03:
      return { kind: "requestSense", allocationBytes: packet[4] };
    case 0x12:
      // Vital product data pages are optional, and there are none.
      return (packet[1] & 1) !== 0 ? { kind: "invalidField" } : { kind: "inquiry", allocationBytes: view.getUint16(3) };
    case 0x1a:
      return { kind: "modeSense", page: packet[2] & 0x3f, isShort: true, allocationBytes: packet[4] };
    case 0x1b:
      return { kind: "startStop", movesTray: (packet[4] & 2) !== 0, starts: (packet[4] & 1) !== 0 };
    case 0x1e:
      return { kind: "preventRemoval", isPrevented: (packet[4] & 1) !== 0 };
    case 0x25:
      return { kind: "readCapacity" };
    case 0x28:
      return { kind: "read", block: view.getUint32(2), blocks: view.getUint16(7) };
    case 0xa8:
      return { kind: "read", block: view.getUint32(2), blocks: view.getUint32(6) };
    case 0xbe:
      return parseReadCd(packet, view);
    case 0x2b:
      return { kind: "seek", block: view.getUint32(2) };
    case 0x43:
      return parseReadToc(packet, view);
    case 0x46:
      return {
        kind: "getConfiguration",
        firstFeature: view.getUint16(2),
        onlyFirst: (packet[1] & 3) === 2,
        allocationBytes: view.getUint16(7),
      };
    case 0x4a:
      // Asynchronous notification is not supported.
      if ((packet[1] & 1) === 0) return { kind: "invalidField" };
      return { kind: "getEventStatus", classes: packet[4], allocationBytes: view.getUint16(7) };
    case 0x51:
      return (packet[1] & 7) === 0 ? { kind: "readDiscInformation", allocationBytes: view.getUint16(7) } : { kind: "invalidField" };
    case 0x5a:
      return { kind: "modeSense", page: packet[2] & 0x3f, isShort: false, allocationBytes: view.getUint16(7) };
    case 0xbd:
      return { kind: "mechanismStatus", allocationBytes: view.getUint16(8) };
    case 0xbb: // SET CD SPEED
      return { kind: "nothing" };
    default:
      return { kind: "unknown" };
  }
}

/** READ CD, for data sectors only: nothing at all, or the 2048 bytes of user data. */
function parseReadCd(packet: Uint8Array, view: DataView): PacketRequest {
  const blocks = view.getUint32(5) & 0x00ff_ffff;
  const selection = packet[9] & 0xf8;
  if (selection === 0 || blocks === 0) return { kind: "nothing" };
  return selection === 0x10 ? { kind: "read", block: view.getUint32(2), blocks } : { kind: "invalidField" };
}

function parseReadToc(packet: Uint8Array, view: DataView): PacketRequest {
  // Older hosts put the format into the top bits of the control byte.
  const format = packet[2] & 0x0f || packet[9] >> 6;
  if (format > 1) return { kind: "invalidField" };
  const firstTrack = packet[6];
  if (format === 0 && firstTrack > 1 && firstTrack !== 0xaa) return { kind: "invalidField" };
  return {
    kind: "readToc",
    format: format === 0 ? "toc" : "sessions",
    isMsf: (packet[1] & 2) !== 0,
    firstTrack,
    allocationBytes: view.getUint16(7),
  };
}
