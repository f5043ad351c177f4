/** Reads an instruction's bytes in order; past the end it yields zeros and remembers that it did. */

/** The longest instruction the processor accepts (SDM volume 2, "Instruction Format"). */
export const maximumInstructionBytes = 15;

/** A cursor over guest code; reused from one decode to the next. */
export class ByteCursor {
  private bytes: Uint8Array = new Uint8Array(0);
  private start = 0;
  private position = 0;
  private end = 0;
  private overran = false;

  /** Starts an instruction at `offset`. */
  reset(bytes: Uint8Array, offset: number): void {
    this.bytes = bytes;
    this.start = offset;
    this.position = offset;
    this.end = Math.min(offset + maximumInstructionBytes, bytes.length);
    this.overran = false;
  }

  get length(): number {
    return this.position - this.start;
  }

  /** Whether a byte was asked for that was not there or would have been the sixteenth. */
  get hasOverrun(): boolean {
    return this.overran;
  }

  /** Whether that byte would have been the sixteenth. */
  get isTooLong(): boolean {
    return this.overran && this.end === this.start + maximumInstructionBytes;
  }

  /** The next byte, not consumed. */
  peek(): number {
    if (this.position < this.end) return this.bytes[this.position];
    this.overran = true;
    return 0;
  }

  unsigned8(): number {
    if (this.position < this.end) return this.bytes[this.position++];
    this.overran = true;
    return 0;
  }

  unsigned16(): number {
    const low = this.unsigned8();
    return low | (this.unsigned8() << 8);
  }

  signed8(): number {
    return (this.unsigned8() << 24) >> 24;
  }

  signed16(): number {
    return (this.unsigned16() << 16) >> 16;
  }

  signed32(): number {
    const low = this.unsigned16();
    return low | (this.unsigned16() << 16);
  }

  unsigned32(): number {
    return this.signed32() >>> 0;
  }

  unsigned64(): bigint {
    const low = this.unsigned32();
    return (BigInt(this.unsigned32()) << 32n) | BigInt(low);
  }
}
