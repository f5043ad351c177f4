/** However a guest varies its instructions, there are numbers for all handlers. */
import { expect, test } from "vitest";
import { Decoder } from "../isa/decode.ts";
import type { InstructionDefinition } from "../isa/definition.ts";
import { instructions } from "../isa/instructions.ts";
import { handlerFormOf } from "./code-cache.ts";
import { handlerName } from "./handler.ts";
import { maximumHandlers } from "./handler-registry.ts";

const prefixes = [[], [0x66], [0xf2], [0xf3], [0xf0], [0x66, 0xf2], [0x66, 0xf3], [0x66, 0xf0], [0xf0, 0xf3], [0xf0, 0xf2]];
const maps = [[], [0x0f], [0x0f, 0x38], [0x0f, 0x3a]];
/** A register, a base, a base with an index, and RIP-relative or absolute. */
const operands = [[0xc0], [0x03], [0x04, 0x40], [0x05]];
const isX87 = (map: readonly number[], opcode: number): boolean => map.length === 0 && opcode >= 0xd8 && opcode <= 0xdf;

test("all forms of all instructions in all modes have numbers", () => {
  const decoder = new Decoder(instructions, { hasFeature: () => true, vendor: "amd" });
  const names = new Map<InstructionDefinition, Set<string>>();
  let count = 0;
  const add = (code: 16 | 32 | 64, stack: 16 | 32 | 64, before: readonly number[], operand: readonly number[], reg: number): void => {
    const [modrm, ...sib] = operand;
    const decoded = decoder.decode(Uint8Array.from([...before, modrm | (reg << 3), ...sib, 1, 2, 3, 4, 5, 6, 7, 8, 9]), 0, code);
    if (decoded.kind !== "instruction") return;
    let known = names.get(decoded.instruction);
    if (known === undefined) names.set(decoded.instruction, known = new Set());
    const name = handlerName(handlerFormOf(decoded, { code, stack }));
    if (!known.has(name)) count++;
    known.add(name);
  };
  for (const [code, stack] of [[16, 16], [16, 32], [32, 16], [32, 32], [64, 64]] as const) {
    for (const prefix of prefixes) for (const size of [[], [0x67]]) for (const segment of [[], [0x64]]) for (const rex of code === 64 ? [[], [0x44], [0x48]] : [[]]) {
      for (const map of maps) for (let opcode = 0; opcode < 256; opcode++) {
        const before = [...prefix, ...size, ...segment, ...rex, ...map, opcode];
        for (let reg = 0; reg < 8; reg++) {
          for (const operand of operands) add(code, stack, before, operand, reg);
          if (isX87(map, opcode)) for (let register = 0xc1; register <= 0xc7; register++) add(code, stack, before, [register], reg);
        }
      }
    }
  }
  // More than half: these are not all ways to write them.
  expect(count).toBeGreaterThan(maximumHandlers / 2);
  expect(count).toBeLessThan(maximumHandlers * 0.8);
}, 120_000);
