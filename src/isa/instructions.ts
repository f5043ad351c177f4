/** The whole instruction set: every family, in one list. */
import type { InstructionDefinition } from "./definition.ts";
import { arithmetic } from "./semantics/arithmetic.ts";
import { control } from "./semantics/control.ts";
import { decimal } from "./semantics/decimal.ts";
import { logic } from "./semantics/logic.ts";
import { movement } from "./semantics/movement.ts";
import { simd } from "./semantics/simd-families.ts";
import { strings } from "./semantics/strings.ts";
import { system } from "./semantics/system.ts";
import { x87 } from "./semantics/x87.ts";

export const instructions: readonly InstructionDefinition[] = [
  ...arithmetic, ...logic, ...movement, ...control, ...strings, ...decimal, ...system, ...simd, ...x87,
];
