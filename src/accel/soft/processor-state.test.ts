import { expect, test } from "vitest";
import { createCpuModel } from "../../isa/models/index.ts";
import { softAccelerator } from "./index.ts";

const facts = { tscFrequencyHz: 1_000_000_000, apicId: 0, processors: 1 };
const bus = {
  portRead: () => 0, portWrite: () => undefined, timeStampCounter: () => 0n, setTimeStampCounter: () => undefined,
  readMsr: () => undefined, writeMsr: () => "unknown" as const, taskPriority: () => 0, setTaskPriority: () => undefined, random64: () => 0n,
};

test("page directory pointers of PAE paging are the processor's, whatever memory says by now", () => {
  const instance = softAccelerator.create({
    storageBytes: 0x10_0000, processorCount: 1, model: createCpuModel("intel-v2", facts), timeStampFrequencyHz: facts.tscFrequencyHz,
    memoryBus: { read: () => 0, write: () => undefined },
  });
  instance.map({ address: 0, sizeBytes: 0x10_0000, readOffset: 0, writeOffset: 0 });
  const processor = instance.createProcessor(0, bus, { hasInterrupt: () => false, acknowledge: () => -1 });
  const table = new Uint8Array(0x20);
  const words = new DataView(table.buffer);
  for (let index = 0; index < 4; index++) words.setUint32(index * 8, (0xb000 + index * 0x1000) | 1, true);
  const largePage = Uint8Array.of(0x83, 0, 0, 0, 0, 0, 0, 0);
  instance.writeMemory(0x6000, table);
  instance.writeMemory(0xb000, largePage);
  // mov dword [0x7000], 0x55; hlt
  instance.writeMemory(0x1000, Uint8Array.of(0xc7, 5, 0, 0x70, 0, 0, 0x55, 0, 0, 0, 0xf4));
  const reset = processor.getState();
  const flat = (attributes: number) => ({ selector: 8, base: 0n, limit: 0xffff_ffff, attributes });
  processor.setState({
    ...reset, rip: 0x1000n, cr0: 0x8000_0011n, cr3: 0x6000n, cr4: 0x20n,
    segments: reset.segments.map((segment, index) => (index > 5 ? segment : flat(index === 1 ? 0xc09b : 0xc093))),
  });
  const state = processor.getState();
  expect(state.pageDirectoryPointers).toEqual([0xb001n, 0xc001n, 0xd001n, 0xe001n]);
  instance.writeMemory(0x6000, new Uint8Array(0x20));
  processor.setState(state);
  expect(processor.run({ instructions: 100, nanoseconds: 0 })).toBe("halted");
  const result = new Uint8Array(1);
  instance.readMemory(0x7000, result);
  expect(result[0]).toBe(0x55);
});
