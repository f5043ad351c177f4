/** Branded address types: a guest-physical address can never be passed where a linear one is meant. */

declare const brand: unique symbol;

/** Guest-physical address. At most 52 bits, so a JavaScript number holds it exactly. */
export type GuestPhysical = number & { readonly [brand]: "guest-physical" };

/** Guest-linear address, 64 bits, unsigned. */
export type GuestLinear = bigint & { readonly [brand]: "guest-linear" };

export function guestPhysical(address: number): GuestPhysical {
  return address as GuestPhysical;
}

export function guestLinear(address: bigint): GuestLinear {
  return BigInt.asUintN(64, address) as GuestLinear;
}
