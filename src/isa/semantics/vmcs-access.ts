/**
 * VMREAD and VMWRITE in 64-bit mode as generated code, where they reach the current VMCS outside of a guest. What they need to know
 * of a field is a word of a table in the processor's area, at a number made of the encoding's bits that may be 1
 * (SDM volume 3, appendix "Field Encoding in VMCS").
 */
import { type Bits, constant, type FastPath, fastPath, readMemory, readStateRow, type StateRow, writeMemory } from "../../ir/index.ts";
import { field, refuseIf, setField } from "../fast-path-parts.ts";
import * as state from "../state.ts";

/** Index, type and width; not the access type, since halves of fields are the routines'. */
const encodingMask = 0x6c7en;
const indexShift = 1, typeShift = 4, widthShift = 5;
const indexPart = 0x3f, typePart = 0xc0, widthPart = 0x300;

/** Of a word of the table. Shift: 64 less the field's bits. Groups: what a write adds to the word of what VM entry has to check. */
export const FieldWord = { offsetMask: 0xfff, shiftAt: 12, shiftMask: 0x3f, groupsAt: 18, groupsMask: 0xff, isWritable: 0x4000_0000, isReadable: 0x8000_0000 } as const;

const words: StateRow = { first: { offset: state.vmcsFieldsOffset, width: 32 }, strideBytes: 4, count: state.vmcsFieldEntries };

/** The number of a field's word; undefined: it has none. */
export function fieldNumber(encoding: number): number | undefined {
  if ((BigInt(encoding) & ~encodingMask) !== 0n) return undefined;
  return ((encoding >>> indexShift) & indexPart) | ((encoding >>> typeShift) & typePart) | ((encoding >>> widthShift) & widthPart);
}

interface FoundField {
  readonly vmcs: Bits<32>;
  readonly at: Bits<32>;
  readonly shift: Bits<64>;
  readonly groups: Bits<32>;
}

function find(encoding: Bits<64>, needed: number): FoundField {
  const vmcs = field(state.currentVmcs, 32);
  refuseIf(vmcs.isZero().or(field(state.cpl, 32).ne(0)).or(encoding.and(~encodingMask & 0xffff_ffff_ffff_ffffn).ne(0n)));
  const low = encoding.trunc(32);
  const number = low.shr(indexShift).and(indexPart).or(low.shr(typeShift).and(typePart)).or(low.shr(widthShift).and(widthPart));
  const word = readStateRow(32, words, number);
  refuseIf(word.and(needed).isZero());
  return {
    vmcs, at: vmcs.add(word.and(FieldWord.offsetMask)), shift: word.shr(FieldWord.shiftAt).and(FieldWord.shiftMask).zext(64),
    groups: word.shr(FieldWord.groupsAt).and(FieldWord.groupsMask),
  };
}

/** Argument: the encoding. Results: the value, and `VmxOutcome.succeed`. */
export const readFieldPath: () => FastPath = fastPath([64], (encoding) => {
  const { at, shift } = find(encoding as Bits<64>, FieldWord.isReadable);
  setField(state.scratch[0], readMemory(64, at).shl(shift).shr(shift));
  setField(state.scratch[1], constant(32, 0));
});

/** Arguments: encoding and value. Result: `VmxOutcome.succeed`. */
export const writeFieldPath: () => FastPath = fastPath([64, 64], (encoding, value) => {
  const { vmcs, at, shift, groups } = find(encoding as Bits<64>, FieldWord.isWritable);
  const old = readMemory(64, at);
  writeMemory(at, old.xor(old.xor(value as Bits<64>).shl(shift).shr(shift)));
  const unchecked = vmcs.add(state.vmcsUncheckedOffset);
  writeMemory(unchecked, readMemory(32, unchecked).or(groups));
  setField(state.scratch[0], constant(32, 0));
});

/** What comes before a VMWRITE reads its operand in memory. */
export const writeAccessPath: () => FastPath = fastPath([64], () => {
  refuseIf(field(state.currentVmcs, 32).isZero().or(field(state.cpl, 32).ne(0)));
});
