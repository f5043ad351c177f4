/** Encodes ACPI Machine Language (ACPI specification 6.5, chapter 20): as much as our tables use. A term is its bytes. */
import { invariant } from "../../base/errors.ts";
import { ascii, concatBytes } from "../bytes.ts";

/** Encoded term. */
export type Aml = Uint8Array;

const op = {
  zero: 0x00, one: 0x01, name: 0x08, bytePrefix: 0x0a, wordPrefix: 0x0b, dwordPrefix: 0x0c, stringPrefix: 0x0d, qwordPrefix: 0x0e,
  scope: 0x10, buffer: 0x11, package: 0x12, method: 0x14, dualName: 0x2e, multiName: 0x2f, extended: 0x5b, local0: 0x60, arg0: 0x68,
  or: 0x7d, notify: 0x86, createDwordField: 0x8a, equal: 0x93, if: 0xa0, else: 0xa1, return: 0xa4,
} as const;
const extendedOp = { device: 0x82 } as const;
const nameSegmentBytes = 4;
const methodSerializedMask = 0x08;

/** The length field counts itself; `bodyBytes` is what follows it. */
function packageLength(bodyBytes: number): Aml {
  for (let lengthBytes = 1; lengthBytes <= 4; lengthBytes++) {
    const total = bodyBytes + lengthBytes;
    if (lengthBytes === 1 && total < 0x40) return Uint8Array.of(total);
    if (lengthBytes > 1 && total < 2 ** (4 + 8 * (lengthBytes - 1))) {
      const rest = Array.from({ length: lengthBytes - 1 }, (_, i) => Math.floor(total / 2 ** (4 + 8 * i)) & 0xff);
      return Uint8Array.of(((lengthBytes - 1) << 6) | (total & 0x0f), ...rest);
    }
  }
  invariant(false, "an AML package is smaller than 256 MiB");
}

function withLength(opcode: readonly number[], ...parts: readonly Aml[]): Aml {
  const body = concatBytes(parts);
  return concatBytes([Uint8Array.from(opcode), packageLength(body.length), body]);
}

function littleEndian(value: bigint, sizeBytes: number): Aml {
  return Uint8Array.from({ length: sizeBytes }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
}

/** A name such as `_HID`, `\_SB.PCI0` or `COM1`; segments are padded to four characters. */
export function nameString(path: string): Aml {
  const isAbsolute = path.startsWith("\\");
  const segments = path.slice(isAbsolute ? 1 : 0).split(".").filter((segment) => segment !== "");
  invariant(segments.every((segment) => /^[A-Z_][A-Z0-9_]{0,3}$/u.test(segment)), `${path} is an AML name`);
  const root = isAbsolute ? ascii("\\") : new Uint8Array(0);
  const names = segments.map((segment) => ascii(segment.padEnd(nameSegmentBytes, "_")));
  if (names.length === 0) return concatBytes([root, Uint8Array.of(0)]);
  if (names.length === 1) return concatBytes([root, ...names]);
  return concatBytes([root, names.length === 2 ? Uint8Array.of(op.dualName) : Uint8Array.of(op.multiName, names.length), ...names]);
}

/** Unsigned integer in its shortest form. */
export function integer(value: number | bigint): Aml {
  const wide = BigInt(value);
  invariant(wide >= 0n && wide < 1n << 64n, "an AML integer has 64 bits");
  if (wide === 0n) return Uint8Array.of(op.zero);
  if (wide === 1n) return Uint8Array.of(op.one);
  if (wide < 0x100n) return concatBytes([Uint8Array.of(op.bytePrefix), littleEndian(wide, 1)]);
  if (wide < 0x1_0000n) return concatBytes([Uint8Array.of(op.wordPrefix), littleEndian(wide, 2)]);
  if (wide < 0x1_0000_0000n) return concatBytes([Uint8Array.of(op.dwordPrefix), littleEndian(wide, 4)]);
  return concatBytes([Uint8Array.of(op.qwordPrefix), littleEndian(wide, 8)]);
}

export function string(text: string): Aml {
  return concatBytes([Uint8Array.of(op.stringPrefix), ascii(text), Uint8Array.of(0)]);
}

/** A plug-and-play identifier such as "PNP0A08", in its compressed form. */
export function eisaId(identifier: string): Aml {
  invariant(/^[A-Z]{3}[0-9A-F]{4}$/u.test(identifier), `${identifier} is an EISA identifier`);
  const letters = ascii(identifier.slice(0, 3)).reduce((value, letter) => (value << 5) | (letter - 0x40), 0);
  const product = Number.parseInt(identifier.slice(3), 16);
  return concatBytes([Uint8Array.of(op.dwordPrefix, letters >> 8, letters & 0xff, product >> 8, product & 0xff)]);
}

export function buffer(bytes: Uint8Array): Aml {
  return withLength([op.buffer], integer(bytes.length), bytes);
}

/** The bytes of a universally unique identifier in ACPI's mixed order, as a buffer. */
export function uuid(text: string): Aml {
  const [timeLow, timeMiddle, timeHigh, clock, node] = text.split("-").map((group) => group.match(/../gu)?.map((pair) => Number.parseInt(pair, 16)) ?? []);
  const bytes = [...timeLow.toReversed(), ...timeMiddle.toReversed(), ...timeHigh.toReversed(), ...clock, ...node];
  invariant(bytes.length === 16 && bytes.every((byte) => Number.isInteger(byte)), `${text} is a UUID`);
  return buffer(Uint8Array.from(bytes));
}

export function packageOf(elements: readonly Aml[]): Aml {
  invariant(elements.length < 0x100, "a package has at most 255 elements");
  return withLength([op.package], Uint8Array.of(elements.length), ...elements);
}

export function name(path: string, value: Aml): Aml {
  return concatBytes([Uint8Array.of(op.name), nameString(path), value]);
}

export function scope(path: string, ...terms: readonly Aml[]): Aml {
  return withLength([op.scope], nameString(path), ...terms);
}

export function device(path: string, ...terms: readonly Aml[]): Aml {
  return withLength([op.extended, extendedOp.device], nameString(path), ...terms);
}

/** Serialized, since ours create names when they run. */
export function method(path: string, argumentCount: number, ...terms: readonly Aml[]): Aml {
  return withLength([op.method], nameString(path), Uint8Array.of(argumentCount | methodSerializedMask), ...terms);
}

export function argument(index: number): Aml {
  return Uint8Array.of(op.arg0 + index);
}

export function returnValue(value: Aml): Aml {
  return concatBytes([Uint8Array.of(op.return), value]);
}

export function equal(left: Aml, right: Aml): Aml {
  return concatBytes([Uint8Array.of(op.equal), left, right]);
}

/** target = left | right */
export function or(left: Aml, right: Aml, target: Aml): Aml {
  return concatBytes([Uint8Array.of(op.or), left, right, target]);
}

/** Tells the system of `event` at a device. */
export function notify(path: string, event: Aml): Aml {
  return concatBytes([Uint8Array.of(op.notify), nameString(path), event]);
}

export function createDwordField(source: Aml, byteIndex: Aml, path: string): Aml {
  return concatBytes([Uint8Array.of(op.createDwordField), source, byteIndex, nameString(path)]);
}

export function when(condition: Aml, ...terms: readonly Aml[]): Aml {
  return withLength([op.if], condition, ...terms);
}

export function otherwise(...terms: readonly Aml[]): Aml {
  return withLength([op.else], ...terms);
}
