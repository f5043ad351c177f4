/** VMCSs have places of their own in the processor's area, however many are named how often. */
import { expect, test } from "vitest";
import type { PhysicalMemory } from "../../engine/physical-memory.ts";
import { StateView } from "../../isa/state-view.ts";
import { processorAreaSizeBytes } from "../../isa/state.ts";
import { ActiveStructures, maximumActive } from "./active-structures.ts";
import { vmcsRegionBytes } from "./capabilities.ts";

function create(): { readonly structures: ActiveStructures; readonly writtenBack: number[] } {
  const writtenBack: number[] = [];
  const memory = {
    readRange: (_address: number, target: Uint8Array) => void target.fill(0), writeRange: (address: number) => writtenBack.push(address) > 0,
  } as unknown as PhysicalMemory;
  return { structures: new ActiveStructures(memory, new StateView(new ArrayBuffer(processorAreaSizeBytes), 0)), writtenBack };
}

function fill(structures: ActiveStructures, first: number): void {
  for (let index = 0; index < maximumActive; index++) structures.activate(first + index * vmcsRegionBytes);
}

test("no two share a place, and the one that was used longest ago makes room", () => {
  const { structures, writtenBack } = create();
  fill(structures, 0x10_0000);
  structures.activate(0x10_0000);
  structures.activate(0x1000);
  expect(writtenBack).toEqual([0x10_0000 + vmcsRegionBytes]);
  expect(new Set(structures.all().map(({ place }) => place)).size).toBe(maximumActive);
});

test("a snapshot that names one many times takes one place", () => {
  const { structures, writtenBack } = create();
  for (let again = 0; again < 3 * maximumActive; again++) structures.restore(0x1000, new Uint8Array(vmcsRegionBytes).fill(again));
  expect(structures.all()).toHaveLength(1);
  structures.drop();
  fill(structures, 0x10_0000);
  expect(writtenBack).toEqual([]);
});
