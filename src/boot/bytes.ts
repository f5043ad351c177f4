/** Small helpers for reading and writing binary structures. */

export const pageSizeBytes = 4096;
export const mebibyte = 0x10_0000;
export const gibibyte = 0x4000_0000;

export function dataView(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export function alignUp(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment;
}

export function alignDown(value: number, alignment: number): number {
  return Math.floor(value / alignment) * alignment;
}

export function hex(value: number): string {
  return `0x${value.toString(16)}`;
}

/** For messages: whole MiB, rounded up, which is what a user can ask for. */
export function inMebibytes(sizeBytes: number): string {
  return `${Math.ceil(sizeBytes / mebibyte)} MiB`;
}

/** UTF-8; a lone surrogate becomes U+FFFD. */
export function encodeUtf8(text: string): Uint8Array {
  const bytes: number[] = [];
  for (const character of text) {
    const raw = character.codePointAt(0) ?? 0;
    const codePoint = raw >= 0xd800 && raw <= 0xdfff ? 0xfffd : raw;
    if (codePoint < 0x80) bytes.push(codePoint);
    else if (codePoint < 0x800) bytes.push(0xc0 | (codePoint >> 6), 0x80 | (codePoint & 0x3f));
    else if (codePoint < 0x1_0000) bytes.push(0xe0 | (codePoint >> 12), 0x80 | ((codePoint >> 6) & 0x3f), 0x80 | (codePoint & 0x3f));
    else bytes.push(0xf0 | (codePoint >> 18), 0x80 | ((codePoint >> 12) & 0x3f), 0x80 | ((codePoint >> 6) & 0x3f), 0x80 | (codePoint & 0x3f));
  }
  return Uint8Array.from(bytes);
}

/** UTF-8 with a terminating zero. */
export function encodeCString(text: string): Uint8Array {
  return concatBytes([encodeUtf8(text), Uint8Array.of(0)]);
}

export function concatBytes(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}

/** Characters 0..255, one a byte. */
export function ascii(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

/** True when `text` stands at `offset`. */
export function hasAsciiAt(bytes: Uint8Array, offset: number, text: string): boolean {
  return offset >= 0 && offset + text.length <= bytes.length && ascii(text).every((byte, i) => bytes[offset + i] === byte);
}

/** The text up to a zero or the end, at most `maximumBytes`; bytes that are not printable ASCII become "?". */
export function readAscii(bytes: Uint8Array, offset: number, maximumBytes: number): string {
  let text = "";
  for (let i = offset; i < Math.min(bytes.length, offset + maximumBytes) && bytes[i] !== 0; i++) {
    text += bytes[i] >= 0x20 && bytes[i] < 0x7f ? String.fromCharCode(bytes[i]) : "?";
  }
  return text;
}
