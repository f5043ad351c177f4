import { expect, test } from "vitest";
import { testContext } from "../../testing/context.ts";
import { isaDebugExit } from "./index.ts";

test.each([
  [1, 0x10, 0x21],
  [2, 0, 1],
  [4, 0xffff_ffff, 0xffff_ffff],
] as const)("a write of %i bytes, %i, exits with %i", (size, value, status) => {
  const context = testContext();
  const exits: number[] = [];
  isaDebugExit.create({ port: 0xf4, onExit: (code) => exits.push(code) }, context);
  context.ports.write(0xf4, size, value);
  expect(exits).toEqual([status]);
  expect(context.ports.read(0xf4, 4)).toBe(0);
});
