/** Names of the bits of registers and control words, as monitors show them. */
import { FlagMask } from "../isa/flags.ts";
import { Cr0Mask, Cr4Mask, EferMask, SegmentAttribute } from "../isa/system/mode.ts";

export type BitNames = readonly (readonly [name: string, mask: bigint])[];

/** From a table of masks by name. */
function bitNames(masks: Readonly<Record<string, number>>): BitNames {
  return Object.entries(masks).map(([name, mask]) => [name, BigInt(mask >>> 0)]);
}

/** From a table of bit numbers by name: those of the 32 bits from `first` on. */
export function numberedBits(bits: Readonly<Record<string, number>>, first: number = 0): BitNames {
  return Object.entries(bits).filter(([, bit]) => bit >= first && bit < first + 32).map(([name, bit]) => [name, 1n << BigInt(bit - first)]);
}

/** What of `names` is set, and what is left over. */
export function describeBits(value: bigint, names: BitNames): string {
  const set = names.filter(([, mask]) => (value & mask) !== 0n);
  const rest = set.reduce((left, [, mask]) => left & ~mask, value);
  return [...set.map(([name]) => name), ...(rest === 0n ? [] : [`0x${rest.toString(16)}`])].join(" ");
}

export const cr0Bits: BitNames = bitNames(Cr0Mask);
export const cr4Bits: BitNames = bitNames({ ...Cr4Mask, VMXE: 0x2000 });
export const eferBits: BitNames = bitNames(EferMask);
export const flagBits: BitNames = bitNames(FlagMask).filter(([name]) => name !== "fixed");

const systemTypes: Readonly<Record<number, string>> = { 1: "16-bit TSS", 2: "LDT", 3: "busy 16-bit TSS", 9: "TSS", 11: "busy TSS" };

/** Access rights of a segment, laid out as in the processor's state area. */
export function describeAccessRights(attributes: number): string {
  const has = (mask: number): boolean => (attributes & mask) !== 0;
  const A = SegmentAttribute;
  if (has(A.unusable)) return "unusable";
  if (!has(A.present)) return "not present";
  const kind = !has(A.codeOrData) ? systemTypes[attributes & A.typeMask] ?? `system type ${attributes & A.typeMask}`
    : has(A.code) ? (has(A.writableOrReadable) ? "readable code" : "code") : has(A.writableOrReadable) ? "writable data" : "data";
  const size = has(A.long) ? ", 64-bit" : has(A.big) ? ", 32-bit" : has(A.codeOrData) ? ", 16-bit" : "";
  return `${kind}${size}, DPL ${(attributes & A.dplMask) >> A.dplShift}`;
}
