import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DispatchBus, memorySpaceBytes, portSpaceBytes } from "./bus.ts";
import type { AccessSize, Mapping, RegisterBlock } from "./contract.ts";

function constantBlock(value: number, log: string[] = []): RegisterBlock {
  return {
    read: () => value,
    write: (offset, sizeBytes, written) => log.push(`${offset}/${sizeBytes}=${written.toString(16)}`),
  };
}

describe.each([
  ["ports", portSpaceBytes],
  ["memory", memorySpaceBytes],
])("DispatchBus of %s", (_name, spaceBytes) => {
  test("unmapped reads as all ones and swallows writes", () => {
    const bus = new DispatchBus(spaceBytes);
    expect(bus.read(0x80, 1)).toBe(0xff);
    expect(bus.read(0x80, 2)).toBe(0xffff);
    expect(bus.read(spaceBytes - 1, 4)).toBe(0xffff_ffff);
    bus.write(spaceBytes - 1, 4, 1);
  });

  test("the range mapped last wins, whatever is relocated when", () => {
    const bus = new DispatchBus(spaceBytes);
    const below = bus.map(0x100, 0x10, constantBlock(1), "below");
    const above = bus.map(0x104, 4, constantBlock(2), "above");
    expect([bus.read(0x103, 1), bus.read(0x104, 1), bus.read(0x108, 1)]).toEqual([1, 2, 1]);
    above.relocate(undefined);
    expect(bus.read(0x104, 1)).toBe(1);
    above.relocate(0x200);
    below.relocate(0x1fc);
    expect([bus.read(0x100, 1), bus.read(0x1fc, 1), bus.read(0x200, 1), bus.read(0x204, 1)]).toEqual([255, 1, 2, 1]);
  });

  test("an access belongs to the owner of its first byte and splits only where it leaves that range", () => {
    const bus = new DispatchBus(spaceBytes);
    const pci: string[] = [];
    const reset: string[] = [];
    bus.map(0xcf8, 4, constantBlock(0x11223344, pci), "pci");
    bus.map(0xcf9, 1, constantBlock(0xee, reset), "reset");
    bus.write(0xcf8, 4, 0x80000010);
    bus.write(0xcf9, 1, 6);
    bus.write(0xcfb, 2, 0xabcd);
    expect(pci).toEqual(["0/4=80000010", "3/1=cd"]);
    expect(reset).toEqual(["0/1=6"]);
    expect(bus.read(0xcf8, 4)).toBe(0x11223344);
    expect(bus.read(0xcf7, 2)).toBe(0x44ff);
    expect(bus.accessCounts()).toEqual([
      { name: "pci", reads: 2, writes: 2 },
      { name: "reset", reads: 0, writes: 1 },
    ]);
  });

  test("agrees with a naive model under random relocation", () => {
    const move = fc.record({ index: fc.nat(4), base: fc.option(fc.nat(60), { nil: undefined }) });
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 16 }), { minLength: 5, maxLength: 5 }), fc.array(move), (sizes, moves) => {
        const bus = new DispatchBus(spaceBytes);
        const bases: (number | undefined)[] = sizes.map(() => undefined);
        const mappings: Mapping[] = sizes.map((size, index) => bus.map(undefined, size, constantBlock(index), `${index}`));
        for (const { index, base } of moves) {
          bases[index] = base;
          mappings[index].relocate(base);
        }
        for (let address = 0; address < 80; address++) {
          const owner = bases.findLastIndex((base, index) => base !== undefined && base <= address && address < base + sizes[index]);
          expect(bus.read(address, 1)).toBe(owner < 0 ? 0xff : owner);
        }
      }),
    );
  });

  test("values stay unsigned and within the access", () => {
    const bus = new DispatchBus(spaceBytes);
    bus.map(0, 8, constantBlock(-1), "signed");
    for (const size of [1, 2, 4] satisfies AccessSize[]) expect(bus.read(0, size)).toBe(2 ** (8 * size) - 1);
  });
});
