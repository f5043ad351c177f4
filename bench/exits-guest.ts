/** The guest of the bench "exits": loops of one kind of access each, with a write to port 0x402 before and after. */

export const markPort = 0x402;
export const endPort = 0xf4;
/** COM2's scratch register, and the HPET's configuration register: registers that do next to nothing. */
const scratchPort = 0x2ff, deviceAddress = 0xfed0_0010;

/** In the order in which the guest comes to them. */
export const exitKinds = ["port write", "port read", "memory write", "memory read"] as const;

function word(value: number): number[] {
  return [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];
}

/** mov edx, markPort; out dx, al */
const mark = [0xba, ...word(markPort), 0xee];

/** mov ecx, count; L: access; dec ecx; jnz L */
function loop(count: number, access: readonly number[]): number[] {
  return [0xb9, ...word(count), ...access, 0x49, 0x75, 0x100 - (access.length + 3)];
}

/** One loop of each kind, `before` each of them. */
function allKinds(count: number, before: readonly number[]): number[] {
  const port = [0xba, ...word(scratchPort)];
  return [
    ...before, ...port, ...loop(count, [0xee]), // out dx, al
    ...before, ...port, ...loop(count, [0xec]), // in al, dx
    ...before, ...loop(count, [0xa3, ...word(deviceAddress)]), // mov [deviceAddress], eax
    ...before, ...loop(count, [0xa1, ...word(deviceAddress)]), // mov eax, [deviceAddress]
  ];
}

/** Flat 32-bit code: all kinds once for both sides to warm up, then with marks. */
export function exitsGuest(count: number): Uint8Array {
  const clearAccumulator = [0x31, 0xc0];
  return Uint8Array.from([
    ...allKinds(Math.ceil(count / 4), clearAccumulator), ...allKinds(count, [...clearAccumulator, ...mark]),
    ...mark, 0xba, ...word(endPort), 0xee, 0xeb, 0xfe,
  ]);
}
