/** A predecoded instruction: 32 bytes in linear memory that the interpreter runs from. */

export const recordSizeBytes = 32;

/** Byte offsets within a record. Register fields hold byte offsets from the processor's base. */
export const RecordField = {
  /** u16: number of the handler. */
  handler: 0,
  /** u8: segment register 0..5 of the memory operand. */
  segment: 2,
  /** u8: instructions of the block up to and including this one. */
  count: 3,
  /** u16: offset of the instruction from the block's first. */
  start: 4,
  /** u16: offset of the following instruction. */
  next: 6,
  /** u16 each: register operands by slot. */
  operand0: 8,
  operand1: 10,
  operand2: 12,
  /** u16 each: base and index registers, `state.zero` when absent. */
  base: 14,
  index: 16,
  /** u8: index shift. */
  scale: 18,
  /** u8: opcode-specific. */
  unused: 19,
  /** i32: displacement, RIP-relative ones already relative to the block's first instruction. */
  displacement: 20,
  /** i64: immediate, or absolute address; for relative branches i32: target relative to the block's first instruction. */
  immediate: 24,
  /** u32: record of a branch's target in the same page, or 0. Overlaps the immediate's upper half. */
  link: 28,
  /** i32: where a near jump to a computed target went last, relative to the block's first; 0: nowhere yet. In the link's place. */
  lastTarget: 28,
} as const;

/** Fields of the record in front of a block's instructions. Its `count` is 1: nothing has been executed before it. */
export const HeaderField = {
  /** u16: instructions of the block. */
  instructions: 8,
  /** u32: how often `heat` has run out, see the JIT. */
  steps: 12,
  /** u32: instructions / 1024 that had retired when it last did. */
  lastStep: 16,
  /** i32: entries until the JIT looks at the block. */
  heat: 24,
  /** u32: place of the block's compiled code in the table of regions. */
  region: 28,
} as const;

export const operandFields: readonly number[] = [RecordField.operand0, RecordField.operand1, RecordField.operand2];
