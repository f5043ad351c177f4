/** Linear address of an instruction's memory operand, for what exits tell of it. */
import type { MemoryOperand } from "../isa/operand.ts";
import type { Processor } from "../isa/processor.ts";
import * as layout from "../isa/state.ts";
import { is64BitMode, SegmentIndex } from "../isa/system/mode.ts";

/** Nothing is checked; `addressBits` is the instruction's address size. */
export function operandLinearAddress(p: Processor, operand: MemoryOperand, addressBits: 16 | 32 | 64): bigint {
  const { state } = p;
  const register = (number: number): bigint => state.get64(layout.gpr[number]);
  let offset = BigInt(operand.displacement);
  if (operand.base !== undefined) offset += operand.base === "rip" ? p.nextRip() : register(operand.base);
  if (operand.index !== undefined) offset += register(operand.index) << BigInt(operand.scaleLog2);
  const isLong = is64BitMode(state);
  const base = isLong && operand.segment < SegmentIndex.FS ? 0n : state.get64(layout.segments[operand.segment].base);
  return BigInt.asUintN(isLong ? 64 : 32, base + BigInt.asUintN(addressBits, offset));
}
