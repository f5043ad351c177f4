import { expect, test } from "vitest";
import { copyFunctions, reversed, type FieldCopy } from "./copy-functions.ts";
import { wasm } from "./web-assembly.ts";

test("fields get constants", () => {
  const memory = new wasm.Memory({ initial: 1, maximum: 1, shared: true });
  const words = new Uint32Array(memory.buffer).fill(7, 0, 8);
  copyFunctions(memory, { set: [{ target: 8, value: 0x400, width: 64 }, { target: 4, value: -1, width: 32 }] }).set(8, 0);
  expect([...words.subarray(0, 8)]).toEqual([7, 7, 7, 0xffff_ffff, 0x400, 0, 7, 7]);
});

test("fields are copied from the source's place to the target's, and back", () => {
  const memory = new wasm.Memory({ initial: 1, maximum: 1, shared: true });
  const fields: readonly FieldCopy[] = [{ target: 8, source: 16, width: 64 }, { target: 4, source: 24, width: 32 }];
  const { there, back } = copyFunctions(memory, { there: fields, back: reversed(fields) });
  const words = new Uint32Array(memory.buffer);
  words.set([0, 0, 0, 0, 0x1111_1111, 0x2222_2222, 0x3333_3333, 0x4444_4444], 64);
  there(1024, 256);
  expect([...words.subarray(256, 260)]).toEqual([0, 0x3333_3333, 0x1111_1111, 0x2222_2222]);
  words.fill(0, 64, 72);
  back(256, 1024);
  expect([...words.subarray(64, 72)]).toEqual([0, 0, 0, 0, 0x1111_1111, 0x2222_2222, 0x3333_3333, 0]);
});
