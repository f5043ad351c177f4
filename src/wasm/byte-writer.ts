/** A growing byte buffer with the primitive encodings of WebAssembly Core Specification, "Binary Format: Values". */

/** Writers whose content has been taken: making a buffer costs more than filling most of them. */
const spare: ByteWriter[] = [];
const maximumSpare = 16;
const maximumSpareBytes = 1 << 18;

const scratch = new DataView(new ArrayBuffer(8));

export class ByteWriter {
  /** Only the first `length` bytes are meaningful. */
  bytes: Uint8Array<ArrayBuffer>;
  length = 0;
  /** Equal to `bytes.length`, which costs more to read on every byte. */
  #capacityBytes: number;

  constructor(capacityBytes = 1024) {
    this.bytes = new Uint8Array(capacityBytes);
    this.#capacityBytes = capacityBytes;
  }

  /** An empty writer, for `giveBack` when its content has been taken. */
  static take(): ByteWriter {
    return spare.pop() ?? new ByteWriter(8192);
  }

  giveBack(): void {
    this.length = 0;
    if (spare.length < maximumSpare && this.#capacityBytes <= maximumSpareBytes) spare.push(this);
  }

  byte(value: number): void {
    const at = this.length;
    if (at === this.#capacityBytes) this.#reserve(1);
    this.bytes[at] = value;
    this.length = at + 1;
  }

  /** `prefix << 8 | code`, or a code without a prefix. */
  opcode(opcode: number): void {
    if (opcode < 0x100) return this.byte(opcode);
    this.byte(opcode >> 8);
    this.unsigned(opcode & 0xff);
  }

  /** LEB128 of the low 32 bits, unsigned. */
  unsigned(value: number): void {
    if (value >= 0 && value < 0x80) return this.byte(value);
    let rest = value >>> 0;
    while (rest > 0x7f) {
      this.byte((rest & 0x7f) | 0x80);
      rest >>>= 7;
    }
    this.byte(rest);
  }

  /** LEB128 of the low 32 bits, signed. */
  signed(value: number): void {
    let rest = value | 0;
    while (rest < -64 || rest > 63) {
      this.byte((rest & 0x7f) | 0x80);
      rest >>= 7;
    }
    this.byte(rest & 0x7f);
  }

  /** LEB128 of the 64-bit integer `hi:lo`, signed. */
  signed64(lo: number, hi: number): void {
    let low = lo | 0;
    let high = hi | 0;
    while (high !== low >> 31) {
      this.byte((low & 0x7f) | 0x80);
      low = (low >>> 7) | (high << 25);
      high >>= 7;
    }
    this.signed(low);
  }

  /** LEB128 of an integer modulo 2⁶⁴, signed. */
  signedInteger(value: number | bigint): void {
    if (typeof value === "bigint") {
      this.signed64(Number(BigInt.asIntN(32, value)), Number(BigInt.asIntN(32, value >> 32n)));
    } else {
      this.signed64(value | 0, Math.floor(value / 0x1_0000_0000) | 0);
    }
  }

  float32(value: number): void {
    scratch.setFloat32(0, value, true);
    for (let i = 0; i < 4; i++) this.byte(scratch.getUint8(i));
  }

  float64(value: number): void {
    scratch.setFloat64(0, value, true);
    for (let i = 0; i < 8; i++) this.byte(scratch.getUint8(i));
  }

  raw(source: Uint8Array): void {
    this.#reserve(source.length);
    this.bytes.set(source, this.length);
    this.length += source.length;
  }

  append(source: ByteWriter): void {
    this.raw(source.bytes.subarray(0, source.length));
  }

  /** A vector of bytes holding UTF-8. */
  name(text: string): void {
    const encoded = utf8(text);
    this.unsigned(encoded.length);
    this.raw(encoded);
  }

  toBytes(): Uint8Array<ArrayBuffer> {
    return this.bytes.slice(0, this.length);
  }

  #reserve(sizeBytes: number): void {
    const needed = this.length + sizeBytes;
    if (needed <= this.#capacityBytes) return;
    this.#capacityBytes = Math.max(needed, this.#capacityBytes * 2);
    const grown = new Uint8Array(this.#capacityBytes);
    grown.set(this.bytes);
    this.bytes = grown;
  }
}

/** Written out because TextEncoder is not part of ECMAScript. */
function utf8(text: string): Uint8Array {
  const bytes: number[] = [];
  for (const character of text.toWellFormed()) {
    const code = character.codePointAt(0) ?? 0;
    if (code < 0x80) bytes.push(code);
    else if (code < 0x800) bytes.push(0xc0 | (code >> 6), 0x80 | (code & 0x3f));
    else if (code < 0x1_0000) bytes.push(0xe0 | (code >> 12), 0x80 | ((code >> 6) & 0x3f), 0x80 | (code & 0x3f));
    else bytes.push(0xf0 | (code >> 18), 0x80 | ((code >> 12) & 0x3f), 0x80 | ((code >> 6) & 0x3f), 0x80 | (code & 0x3f));
  }
  return Uint8Array.from(bytes);
}
