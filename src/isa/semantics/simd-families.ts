/** All MMX and legacy SSE instructions, with AES, PCLMULQDQ, SHA and CRC32. */
import type { InstructionDefinition } from "../definition.ts";
import { mmx } from "./mmx.ts";
import { sseInteger } from "./sse-integer.ts";
import { sseMove } from "./sse-move.ts";
import { sseShift } from "./sse-shift.ts";
import { sseShuffle } from "./sse-shuffle.ts";

export const simd: readonly InstructionDefinition[] = [...mmx, ...sseMove, ...sseInteger, ...sseShift, ...sseShuffle];
