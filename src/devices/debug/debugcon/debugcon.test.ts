import { expect, test } from "vitest";
import { testContext } from "../../testing/context.ts";
import { debugcon } from "./index.ts";

test("takes characters and answers detection", () => {
  const context = testContext();
  const seen: number[] = [];
  const device = debugcon.create({ port: 0x402, onByte: (byte) => seen.push(byte) }, context);
  context.ports.write(0x402, 1, 0x41);
  context.ports.write(0x402, 2, 0x0142);
  expect(seen).toEqual([0x41, 0x42]);
  expect(context.ports.read(0x402, 1)).toBe(0xe9);
  device.reset();
  expect(device.state).toEqual({});
});
