/** All x87 instructions. */
import type { InstructionDefinition } from "../definition.ts";
import { x87Arithmetic } from "./x87-arithmetic.ts";
import { x87Compare } from "./x87-compare.ts";
import { x87Control } from "./x87-control.ts";
import { x87Environment } from "./x87-environment.ts";
import { x87Load } from "./x87-load.ts";
import { x87Move } from "./x87-move.ts";
import { x87Store } from "./x87-store.ts";
import { x87Transcendental } from "./x87-transcendental.ts";

export const x87: readonly InstructionDefinition[] = [
  ...x87Load, ...x87Store, ...x87Move, ...x87Arithmetic, ...x87Compare, ...x87Transcendental, ...x87Control, ...x87Environment,
];
