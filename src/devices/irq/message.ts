/**
 * Interrupt messages between I/O APICs, MSI sources and local APICs (Intel SDM volume 3, "Advanced
 * Programmable Interrupt Controller", "Message Signalled Interrupts").
 */

/** The encoding that ICR, redirection entries, LVT entries and MSI data share. */
export const DeliveryMode = { fixed: 0, lowestPriority: 1, smi: 2, nmi: 4, init: 5, startUp: 6, external: 7 } as const;

export interface InterruptMessage {
  /** `all` and `others` need no match: the broadcasts and the ICR's shorthands. */
  readonly target: "destination" | "all" | "others";
  /** APIC ID, or the logical destination. */
  readonly destination: number;
  readonly isLogical: boolean;
  /** One of {@link DeliveryMode}; 3 is reserved and is dropped by the receiver. */
  readonly deliveryMode: number;
  readonly vector: number;
  readonly isLevelTriggered: boolean;
}

/** Takes a message to the local APICs that it names. */
export type DeliverMessage = (message: InterruptMessage) => void;

const deliveryModeShift = 8;
const broadcastDestination = 0xff;

/** Decodes what an 8-bit destination field (I/O APIC, MSI, xAPIC ICR) and the common low word ask for. */
export function messageTo(destination: number, isLogical: boolean, word: number, isLevelTriggered: boolean): InterruptMessage {
  return {
    target: destination === broadcastDestination ? "all" : "destination",
    destination,
    isLogical,
    deliveryMode: (word >> deliveryModeShift) & 7,
    vector: word & 0xff,
    isLevelTriggered,
  };
}

const messageAddressMask = 0xfff0_0000;
const messageAddressBase = 0xfee0_0000;

/** Whether a 32-bit DMA write to `address` is an interrupt message. */
export function isMessageAddress(address: number): boolean {
  return address < 2 ** 32 && (address & messageAddressMask) >>> 0 === messageAddressBase;
}

/** Decodes an MSI: address bits 19:12 destination, 3 redirection hint, 2 logical; data as an ICR's low word. */
export function decodeMessageSignal(address: number, data: number): InterruptMessage {
  const isLogical = (address & 0x04) !== 0;
  const isRedirectable = (address & 0x08) !== 0;
  const message = messageTo((address >>> 12) & 0xff, isLogical, data, (data & 0x8000) !== 0);
  if (isLogical && isRedirectable && message.deliveryMode === DeliveryMode.fixed) {
    return { ...message, deliveryMode: DeliveryMode.lowestPriority };
  }
  return message;
}
