import { describe, expect, test } from "vitest";
import { mebibyte } from "./bytes.ts";
import { createMemoryMap } from "./memory-map.ts";
import { createSmbiosFiles, layOutSmbios, smbiosFwCfgNames } from "./smbios.ts";

const sum = (bytes: Uint8Array): number => bytes.reduce((total, byte) => (total + byte) & 0xff, 0);
/** Lengths of the formatted parts in version 2.8 (DSP0134, by type). */
const lengths: Readonly<Record<number, number>> = { 0: 0x18, 1: 0x1b, 3: 0x15, 4: 0x2a, 16: 0x0f, 17: 0x22, 19: 0x1f, 32: 0x0b, 127: 0x04 };

describe.each([1, 512, 40_000, 100 * 1024])("SMBIOS of a machine with %d MiB", (mib) => {
  const machine = { uuid: Uint8Array.from({ length: 16 }, (_, i) => i), processorCount: 2, memory: createMemoryMap(mib * mebibyte) };

  test("has structures of the right lengths, as many as the anchor says", () => {
    const [anchor, tables] = layOutSmbios(machine).map(({ bytes }) => bytes);
    const view = new DataView(anchor.buffer);
    expect([sum(anchor), sum(anchor.subarray(16))]).toEqual([0, 0]);
    expect(view.getUint32(24, true)).toBe(0xf_0020);
    let at = 0;
    let count = 0;
    while (at < tables.length) {
      expect(tables[at + 1], `type ${tables[at]}`).toBe(lengths[tables[at]]);
      at += tables[at + 1];
      while (tables[at] !== 0 || tables[at + 1] !== 0) at++;
      at += 2;
      count++;
    }
    expect([at, count]).toEqual([view.getUint16(22, true), view.getUint16(28, true)]);
  });

  test("is the same for firmware but for the address", () => {
    const files = createSmbiosFiles(machine);
    expect(files.get(smbiosFwCfgNames.tables)).toEqual(layOutSmbios(machine)[1].bytes);
    expect(new DataView((files.get(smbiosFwCfgNames.anchor) ?? new Uint8Array(31)).buffer).getUint32(24, true)).toBe(0);
  });
});
