/** All MMX and legacy SSE instructions, with AES, PCLMULQDQ, SHA and CRC32. */
import type { InstructionDefinition } from "../definition.ts";
import { aes } from "./aes.ts";
import { carryless } from "./carryless.ts";
import { mmx } from "./mmx.ts";
import { shaExtensions } from "./sha.ts";
import { sseConvert } from "./sse-convert.ts";
import { sseFloat } from "./sse-float.ts";
import { sseInteger } from "./sse-integer.ts";
import { sseMove } from "./sse-move.ts";
import { sseShift } from "./sse-shift.ts";
import { sseShuffle } from "./sse-shuffle.ts";
import { sseString } from "./sse-string.ts";

export const simd: readonly InstructionDefinition[] = [
  ...mmx, ...sseMove, ...sseInteger, ...sseShift, ...sseShuffle, ...sseFloat, ...sseConvert, ...sseString, ...aes,
  ...carryless, ...shaExtensions,
];
